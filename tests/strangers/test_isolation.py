"""What is one person's nobody else reads, lists, deletes, cancels, stops or downloads."""

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from rag.ui import boundary
from rag.ui.boundary import API
from rag.ui.identity import COOKIE
from tests.browser.conftest import App, scripted_app
from tests.strangers.conftest import Visit
from tests.strangers.people import Person
from tests.ui.pages import Gated, eventually

SECRET = "Ann's plums are of the colour vermilion."
QUESTION = "Which colour have the plums?"


@pytest.fixture(scope="module")
def ann(visit: Visit) -> Person:
    """Someone with a document and a conversation about it."""
    ann = visit()
    ann.add("plums.txt", SECRET)
    ann.ask(QUESTION)
    assert QUESTION in ann.load()
    return ann


def _own(ann: Person, bob: Person) -> None:
    """Bob has an identity of his own."""


def _missing(ann: Person, bob: Person) -> None:
    bob.http.cookies.clear()


def _forged(ann: Person, bob: Person) -> None:
    bob.http.cookies.set(COOKIE, ann.token[:-1] + ("a" if ann.token[-1] != "a" else "b"))


def _made_up(ann: Person, bob: Person) -> None:
    bob.http.cookies.set(COOKIE, secrets.token_urlsafe(32))


def _hash(ann: Person, bob: Person) -> None:
    """Who sees the disk knows the names of the folders."""
    bob.http.cookies.set(COOKIE, "a" * 32)


@pytest.fixture(params=[_own, _missing, _forged, _made_up, _hash])
def bob(request: pytest.FixtureRequest, ann: Person, visit: Visit) -> Person:
    """A stranger, with another cookie than Ann's, or none."""
    bob = visit()
    disguise: Callable[[Person, Person], None] = request.param
    bob.http.cookies.clear()
    bob.http.get("/")
    disguise(ann, bob)
    return bob


@pytest.fixture
def begun(ann: Person, gated: Gated) -> Iterator[str]:
    """The event of an answer that is being written for Ann."""
    gated.gate.clear()
    gated.said_half.clear()
    gated.closed.clear()
    event = ann.begin(QUESTION, scope="none")
    assert gated.said_half.wait(10)
    yield event
    gated.gate.set()
    assert gated.closed.wait(10)


def conversation_key(ann: Person) -> str:
    found = re.search(r'data-do=\\*"show\\*" data-key=\\*"([0-9a-f]{12})', ann.load())
    assert found
    return found[1]


def document_key(ann: Person) -> str:
    found = re.search(r'data-do=\\*"remove\\*" data-key=\\*"([0-9a-f]{32})', ann.shelf())
    assert found
    return found[1]


class TestKeys:
    """What the page's handlers take: the keys of one are nothing to another."""

    def test_nothing_is_listed(self, ann: Person, bob: Person) -> None:
        shown = bob.shows()
        assert "plums" not in shown
        assert "vermilion" not in shown

    def test_nothing_is_found(self, ann: Person, bob: Person) -> None:
        bob.ask("vermilion plums", scope="all")
        shown = bob.load()
        assert "vermilion plums" in shown
        assert "colour vermilion" not in shown
        assert "plums.txt" not in shown

    def test_a_conversation_is_not_opened_or_saved(self, ann: Person, bob: Person) -> None:
        key = conversation_key(ann)
        assert QUESTION not in json.dumps(bob.press("conversations", "show", key))
        number = bob.number("conversations", "save")
        saved = bob.call(number, [], {"do": "save", "key": key, "text": "json"})
        assert QUESTION not in json.dumps(saved)
        own = ann.call(number, [], {"do": "save", "key": key, "text": "json"})
        assert QUESTION in json.dumps(own)

    @pytest.mark.parametrize("do", ["delete", "rename"])
    def test_a_conversation_is_not_changed(self, do: str, ann: Person, bob: Person) -> None:
        bob.press("conversations", do, conversation_key(ann), "gone")
        assert QUESTION in ann.load()
        assert "gone" not in ann.load()

    def test_a_turn_is_not_taken_back_or_asked_again(self, ann: Person, bob: Person) -> None:
        found = re.search(r'data-do=\\*"undo\\*" data-key=\\*"(\w+)', ann.load())
        assert found
        bob.press("chat", "undo", found[1])
        assert QUESTION in ann.load()
        event = {"do": "edit", "key": found[1], "text": "otherwise"}
        bob.call(bob.number("chat", "ask"), ["scripted", "mine", []], event)
        assert "otherwise" not in ann.load()

    def test_a_passage_is_not_shown(self, ann: Person, bob: Person) -> None:
        found = re.search(r'data-do=\\*"source\\*" data-key=\\*"([\w:]+)', ann.load())
        assert found
        event = {"do": "source", "key": found[1], "text": ""}
        number = bob.number("chat", "open")
        assert "vermilion" in json.dumps(ann.call(number, [], event))
        assert "vermilion" not in json.dumps(bob.call(number, [], event))

    def test_a_document_is_not_removed_or_chosen(self, ann: Person, bob: Person) -> None:
        key = document_key(ann)
        bob.press("documents", "remove", key)
        assert "plums.txt" in ann.shelf()
        box = {"text": "vermilion plums", "files": []}
        bob.call(bob.number("box", "submit"), [box, "scripted", "chosen", [key]])
        assert "colour vermilion" not in bob.load()

    def test_forgetting_forgets_ones_own(self, ann: Person, bob: Person) -> None:
        bob.call(bob.number("forget", "click"), [True])
        assert QUESTION in ann.load()
        assert "plums.txt" in ann.shelf()

    def test_stop_stops_ones_own(self, ann: Person, begun: str, bob: Person, gated: Gated) -> None:
        bob.call(bob.number("box", "stop"), [])
        time.sleep(0.3)
        assert not gated.closed.is_set()


