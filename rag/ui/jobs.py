"""A file or a web page on its way in: its copy on the disk, and how far it has come.

`incoming/<key>/<name>` is the copy of a file. `incoming/<key>.address` holds the address of a web
page, which is fetched into `incoming/<key>/`. Either is there wholly or not at all: what is still
being written ends in `.new`. A job is over when they are gone. Knows nothing of gradio.
"""

import os
import secrets
import shutil
import time
from collections import Counter, deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from rag.index.ingestion import Ingested, Progress, Rejected, Searchable
from rag.ui.language import Say, english

Event = Progress | Searchable | Ingested | Rejected
Steps = Generator[Event, None, None]

PACE = 30.0
"""Seconds over which the speed of embedding is taken."""


LONGEST = 80
"""Characters of an address that are shown."""


def shortened(address: str) -> str:
    return address if len(address) <= LONGEST else f"{address[: LONGEST - 1]}…"


Kind = Literal["good", "same", "cancelled", "bad"]


class Note(NamedTuple):
    """What became of a file."""

    kind: Kind
    text: str
    """In English, with the names of `values` in braces."""
    values: Mapping[str, object] = MappingProxyType({})

    def said(self, say: Say = english) -> str:
        """In a person's language, and so is its `reason`, where that is one of our fixed texts."""
        values = dict(self.values)
        if "reason" in values:
            values["reason"] = say(str(values["reason"]))
        return say(self.text, **values)


