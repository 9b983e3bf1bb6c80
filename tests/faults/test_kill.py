"""A process that is killed while it takes in documents leaves each of them whole, or not at all."""

import multiprocessing
import random
import shutil
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag.index.store import ChromaStore
from tests.documents.makers import archive, pdf
from tests.faults.work import EMBEDDING, REMOVED, REPLACED, examine, take_in, work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="no process is forked there"),
]

AT_RANDOM = 15
SEED = 20261123
PHASES = {"reading", "splitting", "embedding", "storing", "replacing", "removing"}


def sections(about: str, number: int) -> str:
    return "".join(
        f"## {about} {n}\n\nParagraph {n} on {about} tells of river{n} and {about}{n * 7}.\n\n"
        for n in range(number)
    )


@dataclass
class Index:
    """An index to begin with, and what is put into it."""

    folder: Path
    files: list[Path]
    phases: list[str]
    """What a process that was not killed told."""
    seconds: float
    before: dict[str, list[str]]
    after: dict[str, list[str]]


def killed(
    folder: Path, files: list[Path], seconds: float = 60, die_at: int = -1, after: bool = False
) -> tuple[list[str], float]:
    """Start the work and kill it after so many seconds; what it told, and how long it took."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.work"])
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(folder, files, theirs, die_at, after))
    process.start()
    theirs.close()
    assert pipe.recv() == "begun"
    begun = time.monotonic()
    told = []
    with suppress(EOFError):
        while pipe.poll(max(0.0, begun + seconds - time.monotonic())):
            told.append(pipe.recv())
    took = time.monotonic() - begun
    with suppress(ProcessLookupError):  # it is dead already
        process.kill()
    process.join()
    with suppress(EOFError):
        while pipe.poll(0):
            told.append(pipe.recv())
    return told, took


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    base = tmp_path_factory.mktemp("kill")
    new = base / "new"
    new.mkdir()
    first = [base / name for name in ("kept.md", REPLACED, REMOVED)]
    for file in first:
        file.write_text(sections(file.stem, 20))
    contents: dict[str, str | bytes] = {
        "notes.md": sections("notes", 40),
        REPLACED: sections("renewed", 25),
        "pair.zip": archive({"page.html": "<h1>Page</h1>On moss.", "two.csv": "a,b\n1,2\n3,4\n"}),
        "paper.pdf": pdf("The first page is on granite.", "The second page is on basalt."),
    }
    for name, content in contents.items():
        (new / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    files = [new / name for name in contents]
    store = ChromaStore(base / "index", EMBEDDING.name)
    take_in(store, first, lambda _: None)
    store.close()
    del store
    shutil.copytree(base / "index", base / "dry")
    told, seconds = killed(base / "dry", files)
    assert told[-1] == "done"
    before, after = examine(base / "index"), examine(base / "dry")
    assert set(after) - set(before) >= {"notes.md", "paper.pdf"}
    assert before[REPLACED] != after[REPLACED]
    assert REMOVED not in after
    return Index(base / "index", files, told, seconds, before, after)


def check(index: Index, folder: Path) -> None:
    found = examine(folder)
    for name in index.before.keys() | index.after.keys():
        assert found.get(name) in (index.before.get(name), index.after.get(name)), name
    assert not found.keys() - index.before.keys() - index.after.keys()


def test_killed_at_any_moment_each_document_is_wholly_in_or_out(
    index: Index, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    hit = set()
    for number in range(AT_RANDOM):
        # Spread evenly: reading takes most of the time, and the machine is not always as fast.
        moment = (number + chance.random()) / AT_RANDOM * index.seconds
        folder = tmp_path / f"{number}"
        shutil.copytree(index.folder, folder)
        told, _ = killed(folder, index.files, moment)
        hit.add(next((told for told in reversed(told) if told in PHASES), ""))
        check(index, folder)
        if number % 5 == 4:  # the next try completes it
            store = ChromaStore(folder, EMBEDDING.name)
            take_in(store, index.files, lambda _: None)
            for record in store.documents():
                if record.name == REMOVED:
                    store.delete(record.id_)
            store.close()
            del store
            assert examine(folder) == index.after
        shutil.rmtree(folder)
    assert hit >= {"reading", "embedding"}  # the long ones; all others have the next test


def test_killed_at_every_kind_of_write_each_document_is_wholly_in_or_out(
    index: Index, tmp_path: Path
) -> None:
    """Each kind in each phase once; so that every phase is hit, which random moments may miss."""
    chance = random.Random(SEED)
    phase, number = "", 0
    points: dict[tuple[str, str], list[int]] = {}
    for told in index.phases:
        if told in PHASES:
            phase = told
        if told.startswith("call"):
            points.setdefault((phase, told), []).append(number)
            number += 1
    assert {phase for phase, _ in points} >= {"storing", "replacing", "removing"}
    for (phase, told), numbers in points.items():
        folder = tmp_path / f"{phase} {told}"
        shutil.copytree(index.folder, folder)
        killed(folder, index.files, die_at=chance.choice(numbers), after=chance.random() < 0.5)
        check(index, folder)
        shutil.rmtree(folder)
