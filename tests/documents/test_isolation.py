"""What a parser may do to its own process, and what it may not do to ours.

A hostile parser stands in for the real one: a module of its name, found first through
PYTHONPATH, in the same process that would read the file.
"""

import json
import os
from pathlib import Path

import pytest

from rag.documents import isolation, loading
from rag.documents.isolation import load_isolated
from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError

HANG = 60.0
"""Seconds; far more than reading any of these files takes."""


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.md"
    path.write_text("# Title\n\nGrüße", "utf-8")
    return path


@pytest.fixture
def parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source of what reads PDFs; to be written by the test."""
    (tmp_path / "parsers").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "parsers"))
    return tmp_path / "parsers" / "pypdfium2.py"


@pytest.fixture
def pdf(tmp_path: Path) -> Path:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF-1.7 read by the parser of the test")
    return path


def test_it_gives_the_same_document_as_reading_it_here(note: Path) -> None:
    assert load_isolated(note, "note.md", HANG) == loading.load(note, "note.md")


def test_pages_come_through(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "two.pdf"
    canvas = Canvas(str(path))
    for text in ("First", "Second"):
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    document = load_isolated(path, "two.pdf", HANG)
    assert document == loading.load(path, "two.pdf")
    assert document.page_starts == (0, 7)


@pytest.mark.parametrize(
    "name",
    ["-c.md", "--help.md", "with  two spaces.md", "Grüße 日本語 🙂.md", "'; rm -rf $HOME\".md"],
)
def test_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    document = load_isolated(tmp_path / name, name, HANG)
    assert (document.text, document.metadata["file_name"]) == ("text", name)


def test_a_relative_path(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(note.parent)
    assert load_isolated(Path("note.md"), "note.md", HANG).text.endswith("Grüße")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("ü -x.md", b"", EmptyDocumentError),
        ("x.exe", b"MZ", UnsupportedFileError),
        ("x.pdf", b"%PDF-1.4 cut", DocumentError),
    ],
)
def test_errors_come_through_as_they_are(
    tmp_path: Path, name: str, data: bytes, kind: type[DocumentError]
) -> None:
    path = tmp_path / "stored"
    path.write_bytes(data)
    with pytest.raises(kind) as here:
        loading.load(path, name)
    with pytest.raises(kind) as there:
        load_isolated(path, name, HANG)
    assert type(there.value) is type(here.value) is kind
    assert str(there.value) == str(here.value)


def test_a_parser_that_hangs_is_stopped(parser: Path, pdf: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    parser.write_text(
        f"import os, pathlib, time\n"
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n"
        f"time.sleep(600)\n"
    )
    with pytest.raises(DocumentError, match=r"^a\.pdf: reading it took longer than 3 seconds"):
        load_isolated(pdf, "a.pdf", 3.0)
    with pytest.raises(ProcessLookupError):  # it is not left behind
        os.kill(int(started.read_text()), 0)


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "import os; os._exit(0)", "raise RuntimeError", "print('[1,')"],
    ids=["crash", "silent end", "unexpected error", "babble"],
)
def test_a_parser_that_breaks_off(parser: Path, pdf: Path, code: str) -> None:
    parser.write_text(code)
    with pytest.raises(DocumentError, match=r"^a\.pdf: it could not be read: .* broke off"):
        load_isolated(pdf, "a.pdf", HANG)


def test_a_parser_that_takes_all_memory(parser: Path, pdf: Path) -> None:
    parser.write_text(f"bytearray({isolation.MEMORY_LIMIT})")
    with pytest.raises(DocumentError, match=r"^a\.pdf: reading it took too much memory"):
        load_isolated(pdf, "a.pdf", HANG)


@pytest.mark.parametrize(
    ("name", "why"), [("gone.md", "No such file or directory"), ("folder.md", "Is a directory")]
)
def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(DocumentError, match=rf"^{name}: it cannot be opened: {why}\.$"):
        load_isolated(tmp_path / name, name, HANG)


def test_a_file_that_may_not_be_read_says_so(note: Path) -> None:
    note.chmod(0)
    if os.access(note, os.R_OK):
        pytest.skip("nothing is forbidden to this user")
    with pytest.raises(DocumentError, match=r"it cannot be opened: Permission denied\.$"):
        load_isolated(note, "note.md", HANG)


def test_a_parser_sees_no_keys(
    parser: Path, pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = ("OPENAI_API_KEY", "RAG_AUTH", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    for name in secrets:
        monkeypatch.setenv(name, "sesame")
    monkeypatch.setenv("HARMLESS", "kept")
    seen = tmp_path / "seen.json"
    parser.write_text(
        f"import json, os, pathlib\n"
        f"pathlib.Path({str(seen)!r}).write_text(json.dumps(dict(os.environ)))\n"
        f"os._exit(0)\n"
    )
    with pytest.raises(DocumentError):
        load_isolated(pdf, "a.pdf", HANG)
    env = json.loads(seen.read_text())
    assert env["HARMLESS"] == "kept"
    assert [name for name in secrets if name in env] == []
    assert "sesame" not in env.values()
