"""What belongs to one browser: its documents, those on their way, its conversation, its answer.

Each session is a folder of its own, so that nothing of one can be reached from another, and
forgetting it is removing the folder: Chroma leaves deleted text in its database file.
Knows nothing of gradio.
"""

import dataclasses
import hashlib
import json
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rag.answering.events import Timings
from rag.errors import RivuletError, StoreError
from rag.index.chroma_server import ChromaServer
from rag.index.originals import Originals
from rag.index.store import ChromaStore, Glance, StoredDocument, destroy
from rag.types import FinishReason, Node, NodeWithScore, Usage
from rag.ui.jobs import Job, Note, left_behind

logger = logging.getLogger(__name__)

FORGET_PATIENCE = 10.0
"""Seconds that forgetting waits for a file that is being taken in to stop."""
FRESH = 10.0
"""Seconds after which a server is asked again whether a session has documents: another process may
have added some."""
OPEN_STORES = 24
"""Indexes kept open at the same time; each costs some 5 MB, 11 files and 6 threads."""


@dataclass
class Turn:
    """A question with its answer, as far as it has come."""

    question: str
    model: str = ""
    answer: str = ""
    sources: tuple[NodeWithScore, ...] = ()
    others: tuple[NodeWithScore, ...] = ()
    """Passages that were found as well, but not given to the model."""
    finish_reason: FinishReason | None = None
    """None while the answer is being written."""
    error: str = ""
    usage: Usage | None = None
    timings: Timings = Timings()
    searched_for: str = ""
    """The question that was searched for, where it is another."""
    reasoning: str = ""
    """What the model wrote for itself before it answered."""


@dataclass(eq=False)
class Session:
    """One browser's things. `lock` is held by the one answer that may be written at a time."""

    folder: Path
    turns: list[Turn] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    jobs: list[Job] = field(default_factory=list)
    """The files that are on their way in, and those that were when the process before ended."""
    notes: list[Note] = field(default_factory=list)
    """What became of the files that were added last."""
    batches: int = 0
    """How often something was added."""
    arrived: int = 0
    """The last addition of which something can be searched."""
    uploads: set[Path] = field(default_factory=set)
    """The files as they were uploaded, which are there for some minutes."""
    forgotten: bool = False
    """Whatever still goes on in it must leave nothing on the disk."""

    def __post_init__(self) -> None:
        kept = self.folder / "conversation.json"
        if kept.is_file():
            try:
                self.turns = [_turn(fields) for fields in json.loads(kept.read_text("utf-8"))]
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                logger.error("The conversation in %s cannot be read: %s", kept, error)
                kept.rename(kept.with_suffix(".damaged.json"))
        for turn in self.turns:  # the process ended in the middle of it
            turn.finish_reason = turn.finish_reason or "truncated"
        self.jobs = left_behind(self.incoming)

    @property
    def incoming(self) -> Path:
        """The folder of the files that are on their way."""
        return self.folder / "incoming"

    @property
    def originals(self) -> Originals:
        """The PDFs that are in its index."""
        return Originals(self.folder / "originals")

    def save(self) -> None:
        """Write the conversation, wholly or not at all."""
        if self.forgotten:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        new = self.folder / "conversation.json.new"
        new.write_text(json.dumps([dataclasses.asdict(turn) for turn in self.turns]), "utf-8")
        new.replace(self.folder / "conversation.json")


def _turn(fields: dict[str, Any]) -> Turn:
    sources, others = _hits(fields.pop("sources")), _hits(fields.pop("others"))
    usage, timings = fields.pop("usage"), Timings(**fields.pop("timings"))
    return Turn(
        **fields, sources=sources, others=others, usage=usage and Usage(**usage), timings=timings
    )


def _hits(found: list[dict[str, Any]]) -> tuple[NodeWithScore, ...]:
    return tuple(
        NodeWithScore(
            Node(**{**hit["node"], "headings": tuple(hit["node"]["headings"])}),
            hit["score"],
            tuple(hit.get("found_by", ())),
        )
        for hit in found
    )


