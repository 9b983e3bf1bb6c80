"""Keys and passwords are planted, much goes wrong, and then they are looked for everywhere."""

import io
import json
import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rag import passwords
from rag.llms.scripted import ScriptedLLM
from rag.logs import Formatter
from rag.ui.guarding import logger
from rag.ui.identity import COOKIE
from tests.browser.conftest import App, scripted_app
from tests.strangers.people import Person
from tests.strangers.test_login import logs_in
from tests.strangers.test_mcp import basic, called, posts

KEY = "sk-planted-4f1c9b"
PASSWORD = "planted-password-77"
TEXT = "The document speaks of vermilion quinces."
QUESTION = "What of the ultramarine medlars?"


class Echo(BaseHTTPRequestHandler):
    """A model server that tells everything it was told, as an error."""

    def answer(self) -> None:
        said = f"{self.headers['Authorization']} {self.path}"
        body = json.dumps({"error": {"message": f"Wrong key: {said}", "code": "bad"}}).encode()
        self.send_response(401 if "models" not in self.path else 500, said)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - as the base class calls them

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}/v1"
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture
def app(
    server: str, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[App]:
    monkeypatch.setattr(passwords, "COST", 16)
    app = scripted_app(
        tmp_path_factory.mktemp("data"),
        {"scripted": ScriptedLLM("Fine.")},
        openai_api_key=KEY,
        openai_base_url=server,
        auth=(("ann", PASSWORD),),
        log="json",
    )
    yield app
    app.stop()


def test_keys_passwords_and_texts_are_nowhere(
    app: App, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Formatter(app.config))
    root = logging.getLogger()
    root.addHandler(handler)
    told = []
    try:
        with Person(app.page, app.address) as ann:
            ann.http.event_hooks["response"] = [lambda answer: told.append(answer)]
            assert logs_in(ann, "ann", PASSWORD + "x").status_code == 400
            assert logs_in(ann, "ann", PASSWORD).status_code == 200
            ann.add("quinces.txt", TEXT)
            number = ann.number("box", "submit")
            box = {"text": QUESTION, "files": []}
            page = json.dumps(ann.call(number, [box, "openai:gpt", "none", []]))
            page += ann.load() + ann.shelf()
            for route in ("", "config", "gradio_api/info", "gradio_api/nothing", "login_check"):
                page += ann.http.get(route).text
            assert "wrong" in page.lower() or "key" in page.lower()
            config = app.backend.config
            monkeypatch.setattr(app.backend, "config", replace(config, model="openai:gpt"))
            headers = {
                "authorization": basic("ann", PASSWORD),
                "cookie": f"{COOKIE}={ann.token}",
            }
            for tool, arguments in (
                ("ask", {"question": QUESTION, "search_in": "none"}),
                ("add", {"name": "medlars.txt", "text": TEXT}),
                ("add", {"address": f"http://{PASSWORD}:{KEY}@127.0.0.1/"}),
                ("list", {}),
            ):
                page += called(app, tool, arguments, **headers)
            page += posts(app, "ping", authorization=basic("ann", PASSWORD + "x")).text
            assert "medlars.txt" in page
            assert '"isError":true' in page

            def breaks(*_: object) -> None:
                raise ValueError(f"{KEY} {PASSWORD} {TEXT} {QUESTION}")

            monkeypatch.setattr(app.backend.sessions, "documents", breaks)
            ann.join(ann.number("notes", "click"), [], {"do": "look", "key": "", "text": ""})
            failed = json.dumps(list(ann.messages()))
            assert "in the log" in failed
            logger.error("%s", failed)
    finally:
        root.removeHandler(handler)
    log = stream.getvalue()
    assert "builtins.ValueError" in log
    for line in log.splitlines():
        assert json.loads(line)["level"]
    printed = "".join(capfd.readouterr())
    files = [path for path in app.config.data_dir.rglob("*") if path.is_file()]
    assert files
    for secret in (KEY, PASSWORD):
        for place in (page, failed, log, printed):
            assert secret not in place
        for path in files:
            assert secret.encode() not in path.read_bytes(), path
    for text in (TEXT, QUESTION):
        for place in (failed, log, printed):
            assert text not in place
