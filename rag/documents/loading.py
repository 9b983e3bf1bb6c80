"""file -> [Document]: which format it has, and who reads it.

The content decides, then the name. Each format is read by a library, in a module of its family.
Knows nothing of processes and limits: `isolation` runs this where a hostile file can do no harm.
"""

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from rag.documents.archives import Part, is_zip, members, with_attachments
from rag.documents.mail import load_mail
from rag.documents.markup import load_html
from rag.documents.office import load_csv, load_office
from rag.documents.pdf import load_pdf
from rag.documents.text import load_code, load_json, load_notebook, load_text
from rag.errors import DocumentError, EmptyDocumentError, FileTooLargeError, UnsupportedFileError
from rag.types import Document

TEXT_LIMIT = 50_000_000
"""Characters of text in one document, at most: some 15,000 pages."""

Loader = Callable[[str, bytes], Document]

BINARY = {
    ".pdf": "PDF",
    ".docx": "Word document",
    ".pptx": "PowerPoint presentation",
    ".xlsx": "Excel workbook",
    ".odt": "OpenDocument text",
    ".odp": "OpenDocument presentation",
    ".ods": "OpenDocument spreadsheet",
    ".epub": "EPUB book",
    ".rtf": "RTF document",
    ".zip": "ZIP archive",
}
"""Formats that are known by their content; a file that is only named so is none."""
TEXT: dict[str, Loader] = {
    **dict.fromkeys((".md", ".markdown", ".txt"), load_text),
    **dict.fromkeys((".html", ".htm", ".xhtml"), load_html),
    **dict.fromkeys((".csv", ".tsv"), load_csv),
    **dict.fromkeys((".json", ".jsonl"), load_json),
    ".ipynb": load_notebook,
    ".eml": load_mail,
}
"""Formats that are text, known by their name."""
_CODE = """
bash bat c cc cfg clj cmake conf cpp cs css cxx dart diff erl ex exs f90 go gradle groovy h hh hpp
hs ini java jl js jsx kt kts lean less log lua m ml mjs nix patch php pl proto ps1 py pyi r rb rs
scala scss sh sql svelte svg swift tex tf toml ts tsx vb vue xml yaml yml zig
"""
CODE = frozenset(f".{ending}" for ending in _CODE.split())
"""Source code and its like."""
ENDINGS = frozenset((*BINARY, *TEXT, *CODE))
"""What is read of a folder. A file that is named may end otherwise, if its content is known."""
FORMATS = (
    *("PDF", "Word", "PowerPoint", "Excel", "OpenDocument", "CSV", "Markdown", "HTML", "EPUB"),
    *("RTF", "plain text", "source code", "JSON", "Jupyter notebooks", "e-mail (.eml)", "ZIP"),
)
MAGIC = (b"%PDF-", b"{\\rtf", b"\xd0\xcf\x11\xe0", b"PK\x03\x04")
"""How formats begin that are not text; all of Office and EPUB are one of the last two."""


def load(path: Path, file_name: str | None = None) -> Iterator[Document | DocumentError]:
    """The documents in the file at `path`, under `file_name` (its own name when None).

    A document's text is plain text or Markdown; a PDF's pages are in `page_starts`. Of an archive
    each file is a document, and so is each attachment of an e-mail; in the place of one that
    cannot be read comes its error. Raises UnsupportedFileError, EmptyDocumentError or
    DocumentError naming the file where that itself cannot be read.
    """
    name = file_name or path.name
    for part in parts(path, name):
        try:
            yield load_part(part)
        except DocumentError as error:
            if part.name == name:
                raise
            yield error


def parts(path: Path, file_name: str) -> Iterator[Part]:
    """The file itself with its attachments, or the members of an archive with theirs."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DocumentError(
            file_name, f"it cannot be opened: {error.strerror or error}."
        ) from error
    if is_zip(data) and _suffix(file_name) in ("", ".zip") and _office(data) is None:
        for member in members(file_name, data):
            yield from with_attachments(member)
    else:
        yield from with_attachments(Part(file_name, lambda: data))


def load_part(part: Part) -> Document:
    """The document in a part. Raises what `load` raises."""
    name, data = part.name, part.read()
    if not data.strip():
        raise EmptyDocumentError(name, "the file is empty.")
    try:
        document = _loader(name, data)(name, data)
    except RecursionError as error:
        raise DocumentError(name, "it is nested too deeply to be read.") from error
    if not document.text.strip():
        raise EmptyDocumentError(
            name, "no text was found in it. A scan has to go through text recognition (OCR) first."
        )
    if len(document.text) > TEXT_LIMIT:
        raise FileTooLargeError(
            name,
            f"it has {len(document.text) / 1e6:.1f} million characters of text; at most "
            f"{TEXT_LIMIT / 1e6:.0f} million are taken. Split the file.",
        )
    return document


def _loader(name: str, data: bytes) -> Loader:
    """Who reads this content under this name. Raises UnsupportedFileError where nobody does."""
    suffix = _suffix(name)
    if data.startswith(b"%PDF-") or (suffix == ".pdf" and b"%PDF-" in data[:1024]):
        return load_pdf
    if data.startswith(MAGIC) and _office(data):
        return load_office
    if data.startswith(b"\xd0\xcf\x11\xe0"):  # an OLE container: how Office encrypts a file
        raise DocumentError(name, "it is encrypted, or of an old format. Save it as a new one.")
    if suffix == ".zip" and is_zip(data):
        raise UnsupportedFileError(
            name, "it is an archive in another file. Unpack it, and add what is in it."
        )
    if suffix in BINARY:
        raise UnsupportedFileError(
            name,
            f"it is named {suffix}, but its content is no {BINARY[suffix]}, or it is damaged.",
        )
    if suffix in CODE:
        return load_code
    if suffix not in TEXT and not _is_text(data):
        raise UnsupportedFileError(
            name, f"this type cannot be read. Possible are {', '.join(FORMATS)}."
        )
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return load_html
    return TEXT.get(suffix, load_text)


def _office(data: bytes) -> str | None:
    import anydoc

    return anydoc.format_from_bytes(data)


def _is_text(data: bytes) -> bool:
    """Whether it is text for certain, although its name does not say so."""
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
