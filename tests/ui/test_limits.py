"""How much one session may ask for."""

import dataclasses
from pathlib import Path

import pytest

from rag.config import Config
from rag.ui import limits as module
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.language import english
from rag.ui.limits import Limits, full
from rag.ui.sessions import Session
from rag.ui.writing import TOO_LONG
from tests.ui.conftest import asks
from tests.ui.pages import Gated, Page, eventually


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "session")


def told(limits: Limits, session: Session, conversation: str = "") -> str:
    refusal = limits.begin(session, conversation)
    return english(refusal[0], **refusal[1]) if refusal else ""


def test_questions_in_a_minute(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(Config(questions_per_minute=3))
    for _ in range(3):
        assert told(limits, session) == ""
        limits.ended(session, "")
    assert told(limits, session).startswith("More than 3 questions in a minute. Wait ")
    assert told(limits, Session(tmp_path / "other")) == ""
    monkeypatch.setattr(module, "MINUTE", 0.0)
    assert told(limits, session) == ""


def test_answers_at_once(session: Session, tmp_path: Path) -> None:
    limits = Limits(Config(max_session_answers=2))
    for conversation in ("a", "b", "b"):  # of two in one, the first gives way
        assert told(limits, session, conversation) == ""
    assert told(limits, session, "c").startswith("2 answers are being written for you already.")
    assert told(limits, Session(tmp_path / "other"), "a") == ""
    limits.ended(session, "b")
    assert told(limits, session, "c") != ""
    limits.ended(session, "b")
    assert told(limits, session, "c") == ""
    for conversation in "acca":
        limits.ended(session, conversation)
    assert list(limits._answers) == ["other"]


def test_answers_at_once_of_all(tmp_path: Path) -> None:
    limits = Limits(Config(max_answers=2))
    one, two, three = (Session(tmp_path / str(number)) for number in range(3))
    assert told(limits, one, "a") == told(limits, two, "a") == ""
    assert told(limits, three, "a").startswith("Too much is going on here")
    assert told(limits, one, "b").startswith("Too much is going on here")
    assert told(limits, one, "a") == ""  # it takes the place of the one before
    limits.ended(two, "a")
    assert told(limits, three, "a") == ""
    for session in (one, one, three):
        limits.ended(session, "a")
    assert not limits._answers


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
        chat = Chat(backend)
        first, second = Page(chat, asks(tab="1")), Page(chat, asks(tab="2"))
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

    def test_an_answer_that_does_not_end_is_ended(self, backend: Backend, llm: Gated) -> None:
        backend.config = dataclasses.replace(backend.config, answer_timeout=1)
        page = Page(Chat(backend), asks())
        answer = page.ask("One?", scope="none")
        assert answer.error == TOO_LONG
        eventually(llm.closed.is_set)
        assert TOO_LONG in page.text("error")
