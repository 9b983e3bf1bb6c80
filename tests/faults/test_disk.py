"""Disks that are full, damaged, or from another day: nothing that was stored is lost."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rag.errors import StoreError
from rag.index import keywords
from rag.index.ingestion import ingest
from rag.index.store import ChromaStore
from rag.types import Document
from tests.faults.confined import LINUX, no_override, own_disk
from tests.faults.work import EMBEDDING, examine

WHITE, COLD = ["snow is white"], ["snow is cold"]


def add(store: ChromaStore, text: str, name: str) -> None:
    list(ingest(Document(text, {"file_name": name}, name), store, EMBEDDING))


def opened(folder: Path) -> ChromaStore:
    return ChromaStore(folder, EMBEDDING.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An index of two documents."""
    store = opened(tmp_path / "index")
    add(store, *WHITE, "white.md")
    add(store, *COLD, "cold.md")
    store.close()
    return tmp_path / "index"


BOTH = {"white.md": WHITE, "cold.md": COLD}


def overwrite(path: Path, begin: int, length: int) -> None:
    with path.open("r+b") as file:
        file.seek(begin)
        file.write(b"\xff" * length)


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all" * 999),
        lambda path: overwrite(path, 0, 16),
        lambda path: overwrite(path, 100, 1000),
        lambda path: overwrite(path, 4096, path.stat().st_size - 4096),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
    ],
)
def test_a_damaged_index_of_words_is_made_anew(folder: Path, harm: Callable[[Path], None]) -> None:
    harm(folder / keywords.FILE)
    assert examine(folder) == BOTH


@pytest.mark.parametrize("use", ["search", "delete", "add", "passages"])
def test_damage_that_shows_while_it_is_open_is_mended(folder: Path, use: str) -> None:
    store = opened(folder)
    db = store._words._db
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.execute("PRAGMA cache_size = 0")
    overwrite(folder / keywords.FILE, 4096, (folder / keywords.FILE).stat().st_size - 4096)
    expected = dict(BOTH)
    if use == "search":
        assert len(store.matching("snow", 9)) == 2
    elif use == "passages":
        assert store.passages([1, 2]) == []  # what these numbers were is not known any more
    elif use == "delete":
        store.delete("white.md")
        del expected["white.md"]
    else:
        add(store, "snow is wet", "white.md")
        expected["white.md"] = ["snow is wet"]
    assert len(store.matching("snow", 9)) == len(expected)
    store.close()
    assert examine(folder) == expected


@pytest.mark.parametrize("older", ["words", "chroma"])
def test_parts_of_different_days_agree_after_opening(
    folder: Path, tmp_path: Path, older: str
) -> None:
    shutil.copytree(folder, tmp_path / "backup")
    store = opened(folder)
    store.delete("cold.md")
    add(store, "snow is wet", "white.md")
    add(store, "snow is new", "new.md")
    store.close()
    words, chroma = (
        (folder, tmp_path / "backup")
        if older == "chroma"
        else (
            tmp_path / "backup",
            folder,
        )
    )
    mixed = tmp_path / "mixed"
    shutil.copytree(chroma, mixed)
    for file in mixed.glob(f"{keywords.FILE}*"):
        file.unlink()
    for file in words.glob(f"{keywords.FILE}*"):
        shutil.copy(file, mixed)
    now = {"white.md": ["snow is wet"], "new.md": ["snow is new"]}
    assert examine(mixed) == (BOTH if older == "chroma" else now)


@pytest.mark.parametrize("use", ["add", "replace", "delete"])
def test_words_that_cannot_be_written_cost_only_the_attempt(folder: Path, use: str) -> None:
    store = opened(folder)
    db = store._words._db
    db.execute("PRAGMA query_only = on")  # what a folder that became read-only does
    attempt = {
        "add": lambda: add(store, "snow is new", "new.md"),
        "replace": lambda: add(store, "snow is new", "white.md"),
        "delete": lambda: store.delete("white.md"),
    }[use]
    with pytest.raises(StoreError, match="Is the disk full, or the folder read-only"):
        attempt()
    db.execute("PRAGMA query_only = off")
    there = {record.id_: record for record in store.documents()}
    assert ("white.md" in there) == (use != "delete")  # Chroma had it written
    assert len(store.matching("snow", 9)) == len(there)
    store.close()
    assert examine(folder) == {name: text for name, text in BOTH.items() if name in there}


FULL = """
import resource, sys
from pathlib import Path
from rag.errors import StoreError
from tests.faults.test_disk import add, opened
from tests.faults.work import MODES, EMBEDDING
from rag.index.retrieval import VectorIndexRetriever
store = opened(Path(sys.argv[1]))
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
long = "".join(f"## Part {n}\\n\\nParagraph {n} tells of river{n}.\\n\\n" for n in range(300))
for room in (0, 4096, 60_000, 200_000, 300_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, most))
    for use in (lambda: add(store, long, "white.md"), lambda: add(store, long, "new.md")):
        try:
            use()
        except StoreError as error:
            assert "Is the disk full" in str(error), error
        else:
            assert room, "it cannot have been written"
    for mode in MODES:
        assert VectorIndexRetriever([store], EMBEDDING, 9, mode).retrieve("snow")
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
add(store, "snow is wet", "white.md")
add(store, "snow is new", "new.md")
store.close()
"""


