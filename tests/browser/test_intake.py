"""Files are taken in behind the page: seen through a reload, cancelled, asked about meanwhile."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from rag.errors import DocumentError
from rag.index.embedding import Embedded, HashEmbedding
from rag.llms.scripted import ScriptedLLM
from rag.ui.jobs import Event
from tests.browser.conftest import PATIENCE, App, Screenshot, scripted_app
from tests.browser.steps import ask, sources, upload

pytestmark = pytest.mark.browser

ANSWER = "The answer is in the passage."
LONG = "".join(f"Sentence {n} of many speaks of herons and of the river.\n\n" for n in range(6000))


class Slow(HashEmbedding):
    """Takes as long as a real model on a small machine; for a report, until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        time.sleep(0.02 * len(texts) if len(texts) > 4 else 0)
        if any("report" in text for text in texts):
            assert self.may_go_on.wait(PATIENCE / 1000)
        return super().embed(texts)


@dataclass
class Fetched:
    path: Path
    name: str
    url: str


def fetch(address: str, folder: Path) -> Fetched:
    if "heron" not in address:
        raise DocumentError(address, "there is no such page.")
    time.sleep(1)
    (folder / "page.html").write_text("<h1>Herons</h1><p>The heron of this page is purple.</p>")
    return Fetched(folder / "page.html", "example.com › heron.html", address)


def app_in(data_dir: Path) -> App:
    app = scripted_app(data_dir, {"scripted": ScriptedLLM(ANSWER)}, Slow())
    app.backend.intake._fetch = fetch
    return app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    app = app_in(tmp_path_factory.mktemp("data"))
    yield app
    app.stop()


@pytest.fixture
def long(tmp_path: Path) -> Path:
    file = tmp_path / "long.txt"
    file.write_text(LONG)
    return file


def states(page: Page) -> list[str]:
    return page.locator("[aria-label='My documents'] .state").all_inner_texts()


def wait_for_state(page: Page, text: str) -> None:
    page.locator("[aria-label='My documents'] .state").get_by_text(text).first.wait_for()


def test_progress_survives_a_reload_and_is_seen_in_a_second_tab(
    page: Page, new_tab: Callable[..., Page], long: Path, screenshot: Screenshot
) -> None:
    upload(page, long)
    wait_for_state(page, "a second")
    before = states(page)[0]
    screenshot(page, "intake")
    page.reload()
    wait_for_state(page, "searchable")
    wait_for_state(page, "a second")
    assert states(page)[0] != before
    assert page.locator("#scope input").input_value() == "my documents"
    other = new_tab(page.context)
    wait_for_state(other, "searchable")
    for one in (page, other):
        expect(one.locator("#notes .note.good")).to_have_text(
            "long.txt is ready.", timeout=PATIENCE
        )
        wait_for_state(one, "ready, ")
    page.reload()
    expect(page.locator("#notes .note.good")).to_have_text("long.txt is ready.")
    page.get_by_role("button", name="Dismiss these messages").click()
    expect(page.locator("#notes .note")).to_have_count(0)


