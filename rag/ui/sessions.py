"""What belongs to one browser: its documents, those on their way, its conversations, its settings.

Each session is a folder of its own, so that nothing of one can be reached from another, and
forgetting it is removing the folder: Chroma leaves deleted text in its database file.
Knows nothing of gradio.
"""

import hashlib
import logging
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rag.errors import RemovedIndexError, RivuletError, StoreError
from rag.index.chroma_server import ChromaServer
from rag.index.originals import Originals
from rag.index.store import ChromaStore, Glance, StoredDocument, destroy
from rag.ui import preferences
from rag.ui.conversations import Conversation, Entry, as_name, decode, decode_head, encode
from rag.ui.jobs import Job, Note, left_behind
from rag.ui.preferences import Preferences

logger = logging.getLogger(__name__)

FORGET_PATIENCE = 10.0
"""Seconds that forgetting waits for a file that is being taken in to stop."""
FRESH = 10.0
"""Seconds after which a server is asked again whether a session has documents: another process may
have added some."""
PATIENCE = 10.0
"""Seconds that deleting a conversation waits for the answer in it to end."""
MANY_TABS = 100
"""Tabs of a browser, of which it is known what they show."""
AFTER = 0.001
"""Seconds by which a conversation that changes is later than all others."""
NOTED = 600.0
"""Seconds after which a further visit is noted on the disk."""
LEFT = 3600.0
"""Seconds without a visit after which a session need not be in memory."""
OPEN_STORES = 24
"""Indexes kept open at the same time, at least; each costs some 5 MB, 11 files and 6 threads. To
open one takes 35 ms of the processor, for each question where more people ask in turn."""
UNUSED = 60.0
"""Seconds after which an index that nobody uses is closed."""


