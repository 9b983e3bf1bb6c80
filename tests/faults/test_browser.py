"""A browser that goes away or sleeps while an answer is written, and an app that is restarted
behind an open page."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from gradio import networking
from playwright.sync_api import Browser, BrowserContext, Page, expect

from rag.ui import writing
from tests.browser.conftest import PATIENCE, App, scripted_app
from tests.browser.steps import answer, ask, wait_for_answers
from tests.faults.serving import ANSWER, Serving, Wire
from tests.ui.pages import Gated, eventually

pytestmark = pytest.mark.browser

LOST = "The connection to Rivulet is lost."
TYPED = "What I had begun to type"
Open = Callable[..., Page]


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    serving = Serving(tmp_path_factory.mktemp("data"))
    yield serving
    serving.kill()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    errors: list[str] = []
    context.on("weberror", lambda error: errors.append(str(error.error)))
    yield context
    context.close()
    assert errors == []


@pytest.fixture
def wire(serving: Serving) -> Iterator[Wire]:
    wire = Wire(serving.port)
    yield wire
    wire.close()


def opened(context: BrowserContext, address: str) -> Page:
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address)
    settled(page)
    return page


def settled(page: Page) -> None:
    """Until nothing is asked of the server by itself any more."""
    page.wait_for_selector("#documents .documents")
    expect(page.locator("#preparing")).to_have_text("")


def begun(page: Page) -> None:
    """An answer of which a few words are there."""
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word2")


def over(page: Page, count: int = 1) -> None:
    """The answer is there to its end, and no click was needed."""
    wait_for_answers(page, count)
    assert answer(page, count - 1) == ANSWER
    assert "stopped" not in page.locator("#chat .facts").last.inner_text()
    expect(page.locator("#lost")).to_be_hidden()


class TestGoing:
    def test_a_tab_that_is_closed_finds_the_answer_written_to_its_end(
        self, serving: Serving, context: BrowserContext
    ) -> None:
        page = opened(context, serving.address)
        begun(page)
        page.close()
        eventually(lambda: ANSWER in serving.kept())
        over(opened(context, serving.address))

    @pytest.fixture
    def gated(self) -> Gated:
        return Gated()

    @pytest.fixture
    def app(self, tmp_path: Path, gated: Gated) -> Iterator[App]:
        app = scripted_app(tmp_path, {"scripted": gated})
        yield app
        gated.gate.set()
        app.stop()

    def test_where_nobody_comes_back_it_is_stopped_kept_and_nothing_is_left_running(
        self,
        app: App,
        gated: Gated,
        context: BrowserContext,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(writing, "UNWATCHED", 0.5)
        page = opened(context, app.address)
        ask(page, "Tell me more.")
        expect(page.locator("#chat .said")).to_have_text("Half")
        page.close()
        assert gated.closed.wait(60)  # Gradio takes some seconds to see it
        eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("answer ")])
        eventually(lambda: not any(app.page._queue.active_jobs))
        (session,) = app.backend.sessions._sessions.values()
        assert not session.busy
        page = opened(context, app.address)
        wait_for_answers(page, 1)
        assert answer(page) == "Half"
        assert "stopped" in page.locator("#chat .facts").inner_text()
        monkeypatch.undo()  # on a busy machine the page looks on later than that
        gated.gate.set()
        ask(page, "And now?")
        wait_for_answers(page, 2)
        assert answer(page, 1) == "Half and half."

    def test_the_network_is_gone_without_a_word(
        self, serving: Serving, wire: Wire, context: BrowserContext
    ) -> None:
        """Nothing is closed: neither end is told. The answer goes on, and when the network is back
        the page notices by itself that its connection is dead."""
        page = opened(context, f"http://127.0.0.1:{wire.port}")
        begun(page)
        wire.cut()
        page.locator("#box textarea").fill(TYPED)
        eventually(lambda: ANSWER in serving.kept())
        assert answer(page) != ANSWER
        wire.mend()
        over(page)
        expect(page.locator("#box textarea")).to_have_value(TYPED)

    def test_a_question_that_does_not_get_through(
        self, serving: Serving, wire: Wire, context: BrowserContext
    ) -> None:
        page = opened(context, f"http://127.0.0.1:{wire.port}")
        wire.cut()
        ask(page, TYPED)
        expect(page.locator("#lost")).to_contain_text(LOST)
        wire.mend()
        expect(page.locator("#lost")).to_be_hidden()
        settled(page)
        # Browsers may send it again over another connection.
        if not page.locator("#chat .asked").count():
            expect(page.locator("#box textarea")).to_have_value(TYPED)
            page.locator("#box textarea").focus()
            page.keyboard.press("Enter")
        expect(page.locator("#chat .asked")).to_have_text(TYPED)
        over(page)


def lifecycle(page: Page, state: str) -> None:
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": state})


class TestSleeping:
    def test_a_tab_that_is_frozen(self, serving: Serving, context: BrowserContext) -> None:
        page = opened(context, serving.address)
        begun(page)
        lifecycle(page, "frozen")
        eventually(lambda: ANSWER in serving.kept())
        lifecycle(page, "active")
        over(page)

    def test_a_tab_that_is_frozen_and_loses_its_connections(
        self, serving: Serving, wire: Wire, context: BrowserContext
    ) -> None:
        """What a computer that is closed, or a telephone in a pocket, does to a page."""
        page = opened(context, f"http://127.0.0.1:{wire.port}")
        begun(page)
        page.locator("#box textarea").fill(TYPED)
        lifecycle(page, "frozen")
        wire.cut()
        wire.drop()
        wire.mend()
        eventually(lambda: ANSWER in serving.kept())
        lifecycle(page, "active")
        over(page)
        expect(page.locator("#box textarea")).to_have_value(TYPED)

    def test_offline_and_online_again(self, serving: Serving, context: BrowserContext) -> None:
        page = opened(context, serving.address)
        begun(page)
        context.set_offline(True)
        expect(page.locator("#lost")).to_contain_text(LOST)
        eventually(lambda: ANSWER in serving.kept())
        context.set_offline(False)
        over(page)
        ask(page, "And now?")
        over(page, 2)


class TestRestarting:
    def test_in_the_middle_of_an_answer(self, serving: Serving, chromium: Browser) -> None:
        """Killed; in German."""
        serving.kill()
        serving.start(pace=4)
        context = chromium.new_context(locale="de-DE")
        page = opened(context, serving.address)
        begun(page)
        page.locator("#box textarea").fill(TYPED)
        eventually(lambda: "word9" in serving.kept())
        serving.kill()
        expect(page.locator("#lost")).to_contain_text("Die Verbindung zu Rivulet ist unterbrochen.")
        expect(page.locator(".toast-body:visible")).to_have_count(0)
        serving.start()
        expect(page.locator("#lost")).to_be_hidden()
        wait_for_answers(page, 1)
        assert "word9" in answer(page)
        assert "abgebrochen" in page.locator("#chat .facts").inner_text()
        expect(page.locator("#box textarea")).to_have_value(TYPED)
        page.locator("#box textarea").focus()
        page.keyboard.press("Enter")
        wait_for_answers(page, 2)
        assert answer(page, 1) == ANSWER
        expect(page.locator("#box textarea")).to_have_value("")
        context.close()

    def test_while_nothing_is_asked(self, serving: Serving, context: BrowserContext) -> None:
        page = opened(context, serving.address)
        serving.kill()
        serving.start()
        expect(page.locator("#lost")).to_be_hidden()  # it is seen if something was on its way
        settled(page)
        ask(page, "And now?")
        over(page)

    def test_a_question_is_asked_while_it_is_away(
        self, serving: Serving, context: BrowserContext
    ) -> None:
        page = opened(context, serving.address)
        serving.kill()
        ask(page, TYPED)
        expect(page.locator("#lost")).to_contain_text(LOST)
        expect(page.locator(".toast-body:visible")).to_have_count(0)
        serving.start()
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#box textarea")).to_have_value(TYPED)
        page.locator("#box textarea").focus()
        page.keyboard.press("Enter")
        over(page)

    def test_the_question_that_is_being_changed(
        self, serving: Serving, context: BrowserContext
    ) -> None:
        page = opened(context, serving.address)
        ask(page, "And now?")
        over(page)
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_role("textbox", name="Change the question").fill(TYPED)
        serving.kill()
        page.get_by_role("button", name="OK").click()
        expect(page.locator("#lost")).to_contain_text(LOST)
        serving.start()
        expect(page.locator("#lost")).to_be_hidden()
        expect(page.locator("#box textarea")).to_have_value(TYPED)

    def test_on_a_machine_that_is_too_busy_to_answer_itself(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(networking, "url_ok", lambda _: False)
        app = scripted_app(tmp_path, {"scripted": Gated()})
        assert httpx.get(app.address).status_code == 200
        app.stop()

    def test_with_a_login_what_was_typed_is_there_for_the_same_user_alone(
        self, tmp_path: Path, context: BrowserContext
    ) -> None:
        serving = Serving(tmp_path, RAG_AUTH="ann:plum,ben:pear")
        try:
            page = context.new_page()
            page.goto(serving.address)
            for user, password, left in (("ann", "plum", TYPED), ("ben", "pear", "")):
                log_in(page, "ann", "plum")
                page.locator("#box textarea").fill(TYPED)
                serving.kill()
                serving.start()
                page.keyboard.press("Enter")  # the login is forgotten; the page may have noticed
                log_in(page, user, password)
                expect(page.locator("#box textarea")).to_have_value(left)
                page.locator("#box textarea").fill("")
                page.get_by_text("Log out").click()
        finally:
            serving.kill()


def log_in(page: Page, user: str, password: str) -> None:
    page.locator("input[type=password]").wait_for()
    page.locator("input").first.fill(user)
    page.locator("input[type=password]").fill(password)
    page.get_by_role("button", name="Login").click()
    settled(page)
