"""Conversations in the list, and what can be done with an answer."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from rag.config import DEFAULT_MODEL
from rag.errors import ModelError
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage
from rag.ui import writing
from tests.browser.conftest import LINES, App, NewPage, Says, Screenshot, scripted_app
from tests.browser.steps import (
    answer,
    ask,
    asked_of,
    conversations,
    mark,
    panel,
    upload_and_wait,
    wait_for_answers,
)

pytestmark = pytest.mark.browser

SLOW = f"{LINES[1][690]} {' '.join(f'word{n}' for n in range(60))}."


@pytest.fixture
def app(scripted: App) -> App:
    return scripted


def new_conversation(page: Page) -> None:
    page.get_by_role("button", name="New conversation").click()
    page.locator("#chat .welcome").wait_for()


def turn_to(page: Page, name: str) -> None:
    page.locator("#conversations .name", has_text=name).click()
    expect(page.locator("#conversations .current .name")).to_have_text(name)


def asked(page: Page) -> list[str]:
    return page.locator("#chat .asked").all_inner_texts()


def test_conversations_survive_a_reload_and_a_restart_and_never_cross(
    chromium_page: Callable[[App], Page], tmp_path: Path, harbour: Path
) -> None:
    app = scripted_app(tmp_path, {"scripted": ScriptedLLM(LINES[1][690])})
    try:
        one, other = chromium_page(app), chromium_page(app)
        upload_and_wait(one, harbour)
        ask(one, "What does a berth cost?")
        wait_for_answers(one, 1)
        new_conversation(one)
        ask(one, "And who lights the lamp?")
        wait_for_answers(one, 1)
        ask(other, "What is a token?")
        wait_for_answers(other, 1)
        for again in (lambda: None, lambda: (app.stop(), app.start())):
            for page in (one, other):
                page.goto("about:blank")  # or it would load itself again, in the midst of the visit
            again()
            for page, names in (
                (one, ["And who lights the lamp?", "What does a berth cost?"]),
                (other, ["What is a token?"]),
            ):
                page.goto(app.address)
                wait_for_answers(page, 1)
                assert conversations(page) == names
                assert asked(page) == names[:1]
            turn_to(one, "What does a berth cost?")
            expect(one.locator("#chat .asked")).to_have_text("What does a berth cost?")
            mark(one, 0).click()  # the marks are kept, and the document they lead to
            expect(one.locator("#panel .sheet .spot")).to_have_count(1)
            turn_to(one, "And who lights the lamp?")
            expect(panel(one)).to_have_count(0)  # it belongs to the other conversation
    finally:
        app.stop()


@pytest.fixture
def chromium_page(request: pytest.FixtureRequest) -> Callable[[App], Page]:
    """Opens an app that a test has made in a browser of its own."""
    chromium = request.getfixturevalue("chromium")

    def open_page(app: App) -> Page:
        context = chromium.new_context(viewport={"width": 1280, "height": 800})
        request.addfinalizer(context.close)
        page = context.new_page()
        page.goto(app.address)
        page.wait_for_selector("#documents .documents")
        return page

    return open_page


def test_rename_and_delete(page: Page, says: Says) -> None:
    says("Yes.")
    ask(page, "What is a token?")
    wait_for_answers(page, 1)
    new_conversation(page)
    ask(page, "What is a passage?")
    wait_for_answers(page, 1)
    page.get_by_role("button", name="Rename What is a passage?").click()
    field = page.get_by_role("textbox", name="Rename What is a passage?")
    expect(field).to_be_focused()
    field.fill("Passages <b>of</b> time")
    field.press("Enter")
    expect(page.locator("#conversations .current .name")).to_have_text("Passages <b>of</b> time")
    page.get_by_role("button", name="Rename Passages").click()
    page.get_by_role("textbox", name="Rename Passages").fill("never mind")
    page.keyboard.press("Escape")
    assert conversations(page) == ["Passages <b>of</b> time", "What is a token?"]
    page.get_by_role("button", name="Delete Passages").click()
    expect(page.locator("#chat .asked")).to_have_text("What is a token?")
    assert conversations(page) == ["What is a token?"]
    page.reload()
    wait_for_answers(page, 1)
    assert conversations(page) == ["What is a token?"]


def test_saved_as_a_file_with_its_citations(
    page: Page, says: Says, harbour: Path, tmp_path: Path
) -> None:
    upload_and_wait(page, harbour)
    says(LINES[1][690])
    ask(page, "What does a berth cost?")
    wait_for_answers(page, 1)
    saved = {}
    for kind in ("md", "json"):
        with page.expect_download() as download:
            page.get_by_label("Save What does a berth cost?").select_option(kind)
        assert download.value.suggested_filename == f"What does a berth cost.{kind}"
        download.value.save_as(tmp_path / kind)
        saved[kind] = (tmp_path / kind).read_text("utf-8")
    assert saved["md"].startswith("# What does a berth cost?")
    assert re.search(r"A berth costs 14 euros a night\.\s*\[\d\]", saved["md"])
    assert "harbour.pdf" in saved["md"]
    [turn] = json.loads(saved["json"])["turns"]
    [citation] = turn["answers"][0]["citations"]
    assert citation["support"] == "supported"
    assert citation["quote"] == LINES[1][690]
    [source] = [s for s in turn["answers"][0]["sources"] if s["number"] == citation["source"]]
    assert source["file"] == "harbour.pdf"


def test_another_conversation_is_looked_at_while_an_answer_is_written(
    page: Page, says: Says
) -> None:
    says("Yes, that is short.")
    ask(page, "What is a token?")
    wait_for_answers(page, 1)
    new_conversation(page)
    says(SLOW, tokens_per_second=10)
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word5")
    turn_to(page, "What is a token?")
    assert answer(page) == "Yes, that is short."
    expect(page.locator("#box .submit-button")).to_be_visible()
    page.wait_for_timeout(1000)
    assert answer(page) == "Yes, that is short."  # nothing of the other comes in
    turn_to(page, "Tell me more.")
    expect(page.locator("#chat .writing")).to_have_count(1)
    expect(page.locator("#box .stop-button")).to_be_visible()
    wait_for_answers(page, 1)
    assert answer(page) == SLOW
    expect(page.locator("#box .submit-button")).to_be_visible()


def test_an_answer_goes_on_over_a_reload(page: Page, says: Says) -> None:
    llm = says(SLOW, tokens_per_second=8)
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word5")
    page.reload()
    expect(page.locator("#chat .writing .said")).to_contain_text("word9")
    expect(page.locator("#box .stop-button")).to_be_visible()
    wait_for_answers(page, 1)
    assert answer(page) == SLOW
    assert len(asked_of(llm)) == 1  # it is the same answer


def test_stop_after_a_reload(page: Page, says: Says) -> None:
    llm = says(SLOW, tokens_per_second=5)
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word2")
    page.reload()
    page.locator("#box .stop-button").click()
    wait_for_answers(page, 1)
    assert "stopped" in page.locator("#chat .facts").inner_text()
    steps = llm.steps
    page.wait_for_timeout(700)
    assert llm.steps == steps


def test_a_status_with_the_seconds_stands_where_the_answer_comes(
    page: Page, says: Says, screenshot: Screenshot
) -> None:
    says("The answer comes late.", first_token=3)
    ask(page, "What is a token?")
    status = page.locator("#chat .status")
    expect(status).to_be_visible()
    expect(status).to_have_text(re.compile(r"\w.* [1-9]\.\d s"))
    top = (status.bounding_box() or {})["y"]
    screenshot(page, "waiting")
    first = page.locator("#chat .said").first
    first.wait_for()
    assert (first.bounding_box() or {})["y"] == pytest.approx(top, abs=1)
    wait_for_answers(page, 1)
    expect(page.locator("#chat .facts")).to_contain_text(re.compile(r"first token 3\.\d s"))


def test_what_was_searched_for_is_shown_and_can_be_changed(
    page: Page, says: Says, harbour: Path
) -> None:
    upload_and_wait(page, harbour)

    def script(messages: Sequence[ChatMessage]) -> str:
        condensing = "A conversation:" in messages[-1].content
        return "What is the tower's colour?" if condensing else "So it is."

    llm = says(script)
    ask(page, "What does the keeper do?")
    wait_for_answers(page, 1)
    ask(page, "And its colour?")
    wait_for_answers(page, 2)
    searched = page.locator("#chat .searched")
    expect(searched).to_contain_text("searched for: What is the tower's colour?")
    searched.get_by_role("button", name="Edit").click()
    field = page.get_by_role("textbox", name="Search for something else")
    field.fill("What does a berth cost a night?")
    field.press("Enter")
    expect(searched).to_contain_text("searched for: What does a berth cost a night?")
    wait_for_answers(page, 2)
    assert asked(page) == ["What does the keeper do?", "And its colour?"]
    assert "What does a berth cost a night?" in asked_of(llm)[-1][0]


def test_an_error_stands_where_the_answer_was_and_retry_asks_again(
    page: Page, says: Says, screenshot: Screenshot
) -> None:
    says("The tower is white.", error=ModelError("The server is away."), error_after=3)
    ask(page, "What is the tower like?")
    expect(page.locator("#chat .error")).to_contain_text("The server is away.")
    assert answer(page) == "The tower is"
    screenshot(page, "answer-error")
    says("The tower is white.")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#chat .error")).to_have_count(0)
    wait_for_answers(page, 1)
    assert answer(page) == "The tower is white."


def test_two_models_side_by_side(page: Page, says: Says, screenshot: Screenshot) -> None:
    says("Streaming sends words as they are made.", tokens_per_second=10, first_token=1)
    says("It comes word by word.", model=DEFAULT_MODEL, tokens_per_second=30, first_token=0.1)
    ask(page, "How does streaming work?")
    wait_for_answers(page, 1)
    page.get_by_label("Compare with another model").select_option(DEFAULT_MODEL)
    wait_for_answers(page, 2)
    assert [answer(page, n) for n in (0, 1)] == [
        "Streaming sends words as they are made.",
        "It comes word by word.",
    ]
    facts = page.locator("#chat .facts").all_inner_texts()
    for fact, model, first, fastest in zip(  # a busy machine makes them slower, never faster
        facts, ("scripted", "SmolLM2-135M-Instruct"), (1, 0.1), (15, 60), strict=True
    ):
        [(named, waited, speed)] = re.findall(
            r"^(.+) · first token ([\d.]+) s.* (\d+) tokens/s", fact
        )
        assert named == model
        assert float(waited) >= first
        assert 0 < int(speed) < fastest
    left, right = (page.locator("#chat .answer").nth(n).bounding_box() or {} for n in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    screenshot(page, "compared")
    page.locator("#chat .answer").nth(1).get_by_role("button", name="Keep only this").click()
    expect(page.locator("#chat .answer")).to_have_count(1)
    assert answer(page) == "It comes word by word."
    page.get_by_label("Compare with another model").select_option("…")
    field = page.get_by_role("textbox", name="Name of the model")
    field.fill("scripted")
    field.press("Enter")
    wait_for_answers(page, 2)
    assert answer(page, 1).startswith("Streaming sends words")


def test_further_questions_are_asked_by_a_click(
    page: Page, says: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "suggest", lambda *of: (q for q in ("", "What is a passage?")))
    says("A piece of a word.")
    ask(page, "What is a token?")
    wait_for_answers(page, 1)
    suggestion = page.locator("#chat .suggestions button")
    expect(suggestion).to_have_text("What is a passage?")
    suggestion.click()
    wait_for_answers(page, 2)
    assert asked(page) == ["What is a token?", "What is a passage?"]


def test_the_next_question_does_not_wait_for_suggestions(page: Page, says: Says) -> None:
    """They are asked of the model as well, which takes its time; so does who presses twice."""
    says("Yes.", first_token=2)
    ask(page, "What is a token?")
    wait_for_answers(page, 1)
    page.locator("#box textarea").fill("What is a passage?")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("#chat .status")).to_be_visible()
    wait_for_answers(page, 2)
    assert asked(page) == ["What is a token?", "What is a passage?"]
    expect(page.locator("#box textarea")).to_have_value("")


def test_another_question_stops_the_answer_before(page: Page, says: Says) -> None:
    says(SLOW, tokens_per_second=5)
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word2")
    says("Yes.", tokens_per_second=5)  # a pace is that of what is being said, too
    ask(page, "What is a token?")
    wait_for_answers(page, 2)
    assert asked(page) == ["Tell me more.", "What is a token?"]
    expect(page.locator("#chat .facts").first).to_contain_text("stopped")
    assert answer(page, 1) == "Yes."


def test_thumbs_and_comments_are_kept_for_who_runs_the_page(
    app: App, page: Page, says: Says
) -> None:
    says("Marmalade is orange.")
    ask(page, "What colour is marmalade?")
    wait_for_answers(page, 1)
    good = page.get_by_role("button", name="Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Bad answer").click()
    expect(good).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Say why").click()
    field = page.get_by_role("textbox", name="Say why")
    field.fill("It is more of an amber.")
    field.press("Enter")
    page.get_by_text("Thank you.").wait_for()
    kept = [
        record
        for line in (app.config.data_dir / "feedback.jsonl").read_text("utf-8").splitlines()
        if (record := json.loads(line))["question"] == "What colour is marmalade?"
    ]
    assert [(record["rating"], record["comment"]) for record in kept] == [
        (1, ""),
        (-1, ""),
        (-1, "It is more of an amber."),
    ]
    page.reload()
    expect(page.get_by_role("button", name="Bad answer")).to_have_attribute("aria-pressed", "true")


def test_chosen_documents_and_plain_chat(page: Page, says: Says, tmp_path: Path) -> None:
    for name, text in {"a.txt": "Anna plays the oboe.", "b.txt": "Anna plays chess."}.items():
        (tmp_path / name).write_text(text)
    upload_and_wait(page, tmp_path / "a.txt", tmp_path / "b.txt")
    llm = says("So it is.")
    choose(page, "scope", "chosen documents")
    ask(page, "What does Anna play?")
    expect(page.locator("#chat .error")).to_contain_text("No document is chosen")
    choose(page, "chosen", "b.txt")
    page.keyboard.press("Escape")
    before = page.locator("#chat .answer").get_attribute("data-k") or ""
    page.get_by_role("button", name="Retry").click()  # with what was chosen then: nothing
    expect(page.locator("#chat .answer")).not_to_have_attribute("data-k", before)
    wait_for_answers(page, 1)
    ask(page, "What does Anna play?")
    expect(page.locator("#chat .answer").nth(1).locator("button.source")).to_have_count(1)
    expect(page.locator("#chat .answer").nth(1).locator("button.source")).to_contain_text("b.txt")
    choose(page, "scope", "nothing: plain chat")
    expect(page.locator("#chosen")).to_be_hidden()
    ask(page, "Hello there")
    wait_for_answers(page, 3)
    assert page.locator("#chat .answer").nth(2).locator("button.source, .cite").count() == 0
    assert asked_of(llm)[-1][0].endswith("\nHello there")  # and what was said before


def choose(page: Page, field: str, option: str) -> None:
    page.locator(f"#{field} input").click()
    page.get_by_role("option", name=option).click()


def test_a_second_tab_has_a_conversation_of_its_own(
    page: Page, new_tab: Callable[[BrowserContext], Page], says: Says
) -> None:
    says(SLOW, tokens_per_second=4)
    ask(page, "Tell me more.")
    expect(page.locator("#chat .said")).to_contain_text("word2")
    other = new_tab(page.context)
    expect(other.locator("#chat .writing .said")).to_contain_text("word")  # it looks on
    new_conversation(other)
    says(SLOW)  # the rest comes at once
    wait_for_answers(page, 1)
    assert answer(page) == SLOW
    assert asked(other) == []


def test_a_question_that_is_too_long_stays_in_the_box(page: Page, says: Says) -> None:
    question = "why " * 2500
    page.locator("#box textarea").fill(question)
    page.locator("#box .submit-button").click()
    page.get_by_text("The question has more than 8,000 characters").wait_for()
    assert page.locator("#box textarea").input_value().strip() == question.strip()
    expect(page.locator("#chat .welcome")).to_be_visible()


def test_many_conversations_and_long_names(
    new_page: NewPage, says: Says, screenshot: Screenshot, tmp_path: Path
) -> None:
    page = new_page(height=700)
    says("Yes.")
    name = f"{'a-very-long-name-of-a-file-' * 6}.txt"
    (tmp_path / name).write_text("Short.")
    upload_and_wait(page, tmp_path / name)
    for number in range(12):
        ask(page, f"Question {number} of many, which is a long one that does not fit on a line?")
        wait_for_answers(page, 1)
        new_conversation(page)
    assert len(conversations(page)) == 12
    screenshot(page, "many-conversations")
    assert page.locator("#left .sidebar-content").evaluate("e => e.scrollWidth <= e.clientWidth")
    page.locator("#conversations .name").last.click()
    expect(page.locator("#chat .asked")).to_have_text(re.compile("Question 0"))
