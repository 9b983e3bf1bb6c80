"""What assistants may do, by the client that there is for their protocol, over real sockets."""

import asyncio
import base64
import dataclasses
import functools
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CallToolResult

from rag import passwords
from rag.llms.scripted import ScriptedLLM
from rag.ui import writing
from rag.ui.assistants import MAX_BODY
from rag.ui.identity import COOKIE
from rag.ui.programs import Programs
from tests.browser.conftest import App, scripted_app
from tests.strangers.people import GUARD, Person
from tests.ui.pages import Gated, eventually

ROOT = Path(__file__).parents[2]
HANDSHAKE, MODERN = "2025-11-25", "2026-07-28"
SECRET = "Ann's plums are of the colour vermilion."
ACCEPT = {"accept": "application/json, text/event-stream"}
PLUMS = {"name": "plums.txt", "text": SECRET}
WORDS = "The plums are vermilion. That is all."
ASKED = {"question": "Which colour have the plums?"}
ASKS = {**ASKED, "search_in": "none"}


@pytest.fixture(scope="module")
def gated() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, gated: Gated) -> Iterator[App]:
    models = {"scripted": ScriptedLLM(WORDS, tokens_per_second=20), "gated": gated}
    app = scripted_app(
        tmp_path_factory.mktemp("data"),
        models,
        max_file_mb=1,
        questions_per_minute=4,
        root_path="/rivulet",
    )
    yield app
    app.stop()


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One with a login."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", 16)
        app = scripted_app(
            tmp_path_factory.mktemp("data"),
            {"scripted": ScriptedLLM(WORDS)},
            auth=(("ann", "plüm"), ("bob", "pear")),
        )
    yield app
    app.stop()


@asynccontextmanager
async def comes(
    app: App, mode: str = "auto", path: str = "mcp", **headers: str
) -> AsyncIterator[Client]:
    async with httpx2.AsyncClient(headers=headers, timeout=GUARD) as http:
        transport = streamable_http_client(app.address + path, http_client=http)
        async with Client(transport, mode=mode) as client:
            yield client


def runs(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*values: Any, **fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*values, **fixtures), GUARD))

    return run


def given(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, result
    (content,) = result.content
    assert json.loads(content.text) == result.structured_content
    return result.structured_content


def refused(result: CallToolResult) -> str:
    assert result.is_error, result
    (content,) = result.content
    assert "\n" not in content.text
    return content.text


def key() -> str:
    return f"{COOKIE}={secrets.token_urlsafe(32)}"


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def posts(app: App, method: str, params: Any = None, path: str = "mcp", **headers: str) -> Any:
    """A request as it goes over the wire, by someone who need not keep to anything."""
    told = {**ACCEPT, **headers}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params or {}}
    return httpx.post(app.address + path, json=body, headers=told, timeout=GUARD)


def called(app: App, name: str, arguments: Any = None, **headers: str) -> str:
    params = {"name": name, "arguments": arguments or {}}
    return str(posts(app, "tools/call", params, **headers).text)


