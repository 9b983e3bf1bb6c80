"""What is typed is read ahead the very way it is asked, and only where nothing is lost by it."""

from collections.abc import Sequence

import pytest

from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage
from rag.ui.anticipation import Anticipation
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.sessions import Session

MODEL = "reads"


class Reads(ScriptedLLM):
    """Notes what it is to read ahead."""

    def __init__(self) -> None:
        super().__init__("Of walnuts.")
        self.ahead: list[list[ChatMessage]] = []

    def read_ahead(self, messages: Sequence[ChatMessage]) -> None:
        self.ahead.append(list(messages))


@pytest.fixture
def reads(backend: Backend) -> Reads:
    llm = Reads()
    backend.catalog.put(MODEL, llm)
    return llm


@pytest.fixture
def session(backend: Backend) -> Session:
    return backend.sessions.get("one")


def typed(question: str) -> Turn:
    return Turn(question, scope="samples")


def test_the_prompt_that_is_read_is_the_one_of_the_question(
    backend: Backend, reads: Reads, session: Session
) -> None:
    conversation = Conversation(turns=[Turn("Hi?", [Answer(text="Yes.", finish_reason="stop")])])
    read = Anticipation(backend).expect(session, conversation, typed("What of walnuts"), MODEL)
    (hit,) = backend.retrieve(session, "samples", "walnuts")
    assert read == (hit.node.id_,)
    (messages,) = reads.ahead
    assert "The sample speaks of walnuts." in messages[-1].content
    assert "What of walnuts" in messages[-1].content
    assert reads.calls == []
    assert [turn.question for turn in conversation.turns] == ["Hi?"]


def test_of_plain_chat_the_question_alone_is_read(
    backend: Backend, reads: Reads, session: Session
) -> None:
    turn = Turn("What of walnuts", scope="none")
    assert Anticipation(backend).expect(session, Conversation(), turn, MODEL) == ()
    (messages,) = reads.ahead
    assert messages[-1].content == "What of walnuts"


@pytest.mark.parametrize("question", ["", "What", "   "])
def test_of_a_word_nothing_is_read(
    backend: Backend, reads: Reads, session: Session, question: str
) -> None:
    assert Anticipation(backend).expect(session, Conversation(), typed(question), MODEL) == ()
    assert reads.ahead == []


def test_a_model_elsewhere_is_not_asked(backend: Backend, session: Session) -> None:
    llm = ScriptedLLM()
    backend.catalog.put("elsewhere", llm)
    turn = typed("What of walnuts")
    assert Anticipation(backend).expect(session, Conversation(), turn, "elsewhere") == ()
    assert llm.calls == []


def test_nothing_is_loaded_for_it(unstarted: Backend) -> None:
    turn = typed("What of walnuts")
    session = unstarted.sessions.get("one")
    assert Anticipation(unstarted).expect(session, Conversation(), turn, "scripted") == ()
    assert not unstarted.samples.ready


def test_what_fails_is_told_to_who_asks_alone(
    backend: Backend, reads: Reads, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(backend, "retrieve", fail)
    anticipation = Anticipation(backend)
    assert anticipation.expect(session, Conversation(), typed("What of walnuts"), MODEL) == ()
    monkeypatch.undo()
    assert anticipation.expect(session, Conversation(), typed("What of walnuts"), MODEL)
