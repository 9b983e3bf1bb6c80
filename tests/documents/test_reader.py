"""Files and folders as documents: which are read, and what happens to those that cannot be."""

import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from rag.documents.loading import ENDINGS, FORMATS
from rag.documents.reader import SimpleDirectoryReader
from rag.errors import ConfigurationError, DocumentError, EmptyDocumentError, UnsupportedFileError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.store import ChromaStore
from rag.types import Document
from tests.documents.makers import archive

SAMPLES = Path(__file__).parents[2] / "data" / "samples"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two notes, a hidden one, one below, and a file of a type that is not known."""
    folder = tmp_path / "notes"
    for name in ("b.txt", "A.md", ".hidden.md", "below/c.md", ".git/d.md", "program.exe"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Text of {name}.\n")
    (folder / "program.exe").write_bytes(b"MZ\0")
    (folder / "empty.d").mkdir()
    (folder / "folder.md").mkdir()
    return folder


def read(*arguments: Any, **options: Any) -> list[str]:
    """The names of the files that were read."""
    documents = SimpleDirectoryReader(*arguments, **options).load_data()
    assert all(isinstance(document, Document) for document in documents)
    return [document.metadata["file_name"] for document in documents]


def test_the_files_of_a_folder_are_read_in_the_order_of_their_names(folder: Path) -> None:
    assert read(folder) == ["A.md", "b.txt"]
    assert read(str(folder)) == ["A.md", "b.txt"]


def test_a_document_has_text_name_and_path(folder: Path) -> None:
    document, _ = SimpleDirectoryReader(folder).load_data()
    assert document.text.strip() == "Text of A.md."
    assert document.metadata["file_path"] == str(folder / "A.md")
    assert (document.name, document.id_) == ("A.md", document.text_hash)


def test_folders_in_it_are_read_when_asked_for(folder: Path) -> None:
    assert read(folder, recursive=True) == ["A.md", "b.txt", "c.md"]


@pytest.mark.parametrize(
    ("endings", "names"),
    [
        ([".md"], ["A.md"]),
        ([".MD"], ["A.md"]),
        (["md"], ["A.md"]),
        ("Md", ["A.md"]),
        ([".txt", ".md"], ["A.md", "b.txt"]),
    ],
)
def test_only_files_with_certain_endings(
    folder: Path, endings: list[str], names: list[str]
) -> None:
    assert read(folder, required_exts=endings) == names


def test_endings_are_told_apart_without_regard_to_case(folder: Path) -> None:
    (folder / "C.TXT").write_text("Loud.")
    assert read(folder, required_exts=[".txt"]) == ["C.TXT", "b.txt"]


def test_a_file_may_be_named(folder: Path) -> None:
    assert read(folder / "b.txt") == ["b.txt"]
    assert read([folder / "b.txt", str(folder / "A.md")]) == ["b.txt", "A.md"]
    assert read(input_files=[folder / "b.txt"]) == ["b.txt"]
    assert read(input_files=str(folder / "b.txt")) == ["b.txt"]
    assert read(input_files=folder / "b.txt") == ["b.txt"]
    assert read(folder / ".hidden.md") == [".hidden.md"]
    assert read((folder / ".git" / "d.md",)) == ["d.md"]


def test_the_home_sign_is_expanded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder.parent))
    assert read("~/notes") == ["A.md", "b.txt"]
    assert read("~/notes/b.txt") == ["b.txt"]
    assert read(["~/notes/b.txt"]) == ["b.txt"]


def test_a_path_may_be_relative(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert read(".") == ["A.md", "b.txt"]
    assert read("b.txt") == ["b.txt"]
    monkeypatch.chdir(folder / "below")
    assert read("..") == ["A.md", "b.txt"]


def test_a_folder_whose_own_path_is_hidden_is_read(tmp_path: Path) -> None:
    hidden = tmp_path / ".config" / "notes"
    hidden.mkdir(parents=True)
    (hidden / "a.md").write_text("Text.")
    assert read(hidden, recursive=True) == ["a.md"]


def test_a_link_is_read_like_what_it_points_to(folder: Path) -> None:
    (folder / "link.md").symlink_to(folder / "b.txt")
    (folder / "broken.md").symlink_to(folder / "nowhere.md")
    assert read(folder) == ["A.md", "b.txt", "link.md"]


@pytest.mark.skipif(sys.platform == "darwin", reason="takes no such names")
def test_a_file_whose_name_is_no_utf_8(folder: Path, hash_embedding: HashEmbedding) -> None:
    (folder / os.fsdecode(b"caf\xe9.md")).write_text("Latin 1.")
    (folder / os.fsdecode(b"empty\xe9.md")).write_text("")
    documents = SimpleDirectoryReader(folder).load_data()
    assert [document.name for document in documents] == ["A.md", "b.txt", "caf\ufffd.md"]
    assert documents[2].metadata["file_path"] == str(folder / "caf\ufffd.md")
    with pytest.raises(DocumentError, match=r"^empty\ufffd\.md: the file is empty"):
        SimpleDirectoryReader(folder / os.fsdecode(b"empty\xe9.md")).load_data()
    store = ChromaStore(None, hash_embedding.name)
    for document in documents:
        list(ingest(document, store, hash_embedding))
    assert {record.name for record in store.documents()} == {"A.md", "b.txt", "caf\ufffd.md"}
    store.close()


# What cannot be read


@pytest.mark.parametrize("name", ["missing.md", "missing"])
def test_a_path_that_is_not_there(tmp_path: Path, name: str) -> None:
    for make in (
        lambda: SimpleDirectoryReader(tmp_path / name),
        lambda: SimpleDirectoryReader([tmp_path / name]),
        lambda: SimpleDirectoryReader(input_files=[tmp_path / name]),
    ):
        with pytest.raises(ConfigurationError, match=f"no file or folder .*{name}. Check the path"):
            make()


@pytest.mark.parametrize("options", [{"input_dir": ""}, {"input_dir": [""]}, {"input_files": ""}])
def test_an_empty_path_is_not_the_folder_one_is_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigurationError, match="A path is empty"):
        SimpleDirectoryReader(**options)


@pytest.mark.parametrize("endings", [[".exe"], "exe", [".md", "exe"], [""]])
def test_a_type_that_cannot_be_read_is_refused_at_once(folder: Path, endings: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read: \.(exe)?\.") as caught:
        SimpleDirectoryReader(folder, required_exts=endings)
    assert all(ending in str(caught.value) for ending in ENDINGS)


def test_a_folder_among_files_is_told_from_one_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"below is a folder") as caught:
        SimpleDirectoryReader([folder / "A.md", folder / "below"])
    assert "by itself" in str(caught.value)


def test_nothing_to_read_names_the_folder_and_the_types(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nothing to read in .*empty.d") as caught:
        SimpleDirectoryReader(folder / "empty.d")
    assert all(known in str(caught.value) for known in FORMATS)
    with pytest.raises(ConfigurationError, match="nothing to read"):
        SimpleDirectoryReader(folder, required_exts=[".pdf"])
    for nothing in ([], None):
        with pytest.raises(ConfigurationError, match="nothing to read in an empty list"):
            SimpleDirectoryReader(nothing)


def test_a_file_of_a_folder_that_cannot_be_read_is_logged_and_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "broken.pdf").write_bytes(b"no pdf")
    (folder / "empty.md").write_text("")
    with caplog.at_level(logging.WARNING, "rag"):
        assert read(folder) == ["A.md", "b.txt"]
    assert "Left out broken.pdf: " in caplog.text
    assert "Left out empty.md: the file is empty." in caplog.text


def test_a_named_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"no pdf")
    with pytest.raises(DocumentError, match=r"^broken.pdf: .* its content is no PDF"):
        read([folder / "A.md", folder / "broken.pdf"])
    with pytest.raises(UnsupportedFileError, match=r"^program.exe: this type cannot be read"):
        read(folder / "program.exe")


def test_a_folder_of_which_nothing_can_be_read_is_an_error(folder: Path) -> None:
    only = folder / "empty.d"
    (only / "one.md").write_text("")
    (only / "two.md").write_text(" \n")
    with pytest.raises(EmptyDocumentError):
        read(only)


def test_a_named_file_of_a_folder_that_is_read_as_well(folder: Path) -> None:
    (folder / "empty.md").write_text("")
    assert read(folder, [folder / ".hidden.md"]) == [".hidden.md", "A.md", "b.txt"]


def test_a_file_that_is_gone_before_it_is_read_is_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = SimpleDirectoryReader(folder)
    (folder / "b.txt").unlink()
    assert [document.name for document in reader.load_data()] == ["A.md"]
    assert "Left out b.txt: it cannot be opened: No such file" in caplog.text


def test_a_file_that_takes_too_long_is_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader = SimpleDirectoryReader(folder, read_timeout=0.001)
    with pytest.raises(DocumentError, match="took longer than"):
        reader.load_data()
    assert "Left out A.md" in caplog.text


def test_the_files_can_be_seen_before_they_are_read(folder: Path) -> None:
    reader = SimpleDirectoryReader(folder)
    assert reader.input_files == [folder / "A.md", folder / "b.txt"]


def test_the_samples_are_read() -> None:
    documents = SimpleDirectoryReader(SAMPLES).load_data()
    assert [document.name for document in documents] == sorted(
        path.name for path in SAMPLES.iterdir()
    )
    (pdf,) = (document for document in documents if document.name.endswith(".pdf"))
    assert len(pdf.page_starts) > 1


def test_an_archive_gives_a_document_for_each_file(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    members = {"one.md": "One.", "bad.pdf": "x", "in/two.txt": "Two."}
    (folder / "c.zip").write_bytes(archive(members))
    with caplog.at_level(logging.WARNING, "rag"):
        documents = SimpleDirectoryReader(folder / "c.zip").load_data()
    assert [document.name for document in documents] == ["c.zip/one.md", "c.zip/in/two.txt"]
    assert {document.metadata["file_path"] for document in documents} == {str(folder / "c.zip")}
    assert "Left out c.zip/bad.pdf: " in caplog.text
    (folder / "d.zip").write_bytes(archive({"bad.pdf": "x"}))
    with pytest.raises(DocumentError, match=r"^d\.zip/bad\.pdf: "):
        read(folder / "d.zip")
