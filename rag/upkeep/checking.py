"""The data folder, looked over and mended, so far as that can be done without asking.

What is kept is read, all of it. What cannot be read gets another name, so that nothing is written
over it. Nobody else may have the folder. Knows nothing of gradio.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from rag.config import Config
from rag.errors import (
    ConfigurationError,
    EmbeddingMismatchError,
    OutdatedIndexError,
    RivuletError,
)
from rag.index.chroma_server import ChromaServer
from rag.index.holding import holder
from rag.index.mending import Finding, mend
from rag.index.store import ChromaStore
from rag.llms.catalog import label
from rag.ui import preferences
from rag.ui.sessions import Session

_SESSION = re.compile(r"[0-9a-f]{32}")
"""The name of a session's folder."""


@dataclass
class Seen:
    """How much was looked over."""

    sessions: int = 0
    conversations: int = 0
    documents: int = 0
    waiting: int = 0
    """Files that were on their way in, and are offered again."""


def check(config: Config, seen: Seen) -> Iterator[tuple[Path, Finding]]:
    """What was wrong, and where. `seen` counts what was looked at."""
    data_dir = config.data_dir
    for place, examine in (("uploads", _uploads), ("feedback.jsonl", _feedback)):
        path = data_dir / place
        for finding in told(examine(path)):
            yield path, finding
    server = ChromaServer.of(config)
    is_there = not server or server.is_there()
    if server and not is_there:
        yield (
            data_dir,
            Finding(
                f"the Chroma server at {server.url} cannot be reached; no index was looked over. "
                f"Start it, or correct CHROMA_URL, and check again",
                mended=False,
            ),
        )
    samples = data_dir / "samples" / label(config.embed_model)
    for finding in told(_samples(samples, config)):
        yield samples, finding
    sessions = data_dir / "sessions"
    for folder in sorted(sessions.iterdir()) if sessions.is_dir() else ():
        if folder.is_dir() and _SESSION.fullmatch(folder.name):
            seen.sessions += 1
            unfinished = {*folder.glob("*.new"), *folder.glob("*/*.new")}
            session = Session(folder)
            found = [_session(session, seen, unfinished)]
            found += [_index(session, config, server, seen)] if is_there else []
            for findings in found:
                for finding in told(findings):
                    yield folder, finding


def told(findings: Iterator[Finding]) -> Iterator[Finding]:
    """What cannot be looked over is one more finding, and the rest goes on."""
    try:
        yield from findings
    except Timeout as error:
        who = holder(Path(error.lock_file))
        yield Finding(f"its index is in use by {who}. End that, and check again", mended=False)
    except RivuletError as error:
        yield Finding(str(error), mended=False)
    except OSError as error:
        what = f"{Path(error.filename).name}: " if isinstance(error.filename, str) else ""
        yield Finding(f"{what}it cannot be read or written ({error.strerror})", mended=False)


def _uploads(folder: Path) -> Iterator[Finding]:
    if folder.is_dir():
        shutil.rmtree(folder)
        yield Finding("what a program that was cut off has left was removed", mended=True)


def _feedback(file: Path) -> Iterator[Finding]:
    if not file.is_file():
        return
    damaged = 0
    with file.open("rb+") as lines:
        for line in lines:
            try:
                json.loads(line)
            except ValueError:
                damaged += 1
        if lines.tell():
            lines.seek(-1, 2)
            if lines.read() != b"\n":  # the next one would come into it
                lines.write(b"\n")
                yield Finding("its last line was not ended; now it is", mended=True)
    if damaged:
        yield Finding(f"lines that are no JSON: {damaged:,}. Remove or mend them", mended=False)


def _samples(folder: Path, config: Config) -> Iterator[Finding]:
    """What is wrong with them is not mended: they can be made again."""
    if folder.is_dir() and list(told(mend(folder, config.embed_model))):
        for path in (folder, *folder.parent.glob(f"{folder.name}.damaged*")):
            shutil.rmtree(path, ignore_errors=True)
        yield Finding("was damaged, and is made again at the next start", mended=True)


def _session(session: Session, seen: Seen, unfinished: set[Path]) -> Iterator[Finding]:
    yield from _preferences(session.folder / "preferences.json")
    seen.waiting += len(session.jobs)
    for entry in session.conversations:  # opening one lays it aside if it is damaged
        session.conversation(entry.key)
    seen.conversations += len(session.conversations)
    yield from (Finding(note.said(), mended=False) for note in session.notes)
    unfinished = {path for path in unfinished if path.name not in ("chroma.new", "words.new")}
    for path in unfinished:  # some are gone already
        path.unlink(missing_ok=True)
    if unfinished:
        yield Finding(f"half-written files were removed: {len(unfinished):,}", mended=True)


def _preferences(file: Path) -> Iterator[Finding]:
    try:
        preferences.decode(file.read_bytes())
    except FileNotFoundError:
        pass
    except (ValueError, ConfigurationError):
        aside = file.with_suffix(".damaged.json")
        file.replace(aside)
        yield Finding(
            f"{file.name} was damaged, and is kept as {aside.name}; the usual settings hold",
            mended=True,
        )


def _index(
    session: Session, config: Config, server: ChromaServer | None, seen: Seen
) -> Iterator[Finding]:
    folder = session.folder / ("words" if server else "chroma")
    name = session.folder.name if server else "index"
    left = [folder.with_name(f"{folder.name}{end}") for end in (".new", ".old")]
    records = []
    if folder.is_dir() or any(path.exists() for path in left):
        yield from mend(folder, config.embed_model, server, name)
    if folder.is_dir():
        try:
            with closing(
                ChromaStore(folder, config.embed_model, server=server, name=name)
            ) as store:
                records = store.documents()
        except (EmbeddingMismatchError, OutdatedIndexError):  # which has been told
            return
    seen.documents += len(records)
    if any(session.folder.glob(f"{folder.name}.damaged*")):
        return  # of what is missing the originals may still be wanted
    before = _count(session)
    session.originals.sweep(records)
    if before > _count(session):
        number = before - _count(session)
        yield Finding(f"originals that belong to no document were removed: {number:,}", mended=True)


def _count(session: Session) -> int:
    return sum(1 for _ in (session.folder / "originals").glob("*"))
