"""A question's way through the page: the handlers, driven as Gradio drives them."""

import dataclasses
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
from rag.errors import ModelUnavailableError, ProviderError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Searchable, ingest
from rag.llms.protocol import TextStream
from rag.llms.scripted import ScriptedLLM
from rag.preparation import Preparation
from rag.types import ChatMessage, Completion, Document
from rag.ui import chat as module
from rag.ui.backend import Backend
from rag.ui.chat import MAX_QUESTION, Chat
from rag.ui.jobs import Job
from rag.ui.sessions import Session, Sessions

MODEL = "scripted"
GUARD = 20
ANSWER = "The answer is in the passage."


class Gated(ScriptedLLM):
    """Says "Half", then waits for the gate to be opened, then says the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.said_half = threading.Event()
        self.closed = threading.Event()

    def stream(self, messages: Sequence[ChatMessage], **options: Any) -> TextStream:
        self.calls.append(list(messages))
        try:
            yield ""
            yield "Half"
            self.said_half.set()
            while not self.gate.wait(0.01):
                yield ""
            yield " and half."
            return Completion("stop")
        finally:
            self.closed.set()


def texts_are_whole(answer: str, number: int) -> bool:
    return all(f"Response {n}: {ANSWER}" in answer for n in range(1, number + 1))


@pytest.fixture
def chat(backend: Backend) -> Chat:
    return Chat(backend)


@pytest.fixture
def gated(backend: Backend) -> Gated:
    llm = Gated()
    backend.catalog.put("gated", llm)
    return llm


@pytest.fixture
def me(request_of: Callable[..., gr.Request]) -> gr.Request:
    return request_of(1)


def box(text: str) -> dict[str, Any]:
    return {"text": text, "files": []}


def texts(view: tuple[Any, ...]) -> list[str]:
    """All parts of the last message of a view."""
    return [part["text"] for part in view[0][-1]["content"]]


def skipped(update: Any) -> bool:
    return bool(update == gr.skip())


def questions(session: Session) -> list[str]:
    return [turn.question for turn in session.turns]


def kept(session: Session) -> list[str]:
    """The questions in the conversation as it is on the disk."""
    return questions(Session(session.folder))


def run(views: Iterator[Any]) -> tuple[threading.Thread, list[Any]]:
    """Read the views in a thread, as Gradio does."""
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.extend(views))
    thread.start()
    return thread, seen


def ask_all(chat: Chat, me: gr.Request, *asked: str, model: str = MODEL) -> Session:
    for question in asked:
        list(chat.ask(box(question), model, "samples", me))
    return chat.session(me)


def event(index: Any, value: Any = None) -> Any:
    return gr.EditData(None, {"index": index, "value": value, "previous_value": None})


class TestAsking:
    def test_views_grow_and_the_turn_is_kept(self, chat: Chat, me: gr.Request) -> None:
        views = list(chat.ask(box(" What of walnuts? "), MODEL, "samples", me))
        session = chat.session(me)
        (turn,) = session.turns
        assert turn.question == "What of walnuts?"
        assert turn.answer == ANSWER
        assert turn.model == MODEL
        assert turn.finish_reason == "stop"
        assert turn.usage
        assert turn.timings.first_token is not None
        assert [hit.node.file_name for hit in turn.sources] == ["sample.txt"]
        assert Session(session.folder).turns == session.turns
        # Statuses, then growing text, then the whole with its facts.
        shown = [texts(view)[0] for view in views if texts(view)]
        grown = [text for text in shown if "status" not in text]
        assert "Searching" in shown[0]
        assert grown[0] == "The"
        assert all(later.startswith(earlier) for earlier, later in pairwise(grown))
        assert grown[-1] == ANSWER
        assert "facts" in texts(views[-1])[1]

    def test_the_box_is_emptied_at_once_and_busy_until_the_end(
        self, chat: Chat, me: gr.Request
    ) -> None:
        first, *between, last = chat.ask(box("Why?"), MODEL, "samples", me)
        assert first[1]["value"] is None
        assert first[1]["stop_btn"] is True
        assert all(skipped(view[1]) for view in between)
        assert last[1]["stop_btn"] is False
        assert last[1]["submit_btn"] is True
        assert "value" not in last[1]  # what was typed meanwhile stays

    def test_the_sources_are_sent_once_before_the_text(self, chat: Chat, me: gr.Request) -> None:
        _, *between, last = chat.ask(box("What of walnuts?"), MODEL, "samples", me)
        (number,) = [n for n, view in enumerate(between) if not skipped(view[2])]
        assert "walnuts" in between[number][2]
        assert "The" not in texts(between[number])
        assert "walnuts" in last[2]

    def test_a_slow_answer_comes_in_pieces_and_a_fast_one_in_few(
        self, chat: Chat, me: gr.Request, backend: Backend
    ) -> None:
        backend.catalog.put("slow", ScriptedLLM("word " * 8, tokens_per_second=10))
        backend.catalog.put("fast", ScriptedLLM("word " * 5000))
        slow = list(chat.ask(box("Why?"), "slow", "samples", me))
        grown = {texts(view)[0] for view in slow if texts(view)[0].startswith("word")}
        assert len(grown) == 8
        chat.clear(me)
        fast = list(chat.ask(box("Why?"), "fast", "samples", me))
        assert len(fast) < 60
        assert texts(fast[-1])[0] == ("word " * chat.backend.config.max_new_tokens).strip()

    @pytest.mark.parametrize("text", ["", "  \n", None])
    def test_nothing_is_asked_without_a_question(
        self, chat: Chat, me: gr.Request, text: str | None
    ) -> None:
        (view,) = chat.ask({"text": text, "files": []}, MODEL, "samples", me)
        assert view[0] == []
        assert chat.session(me).turns == []

    def test_a_question_that_is_too_long_is_left_in_the_box(
        self, chat: Chat, me: gr.Request, llm: ScriptedLLM
    ) -> None:
        with pytest.warns(UserWarning, match="8,001 characters"):
            (view,) = chat.ask(box("x" * (MAX_QUESTION + 1)), MODEL, "samples", me)
        assert all(map(skipped, view))
        assert llm.calls == []
        assert chat.session(me).turns == []
        list(chat.ask(box("x" * MAX_QUESTION), MODEL, "samples", me))
        assert len(llm.calls) == 1

    def test_without_documents_no_model_is_called(
        self, chat: Chat, me: gr.Request, llm: ScriptedLLM
    ) -> None:
        *_, last = chat.ask(box("Why?"), MODEL, "mine", me)
        assert texts(last)[0] == prompts.NOTHING_FOUND
        assert llm.calls == []

    def test_what_was_said_before_is_told_to_the_model(
        self, chat: Chat, me: gr.Request, llm: ScriptedLLM
    ) -> None:
        ask_all(chat, me, "One?", "Two?")
        _, condensing, (*earlier, last) = llm.calls
        assert "One?" in condensing[0].content
        assert [message.content for message in earlier] == ["One?", ANSWER]
        assert "Two?" in last.content

    def test_the_question_that_was_searched_for_is_shown_and_kept(
        self, chat: Chat, me: gr.Request, backend: Backend
    ) -> None:
        def script(messages: Sequence[ChatMessage]) -> str:
            return "What of walnuts?" if "A conversation" in messages[-1].content else ANSWER

        backend.catalog.put("condensing", ScriptedLLM(script))
        for question in ("Nuts?", "And those?"):
            *_, last = chat.ask(box(question), "condensing", "samples", me)
        searched, answered, *_ = texts(last)
        assert "searched for: What of walnuts?" in searched
        assert answered == ANSWER
        first, second = chat.session(me).turns
        assert (first.searched_for, second.searched_for) == ("", "What of walnuts?")
        assert [t.searched_for for t in Session(chat.session(me).folder).turns] == [
            "",
            "What of walnuts?",
        ]

    def test_reasoning_is_shown_apart_and_never_told_again(
        self, chat: Chat, me: gr.Request, backend: Backend
    ) -> None:
        llm = ScriptedLLM("<think>the fox & the grapes</think> Sour.", tokens_per_second=20)
        backend.catalog.put("thinker", llm)
        views = [texts(view) for view in chat.ask(box("Why?"), "thinker", "samples", me)]
        thinking = [view for view in views if view and "<details" in view[0]]
        assert any(len(view) == 1 and " open>" in view[0] for view in thinking)
        reasoning, answered, *_ = thinking[-1]
        assert "the fox &amp; the grapes" in reasoning
        assert " open>" not in reasoning
        assert answered == "Sour."
        list(chat.ask(box("And?"), "thinker", "samples", me))
        assert all("fox" not in message.content for call in llm.calls for message in call)
        assert Session(chat.session(me).folder).turns[0].reasoning == "the fox & the grapes"

    def test_the_steps_of_several_calls_are_shown(
        self, chat: Chat, me: gr.Request, backend: Backend, upload: Callable[[str, str], str]
    ) -> None:
        for number in range(3):
            document = Document(f"Nut {number} is a walnut.", {"file_name": f"{number}.txt"})
            list(ingest(document, backend.samples.result(), HashEmbedding()))
        for mode, steps in (("refine", 3), ("accumulate", 3)):
            backend.config = dataclasses.replace(backend.config, response_mode=mode)
            chat.clear(me)
            views = [texts(view) for view in chat.ask(box("Nut?"), MODEL, "samples", me)]
            for number in range(1, steps + 1):
                status = f"Reading passage {number} of {steps}"
                assert any(status in view[-1] for view in views if view), (mode, status)
        # The status of a later call stands below what has come already.
        assert any(len(view) == 2 and "of 3" in view[1] for view in views)
        assert texts_are_whole(views[-1][0], 3)

    def test_two_browsers_do_not_see_each_other(
        self, chat: Chat, request_of: Callable[..., gr.Request], llm: ScriptedLLM
    ) -> None:
        for number in (1, 2):
            ask_all(chat, request_of(number), f"The question of {number}?")
        assert questions(chat.session(request_of(1))) == ["The question of 1?"]
        assert questions(chat.session(request_of(2))) == ["The question of 2?"]
        assert all(len(call) == 1 for call in llm.calls)

    def test_two_browsers_are_answered_at_the_same_time(
        self, chat: Chat, request_of: Callable[..., gr.Request], gated: Gated
    ) -> None:
        thread, _ = run(chat.ask(box("Slow?"), "gated", "samples", request_of(1)))
        assert gated.said_half.wait(GUARD)
        ask_all(chat, request_of(2), "Quick?")
        assert chat.session(request_of(2)).turns[0].answer == ANSWER
        assert thread.is_alive()
        gated.gate.set()
        thread.join(GUARD)
        assert chat.session(request_of(1)).turns[0].answer == "Half and half."

    def test_a_suggested_question_is_asked_of_the_samples(self, chat: Chat, me: gr.Request) -> None:
        data = gr.SelectData(None, {"index": 0, "value": {"text": "What of walnuts?"}})
        list(chat.suggested(MODEL, data, me))
        (turn,) = chat.session(me).turns
        assert turn.question == "What of walnuts?"
        assert turn.sources


class TestStopping:
    def test_stop_keeps_what_has_come(self, chat: Chat, me: gr.Request, gated: Gated) -> None:
        thread, seen = run(chat.ask(box("Why?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        chat.stop(me)
        thread.join(GUARD)
        assert not thread.is_alive()
        assert gated.closed.is_set()
        (turn,) = Session(chat.session(me).folder).turns
        assert (turn.answer, turn.finish_reason, turn.error) == ("Half", "stopped", "")
        assert turn.timings.first_token is not None
        answer, facts = texts(seen[-1])
        assert answer == "Half"
        assert "stopped" in facts
        assert seen[-1][1]["submit_btn"] is True

    def test_after_a_stop_one_can_ask_again(self, chat: Chat, me: gr.Request, gated: Gated) -> None:
        thread, _ = run(chat.ask(box("Why?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        chat.stop(me)
        thread.join(GUARD)
        assert ask_all(chat, me, "And now?").turns[1].answer == ANSWER

    def test_a_second_question_stops_the_first(
        self, chat: Chat, me: gr.Request, gated: Gated
    ) -> None:
        thread, _ = run(chat.ask(box("Slow?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        session = ask_all(chat, me, "Quick?")
        thread.join(GUARD)
        assert [(t.question, t.answer, t.finish_reason) for t in session.turns] == [
            ("Slow?", "Half", "stopped"),
            ("Quick?", ANSWER, "stop"),
        ]
        assert gated.closed.is_set()

    def test_a_tab_that_closes_leaves_a_stopped_answer(
        self, chat: Chat, me: gr.Request, gated: Gated
    ) -> None:
        views = chat.ask(box("Why?"), "gated", "samples", me)
        while "Half" not in texts(next(views)):
            pass
        views.close()  # type: ignore[attr-defined]
        session = chat.session(me)
        assert gated.closed.is_set()
        assert not session.lock.locked()
        (turn,) = Session(session.folder).turns
        assert (turn.answer, turn.finish_reason) == ("Half", "stopped")
        assert ask_all(chat, me, "And now?").turns[1].answer == ANSWER

    def test_a_tab_that_closes_while_the_model_is_silent(
        self, chat: Chat, me: gr.Request, gated: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Gradio can close a handler only when it yields."""
        monkeypatch.setattr(module, "ALIVE", 0.02)
        views = chat.ask(box("Why?"), "gated", "samples", me)
        while "Half" not in texts(next(views)):
            pass
        silent = [next(views) for _ in range(3)]
        assert all(skipped(update) for view in silent for update in view)
        views.close()  # type: ignore[attr-defined]
        assert gated.closed.is_set()

    @pytest.mark.parametrize("views_read", [1, 2])
    def test_a_tab_that_closes_before_the_answer_began(
        self, chat: Chat, me: gr.Request, views_read: int
    ) -> None:
        views = chat.ask(box("Why?"), MODEL, "samples", me)
        for _ in range(views_read):
            next(views)
        views.close()  # type: ignore[attr-defined]
        session = chat.session(me)
        assert not session.lock.locked()
        assert session.turns[0].finish_reason == "stopped"

    def test_the_end_of_the_program_keeps_what_has_come(
        self, chat: Chat, me: gr.Request, gated: Gated, backend: Backend
    ) -> None:
        thread, _ = run(chat.ask(box("Why?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        backend.close()
        thread.join(GUARD)
        (turn,) = Sessions(backend.sessions.folder, "hash").get(f"\n{1:043d}").turns
        assert (turn.answer, turn.finish_reason) == ("Half", "stopped")


class TestErrors:
    def test_an_error_of_the_model_stands_below_what_came(
        self, chat: Chat, me: gr.Request, backend: Backend
    ) -> None:
        error = ProviderError("The server <is> gone. Try again.")
        backend.catalog.put("bad", ScriptedLLM("one two three", error=error, error_after=2))
        *_, last = chat.ask(box("Why?"), "bad", "samples", me)
        answer, shown, _ = texts(last)
        assert answer == "one two"
        assert "The server &lt;is&gt; gone. Try again." in shown
        (turn,) = Session(chat.session(me).folder).turns
        assert (turn.answer, turn.finish_reason) == ("one two", "error")
        assert last[1]["submit_btn"] is True
        assert ask_all(chat, me, "And now?").turns[1].answer == ANSWER

    def test_an_unexpected_error_is_in_the_log_and_not_on_the_page(
        self, chat: Chat, me: gr.Request, backend: Backend, caplog: pytest.LogCaptureFixture
    ) -> None:
        backend.catalog.put("bad", ScriptedLLM(error=RuntimeError("internal detail")))
        with caplog.at_level(logging.ERROR):
            *_, last = chat.ask(box("Why?"), "bad", "samples", me)
        (shown, _) = texts(last)
        assert "Something went wrong (error " in shown
        assert "internal detail" not in str(last)
        number = shown.split("(error ")[1][:8]
        assert f"Error {number}" in caplog.text
        assert "internal detail" in caplog.text

    def test_a_model_that_cannot_stream(self, chat: Chat, me: gr.Request, backend: Backend) -> None:
        mute = ScriptedLLM(model_name="mute")
        mute.is_streaming = False
        backend.catalog.put("mute", mute)
        *_, last = chat.ask(box("Why?"), "mute", "samples", me)
        assert "mute cannot stream" in texts(last)[0]

    def test_a_model_that_cannot_be_had_is_tried_once_for_a_question(
        self, chat: Chat, me: gr.Request, backend: Backend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tries = []

        def load(name: str, *_: Any) -> Any:
            tries.append(name)
            raise ModelUnavailableError("No such model. Choose another.")

        monkeypatch.setattr("rag.llms.catalog.load", load)
        for n in (1, 2):
            *_, last = chat.ask(box("Why?"), "/no/model", "samples", me)
            assert "No such model. Choose another." in texts(last)[0]
            assert len(tries) == n

    def test_a_question_is_answered_also_where_the_disk_is_full(
        self,
        chat: Chat,
        me: gr.Request,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def full(self: Session) -> None:
            raise OSError("No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(Session, "save", full)
            *_, last = chat.ask(box("Why?"), MODEL, "samples", me)
        assert texts(last)[0] == ANSWER
        assert "cannot be saved" in caplog.text
        assert not chat.session(me).lock.locked()
        ask_all(chat, me, "And now?")
        assert kept(chat.session(me)) == ["Why?", "And now?"]


class TestChanging:
    def test_retry_asks_again_in_place(self, chat: Chat, me: gr.Request, llm: ScriptedLLM) -> None:
        session = ask_all(chat, me, "One?", "Two?", "Three?")
        llm.script = "Another answer."
        list(chat.retry(MODEL, "samples", event(2), me))
        assert questions(session) == kept(session) == ["One?", "Two?"]
        assert [turn.answer for turn in session.turns] == [ANSWER, "Another answer."]
        assert [m.content for m in llm.calls[-1][:-1]] == ["One?", ANSWER]

    def test_retry_of_a_message_in_parts(self, chat: Chat, me: gr.Request) -> None:
        session = ask_all(chat, me, "One?", "Two?")
        list(chat.retry(MODEL, "samples", event((0, 1)), me))
        assert questions(session) == ["One?"]

    def test_retry_stops_the_running_answer(self, chat: Chat, me: gr.Request, gated: Gated) -> None:
        session = chat.session(me)
        thread, _ = run(chat.ask(box("Why?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        list(chat.retry(MODEL, "samples", event(0), me))
        thread.join(GUARD)
        assert [turn.answer for turn in session.turns] == [ANSWER]
        assert kept(session) == ["Why?"]

    @pytest.mark.parametrize(
        "value", ["Changed?", [{"type": "text", "text": "Changed?"}], {"text": " Changed? "}]
    )
    def test_edit_asks_the_changed_question(self, chat: Chat, me: gr.Request, value: Any) -> None:
        session = ask_all(chat, me, "One?", "Two?")
        list(chat.edit(MODEL, "samples", event(0, value), me))
        assert questions(session) == kept(session) == ["Changed?"]
        assert session.turns[0].answer == ANSWER

    def test_an_edit_that_is_too_long_changes_nothing(self, chat: Chat, me: gr.Request) -> None:
        session = ask_all(chat, me, "One?", "Two?")
        with pytest.warns(UserWarning, match="8,001 characters"):
            (view,) = chat.edit(MODEL, "samples", event(0, "x" * (MAX_QUESTION + 1)), me)
        assert view[0][0]["content"][0]["text"] == "One?"
        assert questions(session) == ["One?", "Two?"]

    def test_an_edit_that_leaves_nothing_asks_the_old_question(
        self, chat: Chat, me: gr.Request
    ) -> None:
        session = ask_all(chat, me, "One?", "Two?")
        list(chat.edit(MODEL, "samples", event(2, "  "), me))
        assert questions(session) == ["One?", "Two?"]

    def test_undo_gives_the_question_back(self, chat: Chat, me: gr.Request) -> None:
        session = ask_all(chat, me, "One?", "Two?", "Three?")
        view = chat.undo(event(2), me)
        assert view[1]["value"] == {"text": "Two?", "files": []}
        assert questions(session) == kept(session) == ["One?"]
        assert len(view[0]) == 2

    def test_clear(self, chat: Chat, me: gr.Request, gated: Gated) -> None:
        session = ask_all(chat, me, "One?", "Two?")
        thread, _ = run(chat.ask(box("Three?"), "gated", "samples", me))
        assert gated.said_half.wait(GUARD)
        view = chat.clear(me)
        thread.join(GUARD)
        assert view[0] == []
        assert session.turns == []
        assert kept(session) == []

    @pytest.mark.parametrize("index", [0, 2, 40])
    def test_what_another_tab_has_taken_away_is_no_error(
        self, chat: Chat, me: gr.Request, index: int
    ) -> None:
        (view,) = chat.retry(MODEL, "samples", event(index), me)
        assert view[0] == []
        assert chat.undo(event(index), me)[0] == []
        assert "hint" in chat.select(event(index), me)

    def test_a_click_shows_the_sources_of_that_answer(self, chat: Chat, me: gr.Request) -> None:
        ask_all(chat, me, "What of walnuts?")
        list(chat.ask(box("Why?"), MODEL, "mine", me))
        assert "walnuts" in chat.select(event(1), me)
        assert "walnuts" not in chat.select(event((3, 0)), me)


class TestPreparing:
    def test_the_status_is_shown_and_then_the_answer(
        self, unstarted: Backend, me: gr.Request
    ) -> None:
        go = threading.Event()

        def make(report: Callable[[str, float], None]) -> HashEmbedding:
            report("Fetching", 0.43)
            assert go.wait(GUARD)
            return HashEmbedding()

        unstarted.embedding = Preparation("the search model", make)
        unstarted.start()
        chat = Chat(unstarted)
        views = chat.ask(box("What of walnuts?"), MODEL, "samples", me)
        waiting = [texts(next(views))[0] for _ in range(3)]
        assert "Preparing" in waiting[1]
        assert "Preparing" in waiting[2]
        go.set()
        *_, last = views
        assert texts(last)[0] == ANSWER

    def test_one_can_stop_waiting(self, unstarted: Backend, me: gr.Request) -> None:
        go = threading.Event()
        unstarted.embedding = Preparation("x", lambda _: go.wait(GUARD) and HashEmbedding())
        unstarted.start()
        chat = Chat(unstarted)
        thread, seen = run(chat.ask(box("Why?"), MODEL, "samples", me))
        until = time.monotonic() + GUARD
        while len(seen) < 1 and not chat.session(me).turns and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        chat.stop(me)
        thread.join(GUARD)
        alive = thread.is_alive()
        go.set()
        assert not alive
        assert chat.session(me).turns[0].finish_reason == "stopped"
        unstarted.samples.result()

    def test_what_cannot_be_prepared_is_told(
        self, unstarted: Backend, me: gr.Request, tmp_path: Path
    ) -> None:
        def make(report: Any) -> HashEmbedding:
            raise ModelUnavailableError("No weights. Check the connection.")

        unstarted.embedding = Preparation("the search model", make)
        unstarted.start()
        *_, last = Chat(unstarted).ask(box("Why?"), MODEL, "samples", me)
        assert "No weights. Check the connection." in texts(last)[0]


class TestFiles:
    """A question waits for the words of its files, not for their vectors."""

    @staticmethod
    def job(name: str) -> Job:
        return Job(Path("incoming", name), name)

    def test_it_is_answered_once_all_are_searchable_or_failed(
        self, chat: Chat, me: gr.Request
    ) -> None:
        report, bad = self.job("report.pdf"), self.job("bad.pdf")
        views = chat.ask(box("Why?"), MODEL, "samples", me, [report, bad])
        assert [texts(next(views))[0] for _ in range(2)][1].count("Reading report.pdf")
        report.told(Searchable("report.pdf", "id", 900))
        assert "Reading bad.pdf" in [texts(next(views))[0] for _ in range(2)][1]
        bad.ended = True
        *_, last = views
        assert texts(last)[0] == ANSWER

    def test_one_can_stop_waiting(self, chat: Chat, me: gr.Request) -> None:
        views = chat.ask(box("Why?"), MODEL, "samples", me, [self.job("report.pdf")])
        while "Reading" not in texts(next(views))[0]:
            pass
        chat.stop(me)
        *_, last = views
        assert chat.session(me).turns[0].finish_reason == "stopped"
        assert last[1]["submit_btn"] is True

    def test_a_question_without_files_does_not_wait(
        self, chat: Chat, me: gr.Request, backend: Backend
    ) -> None:
        chat.session(me).jobs.append(self.job("report.pdf"))
        assert ask_all(chat, me, "Why?").turns[0].answer == ANSWER
        chat.session(me).jobs.clear()
