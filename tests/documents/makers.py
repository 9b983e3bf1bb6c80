"""Makes files of each format: by other libraries than those that read them, where there are any."""

import io
import json
import zipfile
from collections.abc import Callable
from email.message import EmailMessage
from typing import Any

import docx
import pptx
import xlsxwriter
from pptx.util import Inches
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas


def pdf(*pages: str, password: str = "") -> bytes:
    """A PDF with these lines of text; an empty page has a drawing and no text."""
    file = io.BytesIO()
    canvas = Canvas(file, encrypt=StandardEncryption(password) if password else None)
    for page in pages:
        canvas.rect(50, 50, 100, 100, fill=1)
        for number, line in enumerate(page.splitlines()):
            canvas.drawString(72, 700 - 20 * number, line)
        canvas.showPage()
    canvas.save()
    return file.getvalue()


def archive(members: dict[str, bytes | str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return file.getvalue()


def changed(data: bytes, member: str, old: str, new: str) -> bytes:
    """A file that is a ZIP, with something replaced in one of its members."""
    with zipfile.ZipFile(io.BytesIO(data)) as source:
        members = {name: source.read(name) for name in source.namelist()}
    assert old.encode() in members[member]
    members[member] = members[member].replace(old.encode(), new.encode(), 1)
    return archive(members)


def word(make: Callable[[docx.document.Document], object]) -> bytes:
    document, file = docx.Document(), io.BytesIO()
    make(document)
    document.save(file)
    return file.getvalue()


def letter(text: str = "Water flows downhill.") -> bytes:
    return word(lambda document: document.add_paragraph(text))


def deck() -> bytes:
    """Two slides with titles: one of bullets and notes, one of a table."""
    deck, file = pptx.Presentation(), io.BytesIO()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Rivers of Europe"
    first.placeholders[1].text_frame.text = "The Rhine flows north."
    first.notes_slide.notes_text_frame.text = "Say hello first."
    second = deck.slides.add_slide(deck.slide_layouts[5])
    second.shapes.title.text = "Lengths"
    table = second.shapes.add_table(2, 2, Inches(1), Inches(2), Inches(4), Inches(1)).table
    for place, text in enumerate(["River", "Length", "Rhine", "1,233 km"]):
        table.cell(place // 2, place % 2).text = text
    deck.save(file)
    return file.getvalue()


def workbook(make: Callable[[xlsxwriter.Workbook], object]) -> bytes:
    file = io.BytesIO()
    with xlsxwriter.Workbook(file) as book:
        make(book)
    return file.getvalue()


def sheets(book: xlsxwriter.Workbook) -> None:
    """Two sheets: one of values, one of formulas with their values."""
    rivers, sums = book.add_worksheet("Rivers"), book.add_worksheet("Sums")
    rivers.write_row(0, 0, ["River", "Length", "Share"])
    rivers.write_row(1, 0, ["Rhine | upper\nand lower", 1233])
    rivers.write(1, 2, 0.125, book.add_format({"num_format": "0.0%"}))
    sums.write_row(0, 0, ["Total", "Link"])
    sums.write_formula(1, 0, "=1000+233", None, 1233)
    sums.write_formula(1, 1, '=HYPERLINK("http://evil.example/","open")', None, "open")


CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" '
    'xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles><rootfile '
    'full-path="b.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)


def book(*chapters: str) -> bytes:
    """An EPUB book; the chapters are HTML."""
    names = [f"chapter{number}.xhtml" for number in range(len(chapters))]
    items = "".join(
        f'<item id="{name}" href="{name}" media-type="application/xhtml+xml"/>' for name in names
    )
    spine = "".join(f'<itemref idref="{name}"/>' for name in names)
    package = (
        '<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0" '
        'unique-identifier="i"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<dc:title>The Rivers</dc:title><dc:identifier id="i">x</dc:identifier></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    pages = {
        name: '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head>'
        f"<title>T</title></head><body>{chapter}</body></html>"
        for name, chapter in zip(names, chapters, strict=True)
    }
    start = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    return archive({**start, "b.opf": package, **pages})


def open_document() -> bytes:
    """An OpenDocument text: a heading and a paragraph."""
    office, text = (
        f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in ("office", "text")
    )
    content = (
        f'<office:document-content xmlns:office="{office}" xmlns:text="{text}"><office:body>'
        '<office:text><text:h text:outline-level="1">Rivers</text:h>'
        "<text:p>Water flows downhill.</text:p></office:text></office:body>"
        "</office:document-content>"
    )
    kind = "application/vnd.oasis.opendocument.text"
    return archive({"mimetype": kind, "content.xml": content})


def mail(
    body: str = "Water flows downhill.", html: str = "", **attachments: bytes | EmailMessage
) -> EmailMessage:
    """An e-mail; the first dot of an attachment's name is written __."""
    message = EmailMessage()
    message["Subject"] = "Grüße aus Köln"
    message["From"] = "Jörg <joerg@example.org>"
    message["To"] = "ann@example.org, bob@example.org"
    message["Date"] = "Mon, 02 Mar 2026 10:00:00 +0100"
    if body:
        message.set_content(body)
    if html:
        message.add_alternative(html, subtype="html")
    for name, content in attachments.items():
        if isinstance(content, EmailMessage):
            message.add_attachment(content)
        else:
            kind = ("image", "png") if name.endswith("png") else ("application", "octet-stream")
            message.add_attachment(
                content, maintype=kind[0], subtype=kind[1], filename=name.replace("__", ".", 1)
            )
    return message


def notebook(*cells: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "nbformat": 4,
            "nbformat_minor": 4,
            "metadata": {"language_info": {"name": "python"}},
            "cells": [{"metadata": {}, **cell} for cell in cells],
        }
    ).encode()


def code_cell(source: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        "cell_type": "code",
        "execution_count": 1,
        "source": source,
        "outputs": [
            {"metadata": {}, **output} if "data" in output else output for output in outputs
        ],
    }


RTF = rb"""{\rtf1\ansi\ansicpg1252{\fonttbl{\f0 Arial;}}{\stylesheet{\s1 heading 1;}}
\pard\s1\outlinelevel0 Rivers\par
\pard Gr\'fc\'dfe and \u26085?\u26412?.\par
\trowd\cellx1000\cellx2000\intbl River\cell Length\cell\row
\trowd\cellx1000\cellx2000\intbl Rhine\cell 1,233 km\cell\row
\pard {\pict\pngblip 89504e47}{\field{\*\fldinst HYPERLINK "http://x.example/"}{\fldrslt the map}}
\par}
"""
