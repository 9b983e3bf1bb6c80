"""Chroma's files, damaged in every way that Chroma would not notice, or would not survive."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rag.errors import DamagedIndexError, OutdatedIndexError
from rag.index import keywords
from rag.index import store as store_module
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.mending import mend
from rag.index.soundness import DATABASE, GRAPH, HEADER, NEWEST, look_over, reading
from rag.index.store import ChromaStore
from rag.types import Document

EMBEDDING = HashEmbedding()
PASSAGES = 120
QUICK = {"max_neighbors": 4, "sync_threshold": 50, "batch_size": 10}
"""With these Chroma writes its graph from the fiftieth vector on, and on several levels."""


@contextmanager
def written_early() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store_module, "HNSW", store_module.HNSW | QUICK)
        yield


def graph_of(folder: Path) -> Path:
    """The folder of the graph of the passages."""
    (graph,) = (file.parent for file in folder.glob("*/index_metadata.pickle"))
    return graph


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "chroma"
    with written_early():
        store = ChromaStore(folder, EMBEDDING.name)
    text = "\n\n".join(f"## Part {n}\n\nriver{n} {'flows ' * 60}" for n in range(PASSAGES))
    list(ingest(Document(text, {"file_name": "rivers.md"}), store, EMBEDDING))
    assert store.documents()[0].passages == PASSAGES
    store.close()
    levels = HEADER.unpack((graph_of(folder) / "header.bin").read_bytes())[7]
    assert levels > 1
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "chroma")
    return tmp_path / "chroma"


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def refused(folder: Path, match: str) -> None:
    """It is not opened, and nothing is changed."""
    before = contents(folder)
    with pytest.raises(DamagedIndexError, match=rf"{match}.*python -m rag check"):
        ChromaStore(folder, EMBEDDING.name)
    assert contents(folder) == before


def test_what_is_whole_is_let_through(folder: Path) -> None:
    look_over(folder)
    with closing(ChromaStore(folder, EMBEDDING.name)) as store:
        (record,) = store.documents()
        store.delete(record.id_)
        list(ingest(Document("..."), store, EMBEDDING))  # its vector is of zeros
        text = "\n\n".join(f"## Part {n}\n\nlake{n} {'lies ' * 60}" for n in range(99))
        list(ingest(Document(text), store, EMBEDDING))
    look_over(folder)


@pytest.mark.parametrize("name", GRAPH)
def test_a_file_of_the_graph_that_is_missing(folder: Path, name: str) -> None:
    (graph_of(folder) / name).unlink()
    refused(folder, f"{name} is missing")


@pytest.mark.parametrize("name", GRAPH)
def test_what_is_refused_is_mended(folder: Path, name: str) -> None:
    (graph_of(folder) / name).write_bytes(b"")
    (finding,) = mend(folder, EMBEDDING.name)
    assert finding.mended
    with closing(ChromaStore(folder, EMBEDDING.name)) as store:
        (record,) = store.documents()
        nodes = store.nodes(record.id_)
        assert len(nodes) == PASSAGES
        (hit,) = store.query(EMBEDDING.embed_query(nodes[77].embedded_text).vector, 1)
        assert hit.score
        assert hit.score > 0.99


@pytest.mark.parametrize("name", GRAPH[:-1])
@pytest.mark.parametrize("left", [0, 0.5])
def test_one_that_is_cut(folder: Path, name: str, left: float) -> None:
    file = graph_of(folder) / name
    os.truncate(file, int(file.stat().st_size * left))
    refused(folder, name)


@pytest.mark.parametrize("name", ["data_level0.bin", "link_lists.bin", "header.bin"])
@pytest.mark.parametrize("byte", [b"\xff", b"\0", b"\x11"])
def test_one_that_is_overwritten_in_its_middle(folder: Path, name: str, byte: bytes) -> None:
    file = graph_of(folder) / name
    third = file.stat().st_size // 3
    with file.open("r+b") as opened:
        opened.seek(third)
        opened.write(byte * third)
    refused(folder, name)


@dataclass
class Number:
    """A number that Chroma would follow: it stands in `file` at `place(graph)`."""

    file: str
    place: Callable[[Path], int]
    kind: str
    value: int
    says: str


def entry(graph: Path) -> int:
    """Where the links begin of the element by which every search comes in."""
    place = 0
    content = (graph / "link_lists.bin").read_bytes()
    while not (length := int.from_bytes(content[place : place + 4], "little")):
        place += 4
    assert length
    return place + 4


@pytest.mark.parametrize(
    "number",
    [
        Number("header.bin", lambda _: 20, "<u8", 2**40, "header.bin"),
        Number("header.bin", lambda _: 52, "<i4", 9, "link_lists.bin and header.bin"),
        Number("header.bin", lambda _: 56, "<u4", PASSAGES, "header.bin"),
        Number("data_level0.bin", lambda _: 0, "<u2", 9, "data_level0.bin leads nowhere"),
        Number("data_level0.bin", lambda _: 4, "<u4", PASSAGES, "data_level0.bin leads nowhere"),
        Number("data_level0.bin", lambda _: 4 * 9, "<f4", 7, "numbers that cannot be"),
        Number("link_lists.bin", entry, "<u2", 5, "link_lists.bin has lengths"),
        Number("link_lists.bin", lambda g: entry(g) + 4, "<u4", PASSAGES, "leads nowhere"),
        Number("link_lists.bin", lambda g: entry(g) - 4, "<u4", 2**30, "link_lists.bin has len"),
    ],
)
def test_one_number(folder: Path, number: Number) -> None:
    graph = graph_of(folder)
    with (graph / number.file).open("r+b") as file:
        file.seek(number.place(graph))
        file.write(np.array(number.value, number.kind).tobytes())
    refused(folder, number.says)


def test_a_link_to_an_element_that_is_not_on_that_level(folder: Path) -> None:
    graph = graph_of(folder)
    content = (graph / "link_lists.bin").read_bytes()
    low = next(n for n in range(PASSAGES) if content[4 * n : 4 * n + 4] == bytes(4))
    with (graph / "link_lists.bin").open("r+b") as file:
        file.seek(entry(graph) + 4)
        file.write(np.array(low, "<u4").tobytes())
    refused(folder, "leads nowhere")


@pytest.mark.parametrize(
    "harm",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"no database at all" * 999),
        lambda path: os.truncate(path, path.stat().st_size // 2),
    ],
)
def test_the_database(folder: Path, harm: Callable[[Path], object]) -> None:
    """Where it is missing or empty Chroma would begin anew, and all that is left would follow."""
    harm(folder / DATABASE)
    refused(folder, DATABASE)


def test_where_both_halves_are_damaged_neither_is_emptied(folder: Path) -> None:
    for name in (DATABASE, keywords.FILE):
        (folder / name).write_bytes(b"no database at all" * 999)
    before = contents(folder)
    with pytest.raises(DamagedIndexError):
        ChromaStore(folder, EMBEDDING.name)
    assert contents(folder) == before


@pytest.mark.parametrize("there", [(), ("words",), ("words", "empty"), ("empty",)])
def test_a_folder_in_which_nothing_was_ever_stored_is_none_that_is_damaged(
    tmp_path: Path, there: tuple[str, ...]
) -> None:
    """As a process leaves it that is killed while it begins."""
    if "words" in there:
        keywords.KeywordIndex(tmp_path).close()
    if "empty" in there:
        (tmp_path / DATABASE).touch()
    with closing(ChromaStore(tmp_path, EMBEDDING.name)) as store:
        list(ingest(Document("Snow is white."), store, EMBEDDING))
    look_over(tmp_path)


def test_one_of_a_newer_chroma_is_left_as_it_is(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as db:
        db.execute(
            "INSERT INTO migrations VALUES ('sysdb', 99, '00099-next.sqlite.sql', 'SELECT 1', 'x')"
        )
        db.commit()
    before = contents(folder)
    with pytest.raises(OutdatedIndexError, match="newer version of Chroma"):
        ChromaStore(folder, EMBEDDING.name)
    (finding,) = mend(folder, EMBEDDING.name)
    assert not finding.mended
    assert contents(folder) == before


def test_the_migrations_are_those_of_the_chroma_that_is_installed(folder: Path) -> None:
    with closing(reading(folder)) as db:
        there = db.execute("SELECT dir, max(version) FROM migrations GROUP BY dir").fetchall()
    assert dict(there) == NEWEST