class TestTabs:
    """What Gradio knows by the name of a tab, which stands in addresses and logs."""

    def test_no_handler_is_called_in_it(self, ann: Person, bob: Person) -> None:
        bob.tab = ann.tab
        assert bob.join(bob.number("notes", "click"), []).status_code == 403

    def test_its_stream_is_not_read(self, ann: Person, begun: str, bob: Person) -> None:
        answer = bob.http.get(API + "queue/data", params={"session_hash": ann.tab})
        assert answer.status_code == 403
        assert "Half" not in answer.text

    def test_nor_beside_ones_own(self, ann: Person, begun: str, bob: Person) -> None:
        for pair in ((bob.tab, ann.tab), (ann.tab, bob.tab)):
            query = [("session_hash", tab) for tab in pair]
            assert bob.http.get(API + "queue/data", params=query).status_code == 403

    def test_it_is_not_closed(self, ann: Person, begun: str, bob: Person, gated: Gated) -> None:
        assert bob.http.get(f"{API}heartbeat/{ann.tab}").status_code == 403
        time.sleep(0.3)
        assert not gated.closed.is_set()

    def test_the_owner_goes_on(self, ann: Person, begun: str, bob: Person, gated: Gated) -> None:
        bob.http.get(API + "queue/data", params={"session_hash": ann.tab})
        bob.http.get(f"{API}heartbeat/{ann.tab}")
        gated.gate.set()
        eventually(lambda: "Half and half." in ann.load())


class TestEvents:
    """What Gradio knows by the name of an event."""

    @pytest.mark.parametrize("tab", ["ann", "bob", "none"])
    @pytest.mark.parametrize("route", ["cancel", "reset", "queue/join"])
    def test_it_is_not_cancelled(
        self, tab: str, route: str, ann: Person, begun: str, bob: Person, gated: Gated
    ) -> None:
        tabs = {"ann": ann.tab, "bob": bob.tab}
        number = ann.number("box", "submit")
        body = {"session_hash": tabs.get(tab), "fn_index": number, "event_id": begun, "data": []}
        assert bob.http.post(API + route, json=body).status_code == 403
        time.sleep(0.2)
        assert not gated.closed.is_set()

    def test_it_is_not_read(self, ann: Person, begun: str, bob: Person) -> None:
        for version in ("call/anything", "call/v2/anything"):
            assert bob.http.get(f"{API}{version}/{begun}").status_code == 403

    def test_the_tab_alone_does_not_cancel_it(
        self, ann: Person, begun: str, bob: Person, gated: Gated
    ) -> None:
        body = {"session_hash": ann.tab, "fn_index": ann.number("box", "submit"), "event_id": ""}
        assert bob.http.post(API + "cancel", json=body).status_code == 403
        time.sleep(0.2)
        assert not gated.closed.is_set()

    def test_its_owner_cancels_it(self, ann: Person, begun: str) -> None:
        body = {
            "session_hash": ann.tab,
            "fn_index": ann.number("box", "submit"),
            "event_id": begun,
        }
        assert ann.http.post(API + "cancel", json=body).json() == {"success": True}


