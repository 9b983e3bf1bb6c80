"""Build the two sample documents that are not written by hand.

`sources/models.md` becomes `samples/models.docx` (python-docx) and
`sources/how-streaming-works.html` becomes `samples/how-streaming-works.pdf`
(printed by Chromium through Playwright). The other samples are their own
sources. Run it after a change to a source:

    pip install python-docx playwright
    python data/build_samples.py

The system's Chromium is used where there is one, Playwright's own otherwise.
The PDF is set in Noto Sans (Debian's fonts-noto-core), in another font where that is not installed.
"""

import re
import shutil
from pathlib import Path

import docx
from docx.document import Document
from docx.text.paragraph import Paragraph
from playwright.sync_api import sync_playwright

DATA = Path(__file__).resolve().parent
CHROMIUM_ARGS = [
    "--no-sandbox",  # Chromium does not start as root, as in a container, with it
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


def write_text(paragraph: Paragraph, text: str) -> None:
    """Add text to a paragraph, with what stands in backticks set as code."""
    for position, part in enumerate(text.split("`")):
        run = paragraph.add_run(part)
        if position % 2:
            run.font.name = "Courier New"


def write_table(document: Document, lines: list[str]) -> None:
    """Add a Markdown table: a header line, a ruler line, and the rows."""
    header, _ruler, *rows = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines
    )
    table = document.add_table(rows=0, cols=len(header), style="Light Grid Accent 1")
    for texts in (header, *rows):
        for cell, text in zip(table.add_row().cells, texts, strict=True):
            write_text(cell.paragraphs[0], text)


def build_docx(source: Path, target: Path) -> None:
    """Turn Markdown of headings, paragraphs and tables, a blank line between them, into DOCX."""
    document = docx.Document()
    for block in source.read_text(encoding="utf-8").strip().split("\n\n"):
        if heading := re.fullmatch(r"(#+) (.+)", block):
            document.add_heading(heading[2], level=len(heading[1]))
        elif block.startswith("|"):
            write_table(document, block.splitlines())
        else:
            write_text(document.add_paragraph(), block)
    properties = document.core_properties
    properties.title = document.paragraphs[0].text
    properties.author = "Rivulet"
    properties.comments = ""
    document.save(str(target))


def build_pdf(source: Path, target: Path) -> None:
    """Print an HTML page to PDF; the page's own style sets the paper and the margins."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=CHROMIUM_ARGS
        )
        page = browser.new_page()
        page.goto(source.as_uri())
        page.pdf(path=target, prefer_css_page_size=True, tagged=True, outline=True)
        browser.close()


if __name__ == "__main__":
    build_docx(DATA / "sources" / "models.md", DATA / "samples" / "models.docx")
    build_pdf(
        DATA / "sources" / "how-streaming-works.html", DATA / "samples" / "how-streaming-works.pdf"
    )