@dataclass(eq=False)
class Session:
    """One browser's things."""

    folder: Path
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
    preferences: Preferences = Preferences()
    visited: float = field(default_factory=time.monotonic)
    """When someone was here last."""
    noted: float = 0.0
    """When that was noted on the disk."""
    forgotten: bool = False
    """Whatever still goes on in it must leave nothing on the disk."""
    tabs: dict[str, str] = field(default_factory=dict)
    """Which conversation each tab of the browser shows, the one that was turned to last at the
    end."""
    opening: threading.Lock = field(default_factory=threading.Lock)
    """Held while its index is opened, which others need not wait for."""
    writing: threading.RLock = field(default_factory=threading.RLock)
    """Guards the conversations and what is written of the session. Who holds the lock of a
    conversation may take it, never the other way round."""
    _conversations: dict[str, Conversation | Entry] | None = None
    """Each as the list shows it, until it is opened; None until the list is asked for."""

    def __post_init__(self) -> None:
        self.jobs = left_behind(self.incoming)
        self.preferences = preferences.read(self._preferences_file)

    @property
    def busy(self) -> bool:
        """Whether something is being written or taken in."""
        writing = any(conversation.lock.locked() for conversation in self.opened())
        return writing or any(not job.interrupted for job in list(self.jobs))

    @property
    def incoming(self) -> Path:
        """The folder of the files that are on their way."""
        return self.folder / "incoming"

    @property
    def originals(self) -> Originals:
        """The PDFs that are in its index."""
        return Originals(self.folder / "originals")

    @property
    def conversations(self) -> list[Entry]:
        """All that are not empty, the one changed last first."""
        with self.writing:
            entries = [
                each if isinstance(each, Entry) else each.entry
                for each in self._all().values()
                if isinstance(each, Entry) or each.turns
            ]
        return sorted(entries, key=lambda entry: entry.changed, reverse=True)

    def conversation(self, key: object) -> Conversation | None:
        """The one of this key, if it is this session's. Keys come from outside: they are looked
        up, never made paths."""
        with self.writing:
            found = self._found(key)
            if isinstance(found, Entry):
                found = self._open(found)
        return found

    def begin(self, tab: str = "") -> Conversation:
        """A new conversation for a tab: the same one as long as it is empty, and no other tab shows
        it. It is written when it is kept with its first question."""
        with self.writing:
            others = {key for other, key in self.tabs.items() if other != tab}
            for each in self._all().values():
                if isinstance(each, Entry) or each.turns or each.lock.locked():
                    continue
                if each.key not in others:
                    each.title = ""
                    return each
            new = Conversation()
            self._all()[new.key] = new
        return new

    def shown(self, tab: str) -> Conversation:
        """The conversation that a tab shows. A new tab shows the one that was turned to last, else
        changed last; where that is empty or none is there, a new one of its own."""
        with self.writing:
            found = self.conversation(self.tabs.get(tab))
            if not found:
                last = self.conversation(next(reversed(self.tabs.values()), None))
                others = (self.conversation(each.key) for each in self.conversations)
                found = last or next(filter(None, others), None)  # one that is damaged is none
                if not (found and found.turns):
                    found = self.begin(tab)
                self.show(tab, found)
        return found

    def show(self, tab: str, conversation: Conversation) -> None:
        """Have a tab show a conversation."""
        with self.writing:
            self.tabs.pop(tab, None)
            self.tabs[tab] = conversation.key
            while len(self.tabs) > MANY_TABS:
                del self.tabs[next(iter(self.tabs))]

    def keep(self, conversation: Conversation) -> None:
        """Write a conversation that has changed, wholly or not at all, and no other. One that was
        deleted meanwhile stays so; of one without turns nothing stays. Raises OSError."""
        with self.writing:
            others = [each.changed for each in self._all().values() if each.key != conversation.key]
            # After all others, also where the clock was set back.
            conversation.changed = max([time.time(), *(each + AFTER for each in others)])
            self._write(conversation)

    def rename(self, key: object, title: str) -> None:
        """Give a conversation a title; where that is blank it is named after its first question
        again. Raises OSError."""
        conversation = self.conversation(key)
        if conversation and conversation.turns:
            conversation.title = as_name(title)
            self._write(conversation)

    def delete(self, key: object) -> None:
        """Remove a conversation from the disk and then from memory, and end the answer that is
        being written in it. Raises OSError, and then it stays."""
        with self.writing:
            found = self._found(key)
            if not found:
                return
            self._file(found.key).unlink(missing_ok=True)
            del self._all()[found.key]
            if isinstance(found, Entry):
                return
            found.deleted = True
        found.stop.set()
        if found.lock.acquire(timeout=PATIENCE):
            found.lock.release()

    def stop_all(self) -> None:
        """End all answers that are being written."""
        for conversation in self.opened():
            conversation.stop.set()

    def opened(self) -> list[Conversation]:
        """The conversations in memory: no answer is written in any other."""
        with self.writing:
            kept = (self._conversations or {}).values()
            return [each for each in kept if isinstance(each, Conversation)]

    def clear(self) -> None:
        """Take all conversations out of memory."""
        for conversation in self.opened():
            conversation.turns.clear()
        self._conversations = None

    def prefer(self, preferred: Preferences) -> None:
        """Keep what the person has set. Raises OSError, and it holds all the same until the process
        ends."""
        self.preferences = preferred
        with self.writing:
            if not self.forgotten:
                _replace(self._preferences_file, preferences.encode(self.preferences))

    @property
    def _preferences_file(self) -> Path:
        return self.folder / "preferences.json"

    def _file(self, key: str) -> Path:
        return self.folder / "conversations" / f"{key}.json"

    def _found(self, key: object) -> Conversation | Entry | None:
        return self._all().get(key) if isinstance(key, str) else None

    def _all(self) -> dict[str, Conversation | Entry]:
        if self._conversations is None:
            self._conversations = {}
            folder = self.folder / "conversations"
            for file in sorted(folder.iterdir()) if folder.is_dir() else ():
                if file.suffix == ".new":  # the process ended in the middle of it
                    with suppress(OSError):
                        file.unlink(missing_ok=True)
                elif _KEPT.fullmatch(file.name):
                    try:
                        with file.open(encoding="utf-8") as lines:
                            entry = decode_head(file.stem, lines.readline())
                    except (OSError, ValueError) as error:
                        self._lay_aside(file, file.stem, error)
                    else:
                        self._conversations[entry.key] = entry
        return self._conversations

    def _open(self, entry: Entry) -> Conversation | None:
        file = self._file(entry.key)
        try:
            conversation = decode(entry.key, file.read_text("utf-8"))
        except (OSError, ValueError) as error:
            self._lay_aside(file, entry.name, error)
            del self._all()[entry.key]
            return None
        self._all()[entry.key] = conversation
        return conversation

    def _lay_aside(self, file: Path, name: str, error: OSError | ValueError) -> None:
        """Tell that a file cannot be read; where it is damaged it gets another name, so that
        nothing is written over it."""
        logger.error("%s cannot be read: %s", file, error)
        if isinstance(error, ValueError):
            text = (
                "The conversation “{name}” cannot be read: its file is damaged, and kept aside as "
                "{file}."
            )
            aside = file.with_suffix(".damaged.json")
            with suppress(OSError):
                file.rename(aside)
            self.notes.append(Note("bad", text, {"name": name, "file": aside.name}))
        else:
            text = "The conversation “{name}” cannot be read: {error}."
            self.notes.append(Note("bad", text, {"name": name, "error": error.strerror}))

    def _write(self, conversation: Conversation) -> None:
        with self.writing:
            if self.forgotten or conversation.deleted:
                return
            self._all()[conversation.key] = conversation
            file = self._file(conversation.key)
            if conversation.turns:
                _replace(file, encode(conversation))
            else:
                file.unlink(missing_ok=True)


