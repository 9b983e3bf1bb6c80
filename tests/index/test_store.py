"""An index in real Chroma: what it keeps, gives back, refuses, and mends."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import asdict
from datetime import date
from pathlib import Path
from threading import Event, Semaphore
from typing import Any

import chromadb
import numpy as np
import pytest
from chromadb.config import Settings

from rag.errors import EmbeddingMismatchError, OutdatedIndexError, StoreError
from rag.index import keywords, memory
from rag.index import store as store_module
from rag.index.embedding import Embedded, HashEmbedding, Vector
from rag.index.store import ChromaStore, content_hash
from rag.types import Document, Node

EAST, NORTH, WEST = (np.array(v, np.float32) for v in ((1, 0), (0, 1), (-1, 0)))


def embedded(*vectors: Sequence[float] | Vector) -> list[Embedded]:
    """Of length 1, as a model gives them; without tokens."""
    arrays = [np.array(vector, np.float32) for vector in vectors]
    none = np.empty((0, 2), np.float32)
    return [Embedded(each / (np.linalg.norm(each) or 1), none) for each in arrays]


def put(
    store: ChromaStore,
    text: str,
    *vectors: Sequence[float] | Vector,
    name: str = "a.md",
    id_: str = "",
) -> Document:
    """A document of one passage for each vector, named after their number."""
    document = Document(text, {"file_name": name}, id_)
    nodes = [Node(f"{text} {n}", document.id_, n, n * 10, name) for n in range(len(vectors))]
    store.add(document, nodes, embedded(*vectors))
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
    store.add(document, nodes, embedded(EAST, NORTH))
    assert [hit.node for hit in store.query(EAST, 2)] == nodes
    (record,) = store.documents()
    assert (record.id_, record.name, record.pages, record.passages, record.characters) == (
        *(document.id_, "a.pdf", 2, 2, 4),
    )


def test_the_metadata_of_a_document_comes_back_with_its_passages(store: ChromaStore) -> None:
    metadata = {"author": "Ü", "year": 2024, "tags": ["a", "b"], "none": None, "deep": {"x": 1.5}}
    store.add(Document("x"), [Node("x", "d", 0, 0, metadata=metadata)], embedded(EAST))
    (hit,) = store.query(EAST, 1)
    assert hit.metadata == metadata


def test_metadata_that_json_does_not_know_comes_back_as_text(store: ChromaStore) -> None:
    metadata = {"path": Path("a/b"), "day": date(2024, 5, 6)}
    store.add(Document("x"), [Node("x", "d", 0, 0, metadata=metadata)], embedded(EAST))
    (hit,) = store.query(EAST, 1)
    assert hit.metadata == {"path": str(Path("a/b")), "day": "2024-05-06"}


def test_metadata_whose_keys_json_does_not_know_comes_back_as_text(store: ChromaStore) -> None:
    endless: dict[str, object] = {"year": 2024}
    endless["self"] = endless
    for metadata, known in (
        ({(1, 2): 2, "year": 2024}, {"(1, 2)": "2", "year": "2024"}),
        (endless, {"year": "2024", "self": str(endless)}),
    ):
        document = Document("x", id_=str(known))
        store.add(document, [Node("x", document.id_, 0, 0, metadata=metadata)], embedded(EAST))
        (hit,) = (hit for hit in store.query(EAST, 9) if hit.node.document_id == document.id_)
        assert hit.metadata == known


def test_the_hash_of_a_document_tells_its_text_pages_and_metadata() -> None:
    same = [Document("x", {"a": 1, "b": 2}), Document("x", {"b": 2, "a": 1}, id_="given")]
    others = [
        Document("y", {"a": 1, "b": 2}),
        Document("x", {"a": 1}),
        Document("x", {"a": 1, "b": 2}, page_starts=(0,)),
    ]
    assert len({content_hash(document) for document in same}) == 1
    assert len({content_hash(document) for document in (*same, *others)}) == 4
    assert content_hash(Document("x", {(1,): 2, "a": 1}))  # keys that cannot be sorted


def test_one_document_can_be_asked_for(store: ChromaStore) -> None:
    one = put(store, "one", EAST)
    put(store, "two", NORTH)
    record = store.document(one.id_)
    assert record
    assert (record.id_, record.name, record.content_hash) == (one.id_, "a.md", content_hash(one))
    assert record in store.documents()
    assert store.document("never there") is None
    store.delete(one.id_)
    assert store.document(one.id_) is None


def test_the_nearest_come_first_scored_by_cosine(store: ChromaStore) -> None:
    put(store, "x", WEST, [3.0, 3.0], EAST, NORTH)
    hits = store.query(EAST, 10)
    assert [hit.node.ordinal for hit in hits] == [2, 1, 3, 0]
    assert [hit.score for hit in hits] == pytest.approx([1.0, 2**-0.5, 0.0, -1.0], abs=1e-6)
    assert [hit.node.ordinal for hit in store.query(EAST, 2)] == [2, 1]


def test_an_empty_index_finds_nothing(store: ChromaStore) -> None:
    assert store.query(EAST, 3) == []
    assert store.documents() == []


def test_a_vector_of_zeros_finds_something_without_a_score_of_nonsense(store: ChromaStore) -> None:
    put(store, "x", EAST)
    (hit,) = store.query(np.zeros(2, np.float32), 3)
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
        with pytest.raises(
            EmbeddingMismatchError, match=r"org/tiny, but other is set.*python -m rag reembed"
        ):
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
    says = "cannot be opened: .*choose another folder" if held == "file" else "is damaged"
    with pytest.raises(StoreError, match=says) as caught:
        ChromaStore(folder, "tiny")
    for named in (str(folder), "python -m rag check"):
        assert named in str(caught.value)


def test_one_that_could_not_be_opened_can_be_as_soon_as_the_cause_is_gone(folder: Path) -> None:
    """Chroma keeps a client that did not start, and would give it to the next one."""
    cause = folder / "chroma.sqlite3"
    cause.mkdir(parents=True)
    for _ in range(2):
        with pytest.raises(StoreError, match="unable to open database file"):
            ChromaStore(folder, "tiny")
    cause.rmdir()
    with closing(ChromaStore(folder, "tiny")) as store:
        put(store, "One.", EAST)


def test_who_reads_while_it_is_opened_anew_is_not_disturbed(store: ChromaStore) -> None:
    put(store, "One.", EAST)
    read, over = Semaphore(0), Event()

    def reads() -> None:
        while not over.is_set():
            assert len(store.nearest(EAST, 1)) == 1
            read.release()

    with ThreadPoolExecutor(2) as threads:
        readers = [threads.submit(reads) for _ in range(2)]
        try:
            for _ in range(40):
                store._begin_anew()
                assert read.acquire(timeout=30)
        finally:
            over.set()
        for reader in readers:
            reader.result()


class DeathError(BaseException):
    pass


def die_at(store: ChromaStore, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Have the process die, as far as the index is concerned, at the `call`-th write to Chroma."""
    calls = iter(range(1, 99))

    def dying(write: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*arguments: Any, **named: Any) -> Any:
            if next(calls) >= call:
                raise DeathError
            return write(*arguments, **named)

        return maybe

    for collection in (store._passages, store._documents):
        for name in ("upsert", "delete"):
            monkeypatch.setattr(collection, name, dying(getattr(collection, name)))
    monkeypatch.setattr(store._words, "remove", dying(store._words.remove))
    monkeypatch.setattr(store._words, "finish", dying(store._words.finish))


