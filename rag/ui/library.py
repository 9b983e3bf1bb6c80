"""A document's way through the page: the handlers of the list of documents.

They queue files with the intake, which takes them in behind the page, and show how far it is.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr

from rag.errors import RivuletError, StoreError
from rag.ui import rendering
from rag.ui.backend import Backend
from rag.ui.identity import identity
from rag.ui.jobs import Job, Note
from rag.ui.sessions import Session

Shelf = tuple[Any, Any, Any, Any]
"""Updates of the list, the notes, the choice of what to search, and the timer that refreshes
them."""
SCOPES = [
    ("my documents", "mine"),
    ("sample documents", "samples"),
    ("everything", "all"),
    ("chosen documents", "chosen"),
    ("nothing: plain chat", "none"),
]


class Library:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def session(self, request: gr.Request) -> Session:
        return self.backend.sessions.get(identity(request))

    def upload(self, files: list[str] | None, request: gr.Request) -> Shelf:
        """Queue the files that were dropped."""
        session = self.session(request)
        self.take(session, files or ())
        return self.shelf(session)

    def take(self, session: Session, files: Sequence[str]) -> list[Job]:
        """Queue files that were uploaded to Gradio."""
        paths = [Path(file) for file in files]
        # They cannot be deleted here: Gradio keeps a file that two browsers upload only once.
        session.uploads.update(paths)
        return self.backend.intake.add(session, paths) if paths else []

    def add_page(self, address: str, request: gr.Request) -> Shelf:
        """Queue the web page at an address that was typed."""
        session = self.session(request)
        if address := address.strip():
            self.backend.intake.add_page(session, address)
        return self.shelf(session)

    def press(self, event: gr.EventData, request: gr.Request) -> Shelf:
        """Do what the button says that was pressed in the list or at the notes."""
        session, intake = self.session(request), self.backend.intake
        key = str(event.key)
        match event.do:
            case "remove":
                return self._remove(session, key)
            case "cancel":
                intake.cancel(session, key)
            case "again":
                intake.again(session, key)
            case "discard":
                intake.discard(session, key)
            case "dismiss":
                intake.dismiss(session)
        return self.shelf(session)

    def tick(self, seen: int, request: gr.Request) -> tuple[Any, ...]:
        """How far everything is. `seen` is the addition for which the page has last turned to
        the session's own documents; the other value returned is the new one."""
        session = self.session(request)
        arrived = session.arrived
        scope = gr.update(value="mine") if arrived not in (0, seen) else gr.skip()
        return *self.shelf(session, scope), arrived

    def forget(self, request: gr.Request) -> None:
        """Remove everything of the session, from the disk too."""
        try:
            self.backend.sessions.forget(self.session(request))
        except StoreError as error:
            self.session(request).notes.append(Note("bad", f"Not all is removed. {error}"))

    def choices(self, session: Session) -> list[tuple[str, str]]:
        """Names and identities of the documents that can be chosen to be searched."""
        with suppress(RivuletError):
            own = self.backend.sessions.documents(session)
            return [(each.name, each.id_) for each in (*own, *self.backend.sample_documents())]
        return []

    def shelf(self, session: Session, scope: Any = None) -> Shelf:
        """All that is shown of the session's documents; the timer runs while that changes."""
        busy = _is_busy(session)
        shown = self.show(session), rendering.notes(list(session.notes))
        return *shown, scope or gr.skip(), gr.Timer(active=busy or _is_busy(session))

    def show(self, session: Session) -> str:
        """The list of documents."""
        problem = ""
        own = []
        jobs = list(session.jobs)  # it changes at any time
        try:
            own = self.backend.sessions.documents(session)
        except RivuletError as error:
            problem = str(error)
        half_in = {job.half_in for job in jobs}
        return rendering.library(
            [document for document in own if document.id_ not in half_in],
            self.backend.sample_documents(),
            [file.name for file in self.backend.sample_files],
            jobs,
            problem,
        )

    def _remove(self, session: Session, document_id: str) -> Shelf:
        """Take out a document."""
        try:
            self.backend.sessions.remove_document(session, document_id)
        except RivuletError as error:
            session.notes.append(Note("bad", str(error)))
        left = self.backend.sessions.has_documents(session)
        return self.shelf(session, gr.skip() if left else gr.update(value="samples"))


def _is_busy(session: Session) -> bool:
    return any(not job.interrupted for job in list(session.jobs))
