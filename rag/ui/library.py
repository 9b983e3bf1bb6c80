"""A document's way through the page: the handlers of the list of documents."""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import gradio as gr

from rag.errors import RivuletError
from rag.index.ingestion import Ingested, Progress, Rejected, ingest_file
from rag.types import counted
from rag.ui import rendering
from rag.ui.backend import Backend
from rag.ui.identity import identity
from rag.ui.sessions import Session

logger = logging.getLogger(__name__)

Note = tuple[str, str]
"""What became of a file: the kind (good, same, bad) and the text."""
SCOPES = [("my documents", "mine"), ("sample documents", "samples"), ("everything", "all")]


class Library:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def session(self, request: gr.Request) -> Session:
        return self.backend.sessions.get(identity(request))

    def upload(
        self, files: list[str] | None, request: gr.Request
    ) -> Iterator[tuple[str, str, Any]]:
        """Take in the files; yields the list, the notes, and the choice of what to search."""
        session = self.session(request)
        notes: list[Note] = []
        added = False
        paths = {uuid.uuid4().hex: Path(file) for file in files or ()}
        session.on_the_way.update({key: (path.name, "waiting") for key, path in paths.items()})
        # They cannot be deleted here: Gradio keeps a file that two browsers upload only once.
        session.uploads.update(paths.values())
        try:
            for key, path in paths.items():
                for step, note in self._take_in(session, key, path):
                    if note:
                        notes.append(note)
                        added = added or note[0] == "good"
                    else:
                        session.on_the_way[key] = path.name, step
                        yield self.show(session), rendering.notes(notes), gr.skip()
                session.on_the_way.pop(key, None)
                yield self.show(session), rendering.notes(notes), gr.skip()
        finally:
            for key in paths:
                session.on_the_way.pop(key, None)
            with suppress(RivuletError):
                self.backend.sessions.drop_empty(session)  # all were rejected
        scope = gr.update(value="mine") if added else gr.skip()
        yield self.show(session), rendering.notes(notes), scope

    def remove(self, event: gr.EventData, request: gr.Request) -> tuple[str, str, Any]:
        """Take out the document whose button was pressed."""
        session = self.session(request)
        notes = []
        try:
            self.backend.sessions.remove_document(session, str(event.id))
        except RivuletError as error:
            notes.append(("bad", str(error)))
        left = self.backend.sessions.has_documents(session)
        return (
            self.show(session),
            rendering.notes(notes),
            gr.skip() if left else gr.update(value="samples"),
        )

    def stop(self, event: gr.EventData, request: gr.Request) -> None:
        """Stop taking in the file whose button was pressed; its own handler then says so."""
        self.session(request).on_the_way.pop(str(event.key), None)

    def forget(self, request: gr.Request) -> None:
        """Remove everything of the session, from the disk too."""
        self.backend.sessions.forget(self.session(request))

    def show(self, session: Session) -> str:
        """The list of documents."""
        problem = ""
        own = []
        try:
            own = self.backend.sessions.documents(session)
        except RivuletError as error:
            problem = str(error)
        return rendering.library(
            own,
            self.backend.sample_documents(),
            [file.name for file in self.backend.sample_files],
            dict(session.on_the_way),  # an upload changes it at any time
            problem,
        )

    def _take_in(
        self, session: Session, key: str, path: Path
    ) -> Generator[tuple[str, Note | None], None, None]:
        """Yields (step, None) any number of times, and ("", note) at least once."""
        name = path.name
        within: Counter[str] = Counter()
        try:
            with closing(self._steps(session, path, within)) as steps:
                for step in steps:
                    if key not in session.on_the_way:
                        break
                    yield step
                else:
                    if within["good"]:
                        found = counted(within["good"], "document")
                        yield "", ("good", f"{name}: {found} of it can be searched.")
                    if within["same"]:
                        found = counted(within["same"], "document")
                        yield "", ("same", f"{name}: {found} of it had been here already.")
                    return
        except Exception as error:
            if key in session.on_the_way:
                if not isinstance(error, RivuletError):
                    logger.exception("Could not take in %s", name)
                    error = RivuletError("it could not be taken in. The log says why.")
                yield "", ("bad", f"{name}: {error}")
                return
        if not session.forgotten:
            number = within["good"]
            kept = f"{counted(number, 'document')} of it stayed" if number else "nothing was added"
            yield "", ("good" if number else "same", f"{name}: stopped; {kept}.")

    def _steps(
        self, session: Session, path: Path, within: Counter[str]
    ) -> Generator[tuple[str, Note | None], None, None]:
        """Counts the documents of an archive in `within`; a note for each would be too many."""
        embedding = self.backend.embedding
        while not embedding.wait(0):
            yield embedding.status, None
            time.sleep(0.3)
        config = self.backend.config
        with self.backend.sessions.store(session) as store:
            events = ingest_file(
                path,
                path.name,
                store,
                embedding.result(),
                max_bytes=config.max_file_mb * 1_000_000,
                read_timeout=config.read_timeout,
            )
            for event in events:
                inner = event.file_name.removeprefix(f"{path.name}/")
                alone = inner == path.name
                match event:
                    case Progress(_, step, done, total):
                        doing = f"{step} {done} of {total}" if total else step
                        yield doing if alone else f"{inner}: {doing}", None
                    case Ingested(name, known_as=known) if known and alone:
                        same = "it" if known == name else f"the same text, as {known},"
                        text = f"{name}: {same} is here already; nothing was added."
                        yield "", ("same", text)
                    case Ingested(name) if alone:
                        yield "", ("good", f"{name} is ready.")
                    case Ingested(_, known_as=known):
                        within["same" if known else "good"] += 1
                    case Rejected(name, reason):
                        yield "", ("bad", f"{name}: {reason}")
