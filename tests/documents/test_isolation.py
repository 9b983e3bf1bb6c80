"""What a parser may do to its own process, and what it may not do to ours.

A hostile parser stands in for the real one: a module of its name, found first through
PYTHONPATH, in the same process that would read the file.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag.documents import isolation, loading
from rag.documents.isolation import load_isolated
from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError
from rag.types import Document
from tests.documents.makers import archive

HANG = 60.0
"""Seconds; far more than reading any of these files takes."""


def only(path: Path, name: str, timeout: float = HANG) -> Document:
    """The one document in a file."""
    (document,) = load_isolated(path, name, timeout)
    assert isinstance(document, Document)
    return document


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
    assert list(load_isolated(note, "note.md", HANG)) == list(loading.load(note, "note.md"))


def test_pages_come_through(tmp_path: Path) -> None:
    from reportlab.pdfgen.canvas import Canvas

    path = tmp_path / "two.pdf"
    canvas = Canvas(str(path))
    for text in ("First", "Second"):
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    document = only(path, "two.pdf")
    assert [document] == list(loading.load(path, "two.pdf"))
    assert document.page_starts == (0, 7)


@pytest.mark.parametrize(
    "name",
    ["-c.md", "--help.md", "with  two spaces.md", "Grüße 日本語 🙂.md", "'; rm -rf $HOME\".md"],
)
def test_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("text")
    document = only(tmp_path / name, name)
    assert (document.text, document.metadata["file_name"]) == ("text", name)


def test_a_relative_path(note: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(note.parent)
    assert only(Path("note.md"), "note.md").text.endswith("Grüße")


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("ü -x.md", b"", EmptyDocumentError),
        ("x.exe", b"MZ\0", UnsupportedFileError),
        ("x.pdf", b"%PDF-1.4 cut", DocumentError),
    ],
)
def test_errors_come_through_as_they_are(
    tmp_path: Path, name: str, data: bytes, kind: type[DocumentError]
) -> None:
    path = tmp_path / "stored"
    path.write_bytes(data)
    with pytest.raises(kind) as here:
        list(loading.load(path, name))
    with pytest.raises(kind) as there:
        list(load_isolated(path, name, HANG))
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
        list(load_isolated(pdf, "a.pdf", 3.0))
    with pytest.raises(ProcessLookupError):  # it is not left behind
        os.kill(int(started.read_text()), 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process ends with another")
def test_a_parser_that_hangs_ends_with_who_started_it(
    parser: Path, pdf: Path, tmp_path: Path
) -> None:
    started = tmp_path / "started"
    parser.write_text(
        f"import os, pathlib, time\n"
        f"pathlib.Path({str(started)!r}).write_text(str(os.getpid()))\n"
        f"time.sleep(600)\n"
    )
    code = "import sys; from rag.documents.isolation import load_isolated as load; "
    code += f"from pathlib import Path; list(load(Path({str(pdf)!r}), 'a.pdf', 600))"
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2]) as process:
        within(HANG, lambda: started.exists() and started.read_text())
        process.kill()
    # What is dead and has no parent any more may stay as a zombie.
    stat = Path(f"/proc/{started.read_text()}/stat")
    within(HANG, lambda: not stat.exists() or ") Z " in stat.read_text())


def within(seconds: float, true: Callable[[], object]) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(
    "code",
    ["import os; os.abort()", "import os; os._exit(0)", "raise RuntimeError", "print('[1,')"],
    ids=["crash", "silent end", "unexpected error", "babble"],
)
def test_a_parser_that_breaks_off(parser: Path, pdf: Path, code: str) -> None:
    parser.write_text(code)
    with pytest.raises(DocumentError, match=r"^a\.pdf: it could not be read: .* broke off"):
        list(load_isolated(pdf, "a.pdf", HANG))


def test_a_parser_that_takes_all_memory(parser: Path, pdf: Path) -> None:
    parser.write_text(f"bytearray({isolation.MEMORY_LIMIT})")
    with pytest.raises(DocumentError, match=r"^a\.pdf: reading it took too much memory"):
        list(load_isolated(pdf, "a.pdf", HANG))


@pytest.mark.parametrize(
    ("name", "why"), [("gone.md", "No such file or directory"), ("folder.md", "Is a directory")]
)
def test_a_file_that_cannot_be_opened_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "folder.md").mkdir()
    with pytest.raises(DocumentError, match=rf"^{name}: it cannot be opened: {why}\.$"):
        list(load_isolated(tmp_path / name, name, HANG))


def test_a_file_that_may_not_be_read_says_so(note: Path) -> None:
    note.chmod(0)
    if os.access(note, os.R_OK):
        pytest.skip("nothing is forbidden to this user")
    with pytest.raises(DocumentError, match=r"it cannot be opened: Permission denied\.$"):
        list(load_isolated(note, "note.md", HANG))


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
        list(load_isolated(pdf, "a.pdf", HANG))
    env = json.loads(seen.read_text())
    assert env["HARMLESS"] == "kept"
    assert [name for name in secrets if name in env] == []
    assert "sesame" not in env.values()


# Archives

UNSTEADY = """
import os, time
class PdfiumError(Exception): pass
class PdfDocument:
    def __init__(self, data):
        if b"crash" in data: os.abort()
        if b"hang" in data: time.sleep(600)
        if b"all memory" in data: bytearray(4_000_000_000)
        raise PdfiumError("no PDF")