class Sessions:
    """All sessions of the process, found by the identity of their browser."""

    def __init__(self, folder: Path, embed_model: str, server: ChromaServer | None = None):
        self.folder = folder
        self.embed_model = embed_model
        self.server = server
        """Where the indexes are, named after the folders of their sessions; None: in these."""
        self._glance = Glance(server) if server else None
        self._has: dict[str, tuple[float, bool]] = {}
        """When the server was asked last whether a session has documents, and what it said."""
        self._sessions: dict[str, Session] = {}
        self._stores: dict[str, ChromaStore] = {}
        """The open indexes, the least recently used first."""
        self._used: Counter[str] = Counter()
        """How many are reading or writing each open index just now."""
        self._lock = threading.Lock()

    def get(self, identity: str) -> Session:
        """The session of `identity`, a secret that only its browser knows.

        The folder's name is a hash of it, so that who sees the folder cannot take it over.
        """
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        with self._lock:
            session = self._sessions.get(key)
            if session:
                return session
            session = self._sessions[key] = Session(self.folder / key)
        if session.jobs:  # of the index of an interrupted file nothing may be left
            with suppress(RivuletError):
                self.drop_empty(session)
        return session

    def has_documents(self, session: Session) -> bool:
        """Whether there is an index to open; reading must not make one. A server is asked every
        `FRESH` seconds; where it cannot be, opening the index will tell."""
        if not self._glance:
            return self._place(session).is_dir()
        key = session.folder.name
        when, has = self._has.get(key, (0.0, False))
        if not when or time.monotonic() - when > FRESH:
            try:
                has = self._glance.has_documents(key)
            except StoreError:
                return True
            self._has[key] = time.monotonic(), has
        return has

    def _place(self, session: Session) -> Path:
        """The folder of the index; with a server, of its words alone."""
        return session.folder / ("words" if self.server else "chroma")

    @contextmanager
    def store(self, session: Session) -> Iterator[ChromaStore]:
        """The session's index, open for as long as the context is."""
        key = session.folder.name
        with self._lock:
            if session.forgotten:
                raise StoreError("Everything was removed meanwhile. Add it again.")
            store = self._stores.pop(key, None)
            if store is None:
                store = ChromaStore(
                    self._place(session), self.embed_model, server=self.server, name=key
                )
                with suppress(StoreError):  # whoever uses it will be told
                    session.originals.sweep(store.documents())
            self._stores[key] = store
            self._used[key] += 1
            idle = [other for other in self._stores if not self._used[other]]
            for other in idle[: max(0, len(self._stores) - OPEN_STORES)]:
                self._stores.pop(other).close()
        try:
            yield store
        finally:
            with self._lock:
                self._used[key] -= 1
                self._has.pop(key, None)  # a document may have come or gone

    def documents(self, session: Session) -> list[StoredDocument]:
        """The records of the session's documents, the newest first."""
        if not self.has_documents(session):
            return []
        with self.store(session) as store:
            return store.documents()

    def remove_document(self, session: Session, document_id: str) -> None:
        """Take a document out of the session's index; the index goes with the last one."""
        if not self.has_documents(session):
            return
        with self.store(session) as store:
            store.delete(document_id)
            session.originals.settle(document_id, store.document(document_id))
        self.drop_empty(session)

    def drop_empty(self, session: Session) -> None:
        """Remove the index if no document is in it and nobody uses it: Chroma keeps the text of
        deleted ones. On a server it stays: another process may be about to add to it."""
        if not self._place(session).is_dir():
            return
        key = session.folder.name
        with self.store(session) as store, self._lock:  # nobody begins to use it meanwhile
            if self._used[key] == 1 and not store.documents():
                session.originals.sweep(())
                self._stores.pop(key).close()
                shutil.rmtree(self._place(session), ignore_errors=True)

    def forget(self, session: Session) -> None:
        """Remove everything of the session from memory, from the disk, and from the server. Raises
        StoreError where that cannot be reached; the rest is removed all the same."""
        session.forgotten = True
        session.stop.set()
        for job in list(session.jobs):
            job.cancelled = True
        key = session.folder.name
        until = time.monotonic() + FORGET_PATIENCE
        while self._used[key] and time.monotonic() < until:  # a file that is just taken in
            time.sleep(0.05)
        with session.lock, self._lock:
            if store := self._stores.pop(key, None):
                store.close()
            self._sessions.pop(key, None)
            self._has.pop(key, None)
            shutil.rmtree(session.folder, ignore_errors=True)
            session.turns.clear()
            for file in session.uploads:
                file.unlink(missing_ok=True)
        if self.server:
            destroy(self._place(session), self.server, key)

    def close(self) -> None:
        """Stop all answers, so that they are kept as far as they came; close all indexes."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.stop.set()
        for session in sessions:
            session.lock.acquire(timeout=1)
        with self._lock:
            for store in self._stores.values():
                store.close()
            self._stores.clear()
        if self._glance:
            self._glance.close()
