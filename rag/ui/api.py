"""What programs may do: ask, add, list, remove. As docs/http.md has it, over Gradio's own API.

A program is a browser like any other: the same login, the same cookie, the same limits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr

from rag.errors import RivuletError
from rag.ui.chat import Asking, Chat
from rag.ui.conversations import Answer, Scope
from rag.ui.jobs import Job
from rag.ui.library import Library

SEARCHED: tuple[Scope, ...] = ("mine", "samples", "all", "none")
GLANCE = 0.1
"""Seconds between two looks at whether a file is in."""
NOT_ASKED = (
    "The question was not asked: it is empty, too long, or one of too many. Shorten it, or wait."
)


class Api:
    """The handlers, over those of the page."""

    def __init__(self, chat: Chat, library: Library):
        self.chat, self.library = chat, library

    def build(self, on: Callable[..., Any], asking: dict[str, Any]) -> None:
        """Make the endpoints; the components tell Gradio their types. `asking`: how answers take
        turns with those of the page."""
        with gr.Column(visible=False):
            button = gr.Button()
            question = gr.Textbox(label="question")
            search_in = gr.Dropdown(list(SEARCHED), value="mine", label="search_in")
            file = gr.File(label="file")
            address = gr.Textbox(label="address")
            document = gr.Textbox(label="document")
            answer, more = gr.Textbox(label="answer"), gr.JSON(label="more")
            found = gr.JSON(label="documents")
        public = {"api_visibility": "public"}
        asked = {"inputs": [question, search_in], "outputs": [answer, more]}
        on(button.click, self.ask, api_name="ask", **asked, **asking, **public)
        quick = {"outputs": found, "concurrency_limit": None, **public}
        on(button.click, self.add, api_name="add", inputs=[file, address], **quick)
        on(button.click, self.list_, api_name="list", **quick)
        on(button.click, self.remove, api_name="remove", inputs=document, **quick)

    async def ask(
        self, question: str, search_in: Scope, request: gr.Request
    ) -> AsyncIterator[tuple[str, Any]]:
        """The answer, as far as it has come; with its end the sources of it."""
        look = self.chat.look(request)
        conversation = look.conversation
        before = conversation.turns[-1:]
        asking = Asking(self.chat.backend.config.model, search_in)
        said: str | None = None
        async for _ in self.chat.ask({"text": question}, asking, request):
            if conversation.turns[-1:] != before and conversation.turns:
                answer = conversation.turns[-1].answers[-1]
                if answer.text != said and answer.finish_reason is None:
                    said = answer.text
                    yield said, None
        if conversation.turns[-1:] == before:
            raise gr.Error(NOT_ASKED, print_exception=False)
        answer = conversation.turns[-1].answers[-1]
        yield answer.text, _more(answer)

    async def add(self, file: str | None, address: str, request: gr.Request) -> dict[str, Any]:
        """Add a file, or the web page at an address, and wait until it is in or not."""
        look, library = self.library.look(request), self.library
        jobs: list[Job] = library.take(look.session, [file]) if file else []
        if address:
            jobs += library.take_page(look.session, address)
        while not all(job.ended for job in jobs):
            await asyncio.sleep(GLANCE)
        notes = [note.said(look.say) for job in jobs for note in job.report()]
        return {"notes": notes, "documents": self._documents(request)}

    def list_(self, request: gr.Request) -> dict[str, Any]:
        """One's own documents."""
        return {"documents": self._documents(request)}

    def remove(self, document: str, request: gr.Request) -> dict[str, Any]:
        """Remove a document, by its identity in the list."""
        session = self.library.look(request).session
        if document not in [each["id"] for each in self._documents(request)]:
            raise RivuletError("There is no such document. The list has the identities.")
        self.library.backend.sessions.remove_document(session, document)
        return {"documents": self._documents(request)}

    def _documents(self, request: gr.Request) -> list[dict[str, Any]]:
        session = self.library.look(request).session
        return [
            {"id": each.id_, "name": each.name, "pages": each.pages, "passages": each.passages}
            for each in self.library.backend.sessions.documents(session)
        ]


def _more(answer: Answer) -> dict[str, Any]:
    sources = [
        {"name": hit.node.file_name, "page": hit.node.page, "text": hit.node.text}
        for hit in answer.sources
    ]
    return {"ended": answer.finish_reason, "error": answer.error, "sources": sources}
