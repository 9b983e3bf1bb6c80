"""Bytes -> text: encodings, characters nobody can see, and the formats that are text anyway."""

import json
import re
from contextlib import suppress
from typing import Any

from rag.errors import DocumentError, UnsupportedFileError
from rag.types import Document

LONG_LINE = 2_000
"""Characters in a line beyond which nobody reads it."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# What hides words from whoever reads or searches the text, or turns its letters around: soft
# hyphens, zero-width spaces, bidirectional overrides, "tags". Joiners stay: scripts need them.
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def decode(name: str, data: bytes) -> str:
    """Bytes of unknown encoding as text. Raises UnsupportedFileError where they are none."""
    if data.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        encoding = "utf-32"
    elif data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif b"\0" in data:  # UTF-8 would let it pass; no text has it
        raise UnsupportedFileError(name, "its content is not text.")
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8-sig":  # cut within a character
            return data.decode(encoding, "replace")
    # UTF-8 in which some bytes are broken: other encodings are never so often right by chance.
    text = data.decode("utf-8-sig", "replace")
    broken = text.count("\ufffd")
    if 4 * broken < len(text) - len(text.encode("ascii", "ignore")):
        return text
    import charset_normalizer

    matches = charset_normalizer.from_bytes(data)
    # Short Western texts are as plausible in other encodings, which come before it in the list.
    if any("cp1252" in match.could_be_from_charset for match in matches):
        return data.decode("cp1252", "replace")
    best = matches.best()
    if best is None:
        raise UnsupportedFileError(name, "its content is not text.")
    return str(best)


def readable(text: str) -> str:
    """`text` with uniform line ends and without characters that no index or page can show."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return _INVISIBLE.sub("", _CONTROL.sub(" ", text))


def load_text(name: str, data: bytes) -> Document:
    """Markdown, or a text that may be."""
    return Document(readable(decode(name, data)), {"file_name": name})


def load_code(name: str, data: bytes) -> Document:
    """Source code and its like, in which a # begins no heading."""
    return Document(readable(decode(name, data)), {"file_name": name}, plain=True)


def load_json(name: str, data: bytes) -> Document:
    """JSON as it is; where it was not written for people, in lines. What is none is text."""
    text = decode(name, data)
    if "\\u" in text or any(len(line) > LONG_LINE for line in text.splitlines()):
        with suppress(ValueError, RecursionError):
            text = json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    return Document(readable(text), {"file_name": name}, plain=True)


def load_notebook(name: str, data: bytes) -> Document:
    """A notebook's text, code and text outputs; every cell of code under a heading."""
    import nbformat

    from rag.documents.markup import markdown

    def shown(output: Any) -> str:
        if output.output_type == "stream":
            return fenced(output.text)
        if output.output_type == "error":
            return fenced(f"{output.ename}: {output.evalue}")
        forms = output.get("data", {})
        if "text/markdown" in forms:
            return str(forms["text/markdown"])
        if "<table" in forms.get("text/html", ""):
            return markdown(forms["text/html"])
        return fenced(forms.get("text/plain", ""))

    try:
        notebook = nbformat.reads(decode(name, data), as_version=4)
        parts = []
        language = notebook.metadata.get("language_info", {}).get("name", "")
        for number, cell in enumerate(notebook.cells, start=1):
            if cell.cell_type == "code":
                # The lowest level, so that the headings of the text cells hold it too.
                parts += [f"###### Cell {number}", fenced(cell.source, language)]
                parts += [shown(output) for output in cell.outputs]
            else:
                parts.append(cell.source)
    except (nbformat.ValidationError, nbformat.reader.NotJSONError) as error:
        raise UnsupportedFileError(name, "it is named .ipynb, but is no notebook.") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DocumentError(name, "the notebook is damaged and cannot be read.") from error
    return Document(readable("\n\n".join(filter(None, parts))), {"file_name": name})


def fenced(code: str, language: str = "") -> str:
    """`code` as a block of Markdown; nothing in it can end the block."""
    code = _COLOUR.sub("", code).strip("\n")
    if not code.strip():
        return ""
    ticks = max((len(found) for found in re.findall("`+", code)), default=0)
    fence = "`" * max(3, ticks + 1)
    return f"{fence}{language}\n{code}\n{fence}"
