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
from rag.ui.chat import Look, look_of
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

TOO_MANY = (
    "There are {number} files on their way, as many as there may be. Wait until some are in, then "
    "add the rest again."
)


class Library:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def look(self, request: gr.Request) -> Look:
        return look_of(self.backend, request)

    def upload(self, files: list[str] | None, request: gr.Request) -> Shelf:
        """Queue the files that were dropped."""
        look = self.look(request)
        self.take(look.session, files or ())
        return self.shelf(look)

    def take(self, session: Session, files: Sequence[str]) -> list[Job]:
        """Queue files that were uploaded to Gradio."""
        paths = [Path(file) for file in files]
        # They cannot be deleted here: Gradio keeps a file that two browsers upload only once.
        session.uploads.update(paths)
        room = max(0, self.backend.config.max_files - len(session.jobs))
        jobs = self.backend.intake.add(session, paths[:room]) if paths else []
        if len(paths) > room:
            self._too_many(session)
        return jobs

    def add_page(self, address: str, request: gr.Request) -> Shelf:
        """Queue the web page at an address that was typed."""
        look = self.look(request)
        self.take_page(look.session, address)
        return self.shelf(look)

    def take_page(self, session: Session, address: str) -> list[Job]:
        """Queue a web page."""
        if not (address := address.strip()):
            return []
        if len(session.jobs) >= self.backend.config.max_files:
            self._too_many(session)
            return []
        return self.backend.intake.add_page(session, address)

    def _too_many(self, session: Session) -> None:
        number = self.backend.config.max_files
        session.notes.append(Note("bad", TOO_MANY, {"number": number}))

    def press(self, event: gr.EventData, request: gr.Request) -> Shelf:
        """Do what the button says that was pressed in the list or at the notes."""
        look, intake = self.look(request), self.backend.intake
        session, key = look.session, str(event.key)
        match event.do:
            case "remove":
                return self._remove(look, key)
            case "cancel":
                intake.cancel(session, key)
            case "again":
                intake.again(session, key)
            case "discard":
                intake.discard(session, key)
            case "dismiss":
                intake.dismiss(session)
        return self.shelf(look)

    def tick(self, seen: int, request: gr.Request) -> tuple[Any, ...]:
        """How far everything is. `seen` is the addition for which the page has last turned to
        the session's own documents; the other value returned is the new one."""
        look = self.look(request)
        *shown, _, timer = self.shelf(look)
        arrived = look.session.arrived  # at last: what is shown as searchable has arrived
        scope = gr.update(value="mine") if arrived not in (0, seen) else gr.skip()
        return *shown, scope, timer, arrived

    def forget(self, request: gr.Request) -> None:
        """Remove everything of the session, from the disk too, and what models keep of all."""
        self.backend.catalog.forget()
        try:
            self.backend.sessions.forget(self.look(request).session)
        except StoreError as error:
            note = Note("bad", "Not all is removed. {reason}", {"reason": self.backend.told(error)})
            self.look(request).session.notes.append(note)

    def choices(self, session: Session) -> list[tuple[str, str]]:
        """Names and identities of the documents that can be chosen to be searched."""
        with suppress(RivuletError):
            own = self.backend.sessions.documents(session)
            return [(each.name, each.id_) for each in (*own, *self.backend.sample_documents())]
        return []

    def shelf(self, look: Look, scope: Any = None) -> Shelf:
        """All that is shown of the session's documents; the timer runs while that changes."""
        session = look.session
        busy = _is_busy(session)
        shown = self.show(look), rendering.notes(list(session.notes), look.say)
        return *shown, scope or gr.skip(), gr.Timer(active=busy or _is_busy(session))

    def show(self, look: Look) -> str:
        """The list of documents."""
        session, problem = look.session, ""
        own = []
        jobs = list(session.jobs)  # it changes at any time
        try:
            own = self.backend.sessions.documents(session)
        except RivuletError as error:
            problem = self.backend.told(error)
        half_in = {job.half_in for job in jobs}
        return rendering.library(
            [document for document in own if document.id_ not in half_in],
            self.backend.sample_documents(),
            [file.name for file in self.backend.sample_files],
            jobs,
            look.say,
            problem,
        )

    def _remove(self, look: Look, document_id: str) -> Shelf:
        """Take out a document."""
        session = look.session
        try:
            self.backend.sessions.remove_document(session, document_id)
        except RivuletError as error:
            session.notes.append(Note("bad", self.backend.told(error)))
        left = self.backend.sessions.has_documents(session)
        return self.shelf(look, gr.skip() if left else gr.update(value="samples"))


def _is_busy(session: Session) -> bool:
    return any(not job.interrupted for job in list(session.jobs))
