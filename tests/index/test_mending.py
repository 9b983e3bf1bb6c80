"""Indexes that were damaged, and what is mended of them."""

import os
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock, Timeout

from rag.errors import StoreError
from rag.index import store as store_module
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import ingest
from rag.index.keywords import FILE
from rag.index.mending import Finding, mend
from rag.index.soundness import DATABASE
from rag.index.store import ChromaStore
from rag.types import Document


class Tokens(HashEmbedding):
    """Gives tokens as well."""

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        return [Embedded(e.vector, np.stack([e.vector, -e.vector])) for e in super().embed(texts)]


EMBEDDING = Tokens()
TEXTS = {
    "rivers.md": "\n\n".join(f"## Part {n}\n\nriver{n} {'flows ' * 60}" for n in range(60)),
    "snow.md": "Snow is white.",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "chroma"
    store = ChromaStore(folder, EMBEDDING.name)
    for name, text in TEXTS.items():
        list(ingest(Document(text, {"file_name": name}, name), store, EMBEDDING))
    store.close()
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """An index of two documents."""
    shutil.copytree(made, tmp_path / "chroma")
    return tmp_path / "chroma"


def mended(folder: Path, embed_model: str = EMBEDDING.name) -> list[Finding]:
    return list(mend(folder, embed_model))


def contents(folder: Path) -> dict[str, tuple[list[str], list[bool], list[bytes]]]:
    """Of each document its passages, whether some are found by their own vectors, their tokens."""
    store = ChromaStore(folder, EMBEDDING.name)
    found = {}
    for record in store.documents():
        texts = [node.text for node in store.nodes(record.id_)]
        (first,) = store._words.numbers([record.key]).values()
        passages = store.passages(range(first, first + record.passages))
        vectors = [p.vector for p in passages if p.vector is not None]
        near = [store.query(vector, 1)[0].score > 0.99 for vector in vectors[::20]]
        found[record.name] = (
            texts,
            near,
            [p.tokens.tobytes() for p in passages if p.tokens is not None],
        )
    store.close()
    return found


@pytest.fixture(scope="module")
def whole(made: Path) -> dict[str, tuple[list[str], list[bool], list[bytes]]]:
    return contents(made)


def overwrite(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size // 3)
        opened.write(b"\xff" * (size // 3))


def test_in_one_that_is_whole_nothing_is_found_or_changed(folder: Path, whole: object) -> None:
    assert mended(folder) == []
    assert contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == ["chroma"]


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: (folder / DATABASE).unlink(),
        lambda folder: (folder / DATABASE).write_bytes(b""),
        lambda folder: overwrite(folder / DATABASE),
        lambda folder: os.truncate(folder / DATABASE, (folder / DATABASE).stat().st_size // 2),
        lambda folder: [path.unlink() for path in folder.glob("*/header.bin")],
    ],
)
def test_chroma_is_put_together_again_from_the_words(
    folder: Path, whole: object, harm: Callable[[Path], object]
) -> None:
    harm(folder)
    found = mended(folder)
    # Of so small an index Chroma has all vectors in its database, whatever its other files are.
    if (folder / DATABASE).stat().st_size and found:
        (finding,) = found
        assert finding.mended
        assert "2 documents put together again" in finding.what
    assert contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == ["chroma"]


def test_words_that_are_damaged_are_made_anew(folder: Path, whole: object) -> None:
    overwrite(folder / FILE)
    (finding,) = mended(folder)
    assert finding == Finding("the index of words was damaged, and was made anew", mended=True)
    texts = {name: each[0] for name, each in contents(folder).items()}
    assert texts == {name: each[0] for name, each in whole.items()}  # type: ignore[attr-defined]


def test_words_that_lack_a_passage_are_made_anew(folder: Path) -> None:
    with sqlite3.connect(folder / FILE) as db:
        db.execute("DELETE FROM passages WHERE number = (SELECT max(number) FROM passages)")
    db.close()
    (finding,) = mended(folder)
    assert finding.mended
    assert contents(folder).keys() == TEXTS.keys()


def test_passages_that_chroma_lacks_are_put_in_again(folder: Path, whole: object) -> None:
    store = ChromaStore(folder, EMBEDDING.name)
    ids = [id_ for id_ in store._passages.get(include=[])["ids"] if "rivers" in id_]
    store._passages.delete(ids[:7])
    store.close()
    (finding,) = mended(folder)
    assert finding == Finding("7 passages of rivers.md had no vector; put in again", mended=True)
    assert contents(folder) == whole


def test_passages_of_no_document_are_taken_out(folder: Path, whole: object) -> None:
    store = ChromaStore(folder, EMBEDDING.name)
    vector = EMBEDDING.embed_query("stray").vector
    store._passages.upsert(["x:gone.md:0"], [vector], [{"a": 1}], ["stray"])
    store.close()
    (finding,) = mended(folder)
    assert finding == Finding("1 passage that belonged to no document; taken out", mended=True)
    assert contents(folder) == whole
    assert mended(folder) == []


def test_a_document_that_is_nowhere_whole_is_told(folder: Path) -> None:
    store = ChromaStore(folder, EMBEDDING.name)
    ids = [id_ for id_ in store._passages.get(include=[])["ids"] if "rivers" in id_]
    store._passages.delete(ids[:7])
    store.close()
    for file in folder.glob(f"{FILE}*"):
        file.unlink()
    (finding,) = mended(folder)
    assert finding == Finding(
        "rivers.md was not whole, and was taken out. Add it again", mended=False
    )
    assert contents(folder).keys() == {"snow.md"}
    assert mended(folder) == []


def test_where_nothing_can_be_read_it_is_kept_aside(folder: Path) -> None:
    for file in (FILE, DATABASE):
        overwrite(folder / file)
    (finding,) = mended(folder)
    assert not finding.mended
    assert "kept as chroma.damaged" in finding.what
    assert [path.name for path in folder.parent.iterdir()] == ["chroma.damaged"]


def test_what_is_lost_is_named_and_the_rest_is_there(folder: Path) -> None:
    with sqlite3.connect(folder / FILE) as db:
        (number,) = db.execute("SELECT min(number) FROM vectors").fetchone()
        db.execute("DELETE FROM vectors WHERE number = ?", (number,))
    db.close()
    (folder / DATABASE).unlink()
    (finding,) = mended(folder)
    assert not finding.mended
    assert "1 document put together again" in finding.what
    assert "Add rivers.md again" in finding.what
    assert contents(folder).keys() == {"snow.md"}
    assert (folder.parent / "chroma.damaged").is_dir()


def test_one_that_cannot_be_written_stays_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / DATABASE).unlink()
    before = sorted(path.name for path in folder.rglob("*"))

    def full(*_: object) -> None:
        raise StoreError("Is the disk full?")

    monkeypatch.setattr(ChromaStore, "add", full)
    with pytest.raises(StoreError, match="full"):
        mended(folder)
    assert sorted(path.name for path in folder.rglob("*")) == before
    assert [path.name for path in folder.parent.iterdir()] == ["chroma"]


def test_another_embedding_model_is_told_and_the_rest_is_looked_over(folder: Path) -> None:
    store = ChromaStore(folder, EMBEDDING.name)
    store._passages.upsert(["x:gone.md:0"], [EMBEDDING.embed_query("x").vector], None, ["stray"])
    store.close()
    told, mended_ = mended(folder, "another")
    assert (told.mended, mended_.mended) == (False, True)
    assert "python -m rag reembed" in told.what


def test_another_format_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FORMAT", 999)
    (finding,) = mended(folder)
    assert not finding.mended
    assert "another version of Rivulet" in finding.what


@pytest.mark.parametrize(("left", "there"), [(".new", True), (".old", True), (".old", False)])
def test_what_embedding_again_left_is_put_in_order(
    folder: Path, whole: object, left: str, there: bool
) -> None:
    beside = folder.with_name(f"chroma{left}")
    if there:
        shutil.copytree(folder, beside)
    else:
        folder.rename(beside)
    (finding,) = mended(folder)
    assert finding.mended
    assert contents(folder) == whole
    assert [path.name for path in folder.parent.iterdir()] == ["chroma"]


def test_one_that_is_open_elsewhere_is_left(folder: Path) -> None:
    with FileLock(folder / "lock"), pytest.raises(Timeout):
        mended(folder)
