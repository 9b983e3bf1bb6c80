"""Which format a file has, and which documents are in it."""

import re
from pathlib import Path

import pytest

from rag.documents import loading
from rag.documents.loading import BINARY, CODE, ENDINGS, FORMATS, load
from rag.errors import (
    DocumentError,
    EmptyDocumentError,
    FileTooLargeError,
    UnsupportedFileError,
)
from tests.documents.conftest import Read
from tests.documents.makers import RTF, book, deck, letter, pdf, sheets, workbook

SOME = [*sorted(ENDINGS - CODE), ".py"]


@pytest.mark.parametrize("suffix", SOME)
@pytest.mark.parametrize("data", [b"", b" \n\t\r\n "], ids=["empty", "blank"])
def test_an_empty_file(read: Read, suffix: str, data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=rf"^a\{suffix}: the file is empty\."):
        read(f"a{suffix}", data)


@pytest.mark.parametrize(
    "name", ["a.txt", "a.md", "a.json", "a.csv", "a", "a.pdf", "a.docx", "a.x"]
)
@pytest.mark.parametrize(
    ("data", "word"),
    [
        (pdf("Water"), "Water"),
        (letter(), "Water"),
        (deck(), "Rhine"),
        (workbook(sheets), "Rhine"),
        (book("<p>Water</p>"), "Water"),
        (RTF, "Rhine"),
    ],
    ids=["PDF", "Word", "PowerPoint", "Excel", "EPUB", "RTF"],
)
def test_the_content_decides(read: Read, name: str, data: bytes, word: str) -> None:
    assert word in read(name, data).text


@pytest.mark.parametrize("suffix", BINARY)
def test_what_is_only_named_so_is_told(read: Read, suffix: str) -> None:
    """Else a login page that was saved as report.pdf would be searched for the report."""
    with pytest.raises(UnsupportedFileError, match=rf"^a\{suffix}: it is named \{suffix}, but"):
        read(f"a{suffix}", b"<html>404 Not Found</html>")


@pytest.mark.parametrize("name", ["README", "notes.adoc", "Dockerfile", ".gitignore", "a.b.c"])
def test_a_name_that_says_nothing_is_read_as_text(read: Read, name: str) -> None:
    assert read(name, "Grüße".encode()).text == "Grüße"


@pytest.mark.parametrize("name", ["sheet.numbers", "noext", "archive.tar.gz", "x.exe", "x.jar"])
@pytest.mark.parametrize("data", [b"MZ\0", b"\xff\xfe\x01", "Größe".encode("latin-1")])
def test_an_unknown_type_names_those_that_are_known(read: Read, name: str, data: bytes) -> None:
    with pytest.raises(UnsupportedFileError) as caught:
        read(name, data)
    assert re.match(rf"{re.escape(name)}: (this type|the archive)", str(caught.value))
    assert all(known in str(caught.value) for known in FORMATS)


def test_the_given_name_counts_not_the_stored_one(tmp_path: Path) -> None:
    path = tmp_path / "upload-83f2"
    path.write_bytes(b"a,b\n1,2\n")
    (document,) = load(path, "Numbers (final).CSV")
    assert not isinstance(document, DocumentError)
    assert document.metadata == {"file_name": "Numbers (final).CSV"}
    assert document.text.startswith("| a | b |")


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"^gone\.md: it cannot be opened: No such file"):
        list(load(tmp_path / "gone.md"))


def test_the_same_content_is_the_same_document(read: Read) -> None:
    one, two = read("a.txt", b"same"), read("b.md", b"same")
    assert one.id_ == two.id_
    assert one.name != two.name


def test_a_text_over_the_limit(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "TEXT_LIMIT", 3)
    assert read("a.txt", b"abc").text == "abc"
    with pytest.raises(FileTooLargeError, match=r"^a\.txt: .* characters of text"):
        read("a.txt", b"abcd")
