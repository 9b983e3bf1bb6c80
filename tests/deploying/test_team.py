"""A team behind a real nginx: TLS, a path, two app processes and one Chroma server, on loopback."""

import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser

from benchmarks import NGINX
from tests.browser.steps import answer, ask, upload_and_wait, wait_for_answers
from tests.deploying.serving import PER_SECOND, WORDS
from tests.deploying.tab import PATIENCE, Tab
from tests.integration.test_chroma_server import Running
from tests.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="nginx is another one there"),
]
ROOT = Path(__file__).parents[2]
PATH = "/rivulet"


class Team:
    """All that runs."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.chroma = Running(folder)
        self.ports = {"one": free_port(), "two": free_port()}
        self.processes = {name: self._serve(name) for name in self.ports}
        self.port = free_port()
        self.nginx = self._proxy()
        for name in self.ports:
            self.wait_for(name)

    def _serve(self, name: str) -> "subprocess.Popen[bytes]":
        env = {
            "PORT": str(self.ports[name]),
            "RAG_ROOT_PATH": PATH,
            "RAG_AUTH": "ann:secret,ben:secret",
            "CHROMA_URL": self.chroma.at.url,
            "RAG_MAX_FILE_MB": "5",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.deploying.serving", str(self.folder / name)],
                cwd=ROOT,
                env={**os.environ, **env},
                stdout=log,
                stderr=log,
            )

    def _proxy(self) -> "subprocess.Popen[bytes]":
        """nginx with the very block of the docs."""
        certificate, key = self.folder / "cert.pem", self.folder / "key.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", key, "-out", certificate, *subject],
            check=True, capture_output=True,
        )  # fmt: skip
        docs = (ROOT / "docs" / "deploying.md").read_text("utf-8")
        (site,) = re.findall(r"<!-- nginx -->\n```nginx\n(.+?)```", docs, re.S)
        for stated, here in (
            ("127.0.0.1:7861", f"127.0.0.1:{self.ports['one']}"),
            ("127.0.0.1:7862", f"127.0.0.1:{self.ports['two']}"),
            ("listen 443 ssl", f"listen 127.0.0.1:{self.port} ssl"),
            ("docs.example.org;", "localhost;"),
            ("/etc/ssl/certs/docs.example.org.pem", str(certificate)),
            ("/etc/ssl/private/docs.example.org.key", str(key)),
        ):
            assert site.count(stated) == 1, stated
            site = site.replace(stated, here)
        (self.folder / "nginx.conf").write_text(NGINX.format(folder=self.folder, site=site))
        command = ["nginx", "-p", str(self.folder), "-c", str(self.folder / "nginx.conf")]
        return subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def wait_for(self, name: str) -> None:
        """Until a process is ready."""
        until = time.monotonic() + PATIENCE
        address = f"http://127.0.0.1:{self.ports[name]}/health"
        while True:
            log = (self.folder / f"{name}.log").read_text()
            assert self.processes[name].poll() is None, log
            assert time.monotonic() < until, log
            try:
                if httpx.get(address, timeout=5).json()["status"] == "ready":
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def start(self, name: str) -> None:
        self.processes[name] = self._serve(name)
        self.wait_for(name)

    def place_of(self, text: str) -> list[str]:
        """The processes that keep a conversation with this text."""
        files = self.folder.glob("*/sessions/*/conversations/*.json")
        return [
            file.relative_to(self.folder).parts[0] for file in files if text in file.read_text()
        ]

    def close(self) -> None:
        for process in (self.nginx, *self.processes.values()):
            process.kill()
            process.wait()
        self.chroma.kill()


class Member(Tab):
    """A tab of somebody who has logged in, behind the proxy."""

    def __init__(self, team: Team, user: str = "ann"):
        trusted = ssl.create_default_context(cafile=team.folder / "cert.pem")
        http = httpx.Client(
            base_url=f"https://localhost:{team.port}{PATH}/",
            verify=trusted,
            timeout=PATIENCE,
            follow_redirects=True,
        )
        self.user = user
        self.page = http.get(f"https://localhost:{team.port}{PATH}")
        super().__init__(http)

    def read_config(self) -> None:
        self.http.get("")
        form = {"username": self.user, "password": "secret"}
        self.http.post("login", data=form).raise_for_status()
        super().read_config()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    if not shutil.which("nginx"):
        assert not os.environ.get("CI"), "CI has to install nginx"
        pytest.skip("There is no nginx: install it.")
    team = Team(tmp_path_factory.mktemp("team"))
    yield team
    team.close()


def test_the_page_is_at_its_path_with_a_cookie_of_its_own(team: Team) -> None:
    tab = Member(team)
    assert str(tab.page.url) == f"https://localhost:{team.port}{PATH}/"
    (given,) = [c for c in tab.page.headers.get_list("set-cookie") if c.startswith("rivulet=")]
    kept = set(given.split("; "))
    assert {f"Path={PATH}", "HttpOnly", "Secure", "SameSite=None", "Partitioned"} <= kept
    assert tab.config["root"] == f"https://localhost:{team.port}{PATH}"
    page = tab.http.get("").text
    for address in re.findall(r'(?:src|href)="(\./[^"]+|/[^"]+|http[^"]+localhost[^"]+)"', page):
        found = tab.http.get(address)
        assert found.status_code == 200, address
        assert found.url.path.startswith(f"{PATH}/")
    assert tab.http.get("health").json()["status"] == "ready"


def test_an_answer_comes_word_by_word(team: Team) -> None:
    came = [when for when, line in Member(team).asks("word by word") if "word" in line]
    assert len(came) > 5
    # Held back by a proxy, it would come at once when it is over.
    assert came[-1] - came[0] > 0.5 * WORDS / PER_SECOND


@pytest.mark.parametrize("number", range(3))
def test_an_assistant_stays_with_a_process(number: int, team: Team) -> None:
    """Of two processes one would not have its document yet, and would not know what to cancel."""
    told = {"accept": "application/json, text/event-stream"}
    trusted = ssl.create_default_context(cafile=team.folder / "cert.pem")
    with httpx.Client(
        base_url=f"https://localhost:{team.port}{PATH}/",
        verify=trusted,
        auth=("ann", "secret"),
        headers=told,
        timeout=PATIENCE,
    ) as http:

        def body(method: str, **params: Any) -> dict[str, Any]:
            return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}

        def call(tool: str, **arguments: str) -> str:
            called = body("tools/call", name=tool, arguments=arguments)
            return http.post("mcp", json=called).raise_for_status().text

        info = {"name": "test", "version": "1"}
        begins = body("initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=info)
        begun = http.post("mcp", json=begins).raise_for_status()
        http.headers["mcp-session-id"] = begun.headers["mcp-session-id"]
        assert "is ready" in call("add", name="plums.txt", text="The plums are in the attic.")
        assert all("plums.txt" in call("list") for _ in range(4))

        asked = {"question": "word by word", "search_in": "none"}
        ask = body("tools/call", name="ask", arguments=asked, _meta={"progressToken": 1})
        came: list[float] = []
        with http.stream("POST", "mcp", json=ask) as stream:
            for line in stream.iter_lines():
                came += [time.monotonic()] if "word0" in line else []
        assert len(came) > 5
        # Held back by a proxy, it would come at once when it is over.
        assert came[-1] - came[0] > 0.5 * WORDS / PER_SECOND

        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled"}
        with http.stream("POST", "mcp", json=ask) as stream:
            lines = stream.iter_lines()
            assert any("word0" in line for line in lines)
            http.post("mcp", json={**cancel, "params": {"requestId": 1}}).raise_for_status()
            assert "was cancelled" in "".join(lines)


@pytest.mark.browser
def test_in_a_real_browser_the_page_works_at_its_path(
    team: Team, chromium: Browser, tmp_path: Path
) -> None:
    context = chromium.new_context(ignore_https_errors=True, locale="en-US")
    base, elsewhere, errors = f"https://localhost:{team.port}{PATH}", [], []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    context.on(
        "request",
        lambda request: (
            None
            if request.url.startswith((base, "data:", "blob:"))
            else elsewhere.append(request.url)
        ),
    )
    page = context.new_page()
    page.goto(base)
    page.locator("input").first.fill("ben")
    page.locator("input[type=password]").fill("secret")
    page.get_by_role("button", name="Login").click()
    page.locator("#box textarea").wait_for()
    (tmp_path / "plums.txt").write_text("The plums are in the attic.")
    upload_and_wait(page, tmp_path / "plums.txt")
    ask(page, "Where are the plums?")
    wait_for_answers(page, 1)
    assert answer(page).endswith(f"word{WORDS - 1}")
    page.reload()
    wait_for_answers(page, 1)
    kept = {cookie["name"]: cookie for cookie in context.cookies(base)}
    assert kept["rivulet"]["path"] == PATH
    assert kept["rivulet"]["secure"]
    assert errors == []
    assert elsewhere == []
    context.close()


def test_a_browser_stays_with_its_process_and_others_are_with_the_other(team: Team) -> None:
    tabs = {f"question {n:02d}": Member(team, "ann" if n % 2 else "ben") for n in range(8)}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda each: each[1].asks(each[0]), tabs.items()))
    places = {question: team.place_of(question) for question in tabs}
    assert all(len(found) == 1 for found in places.values()), places
    assert {name for (name,) in places.values()} == {"one", "two"}
    for question, tab in tabs.items():
        seen = tab.sees()
        assert [q for q in tabs if q in seen] == [question]


def test_without_its_process_a_browser_has_its_documents_and_later_all(team: Team) -> None:
    """What a process keeps alone is missing while it is away, and is not lost."""
    tab = Member(team)
    tab.adds(
        "pears.txt", b"The pears are in the cellar." + b"\n" * 1_200_000
    )  # over nginx's usual 1 MB
    tab.sees_in_the_end("pears.txt is ready")
    tab.asks("Where is the quince?", "mine")
    (home,) = team.place_of("Where is the quince?")
    team.kill(home)
    tab.read_config()
    seen = tab.sees()
    assert "pears.txt" in seen
    assert "Where is the quince?" not in seen
    assert "pears.txt" in "".join(line for _, line in tab.asks("cellar", "mine"))
    team.start(home)
    until = time.monotonic() + PATIENCE
    while "Where is the quince?" not in seen:  # nginx tries a server again after ten seconds
        assert time.monotonic() < until
        time.sleep(0.5)
        with suppress(httpx.HTTPError):  # it may do so between the login and what follows
            tab.read_config()
            seen = tab.sees()
    assert "pears.txt" in seen


def test_without_stickiness_an_answer_does_not_arrive(team: Team) -> None:
    """Why the proxy has to be sticky: Gradio keeps in a process what it is to send to a tab."""
    one, two = (
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE)
        for port in team.ports.values()
    )
    for http in (one, two):
        http.get("/")
        http.post("/login", data={"username": "ann", "password": "secret"}).raise_for_status()
    config = one.get("/config").json()
    load = next(e for e in config["dependencies"] if e["targets"][0][1] == "load")
    body = {"data": [], "fn_index": load["id"], "session_hash": "astray"}
    one.post("/gradio_api/queue/join", json=body).raise_for_status()
    came = ""
    with (
        suppress(httpx.RemoteProtocolError),  # it breaks off
        two.stream("GET", "/gradio_api/queue/data", params={"session_hash": "astray"}) as stream,
    ):
        for text in stream.iter_text():
            came += text
    assert "process_completed" not in came