"""
"""A parser that does to its process what the file says."""


def test_what_happens_to_one_file_of_an_archive_happens_to_it_alone(
    parser: Path, tmp_path: Path
) -> None:
    parser.write_text(UNSTEADY)
    does = {"1": "crash", "2": "all memory", "3": "nothing", "4": "hang", "5": "crash"}
    files = {f"{number}.pdf": f"%PDF- {doing}" for number, doing in does.items()}
    mixed = {name: text for pair in zip(files, "abcde", strict=True) for name, text in (
        (pair[0], files[pair[0]]), (f"{pair[1]}.txt", pair[1])
    )}  # fmt: skip
    (tmp_path / "a.zip").write_bytes(archive(mixed))
    items = list(load_isolated(tmp_path / "a.zip", "a.zip", 10.0))
    texts = [item.text for item in items if isinstance(item, Document)]
    reasons = {item.file_name: item.reason for item in items if isinstance(item, DocumentError)}
    assert texts == ["a", "b", "c", "d", "e"]
    assert list(reasons) == [f"a.zip/{number}.pdf" for number in "12345"]
    said = ["broke off", "too much memory", "is damaged", "longer than", "broke off"]
    assert all(word in reason for word, reason in zip(said, reasons.values(), strict=True))


def test_an_archive_of_files_that_hang_ends_in_time(parser: Path, tmp_path: Path) -> None:
    parser.write_text(UNSTEADY)
    (tmp_path / "a.zip").write_bytes(archive({f"{n}.pdf": "%PDF- hang" for n in range(50)}))
    begun = time.monotonic()
    *items, last = load_isolated(tmp_path / "a.zip", "a.zip", 3.0)
    assert time.monotonic() - begun < 20
    assert isinstance(last, DocumentError)
    assert str(last) == "a.zip: reading took longer than 3 seconds; the rest was left out."
    assert 1 <= len(items) < 10


def test_an_archive_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DocumentError, match=r"^a\.zip: the archive is damaged"):
        list(load_isolated(tmp_path / "a.zip", "a.zip", HANG))


def test_time_is_counted_only_while_it_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(archive({f"{n}.txt": str(n) for n in range(4)}))
    items = []
    for item in load_isolated(tmp_path / "a.zip", "a.zip", 3.0):
        items.append(item)
        time.sleep(1.0)  # such as for embedding
    assert [item.text for item in items if isinstance(item, Document)] == ["0", "1", "2", "3"]


def test_whoever_stops_reading_stops_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    popen = subprocess.Popen

    def watched(*args: Any, **options: Any) -> Any:
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", watched)
    (tmp_path / "a.zip").write_bytes(archive({"a.txt": "a", "b.txt": "b" * 1_000_000}))
    items = load_isolated(tmp_path / "a.zip", "a.zip", HANG)
    next(items)
    items.close()
    (process,) = started
    assert process.returncode is not None
