"""The models of an OpenAI-compatible server in the page: chosen, asked, streamed."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rag.config import Config
from rag.index.embedding import HashEmbedding
from tests.browser.conftest import PATIENCE, App, NewPage
from tests.browser.steps import answer, ask, wait_for_answers
from tests.ports import free_port

pytestmark = pytest.mark.browser

WORDS = [f"word{number} " for number in range(20)]
SIZES = ("large", "small", "thinker")
THOUGHTS = ["<think>", *(f"<b>thought{number}</b>\n\n" for number in range(10)), "</think>"]
CONDENSED = "How does the stream end?"


class Handler(BaseHTTPRequestHandler):
    """Three models; all write `WORDS`, one every 50 ms, one of them after `THOUGHTS`. What is to
    be condensed becomes `CONDENSED`."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        body = {"object": "list", "data": [{"id": f"river-{size}"} for size in SIZES]}
        self._begin("application/json")
        self.wfile.write(json.dumps(body).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((body["model"], self.headers["Authorization"]))
        self._begin("text/event-stream")
        words = THOUGHTS + WORDS if "thinker" in body["model"] else WORDS
        if "A conversation:" in body["messages"][-1]["content"]:
            words = [CONDENSED]
        for word in words:
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


@pytest.fixture
def app(server: ThreadingHTTPServer, tmp_path: Path) -> Iterator[App]:
    """The app over that server."""
    config = Config(
        model="openai:river-small",
        embed_model="hash",
        data_dir=tmp_path,
        port=free_port(),
        openai_base_url=f"http://127.0.0.1:{server.server_port}/v1",
        openai_api_key="the-key",
    )
    app = App(config, HashEmbedding())
    yield app
    app.stop()


@pytest.fixture
def page(new_page: NewPage) -> Page:
    page = new_page()
    expect(page.locator("#model input")).to_have_value("river-small", timeout=PATIENCE)
    return page


def choose(page: Page, model: str) -> None:
    page.locator("#model input").click()
    page.get_by_role("option", name=model).click()


def test_a_model_of_the_server_is_chosen_and_streams(page: Page) -> None:
    choose(page, "river-large")
    ask(page, "How does streaming work?")
    seen: list[str] = []
    while not page.locator("#chat .facts").count():
        text = page.locator("#chat .said").all_inner_texts()
        if text and text[0].startswith("word0") and text[0] not in seen:
            seen.append(text[0])
    assert len(seen) >= 3
    expect(page.locator("#chat .facts")).to_contain_text("river-large")
    assert answer(page) == "".join(WORDS).strip()
    assert Handler.asked[0] == ("river-large", "Bearer the-key")
    assert "the-key" not in page.content()


def test_thoughts_are_open_while_they_are_all_there_is_then_folded(page: Page) -> None:
    choose(page, "river-thinker")
    ask(page, "How does streaming work?")
    thoughts = page.locator("#chat details.reasoning")
    expect(thoughts).to_have_attribute("open", "")
    expect(thoughts).to_contain_text("thought3")
    expect(page.locator("#chat .facts")).to_contain_text("river-thinker")
    expect(thoughts).not_to_have_attribute("open", "")
    assert thoughts.inner_text() == "Thoughts"
    assert answer(page) == "".join(WORDS).strip()
    thoughts.locator("summary").click()
    expect(thoughts).to_contain_text("<b>thought0</b>")  # what a model writes is text
    page.reload()
    expect(page.locator("#chat details.reasoning")).to_have_count(1)


def test_a_follow_up_shows_what_was_searched_for(page: Page) -> None:
    ask(page, "How does streaming work?")
    expect(page.locator("#chat .facts")).to_have_count(1)
    ask(page, "And what of it?")
    expect(page.locator("#chat .searched span").first).to_have_text(f"searched for: {CONDENSED}")
    wait_for_answers(page, 2)
