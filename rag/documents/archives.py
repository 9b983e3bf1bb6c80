"""A file -> the files in it: members of a ZIP, attachments of an e-mail.

Nothing is unpacked to the disk, so no member can be written anywhere; one member is in memory at
a time. What is wrong with a member is raised when it is read, and costs only that member.
"""

import io
import lzma
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath

from rag.documents.mail import attachments
from rag.documents.text import readable
from rag.errors import DocumentError, EmptyDocumentError, FileTooLargeError, UnsupportedFileError

MEMBERS = 1_000
"""Files in an archive, at most."""
TOTAL_BYTES = 1_000_000_000
MEMBER_BYTES = 100_000_000
RATIO = 200
"""How many times larger than packed a member over RATIO_FROM bytes may be. Deflate reaches 1,032;
text that people wrote stays below 20, tables and logs below 100."""
RATIO_FROM = 5_000_000
MAILS_DEEP = 3
"""How deep e-mails attached to e-mails are followed."""
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Part:
    """A file, or one in it, by the name it is shown with: "letters.zip/2024/june.docx"."""

    name: str
    read: Callable[[], bytes]
    """Its content. Raises DocumentError."""


def is_zip(data: bytes) -> bool:
    return data.startswith(ZIP_MAGIC)


def members(name: str, data: bytes) -> Iterator[Part]:
    """The members of the ZIP archive in `data`, but for folders and hidden files.

    Raises DocumentError where nothing of it is to be read.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise DocumentError(name, "the archive is damaged and cannot be opened.") from error
    files = [info for info in archive.infolist() if not info.is_dir() and not _hidden(info)]
    if not files:
        raise EmptyDocumentError(name, "there is no file in the archive.")
    if len(files) > MEMBERS:
        raise FileTooLargeError(
            name, f"it holds {len(files):,} files; at most {MEMBERS:,} are taken."
        )
    total = sum(info.file_size for info in files)
    if total > TOTAL_BYTES:
        raise FileTooLargeError(
            name,
            f"unpacked it has {total / 1e6:,.0f} MB; {TOTAL_BYTES / 1e6:,.0f} MB are the most.",
        )
    for info in files:
        part = f"{name}/{_shown(info.filename)}"
        yield Part(part, partial(_read, part, archive, info))


def with_attachments(part: Part, depth: int = 0) -> Iterator[Part]:
    """`part`, and what is attached to it if it is an e-mail."""
    yield part
    if not part.name.lower().endswith(".eml") or depth == MAILS_DEEP:
        return
    try:
        found = list(attachments(part.name, part.read()))
    except (DocumentError, RecursionError):
        return  # whoever reads the part itself is told
    except Exception as error:  # the library does not say what it raises
        reason = "its attachments cannot be read."
        found, failed = [], DocumentError(part.name, reason)
        failed.__cause__ = error
        yield Part(part.name, partial(_fail, failed))
    for name, data in found:
        inner = Part(f"{part.name}/{_shown(name)}", partial(bytes, data))
        yield from with_attachments(inner, depth + 1)


def _read(name: str, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of a member; what its header says is checked first, and holds while reading."""
    path = info.filename.replace("\\", "/")
    if ".." in PurePosixPath(path).parts or PureWindowsPath(path).root:
        raise UnsupportedFileError(name, "its path leads out of the archive.")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise UnsupportedFileError(name, "it is a link to another file.")
    if info.flag_bits & 0x1:
        raise DocumentError(name, "it is encrypted. Add it without a password.")
    if info.file_size > MEMBER_BYTES:
        raise FileTooLargeError(
            name,
            f"it has {info.file_size / 1e6:,.0f} MB; {MEMBER_BYTES / 1e6:.0f} MB are the most.",
        )
    if info.file_size > max(RATIO_FROM, RATIO * info.compress_size):
        raise FileTooLargeError(
            name, f"it is packed more than {RATIO} times, as no document is: perhaps a bomb."
        )
    try:
        with archive.open(info) as member:
            data = member.read(info.file_size + 1)  # and no more, should the header have lied
    except NotImplementedError as error:
        raise UnsupportedFileError(name, "it is packed in a way that is not known.") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError) as error:
        raise DocumentError(name, "it is damaged: it cannot be unpacked.") from error
    return data


def _fail(error: DocumentError) -> bytes:
    raise error


def _hidden(info: zipfile.ZipInfo) -> bool:
    """Whether it is what systems leave in archives: .DS_Store, __MACOSX/._name, Thumbs.db."""
    parts = PurePosixPath(info.filename.replace("\\", "/")).parts
    dotted = any(part.startswith(".") and part.strip(".") for part in parts)
    return dotted or "__MACOSX" in parts or parts[-1:] == ("Thumbs.db",)


def _shown(name: str) -> str:
    """A member's name as a person may read it: on one line, of some length, nothing turned."""
    clean = " ".join(readable(name.replace("\\", "/")).split())
    return clean if len(clean) <= 200 else f"{clean[:120]}…{clean[-79:]}"
