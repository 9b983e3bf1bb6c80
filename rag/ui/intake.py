"""Files and web pages are taken in behind the page, for all sessions by the same few threads.

Taking in is a generator, and a thread does one step of it at a time: sessions take turns after
each step, so that one person's 200 files do not hold up another's one. Of a session one step is
done at a time: the words of all its files come first, then the vectors, of short files first.

Knows nothing of gradio, nor of what a step does.
"""

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from rag.errors import DocumentError, RivuletError
from rag.index.ingestion import Ingested, Progress, Searchable
from rag.ui.jobs import Event, Job, Note, Steps, distinct
from rag.ui.sessions import Session

logger = logging.getLogger(__name__)

WORKERS = 4
AHEAD = 8
"""Files of a session that are begun at the same time; each holds its text in memory."""
PATIENCE = 5.0
"""Seconds that closing waits for the steps that are being done."""


class Page(Protocol):
    """A web page that was fetched."""

    @property
    def path(self) -> Path: ...

    @property
    def name(self) -> str:
        """The document's; the same address always has the same."""

    @property
    def url(self) -> str:
        """Where it was found in the end."""


TakeIn = Callable[[Session, Path, str, str], Iterator[Event]]
"""Takes a file under a name, with the address it is from or "", into a session's index; `close` on
it leaves nothing behind."""
Fetch = Callable[[str, Path], Page]
"""Fetches the page at an address into a folder. Raises DocumentError."""


