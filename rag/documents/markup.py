"""HTML -> Markdown: headings, lists and tables; no scripts, no images, no addresses."""

import re

from rag.documents.text import decode, readable
from rag.types import Document


def load_html(name: str, data: bytes) -> Document:
    return Document(markdown(decode(name, data)), {"file_name": name})


def markdown(html: str) -> str:
    """The text of `html` as Markdown."""
    from bs4 import BeautifulSoup
    from markdownify import ATX, MarkdownConverter

    # Python's own parser nests what has no end tag: 400 lines of <li> were too deep for it.
    soup = BeautifulSoup(html, "lxml")
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
    return readable(re.sub(r"\n{3,}", "\n\n", text).strip())
