"""Every setting acts, belongs to its session, and is kept."""

import time

import pytest
from playwright.sync_api import Page, expect

from rag.config import DEFAULT_MODEL
from tests.browser.conftest import PATIENCE, App, NewPage, Says, Screenshot
from tests.browser.steps import answer, ask, asked_of, sources, wait_for_answers

pytestmark = pytest.mark.browser

KEPT = "preferences.json"


@pytest.fixture
def app(scripted: App) -> App:
    return scripted


def open_settings(page: Page) -> None:
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Style")).to_be_visible()
    # What a field was to show before it was there, Gradio gives to it in the next frame.
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(done, 100)))")


def set_number(page: Page, name: str, value: float) -> None:
    field = page.get_by_role("spinbutton", name=name)
    field.fill(str(value))
    field.press("Tab")


def choose(page: Page, name: str, option: str) -> None:
    page.get_by_label(name).click()
    page.get_by_role("option", name=option, exact=True).click()


def set_prompt(page: Page, app: App, prompt: str) -> None:
    field = page.get_by_label("System prompt")
    field.press_sequentially(prompt)
    field.press("Tab")
    wait_until_kept(page, app, prompt)


def wait_until_kept(page: Page, app: App, *texts: str) -> None:
    """Until the program has all of them on disk, of one session."""
    until = time.monotonic() + PATIENCE / 1000
    kept: list[str] = []
    while not any(all(text in each for text in texts) for each in kept):
        assert time.monotonic() < until, kept
        page.wait_for_timeout(50)
        kept = [file.read_text() for file in app.config.data_dir.rglob(KEPT)]


def test_each_setting_acts_and_reset_takes_all_back(
    page: Page, app: App, says: Says, screenshot: Screenshot
) -> None:
    llm = says("One two three four five six seven eight nine ten " * 4)
    open_settings(page)
    set_number(page, "Number of passages", 2)
    set_number(page, "Length of an answer", 16)
    set_number(page, "Temperature", 0.7)
    choose(page, "Style", "in simple words")
    choose(page, "Language of the answer", "Deutsch")
    set_prompt(page, app, "You are a lighthouse keeper.")
    wait_until_kept(page, app, "lighthouse", '"top_k": 2,', '"max_tokens": 16,')
    screenshot(page, "settings")
    ask(page, "How does streaming work?")
    wait_for_answers(page, 1)
    expect(sources(page)).to_have_count(2)
    assert len(answer(page).split()) == 16
    expect(page.locator("#chat .facts")).to_contain_text("cut short")
    told, options = asked_of(llm)[-1]
    assert (options["max_tokens"], options["temperature"]) == (16, 0.7)
    assert "You are a lighthouse keeper." in told
    assert "in a full sentence of simple words" in told
    assert "Deutsch" in told

    page.reload()
    open_settings(page)
    expect(page.get_by_role("spinbutton", name="Number of passages")).to_have_value("2")
    expect(page.get_by_role("spinbutton", name="Length of an answer")).to_have_value("16")
    expect(page.get_by_role("spinbutton", name="Temperature")).to_have_value("0.7")
    expect(page.get_by_label("Style")).to_have_value("in simple words")
    expect(page.get_by_label("Language of the answer")).to_have_value("Deutsch")
    expect(page.get_by_label("System prompt")).to_have_value("You are a lighthouse keeper.")

    page.get_by_role("button", name="Reset", exact=True).click()
    expect(page.get_by_label("System prompt")).to_have_value("")
    expect(page.get_by_label("Style")).to_have_value("usual")
    ask(page, "How does streaming work?")
    wait_for_answers(page, 2)
    expect(sources(page, 1)).to_have_count(3)
    told, options = asked_of(llm)[-1]
    assert options["max_tokens"] == 256
    assert "lighthouse" not in told
    assert "Deutsch" not in told


def test_settings_belong_to_their_session(new_page: NewPage, app: App, says: Says) -> None:
    llm = says("Yes.")
    one, other = new_page(), new_page()
    open_settings(one)
    set_prompt(one, app, "You are a secret keeper.")
    ask(other, "How does streaming work?")
    wait_for_answers(other, 1)
    assert "secret" not in asked_of(llm)[-1][0]
    other.reload()
    open_settings(other)
    expect(other.get_by_label("System prompt")).to_have_value("")
    ask(one, "How does streaming work?")
    wait_for_answers(one, 1)
    assert "secret" in asked_of(llm)[-1][0]


def test_the_model_that_was_asked_last_is_offered_first(page: Page, says: Says) -> None:
    says("I am the other.", model=DEFAULT_MODEL)
    page.locator("#model input").click()
    page.get_by_role("option", name="SmolLM2-135M-Instruct").click()
    ask(page, "Who are you?")
    wait_for_answers(page, 1)
    assert answer(page) == "I am the other."
    page.reload()
    expect(page.locator("#model input")).to_have_value("SmolLM2-135M-Instruct")
