"""The models of an OpenAI-compatible server in the page: chosen, asked, streamed."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.ui.backend import Backend
from rag.ui.page import build, launch
from tests.browser.conftest import PATIENCE, free_port

pytestmark = pytest.mark.browser

WORDS = [f"word{number} " for number in range(20)]


class Handler(BaseHTTPRequestHandler):
    """Two models; both write `WORDS`, one every 50 ms."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        body = {"object": "list", "data": [{"id": "river-large"}, {"id": "river-small"}]}
        self._begin("application/json")
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((body["model"], self.headers["Authorization"]))
        self._begin("text/event-stream")
        for word in WORDS:
            self._chunk({"content": word}, None)
            time.sleep(0.05)
        self._chunk({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: Any) -> None:
        pass

    def _begin(self, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _chunk(self, delta: dict[str, str], finish: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        chunk = {"id": "1", "object": "chat.completion.chunk", "choices": [choice]}
        self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        self.wfile.flush()


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_of_the_server_is_chosen_and_streams(
    server: ThreadingHTTPServer, chromium: Browser, tmp_path: Path
) -> None:
    config = Config(
        model="openai:river-small",
        embed_model="hash",
        data_dir=tmp_path,
        port=free_port(),
        openai_base_url=f"http://127.0.0.1:{server.server_port}/v1",
        openai_api_key="the-key",
    )
    backend = Backend(config, embedding=HashEmbedding())
    app = build(backend)
    address = launch(app, config, "127.0.0.1")
    backend.start()
    page = chromium.new_page()
    try:
        page.goto(address)
        page.wait_for_selector("#documents .documents")
        picker = page.locator("#model input")
        expect(picker).to_have_value("river-small", timeout=PATIENCE)
        picker.click()
        page.get_by_role("option", name="river-large").click()
        page.locator("#box textarea").fill("How does streaming work?")
        page.keyboard.press("Enter")
        seen: list[str] = []
        while not page.locator("#chat .facts").count():
            text = page.locator("#chat .bot.message").all_inner_texts()
            if text and text[0].startswith("word0") and text[0] not in seen:
                seen.append(text[0])
        assert len(seen) >= 3
        expect(page.locator("#chat .facts")).to_contain_text("river-large")
        assert page.locator("#chat .bot.message").first.inner_text() == "".join(WORDS).strip()
        assert Handler.asked == [("river-large", "Bearer the-key")]
        assert "the-key" not in page.content()
    finally:
        page.context.close()
        backend.close()
        app.close(verbose=False)
