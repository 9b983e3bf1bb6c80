"""What programs may do, over Gradio's own API. As docs/http.md has it.

A program is a browser like any other: the same login, the same cookie, the same limits.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from rag.ui.conversations import Scope
from rag.ui.line import Waiting
from rag.ui.programs import Programs, sources_of

SEARCHED: tuple[Scope, ...] = ("mine", "samples", "all", "none")
GLANCE = 0.1
"""Seconds between two looks at whether a file is in."""


class Api:
    """The handlers, over those of the page."""

    def __init__(self, programs: Programs):
        self.programs = programs

    def build(self, on: Callable[..., Any]) -> None:
        """Make the endpoints; the components tell Gradio their types."""
        with gr.Column(visible=False):
            button = gr.Button()
            question = gr.Textbox(label="question")
            search_in = gr.Dropdown(list(SEARCHED), value="mine", label="search_in")
            file = gr.File(label="file")
            address = gr.Textbox(label="address")
            document = gr.Textbox(label="document")
            answer, more = gr.Textbox(label="answer"), gr.JSON(label="more")
            found = gr.JSON(label="documents")
        public = {"concurrency_limit": None, "api_visibility": "public"}
        asked = {"inputs": [question, search_in], "outputs": [answer, more]}
        # Growing text is what it is: Gradio would have each state looked at by a thread.
        on(button.click, self.ask, api_name="ask", postprocess=False, **asked, **public)
        quick = {"outputs": found, **public}
        on(button.click, self.add, api_name="add", inputs=[file, address], **quick)
        on(button.click, self.list_, api_name="list", **quick)
        on(button.click, self.remove, api_name="remove", inputs=document, **quick)

    async def ask(
        self, question: str, search_in: Scope, request: gr.Request
    ) -> AsyncIterator[tuple[str, Any]]:
        """The answer, as far as it has come; with its end the sources of it."""
        look = self.programs.chat.look(request)
        asked = self.programs.ask(look.session, look.conversation, question, search_in, look.tab)
        async with aclosing(asked) as states:
            async for writing in states:
                answer = writing.answer
                more: dict[str, Any] | None = None
                if isinstance(writing.doing, Waiting):
                    more = {"waiting": asdict(writing.doing)}
                if ended := answer.finish_reason:
                    more = {"ended": ended, "error": answer.error, "sources": sources_of(answer)}
                yield answer.text, more

    async def add(self, file: str | None, address: str, request: gr.Request) -> dict[str, Any]:
        """Add a file, or the web page at an address, and wait until it is in or not."""
        look = self.programs.chat.look(request)
        files = [Path(file)] if file else []
        # They cannot be deleted here: Gradio keeps a file that two programs upload only once.
        look.session.uploads.update(files)
        jobs = await self.programs.add(look.session, files, address)
        while not all(job.ended for job in jobs):
            await asyncio.sleep(GLANCE)
        notes = [note.said(look.say) for job in jobs for note in job.report()]
        documents = await asyncio.to_thread(self.programs.documents, look.session)
        return {"notes": notes, "documents": documents}

    def list_(self, request: gr.Request) -> dict[str, Any]:
        """One's own documents."""
        session = self.programs.chat.look(request).session
        return {"documents": self.programs.documents(session)}

    def remove(self, document: str, request: gr.Request) -> dict[str, Any]:
        """Remove a document, by its identity in the list."""
        session = self.programs.chat.look(request).session
        self.programs.remove(session, document)
        return {"documents": self.programs.documents(session)}
