"""A question's way through the page: the handlers, driven as Gradio drives them."""

import asyncio
import dataclasses
import gc
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from rag.answering import prompts
from rag.answering.options import AnswerOptions
from rag.config import Config
from rag.errors import ModelUnavailableError, ProviderError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Searchable, ingest
from rag.llms.scripted import ScriptedLLM
from rag.preparation import Preparation
from rag.types import ChatMessage, Document
from rag.ui import chat as module
from rag.ui import writing
from rag.ui.backend import Backend
from rag.ui.chat import Asking, Chat, find
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.jobs import Job
from rag.ui.preferences import Preferences
from rag.ui.sessions import Session, Sessions
from tests.ui.conftest import asks
from tests.ui.pages import Gated, Page, Reading, event, eventually, said, skipped

MODEL = "scripted"
GUARD = 20
ANSWER = "The answer is in the passage."
Open = Callable[..., Page]


pytestmark = pytest.mark.usefixtures("suggested")


@pytest.fixture
def chat(backend: Backend) -> Chat:
    return Chat(backend)


@pytest.fixture
def open_page(chat: Chat, request_of: Callable[..., gr.Request]) -> Open:
    """Opens the page in a tab of a browser."""

    def open_(browser: int = 1, tab: str = "tab") -> Page:
        return Page(chat, request_of(browser, tab=tab))

    return open_


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page()


@pytest.fixture
def gated(backend: Backend) -> Iterator[Gated]:
    llm = Gated()
    backend.catalog.put("gated", llm)
    yield llm
    llm.gate.set()


def half(page: Page, gated: Gated, question: str = "Slow?", **asking: Any) -> Reading:
    """Ask what is half answered until the gate is opened."""
    gated.said_half.clear()
    reading = page.asks(question, "gated", **asking)
    assert gated.said_half.wait(GUARD)
    return reading


def questions(conversation: Conversation | None) -> list[str]:
    assert conversation
    return [turn.question for turn in conversation.turns]


def kept(page: Page, key: str = "") -> Conversation:
    """The conversation as it is on the disk."""
    found = Session(page.session.folder).conversation(key or page.key)
    assert found
    return found


def ended(page: Page) -> Answer:
    """The last answer, once it has ended."""
    answer = page.conversation.turns[-1].answers[-1]
    eventually(lambda: answer.finish_reason and not page.conversation.lock.locked())
    return answer


def keys(page: Page, number: int = -1) -> str:
    """What the buttons of an answer name: TURN:ANSWER."""
    turn = page.conversation.turns[number]
    return f"{turn.key}:{turn.answers[-1].key}"


