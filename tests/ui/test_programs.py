"""What programs may do, whichever way they come."""

import asyncio
import dataclasses
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from rag.errors import RivuletError
from rag.ui import chat
from rag.ui import programs as module
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Conversation, Scope
from rag.ui.programs import Programs
from rag.ui.sessions import Session
from tests.ui.pages import Gated, eventually


@pytest.fixture
def programs(backend: Backend) -> Programs:
    return Programs(backend)


@pytest.fixture
def session(backend: Backend) -> Session:
    return backend.sessions.get("someone")


def asked(
    programs: Programs, session: Session, question: str, scope: Scope = "samples"
) -> list[Answer]:
    """The answer, each time that something was told of it."""

    async def ask() -> list[Answer]:
        states = programs.ask(session, Conversation(), question, scope, "tab")
        return [dataclasses.replace(writing.answer) async for writing in states]

    return asyncio.run(ask())


def test_an_answer_comes_with_its_sources(programs: Programs, session: Session) -> None:
    *before, last = asked(programs, session, " Of what does it speak? ")
    assert last.text == "The answer is in the passage."
    assert last.finish_reason == "stop"
    assert [each.finish_reason for each in before] == [None] * len(before)
    (source,) = module.sources_of(last)
    assert source == {"name": "sample.txt", "page": None, "text": "The sample speaks of walnuts."}


@pytest.mark.parametrize(
    ("question", "reason"),
    [(" \n", "The question is empty"), ("x" * 8_001, "more than 8,000 characters")],
)
def test_what_cannot_be_asked(
    question: str, reason: str, programs: Programs, session: Session
) -> None:
    with pytest.raises(RivuletError, match=reason):
        asked(programs, session, question)


def test_what_is_one_too_many(programs: Programs, session: Session) -> None:
    config = dataclasses.replace(programs.backend.config, questions_per_minute=1)
    programs.chat.limits.config = config
    asked(programs, session, "One?", "none")
    with pytest.raises(RivuletError, match="More than 1 questions in a minute"):
        asked(programs, session, "Two?", "none")


class TestSilent:
    @pytest.fixture
    def llm(self) -> Gated:
        return Gated()

    def test_something_is_told_while_the_model_is_silent(
        self, programs: Programs, session: Session, llm: Gated, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else whoever asks could not see that nobody listens any more."""
        monkeypatch.setattr(chat, "ALIVE", 0.05)
        conversation = Conversation()

        async def ask() -> None:
            async with aclosing(
                programs.ask(session, conversation, "Which?", "none", "tab")
            ) as states:
                same = 0
                async for writing in states:
                    same += writing.answer.text == "Half"
                    if same == 4:
                        assert writing.watching == ["tab"]
                        conversation.stop.set()
                assert not writing.watching

        asyncio.run(ask())
        eventually(llm.closed.is_set)


class TestDocuments:
    def test_one_is_added_listed_and_removed(
        self, programs: Programs, session: Session, upload: Callable[..., str]
    ) -> None:
        (job,) = asyncio.run(programs.add(session, [Path(upload("a.txt", "Apples."))]))
        eventually(lambda: job.ended)
        (listed,) = programs.documents(session)
        assert (listed["name"], listed["passages"]) == ("a.txt", 1)
        with pytest.raises(RivuletError, match="There is no such document"):
            programs.remove(session, "another")
        programs.remove(session, listed["id"])
        assert programs.documents(session) == []

    def test_nothing_is_nothing_to_add(self, programs: Programs, session: Session) -> None:
        with pytest.raises(RivuletError, match="There is nothing to add"):
            asyncio.run(programs.add(session, [], " "))

    def test_more_than_may_be_on_their_way(
        self, programs: Programs, session: Session, upload: Callable[..., str]
    ) -> None:
        programs.backend.config = dataclasses.replace(programs.backend.config, max_files=1)
        file = Path(upload("a.txt", "Apples."))
        with pytest.raises(RivuletError, match="There are 1 files on their way"):
            asyncio.run(programs.add(session, [file], "https://example.org"))
        assert not session.jobs

    def test_what_the_disk_does_not_take(self, programs: Programs, session: Session) -> None:
        with pytest.raises(RivuletError, match="it could not be copied"):
            asyncio.run(programs.add(session, [Path("/nowhere/a.txt")]))