def _changed(folder: Path) -> float:
    """When a session was last used, as the disk says. Raises OSError."""
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


_KEPT = re.compile(r"[0-9a-f]{12}\.json")
"""The name of a conversation's file."""


def _replace(file: Path, text: str) -> None:
    """Write a file wholly or not at all. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    try:
        new.write_text(text, "utf-8")
        new.replace(file)
    except OSError:
        with suppress(OSError):  # half of it would take the room that is short
            new.unlink(missing_ok=True)
        raise


class Clock:
    """The time, as it was when the program began and goes on since then: a clock that is set
    must not make everyone look long gone."""

    def __init__(self) -> None:
        self._began = time.time() - time.monotonic()

    def now(self) -> float:
        return min(time.time(), self._began + time.monotonic())


class Sessions:
    """All sessions of the process, found by the identity of their browser."""

    def __init__(
        self,
        folder: Path,
        embed_model: str,
        server: ChromaServer | None = None,
        most_open: int = OPEN_STORES,
    ):
        self.folder = folder
        self.most_open = most_open
        """Indexes kept open that nobody uses just now."""
        self.embed_model = embed_model
        self.server = server
        """Where the indexes are, named after the folders of their sessions; None: in these."""
        self._glance = Glance(server) if server else None
        self._has: dict[str, tuple[float, bool]] = {}
        """When the server was asked last whether a session has documents, and what it said."""
        self._sessions: dict[str, Session] = {}
        self._stores: dict[str, ChromaStore] = {}
        """The open indexes, the least recently used first."""
        self._left: dict[str, float] = {}
        """When each was used last."""
        self._used: Counter[str] = Counter()
        """How many are reading or writing each open index just now."""
        self._lock = threading.Lock()
        self._clock = Clock()

    def get(self, identity: str) -> Session:
        """The session of `identity`, a secret that only its browser knows.

        The folder's name is a hash of it, so that who sees the folder cannot take it over.
        """
        key = hashlib.sha256(identity.encode()).hexdigest()[:32]
        with self._lock:
            session = self._sessions.get(key)
            if session:
                self._visited(session)
                return session
            session = self._sessions[key] = Session(self.folder / key)
            self._visited(session)
        if session.jobs:  # of the index of an interrupted file nothing may be left
            with suppress(RivuletError):
                self.drop_empty(session)
        return session

    def _visited(self, session: Session) -> None:
        """Note that someone is there. On the disk the time of the folder says so."""
        now = time.monotonic()
        if not session.noted or now - session.noted > NOTED:
            session.noted = now
            with suppress(OSError):  # there is none as long as nothing is kept
                os.utime(session.folder)
        session.visited = now

    def forget_idle(self, hours: float, clock: Clock | None = None) -> int:
        """Remove what is kept of those who were not here for so many hours, also by an earlier
        process; how many these were. Whatever goes on for someone, goes on."""
        now, limit = (clock or self._clock).now(), hours * 3600
        with self._lock:
            here = dict(self._sessions)
        idle = []
        for key, session in here.items():
            if time.monotonic() - session.visited > min(limit, LEFT) and not session.busy:
                idle.append(key)
        removed = 0
        for folder in sorted(self.folder.iterdir()) if self.folder.is_dir() else ():
            key = folder.name
            with suppress(OSError):
                if now - _changed(folder) > limit and (key not in here or key in idle):
                    self.forget(here.get(key) or Session(folder))
                    removed += 1
        with self._lock:  # of those who have kept nothing, or are away, nothing need be in memory
            for key in idle:
                if time.monotonic() - here[key].visited > LEFT and not self._used[key]:
                    self._sessions.pop(key, None)
        return removed

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
        with session.opening:
            with self._lock:
                if session.forgotten:
                    raise RemovedIndexError("Everything was removed meanwhile. Add it again.")
                self._used[key] += 1
                store = self._stores.pop(key, None)
            try:
                store = store or self._open(session)
            except BaseException:
                self._leave(key)
                raise
            with self._lock:
                self._stores[key] = store
                idle = [other for other in self._stores if not self._used[other]]
                more = idle[: max(0, len(self._stores) - self.most_open)]
        for each in more:
            self._close(each)
        try:
            yield store
        finally:
            self._leave(key)

    def _open(self, session: Session) -> ChromaStore:
        store = ChromaStore(
            self._place(session),
            self.embed_model,
            server=self.server,
            name=session.folder.name,
        )
        with suppress(StoreError):  # whoever uses it will be told
            session.originals.sweep(store.documents())
        return store

    def close_unused(self) -> None:
        """Close the indexes that nobody has used for a while."""
        limit = time.monotonic() - UNUSED
        with self._lock:
            unused = [key for key, when in self._left.items() if when < limit]
        for each in unused:
            self._close(each)

    def _close(self, key: str) -> None:
        """Close an index that nobody uses. Nobody opens it meanwhile: Chroma shares what is open
        among all who open the same folder, and would give out what is about to be closed."""
        session = self._sessions.get(key)
        with session.opening if session else nullcontext():
            with self._lock:
                if self._used[key]:
                    return
                store = self._stores.pop(key, None)
                self._left.pop(key, None)
            if store:
                store.close()

    def _leave(self, key: str) -> None:
        with self._lock:
            self._left[key] = time.monotonic()
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
        session.stop_all()
        for job in list(session.jobs):
            job.cancelled = True
        key = session.folder.name
        until = time.monotonic() + FORGET_PATIENCE
        while self._used[key] and time.monotonic() < until:  # a file that is just taken in
            time.sleep(0.05)
        with ExitStack() as answers:
            for conversation in session.opened():
                answers.enter_context(conversation.lock)
            answers.enter_context(session.opening)
            answers.enter_context(self._lock)
            answers.enter_context(session.writing)
            if store := self._stores.pop(key, None):
                store.close()
            self._sessions.pop(key, None)
            self._has.pop(key, None)
            shutil.rmtree(session.folder, ignore_errors=True)
            session.clear()
            for file in session.uploads:
                file.unlink(missing_ok=True)
        if self.server:
            destroy(self._place(session), self.server, key)

    def close(self) -> None:
        """Stop all answers, so that they are kept as far as they came; close all indexes."""
        sessions = list(self._sessions.values())
        for session in sessions:
            session.stop_all()
        for session in sessions:
            for conversation in session.opened():
                conversation.lock.acquire(timeout=1)
        with self._lock:
            for store in self._stores.values():
                store.close()
            self._stores.clear()
        if self._glance:
            self._glance.close()