class Intake:
    """The queue of all sessions, and the threads that work on it from the first job on."""

    def __init__(self, take_in: TakeIn, fetch: Fetch, told: Callable[[Exception], str] = str):
        self._take_in = take_in
        self._fetch = fetch
        self._told = told
        """What a person is told of an error."""
        self._changed = threading.Condition()
        """Also guards the jobs and notes of every session."""
        self._ring: deque[Session] = deque()
        """The sessions for which there is a step to be done, the next one first."""
        self._in_turn: set[Session] = set()
        """Those in the ring, and those for which a step is being done."""
        self._threads: list[threading.Thread] = []
        self._closing = False

    def add(self, session: Session, files: Sequence[Path]) -> list[Job]:
        """Copy the files and queue them; a note says of which there is no copy.

        Two files of the same name get distinct ones.
        """
        jobs, notes = [], []
        for file, name in zip(files, distinct(file.name for file in files), strict=True):
            try:
                jobs.append(Job.of_file(session.incoming, file, name))
            except OSError as error:
                notes.append(_not_kept(name, error))
        return self._queue(session, jobs, notes)

    def add_page(self, session: Session, address: str) -> list[Job]:
        """Queue the web page at `address`; a note says if it cannot be noted down.

        A user name and password in it are left out: they are not to be shown, or on the disk.
        """
        address = re.sub(r"//[^/?#]*@", "//…@", address)
        try:
            return self._queue(session, [Job.of_address(session.incoming, address)], [])
        except OSError as error:
            return self._queue(session, [], [_not_kept(address, error)])

    def again(self, session: Session, key: str = "") -> None:
        """Queue the interrupted job of this key, or all of them."""
        with self._changed:
            jobs = _named(session, key, interrupted=True)
            for job in jobs:
                session.jobs.remove(job)
                job.interrupted = False
            self._queue(session, jobs, [])

    def discard(self, session: Session, key: str = "") -> None:
        """Forget the interrupted job of this key, or all of them."""
        with self._changed:
            for job in _named(session, key, interrupted=True):
                session.jobs.remove(job)
                job.drop()

    def cancel(self, session: Session, key: str = "") -> None:
        """End the job of this key, or all; one that is being worked on ends with its step."""
        with self._changed:
            for job in _named(session, key, interrupted=False):
                job.cancelled = True
                if job.steps is None:
                    self._end(session, job)
            self._go_on(session)

    def dismiss(self, session: Session) -> None:
        """Take the notes away."""
        with self._changed:
            session.notes.clear()

    def close(self) -> None:
        """End what is going on. The copies stay, and are there when their sessions are next
        opened."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        until = time.monotonic() + PATIENCE
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            for job in [job for session in self._ring for job in session.jobs]:
                if job.steps:
                    with suppress(ValueError):  # a step of it is still being done
                        job.steps.close()

    def _queue(self, session: Session, jobs: list[Job], notes: list[Note]) -> list[Job]:
        with self._changed:
            if all(job.interrupted for job in session.jobs):  # or they are of what goes on
                session.notes.clear()
            session.notes += notes
            session.batches += 1
            for job in jobs:
                job.batch = session.batches
            session.jobs += jobs
            self._go_on(session)
        return jobs

    def _go_on(self, session: Session) -> None:
        """Give the session its turn if there is something to be done for it."""
        with self._changed:
            if session not in self._in_turn and self._next(session):
                self._in_turn.add(session)
                self._ring.append(session)
                self._changed.notify()
            if self._in_turn and not self._threads and not self._closing:
                for number in range(WORKERS):
                    thread = threading.Thread(target=self._work, name=f"intake {number}")
                    thread.daemon = True
                    thread.start()
                    self._threads.append(thread)

    def _next(self, session: Session) -> Job | None:
        """The job to do a step of."""
        jobs = [job for job in session.jobs if not job.interrupted]
        if session.forgotten:
            for job in jobs:
                job.cancelled = True
        begun = [job for job in jobs if job.steps]
        going_on = [job for job in begun if not job.fetching]

        def can_begin(job: Job) -> bool:
            # Whether it is here already shows only when the other is in, or not.
            return len(begun) < AHEAD and not any(map(job.may_be, begun))

        orders = (
            (job for job in jobs if job.cancelled),
            (job for job in going_on if not job.half_in),
            (job for job in jobs if not job.steps and can_begin(job)),
            sorted(going_on, key=lambda job: job.unembedded),
        )
        return next((job for order in orders for job in order), None)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ring or self._closing)
                if self._closing:
                    return
                session = self._ring.popleft()
                job = self._next(session)
                if job:
                    job.steps = job.steps or self._steps(session, job)
            if job and job.steps:
                self._advance(session, job, job.steps)
            with self._changed:
                self._in_turn.remove(session)
                self._go_on(session)

    def _advance(self, session: Session, job: Job, steps: Steps) -> None:
        """Do one step of a job; the last one ends it."""
        try:
            if job.cancelled:
                steps.close()
            else:
                while event := next(steps, None):
                    if isinstance(event, Searchable | Ingested):
                        session.arrived = max(session.arrived, job.batch)
                    job.told(event)
                    # What is in is over at once, if it was all: it is not to be left behind.
                    if not isinstance(event, Ingested):
                        return
        except Exception as error:
            if self._closing:  # its index is closed below it: that is no fault of the file
                return
            job.failed(self._reason(job, error))
        self._end(session, job)

    def _reason(self, job: Job, error: Exception) -> str:
        """What a person is told of an error."""
        match error:
            case DocumentError():
                return error.reason
            case RivuletError():
                return self._told(error)
        logger.error("Could not take in %s", job.name, exc_info=error)
        return "it could not be taken in. The log says why."

    def _end(self, session: Session, job: Job) -> None:
        job.drop()
        with self._changed:
            job.ended = True
            session.jobs.remove(job)
            session.notes += job.report()

    def _steps(self, session: Session, job: Job) -> Steps:
        path, url = job.path, ""
        if job.address:
            fetched: Future[Page] = Future()
            job.fetching = True
            # What it waits for cannot be interrupted; a thread of its own can be left behind.
            threading.Thread(
                target=self._run_fetch, args=(session, job, fetched), name="fetch", daemon=True
            ).start()
            yield Progress(job.name, "fetching")
            page = fetched.result()
            path, job.name, url = page.path, page.name, page.url
        yield from self._take_in(session, path, job.name, url)

    def _run_fetch(self, session: Session, job: Job, fetched: "Future[Page]") -> None:
        try:
            job.folder.mkdir(parents=True, exist_ok=True)
            fetched.set_result(self._fetch(job.address, job.folder))
        except Exception as error:
            fetched.set_exception(error)
        with self._changed:
            job.fetching = False
            if job.ended:
                job.drop()
            self._go_on(session)


def _named(session: Session, key: str, *, interrupted: bool) -> list[Job]:
    """The job of this key, or all, of those that are interrupted or not."""
    return [job for job in session.jobs if job.interrupted == interrupted and key in ("", job.key)]


def _not_kept(name: str, error: OSError) -> Note:
    logger.error("Could not keep %s: %s", name, error)
    return Note(
        "bad",
        "{name}: it could not be copied ({error}). See that the disk has room and can be written "
        "to, and add it again.",
        {"name": name, "error": error.strerror or str(error)},
    )
