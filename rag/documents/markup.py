"""HTML -> Markdown: headings, lists and tables; no scripts, no images, no addresses.

Of a page the main text is taken, without what surrounds it. What surrounds it is told by the
elements and roles that say so, then by names that most sites use; what holds a good part of the
text is never left out for its name alone. Where too little would be left, the page stays whole.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from rag.documents.text import decode, readable
from rag.types import Document

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

# Not the head itself: where <body> is not said, lxml takes it to go on to the end.
UNSEEN = ("script", "style", "template", "noscript", "meta", "link", "base", "img", "svg")
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
MAX_TITLE = 200
"""Characters: each passage of the page carries its title with it."""
LITTLE = 0.1
"""Part of a page's text below which, as LITTLE_TEXT, what was found is not believed."""
LITTLE_TEXT = 200
"""Characters."""


def load_html(name: str, data: bytes) -> Document:
    """The main text of a page; its title is in the metadata, as `title`."""
    html = decode(name, data)
    soup, title = _parse(html)
    everything = sum(map(len, soup.stripped_strings))
    parts = _main(soup)
    found = sum(len(text) for part in parts for text in part.stripped_strings)
    if found < min(LITTLE_TEXT, LITTLE * everything):
        text = markdown(html)
    else:
        text = "\n\n".join(filter(None, map(_markdown, parts)))
    metadata = {"file_name": name} | ({"title": title} if title else {})
    return Document(text, metadata)


def markdown(html: str) -> str:
    """All text of `html` as Markdown."""
    return _markdown(_parse(html)[0])


def _parse(html: str) -> "tuple[BeautifulSoup, str]":
    """What is to be seen of a page, and its title."""
    from bs4 import BeautifulSoup

    # Python's own parser nests what has no end tag: 400 lines of <li> were too deep for it.
    soup = BeautifulSoup(html, "lxml")
    _drop(soup, UNSEEN)
    title = readable(soup.title.get_text()) if soup.title else ""
    _drop(soup, ("title",))
    return soup, " ".join(title.split())[:MAX_TITLE]


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
    """The elements that hold the main text, without what is around it, which is lost.

    Every step takes time in proportion to the page, however deep it is nested.
    """
    _drop(soup, CONTROLS)
    _drop_around(soup)
    _drop_named(soup)
    lengths = _sums(soup, _own_length)
    total = lengths[id(soup)]
    chosen: list[Tag] = [soup]
    mains = _outermost(soup, lambda element: "main" in (element.name, element.get("role")))
    articles = _outermost(soup, lambda element: element.name == "article")
    # Of several articles each may be an answer, a comment or a teaser.
    for found, part in ((mains, MAIN_PART), (articles[:1] * (len(articles) == 1), ARTICLE_PART)):
        if sum(lengths[id(element)] for element in found) > part * total:
            chosen = found
            break
    titles = soup("h1")
    if len(titles) == 1 and not any(element.h1 for element in chosen):
        chosen = [*titles, *chosen]
    return chosen


def _drop_around(soup: "BeautifulSoup") -> None:
    """Drop what says itself that it is no part of the text, or that it is not to be seen."""
    inside: set[int] = set()
    for element in soup.find_all(True):
        if element.name in INSIDE or element.get("role") == "main" or id(element.parent) in inside:
            inside.add(id(element))
    pages = _sums(soup, lambda element: element.name in ("main", "h1"))

    def is_around(element: "Tag") -> bool:
        if element.name in ("html", "body") or (pages[id(element)] and element.name != "nav"):
            return False
        style = str(element.get("style") or "").replace(" ", "").lower()
        return (
            element.name in AROUND
            or (element.name in AROUND_UNLESS_INSIDE and id(element) not in inside)
            or element.get("role") in ROLES
            or element.get("aria-hidden") == "true"
            or element.get("hidden", "until-found") != "until-found"
            or "display:none" in style
        )

    for element in _outermost(soup, is_around):
        element.decompose()


def _drop_named(soup: "BeautifulSoup") -> None:
    """Drop what is named like something around the text, unless the text itself is so named."""
    lengths = _sums(soup, _own_length)
    pages = _sums(soup, lambda element: element.name in ("html", "body", "main", "article", "h1"))

    def word(element: "Tag") -> str:
        classes = element.get("class") or ()
        names = [*((classes,) if isinstance(classes, str) else classes), element.get("id") or ""]
        found = NAMED.search(" ".join(map(str, names)))
        return found[0].lower() if found else ""

    def is_named(element: "Tag") -> bool:
        wrapper = lengths[id(element)] > WRAPPER_PART * lengths[id(soup)]
        return not (wrapper or pages[id(element)]) and bool(word(element))

    named: dict[str, list[Tag]] = {}
    for element in _outermost(soup, is_named):
        named.setdefault(word(element), []).append(element)
    for elements in named.values():
        if sum(lengths[id(element)] for element in elements) < NAMED_PART * lengths[id(soup)]:
            for element in elements:
                element.decompose()


def _outermost(soup: "BeautifulSoup", wanted: "Callable[[Tag], bool]") -> "list[Tag]":
    """The elements that are wanted and in no other that is, in their order."""
    found = []
    inner = 0
    for element in soup.find_all(True):
        if inner:
            inner -= 1
        elif wanted(element):
            inner = len(element.find_all(True))
            found.append(element)
    return found


def _sums(soup: "BeautifulSoup", count: "Callable[[Tag], int]") -> dict[int, int]:
    """By the id of each element: the sum of `count` over it and all elements in it."""
    elements = [soup, *soup.find_all(True)]
    sums = {id(element): count(element) for element in elements}
    for element in reversed(elements[1:]):  # what is in an element comes behind it
        sums[id(element.parent)] += sums[id(element)]
    return sums


def _own_length(element: "Tag") -> int:
    """Characters of text in `element` and no other element, but for space around it."""
    from bs4.element import NavigableString

    # Comments are of a class below it.
    return sum(len(text.strip()) for text in element.children if type(text) is NavigableString)


def _drop(soup: "BeautifulSoup", names: tuple[str, ...]) -> None:
    for element in soup(names):
        element.decompose()