@contextmanager
def no_folder(folder: Path) -> Iterator[None]:
    """While a file stands where a folder would have to be."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = folder.rename(folder.with_suffix(".aside"))
    folder.write_text("")
    yield
    folder.unlink()
    aside.rename(folder)


def begun(app: App) -> str:
    """The name of a new session."""
    info = {"name": "test", "version": "1"}
    params = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": info}
    return str(posts(app, "initialize", params).headers["mcp-session-id"])


class TestTools:
    @pytest.mark.parametrize("headers", [{}, {"cookie": key()}])
    @runs
    async def test_there_are_four(self, headers: dict[str, str], app: App) -> None:
        async with comes(app, **headers) as client:
            # Who has no cookie is known by a session, which the last version has not.
            assert client.protocol_version == (MODERN if headers else HANDSHAKE)
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == ["ask", "add", "list", "remove"]
            offered = client.server_capabilities
            assert set(offered.model_dump(exclude_none=True)) == {"tools"}
            documented = (ROOT / "docs" / "mcp.md").read_text("utf-8")
            for tool in tools:
                row = re.search(rf"^\| `{tool.name}` \|.+", documented, re.M)[0]
                for schema in (tool.input_schema, tool.output_schema):
                    assert all(f"`{name}`" in row for name in schema["properties"])

    @pytest.mark.parametrize("mode", ["legacy", MODERN])
    @runs
    async def test_a_document_is_added_asked_about_listed_and_removed(
        self, mode: str, app: App
    ) -> None:
        async with comes(app, mode, cookie=key()) as client:
            added = given(await client.call_tool("add", PLUMS))
            assert added["notes"] == ["plums.txt is ready."]
            (document,) = given(await client.call_tool("list"))["documents"]
            assert document["name"] == "plums.txt"
            answer = given(await client.call_tool("ask", ASKED))
            assert answer["answer"] == WORDS
            assert answer["ended"] == "stop"
            assert answer["sources"] == [{"name": "plums.txt", "page": None, "text": SECRET}]
            (sentence,) = answer["sentences"]
            assert sentence["text"] == "The plums are vermilion."
            assert (sentence["support"], sentence["source"]) == ("supported", 1)
            assert sentence["quote"] == SECRET
            left = given(await client.call_tool("remove", {"id": document["id"]}))
            assert left == {"documents": []}

    @runs
    async def test_bytes_are_taken_as_well(self, app: App) -> None:
        async with comes(app) as client:
            coded = base64.b64encode(b"<h1>Medlars</h1><p>They are ultramarine.").decode()
            added = given(await client.call_tool("add", {"name": "m.html", "base64": coded}))
            assert [each["name"] for each in added["documents"]] == ["m.html"]
            again = given(await client.call_tool("add", {"name": "m.html", "base64": coded}))
            assert again["notes"] == ["m.html: it is here already; nothing was added."]

    @pytest.mark.parametrize("path", ["mcp/", "rivulet/mcp", "rivulet/mcp/"])
    @runs
    async def test_below_the_path_of_a_proxy(self, path: str, app: App) -> None:
        async with comes(app, path=path) as client:
            assert given(await client.call_tool("list")) == {"documents": []}

    def test_as_the_docs_show_it(self, app: App, capsys: pytest.CaptureFixture[str]) -> None:
        docs = (ROOT / "docs" / "mcp.md").read_text("utf-8")
        (settings,) = re.findall(r"<!-- settings -->\n```json\n(.+?)```", docs, re.S)
        (server,) = json.loads(settings)["mcpServers"].values()
        (code,) = re.findall(r"<!-- client -->\n```python\n(.+?)```", docs, re.S)
        assert code.count(server["url"]) == 1
        exec(code.replace(server["url"], f"{app.address}mcp"), {})
        *told, sources = capsys.readouterr().out.splitlines()
        assert told[-1] == WORDS
        assert "The plums are vermilion." in sources

    @runs
    async def test_nothing_of_a_question_is_kept(self, app: App) -> None:
        cookie = key()
        async with comes(app, cookie=cookie) as client:
            given(await client.call_tool("ask", {**ASKED, "search_in": "none"}))
        session = app.backend.sessions.get(f"\n{cookie.split('=')[1]}")
        assert session.conversations == []
        assert not list(session.folder.glob("conversations/*"))


class TestStreams:
    @pytest.mark.parametrize("mode", ["legacy", MODERN])
    @runs
    async def test_an_answer_grows(self, mode: str, app: App) -> None:
        told: list[tuple[float, str]] = []

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            assert not told or told[-1][0] < progress
            told.append((progress, message or ""))

        async with comes(app, mode, cookie=key()) as client:
            result = await client.call_tool("ask", ASKS, progress_callback=hear)
            before = list(told)
            assert given(result)["answer"] == WORDS
        assert told == before
        texts = [text for _, text in told if text and WORDS.startswith(text)]
        assert len(set(texts)) > 2
        assert all(longer.startswith(shorter) for shorter, longer in pairwise(texts))

    @runs
    async def test_several_are_answered_at_once(self, app: App) -> None:
        async with comes(app) as client, anyio.create_task_group() as both:
            for _ in range(2):

                async def asks() -> None:
                    assert given(await client.call_tool("ask", ASKS))["ended"] == "stop"

                both.start_soon(asks)


@pytest.fixture
def shut(app: App, gated: Gated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gated]:
    """The model that says half, and not one word more until its gate is opened."""
    monkeypatch.setattr(writing, "UNWATCHED", 1_000.0)  # that is not what ends an answer here
    for event in (gated.gate, gated.said_half, gated.closed):
        event.clear()
    config = app.backend.config
    app.backend.config = dataclasses.replace(config, model="gated")
    yield gated
    app.backend.config = config
    gated.gate.set()
    assert gated.closed.wait(GUARD)


class TestStopping:
    """The gate stays closed: what has ended has ended without another word of the model."""

    @pytest.mark.parametrize("mode", ["legacy", MODERN])
    @runs
    async def test_whoever_cancels_stops_the_model(self, mode: str, app: App, shut: Gated) -> None:
        cookie = key()
        async with comes(app, mode, cookie=cookie) as client:
            async with anyio.create_task_group() as group:
                group.start_soon(client.call_tool, "ask", ASKS)
                assert await asyncio.to_thread(shut.said_half.wait, GUARD)
                group.cancel_scope.cancel()
            assert await asyncio.to_thread(shut.closed.wait, GUARD)
            assert given(await client.call_tool("list")) == {"documents": []}
        session = app.backend.sessions.get(f"\n{cookie.split('=')[1]}")
        eventually(lambda: session.conversations == [] and not session.opened())

    @pytest.mark.parametrize("version", [HANDSHAKE, MODERN])
    def test_whoever_hangs_up_stops_the_model(self, version: str, app: App, shut: Gated) -> None:
        params: dict[str, Any] = {"name": "ask", "arguments": ASKS}
        told = {**ACCEPT, "cookie": key()}
        told["mcp-protocol-version"] = version
        meta: dict[str, Any] = {"progressToken": 1}
        if version == MODERN:
            told |= {"mcp-method": "tools/call", "mcp-name": "ask"}
            prefix = "io.modelcontextprotocol/"
            meta |= {f"{prefix}protocolVersion": MODERN, f"{prefix}clientCapabilities": {}}
        params["_meta"] = meta
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        url = app.address + "mcp"
        with httpx.stream("POST", url, json=body, headers=told, timeout=GUARD) as stream:
            assert any("Half" in line for line in stream.iter_lines())
        assert shut.closed.wait(GUARD)

    @runs
    async def test_nobody_else_can(self, app: App, shut: Gated) -> None:
        """Requests have small numbers: the session is what makes one's own of them."""
        ann, bob = ({"mcp-session-id": begun(app)} for _ in range(2))

        async def cancels(session: dict[str, str]) -> None:
            body = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
            async with httpx2.AsyncClient(headers={**ACCEPT, **session}) as http:
                params = {"params": {"requestId": 1}}
                sent = await http.post(app.address + "mcp", json={**body, **params})
                assert sent.status_code == 202

        call = {"name": "ask", "arguments": ASKS}
        asked = asyncio.to_thread(posts, app, "tools/call", call, **ann)
        async with anyio.create_task_group() as group:
            answers: list[str] = []

            async def asks() -> None:
                answers.append((await asked).text)

            group.start_soon(asks)
            try:
                assert await asyncio.to_thread(shut.said_half.wait, GUARD)
                await cancels(bob)
                await asyncio.sleep(0.2)
                assert not shut.closed.is_set()
                await cancels(ann)
                assert await asyncio.to_thread(shut.closed.wait, GUARD)
            finally:
                shut.gate.set()
        assert "was cancelled" in answers[0]

    @runs
    async def test_a_document_that_is_not_in_yet_is_left_out(
        self, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        waiting = anyio.Event()
        monkeypatch.setattr(app.backend.embedding, "wait", lambda _: False)

        async def hear(_: float, __: float | None, message: str | None) -> None:
            if "waiting for the search model" in (message or ""):
                waiting.set()

        async with comes(app) as client:
            async with anyio.create_task_group() as group:
                add = client.call_tool
                group.start_soon(lambda: add("add", PLUMS, progress_callback=hear))
                await waiting.wait()
                group.cancel_scope.cancel()
            monkeypatch.undo()
            await asyncio.sleep(0.5)
            assert given(await client.call_tool("list")) == {"documents": []}


class TestStrangers:
    @pytest.mark.parametrize("own", [[{}, {}], [{"cookie": key()}, {"cookie": key()}]])
    @runs
    async def test_each_has_their_own(self, own: list[dict[str, str]], app: App) -> None:
        async with comes(app, **own[0]) as ann, comes(app, **own[1]) as bob:
            (document,) = given(await ann.call_tool("add", PLUMS))["documents"]
            assert given(await bob.call_tool("list")) == {"documents": []}
            found = given(await bob.call_tool("ask", {**ASKED, "search_in": "all"}))
            assert SECRET not in json.dumps(found)
            gone = await bob.call_tool("remove", {"id": document["id"]})
            assert refused(gone).startswith("There is no such document.")
            assert len(given(await ann.call_tool("list"))["documents"]) == 1

    def test_a_forged_session_has_nothing(self, app: App) -> None:
        ann = begun(app)
        assert "is ready" in called(app, "add", PLUMS, **{"mcp-session-id": ann})
        assert "plums" in called(app, "list", **{"mcp-session-id": ann})
        forged = ann[:-1] + ("a" if ann[-1] != "a" else "b")
        for session in (forged, begun(app), secrets.token_urlsafe(32)):
            assert '"documents":[]' in called(app, "list", **{"mcp-session-id": session})
        # Nor is it a cookie, nor the name of a folder here.
        assert '"documents":[]' in called(app, "list", cookie=f"{COOKIE}={ann}")
        with Person(app.page, app.address + "rivulet/", {COOKIE: ann}) as person:
            assert "plums" not in person.shelf()
        for session in ("x", "a" * 32, "../" + ann, f"{ann} "[:-2]):
            answer = posts(app, "tools/list", **{"mcp-session-id": session})
            assert answer.status_code == 404
            assert "no such session" in answer.json()["error"]["message"]

    def test_without_any_there_is_nothing(self, app: App) -> None:
        for name, arguments in (("list", {}), ("add", PLUMS), ("ask", ASKED)):
            assert "Whose documents?" in called(app, name, arguments)
        assert "Whose documents?" in posts(app, "tools/list").text
        assert "result" in posts(app, "ping").text

    @runs
    async def test_an_ended_session_leaves_nothing(self, app: App) -> None:
        folders = app.backend.sessions.folder
        before = set(folders.iterdir())
        async with comes(app, "legacy") as client:
            given(await client.call_tool("add", PLUMS))
            assert len(set(folders.iterdir()) - before) == 1
        assert set(folders.iterdir()) == before

    @runs
    async def test_who_has_a_cookie_comes_back(self, app: App) -> None:
        cookie = key()
        for mode in ("legacy", MODERN, "auto"):
            async with comes(app, mode, cookie=cookie) as client:
                given(await client.call_tool("add", PLUMS))
                assert len(given(await client.call_tool("list"))["documents"]) == 1

    def test_the_page_s_cookie_is_whoever_has_the_page(self, app: App) -> None:
        with Person(app.page, app.address + "rivulet/") as ann:
            ann.add("pears.txt", "Pears are cerulean.")
            cookie = f"{COOKIE}={ann.token}"
            assert "pears.txt" in called(app, "list", cookie=cookie)
            assert "is ready" in called(app, "add", PLUMS, cookie=cookie)
            assert "plums.txt" in ann.shelf()

    @pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1", "null", ""])
    def test_a_page_in_a_browser_does_nothing(self, origin: str, app: App) -> None:
        """Not even one that seems to be of this host: a name can be made to lead here."""
        host = {"host": "evil.example"} if "evil" in origin else {}
        answer = posts(app, "ping", origin=origin, **host)
        assert answer.status_code == 403
        assert "result" not in answer.text
        site = posts(app, "ping", **{"sec-fetch-site": "cross-site"})
        assert site.status_code == 403

    @pytest.mark.parametrize("method", ["GET", "PUT", "OPTIONS", "HEAD"])
    def test_there_is_nothing_to_be_read(self, method: str, app: App) -> None:
        answer = httpx.request(method, app.address + "mcp")
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST, DELETE"

    def test_no_cookie_is_given_out(self, app: App) -> None:
        assert "set-cookie" not in posts(app, "ping").headers


class TestLogin:
    def test_without_it_there_is_nothing(self, locked: App) -> None:
        for method in ("initialize", "ping", "tools/list", "server/discover"):
            answer = posts(locked, method, cookie=key())
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic ")
        for told in ("Basic x", "Basic", "Bearer plum", basic("ann", "plum"), "Basic YW5u", "é"):
            answer = httpx.delete(
                f"{locked.address}mcp", headers={"authorization": told.encode("latin-1")}
            )
            assert answer.status_code == 401, told

        async def fails() -> None:
            async with comes(locked):
                pass

        with pytest.raises(BaseExceptionGroup) as raised:
            asyncio.run(fails())
        assert raised.group_contains(MCPError, match="Log in")

    def test_with_it_all_is_there(self, locked: App) -> None:
        async def work() -> None:
            cookie = key()
            for mode in ("legacy", "auto"):
                told = {"authorization": basic("ann", "plüm"), "cookie": cookie}
                async with comes(locked, mode, **told) as client:
                    assert given(await client.call_tool("add", PLUMS))["documents"]
            # Another login with the same cookie is someone else.
            told = {"authorization": basic("bob", "pear"), "cookie": cookie}
            async with comes(locked, **told) as client:
                assert given(await client.call_tool("list")) == {"documents": []}

        asyncio.run(work())

    def test_a_session_is_nothing_in_another_s_hand(self, locked: App) -> None:
        ann = {"authorization": basic("ann", "plüm"), "mcp-session-id": secrets.token_urlsafe(32)}
        assert "is ready" in called(locked, "add", PLUMS, **ann)
        assert "plums" in called(locked, "list", **ann)
        bob = {**ann, "authorization": basic("bob", "pear")}
        assert '"documents":[]' in called(locked, "list", **bob)
        bob["mcp-protocol-version"] = HANDSHAKE
        assert httpx.delete(f"{locked.address}mcp", headers=bob).status_code == 204
        assert "plums" in called(locked, "list", **ann)

    def test_the_page_s_login_is_none_here(self, locked: App) -> None:
        """A page's cookie is sent by the browser whoever asks it to."""
        with Person(locked.page, locked.address) as ann:
            form = {"username": "ann", "password": "plüm"}
            assert ann.http.post("/login", data=form).status_code == 200
            assert ann.http.post("/mcp", json={}).status_code == 401

    def test_tries_are_limited(self, locked: App) -> None:
        """For an address, whichever door they come to; the last, as it locks this one out."""
        for number in range(8):
            assert posts(locked, "ping", authorization=basic("ann", str(number))).status_code == 401
        right = posts(locked, "ping", authorization=basic("carl", "x"))
        assert right.status_code == 401
        assert "has to wait" in right.json()["error"]["message"]
        with Person(locked.page, locked.address) as ann:
            form = {"username": "bob", "password": "pear"}
            assert ann.http.post("/login", data=form).status_code == 400


class TestLimits:
    @runs
    async def test_what_is_wrong_is_said(self, app: App) -> None:
        wrong = (
            ("ask", {}, "question: Field required."),
            ("ask", {"question": " \n"}, "The question is empty."),
            ("ask", {"question": "x" * 9_000}, "more than 8,000 characters"),
            ("ask", {**ASKED, "search_in": "chosen"}, "search_in: Input should be 'mine'"),
            ("add", {}, "Give one of text, base64 and address."),
            ("add", {"name": "../../x.txt", "text": "x"}, "Give the file a name"),
            ("add", {"name": "x.pdf", "base64": "eA=="}, "x.pdf: "),
            ("add", {"name": "x.txt", "text": ""}, "x.txt: "),
            ("add", {"name": "x.txt", "text": "x" * 1_000_001}, "at most 1 MB"),
            ("add", {"address": " "}, "There is nothing to add"),
            ("add", {"address": "http://127.0.0.1/"}, "127.0.0.1"),
            ("list", {"all": True}, "all: Extra inputs are not permitted."),
            ("remove", {"id": "../.."}, "There is no such document."),
        )
        async with comes(app) as client:
            for tool, arguments, reason in wrong:
                assert reason in refused(await client.call_tool(tool, arguments))
            assert given(await client.call_tool("list")) == {"documents": []}
        assert not list((app.config.data_dir / "uploads").glob("*/tmp*/*"))

    @runs
    async def test_another_tool_is_none(self, app: App) -> None:
        async with comes(app) as client:
            with pytest.raises(MCPError, match="There are ask, add, list, remove"):
                await client.call_tool("forget")

    @runs
    async def test_a_large_request_is_not_read(self, app: App) -> None:
        async with comes(app) as client:
            with pytest.raises(MCPError, match="A request may have 4,000,000 bytes"):
                await client.call_tool("add", {"name": "x.txt", "text": "x" * MAX_BODY})

        def pieces() -> Iterator[bytes]:
            for _ in range(5):
                yield b" " * 1_000_000

        told = {**ACCEPT, "cookie": key()}
        told["content-type"] = "application/json"
        sent = httpx.post(app.address + "mcp", content=pieces(), headers=told)
        assert sent.status_code == 413

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"[" * 100_000, b'{"id": 1}'])
    def test_what_is_no_request_is_refused(self, body: bytes, app: App) -> None:
        told = {**ACCEPT, "cookie": key()}
        told["content-type"] = "application/json"
        assert httpx.post(app.address + "mcp", content=body, headers=told).status_code == 400

    @runs
    async def test_questions_in_a_minute(self, app: App) -> None:
        async with comes(app) as client:
            for _ in range(4):
                given(await client.call_tool("ask", ASKS))
            assert "More than 4 questions" in refused(await client.call_tool("ask", ASKS))

    def test_answers_at_once(self, app: App, shut: Gated) -> None:
        chat_limits = app.programs.chat.limits
        config = chat_limits.config

        waiting = anyio.Event()

        async def hear(progress: float, total: float | None, message: str | None) -> None:
            if message and message.startswith("Number 1 in the line"):
                waiting.set()

        async def ask() -> None:
            async with (
                comes(app) as ann,
                comes(app) as bob,
                comes(app) as cyd,
                anyio.create_task_group() as group,
            ):
                group.start_soon(ann.call_tool, "ask", ASKS)
                assert await asyncio.to_thread(shut.said_half.wait, GUARD)
                assert "written for you" in refused(await ann.call_tool("ask", ASKS))
                chat_limits.config = dataclasses.replace(config, max_answers=1, max_waiting=1)
                group.start_soon(lambda: bob.call_tool("ask", ASKS, progress_callback=hear))
                with anyio.fail_after(GUARD):
                    await waiting.wait()
                assert "1 questions wait already" in refused(await cyd.call_tool("ask", ASKS))
                group.cancel_scope.cancel()
            with anyio.fail_after(GUARD):
                while chat_limits.line.writing or chat_limits.line.waiting:
                    await asyncio.sleep(0.02)

        try:
            chat_limits.config = dataclasses.replace(config, max_session_answers=1)
            asyncio.run(ask())
        finally:
            chat_limits.config = config

    @runs
    async def test_room_on_the_disk(self, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(app.backend.disk, "limit", 1)
        async with comes(app) as client:
            assert "There is no room" in refused(await client.call_tool("add", PLUMS))
            monkeypatch.undo()
            uploads = app.config.data_dir / "uploads" / str(app.config.port)
            with no_folder(uploads):
                assert "plums.txt: it could not be kept" in refused(
                    await client.call_tool("add", PLUMS)
                )

    @runs
    async def test_any_other_error_is_a_number(
        self, app: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def breaks(_: object, __: object) -> None:
            raise KeyError("what a document says")

        monkeypatch.setattr(Programs, "documents", breaks)
        async with comes(app) as client:
            line = refused(await client.call_tool("list"))
        assert "what a document says" not in line
        (number,) = re.findall(r"error (\w{8}) in the log", line)
        assert number in caplog.text
