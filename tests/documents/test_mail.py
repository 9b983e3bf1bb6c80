"""E-mails: headers, body, and each attachment as a document of its own."""

from email.message import EmailMessage
from pathlib import Path

import pytest

from rag.documents.loading import load
from rag.errors import DocumentError, UnsupportedFileError
from rag.types import Document
from tests.documents.conftest import Read
from tests.documents.makers import archive, letter, mail, pdf

HEAD = """# Grüße aus Köln

From: Jörg <joerg@example.org>
To: ann@example.org, bob@example.org
Date: Mon, 02 Mar 2026 10:00:00 +0100"""


def found(path: Path, message: EmailMessage) -> dict[str, Document | DocumentError]:
    (path / "stored").write_bytes(bytes(message))
    items = list(load(path / "stored", "a.eml"))
    return {item.name if isinstance(item, Document) else item.file_name: item for item in items}


def test_the_subject_is_the_heading_above_headers_and_body(read: Read) -> None:
    assert read("a.eml", bytes(mail())).text == f"{HEAD}\n\nWater flows downhill."


@pytest.mark.parametrize("body", ["", "\n"])
def test_a_body_of_html_is_converted(read: Read, body: str) -> None:
    message = mail(body, "<h2>Rivers</h2><script>steal()</script><p>They <b>flow</b>.</p>")
    assert read("a.eml", bytes(message)).text == f"{HEAD}\n\n## Rivers\n\nThey **flow**."


def test_of_two_forms_of_the_body_the_plain_one_is_kept(read: Read) -> None:
    assert read("a.eml", bytes(mail("plain", "<p>HTML</p>"))).text == f"{HEAD}\n\nplain"


@pytest.mark.parametrize("charset", ["latin-1", "no-such-charset"])
def test_the_body_in_its_encoding(read: Read, charset: str) -> None:
    data = f"Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n"
    data += "Content-Transfer-Encoding: 8bit\n\nÜberprüfung der Größe"
    assert read("a.eml", data.encode("latin-1")).text == "# x\n\nÜberprüfung der Größe"


def test_attachments_are_documents_of_their_own(tmp_path: Path) -> None:
    message = mail(
        **{"letter__docx": letter(), "report__pdf": pdf("First", "Second")},
        numbers__csv=b"a,b\n1,2\n",
        logo__png=b"\x89PNG",
    )
    items = found(tmp_path, message)
    assert list(items) == ["a.eml", "a.eml/letter.docx", "a.eml/report.pdf", "a.eml/numbers.csv"]
    texts = [item.text for item in items.values() if isinstance(item, Document)]
    assert "Attachments: letter.docx, report.pdf, numbers.csv, logo.png" in texts[0]
    assert texts[1] == "Water flows downhill."
    assert texts[3].startswith("| a | b |")
    report = items["a.eml/report.pdf"]
    assert isinstance(report, Document)
    assert len(report.page_starts) == 2


def test_an_attachment_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    message = mail(bad__pdf=b"no pdf", all__zip=archive({"a.txt": "a"}), good__txt=b"good")
    items = found(tmp_path, message)
    reasons = {name: str(item) for name, item in items.items() if isinstance(item, DocumentError)}
    assert list(reasons) == ["a.eml/bad.pdf", "a.eml/all.zip"]
    assert "its content is no PDF" in reasons["a.eml/bad.pdf"]
    assert "it is an archive in another file" in reasons["a.eml/all.zip"]
    assert isinstance(items["a.eml/good.txt"], Document)


def test_an_attached_mail_is_read_with_its_attachments(tmp_path: Path) -> None:
    items = found(tmp_path, mail("outer", inner=mail("inner", note__txt=b"noted")))
    assert list(items) == ["a.eml", "a.eml/message.eml", "a.eml/message.eml/note.txt"]


def test_mails_in_mails_are_followed_only_so_deep(tmp_path: Path) -> None:
    message = mail("the last")
    for _ in range(8):
        message = mail("one more", inner=message)
    assert len(found(tmp_path, message)) == 4


@pytest.mark.parametrize("name", ["../../etc/passwd", "C:\\x\\passwd", "/etc/passwd", "a\tpasswd"])
def test_the_name_of_an_attachment_is_only_a_name(tmp_path: Path, name: str) -> None:
    message = mail()
    message.add_attachment(b"text", maintype="text", subtype="plain", filename=name)
    _, shown = found(tmp_path, message)
    assert shown in ("a.eml/passwd", "a.eml/a passwd")


@pytest.mark.parametrize("data", [b"just text", b"\x89PNG\n\n" + bytes(99), b"\n\nSubject: late"])
def test_a_mail_that_is_none(read: Read, data: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^a\.eml: .* no e-mail"):
        read("a.eml", data)
