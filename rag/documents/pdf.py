"""PDF -> its pages' text, by pdfium."""

from itertools import chain, pairwise, zip_longest
from statistics import median
from typing import Any

from rag.documents.text import readable
from rag.errors import DocumentError
from rag.types import Document

PAGE_BREAK = "\n\n"


def load_pdf(name: str, data: bytes) -> Document:
    import pypdfium2

    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            reason = "it is encrypted. Save a copy without a password and add that."
        else:
            reason = "the PDF is damaged and cannot be opened."
        raise DocumentError(name, reason) from error
    texts = []
    for number in range(len(pdf)):
        try:
            page = pdf[number]
            textpage = page.get_textpage()
        except pypdfium2.PdfiumError:  # a damaged page costs itself
            texts.append("")
            continue
        texts.append(readable(_page_text(textpage)).strip())
        textpage.close()
        page.close()
    starts, offset = [], 0
    for text in texts:
        starts.append(offset)
        offset += len(text) + len(PAGE_BREAK)
    return Document(
        PAGE_BREAK.join(texts), {"file_name": name, "pages": len(texts)}, page_starts=tuple(starts)
    )


def _page_text(textpage: Any) -> str:
    """The text of a PDF page, with a blank line where the gap between two lines is wider.

    A PDF has lines, not paragraphs; the splitter needs to know where one ends.
    """
    # pdfium separates lines by \r\n, and marks a hyphen at a line's end by U+FFFE.
    text = textpage.get_text_range().replace("\ufffe", "-")
    if textpage.count_chars() != len(text):
        return str(text)  # its characters cannot be told apart by their places in the text
    lines, bottoms = [], []
    position = 0
    for line in text.split("\r\n"):
        if line.strip():
            _, bottom, _, _ = textpage.get_charbox(position + len(line) - len(line.lstrip()))
            lines.append(line)
            bottoms.append(bottom)
        position += len(line) + 2
    gaps = [upper - lower for upper, lower in pairwise(bottoms)]
    usual = median(gap for gap in gaps if gap > 0) if any(gap > 0 for gap in gaps) else 0.0
    breaks = ["\n\n" if gap > 1.35 * usual or gap < 0 else "\n" for gap in gaps]
    return "".join(chain.from_iterable(zip_longest(lines, breaks, fillvalue="")))