class TestAsking:
    def test_views_grow_and_the_turn_is_kept(self, page: Page) -> None:
        answer = page.ask(" What of walnuts? ")
        (turn,) = page.conversation.turns
        assert turn.question == "What of walnuts?"
        assert answer.text == ANSWER
        assert answer.model == MODEL
        assert answer.finish_reason == "stop"
        assert answer.usage
        assert answer.timings.first_token is not None
        assert [hit.node.file_name for hit in answer.sources] == ["sample.txt"]
        assert kept(page).turns == [turn]
        # Growing text, then the whole with its facts.
        grown = [text for text in map(said, page.states) if text]
        assert all(later.startswith(earlier) for earlier, later in pairwise(grown))
        assert grown[-1] == page.said == ANSWER
        assert "scripted · first token" in page.text("facts")
        assert "1 passage" in page.text("facts")
        assert page.current == "What of walnuts?"

    def test_what_is_done_stands_in_the_answers_place(self, page: Page, backend: Backend) -> None:
        backend.catalog.put("late", ScriptedLLM(ANSWER, first_token=0.3))
        reading = page.asks("Why?", "late")
        eventually(lambda: page.text("status"))
        assert page.said == ""
        reading.end()
        assert page.text("status") == ""
        assert page.said == ANSWER

    def test_the_box_is_emptied_at_once_and_busy_until_the_end(self, page: Page) -> None:
        views = page.asks("Why?").end()
        first, *between, last = [box for _, box, _ in views if not skipped(box)]
        assert first["value"] is None
        assert first["stop_btn"] is True
        assert not between
        assert last["stop_btn"] is False
        assert last["submit_btn"] is True
        assert "value" not in last  # what is typed meanwhile stays

    def test_while_it_grows_nothing_else_is_an_output(self, page: Page) -> None:
        """Gradio makes each component anew of which it is told nothing."""
        views = page.asks("Why?").end()
        beside = [number for number, (_, box, _) in enumerate(views) if not skipped(box)]
        assert len(beside) == 2  # when it begins, and when it ends
        assert all(skipped(views[number][0]) for number in (*beside, -1))

    def test_the_first_piece_comes_at_once_and_a_fast_answer_in_few(
        self, page: Page, backend: Backend
    ) -> None:
        backend.catalog.put("slow", ScriptedLLM("word " * 8, tokens_per_second=8))
        backend.catalog.put("fast", ScriptedLLM("word " * 5000, tokens_per_second=1000))
        page.ask("Why?", model="slow")
        grown = {text for text in map(said, page.states) if text.startswith("word")}
        assert "word" in grown
        assert len(grown) > 5  # on a busy machine two may come together
        page.states.clear()
        begun = time.monotonic()
        page.ask("Why?", model="fast")
        took = time.monotonic() - begun
        assert len(page.states) < 15 * took + 5
        assert page.said == ("word " * page.chat.backend.config.max_new_tokens).strip()

    def test_to_send_a_state_may_take_a_while(self, page: Page, backend: Backend) -> None:
        """And still there are not more of them."""
        backend.catalog.put("quick", ScriptedLLM("word " * 100, tokens_per_second=100))

        async def count() -> int:
            states = 0
            asked = Asking("quick", "none")
            await page.chat.ask({"text": "Why?"}, asked, page.request)
            async for _ in page.chat.follow(page.request):
                states += 1
                await asyncio.sleep(1.5 * module.GLANCE)
            return states

        begun = time.monotonic()
        states = asyncio.run(count())
        assert states < (time.monotonic() - begun) / module.PACE + 5

    def test_the_longer_a_state_takes_the_fewer_there_are(
        self, page: Page, backend: Backend
    ) -> None:
        """So that many pages that look on leave time for all else."""
        backend.catalog.put("quick", ScriptedLLM("word " * 200, tokens_per_second=100))

        async def tell() -> list[float]:
            told = []
            await page.chat.ask({"text": "Why?"}, Asking("quick", "none"), page.request)
            async for _ in page.chat.follow(page.request):
                told.append(time.monotonic())
                await asyncio.sleep(0.01)
            return told

        told = asyncio.run(tell())
        steps = [later - earlier for earlier, later in pairwise(told)]
        assert max(steps) > 3 * module.PACE
        assert max(steps) < module.SLOWEST + 0.5

    @pytest.mark.parametrize("text", ["", "  \n", None])
    def test_nothing_is_asked_without_a_question(
        self, page: Page, llm: ScriptedLLM, text: str | None
    ) -> None:
        (_, box, _), *_ = page.asks(text).end()
        assert box["submit_btn"] is True
        assert page.conversation.turns == []
        assert llm.calls == []

    def test_a_question_that_is_too_long_is_left_in_the_box(
        self, page: Page, llm: ScriptedLLM
    ) -> None:
        with pytest.warns(UserWarning, match="more than 8,000 characters"):
            view, *_ = page.asks("x" * (Config().max_question + 1)).end()
        assert all(map(skipped, view))
        assert llm.calls == []
        assert page.conversation.turns == []
        page.ask("x" * Config().max_question)
        assert len(llm.calls) == 1

    def test_without_documents_no_model_is_called(self, page: Page, llm: ScriptedLLM) -> None:
        page.ask("Why?", scope="mine")
        assert page.said == prompts.NOTHING_FOUND
        assert "no model was asked" in page.text("facts")
        assert llm.calls == []

    def test_in_a_plain_chat_nothing_is_searched(self, page: Page, llm: ScriptedLLM) -> None:
        answer = page.ask("Walnuts?", "And?", scope="none")
        assert (answer.text, answer.sources) == (ANSWER, ())
        assert not any("sample speaks" in message.content for message in llm.calls[-1])
        assert [message.content for message in llm.calls[-1]] == ["Walnuts?", ANSWER, "And?"]
        assert page.leaves("sources") == []

    def test_a_plain_chat_does_not_wait_for_the_search_model(
        self, unstarted: Backend, request_of: Callable[..., gr.Request]
    ) -> None:
        page = Page(Chat(unstarted), request_of(1))
        assert page.ask("Why?", scope="none").text == ANSWER

    def test_only_the_chosen_documents_are_searched(self, page: Page, backend: Backend) -> None:
        with backend.sessions.store(page.session) as store:
            for name in ("one", "two"):
                document = Document(f"Apples of {name}.", {"file_name": f"{name}.txt"}, name)
                list(ingest(document, store, HashEmbedding()))
        answer = page.ask("Apples?", scope="chosen", documents=("two",))
        assert [hit.node.file_name for hit in answer.sources] == ["two.txt"]
        assert page.conversation.turns[0].documents == ("two",)
        page.ask("Apples?", scope="chosen")
        assert "No document is chosen" in page.text("error")
        page.ask("Apples?", scope="chosen", documents=("gone",))
        assert "None of the chosen documents is here any more" in page.text("error")

    def test_what_was_said_before_is_told_to_the_model(self, page: Page, llm: ScriptedLLM) -> None:
        page.ask("One?", "Two?")
        _, condensing, (*earlier, last) = llm.calls
        assert "One?" in condensing[0].content
        assert [message.content for message in earlier] == ["One?", ANSWER]
        assert "Two?" in last.content

    def test_the_question_that_was_searched_for_is_shown_and_kept(
        self, page: Page, backend: Backend
    ) -> None:
        backend.catalog.put("condensing", condensing())
        page.ask("Nuts?", "And those?", model="condensing")
        assert "searched for: What of walnuts?" in page.text("searched")
        assert page.said == ANSWER
        searched = [turn.answers[0].searched_for for turn in kept(page).turns]
        assert searched == ["", "What of walnuts?"]

    def test_reasoning_is_shown_apart_and_never_told_again(
        self, page: Page, backend: Backend
    ) -> None:
        llm = ScriptedLLM("<think>the fox & the grapes</think> Sour.", tokens_per_second=10)
        backend.catalog.put("thinker", llm)
        page.ask("Why?", model="thinker")
        (markup,) = [markup for kind, markup in page.leaves() if kind == "reasoning"]
        assert "the fox & the grapes" in markup.text
        assert not markup.details.has_attr("open")
        assert page.said == "Sour."
        opened = [
            state
            for state in page.states
            if "reasoning" in str(state) and '<details class="reasoning" open>' in str(state)
        ]
        assert opened
        assert all(said(state) == "" for state in opened)
        page.ask("And?", model="thinker")
        assert all("fox" not in message.content for call in llm.calls for message in call)
        assert kept(page).turns[0].answers[0].reasoning == "the fox & the grapes"

    def test_the_steps_of_several_calls_are_shown(self, page: Page, backend: Backend) -> None:
        for number in range(3):
            document = Document(f"Nut {number} is a walnut.", {"file_name": f"{number}.txt"})
            list(ingest(document, backend.samples.result(), HashEmbedding()))
        backend.catalog.put("calm", ScriptedLLM(ANSWER, first_token=0.2))
        backend.config = dataclasses.replace(backend.config, response_mode="accumulate")
        page.ask("Nut?", model="calm")
        for number in (1, 2, 3):
            assert any(f"Reading passages {number} of 3" in str(state) for state in page.states)
        assert all(f"Response {number}: {ANSWER}" in page.said for number in (1, 2, 3))

    def test_two_browsers_do_not_see_each_other(self, open_page: Open, llm: ScriptedLLM) -> None:
        one, two = open_page(1), open_page(2)
        one.ask("The question of 1?")
        two.ask("The question of 2?")
        assert one.questions == ["The question of 1?"]
        assert two.questions == ["The question of 2?"]
        assert one.names == ["The question of 1?"]
        assert all(len(call) == 1 for call in llm.calls)

    def test_two_browsers_are_answered_at_the_same_time(
        self, open_page: Open, gated: Gated
    ) -> None:
        one, two = open_page(1), open_page(2)
        reading = half(one, gated)
        assert two.ask("Quick?").text == ANSWER
        assert reading.goes_on
        gated.gate.set()
        reading.end()
        assert one.said == "Half and half."

    def test_the_model_and_the_settings_are_kept_with_the_turn(
        self, page: Page, llm: ScriptedLLM
    ) -> None:
        options = AnswerOptions(max_tokens=16, temperature=0.5, system_prompt="Be kind.")
        page.session.prefer(Preferences(options=options))
        page.ask("Why?")
        assert kept(page).turns[0].options == options
        assert Session(page.session.folder).preferences == Preferences(MODEL, options)
        assert llm.calls[0][0].content == "Be kind."
        assert (llm.options[0]["max_tokens"], llm.options[0]["temperature"]) == (16, 0.5)

    @pytest.mark.parametrize("kind", ["suggested", "follow-up"])
    def test_a_question_on_a_button_is_asked(self, page: Page, kind: str) -> None:
        page.press(kind, "What of walnuts?", scope="mine")
        (turn,) = page.conversation.turns
        assert turn.question == "What of walnuts?"
        assert turn.scope == ("samples" if kind == "suggested" else "mine")

    @pytest.mark.parametrize("kind", ["suggested", "follow-up"])
    def test_a_button_that_names_no_question_does_nothing(self, page: Page, kind: str) -> None:
        page.press(kind, "  ")
        assert page.conversation.turns == []


