"""file -> Document: the text of a PDF, DOCX, Markdown, HTML or plain-text file.

Each format is read by a library. Knows nothing of processes and limits: `isolation` runs
this where a hostile file can do no harm.
"""

import io
import re
import zipfile
from collections.abc import Callable
from itertools import chain, pairwise, zip_longest
from pathlib import Path
from statistics import median
from typing import Any

from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError
from rag.types import Document

PAGE_BREAK = "\n\n"


def load(path: Path, file_name: str | None = None) -> Document:
    """The document in the file at `path`, under `file_name` (its own name when None).

    The document's text is plain text or Markdown; a PDF's pages are in `page_starts`.
    Raises UnsupportedFileError, EmptyDocumentError or DocumentError naming the file.
    """
    name = file_name or path.name
    suffix = Path(name).suffix.lower()
    loader = LOADERS.get(suffix)
    if loader is None:
        raise UnsupportedFileError(
            name, f"this type cannot be read. Possible are {', '.join(FORMATS)}."
        )
    data = path.read_bytes()
    if not data.strip():
        raise EmptyDocumentError(name, "the file is empty.")
    try:
        document = loader(name, data)
    except RecursionError as error:
        raise DocumentError(name, "it is nested too deeply to be read.") from error
    if not document.text.strip():
        raise EmptyDocumentError(
            name, "no text was found in it. A scan has to go through text recognition (OCR) first."
        )
    return document


def _load_pdf(name: str, data: bytes) -> Document:
    import pypdfium2

    if b"%PDF-" not in data[:1024]:
        raise UnsupportedFileError(name, "it is named .pdf, but its content is no PDF.")
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            reason = "it is encrypted. Save a copy without a password and add that."
        else:
            reason = "the PDF is damaged and cannot be opened."
        raise DocumentError(name, reason) from error
    texts = []
    for page in pdf:
        textpage = page.get_textpage()
        texts.append(_readable(_page_text(textpage)).strip())
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


def _load_docx(name: str, data: bytes) -> Document:
    from xml.parsers.expat import ExpatError

    import mammoth

    if data.startswith(b"\xd0\xcf\x11\xe0"):  # an OLE container: how Office encrypts a file
        raise DocumentError(
            name, "it is encrypted, or an old .doc file. Save it as .docx without a password."
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if "word/document.xml" not in archive.namelist():
                raise UnsupportedFileError(
                    name, "it is named .docx, but its content is no Word document."
                )
        html = mammoth.convert_to_html(
            io.BytesIO(data), convert_image=mammoth.images.img_element(lambda _: {"src": ""})
        ).value
    except zipfile.BadZipFile as error:
        raise UnsupportedFileError(
            name, "it is named .docx, but its content is no Word document, or it is damaged."
        ) from error
    except (KeyError, ValueError, SyntaxError, ExpatError) as error:
        raise DocumentError(name, "the Word document is damaged and cannot be read.") from error
    return Document(_markdown(html), {"file_name": name})


def _load_html(name: str, data: bytes) -> Document:
    return Document(_markdown(_decode(name, data)), {"file_name": name})


def _load_text(name: str, data: bytes) -> Document:
    return Document(_readable(_decode(name, data)), {"file_name": name})


def _markdown(html: str) -> str:
    """The text of `html` as Markdown: headings, lists and tables; no scripts, no images."""
    from bs4 import BeautifulSoup
    from markdownify import ATX, MarkdownConverter

    soup = BeautifulSoup(html, "html.parser")
    for element in soup(["script", "style", "template", "noscript", "head", "img", "svg"]):
        element.decompose()
    converter = MarkdownConverter(
        heading_style=ATX,
        strip=["a"],
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
    )
    text = converter.convert_soup(soup)
    return _readable(re.sub(r"\n{3,}", "\n\n", text).strip())


def _decode(name: str, data: bytes) -> str:
    """Bytes of unknown encoding as text. Raises UnsupportedFileError where they are none."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data:  # UTF-8 would let it pass; no text has it
        raise UnsupportedFileError(name, "its content is not text.")
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        pass
    import charset_normalizer

    matches = charset_normalizer.from_bytes(data)
    # Short Western texts are as plausible in other encodings, which come before it in the list.
    if any("cp1252" in match.could_be_from_charset for match in matches):
        return data.decode("cp1252")
    best = matches.best()
    if best is None:
        raise UnsupportedFileError(name, "its content is not text.")
    return str(best)


def _readable(text: str) -> str:
    """`text` with uniform line ends and without characters that no index or page can show."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]", " ", text)


LOADERS: dict[str, Callable[[str, bytes], Document]] = {
    ".pdf": _load_pdf,
    ".docx": _load_docx,
    ".md": _load_text,
    ".markdown": _load_text,
    ".html": _load_html,
    ".htm": _load_html,
    ".txt": _load_text,
}
FORMATS = ("PDF", "DOCX", "Markdown", "HTML", "plain text (.txt)")
