"""PDF: pages, paragraphs, and what cannot be opened."""

import io
from itertools import pairwise

import pypdfium2
import pytest

from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError
from tests.documents.conftest import Read
from tests.documents.makers import pdf


def test_the_pages_of_a_pdf_stand_where_page_starts_says(read: Read) -> None:
    document = read("three.pdf", pdf("First page\nsecond line", "Second page", "Third"))
    begin = [*document.page_starts, len(document.text)]
    pages = [document.text[a:b].strip() for a, b in pairwise(begin)]
    assert pages == ["First page\nsecond line", "Second page", "Third"]
    assert document.metadata == {"file_name": "three.pdf", "pages": 3}
    assert document.page_at(document.text.index("Second")) == 2


def test_a_page_without_text_still_counts(read: Read) -> None:
    document = read("gap.pdf", pdf("First", "", "Third"))
    assert len(document.page_starts) == 3
    assert document.page_at(document.text.index("Third")) == 3


def test_a_wider_gap_on_a_page_is_the_end_of_a_paragraph(read: Read) -> None:
    text = read("gaps.pdf", pdf("One\ntwo\nthree\n\n\nfour\nfive")).text
    assert text == "One\ntwo\nthree\n\nfour\nfive"


def test_a_pdf_of_another_maker(read: Read) -> None:
    made = pypdfium2.PdfDocument.new()
    made.import_pages(pypdfium2.PdfDocument(pdf("Copied by pdfium")))
    file = io.BytesIO()
    made.save(file)
    made.close()
    assert read("other.pdf", file.getvalue()).text == "Copied by pdfium"


def test_a_scan_has_to_go_through_ocr(read: Read) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^scan\.pdf: no text was found.*\(OCR\)"):
        read("scan.pdf", pdf("", ""))


def test_an_encrypted_pdf(read: Read) -> None:
    with pytest.raises(DocumentError, match=r"^locked\.pdf: it is encrypted\."):
        read("locked.pdf", pdf("Secret", password="x"))


def test_a_pdf_that_is_none(read: Read) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^fake\.pdf: .*its content is no PDF"):
        read("fake.pdf", b"<html>404 Not Found</html>")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.95])
def test_a_truncated_pdf(read: Read, share: float) -> None:
    whole = pdf("First", "Second")
    with pytest.raises(DocumentError, match=r"^cut\.pdf: the PDF is damaged"):
        read("cut.pdf", whole[: int(len(whole) * share)])
