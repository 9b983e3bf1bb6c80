"""How much one session may ask for."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.config import Config
from rag.ui import chat, writing
from rag.ui import limits as module
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.language import english
from rag.ui.limits import Limits, full
from rag.ui.line import Place, Waiting
from rag.ui.sessions import Session
from rag.ui.writing import TOO_LONG
from tests.ui.conftest import asks
from tests.ui.pages import GUARD, Gated, Page, Reading, eventually


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "session")


def begin(limits: Limits, session: Session, conversation: str = "") -> Place:
    place = limits.begin(session, conversation)
    assert isinstance(place, Place)
    return place


def told(limits: Limits, session: Session, conversation: str = "") -> str:
    """Why a question is not answered."""
    refusal = limits.begin(session, conversation)
    assert not isinstance(refusal, Place)
    return english(refusal[0], **refusal[1])


def test_questions_in_a_minute(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(Config(questions_per_minute=3))
    for _ in range(3):
        limits.ended(session, "", begin(limits, session))
    assert told(limits, session).startswith("More than 3 questions in a minute. Wait ")
    begin(limits, Session(tmp_path / "other"))
    monkeypatch.setattr(module, "MINUTE", 0.0)
    begin(limits, session)


def test_answers_at_once(session: Session, tmp_path: Path) -> None:
    limits = Limits(Config(max_session_answers=2))
    # Of two in one, the first gives way.
    a, b, other = (begin(limits, session, conversation) for conversation in "abb")
    assert told(limits, session, "c").startswith("2 answers are being written for you already.")
    stranger = begin(limits, Session(tmp_path / "other"), "a")
    limits.ended(session, "b", b)
    assert "already" in told(limits, session, "c")
    limits.ended(session, "b", other)
    c = begin(limits, session, "c")
    for conversation, place in ("a", a), ("c", c):
        limits.ended(session, conversation, place)
    assert list(limits._answers) == ["other"]
    assert limits.line.writing == 1
    limits.ended(Session(tmp_path / "other"), "a", stranger)
    assert not limits._answers


def test_answers_at_once_of_all(tmp_path: Path) -> None:
    limits = Limits(Config(max_answers=1, max_waiting=2))
    one, two, three, four = (Session(tmp_path / str(number)) for number in range(4))
    writing = begin(limits, one)
    second, third = begin(limits, two), begin(limits, three)
    assert (writing.waiting, second.waiting, third.waiting) == (
        None,
        Waiting(1, None),
        Waiting(2, None),
    )
    assert told(limits, four) == (
        "Too many ask here just now: 2 questions wait already. Ask again in 60 seconds."
    )
    limits.ended(one, "", writing)
    assert (second.waiting, third.waiting) == (None, Waiting(1, 1))
    last = begin(limits, four)
    assert told(limits, one).endswith("2 questions wait already. Ask again in 1 seconds.")
    for session, place in (three, third), (two, second), (four, last):
        limits.ended(session, "", place)
    assert (limits.line.writing, limits.line.waiting) == (0, 0)


def test_room_on_the_disk(session: Session) -> None:
    config = Config(max_session_mb=1)
    assert full(session, config) is None
    session.folder.mkdir()
    (session.folder / "file").write_bytes(b"x" * 1_100_000)
    assert "more than 1 MB" in told(Limits(config), session)
    assert full(session, dataclasses.replace(config, max_session_mb=0)) is None


def test_what_is_known_of_sessions_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY", 5)
    limits = Limits(Config())
    for number in range(20):
        limits.begin(Session(tmp_path / str(number)), "")
    assert len(limits._asked) == 5


class TestInTheChat:
    @pytest.fixture
    def llm(self) -> Gated:
        return Gated()

    @pytest.fixture
    def config(self, config: Config) -> Config:
        return dataclasses.replace(config, max_session_answers=1, questions_per_minute=3)

    def test_one_answer_too_many_is_said(self, backend: Backend, llm: Gated) -> None:
        handlers = Chat(backend)
        first, second = (Page(handlers, asks(tab=tab)) for tab in "12")
        second.click("new").end()
        begun = first.asks("One?", scope="none")
        assert llm.said_half.wait(10)
        with pytest.warns(UserWarning, match="1 answers are being written for you already"):
            second.asks("Two?", scope="none").end()
        llm.gate.set()
        begun.end()
        assert second.ask("Three?", scope="none").text == "Half and half."

    def test_one_question_too_many_is_said(self, backend: Backend, llm: Gated) -> None:
        llm.gate.set()
        page = Page(Chat(backend), asks())
        page.ask("One?", "Two?", "Three?", scope="none")
        with pytest.warns(UserWarning, match="More than 3 questions in a minute"):
            page.asks("Four?", scope="none").end()
        assert len(page.conversation.turns) == 3
        stranger = Page(Chat(backend), asks(2))
        assert stranger.ask("One?", scope="none").text == "Half and half."

    @pytest.fixture
    def line(self, backend: Backend, llm: Gated) -> Iterator["InLine"]:
        """One answer may be written, and is."""
        backend.config = dataclasses.replace(backend.config, max_answers=1, max_waiting=2)
        line = InLine(Chat(backend))
        begun = line.asks(1)
        assert llm.said_half.wait(GUARD)
        yield line
        llm.gate.set()
        for reading in (begun, *line.readings):
            reading.end()
        # Nobody holds a place who is not there.
        eventually(lambda: (line.line.writing, line.line.waiting) == (0, 0))

    def test_in_the_line_one_is_told_where_one_stands(self, line: "InLine", llm: Gated) -> None:
        waiting = line.asks(2)
        line.stands(2, 1)
        last = line.asks(3)
        line.stands(3, 2)
        page = line.page(4)
        with pytest.warns(UserWarning, match="2 questions wait already. Ask again in 60 seconds"):
            page.asks("Why?", scope="none").end()
        assert page.conversation.turns == []
        assert len(llm.calls) == 1
        llm.gate.set()
        for reading in (waiting, last):
            reading.end()
        assert line.page(2).said == line.page(3).said == "Half and half."

    def test_who_stops_leaves_the_line(self, line: "InLine", llm: Gated) -> None:
        waiting = line.asks(2)
        line.stands(2, 1)
        line.asks(3)
        line.stands(3, 2)
        assert line.page(2).box["stop_btn"] is True
        line.page(2).stop()
        waiting.end()
        assert line.page(2).conversation.turns[0].answers[0].finish_reason == "stopped"
        line.stands(3, 1)
        assert len(llm.calls) == 1

    def test_who_forgets_everything_leaves_the_line(self, line: "InLine") -> None:
        line.asks(2)
        line.stands(2, 1)
        sessions = line.chat.backend.sessions
        sessions.forget(line.page(2).session)
        eventually(lambda: not line.line.waiting)

    def test_who_vanishes_leaves_the_line(
        self, line: "InLine", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chat, "ALIVE", 0.02)
        waiting = line.asks(2)
        line.stands(2, 1)
        monkeypatch.setattr(writing, "UNWATCHED", 0.1)
        time.sleep(2 * writing.GLANCE)
        assert line.line.waiting == 1  # somebody looks on
        waiting.close()
        eventually(lambda: not line.line.waiting)

    def test_who_reloads_keeps_their_place(
        self, line: "InLine", llm: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chat, "ALIVE", 0.02)
        waiting = line.asks(2)
        line.stands(2, 1)
        waiting.close()
        line.asks(3)
        again = Page(line.chat, asks(2, tab="reloaded"))
        follows = again.follows()
        eventually(lambda: again.text("status").startswith("Number 1 in the line"))
        llm.gate.set()
        follows.end()
        assert again.said == "Half and half."

    def test_who_asks_again_waits_anew(self, line: "InLine", llm: Gated) -> None:
        waiting = line.asks(2)
        line.stands(2, 1)
        line.asks(3)
        line.stands(3, 2)
        line.readings.remove(waiting)
        key = line.page(2).conversation.turns[0].key
        again = line.page(2).presses("edit", key, "And now?", scope="none")
        line.readings.append(again)
        waiting.end()
        line.stands(3, 1)
        line.stands(2, 2)
        assert line.page(2).questions == ["And now?"]

    def test_an_answer_that_does_not_end_is_ended(self, backend: Backend, llm: Gated) -> None:
        backend.config = dataclasses.replace(backend.config, answer_timeout=1)
        page = Page(Chat(backend), asks())
        answer = page.ask("One?", scope="none")
        assert answer.error == TOO_LONG
        eventually(llm.closed.is_set)
        assert TOO_LONG in page.text("error")


class InLine:
    """Pages of strangers, by their numbers."""

    def __init__(self, chat: Chat):
        self.chat, self.line = chat, chat.limits.line
        self.readings: list[Reading] = []
        self._pages: dict[int, Page] = {}

    def page(self, number: int) -> Page:
        if number not in self._pages:
            self._pages[number] = Page(self.chat, asks(number))
        return self._pages[number]

    def asks(self, number: int) -> Reading:
        self.readings.append(self.page(number).asks("Why?", scope="none"))
        return self.readings[-1]

    def stands(self, number: int, where: int) -> None:
        status = f"Number {where} in the line"
        eventually(lambda: self.page(number).text("status").startswith(status))