class TestUploads:
    """Gradio gives a file that was uploaded to anyone who knows its path."""

    @pytest.fixture
    def path(self, ann: Person) -> str:
        return ann.upload("letter.txt", b"Dear diary, it is cerulean.")

    def test_it_is_not_read(self, path: str, ann: Person, bob: Person) -> None:
        assert ann.http.get(f"{API}file={path}").text == "Dear diary, it is cerulean."
        for route in (f"{API}file={path}", f"{API}file/{path}", f"file={path}", f"file/{path}"):
            answer = bob.http.get(route)
            assert answer.status_code in (403, 404), route
            assert "cerulean" not in answer.text
            assert bob.http.head(route).status_code in (403, 404)

    @pytest.mark.parametrize("around", ["{}/", "/.{}", "/x/..{}", "{}?x=1", "//{}"])
    def test_nor_by_another_spelling(
        self, around: str, path: str, ann: Person, bob: Person
    ) -> None:
        assert "cerulean" not in bob.http.get(f"{API}file=" + around.format(path)).text

    def test_it_is_not_taken_in(self, path: str, ann: Person, bob: Person) -> None:
        assert bob.take(path).status_code == 403
        box = {"text": "diary", "files": [{"path": path, "meta": {"_type": "gradio.FileData"}}]}
        asked = bob.join(bob.number("box", "submit"), [box, "scripted", "mine", []])
        assert asked.status_code == 403
        assert ann.take(path).status_code == 200
        list(ann.messages())

    def test_who_has_uploaded_the_same_has_it_too(self, ann: Person, visit: Visit) -> None:
        bob, same = visit(), b"This is in many a letter."
        path = ann.upload("same.txt", same)
        assert bob.http.get(f"{API}file={path}").status_code == 403
        assert bob.upload("same.txt", same) == path
        assert bob.http.get(f"{API}file={path}").content == same
        bob.http.cookies.clear()
        assert bob.upload("same.txt", same) == path
        assert bob.http.get(f"{API}file={path}").status_code == 403  # all without a cookie are one

    @pytest.mark.parametrize(
        "path",
        ["/etc/hostname", "http://127.0.0.1:1/", "https://example.org/x", "../../etc/hostname", ""],
    )
    def test_nothing_else_is_read_or_taken_in(self, path: str, bob: Person) -> None:
        assert bob.take(path).status_code == 403
        assert bob.http.get(f"{API}file={path}").status_code in (403, 404)

    def test_no_file_of_the_data_folder(self, app: App, ann: Person, bob: Person) -> None:
        files = [path for path in app.config.data_dir.rglob("*") if path.is_file()]
        assert files
        for path in files:
            assert bob.http.get(f"{API}file={path}").status_code == 403, path


@pytest.mark.parametrize(
    "route",
    [
        "run/ask",
        "api/ask",
        "component_server",
        "stream/x",
        "process_recording",
        "vibe-edit/",
        "run-history/connect",
    ],
)
def test_what_the_page_does_not_need_is_not_there(route: str, bob: Person) -> None:
    assert bob.http.post(API + route, json={"data": []}).status_code == 404


@pytest.mark.parametrize(
    "route",
    [
        *("token", "deep_link?session_hash=x", "proxy=http://127.0.0.1/", "queue/status"),
        *("dev/reload", "runs", "vibe-code/", "openapi.json", "stream/a/b/c/playlist-file"),
        *("../monitoring", "../monitoring/summary", "../?deep_link=x", "../config?deep_link=x"),
        *("custom_component/a/client/b/c", "../docs", "../openapi.json", "../redoc"),
    ],
)
def test_nor_is_what_it_does_not_read(route: str, visit: Visit) -> None:
    assert visit().http.get(API + route).status_code == 404


def routes(found: Iterable[Any]) -> Iterator[str]:
    """The paths of all routes, those of routers within routers too."""
    for route in found:
        if router := getattr(route, "original_router", None):
            yield from routes(router.routes)
        else:
            yield route.path