def consistent(folder: Path) -> tuple[list[str], list[str]]:
    """The documents, and the texts of the passages, of an index whose parts all agree."""
    store = ChromaStore(folder, "tiny")
    records = {record.key: record for record in store.documents()}
    ids = {f"{key}:{n}" for key, record in records.items() for n in range(record.passages)}
    assert set(store._passages.get()["ids"]) == ids
    assert set(store._documents.get()["ids"]) - {store_module._CHANGED} == set(records)
    db = store._words._db
    assert db.execute("SELECT count(*) FROM documents").fetchone() == (len(records),)
    for table in ("passages", "words"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(ids),)
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    texts = sorted(hit.text for hit in store.query(EAST, 99))
    matching = store.matching("old new kept", 99)
    assert sorted(passage.node.text for passage in store.passages(matching)) == texts
    store.close()
    return sorted(record.id_ for record in records.values()), texts


@pytest.mark.parametrize("call", range(1, 6))
@pytest.mark.parametrize("what", ["add", "replace", "delete"])
def test_a_crash_at_any_write_leaves_the_document_wholly_in_or_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch, what: str, call: int
) -> None:
    first = ChromaStore(folder, "tiny")
    put(first, "kept", WEST, id_="kept")
    if what != "add":
        put(first, "old", EAST, EAST, id_="note")
    first._words._db.execute("BEGIN IMMEDIATE").execute("COMMIT")
    with monkeypatch.context() as patched, suppress(DeathError):
        die_at(first, patched, call)
        if what == "delete":
            first.delete("note")
        else:
            put(first, "new", EAST, NORTH, NORTH, id_="note")
    first.close()
    del first
    documents, texts = consistent(folder)
    old, new = ["old 0", "old 1"], ["new 0", "new 1", "new 2"]
    possible = {"add": ([], new), "replace": (old, new), "delete": (old, [])}[what]
    there = [text for text in texts if text != "kept 0"]
    assert "kept 0" in texts
    assert there in possible
    assert documents == (["kept", "note"] if there else ["kept"])
    again = ChromaStore(folder, "tiny")
    put(again, "new", EAST, NORTH, NORTH, id_="note")
    again.close()
    assert consistent(folder) == (["kept", "note"], ["kept 0", *new])