class TestStopping:
    def test_stop_keeps_what_has_come(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        page.stop()
        reading.end()
        assert gated.closed.is_set()
        (answer,) = kept(page).turns[0].answers
        assert (answer.text, answer.finish_reason, answer.error) == ("Half", "stopped", "")
        assert answer.timings.first_token is not None
        assert page.said == "Half"
        assert "stopped" in page.text("facts")
        assert page.box["submit_btn"] is True

    def test_after_a_stop_the_model_is_not_touched(self, page: Page, backend: Backend) -> None:
        llm = ScriptedLLM("word " * 200, tokens_per_second=50)
        backend.catalog.put("steady", llm)
        reading = page.asks("Why?", "steady")
        eventually(lambda: llm.steps > 2)
        page.stop()
        reading.end()
        steps = llm.steps
        time.sleep(0.2)
        assert llm.steps == steps
        assert len(llm.calls) == 1

    def test_after_a_stop_one_can_ask_again(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        page.stop()
        reading.end()
        assert page.ask("And now?").text == ANSWER

    def test_a_second_question_stops_the_first(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        page.ask("Quick?")
        reading.end()
        answers = [turn.answers[0] for turn in page.conversation.turns]
        assert page.questions == ["Slow?", "Quick?"]
        assert [(answer.text, answer.finish_reason) for answer in answers] == [
            ("Half", "stopped"),
            (ANSWER, "stop"),
        ]
        assert gated.closed.is_set()
        assert page.box["submit_btn"] is True

    def test_of_many_questions_at_once_each_gives_way(
        self, page: Page, backend: Backend, gated: Gated
    ) -> None:
        """Each has come in, and the last one is answered."""
        readings = [half(page, gated)] + [page.asks(f"{number}?", "gated") for number in range(5)]
        eventually(lambda: len(page.conversation.turns) == 6)
        gated.gate.set()
        for reading in readings:
            reading.end()
        reasons = [turn.answers[0].finish_reason for turn in page.conversation.turns]
        assert reasons == ["stopped"] * 5 + ["stop"]
        assert not page.conversation.lock.locked()

    def test_an_answer_that_does_not_give_way_is_told(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PATIENCE", 0.05)
        with page.conversation.lock, pytest.warns(UserWarning, match="still being written"):
            view, *_ = page.asks("Why?").end()
        assert all(map(skipped, view))  # what was typed is still in the box
        assert page.conversation.turns == []

    def test_a_tab_that_closes_ends_the_answer_after_a_while(
        self, page: Page, gated: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Gradio can close a handler only when it yields."""
        monkeypatch.setattr(module, "ALIVE", 0.02)
        monkeypatch.setattr(writing, "UNWATCHED", 0.1)
        reading = half(page, gated)
        time.sleep(0.3)
        assert not gated.closed.is_set()  # somebody looks on
        reading.close()
        assert gated.closed.wait(GUARD)
        answer = ended(page)
        assert (answer.text, answer.finish_reason) == ("Half", "stopped")
        assert kept(page).turns[0].answers == [answer]
        assert page.ask("And now?").text == ANSWER

    def test_closing_the_outermost_generator_ends_the_looking_on(
        self, page: Page, gated: Gated
    ) -> None:
        """In a loop that goes on, as Gradio's does: those inside are closed by it."""

        async def visit() -> list[str]:
            box = {"text": "Why?", "files": []}
            await page.chat.ask(box, Asking("gated", "samples"), page.request)
            trees = page.chat.follow(page.request)
            await anext(trees)
            (writing,) = page.chat._writings.values()
            assert writing.watching == ["tab"]
            await trees.aclose()
            await asyncio.sleep(0.05)
            return list(writing.watching)

        assert asyncio.run(visit()) == []
        page.stop()
        ended(page)

    def test_a_tab_that_closes_before_the_answer_began(
        self, page: Page, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(writing, "UNWATCHED", 0.05)
        monkeypatch.setattr(module, "ALIVE", 0.02)
        backend.catalog.put("late", ScriptedLLM(ANSWER, first_token=60))
        page.asks("Why?", "late").close()
        assert ended(page).finish_reason == "stopped"

    def test_while_the_model_is_silent_something_is_sent(
        self, page: Page, gated: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ALIVE", 0.02)
        reading = half(page, gated)
        eventually(lambda: page.said == "Half")
        count = len(reading.views)
        eventually(lambda: len(reading.views) > count + 3)
        first, second, *_ = reading.views[count + 1 :]
        # What differs is sent, which is a number: the page sees that it is still connected.
        assert first[0].pop("alive") < second[0].pop("alive")
        assert first[0] == second[0]
        assert all(map(skipped, (*first[1:], *second[1:])))
        gated.gate.set()
        reading.end()

    def test_the_end_of_the_program_keeps_what_has_come(
        self, page: Page, gated: Gated, backend: Backend
    ) -> None:
        reading = half(page, gated)
        backend.close()
        reading.end()
        session = Sessions(backend.sessions.folder, "hash").get(f"\n{1:043d}")
        conversation = session.conversation(page.key)
        assert conversation
        (answer,) = conversation.turns[0].answers
        assert (answer.text, answer.finish_reason) == ("Half", "stopped")


class TestErrors:
    def test_an_error_of_the_model_stands_below_what_came(
        self, page: Page, backend: Backend
    ) -> None:
        error = ProviderError("The server <is> gone. Try again.")
        backend.catalog.put("bad", ScriptedLLM("one two three", error=error, error_after=2))
        page.ask("Why?", model="bad")
        assert page.said == "one two"
        assert page.text("error") == "The server <is> gone. Try again."
        kinds = [kind for kind, _ in page.leaves()]
        assert kinds.index("said") < kinds.index("error") < kinds.index("facts")
        (answer,) = kept(page).turns[0].answers
        assert (answer.text, answer.finish_reason) == ("one two", "error")
        assert page.box["submit_btn"] is True
        assert page.ask("And now?").text == ANSWER

    def test_an_unexpected_error_is_in_the_log_and_not_on_the_page(
        self, page: Page, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.catalog.put("bad", ScriptedLLM(error=RuntimeError("internal detail")))
        with caplog.at_level(logging.ERROR):
            page.ask("Why?", model="bad")
        shown = page.text("error")
        assert "Something went wrong (error " in shown
        assert "internal detail" not in str(page.parts)
        number = shown.split("(error ")[1][:8]
        assert f"Error {number}" in caplog.text
        assert "internal detail" in caplog.text

    def test_a_model_that_cannot_stream(self, page: Page, backend: Backend) -> None:
        mute = ScriptedLLM(model_name="mute")
        mute.is_streaming = False
        backend.catalog.put("mute", mute)
        page.ask("Why?", model="mute")
        assert "mute cannot stream" in page.text("error")

    def test_a_model_that_cannot_be_had_is_tried_once_for_a_question(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = []

        def load(name: str, *_: Any) -> Any:
            tries.append(name)
            raise ModelUnavailableError("No such model. Choose another.")

        monkeypatch.setattr("rag.llms.catalog.load", load)
        for n in (1, 2):
            page.ask("Why?", model="/no/model")
            assert "No such model. Choose another." in page.text("error")
            assert len(tries) == n

    def test_a_question_is_answered_also_where_the_disk_is_full(
        self, page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        with monkeypatch.context() as patch:
            full(patch)
            with pytest.warns(UserWarning, match="could not be saved: No space left on device"):
                page.ask("Why?")
        assert page.said == ANSWER
        assert "cannot be saved" in caplog.text
        assert not page.conversation.lock.locked()
        page.ask("And now?")
        assert questions(kept(page)) == ["Why?", "And now?"]

    def test_what_cannot_be_saved_is_told(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        page.ask("Why?", "And?")
        full(monkeypatch)
        told = pytest.warns(UserWarning, match="could not be saved: No space left on device")
        with told:
            page.click("rename", page.key, "Other").end()
        with told:
            page.click("undo", page.conversation.turns[1].key).end()
        assert not page.conversation.lock.locked()
        assert page.questions == ["Why?"]


def full(patch: pytest.MonkeyPatch) -> None:
    def write(self: Path, *_: Any) -> int:
        raise OSError(28, "No space left on device")

    patch.setattr(Path, "write_text", write)


class TestAgain:
    def test_retry_asks_again_in_place(self, page: Page, llm: ScriptedLLM) -> None:
        page.ask("One?", "Two?", "Three?")
        llm.script = "Another answer."
        page.press("retry", keys(page, 1))
        assert page.questions == questions(kept(page)) == ["One?", "Two?"]
        texts = [turn.answers[0].text for turn in page.conversation.turns]
        assert texts == [ANSWER, "Another answer."]
        assert [m.content for m in llm.calls[-1][:-1]] == ["One?", ANSWER]

    def test_retry_searches_where_the_turn_did_with_the_model_of_now(
        self, page: Page, backend: Backend
    ) -> None:
        backend.catalog.put("other", ScriptedLLM("Other."))
        page.ask("Walnuts?", scope="samples")
        page.press("retry", keys(page), model="other", scope="mine")
        (turn,) = page.conversation.turns
        assert (turn.scope, turn.answers[0].text) == ("samples", "Other.")
        assert turn.answers[0].sources

    def test_retry_stops_the_running_answer(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        page.press("retry", keys(page))
        reading.end()
        assert [turn.answers[0].text for turn in page.conversation.turns] == [ANSWER]
        assert questions(kept(page)) == ["Slow?"]

    def test_edit_asks_the_changed_question(self, page: Page) -> None:
        page.ask("One?", "Two?")
        page.press("edit", page.conversation.turns[0].key, " Changed? ", scope="mine")
        assert page.questions == questions(kept(page)) == ["Changed?"]
        (turn,) = page.conversation.turns
        assert turn.scope == "mine"  # what is chosen now
        assert turn.answers[0].text == prompts.NOTHING_FOUND

    def test_an_edit_that_is_too_long_changes_nothing(self, page: Page) -> None:
        page.ask("One?", "Two?")
        key = page.conversation.turns[0].key
        with pytest.warns(UserWarning, match="more than 8,000 characters"):
            view, *_ = page.press("edit", key, "x" * (Config().max_question + 1))
        assert all(map(skipped, view))
        assert questions(page.conversation) == ["One?", "Two?"]

    def test_an_edit_that_leaves_nothing_asks_the_old_question(self, page: Page) -> None:
        page.ask("One?", "Two?")
        page.press("edit", page.conversation.turns[1].key, "  ")
        assert page.questions == ["One?", "Two?"]

    def test_what_was_searched_for_can_be_changed(self, page: Page, backend: Backend) -> None:
        llm = condensing()
        backend.catalog.put("condensing", llm)
        page.ask("Nuts?", "And those?", model="condensing")
        calls = len(llm.calls)
        page.press("search", keys(page), "What of hazelnuts?", model="condensing")
        assert page.questions == ["Nuts?", "And those?"]
        assert "searched for: What of hazelnuts?" in page.text("searched")
        assert len(llm.calls) == calls + 1  # it was not condensed
        assert "What of hazelnuts?" in llm.calls[-1][-1].content
        assert kept(page).turns[1].answers[0].searched_for == "What of hazelnuts?"

    def test_undo_gives_the_question_back(self, page: Page) -> None:
        page.ask("One?", "Two?", "Three?")
        page.click("undo", page.conversation.turns[1].key).end()
        assert page.box["value"] == {"text": "Two?", "files": []}
        assert page.questions == questions(kept(page)) == ["One?"]

    def test_undo_stops_the_running_answer(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        page.click("undo", page.conversation.turns[0].key).end()
        reading.end()
        assert gated.closed.is_set()
        assert page.questions == []
        assert page.names == []
        assert list((page.session.folder / "conversations").glob("*")) == []
        assert page.box["submit_btn"] is True

    @pytest.mark.parametrize("do", ["retry", "edit", "search", "compare"])
    def test_what_another_tab_has_taken_away_is_no_error(self, page: Page, do: str) -> None:
        page.ask("Why?")
        for key in ("", ":", "0" * 12, f"{'0' * 12}:{'1' * 12}", "../x"):
            _, (tree, *_), *_ = page.press(do, key, MODEL)
            assert tree["parts"]
        assert page.questions == ["Why?"]

    @pytest.mark.parametrize("do", ["show", "rename", "delete", "undo", "choose", "rate", "what"])
    def test_a_button_that_names_nothing_does_nothing(self, page: Page, do: str) -> None:
        page.ask("Why?")
        for key in ("", ":", "0" * 12, f"{'0' * 12}:{'1' * 12}", "../x"):
            page.click(do, key, "New").end()
        assert page.names == page.questions == ["Why?"]


class TestSeveralAnswers:
    def test_another_model_is_asked_the_same(
        self, page: Page, backend: Backend, llm: ScriptedLLM
    ) -> None:
        other = ScriptedLLM("Other.", first_token=0.05)
        backend.catalog.put("other", other)
        page.ask("Walnuts?")
        page.press("compare", keys(page), "other")
        first, second = page.conversation.turns[0].answers
        assert (first.model, second.model) == (MODEL, "other")
        assert (first.text, second.text) == (ANSWER, "Other.")
        assert first.timings != second.timings
        assert second.timings.first_token is not None
        assert second.sources == first.sources
        assert [m.content for m in other.calls[-1]] == [m.content for m in llm.calls[-1]]
        assert kept(page).turns[0].answers == [first, second]
        assert page.text("name") == "scripted | other"
        assert len(page.leaves("facts")) == 2
        assert page.session.preferences.model == "other"

    def test_the_same_is_searched_for(self, page: Page, backend: Backend) -> None:
        backend.catalog.put("condensing", condensing())
        page.ask("Nuts?", "And those?", model="condensing")
        page.press("compare", keys(page), MODEL)
        assert [each.searched_for for each in page.conversation.turns[1].answers] == [
            "What of walnuts?",
            "What of walnuts?",
        ]

    @pytest.mark.parametrize("name", ["unknown", ""])
    def test_not_of_a_model_that_may_not_be_chosen(
        self, page: Page, backend: Backend, name: str
    ) -> None:
        backend.config = dataclasses.replace(backend.config, strangers=True)
        page.ask("Why?")
        page.press("compare", keys(page), name)
        assert len(page.conversation.turns[0].answers) == 1
        assert "another model…" not in str(page.parts)

    def test_one_of_them_is_asked_again(self, page: Page, backend: Backend) -> None:
        other = ScriptedLLM("Other.")
        backend.catalog.put("other", other)
        page.ask("Walnuts?")
        page.press("compare", keys(page), "other")
        page.ask("Next?")
        other.script = "Better."
        page.press("retry", keys(page, 0), model=MODEL)  # that of the other model
        first, _ = page.conversation.turns
        assert [(each.model, each.text) for each in first.answers] == [
            (MODEL, ANSWER),
            ("other", "Better."),
        ]
        assert page.questions == ["Walnuts?", "Next?"]

    def test_one_is_kept(self, page: Page, backend: Backend) -> None:
        backend.catalog.put("other", ScriptedLLM("Other."))
        page.ask("Walnuts?")
        page.press("compare", keys(page), "other")
        page.click("choose", page.do("choose")[1]).end()
        assert page.said == "Other."
        assert [each.text for each in kept(page).turns[0].answers] == ["Other."]
        assert page.do("choose") == []

    def test_the_answer_that_is_being_written_beside_it_is_given_up(
        self, page: Page, gated: Gated
    ) -> None:
        page.ask("Walnuts?")
        first = keys(page)
        reading = page.presses("compare", first, "gated")
        assert gated.said_half.wait(GUARD)
        page.click("choose", keys(page)).end()  # the one that is not there yet
        assert len(page.conversation.turns[0].answers) == 2
        page.click("choose", first).end()
        reading.end()
        assert gated.closed.is_set()
        assert [each.text for each in page.conversation.turns[0].answers] == [ANSWER]
        assert kept(page).turns == page.conversation.turns
        assert page.box["submit_btn"] is True

    def test_the_last_of_them_is_what_was_said(
        self, page: Page, backend: Backend, llm: ScriptedLLM
    ) -> None:
        backend.catalog.put("other", ScriptedLLM("Other."))
        page.ask("Walnuts?")
        page.press("compare", keys(page), "other")
        page.ask("Next?", scope="none")
        assert [m.content for m in llm.calls[-1]] == ["Walnuts?", "Other.", "Next?"]


class TestConversations:
    def test_an_answer_goes_on_while_another_conversation_is_looked_at(
        self, page: Page, gated: Gated
    ) -> None:
        reading = half(page, gated, "Slow?")
        slow = page.key
        page.click("new").end()
        assert page.questions == []
        assert page.box["submit_btn"] is True
        states = len(page.states)
        gated.gate.set()
        reading.end()
        assert len(page.states) == states  # the other view was not overwritten
        assert page.questions == []
        page.click("show", slow).end()
        assert page.said == "Half and half."
        assert page.current == "Slow?"

    def test_coming_back_shows_it_growing(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        slow = page.key
        page.click("new").end()
        page.click("show", slow).end()
        assert page.said == "Half"
        assert page.box["stop_btn"] is True
        assert reading.goes_on
        gated.gate.set()
        reading.end()
        assert page.said == "Half and half."
        assert page.box["submit_btn"] is True

    def test_answers_are_written_in_two_conversations_at_once(
        self, page: Page, gated: Gated
    ) -> None:
        first = half(page, gated)
        slow = page.key
        page.click("new").end()
        assert page.ask("Quick?").text == ANSWER
        assert page.questions == ["Quick?"]
        assert first.goes_on
        page.stop()  # of the one that is shown
        gated.gate.set()
        first.end()
        assert page.session.conversation(slow).turns[0].answers[0].finish_reason == "stop"
        assert sorted(page.names) == ["Quick?", "Slow?"]

    def test_a_page_that_is_loaded_again_looks_on(
        self, open_page: Open, gated: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "ALIVE", 0.02)
        page = open_page(tab="before")
        reading = half(page, gated)
        again = open_page(tab="after")
        assert again.questions == ["Slow?"]
        assert again.said == "Half"
        assert again.box["stop_btn"] is True
        following = again.follows()
        reading.close()
        gated.gate.set()
        following.end()
        assert again.said == "Half and half."
        assert again.box["submit_btn"] is True
        assert "stopped" not in again.text("facts")

    def test_where_nothing_is_written_any_more_the_end_is_shown(
        self, page: Page, gated: Gated
    ) -> None:
        """Between a page's loading and its looking on an answer may end."""
        reading = half(page, gated)
        other = Page(page.chat, asks(tab="other"))
        assert other.said == "Half"
        assert other.box["stop_btn"] is True
        gated.gate.set()
        reading.end()
        gc.collect()
        shown, _, last = [tree for tree, *_ in other.follows().end()]
        assert shown["parts"]
        assert skipped(last)  # what is yielded last is sent once more, and whole
        assert other.said == "Half and half."
        assert other.box["stop_btn"] is False

    def test_a_tab_looks_on_once(self, page: Page, gated: Gated) -> None:
        reading = half(page, gated)
        assert len(page.follows().end()) == 2
        gated.gate.set()
        reading.end()

    def test_two_tabs_on_one_conversation(self, open_page: Open, gated: Gated) -> None:
        one = open_page(tab="one")
        reading = half(one, gated)
        two = open_page(tab="two")
        following = two.follows()
        two.stop()
        reading.end()
        following.end()
        assert one.said == two.said == "Half"
        assert "stopped" in one.text("facts")
        two.ask("Next?")
        one.click("show", one.key).end()
        assert one.questions == ["Slow?", "Next?"]

    def test_each_tab_shows_its_own(self, open_page: Open) -> None:
        one = open_page(tab="one")
        one.ask("Why?")
        two = open_page(tab="two")
        assert two.questions == ["Why?"]  # at first the one that was open last
        two.click("new").end()
        two.ask("How?")
        assert one.conversation is not two.conversation
        one.ask("And?")
        assert one.questions == ["Why?", "And?"]
        assert two.questions == ["How?"]

    def test_two_tabs_on_a_first_visit(self, open_page: Open, gated: Gated) -> None:
        """They do not stop each other's answers."""
        one, two = open_page(tab="one"), open_page(tab="two")
        reading = half(one, gated)
        two.ask("Quick?")
        gated.gate.set()
        reading.end()
        assert one.said == "Half and half."
        assert two.questions == ["Quick?"]

    def test_two_tabs_with_a_new_conversation_each(self, open_page: Open) -> None:
        one = open_page(tab="one")
        one.ask("Why?")
        two = open_page(tab="two")
        one.click("new").end()
        two.click("new").end()
        assert one.key != two.key
        empty = one.key
        one.click("new").end()
        assert one.key == empty

    def test_new_show_rename_delete(self, page: Page) -> None:
        page.ask("One?")
        first = page.key
        page.click("new").end()
        assert page.questions == []
        assert page.names == ["One?"]
        assert page.current == ""
        page.ask("Two?")
        assert page.names == ["Two?", "One?"]
        page.click("show", first).end()
        assert page.questions == ["One?"]
        assert page.current == "One?"
        page.click("rename", first, "First\n<b>").end()
        assert page.names == ["Two?", "First <b>"]
        assert kept(page).title == "First <b>"
        page.click("delete", first).end()
        assert page.names == ["Two?"]
        assert page.questions == ["Two?"]
        assert not (page.session.folder / "conversations" / f"{first}.json").exists()
        page.click("delete", page.key).end()
        assert page.names == page.questions == []

    def test_deleting_ends_the_answer_that_is_being_written(self, page: Page, gated: Gated) -> None:
        page.ask("One?")
        stays = page.key
        page.click("new").end()
        reading = half(page, gated)
        page.click("delete", page.key).end()
        assert gated.closed.is_set()
        reading.end()
        assert page.key == stays
        assert page.questions == ["One?"]
        assert page.names == ["One?"]
        assert [file.stem for file in (page.session.folder / "conversations").glob("*")] == [stays]

    def test_forgetting_ends_the_answer_and_leaves_no_byte(
        self, page: Page, gated: Gated, backend: Backend
    ) -> None:
        reading = half(page, gated, "Secret?")
        session = page.session
        backend.sessions.forget(session)
        reading.end()
        assert gated.closed.is_set()
        assert not session.folder.exists()
        page.load()
        assert page.questions == page.names == []
        assert page.ask("And now?").text == ANSWER
        assert questions(kept(page)) == ["And now?"]

    def test_nothing_of_an_answer_is_held_when_it_is_over(self, page: Page) -> None:
        page.ask("Why?")
        gc.collect()
        assert not page.chat._writings

    def test_keys_of_another_browser_get_nothing(self, open_page: Open) -> None:
        mine, theirs = open_page(1), open_page(2)
        mine.ask("Mine?")
        theirs.ask("Theirs?")
        for do in ("show", "rename", "delete"):
            theirs.click(do, mine.key, "Stolen").end()
        for do in ("undo", "choose", "rate", "comment"):
            theirs.click(do, f"{keys(mine)}:1", "Stolen").end()
        for do in ("retry", "edit", "search", "compare"):
            theirs.press(do, keys(mine), MODEL)
        assert theirs.chat.export(event("save", mine.key, "md"), theirs.request) == {}
        assert theirs.questions == theirs.names == ["Theirs?"]
        assert questions(kept(mine)) == ["Mine?"]
        assert kept(mine).title == ""
        assert kept(mine).turns[0].answers[0].rating == 0

    @pytest.mark.parametrize(("ending", "begins"), [("md", "# Why?"), ("json", "{")])
    def test_a_conversation_is_saved_as_a_file(self, page: Page, ending: str, begins: str) -> None:
        page.ask("Why?")
        saved = page.chat.export(event("save", page.key, ending), page.request)
        assert saved["name"] == f"Why.{ending}"
        assert saved["text"].startswith(begins)
        assert ANSWER in saved["text"]
        again = page.chat.export(event("save", page.key, ending), page.request)
        assert again["number"] != saved["number"]  # or else nothing would have changed

    def test_a_page_that_nothing_was_asked_on_welcomes(self, page: Page) -> None:
        assert page.parts[0]["k"] == "welcome"
        assert "Where do my documents stay?" in page.do("suggested")

    def test_many_tabs_are_forgotten_one_by_one(
        self, open_page: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("rag.ui.sessions.MANY_TABS", 3)
        pages = [open_page(tab=f"{number}") for number in range(6)]
        for each in pages:
            assert each.ask("Why?").text == ANSWER
        assert len(pages[0].session.tabs) == 3


class TestFeedback:
    @staticmethod
    def given(page: Page) -> list[dict[str, Any]]:
        file = page.chat.backend.config.data_dir / "feedback.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()]

    def test_a_rating_is_kept_and_taken_back(self, page: Page) -> None:
        page.ask("Why?")
        good, bad = page.do("rate")
        for key, rating in ((good, 1), (bad, -1), (bad, 0)):
            page.click("rate", key).end()
            assert kept(page).turns[0].answers[0].rating == rating
            assert self.given(page)[-1]["rating"] == rating
        assert page.do("comment") == []
        assert [line["question"] for line in self.given(page)] == ["Why?"] * 3

    def test_a_comment(self, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
        page.ask("Why?")
        page.click("rate", page.do("rate")[1]).end()
        page.click("comment", page.do("comment")[0], " Too short. ").end()
        assert self.given(page)[-1]["comment"] == "Too short."
        assert self.given(page)[-1]["rating"] == -1
        assert "Thank you" in capsys.readouterr().out

    def test_a_comment_that_cannot_be_kept_is_told(self, page: Page) -> None:
        page.ask("Why?")
        with pytest.warns(UserWarning, match="Shorten it"):
            page.click("comment", keys(page), "x" * 3000).end()

    def test_where_it_is_off_there_is_nothing_to_press(
        self, backend: Backend, request_of: Callable[..., gr.Request]
    ) -> None:
        backend.config = dataclasses.replace(backend.config, feedback=False)
        page = Page(Chat(backend), request_of(1))
        page.ask("Why?")
        assert page.do("rate") == []
        page.click("rate", f"{keys(page)}:1").end()
        assert page.conversation.turns[0].answers[0].rating == 0
        assert not (backend.config.data_dir / "feedback.jsonl").exists()


class TestSuggestions:
    def test_they_come_after_the_answer(self, page: Page, suggested: list[str]) -> None:
        suggested += ["What is a walnut?", "", "Where does it grow?"]
        answer = page.ask("Walnuts?")
        assert answer.suggestions == ("What is a walnut?", "Where does it grow?")
        assert page.do("follow-up") == list(answer.suggestions)
        assert kept(page).turns[0].answers[0].suggestions == answer.suggestions

    def test_one_can_ask_before_they_are_there(
        self, page: Page, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And then they never come."""
        looking, go = threading.Event(), threading.Event()

        def suggest(*_: Any) -> Iterator[str]:
            while not go.wait(0.01):
                looking.set()
                yield ""
            yield "What is a walnut?"

        monkeypatch.setattr(writing, "suggest", suggest)
        reading = page.asks("Walnuts?")
        assert looking.wait(GUARD)
        eventually(lambda: page.box["submit_btn"])
        looking.clear()
        second = page.asks("Next?")
        reading.end()
        assert looking.wait(GUARD)  # those of the second
        go.set()
        second.end()
        first, last = page.conversation.turns
        assert first.answers[0].suggestions == ()
        assert last.answers[0].suggestions == ("What is a walnut?",)

    @pytest.mark.parametrize("how", ["stopped", "none", "error"])
    def test_not_after_every_answer(
        self, page: Page, backend: Backend, gated: Gated, suggested: list[str], how: str
    ) -> None:
        suggested.append("What is a walnut?")
        backend.catalog.put("bad", ScriptedLLM("x", error=ProviderError("Gone."), error_after=1))
        if how == "stopped":
            reading = half(page, gated)
            page.stop()
            reading.end()
        else:
            page.ask("Why?", **({"scope": "none"} if how == "none" else {"model": "bad"}))
        assert page.conversation.turns[0].answers[0].suggestions == ()

    def test_what_goes_wrong_costs_only_them(
        self, page: Page, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def suggest(*_: Any) -> Iterator[str]:
            yield ""
            raise RuntimeError("internal detail")

        monkeypatch.setattr(writing, "suggest", suggest)
        with caplog.at_level(logging.ERROR):
            answer = page.ask("Walnuts?")
        assert (answer.text, answer.finish_reason, answer.error) == (ANSWER, "stop", "")
        assert "internal detail" in caplog.text
        assert "internal detail" not in str(page.parts)
        assert page.ask("And?").text == ANSWER


class TestPreparing:
    def test_it_is_shown_and_then_the_answer(
        self, unstarted: Backend, request_of: Callable[..., gr.Request]
    ) -> None:
        go = threading.Event()

        def make(report: Callable[[str, float], None]) -> HashEmbedding:
            report("Fetching", 0.43)
            assert go.wait(GUARD)
            return HashEmbedding()

        unstarted.embedding = Preparation("the search model", make)
        unstarted.start()
        page = Page(Chat(unstarted), request_of(1))
        reading = page.asks("What of walnuts?")
        eventually(lambda: "Preparing" in page.text("status"))
        go.set()
        reading.end()
        assert page.said == ANSWER

    def test_one_can_stop_waiting(
        self, unstarted: Backend, request_of: Callable[..., gr.Request]
    ) -> None:
        go = threading.Event()
        unstarted.embedding = Preparation("x", lambda _: go.wait(GUARD) and HashEmbedding())
        unstarted.start()
        page = Page(Chat(unstarted), request_of(1))
        reading = page.asks("Why?")
        eventually(lambda: "Preparing" in page.text("status"))
        page.stop()
        reading.end()
        go.set()
        assert page.conversation.turns[0].answers[0].finish_reason == "stopped"
        unstarted.samples.result()

    def test_what_cannot_be_prepared_is_told(
        self, unstarted: Backend, request_of: Callable[..., gr.Request]
    ) -> None:
        def make(report: Any) -> HashEmbedding:
            raise ModelUnavailableError("No weights. Check the connection.")

        unstarted.embedding = Preparation("the search model", make)
        unstarted.start()
        page = Page(Chat(unstarted), request_of(1))
        page.ask("Why?")
        assert "No weights. Check the connection." in page.text("error")


class TestFiles:
    """A question waits for the words of its files, not for their vectors."""

    @staticmethod
    def job(name: str) -> Job:
        return Job(Path("incoming", name), name)

    def test_it_is_answered_once_all_are_searchable_or_failed(self, page: Page) -> None:
        report, bad = self.job("report.pdf"), self.job("bad.pdf")
        reading = page.asks("Why?", files=[report, bad])
        eventually(lambda: "Reading report.pdf" in page.text("status"))
        report.told(Searchable("report.pdf", "id", 900))
        eventually(lambda: "Reading bad.pdf" in page.text("status"))
        bad.ended = True
        reading.end()
        assert page.said == ANSWER

    def test_one_can_stop_waiting(self, page: Page) -> None:
        reading = page.asks("Why?", files=[self.job("report.pdf")])
        eventually(lambda: "Reading" in page.text("status"))
        page.stop()
        reading.end()
        assert page.conversation.turns[0].answers[0].finish_reason == "stopped"
        assert page.box["submit_btn"] is True

    def test_a_question_without_files_does_not_wait(self, page: Page) -> None:
        page.session.jobs.append(self.job("report.pdf"))
        assert page.ask("Why?").text == ANSWER
        page.session.jobs.clear()


class TestFind:
    def test_a_key_names_a_turn_and_an_answer_of_it(self) -> None:
        first, second = Turn("1?", [Answer(), Answer()]), Turn("2?", [Answer()])
        conversation = Conversation(turns=[first, second])
        one, two = first.answers
        assert find(conversation, first.key) == (first, None)
        assert find(conversation, f"{first.key}:{two.key}") == (first, two)
        assert find(conversation, f"{first.key}:{one.key}:-1") == (first, one)
        assert find(conversation, f"{second.answers[0].key}:7") == (second, second.answers[0])
        assert find(conversation, f"{second.key}:gone") == (second, None)
        assert find(conversation, "") == (None, None)
        assert find(Conversation(), "") == (None, None)


def condensing() -> ScriptedLLM:
    """It puts a follow-up question so that it stands by itself."""

    def script(messages: Sequence[ChatMessage]) -> str:
        return "What of walnuts?" if "A conversation" in messages[-1].content else ANSWER

    return ScriptedLLM(script)