def test_every_route_of_gradio_is_known_here(app: App) -> None:
    """A new version of it may bring new ones: each is looked at before it is let through."""
    below = {
        re.sub(r"\{.*", "", route).removeprefix(API).rstrip("/")
        for route in routes(app.page.app.routes)
        if route.startswith(API)
    }
    open_ones = set(boundary.READ | boundary.POSTED)
    assert open_ones <= below
    assert below - open_ones == {
        *("call", "call/v2", "file=", "heartbeat"),  # what belongs to someone
        *("token", "dev/reload", "custom_component", "proxy=", "stream", "file", "run", "api"),
        *("component_server", "queue/status", "process_recording", "deep_link", "openapi.json"),
        *("vibe-edit", "undo-vibe-edit", "vibe-code", "vibe-starter-queries", "runs"),
    }


class TestRequests:
    def test_a_page_of_another_site_does_nothing_here(self, ann: Person) -> None:
        for site in ("cross-site", "same-site"):
            told = {"sec-fetch-site": site, "sec-fetch-mode": "cors"}
            assert ann.http.get("/", headers=told).status_code == 403
            assert ann.http.get("/config", headers=told).status_code == 403
            body = ann.body(ann.number("notes", "click"), [])
            sent = ann.http.post(API + "queue/join", json=body, headers=told)
            assert sent.status_code == 403
            form = {**told, "sec-fetch-mode": "navigate"}
            sent = ann.http.post(API + "upload", files={"files": ("a", b"b")}, headers=form)
            assert sent.status_code == 403

    def test_but_it_may_lead_here(self, ann: Person) -> None:
        told = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
        assert ann.http.get("/", headers=told).status_code == 200

    def test_a_request_is_not_larger_than_a_question(self, ann: Person) -> None:
        sent = ann.join(ann.number("address", "submit"), ["x" * 1_000_001])
        assert sent.status_code == 413
        assert "1,000,000" in sent.json()["detail"]

    @pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"[" * 100_000, b"\xff"])
    def test_what_is_no_request_is_said(self, body: bytes, ann: Person) -> None:
        sent = ann.http.post(API + "queue/join", content=body)
        assert sent.status_code == 400
        assert len(sent.json()["detail"]) < 60

    def test_a_file_is_not_hidden_in_depth(self, ann: Person) -> None:
        data: list[object] = []
        for _ in range(100):
            data = [data]
        assert ann.join(ann.number("notes", "click"), data).status_code == 400

    def test_an_upload_says_its_length(self, ann: Person) -> None:
        sent = ann.http.post(
            API + "upload",
            content=iter([b"--x\r\n"]),
            headers={"content-type": "multipart/form-data; boundary=x"},
        )
        assert sent.status_code == 411


def test_names_that_are_not_used_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boundary, "MAX_KNOWN", 3)
    known = boundary.Known()
    for name in "abc":
        assert known.claim(name, "ann")
    assert known.has("a", "ann")
    known.give("d", "ann")
    assert [name for name in "abcd" if known.has(name, "ann")] == ["a", "c", "d"]
    assert not known.claim("a", "bob")


def test_two_tabs_of_a_browser_are_one_person(app: App, ann: Person, visit: Visit) -> None:
    other = visit({COOKIE: ann.token})
    assert "plums.txt" in other.shelf()
    assert QUESTION in other.load()


def test_the_page_is_told_what_is_wrong(ann: Person) -> None:
    answer: httpx.Response = ann.http.get(API + "file=/etc/hostname")
    assert answer.json() == {"detail": boundary.NOT_YOURS, "error": boundary.NOT_YOURS}


@pytest.mark.parametrize("prefix", ["", "/rivulet"])
def test_a_proxy_s_prefix_opens_nothing(prefix: str, tmp_path: Path) -> None:
    """A proxy may hand the path on as it was, and Gradio then finds its routes by it."""
    models = {"scripted": Gated()}
    app = scripted_app(tmp_path, models, root_path="/rivulet", auth=(("ann", "plum"),))
    with httpx.Client(base_url=app.address) as http:
        assert http.get(f"{prefix}/gradio_api/app_id").status_code == 200
        assert http.get(f"{prefix}/gradio_api/token").status_code == 401
        assert http.get(f"{prefix}/gradio_api/heartbeat/x").status_code == 401
        assert http.get(f"{prefix}/monitoring").status_code == 404
        assert http.post(f"{prefix}/login", content=b"x" * 2_000_000).status_code == 413
    app.stop()
