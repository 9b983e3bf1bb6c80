"""Answers in threads of their own: what is written, who looks on, when it ends."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from rag.errors import ProviderError
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage
from rag.ui import writing as module
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.sessions import Session
from rag.ui.writing import Writing, history
from tests.ui.pages import GUARD, Gated, eventually, free_place

Begin = Callable[..., Writing]


pytestmark = pytest.mark.usefixtures("suggested")


@pytest.fixture
def session(backend: Backend) -> Session:
    return backend.sessions.get("one")


@pytest.fixture
def begin(backend: Backend, session: Session) -> Begin:
    """Begins an answer to a question, which becomes the last of a conversation."""

    def begin_(model: str, conversation: Conversation | None = None, **turn: Any) -> Writing:
        conversation = conversation or session.begin()
        answer = Answer(model)
        asked = Turn("Walnuts?", [answer], "samples", **turn)
        assert conversation.lock.acquire(timeout=GUARD)
        conversation.turns.append(asked)
        writing = Writing(backend, session, conversation, asked, answer, free_place())
        writing.start()
        return writing

    return begin_


@pytest.fixture
def gated(backend: Backend) -> Iterator[Gated]:
    llm = Gated()
    backend.catalog.put("gated", llm)
    yield llm
    llm.gate.set()


def over(writing: Writing) -> Answer:
    eventually(lambda: writing.over)
    return writing.answer


def test_an_answer_is_written_and_kept(begin: Begin, session: Session) -> None:
    writing = begin("scripted")
    answer = over(writing)
    assert (answer.text, answer.finish_reason) == ("The answer is in the passage.", "stop")
    assert not writing.conversation.lock.locked()
    assert writing.doing is None
    kept = Session(session.folder).conversation(writing.conversation.key)
    assert kept
    assert kept.turns == writing.conversation.turns


def test_what_has_come_is_kept_while_it_is_written(
    begin: Begin, session: Session, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is killed in the middle loses no more than the last words."""
    monkeypatch.setattr(module, "KEPT", 0.05)
    writing = begin("gated")

    def kept() -> Conversation:
        found = Session(session.folder).conversation(writing.conversation.key)
        assert found
        return found

    eventually(lambda: list(session.folder.rglob("*.json")) and kept().turns[0].answers[0].text)
    assert kept().turns[0].answers[0].text == "Half"
    assert not writing.over
    gated.gate.set()
    over(writing)


def test_who_looks_only_when_something_was_counted_misses_nothing(
    begin: Begin, backend: Backend
) -> None:
    backend.catalog.put("steady", ScriptedLLM("word " * 60, tokens_per_second=300))
    writing = begin("steady")
    version, seen = -1, ""
    while True:
        over, now = writing.over, writing.version
        if now != version:
            version, seen = now, writing.answer.text
        if over:
            break
        time.sleep(0.001)
    assert seen == writing.answer.text
    assert seen.split() == ["word"] * 60


