"""E-mail -> its headers and its text; and its attachments, as bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from rag.documents.markup import markdown
from rag.documents.text import decode, readable
from rag.errors import UnsupportedFileError
from rag.types import Document

if TYPE_CHECKING:  # loaded where an e-mail is read
    from email.message import EmailMessage, MIMEPart

HEADERS = ("From", "To", "Cc", "Date")
NOT_READ = ("image", "audio", "video")
"""Attachments of these types are left out without a word: logos and signatures, mostly."""
SIGNATURES = ("application/pgp-signature", "application/pkcs7-signature")


def load_mail(name: str, data: bytes) -> Document:
    """Subject as the heading, then the other headers, then the body."""
    message = _message(name, data)
    subject = _header(message, "Subject") or PurePosixPath(name).stem
    head = [f"{header}: {text}" for header in HEADERS if (text := _header(message, header))]
    files = [_file_name(part) for part in message.iter_attachments()]
    if files:
        head.append(f"Attachments: {', '.join(files)}")
    text = "\n\n".join(filter(None, [f"# {subject}", "\n".join(head), _body(name, message)]))
    return Document(readable(text).strip(), {"file_name": name})


def attachments(name: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name and content of each attachment that may be a document."""
    for part in _message(name, data).iter_attachments():
        kind = part.get_content_type()
        if part.get_content_maintype() in NOT_READ or kind in SIGNATURES:
            continue
        if kind == "message/rfc822":
            yield _file_name(part), part.get_content().as_bytes()
        else:
            yield _file_name(part), _content(part)


def _message(name: str, data: bytes) -> EmailMessage:
    from email import message_from_bytes, policy

    message: EmailMessage = message_from_bytes(data, policy=policy.default)
    if not any(header in message for header in ("From", "To", "Subject", "Date", "Received")):
        raise UnsupportedFileError(name, "it is named .eml, but its content is no e-mail.")
    return message


def _header(message: EmailMessage, header: str) -> str:
    return " ".join(str(message.get(header, "")).split())


def _body(name: str, message: EmailMessage) -> str:
    texts = {}
    for kind in ("plain", "html"):
        part = message.get_body((kind,))
        if part is None:
            continue
        try:
            text = str(part.get_content())
        except (LookupError, UnicodeError):  # an encoding that is none
            text = decode(name, _content(part))
        texts[kind] = text if kind == "plain" else markdown(text)
    return texts.get("plain", "").strip() or texts.get("html", "")


def _content(part: MIMEPart) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _file_name(part: MIMEPart) -> str:
    given = (part.get_filename() or "").replace("\\", "/")
    if name := PurePosixPath(" ".join(given.split())).name:
        return name
    return "message.eml" if part.get_content_type() == "message/rfc822" else "attachment"
