"""Each format becomes text; each file that cannot is refused with its name and the reason."""

import io
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import docx
import pypdfium2
import pytest
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from rag.documents.loading import LOADERS, load
from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError
from rag.types import Document

Write = Callable[[str, bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def pdf(*pages: str, password: str = "") -> bytes:
    """A PDF with these lines of text; an empty page has a drawing and no text."""
    file = io.BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption(password) if password else None)
    for page in pages:
        canvas.rect(50, 50, 100, 100, fill=1)
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 700 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def archive(**members: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        for name, text in members.items():
            target.writestr(name.replace("__", "/"), text)
    return file.getvalue()


def word(make: Callable[[docx.document.Document], object]) -> bytes:
    document, file = docx.Document(), io.BytesIO()
    make(document)
    document.save(file)
    return file.getvalue()


# PDF


def test_the_pages_of_a_pdf_stand_where_page_starts_says(write: Write) -> None:
    document = load(write("three.pdf", pdf("First page\nsecond line", "Second page", "Third")))
    begin = [*document.page_starts, len(document.text)]
    pages = [document.text[a:b].strip() for a, b in pairwise(begin)]
    assert pages == ["First page\nsecond line", "Second page", "Third"]
    assert document.metadata == {"file_name": "three.pdf", "pages": 3}
    assert document.page_at(document.text.index("Second")) == 2


def test_a_page_without_text_still_counts(write: Write) -> None:
    document = load(write("gap.pdf", pdf("First", "", "Third")))
    assert len(document.page_starts) == 3
    assert document.page_at(document.text.index("Third")) == 3


def test_a_wider_gap_on_a_page_is_the_end_of_a_paragraph(write: Write) -> None:
    text = load(write("gaps.pdf", pdf("One\ntwo\nthree\n\n\nfour\nfive"))).text
    assert text == "One\ntwo\nthree\n\nfour\nfive"


def test_a_pdf_of_another_maker(write: Write) -> None:
    made = pypdfium2.PdfDocument.new()
    made.import_pages(pypdfium2.PdfDocument(pdf("Copied by pdfium")))
    file = io.BytesIO()
    made.save(file)
    made.close()
    assert load(write("other.pdf", file.getvalue())).text == "Copied by pdfium"


def test_a_scan_has_to_go_through_ocr(write: Write) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^scan\.pdf: no text was found.*\(OCR\)"):
        load(write("scan.pdf", pdf("", "")))


def test_an_encrypted_pdf(write: Write) -> None:
    with pytest.raises(DocumentError, match=r"^locked\.pdf: it is encrypted\."):
        load(write("locked.pdf", pdf("Secret", password="x")))


def test_a_pdf_that_is_none(write: Write) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^fake\.pdf: .*its content is no PDF\."):
        load(write("fake.pdf", b"<html>404 Not Found</html>"))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_pdf(write: Write, share: float) -> None:
    whole = pdf("First", "Second")
    with pytest.raises(DocumentError, match=r"^cut\.pdf: the PDF is damaged"):
        load(write("cut.pdf", whole[: int(len(whole) * share)]))


# DOCX


def test_a_word_document_with_headings_and_a_table(write: Write) -> None:
    def make(document: docx.document.Document) -> None:
        document.add_heading("Rivers", 1)
        document.add_paragraph("Water flows downhill.")
        document.add_heading("Lengths", 2)
        table = document.add_table(2, 2)
        for cell, text in zip(
            [cell for row in table.rows for cell in row.cells],
            ["River", "Length", "Rhine", "1,233 km"],
            strict=True,
        ):
            cell.text = text

    document = load(write("rivers.docx", word(make)))
    lines = [line for line in document.text.splitlines() if line]
    assert lines[:3] == ["# Rivers", "Water flows downhill.", "## Lengths"]
    assert "| River | Length |" in lines
    assert "| Rhine | 1,233 km |" in lines
    assert document.page_starts == ()


def test_a_word_document_without_text(write: Write) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^blank\.docx: no text was found"):
        load(write("blank.docx", word(lambda document: None)))


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"just text", UnsupportedFileError, "its content is no Word document"),
        (archive(xl__workbook="<a/>"), UnsupportedFileError, "its content is no Word document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), DocumentError, "it is encrypted, or"),
        (archive(**{"word__document.xml": "<w:document"}), DocumentError, "is damaged"),
        (archive(**{"word__document.xml": "<other/>"}), DocumentError, "is damaged"),
        (word(lambda d: d.add_paragraph("x"))[:-200], UnsupportedFileError, "it is damaged"),
    ],
    ids=["no zip", "spreadsheet", "OLE file", "broken XML", "foreign XML", "truncated"],
)
def test_a_docx_that_is_none(
    write: Write, data: bytes, kind: type[DocumentError], reason: str
) -> None:
    with pytest.raises(kind, match=rf"^letter\.docx: .*{reason}") as caught:
        load(write("letter.docx", data))
    assert type(caught.value) is kind


