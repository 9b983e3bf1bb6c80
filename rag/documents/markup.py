"""HTML -> Markdown: headings, lists and tables; no scripts, no images, no addresses.

Of a page the main text is taken, without what surrounds it. What surrounds it is told by the
elements and roles that say so, then by names that most sites use; what holds a good part of the
text is never left out for its name alone. Where too little would be left, the page stays whole.
"""

import re
from typing import TYPE_CHECKING

from rag.documents.text import decode, readable
from rag.types import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

UNSEEN = ("script", "style", "template", "noscript", "head", "img", "svg")
CONTROLS = ("button", "input", "select", "textarea", "datalist", "iframe", "audio", "video")
AROUND = ("nav", "dialog", "search", "menu")
AROUND_UNLESS_INSIDE = ("header", "footer", "aside")
"""Around the text, unless they are a part of it: an article has a header and notes of its own."""
ROLES = frozenset(
    ("navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog")
)
INSIDE = ("main", "article", "section", "blockquote")
NAMED = re.compile(
    r"cookie|consent|gdpr|sidebar|navbar|navigation|navbox|breadcrumb|newsletter|advert|paywall"
    r"|sponsor|headerlink|editsection|skip-?link|masthead|promo\b"
    r"|(?<![a-z])(nav|menu|toc|footer|topbar|ads?|share|sharing|social|related|banner|popup|modal"
    r"|pagination|pager|subscribe)(?![a-z])",
    re.I,
)
"""Classes and ids of what is around the text."""
NAMED_PART = 0.3
"""Part of a page's text from which on a name is not believed: on a restaurant's page "menu" is
the text."""
WRAPPER_PART = 0.5
"""Part of a page's text from which on an element holds the page, whatever its name."""
MAIN_PART = 0.3
"""Part of a page's text that its <main> has to hold to be taken for it."""
ARTICLE_PART = 0.6
"""The same of a single <article>."""
LITTLE = 0.1
"""Part of a page's text below which, as LITTLE_TEXT, what was found is not believed."""
LITTLE_TEXT = 200
"""Characters."""


def load_html(name: str, data: bytes) -> Document:
    """The main text of a page; its title is in the metadata, as `title`."""
    html = decode(name, data)
    soup = _soup(html)
    title = soup.title.get_text(" ", strip=True) if soup.title else ""
    _drop(soup, UNSEEN)
    everything = _length(soup)
    parts = _main(soup)
    if sum(map(_length, parts)) < min(LITTLE_TEXT, LITTLE * everything):
        text = markdown(html)
    else:
        text = "\n\n".join(filter(None, map(_markdown, parts)))
    metadata = {"file_name": name} | ({"title": readable(title)} if title else {})
    return Document(text, metadata)


def markdown(html: str) -> str:
    """All text of `html` as Markdown."""
    soup = _soup(html)
    _drop(soup, UNSEEN)
    return _markdown(soup)


def _soup(html: str) -> "BeautifulSoup":
    from bs4 import BeautifulSoup

    # Python's own parser nests what has no end tag: 400 lines of <li> were too deep for it.
    return BeautifulSoup(html, "lxml")


def _markdown(element: "Tag") -> str:
    from markdownify import ATX, MarkdownConverter

    converter = MarkdownConverter(
        heading_style=ATX,
        strip=["a"],
        table_infer_header=True,
        escape_asterisks=False,
        escape_underscores=False,
    )
    text = converter.convert_soup(element)
    return readable(re.sub(r"\n{3,}", "\n\n", text).strip())


def _main(soup: "BeautifulSoup") -> "list[Tag]":
    """The elements that hold the main text, without what is around it, which is lost."""
    _drop(soup, CONTROLS)
    for element in soup.find_all(True):
        if not element.decomposed and _is_around(element) and not _holds_page(element):
            element.decompose()
    _drop_named(soup)
    total = _length(soup)
    mains = soup.select("main, [role=main]")
    articles = soup.select("article")
    chosen: list[Tag] = [soup]
    for found, part in ((mains, MAIN_PART), (articles, ARTICLE_PART)):
        outer = [element for element in found if not _is_inside(element, found)]
        # Of several articles each may be an answer, a comment or a teaser.
        if (found is mains or len(outer) == 1) and sum(map(_length, outer)) > part * total:
            chosen = outer
            break
    titles = soup("h1")
    if len(titles) == 1 and not any(element.h1 for element in chosen):
        chosen = [*titles, *chosen]
    return chosen


def _is_around(element: "Tag") -> bool:
    """Whether `element` says itself that it is no part of the text, or not to be seen."""
    if element.name in ("html", "body"):
        return False
    style = str(element.get("style") or "").replace(" ", "").lower()
    return (
        element.name in AROUND
        or (element.name in AROUND_UNLESS_INSIDE and not element.find_parent(INSIDE))
        or element.get("role") in ROLES
        or element.get("aria-hidden") == "true"
        or (element.has_attr("hidden") and element["hidden"] != "until-found")
        or "display:none" in style
    )


def _holds_page(element: "Tag") -> bool:
    return element.name != "nav" and bool(element.find(("main", "h1")))


def _drop_named(soup: "BeautifulSoup") -> None:
    """Drop what is named like something around the text, unless the text itself is so named."""
    total = _length(soup)
    named: dict[str, list[Tag]] = {}
    taken: set[int] = set()
    for element in soup.find_all(True):
        names = f"{' '.join(element.get_attribute_list('class', ''))} {element.get('id', '')}"
        word = NAMED.search(names)
        if (
            not word
            or element.name in ("html", "body", "main", "article")
            or any(id(parent) in taken for parent in element.parents)
            or element.find(("main", "article", "h1"))
            or _length(element) > WRAPPER_PART * total
        ):
            continue
        taken.add(id(element))
        named.setdefault(word[0].lower(), []).append(element)
    for elements in named.values():
        if sum(map(_length, elements)) < NAMED_PART * total:
            for element in elements:
                element.decompose()


def _is_inside(element: "Tag", others: "list[Tag]") -> bool:
    ids = {id(other) for other in others}
    return any(id(parent) in ids for parent in element.parents)


def _drop(soup: "BeautifulSoup", names: tuple[str, ...]) -> None:
    for element in soup(names):
        element.decompose()


def _length(element: "Tag") -> int:
    """Characters of text in `element`, but for space around it."""
    return sum(len(text) for text in element.stripped_strings)
