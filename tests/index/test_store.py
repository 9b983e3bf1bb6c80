"""An index in real Chroma: what it keeps, gives back, refuses, and mends."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import chromadb
import pytest
from chromadb.config import Settings

from rag.errors import EmbeddingMismatchError, StoreError
from rag.index import store as store_module
from rag.index.embedding import HashEmbedding
from rag.index.store import ChromaStore
from rag.types import Document, Node

EAST, NORTH, WEST = [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]


def put(store: ChromaStore, text: str, *vectors: list[float], name: str = "a.md") -> Document:
    """A document of one passage for each vector, named after their number."""
    document = Document(text, {"file_name": name})
    nodes = [Node(f"{text} {n}", document.id_, n, n * 10, name) for n in range(len(vectors))]
    store.add(document, nodes, vectors)
    return document


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "index"


@pytest.fixture
def store(folder: Path) -> Iterator[ChromaStore]:
    store = ChromaStore(folder, "tiny")
    yield store
    store.close()


def test_passages_come_back_as_they_were(store: ChromaStore) -> None:
    document = Document("text", {"file_name": "a.pdf"}, page_starts=(0, 2))
    nodes = [
        Node("first", document.id_, 0, 0, "a.pdf", 1, ()),
        Node("second\n ü", document.id_, 1, 7, "a.pdf", None, ("A", "B › C")),
    ]
    store.add(document, nodes, [EAST, NORTH])
    assert [hit.node for hit in store.query(EAST, 2)] == nodes
    (record,) = store.documents()
    assert (record.id_, record.name, record.pages, record.passages, record.characters) == (
        *(document.id_, "a.pdf", 2, 2, 4),
    )


def test_the_metadata_of_a_document_comes_back_with_its_passages(store: ChromaStore) -> None:
    metadata = {"author": "Ü", "year": 2024, "tags": ["a", "b"], "none": None, "deep": {"x": 1.5}}
    store.add(Document("x"), [Node("x", "d", 0, 0, metadata=metadata)], [EAST])
    (hit,) = store.query(EAST, 1)
    assert hit.metadata == metadata


def test_metadata_that_json_does_not_know_comes_back_as_text(store: ChromaStore) -> None:
    metadata = {"path": Path("a/b"), "day": date(2024, 5, 6)}
    store.add(Document("x"), [Node("x", "d", 0, 0, metadata=metadata)], [EAST])
    (hit,) = store.query(EAST, 1)
    assert hit.metadata == {"path": str(Path("a/b")), "day": "2024-05-06"}


def test_one_document_can_be_asked_for(store: ChromaStore) -> None:
    one = put(store, "one", EAST)
    put(store, "two", NORTH)
    record = store.document(one.id_)
    assert record
    assert (record.id_, record.name, record.text_hash) == (one.id_, "a.md", one.text_hash)
    assert record in store.documents()
    assert store.document("never there") is None
    store.delete(one.id_)
    assert store.document(one.id_) is None


def test_the_nearest_come_first_scored_by_cosine(store: ChromaStore) -> None:
    put(store, "x", WEST, [3.0, 3.0], EAST, NORTH)
    hits = store.query([2.0, 0.0], 10)
    assert [hit.node.ordinal for hit in hits] == [2, 1, 3, 0]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 2**-0.5, 0.0, -1.0], abs=1e-6)
    assert [hit.node.ordinal for hit in store.query(EAST, 2)] == [2, 1]


def test_vectors_may_be_any_sequences_of_numbers(store: ChromaStore) -> None:
    document = Document("x")
    store.add(document, [Node("x", document.id_, 0, 0)], ((0.6, 0.8),))
    assert store.query((0.6, 0.8), 1)[0].score == pytest.approx(1)


def test_an_empty_index_finds_nothing(store: ChromaStore) -> None:
    assert store.query(EAST, 3) == []
    assert store.documents() == []


def test_a_vector_of_zeros_finds_something_without_a_score_of_nonsense(store: ChromaStore) -> None:
    put(store, "x", EAST)
    (hit,) = store.query([0.0, 0.0], 3)
    assert -1 <= hit.score <= 1


def test_documents_are_told_newest_first(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for moment, text in ((2.0, "second"), (3.0, "third"), (1.0, "first")):
        monkeypatch.setattr(store_module.time, "time", lambda moment=moment: moment)
        put(store, text, EAST, name=text)
    assert [record.name for record in store.documents()] == ["third", "second", "first"]


def test_deleting_takes_out_one_document_and_its_passages(store: ChromaStore) -> None:
    gone, kept = put(store, "gone", EAST, NORTH), put(store, "kept", EAST, WEST)
    store.delete(gone.id_)
    assert [record.id_ for record in store.documents()] == [kept.id_]
    assert {hit.node.document_id for hit in store.query(EAST, 9)} == {kept.id_}
    store.delete(gone.id_)
    store.delete("never there")
    assert len(store.query(EAST, 9)) == 2


def test_a_deleted_document_can_come_back(store: ChromaStore) -> None:
    document = put(store, "x", EAST)
    store.delete(document.id_)
    put(store, "x", NORTH)
    (hit,) = store.query(NORTH, 9)
    assert hit.score == pytest.approx(1)


def test_more_passages_than_are_written_at_once(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "BATCH", 3)
    put(store, "x", *([1.0, float(n)] for n in range(8)))
    hits = store.query(EAST, 20)
    assert [(hit.node.ordinal, hit.node.text) for hit in hits] == [(n, f"x {n}") for n in range(8)]


# On disk


def test_it_is_there_after_reopening(folder: Path) -> None:
    first = ChromaStore(folder, "tiny")
    put(first, "x", EAST, NORTH)
    before, records = first.query(EAST, 2), first.documents()
    first.close()
    again = ChromaStore(folder, "tiny")
    assert (again.query(EAST, 2), again.documents()) == (before, records)
    again.close()


def test_opened_twice_closing_one_leaves_the_other_usable(folder: Path) -> None:
    one, two = ChromaStore(folder, "tiny"), ChromaStore(folder, "tiny")
    put(one, "x", EAST)
    one.close()
    assert len(two.query(EAST, 3)) == 1
    put(two, "y", NORTH)
    assert len(two.documents()) == 2
    two.close()


def test_another_embedding_model_is_refused_and_nothing_is_lost(folder: Path) -> None:
    first = ChromaStore(folder, "org/tiny")
    put(first, "x", EAST)
    first.close()
    for _ in range(2):  # the refusal itself must not rewrite the name
        with pytest.raises(EmbeddingMismatchError, match=r"org/tiny, but other is set.*add the"):
            ChromaStore(folder, "other")
    again = ChromaStore(folder, "org/tiny")
    assert len(again.query(EAST, 3)) == 1
    again.close()


@pytest.mark.parametrize("held", ["file", "damaged"])
def test_a_folder_that_cannot_be_opened_says_what_to_do(folder: Path, held: str) -> None:
    if held == "file":
        folder.write_text("in the way")
    else:
        folder.mkdir()
        (folder / "chroma.sqlite3").write_bytes(b"no database at all" * 99)
    with pytest.raises(StoreError, match=r"cannot be opened: .* Move the folder away") as caught:
        ChromaStore(folder, "tiny")
    assert str(folder) in str(caught.value)


class CrashError(BaseException):
    pass


def crash(*args: object, **kwargs: object) -> None:
    raise CrashError


def test_a_crash_before_the_record_leaves_no_half_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ChromaStore(folder, "tiny")
    kept = put(first, "kept", WEST)
    monkeypatch.setattr(first._documents, "add", crash)
    with pytest.raises(CrashError):
        put(first, "half", EAST, NORTH)
    assert first._passages.count() == 3
    first.close()

    again = ChromaStore(folder, "tiny")
    assert [record.id_ for record in again.documents()] == [kept.id_]
    assert [hit.node.document_id for hit in again.query(EAST, 9)] == [kept.id_]
    put(again, "half", EAST, NORTH)
    assert len(again.query(EAST, 9)) == 3
    again.close()


def test_a_crash_of_the_very_first_document_leaves_the_index_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ChromaStore(folder, "tiny")
    monkeypatch.setattr(first._documents, "add", crash)
    with pytest.raises(CrashError):
        put(first, "half", EAST)
    first.close()
    again = ChromaStore(folder, "tiny")
    assert again.query(EAST, 9) == []
    again.close()


def test_a_crash_while_deleting_does_not_bring_the_document_back(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ChromaStore(folder, "tiny")
    document = put(first, "x", EAST)
    monkeypatch.setattr(first._passages, "delete", crash)
    with pytest.raises(CrashError):
        first.delete(document.id_)
    assert first.documents() == []
    first.close()
    again = ChromaStore(folder, "tiny")
    assert (again.documents(), again.query(EAST, 9)) == ([], [])
    again.close()


# In memory


def test_stores_in_memory_do_not_see_each_other() -> None:
    one, two = ChromaStore(None, "tiny"), ChromaStore(None, "other")
    put(one, "x", EAST)
    assert len(one.query(EAST, 9)) == 1
    assert (two.documents(), two.query(EAST, 9)) == ([], [])
    two.close()
    one.close()


def test_closing_one_store_in_memory_leaves_the_other_usable() -> None:
    one, two = ChromaStore(None, "tiny"), ChromaStore(None, "tiny")
    put(two, "x", EAST)
    one.close()
    assert len(two.query(EAST, 9)) == 1
    put(two, "y", NORTH)
    assert len(two.documents()) == 2
    two.close()


def collections() -> int:
    """How many there are in the memory of this process."""
    return chromadb.EphemeralClient(Settings(anonymized_telemetry=False)).count_collections()


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_a_store_in_memory_gives_back_its_collections(how: str) -> None:
    before = collections()
    store = ChromaStore(None, "tiny")
    put(store, "x", EAST)
    assert collections() == before + 2
    if how == "closed":
        store.close()
        store.close()
    else:
        del store  # without waiting for the garbage collector
    assert collections() == before


def test_a_dropped_store_on_disk_keeps_what_is_in_it(folder: Path) -> None:
    store = ChromaStore(folder, "tiny")
    put(store, "x", EAST)
    del store
    again = ChromaStore(folder, "tiny")
    assert len(again.query(EAST, 3)) == 1
    again.close()


def test_an_index_of_an_earlier_version_can_be_read(folder: Path) -> None:
    """Its passages have no metadata, its records no hash of the text."""
    store = ChromaStore(folder, "tiny")
    document = put(store, "x", EAST)
    (place,) = store._passages.get()["metadatas"] or ()
    old = {key: value for key, value in place.items() if key != "metadata"}
    store._passages.delete(ids=[f"{document.id_}:0"])
    store._passages.add(ids=[f"{document.id_}:0"], embeddings=[EAST], documents=["x 0"],
                        metadatas=[old])  # fmt: skip
    (record,) = store._documents.get()["metadatas"] or ()
    old = {key: value for key, value in record.items() if key != "text_hash"}
    store._documents.delete(ids=[document.id_])
    store._documents.add(ids=[document.id_], embeddings=[[0.0]], metadatas=[old])
    store.close()
    again = ChromaStore(folder, "tiny")
    (hit,) = again.query(EAST, 3)
    assert (hit.text, hit.metadata) == ("x 0", {})
    assert [one.text_hash for one in again.documents()] == [""]
    again.close()


def test_nothing_of_a_closed_store_in_memory_comes_back() -> None:
    one = ChromaStore(None, "tiny")
    put(one, "x", EAST)
    one.close()
    two = ChromaStore(None, "tiny")
    assert two.documents() == []
    two.close()


def test_passages_of_a_document_whose_record_fails_are_taken_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the record nobody could remove them, yet every search would find them."""
    store = ChromaStore(folder, "tiny")

    def fail(**_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(store._documents, "add", fail)
    with pytest.raises(OSError, match="no space"):
        put(store, "half", EAST)
    assert store.query(EAST, 3) == []
    store.close()


def test_passages_that_are_much_alike_are_found_all_the_same(folder: Path) -> None:
    """The search is approximate; with Chroma's defaults about a hundred of these are missed."""
    embedding = HashEmbedding()
    document = Document("x")
    texts = [f"Part {n} Paragraph {n} tells of river{n}." for n in range(400)]
    nodes = [Node(text, document.id_, n, 0) for n, text in enumerate(texts)]
    vectors = embedding.embed(texts)
    store = ChromaStore(folder, embedding.name)
    store.add(document, nodes, vectors)
    scores = [store.query(vector, 1)[0].score for vector in vectors]
    missed = [score for score in scores if score < 0.999]
    assert len(missed) <= 8
    store.close()
