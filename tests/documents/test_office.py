"""Office files, books and tables: structure stays, what cannot be read is told."""

import docx
import pytest
import xlsxwriter

from rag.errors import DocumentError, EmptyDocumentError, FileTooLargeError, UnsupportedFileError
from tests.documents.conftest import Read
from tests.documents.makers import (
    RTF,
    archive,
    book,
    changed,
    deck,
    letter,
    open_document,
    sheets,
    word,
    workbook,
)


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line]


def test_a_word_document_with_headings_a_list_and_a_table(read: Read) -> None:
    def make(document: docx.document.Document) -> None:
        document.add_heading("Rivers", 1)
        document.add_paragraph("Water flows downhill.")
        document.add_paragraph("fast", style="List Bullet")
        document.add_heading("Lengths", 2)
        table = document.add_table(2, 2)
        for cell, text in zip(
            [cell for row in table.rows for cell in row.cells],
            ["River", "Length", "Rhine", "1,233 km"],
            strict=True,
        ):
            cell.text = text

    document = read("rivers.docx", word(make))
    assert lines(document.text) == [
        *("# Rivers", "Water flows downhill.", "- fast", "## Lengths"),
        *("| River | Length |", "| --- | --- |", "| Rhine | 1,233 km |"),
    ]
    assert document.page_starts == ()
    assert document.metadata == {"file_name": "rivers.docx"}


def test_a_word_document_without_text(read: Read) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^blank\.docx: no text was found"):
        read("blank.docx", word(lambda document: None))


def test_macros_are_left_alone(read: Read) -> None:
    """A .docm is a .docx with a program in it; the text is read, the program is not."""
    data = changed(
        letter(),
        "[Content_Types].xml",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml",
        "application/vnd.ms-word.document.macroEnabled.main+xml",
    )
    assert read("letter.docm", data).text == "Water flows downhill."


def test_slides_are_headings(read: Read) -> None:
    assert lines(read("deck.pptx", deck()).text) == [
        *("## Rivers of Europe", "- The Rhine flows north.", "> Say hello first."),
        *("## Lengths", "| River | Length |", "| --- | --- |", "| Rhine | 1,233 km |"),
    ]


def test_sheets_are_headings_and_show_what_excel_shows(read: Read) -> None:
    assert lines(read("book.xlsx", workbook(sheets)).text) == [
        *("## Rivers", "| River | Length | Share |", "| --- | --- | --- |"),
        r"| Rhine \| upper and lower | 1233 | 12.5% |",
        *("## Sums", "| Total | Link |", "| --- | --- |", "| 1233 | open |"),
    ]


def test_a_sheet_that_is_larger_than_any_table(read: Read) -> None:
    def make(book: xlsxwriter.Workbook) -> None:
        sheet = book.add_worksheet()
        sheet.write(0, 0, "first")
        sheet.write(1_048_575, 16_383, "last")

    with pytest.raises(FileTooLargeError, match=r"^far\.xlsx: unpacked, it is too large"):
        read("far.xlsx", workbook(make))


def test_chapters_are_headings(read: Read) -> None:
    chapters = ("<h1>Rising</h1><p>In the Alps.</p>", "<h1>Flowing</h1><p>North.</p>")
    assert lines(read("rivers.epub", book(*chapters)).text) == [
        *("# The Rivers", "# Rising", "In the Alps.", "# Flowing", "North."),
    ]


def test_rtf(read: Read) -> None:
    assert lines(read("rivers.rtf", RTF).text) == [
        *("# Rivers", "Grüße and 日本."),
        *("| River | Length |", "| --- | --- |", "| Rhine | 1,233 km |"),
        "[the map](http://x.example/)",
    ]


def test_an_open_document(read: Read) -> None:
    assert read("rivers.odt", open_document()).text == "# Rivers\n\nWater flows downhill."


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-8", ","), ("cp1252", ";"), ("utf-16", "\t"), ("utf-8", "|")]
)
def test_a_table_in_text_whatever_its_encoding_and_separator(
    read: Read, encoding: str, separator: str
) -> None:
    rows = [["Name", "Größe"], ["Müller", "1.5"], ["Maier", '"a\nb"'], ["Abt", "=1+2"]]
    text = "\r\n".join(separator.join(row) for row in rows)
    assert read("sizes.csv", text.encode(encoding)).text.splitlines() == [
        *("| Name | Größe |", "| --- | --- |"),
        *("| Müller | 1.5 |", "| Maier | a b |", "| Abt | =1+2 |"),
    ]


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"just text", UnsupportedFileError, "its content is no Word document"),
        (archive({"a.txt": "a"}), UnsupportedFileError, "its content is no Word document"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), DocumentError, "it is encrypted, or"),
        (letter()[:-200], UnsupportedFileError, "or it is damaged"),
        (changed(letter(), "word/document.xml", "w:document", "other"), DocumentError, "damaged"),
    ],
    ids=["no zip", "archive", "OLE file", "truncated", "foreign XML"],
)
def test_a_docx_that_is_none(
    read: Read, data: bytes, kind: type[DocumentError], reason: str
) -> None:
    with pytest.raises(kind, match=rf"^letter\.docx: .*{reason}") as caught:
        read("letter.docx", data)
    assert type(caught.value) is kind