FULL_FOR_CHROMA = """
import os, sys
from pathlib import Path
from rag.errors import StoreError
from tests.faults.test_disk import add, opened
from tests.faults.work import examine
disk = Path(sys.argv[1])
store = opened(disk / "index")
add(store, "snow is cold", "cold.md")
writes = fails = failures = 0
def limited(collection, name):
    def call(*arguments):
        global writes
        writes += 1
        if fails <= writes <= fails + 1:  # also when it is tried once more
            with (disk / "fill").open("wb", 0) as fill:
                free = os.statvfs(disk)
                fill.write(bytes(free.f_bavail * free.f_frsize))
        try:
            write(*arguments)
        finally:
            (disk / "fill").unlink(missing_ok=True)
    write = getattr(collection, name)
    setattr(collection, name, call)
def limit():
    for collection in (store._documents, store._passages):
        limited(collection, "upsert")
        limited(collection, "delete")
open_collections = store._open_collections
store._open_collections = lambda: (open_collections(), limit())
limit()
was = []
for fails in range(1, 8):
    for use in ("add", "delete"):
        writes, fill = 0, f"tells of river{fails}. " * 20
        text = "".join(f"## Part {n}\\n\\nsnow {fails} {fill}\\n\\n" for n in range(200))
        try:
            if use == "add":
                add(store, text, "white.md")
            else:
                store.delete("white.md")
        except StoreError as error:
            assert "Is the disk full" in str(error), error
            failures += 1
        else:
            was = [f"snow {fails}"] if use == "add" else []
        hits = store.passages(store.matching("snow", 999))
        found = {hit.node.text[:6] for hit in hits if hit.node.document_id == "white.md"}
        assert found == set(was), (found, was)
        there = [record.id_ for record in store.documents()]
        assert sorted(there) == ["cold.md", "white.md"][: 2 if was else 1], (there, was)
assert failures > 1, failures
store.close()
del store
assert examine(disk / "index").keys() == {"cold.md"}
"""


FULL_FOR_LONG = """
import sys
from pathlib import Path
from rag.errors import StoreError
from tests.faults.test_disk import add, opened
from tests.faults.work import examine
disk = Path(sys.argv[1])
store = opened(disk / "index")
add(store, "snow is cold", "cold.md")
add(store, "snow is white", "white.md")
with (disk / "fill").open("wb", 0) as fill:
    for size in (1 << 16, 512):
        try:
            while True:
                fill.write(bytes(size))
        except OSError:
            pass
failed = 0
for _ in range(2):
    for use in (
        lambda: store.delete("white.md"),
        lambda: add(store, "snow is new " * 9999, "new.md"),
        store.documents,
        lambda: store.matching("snow", 9),
    ):
        try:
            use()
        except StoreError as error:
            assert "Is the disk full" in str(error), error
            failed += 1
assert failed > 2, failed
(disk / "fill").unlink()
there = {record.id_ for record in store.documents()}
assert there == {"cold.md", "white.md"}, there
assert len(store.matching("snow", 9)) == 2
add(store, "snow is new", "new.md")
store.close()
del store, use
assert examine(disk / "index").keys() == {"cold.md", "white.md", "new.md"}
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limit there")
def test_on_a_full_disk_nothing_is_lost_and_with_room_it_goes_on(folder: Path) -> None:
    """As full as a limit of the size of files makes it: no file may grow beyond that."""
    done = python(FULL, folder)
    assert done.returncode == 0, done.stderr
    assert examine(folder) == {
        "white.md": ["snow is wet"],
        "cold.md": COLD,
        "new.md": ["snow is new"],
    }


@LINUX
def test_where_chroma_finds_no_room_nothing_is_lost_and_with_room_it_goes_on(
    tmp_path: Path,
) -> None:
    """A disk of the test's own is full for each of Chroma's writes in turn."""
    done = python(FULL_FOR_CHROMA, tmp_path, *own_disk(tmp_path, "24m"))
    assert done.returncode == 0, done.stderr


@LINUX
def test_a_disk_that_stays_full_leaves_an_index_that_can_be_used_later(tmp_path: Path) -> None:
    done = python(FULL_FOR_LONG, tmp_path, *own_disk(tmp_path, "24m"))
    assert done.returncode == 0, done.stderr


READ_ONLY_FOR_LONG = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tests.faults.test_disk import COLD, WHITE, add, opened
from tests.faults.test_index import make_read_only, make_writable
from tests.faults.work import EMBEDDING

folder = Path(sys.argv[1]) / "index"
store = opened(folder)
add(store, *WHITE, "white.md")
vector = EMBEDDING.embed_query("snow").vector
for n in range(3):
    assert store.query(vector, 1)  # the first one after a change writes
    make_read_only(folder)
    with ThreadPoolExecutor(8) as threads:
        for hits in threads.map(lambda _: store.query(vector, 1), range(80)):
            assert hits
    make_writable(folder)
    add(store, f"{n} {COLD[0]}", f"cold{n}.md")
assert len(store.documents()) == 4
"""


@LINUX
def test_what_chroma_opened_while_it_was_read_only_is_written_to_afterwards(tmp_path: Path) -> None:
    """Connections to its database that stay read-only."""
    done = python(READ_ONLY_FOR_LONG, tmp_path, *no_override())
    assert done.returncode == 0, done.stderr


def python(script: str, folder: Path, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-c", script, str(folder)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