def test_a_crash_of_the_very_first_document_leaves_the_index_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ChromaStore(folder, "tiny")
    with monkeypatch.context() as patched:
        die_at(first, patched, 2)
        with pytest.raises(DeathError):
            put(first, "half", EAST)
    first.close()
    del first
    assert consistent(folder) == ([], [])


# Replaced


def test_a_document_takes_the_place_of_one_with_the_same_identity(store: ChromaStore) -> None:
    put(store, "other", EAST)
    put(store, "old", EAST, NORTH, WEST, id_="note")
    put(store, "new", NORTH, id_="note")
    assert sorted(hit.text for hit in store.query(EAST, 9)) == ["new 0", "other 0"]
    assert {record.id_: record.passages for record in store.documents()}["note"] == 1


def test_where_the_new_one_fails_the_old_one_stays(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, "old", EAST, id_="note")

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(store._documents, "upsert", fail)
        with pytest.raises(StoreError, match=r"no space.*Is the disk full.*Nothing.*lost"):
            put(store, "new", NORTH, id_="note")
    with pytest.raises(Exception, match="dimension"):
        put(store, "new", [1.0], id_="note")
    assert [hit.text for hit in store.query(EAST, 9)] == ["old 0"]
    assert [record.id_ for record in store.documents()] == ["note"]
    put(store, "new", NORTH, id_="note")
    assert [hit.text for hit in store.query(EAST, 9)] == ["new 0"]


# More than one at a time


def test_the_working_folder_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ChromaStore(Path("index"), "tiny")
    put(store, "x", EAST)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    put(store, "y", EAST)
    assert len(store.query(EAST, 9)) == 2
    assert list((tmp_path / "other").iterdir()) == []
    store.close()


def test_stores_of_one_process_see_what_the_others_write(folder: Path) -> None:
    one, two = ChromaStore(folder, "tiny"), ChromaStore(folder, "tiny")
    for n in range(4):
        gone = put((one, two)[n % 2], f"gone {n}", EAST)
        put((one, two)[n % 2], f"{n}", EAST)
        (two, one)[n % 2].delete(gone.id_)
        for store in (one, two):
            assert sorted(hit.text for hit in store.query(EAST, 9)) == [
                f"{m} 0" for m in range(n + 1)
            ]
    two.close()
    assert len(one.query(EAST, 9)) == 4
    one.close()


