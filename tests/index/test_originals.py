"""The PDFs of an index: there as long as their documents are, and of no other version."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import Ingested, Searchable, ingest_file
from rag.index.originals import Originals
from rag.index.store import ChromaStore, StoredDocument
from tests.documents.makers import archive, letter, mail, pdf


@pytest.fixture
def originals(tmp_path: Path) -> Originals:
    return Originals(tmp_path / "originals")


def steps(folder: Path, name: str, data: bytes, store: ChromaStore, originals: Originals) -> Any:
    (folder / "upload").unlink(missing_ok=True)  # what is kept may be the same file
    (folder / "upload").write_bytes(data)
    return ingest_file(
        folder / "upload",
        name,
        store,
        HashEmbedding(),
        max_bytes=10**7,
        read_timeout=60,
        originals=originals,
    )


def kept(folder: Path) -> dict[str, bytes]:
    """All files there, those of what is being read included."""
    return {
        file.name: file.read_bytes() for file in (folder / "originals").rglob("*") if file.is_file()
    }


def record(store: ChromaStore, name: str) -> StoredDocument:
    (found,) = (each for each in store.documents() if each.name == name)
    return found


def test_a_pdf_is_kept_without_a_copy(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    file = originals.of(record(store, "a.pdf"))
    assert file
    assert file.samefile(tmp_path / "upload")
    assert list(kept(tmp_path)) == [file.name]


def test_it_stays_when_the_upload_goes(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    data = pdf("First")
    list(steps(tmp_path, "a.pdf", data, store, originals))
    (tmp_path / "upload").unlink()
    file = originals.of(record(store, "a.pdf"))
    assert file
    assert file.read_bytes() == data


def test_what_is_no_pdf_leaves_nothing(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    for name, data in (("a.md", b"# Rivers"), ("b.docx", letter()), ("c.pdf", b"%PDF- cut")):
        list(steps(tmp_path, name, data, store, originals))
    assert len(store.documents()) == 2
    assert not (tmp_path / "originals").exists()
    assert originals.of(record(store, "a.md")) is None


def test_those_in_an_archive_and_attached_to_a_mail(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    first, second = pdf("On granite"), pdf("On basalt", "On moss")
    letters = mail(second__pdf=second).as_bytes()
    data = archive({"deep/first.pdf": first, "note.txt": "No PDF", "letter.eml": letters})
    list(steps(tmp_path, "all.zip", data, store, originals))
    files = {
        each.name: file.read_bytes() for each in store.documents() if (file := originals.of(each))
    }
    assert files == {
        "all.zip/deep/first.pdf": first,
        "all.zip/letter.eml/second.pdf": second,
    }
    assert len(kept(tmp_path)) == 2


def test_a_new_version_takes_its_place(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    old = originals.of(record(store, "a.pdf"))
    newer = pdf("Second")
    for event in steps(tmp_path, "a.pdf", newer, store, originals):
        if isinstance(event, Searchable):  # the older one is still what is searched
            assert originals.of(record(store, "a.pdf")) == old
            assert len(kept(tmp_path)) == 2
    file = originals.of(record(store, "a.pdf"))
    assert file
    assert kept(tmp_path) == {file.name: newer}


def test_a_new_version_that_is_no_pdf(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "report", pdf("First"), store, originals))
    assert kept(tmp_path)
    list(steps(tmp_path, "report", b"Only text now", store, originals))
    assert kept(tmp_path) == {}


def test_the_same_text_again_leaves_what_is_there(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    before = kept(tmp_path)
    for name in ("a.pdf", "b.pdf"):
        *_, event = steps(tmp_path, name, pdf("First"), store, originals)
        assert isinstance(event, Ingested)
        assert event.known_as == "a.pdf"
    assert kept(tmp_path) == before


@pytest.mark.parametrize("older", [False, True])
def test_whoever_stops_reading_leaves_what_was_there(
    tmp_path: Path, store: ChromaStore, originals: Originals, older: bool
) -> None:
    if older:
        list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    before = kept(tmp_path)
    with closing(steps(tmp_path, "a.pdf", pdf("Second"), store, originals)) as events:
        assert any(isinstance(event, Searchable) for event in events)
        assert len(kept(tmp_path)) == len(before) + 1
    assert kept(tmp_path) == before


def test_where_putting_it_in_fails(
    tmp_path: Path, store: ChromaStore, originals: Originals, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: HashEmbedding, texts: list[str]) -> list[Embedded]:
        raise RuntimeError("out of order")

    monkeypatch.setattr(HashEmbedding, "embed", fail)
    with pytest.raises(RuntimeError):
        list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    assert kept(tmp_path) == {}


def test_what_a_crash_has_left_is_swept_away(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    before = kept(tmp_path)
    folder = tmp_path / "originals"
    (folder / "tmpabc").mkdir()
    (folder / "tmpabc" / "half.pdf").write_bytes(b"%PDF-")
    (folder / f"{record(store, 'a.pdf').id_}-newer.pdf").write_bytes(b"%PDF-")
    originals.sweep(store.documents())
    assert kept(tmp_path) == before
    assert sorted(folder.iterdir()) == [folder / name for name in before]
    originals.sweep(())
    assert not folder.exists()
    originals.sweep(())  # there is nothing to do


def test_a_document_that_goes(tmp_path: Path, store: ChromaStore, originals: Originals) -> None:
    for name in ("a.pdf", "b.pdf"):
        list(steps(tmp_path, name, pdf(f"On {name}"), store, originals))
    gone = record(store, "a.pdf")
    store.delete(gone.id_)
    originals.settle(gone.id_, None)
    assert originals.of(gone) is None
    assert originals.of(record(store, "b.pdf"))


def test_a_link_that_a_reading_process_left_is_not_followed(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    list(steps(tmp_path, "a.pdf", pdf("First"), store, originals))
    file = originals.of(record(store, "a.pdf"))
    assert file
    file.unlink()
    file.symlink_to(tmp_path / "upload")
    assert originals.of(record(store, "a.pdf")) is None


def test_where_nothing_can_be_kept_the_document_goes_in(
    tmp_path: Path, store: ChromaStore, originals: Originals
) -> None:
    (tmp_path / "originals").write_text("not a folder")
    *_, event = steps(tmp_path, "a.pdf", pdf("First"), store, originals)
    assert isinstance(event, Ingested)
    assert originals.of(record(store, "a.pdf")) is None