@dataclass(eq=False)
class Job:
    """One file or web page; `folder` is `incoming/<key>`."""

    folder: Path
    name: str
    address: str = ""
    """Of a web page, which is fetched first."""
    size: int = 0
    """Of a file, in bytes."""
    interrupted: bool = False
    """Left by a process that ended; it waits for the person to decide."""
    batch: int = 0
    """Number of the addition it belongs to, within its session."""
    steps: Steps | None = None
    """What is being done; None before it has begun."""
    fetching: bool = False
    """Another thread fetches it, and there is nothing else to do for it."""
    cancelled: bool = False
    searchable: bool = False
    ended: bool = False
    progress: Progress | None = None
    """What was last told of it."""
    half_in: str = ""
    """Identity of the document that can be searched, but is not wholly in."""
    _notes: list[Note] = field(default_factory=list)
    _added: int = 0
    _inside: Counter[str] = field(default_factory=Counter)
    """Documents of an archive or an e-mail, by what became of them."""
    _embedded: deque[tuple[float, int]] = field(default_factory=deque)
    """When how many passages of the document were embedded."""

    @classmethod
    def of_file(cls, incoming: Path, file: Path, name: str) -> "Job":
        """A job for a copy of `file`. Raises OSError where that cannot be made."""
        folder = incoming / _key()
        new = folder.with_suffix(".new")
        try:
            new.mkdir(parents=True)
            try:
                os.link(file, new / name)
            except OSError:  # another disk, or one that knows no links
                shutil.copyfile(file, new / name)
            new.rename(folder)
        except OSError:
            shutil.rmtree(new, ignore_errors=True)
            raise
        return cls._of_copy(folder / name)

    @classmethod
    def _of_copy(cls, copy: Path, *, interrupted: bool = False) -> "Job":
        return cls(copy.parent, copy.name, size=copy.stat().st_size, interrupted=interrupted)

    @classmethod
    def of_address(cls, incoming: Path, address: str) -> "Job":
        """A job for a web page. Raises OSError where it cannot be noted down."""
        folder = incoming / _key()
        new = folder.with_suffix(".new")
        try:
            incoming.mkdir(parents=True, exist_ok=True)
            new.write_text(address, "utf-8")
            new.rename(folder.with_suffix(".address"))
        except OSError:
            with suppress(OSError):
                new.unlink(missing_ok=True)
            raise
        return cls(folder, shortened(address), address)

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def path(self) -> Path:
        """The copy of a file."""
        return self.folder / self.name

    @property
    def settled(self) -> bool:
        """Whether a question about it need not wait any longer."""
        return self.searchable or self.ended

    @property
    def unembedded(self) -> int:
        """Passages of the document that are still to be embedded."""
        return self.progress.total - self.progress.done if self.progress else 0

    @property
    def per_second(self) -> float | None:
        """Passages that are embedded in a second just now; None while that is not known."""
        if len(self._embedded) < 2:
            return None
        (begun, before), (now, done) = self._embedded[0], self._embedded[-1]
        return (done - before) / (now - begun) if now > begun else None

    def may_be(self, other: "Job") -> bool:
        """Whether it could be the same document, or another version of it."""
        if self.address:
            return self.address == other.address
        return self.name == other.name or self.size == other.size

    def told(self, event: Event) -> None:
        """Take note of what has happened to it."""
        alone = event.file_name == self.name
        match event:
            case Progress(_, step, done):
                if step == "embedding":
                    self._pace(done)
                self.progress = event
            case Searchable():
                self.half_in = event.document_id
                self.progress = Progress(event.file_name, "embedding", 0, event.passages)
                # What is attached to an e-mail comes after it.
                self.searchable = alone and not self.name.lower().endswith(".eml")
            case Rejected(name, reason):
                self.half_in = ""
                self._notes.append(self._note("bad", "{name}: {reason}", name=name, reason=reason))
            case Ingested(_, known_as=known, replaced=replaced):
                self._added += not known
                if not alone:
                    self.half_in = ""
                    self._inside["same" if known else "good"] += 1
                else:
                    self._notes.append(self._taken_in(known, replaced))

    def _taken_in(self, known: str, replaced: bool) -> Note:
        if known == self.name:
            return self._note("same", "{name}: it is here already; nothing was added.")
        if known:
            text = "{name}: the same text, as {other}, is here already; nothing was added."
            return self._note("same", text, other=known)
        if replaced:
            return self._note("good", "{name} is ready, in place of its older version.")
        return self._note("good", "{name} is ready.")

    def failed(self, reason: str) -> None:
        self._notes.append(self._note("bad", "{name}: {reason}", reason=reason))

    def report(self) -> Iterator[Note]:
        """What became of it, once it has ended."""
        yield from self._notes
        if self.cancelled and not (self.searchable and self._added):
            if not self._added:
                yield self._note("cancelled", "{name}: cancelled; nothing was added.")
            else:
                one = "{name}: cancelled; 1 document of it stayed."
                many = "{name}: cancelled; {number} documents of it stayed."
                yield self._counted("cancelled", self._added, one, many)
            return
        if number := self._inside["good"]:
            one = "{name}: 1 document of it can be searched."
            many = "{name}: {number} documents of it can be searched."
            yield self._counted("good", number, one, many)
        if number := self._inside["same"]:
            one = "{name}: 1 document of it had been here."
            many = "{name}: {number} documents of it had been here."
            yield self._counted("same", number, one, many)

    def _note(self, kind: Kind, text: str, **values: object) -> Note:
        return Note(kind, text, {"name": self.name, **values})

    def _counted(self, kind: Kind, number: int, one: str, many: str) -> Note:
        return self._note(kind, one if number == 1 else many, number=number)

    def drop(self) -> None:
        """Delete what is on the disk of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.with_suffix(".address").unlink(missing_ok=True)

    def _pace(self, done: int) -> None:
        now = time.monotonic()
        if not done:
            self._embedded.clear()
        self._embedded.append((now, done))
        while now - self._embedded[0][0] > PACE:
            self._embedded.popleft()


def left_behind(incoming: Path) -> list[Job]:
    """The jobs that an earlier process did not end, in order; what is not whole is deleted."""
    jobs = []
    for kept in sorted(incoming.iterdir()) if incoming.is_dir() else ():
        if kept.suffix == ".address":
            address = kept.read_text("utf-8", "replace")
            place, name = kept.with_suffix(""), shortened(address)
            jobs.append(Job(place, name, address, interrupted=True))
        elif kept.is_file():
            kept.unlink()
        elif kept.suffix or kept.with_suffix(".address").exists() or not any(kept.iterdir()):
            shutil.rmtree(kept, ignore_errors=True)
        else:
            jobs.append(Job._of_copy(next(kept.iterdir()), interrupted=True))
    return jobs


def distinct(names: Iterable[str]) -> list[str]:
    """`names`, of which the second "report.pdf" becomes "report (2).pdf"."""
    names = list(names)
    given: list[str] = []
    for name in names:
        path, number, new = Path(name), 1, name
        while new in given or (number > 1 and new in names):
            number += 1
            new = f"{path.stem} ({number}){path.suffix}"
        given.append(new)
    return given


def _key() -> str:
    """One after another in the order of time."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"