def other_process(folder: Path, code: str, model: str = "tiny") -> subprocess.Popen[str]:
    """A Python process with `store` open on `folder`, which waits for a line before `code`."""
    source = f"""
import sys
from pathlib import Path
from rag.index.store import ChromaStore
from tests.index.test_store import put
store = ChromaStore(Path({str(folder)!r}), {model!r})
print("open", flush=True)
sys.stdin.readline()
{code}
"""
    return subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def test_a_process_that_dies_while_it_writes_keeps_nobody_waiting(folder: Path) -> None:
    code = "import os; store._replace = lambda *_: os._exit(9); put(store, 'x', [1.0, 0.0])"
    process = other_process(folder, code)
    process.communicate("\n", timeout=60)
    assert process.returncode == 9
    store = ChromaStore(folder, "tiny")
    assert (store.documents(), store.query(EAST, 9)) == ([], [])
    put(store, "y", NORTH)
    store.close()


def test_opening_another_store_leaves_what_is_being_added(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ChromaStore(folder, "tiny")
    upsert = first._documents.upsert

    def slowly(*arguments: Any) -> None:
        ChromaStore(folder, "tiny").close()
        upsert(*arguments)

    monkeypatch.setattr(first._documents, "upsert", slowly)
    put(first, "x", EAST)
    assert len(first.query(EAST, 9)) == 1
    first.close()


def test_an_index_of_another_format_is_refused_and_nothing_is_lost(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ChromaStore(folder, "tiny")
    put(store, "kept", EAST)
    store.close()
    monkeypatch.setattr(store_module, "FORMAT", 4)
    with pytest.raises(OutdatedIndexError, match="made by another version of Rivulet"):
        ChromaStore(folder, "tiny")
    monkeypatch.undo()
    again = ChromaStore(folder, "tiny")
    assert len(again.query(EAST, 9)) == 1
    again.close()


def test_a_folder_belongs_to_one_process_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = other_process(folder, "put(store, 'theirs', [1.0, 0.0])")
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    monkeypatch.setattr(store_module, "PATIENCE", 0.1)
    with pytest.raises(StoreError, match=rf"in use by process {process.pid} on "):
        ChromaStore(folder, "tiny")
    process.communicate("\n", timeout=60)
    assert process.returncode == 0
    store = ChromaStore(folder, "tiny")
    assert [hit.text for hit in store.query(EAST, 9)] == ["theirs 0"]
    store.close()


@pytest.mark.parametrize("how", ["close", "drop"])
def test_another_process_can_have_it_once_the_last_store_is_gone(folder: Path, how: str) -> None:
    one, two = ChromaStore(folder, "tiny"), ChromaStore(folder, "tiny")
    process = other_process(folder, "")
    assert process.stdin
    assert process.stdout
    if how == "close":
        one.close()
        two.close()
    else:
        del one, two
    assert process.stdout.readline() == "open\n"
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_documents_that_several_threads_add_are_all_there(store: ChromaStore) -> None:
    def add(thread: int) -> None:
        for n in range(5):
            put(store, f"{thread} {n}", EAST, id_=f"{n}" if thread % 2 else "")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(add, range(4)))
    hits, records = store.query(EAST, 99), store.documents()
    assert len(records) == 15
    assert {hit.node.document_id for hit in hits} == {record.id_ for record in records}
    assert len(hits) == 15


def test_more_documents_than_are_read_at_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "READ", 3)
    monkeypatch.setattr(store_module, "BATCH", 2)
    store = ChromaStore(folder, "tiny")
    for n in range(6):
        put(store, f"{n}", EAST, NORTH, WEST)
    store.close()
    (folder / keywords.FILE).unlink()
    again = ChromaStore(folder, "tiny")
    assert {record.passages for record in again.documents()} == {3}
    assert (len(again.documents()), len(again.query(EAST, 99))) == (6, 18)
    again.close()


