"""file -> Document: the text of a PDF, DOCX, Markdown, HTML or plain-text file.

Each format is read by a library. Knows nothing of processes and limits: `isolation` runs
this where a hostile file can do no harm.
"""

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

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
    document = loader(name, data)
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
        # pdfium separates lines by \r\n, and marks a hyphen at a line's end by U+FFFE.
        text = textpage.get_text_bounded().replace("\r\n", "\n").replace("\ufffe", "-")
        texts.append(_readable(text.strip()))
        textpage.close()
        page.close()
    starts, offset = [], 0
    for text in texts:
        starts.append(offset)
        offset += len(text) + len(PAGE_BREAK)
    return Document(
        PAGE_BREAK.join(texts), {"file_name": name, "pages": len(texts)}, page_starts=tuple(starts)
    )


def _load_docx(name: str, data: bytes) -> Document:
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
    except (KeyError, ValueError, SyntaxError) as error:
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
        heading_style=ATX, strip=["a"], escape_asterisks=False, escape_underscores=False
    )
    text = converter.convert_soup(soup)
    return _readable(re.sub(r"\n{3,}", "\n\n", text).strip())


def _decode(name: str, data: bytes) -> str:
    """Bytes of unknown encoding as text. Raises UnsupportedFileError where they are none."""
    for encoding in ("utf-8-sig", "utf-16"):
        if encoding == "utf-16" and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            continue
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            pass
    import charset_normalizer

    best = None if b"\0" in data else charset_normalizer.from_bytes(data).best()
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