# HTML and Markdown


def test_html_keeps_structure_and_words_and_drops_the_rest(write: Write) -> None:
    html = b"""<!doctype html><html><head><title>Tab</title><style>p { color: red }</style>
      <link rel="stylesheet" href="https://tracker.example/x.css"></head><body>
      <h1>Rivers</h1><script>alert('boo')</script><noscript>Enable it</noscript>
      <p>See <a href="https://example.org/">the map</a>.<img src="x.png" alt="PICTURE"></p>
      <ul><li>Rhine</li><li>Elbe</li></ul>
      <table><tr><th>River</th></tr><tr><td>Rhine</td></tr></table></body></html>"""
    document = load(write("page.html", html))
    lines = [line for line in document.text.splitlines() if line]
    assert lines[:4] == ["# Rivers", "See the map.", "* Rhine", "* Elbe"]
    assert "| Rhine |" in lines
    for gone in ("http", "alert", "Enable", "PICTURE", "color", "Tab", "<"):
        assert gone not in document.text


def test_html_nested_too_deeply_to_be_read(write: Write) -> None:
    with pytest.raises(DocumentError, match=r"^deep\.html: .*nested"):
        load(write("deep.html", b"<div>" * 20_000 + b"text"))


def test_html_of_only_a_script_is_empty(write: Write) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^app\.htm: "):
        load(write("app.htm", b"<body><script>run()</script></body>"))


def test_html_in_the_encoding_it_declares(write: Write) -> None:
    text = "Příliš žluťoučký kůň úpěl ďábelské ódy"
    html = f'<meta charset="iso-8859-2"><p>{text}</p>'.encode("iso-8859-2")
    assert load(write("czech.html", html)).text == text


@pytest.mark.parametrize("suffix", [".md", ".markdown", ".MD"])
def test_markdown_stays_as_it_is(write: Write, suffix: str) -> None:
    text = "# Title\n\n```py\n# no *heading*\n    indented\n```\n\n| a | b |\n"
    assert load(write(f"notes{suffix}", text.encode())).text == text


# Plain text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "L'été dernier, nous avons visité le château de Versailles où vécut Louis XIV.",
        "Café crème à la française – naïve “quotes” 50 €",
        "Überprüfung der Größe",
        "El niño comió piñas.",
        "Café",
    ],
)
def test_text_in_its_encodings(write: Write, encoding: str, text: str) -> None:
    assert load(write("a.txt", text.encode(encoding))).text == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "São Paulo é a maior cidade do Brasil. Não há praias."),
        ("utf-16-be", "\ufeffNaïve"),
        ("cp1251", "Привет, как дела? Это обычный русский текст о погоде."),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
        ("shift_jis", "これは日本語の文章です。検索できますか。"),
    ],
)
def test_text_in_other_encodings(write: Write, encoding: str, text: str) -> None:
    assert load(write("a.txt", text.encode(encoding))).text == text.removeprefix("\ufeff")


def test_line_ends_become_uniform_and_control_characters_blank(write: Write) -> None:
    assert load(write("a.txt", b"one\r\ntwo\rthree\x07\x1b[0m")).text == "one\ntwo\nthree  [0m"


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        b"PK\x03\x04" + bytes(200),
        b"MZ\0text",
        bytes(range(1, 256)) * 9,
    ],
    ids=["image", "archive", "program", "noise"],
)
def test_a_binary_named_txt(write: Write, data: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^data\.txt: its content is not text\."):
        load(write("data.txt", data))


# Any format


@pytest.mark.parametrize("suffix", LOADERS)
@pytest.mark.parametrize("data", [b"", b" \n\t\r\n "], ids=["empty", "blank"])
def test_an_empty_file(write: Write, suffix: str, data: bytes) -> None:
    with pytest.raises(EmptyDocumentError, match=rf"^a\{suffix}: the file is empty\."):
        load(write(f"a{suffix}", data))


@pytest.mark.parametrize("name", ["sheet.xlsx", "noext", "archive.tar.gz", ".txt"])
def test_an_unknown_type_names_those_that_are_known(write: Write, name: str) -> None:
    with pytest.raises(UnsupportedFileError, match=f"^{re.escape(name)}: .*PDF, DOCX, Markdown"):
        load(write(name, b"text"))


def test_the_given_name_decides_not_the_stored_one(write: Write) -> None:
    path = write("upload-83f2", b"# Hello")
    assert load(path, "Notes (final).md").metadata["file_name"] == "Notes (final).md"
    with pytest.raises(UnsupportedFileError, match=r"^x\.exe: "):
        load(path, "x.exe")


def test_the_same_content_is_the_same_document(write: Write) -> None:
    one: Document = load(write("a.txt", b"same"))
    two: Document = load(write("b.md", b"same"))
    assert one.id_ == two.id_
    assert one.name != two.name