def test_nothing_is_asked_of_the_server_while_nothing_is_on_its_way(
    page: Page, tmp_path: Path
) -> None:
    page.wait_for_timeout(2500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert [url for url in asked if "queue/join" in url] == []
    (tmp_path / "a.txt").write_text("The heron is grey.")
    upload(page, tmp_path / "a.txt")  # the tab comes to life again
    wait_for_state(page, "ready, ")
    page.wait_for_timeout(2500)
    asked.clear()
    page.wait_for_timeout(2500)
    assert [url for url in asked if "queue/join" in url] == []


def test_cancel_one_then_all(page: Page, long: Path, tmp_path: Path) -> None:
    others = [tmp_path / f"other{n}.txt" for n in range(3)]
    for number, other in enumerate(others):
        other.write_text(LONG + number * "More of herons.\n\n")
    upload(page, long, *others)
    wait_for_state(page, "a second")
    page.get_by_role("button", name="Cancel other1.txt").click()
    expect(page.locator("#notes .note.cancelled")).to_have_text(
        "other1.txt: cancelled; nothing was added."
    )
    # The list is made anew several times a second: the keyboard's place in it stays.
    page.get_by_role("button", name="Cancel all").focus()
    page.wait_for_timeout(2000)
    page.keyboard.press("Enter")
    expect(page.locator("#notes .note.cancelled")).to_have_count(4)
    expect(page.locator("[aria-label='My documents']")).to_have_count(0)


def test_a_question_does_not_wait_for_the_vectors(page: Page, long: Path) -> None:
    upload(page, long)
    wait_for_state(page, "embedded")
    expect(page.locator("#scope input")).to_have_value("my documents")
    ask(page, "What of the heron?")
    expect(page.locator("#chat .facts")).to_have_count(1)
    expect(sources(page).first).to_contain_text("long.txt")  # by its words
    wait_for_state(page, "embedded")  # it is still going on
    page.get_by_role("button", name="Cancel long.txt").click()
    expect(page.locator("#notes .note.cancelled")).to_have_count(1)


def test_a_question_with_a_file_in_the_box_waits_for_its_words(
    app: App, page: Page, long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, take_in = threading.Event(), app.backend.intake._take_in

    def slow(*of: Any) -> Iterator[Event]:
        assert read.wait(PATIENCE / 1000)
        yield from take_in(*of)

    monkeypatch.setattr(app.backend.intake, "_take_in", slow)
    page.locator("#box input[type=file]").set_input_files(long)
    page.wait_for_selector("#box .thumbnail-item")
    ask(page, "What of the heron?")
    expect(page.locator("#chat .status [role=status]")).to_have_text("Reading long.txt")
    read.set()
    expect(page.locator("#chat .facts")).to_have_count(1)
    expect(sources(page).first).to_contain_text("long.txt")  # by its words
    wait_for_state(page, "embedded")  # it is still going on
    page.get_by_role("button", name="Cancel long.txt").click()
    expect(page.locator("#notes .note.cancelled")).to_have_count(1)


def test_a_web_page_by_its_address(page: Page) -> None:
    box = page.get_by_role("textbox", name="Add a web page")
    box.fill("https://example.com/heron")
    box.press("Enter")
    wait_for_state(page, "fetching")
    expect(page.locator("#notes .note.good")).to_have_text("example.com › heron.html is ready.")
    assert box.input_value() == ""
    box.fill("https://example.com/crow")
    box.press("Enter")
    expect(page.locator("#notes .note.bad")).to_have_text(
        "https://example.com/crow: there is no such page."
    )


def test_what_was_interrupted_is_offered_after_a_restart(
    tmp_path: Path, chromium: Browser, long: Path, screenshot: Screenshot
) -> None:
    app = app_in(tmp_path / "data")
    context = chromium.new_context()
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(app.address)
        page.wait_for_selector("#documents .documents")
        other = tmp_path / "report.txt"
        other.write_text("The heron of the report is grey.")
        shutil.copy(long, tmp_path / "other.txt")
        upload(page, long, tmp_path / "other.txt")
        wait_for_state(page, "a second")
        slow = app.embedding
        assert isinstance(slow, Slow)
        slow.may_go_on.clear()
        upload(page, other)
        expect(page.locator("[aria-label='My documents'] li")).to_have_count(3)
        page.goto("about:blank")  # or it would load itself again, in the midst of the next visit
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(app.stop)
            while not app.backend.intake._closing:
                time.sleep(0.01)
            slow.may_go_on.set()
            stopped.result()
        app.start()
        page.goto(app.address)
        wait_for_state(page, "interrupted")
        expect(page.locator("[aria-label='My documents'] li")).to_have_count(3)
        screenshot(page, "interrupted")
        page.get_by_role("button", name="Remove other.txt").click()
        page.get_by_role("button", name="Add report.txt again").click()
        expect(page.locator("#notes .note.good")).to_have_text("report.txt is ready.")
        page.get_by_role("button", name="Add long.txt again").click()
        wait_for_state(page, "a second")
        page.get_by_role("button", name="Cancel long.txt").click()
        expect(page.locator("[aria-label='My documents'] li")).to_have_count(1)
    finally:
        context.close()
        app.stop()
