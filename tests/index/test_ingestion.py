"""A document's way in: what is told on it, and that it is in wholly or not at all."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reportlab.pdfgen.canvas import Canvas

from rag.errors import StoreError
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import (
    EMBED_STEP,
    Ingested,
    Progress,
    Rejected,
    Room,
    Searchable,
    ingest,
    ingest_file,
)
from rag.index.store import ChromaStore
from rag.types import Document
from tests.documents.makers import archive

ANY = np.ones(HashEmbedding.dimensions, np.float32) / 16
LONG = "".join(f"## Part {n}\n\nParagraph {n} tells of river{n}.\n\n" for n in range(70))
"""A document of 70 passages."""


def take_in(
    path: Path, store: ChromaStore, name: str = "", max_bytes: int = 10**6
) -> Iterator[Progress | Ingested | Rejected]:
    return ingest_file(
        path, name or path.name, store, HashEmbedding(), max_bytes=max_bytes, read_timeout=60
    )


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.md"
    path.write_text("# Rivers\n\nThe Rhine flows north.\n")
    return path


def test_a_file_goes_in_step_by_step(note: Path, store: ChromaStore) -> None:
    events = list(take_in(note, store))
    (record,) = store.documents()
    assert events[:-1] == [
        Progress("note.md", "reading"),
        Progress("note.md", "splitting"),
        Searchable("note.md", record.id_, 1),
        Progress("note.md", "embedding", 0, 1),
        Progress("note.md", "storing", 1, 1),
    ]
    assert events[-1] == Ingested("note.md", record.id_, 0, 1)
    vector = HashEmbedding().embed_query("rivers the rhine flows north").vector
    (hit,) = store.query(vector, 3)
    assert (hit.node.text, hit.node.headings) == ("The Rhine flows north.", ("Rivers",))
    assert hit.score == pytest.approx(1)  # the headings are embedded with the text


def test_the_progress_of_a_long_document_is_told(store: ChromaStore) -> None:
    events = list(ingest(Document(LONG, {"file_name": "l.md"}), store, HashEmbedding()))
    told = [(e.done, e.total) for e in events if isinstance(e, Progress) and e.step == "embedding"]
    assert told == [(0, 70), (EMBED_STEP, 70), (2 * EMBED_STEP, 70)]
    assert isinstance(events[-1], Ingested)
    assert events[-1].passages == 70
    vector = HashEmbedding().embed_query("part 64 paragraph 64 tells of river64").vector
    assert store.query(vector, 1)[0].node.ordinal == 64


def test_the_same_content_is_known_under_its_first_name(
    note: Path, store: ChromaStore, tmp_path: Path
) -> None:
    first = list(take_in(note, store))[-1]
    copy = tmp_path / "copy.md"
    copy.write_bytes(note.read_bytes())
    events = list(take_in(copy, store))
    assert isinstance(first, Ingested)
    assert events == [
        Progress("copy.md", "reading"),
        Ingested("copy.md", first.document_id, 0, 1, "note.md"),
    ]
    assert [record.name for record in store.documents()] == ["note.md"]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.exe", b"MZ\0", "this type cannot be read"),
        ("a.md", b"", "the file is empty."),
        ("a.pdf", b"no pdf", "its content is no PDF"),
        ("a.md", b"x" * 2_500_000, "it has 2.5 MB; at most 1 MB are taken"),
    ],
)
def test_what_cannot_go_in_is_rejected_with_the_reason(
    tmp_path: Path, store: ChromaStore, name: str, data: bytes, reason: str
) -> None:
    (tmp_path / "stored").write_bytes(data)
    *_, last = take_in(tmp_path / "stored", store, name)
    assert isinstance(last, Rejected)
    assert last.file_name == name
    assert reason in last.reason
    assert name not in last.reason
    assert store.documents() == []


def test_a_file_that_is_gone_is_rejected_too(tmp_path: Path, store: ChromaStore) -> None:
    *_, last = take_in(tmp_path / "gone.md", store)
    assert isinstance(last, Rejected)
    assert "cannot be opened" in last.reason


def test_a_file_exactly_at_the_limit_goes_in(note: Path, store: ChromaStore) -> None:
    *_, last = take_in(note, store, max_bytes=note.stat().st_size)
    assert isinstance(last, Ingested)


def test_each_file_of_an_archive_goes_in_or_is_rejected(store: ChromaStore, tmp_path: Path) -> None:
    members = {"a.md": "The apple.", "bad.pdf": "x", "same.txt": "The apple.", "b.md": "The plum."}
    (tmp_path / "a.zip").write_bytes(archive(members))
    *events, last = take_in(tmp_path / "a.zip", store)
    ended = [e for e in (*events, last) if isinstance(e, Ingested | Rejected)]
    assert [(type(e), e.file_name) for e in ended] == [
        (Ingested, "a.zip/a.md"),
        (Rejected, "a.zip/bad.pdf"),
        (Ingested, "a.zip/same.txt"),
        (Ingested, "a.zip/b.md"),
    ]
    assert isinstance(ended[2], Ingested)
    assert ended[2].known_as == "a.zip/a.md"
    assert {record.name for record in store.documents()} == {"a.zip/a.md", "a.zip/b.md"}


def test_one_bad_file_leaves_the_others_alone(
    note: Path, store: ChromaStore, tmp_path: Path
) -> None:
    (tmp_path / "bad.pdf").write_bytes(b"bad")
    last = [list(take_in(path, store))[-1] for path in (tmp_path / "bad.pdf", note)]
    assert [type(event) for event in last] == [Rejected, Ingested]


@pytest.mark.parametrize("stop_at", range(7))
def test_whoever_stops_leaves_nothing_behind(store: ChromaStore, stop_at: int) -> None:
    # splitting, searchable, embedding 0, 32, 64, storing: then it is in.
    document = Document(LONG, {"file_name": "l.md"})
    with closing(ingest(document, store, HashEmbedding())) as events:
        last = [next(events) for _ in range(stop_at + 1)][-1]
    if isinstance(last, Ingested):
        assert [record.passages for record in store.documents()] == [70]
    else:
        assert store.documents() == []
        assert store.query(ANY, 1) == []
    assert isinstance(last, Ingested) == (stop_at == 6)
    assert isinstance(list(ingest(document, store, HashEmbedding()))[-1], Ingested)
    assert [record.passages for record in store.documents()] == [70]


class FailingEmbedding(HashEmbedding):
    """Breaks down in the second batch."""

    def __init__(self) -> None:
        self.calls = 0

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return super().embed(texts)


def test_a_failure_while_embedding_is_raised_and_leaves_nothing(store: ChromaStore) -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        list(ingest(Document(LONG), store, FailingEmbedding()))
    assert store.documents() == []
    assert store.query(ANY, 1) == []


def test_a_document_with_the_same_identity_and_another_text_is_replaced(store: ChromaStore) -> None:
    def take(text: str) -> list[Progress | Ingested]:
        return list(ingest(Document(text, {"file_name": "n.md"}, "note"), store, HashEmbedding()))

    take(LONG)
    events = take("Only this is left.")
    assert [event.step for event in events if isinstance(event, Progress)] == [
        *("splitting", "embedding", "storing"),
    ]
    assert events[-1] == Ingested("n.md", "note", 0, 1, replaced=True)
    (record,) = store.documents()
    assert (record.id_, record.passages) == ("note", 1)
    (hit,) = store.query(ANY, 99)
    assert hit.node.text == "Only this is left."
    assert take("Only this is left.") == [Ingested("n.md", "note", 0, 1, "n.md")]


def test_a_replacement_that_fails_leaves_the_document_before_it(store: ChromaStore) -> None:
    list(ingest(Document("The first text.", id_="note"), store, HashEmbedding()))
    with pytest.raises(RuntimeError, match="out of memory"):
        list(ingest(Document(LONG, id_="note"), store, FailingEmbedding()))
    (hit,) = store.query(ANY, 99)
    assert hit.node.text == "The first text."
    assert [record.id_ for record in store.documents()] == ["note"]


def test_the_same_text_under_two_identities_is_two_documents(store: ChromaStore) -> None:
    for id_ in ("one", "two"):
        list(ingest(Document("The same text.", id_=id_), store, HashEmbedding()))
    assert {record.id_ for record in store.documents()} == {"one", "two"}
    store.delete("one")
    (hit,) = store.query(ANY, 99)
    assert hit.node.document_id == "two"


def test_a_document_without_passages_is_in_all_the_same(store: ChromaStore) -> None:
    *_, last = ingest(Document(" \n", {"file_name": "blank.md"}), store, HashEmbedding())
    assert isinstance(last, Ingested)
    assert last.passages == 0
    assert [record.name for record in store.documents()] == ["blank.md"]


def test_a_replacement_that_cannot_be_stored_leaves_the_document_before_it(
    store: ChromaStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(ingest(Document("The first text.", id_="note"), store, HashEmbedding()))

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(store._documents, "upsert", fail)
    with pytest.raises(StoreError, match="no space"):
        list(ingest(Document(LONG, id_="note"), store, HashEmbedding()))
    (hit,) = store.query(ANY, 99)
    assert hit.node.text == "The first text."


def take_metadata(store: ChromaStore, document: Document) -> tuple[bool, dict[str, Any]]:
    """Whether the document was known, and the metadata that its passage then has."""
    *_, last = ingest(document, store, HashEmbedding())
    assert isinstance(last, Ingested)
    (hit,) = store.query(ANY, 99)
    return bool(last.known_as), dict(hit.metadata)


def test_other_metadata_make_another_document_where_the_identity_was_given(
    store: ChromaStore,
) -> None:
    for metadata, known in (
        ({"version": 1, "name": "x"}, False),
        ({"version": 2, "name": "x"}, False),
        ({"name": "x", "version": 2}, True),
        ({(1,): 2}, False),
    ):
        document = Document("The same text.", metadata, "note")
        is_known, there = take_metadata(store, document)
        assert is_known == known
        assert there == ({"(1,)": "2"} if (1,) in metadata else metadata)
    assert len(store.documents()) == 1


def test_the_same_text_is_the_same_document_where_the_identity_was_made_from_it(
    store: ChromaStore,
) -> None:
    first = {"file_name": "one.md", "file_path": "a/one.md"}
    assert take_metadata(store, Document("The same text.", first)) == (False, first)
    again = Document("The same text.", {"file_name": "two.md"})
    assert take_metadata(store, again) == (True, first)


class TestRoom:
    """How much an index may hold."""

    def told(self, path: Path, store: ChromaStore, room: Room, name: str = "") -> list[Any]:
        found = ingest_file(
            path,
            name or path.name,
            store,
            HashEmbedding(),
            max_bytes=10**6,
            read_timeout=60,
            room=room,
        )
        return [each for each in found if isinstance(each, Ingested | Rejected)]

    def test_documents(self, tmp_path: Path, store: ChromaStore) -> None:
        room, files = Room(9, 1, 99), [tmp_path / f"{number}.txt" for number in range(2)]
        for file in files:
            file.write_text(f"This is of {file.stem}.")
        assert isinstance(self.told(files[0], store, room)[0], Ingested)
        (refused,) = self.told(files[1], store, room)
        assert "RAG_MAX_FILES" in refused.reason
        files[0].write_text("This is otherwise.")
        (newer,) = self.told(files[0], store, room)
        assert newer.replaced
        store.delete(newer.document_id)
        assert isinstance(self.told(files[1], store, room)[0], Ingested)

    def test_passages(self, tmp_path: Path, store: ChromaStore) -> None:
        file = tmp_path / "long.md"
        file.write_text(LONG)
        (refused,) = self.told(file, store, Room(9, 9, 69))
        assert "70 passages" in refused.reason
        assert "RAG_MAX_PASSAGES" in refused.reason
        assert store.documents() == []
        assert isinstance(self.told(file, store, Room(9, 9, 70))[0], Ingested)

    def test_pages(self, tmp_path: Path, store: ChromaStore) -> None:
        file = tmp_path / "pages.pdf"
        canvas = Canvas(str(file))
        for number in range(3):
            canvas.drawString(72, 720, f"This is page {number} of the book.")
            canvas.showPage()
        canvas.save()
        (refused,) = self.told(file, store, Room(2, 9, 99))
        assert "3 pages" in refused.reason
        assert "RAG_MAX_PAGES" in refused.reason
        assert isinstance(self.told(file, store, Room(3, 9, 99))[0], Ingested)

    def test_of_an_archive_what_fits_is_taken(self, tmp_path: Path, store: ChromaStore) -> None:
        file = tmp_path / "all.zip"
        file.write_bytes(archive({f"{n}.txt": f"This is text {n}.".encode() for n in range(3)}))
        told = self.told(file, store, Room(9, 2, 99))
        assert [type(each) for each in told] == [Ingested, Ingested, Rejected]