def test_nobody_looking_on_ends_it(
    begin: Begin, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNWATCHED", 0.1)
    answer = over(begin("gated"))
    assert gated.closed.is_set()
    assert (answer.text, answer.finish_reason) == ("Half", "stopped")


def test_it_goes_on_while_one_of_several_looks_on(
    begin: Begin, gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNWATCHED", 0.2)
    writing = begin("gated")
    with writing.watched_by("one"):
        with writing.watched_by("two"), writing.watched_by("two"):
            time.sleep(0.1)
        time.sleep(0.4)
        assert writing.watching == ["one"]
        assert not writing.over
    # A reload: for a moment nobody looks on.
    time.sleep(0.05)
    with writing.watched_by("three"):
        time.sleep(0.4)
        assert not writing.over
        gated.gate.set()
        assert over(writing).finish_reason == "stop"


def test_many_tabs_come_and_go(begin: Begin, gated: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an error in the thread that looks whether anybody is there."""
    writing = begin("gated")
    until = time.monotonic() + 0.5

    def visit(number: int) -> None:
        count = 0
        while time.monotonic() < until:
            count += 1
            with writing.watched_by(f"{number} {count}"):
                pass

    visits = [threading.Thread(target=visit, args=(number,)) for number in range(4)]
    for each in visits:
        each.start()
    for each in visits:
        each.join(GUARD)
    gated.gate.set()
    assert over(writing).finish_reason == "stop"
    assert writing.watching == []


@pytest.mark.parametrize("how", ["deleted", "forgotten"])
def test_what_is_deleted_is_not_written_any_further(
    begin: Begin, gated: Gated, backend: Backend, session: Session, how: str
) -> None:
    writing = begin("gated")
    writing.keep()
    assert gated.said_half.wait(GUARD)
    if how == "deleted":
        session.delete(writing.conversation.key)
    else:
        backend.sessions.forget(session)
    assert over(writing).finish_reason == "stopped"
    assert gated.closed.is_set()
    assert not list(session.folder.rglob("*.json"))
    # Nor what was begun too late to be stopped.
    writing.conversation.stop.clear()
    assert over(begin("gated", writing.conversation)).finish_reason == "stopped"
    assert not list(session.folder.rglob("*.json"))


def test_where_there_is_no_thread_it_ends_at_once(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(threading.Thread, "start", start)
        writing = begin("scripted")
    assert writing.over
    assert not writing.conversation.lock.locked()
    assert writing.answer.finish_reason == "error"
    assert "Ask again" in writing.answer.error
    assert "could not be begun" in caplog.text
    assert over(begin("scripted", writing.conversation)).finish_reason == "stop"


def test_whatever_goes_wrong_with_keeping_it_ends(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def keep(self: Session, _: Conversation) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(Session, "keep", keep)
        writing = begin("scripted")
        answer = over(writing)
    assert answer.text == "The answer is in the passage."
    assert not writing.conversation.lock.locked()
    assert "a bug" in caplog.text


def test_an_error_that_says_what_to_do_is_shown(begin: Begin, backend: Backend) -> None:
    error = ProviderError("The key is wrong. Set another.")
    backend.catalog.put("bad", ScriptedLLM("one two", error=error, error_after=1))
    answer = over(begin("bad"))
    assert (answer.text, answer.error) == ("one", "The key is wrong. Set another.")
    assert answer.finish_reason == "error"


def test_of_several_answers_the_last_was_said(
    begin: Begin, session: Session, llm: ScriptedLLM
) -> None:
    conversation = session.begin()
    whole = Turn("One?", [Answer(text="No.", finish_reason="stop"), Answer(text="Yes.")])
    without = Turn("Two?", [Answer(error="oh", finish_reason="error")])
    conversation.turns += [whole, without]
    writing = begin("scripted", conversation)
    over(writing)
    conversation.turns.append(Turn("Later?", [Answer(text="Later.")]))
    assert [message.content for message in history([whole, without])] == ["One?", "Yes."]
    told = [message.content for message in llm.calls[-1]]
    assert told[:-1] == ["One?", "Yes."]


def test_what_is_searched_for_instead(backend: Backend, session: Session, llm: ScriptedLLM) -> None:
    conversation, answer = session.begin(), Answer("scripted")
    turn = Turn("And it?", [answer], "samples")
    conversation.turns += [Turn("One?", [Answer(text="Yes.", finish_reason="stop")]), turn]
    conversation.lock.acquire()
    writing = Writing(
        backend, session, conversation, turn, answer, free_place(), search_for="What of walnuts?"
    )
    writing.start()
    over(writing)
    assert answer.searched_for == "What of walnuts?"
    assert len(llm.calls) == 1


class TestSuggesting:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
        """What further questions are looked for with."""
        calls: list[Any] = []

        def suggest(*arguments: Any) -> Iterator[str]:
            calls.append(arguments)
            yield "What is a walnut?"

        monkeypatch.setattr(module, "suggest", suggest)
        return calls

    def test_with_what_was_asked_and_found(
        self, begin: Begin, session: Session, llm: ScriptedLLM, asked: list[Any]
    ) -> None:
        conversation = session.begin()
        conversation.turns.append(Turn("One?", [Answer(text="Yes.", finish_reason="stop")]))
        llm.script = lambda messages: "Of walnuts?" if _condensing(messages) else "Yes."
        answer = over(begin("scripted", conversation))
        ((questions, sources, retriever, *_),) = asked
        assert questions == ["One?", "Of walnuts?"]
        assert sources.nodes == answer.sources
        assert [hit.node.file_name for hit in retriever.retrieve("walnuts")] == ["sample.txt"]
        assert answer.suggestions == ("What is a walnut?",)

    def test_not_once_another_question_is_the_last(
        self, begin: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = threading.Event()

        def suggest(*_: Any) -> Iterator[str]:
            yield "What is a walnut?"
            assert found.wait(GUARD)

        monkeypatch.setattr(module, "suggest", suggest)
        writing = begin("scripted")
        eventually(lambda: writing.answer.finish_reason and not writing.conversation.lock.locked())
        writing.conversation.turns.append(Turn("Next?"))
        found.set()
        assert over(writing).suggestions == ()

    def test_nor_where_much_is_asked_by_others(
        self, begin: Begin, asked: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "BUSY_LINE", 1)
        writing = begin("scripted")  # whose place nobody gives back here
        assert over(writing).suggestions == ()
        assert asked == []
        monkeypatch.setattr(module, "BUSY_LINE", 2)
        assert over(begin("scripted")).suggestions == ("What is a walnut?",)

    def test_nor_where_all_was_taken_back(
        self, begin: Begin, asked: list[Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        give_back = Writing._give_back

        def then_gone(self: Writing) -> None:
            give_back(self)
            self.conversation.turns.clear()

        monkeypatch.setattr(Writing, "_give_back", then_gone)
        assert over(begin("scripted")).suggestions == ()
        assert asked == []

    def test_nobody_is_told_what_breaks_at_the_end_of_the_program(
        self, begin: Begin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def suggest(*_: Any) -> Iterator[str]:
            yield ""
            writing.conversation.stop.set()
            raise RuntimeError("the index is closed")

        monkeypatch.setattr(module, "suggest", suggest)
        writing = begin("scripted")
        assert over(writing).finish_reason == "stop"
        assert caplog.text == ""


def _condensing(messages: Sequence[ChatMessage]) -> bool:
    return "A conversation" in messages[-1].content