@pytest.mark.slow
def test_an_index_of_very_many_documents_can_be_opened_and_listed(folder: Path) -> None:
    """SQLite takes 32,766 values in one question."""
    store = ChromaStore(folder, "tiny")
    put(store, "x", EAST)
    fields = asdict(store.documents()[0]) | {"passages": 0}
    for begin in range(0, 33_000, 3_000):
        ids = [f"v:d{n}" for n in range(begin, begin + 3_000)]
        metadatas = [fields | {"id_": id_[2:], "version": "v"} for id_ in ids]
        store._documents.add(ids=ids, embeddings=[[0.0]] * len(ids), metadatas=metadatas)
    store.close()
    del store
    again = ChromaStore(folder, "tiny")
    assert (len(again.documents()), len(again.query(EAST, 9))) == (33_001, 1)
    again.close()


# Closed


@pytest.mark.parametrize("place", ["folder", "memory"])
def test_a_closed_index_says_so(folder: Path, place: str) -> None:
    store = ChromaStore(folder if place == "folder" else None, "tiny")
    document = put(store, "x", EAST)
    store.close()
    for use in (
        lambda: store.query(EAST, 1),
        lambda: store.delete(document.id_),
        lambda: store.document(document.id_),
        lambda: put(store, "y", EAST),
        store.documents,
    ):
        with pytest.raises(StoreError, match="was closed"):
            use()
    store.close()


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

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(store._documents, "upsert", fail)
    with pytest.raises(StoreError, match="no space"):
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
    scores = [store.query(each.vector, 1)[0].score for each in vectors]
    missed = [score for score in scores if score < 0.999]
    assert len(missed) <= 8
    store.close()


@pytest.mark.parametrize("wide", [0, 2_000])
def test_a_few_documents_are_searched_alike_in_every_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, wide: int
) -> None:
    embedding = HashEmbedding()
    store = ChromaStore(folder, embedding.name)
    for name in ("a", "b", "c"):
        texts = [f"{name} tells of river{n} and hill{n % 7}" for n in range(30)]
        nodes = [Node(text, name, n, 0) for n, text in enumerate(texts)]
        store.add(Document(name, id_=name), nodes, embedding.embed(texts))
    question = embedding.embed_query("river3 and hill5").vector
    exact = store.nearest(question, 10, ["a", "c"])
    monkeypatch.setattr(store_module, "EXACT", 0)
    monkeypatch.setattr(store_module, "WIDE", wide)
    found = store.nearest(question, 10, ["a", "c"])
    assert list(found.values()) == pytest.approx(list(exact.values()), abs=1e-3)
    assert len(found) == 10
    store.close()


# A part of a document


def test_the_passages_of_a_stretch(store: ChromaStore) -> None:
    put(store, "before", EAST)
    document = put(store, "many", *[EAST] * 9)
    put(store, "after", EAST)

    def ordinals(*bounds: int) -> list[int]:
        return [node.ordinal for node in store.nodes(document.id_, *bounds)]

    assert ordinals() == list(range(9))
    assert ordinals(3, 5) == [3, 4, 5]
    assert ordinals(7) == [7, 8]
    assert ordinals(7, 99) == [7, 8]
    assert ordinals(9, 12) == []


def test_what_is_searched_of_a_document_that_is_on_its_way(store: ChromaStore) -> None:
    old = put(store, "old", EAST, id_="one")
    new = Document("new", {"file_name": "a.md"}, "one")
    fresh = Document("fresh", {"file_name": "b.md"}, "two")
    nodes = [Node("text", "one", 0, 0), Node("text", "two", 0, 0)]

    def searched(document_id: str) -> str | None:
        record = store.searchable(document_id)
        return record.text_hash if record else None

    with store.adding(new, nodes[:1]) as adding, store.adding(fresh, nodes[1:]):
        assert searched("one") == old.text_hash
        assert searched("two") == fresh.text_hash
        assert store.document("two") is None
        adding.take(embedded(EAST))
        adding.commit()
        assert searched("one") == new.text_hash
    assert searched("two") is None
    assert searched("three") is None


def test_what_is_written_at_the_end_has_zeroed_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ChromaStore(tmp_path, "hash")
    close, seen = store._client.close, list[int]()
    monkeypatch.setattr(store._client, "close", lambda: (seen.append(memory._inside), close()))
    store.close()
    assert seen == [1]
