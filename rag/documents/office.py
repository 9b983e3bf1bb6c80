"""Office files, books and tables -> Markdown, by the library `anydoc`.

It runs no macro, loads nothing, expands no entity of its own, and holds limits against bombs.
"""

from typing import Any

from rag.documents.text import decode, readable
from rag.errors import DocumentError, FileTooLargeError, UnsupportedFileError
from rag.types import Document


def load_office(name: str, data: bytes) -> Document:
    """A file whose content says which format it has."""
    return _load(name, data, None)


def load_csv(name: str, data: bytes) -> Document:
    """A table in text, whatever separates its columns."""
    return _load(name, readable(decode(name, data)).encode(), "csv")


def _load(name: str, data: bytes, kind: Any) -> Document:
    import anydoc

    try:
        text = anydoc.to_markdown_bytes(data, kind)
    except anydoc.EncryptedError as error:
        raise DocumentError(
            name, "it is encrypted. Save a copy without a password and add that."
        ) from error
    except anydoc.ResourceLimitError as error:
        raise FileTooLargeError(
            name, "unpacked, it is too large or nested too deeply to be read."
        ) from error
    except anydoc.UnsupportedError as error:
        raise UnsupportedFileError(name, "its content is of no type that can be read.") from error
    except anydoc.ConvertError as error:
        raise DocumentError(name, "it is damaged and cannot be read.") from error
    return Document(readable(text).strip(), {"file_name": name})
