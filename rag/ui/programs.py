"""What programs may do, whichever way they come: ask, add, list, remove.

`api` has them over Gradio's API, `tools` as tools of an assistant. The same limits hold as on the
page. Knows nothing of either protocol.
"""

import asyncio
from collections.abc import AsyncGenerator
from functools import partial
from pathlib import Path
from typing import Any

from rag.errors import RivuletError
from rag.ui.backend import Backend
from rag.ui.chat import Chat, Pace
from rag.ui.conversations import Answer, Conversation, Scope, Turn
from rag.ui.jobs import Job
from rag.ui.language import english
from rag.ui.library import TOO_MANY
from rag.ui.sessions import Session
from rag.ui.writing import Writing

EMPTY = "The question is empty. Write one."
NOTHING_GIVEN = "There is nothing to add: give a document, or the address of a web page."
NOT_THERE = "There is no such document. The list has the identities."


class Programs:
    """The four, over what the page has. Each raises RivuletError where it cannot be done."""

    def __init__(self, backend: Backend):
        self.backend, self.chat = backend, Chat(backend)

    async def ask(
        self, session: Session, conversation: Conversation, question: str, scope: Scope, tab: str
    ) -> AsyncGenerator[Writing, None]:
        """Have a question answered, and yield what is being written: each time that it has
        changed, and when it is there. `tab` is who looks on."""
        question = question.strip()
        if not question:
            raise RivuletError(EMPTY)
        if refusal := self.chat.too_long(question):
            raise RivuletError(english(refusal[0], **refusal[1]))
        answer = Answer(self.backend.config.model)
        turn = Turn(question, [answer], scope, options=session.preferences.options)
        put = partial(conversation.turns.append, turn)
        begun = await self.chat.begin(session, conversation, turn, answer, put)
        if not isinstance(begun, Writing):
            text, values = begun
            raise RivuletError(english(text, **values))
        with begun.watched_by(tab):
            version, pace = -1, Pace(begun)
            while True:
                over, now = answer.finish_reason is not None, begun.version
                if over or now != version or pace.is_silent:
                    version = now
                    with pace.telling():
                        yield begun
                if over:
                    break
                await pace.wait()

    async def add(self, session: Session, files: list[Path], address: str = "") -> list[Job]:
        """Queue files, and the web page at an address; they are in once all these have ended."""
        return await asyncio.to_thread(self._add, session, files, address.strip())

    def _add(self, session: Session, files: list[Path], address: str) -> list[Job]:
        if not (files or address):
            raise RivuletError(NOTHING_GIVEN)
        most, intake = self.backend.config.max_files, self.backend.intake
        if len(session.jobs) + len(files) + bool(address) > most:
            raise RivuletError(english(TOO_MANY, number=most))
        jobs = intake.add(session, files) if files else []
        if address:
            jobs += intake.add_page(session, address)
        if not jobs:  # the disk did not take them
            raise RivuletError(session.notes[-1].said())
        return jobs

    def documents(self, session: Session) -> list[dict[str, Any]]:
        """What is listed of each document of the session."""
        return [
            {"id": each.id_, "name": each.name, "pages": each.pages, "passages": each.passages}
            for each in self.backend.sessions.documents(session)
        ]

    def remove(self, session: Session, document: str) -> None:
        """Remove a document, by its identity in the list."""
        if document not in [each["id"] for each in self.documents(session)]:
            raise RivuletError(NOT_THERE)
        self.backend.sessions.remove_document(session, document)


def sources_of(answer: Answer) -> list[dict[str, Any]]:
    """The passages that the model was given."""
    return [
        {"name": hit.node.file_name, "page": hit.node.page, "text": hit.node.text}
        for hit in answer.sources
    ]
