"""A passage in its place: its page as a picture, or the text around it, with a sentence marked.

Knows nothing of gradio or HTML, nor of sessions: what may be looked at is what it is given.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rag.documents.pages import Picture, render_isolated
from rag.errors import DocumentError
from rag.index.store import ChromaStore, StoredDocument
from rag.types import Node

GONE = "This document is not there any more. This is the passage as it was found."
CHANGED = "This document has changed since. This is the passage as it was found."
NO_PAGES = "Its pages are not kept here. This is their text."
NOT_FOUND = "The sentence could not be found on this page; it may be on the one before or after."
WINDOW = 32
"""Passages that are read at once."""
MOST = 400
"""Passages before and after the one that was found that are shown, at most."""


@dataclass(frozen=True)
class Place:
    """What of a document is looked at."""

    page: int = 0
    """0 is the one that the sentence begins on."""
    earlier: int = 1
    """Passages before the one that was found, where text is shown."""
    later: int = 1
    as_text: bool = False
    """The text, even where there is a picture."""


HERE = Place()


@dataclass(frozen=True)
class TextView:
    """Text with a part of it marked."""

    before: str
    marked: str
    after: str
    place: Place = HERE
    has_earlier: bool = False
    has_later: bool = False
    page: int = 0
    """The page that could be shown instead; 0 where none can."""
    note: str = ""
    """What the person should know; one of this module's texts, or what an error says."""


@dataclass(frozen=True)
class PageView:
    """A page of a PDF; `picture.boxes` is where the sentence, or a part of it, stands on it."""

    picture: Picture
    page: int
    pages: int
    home: int
    """The page that the sentence begins on."""
    marked: str
    """The sentence."""
    place: Place = HERE
    note: str = ""


Shelf = tuple[ChromaStore, Callable[[StoredDocument], Path | None]]
"""An index, and where the file is that a document in it is from, if that is a PDF."""


@dataclass(frozen=True)
class Drawing:
    """A page that is still to be drawn."""

    file: Path
    page: int
    pages: int
    home: int
    marked: str
    text: str
    """What of the sentence is on this page."""
    lead: str
    """What is on this page before it."""
    instead: TextView
    """What is shown where it cannot be drawn."""
    place: Place


def locate(
    node: Node, begin: int, end: int, place: Place, shelves: Sequence[Shelf]
) -> Drawing | TextView:
    """Where in which index the text of `node` from `begin` to `end` is."""
    changed = False
    for store, file_of in shelves:
        record = store.searchable(node.document_id)
        if not record:
            continue
        around = _around(store, node, place)
        if _text(around, node.start, node.end) != node.text:
            changed = True
            continue
        text = _text_view(around, node, begin, end, place, record)
        if not record.pages:
            return text
        first, last = node.start + begin, node.start + max(end, begin + 1) - 1
        home = _page_at(around, first) or 1
        page = min(max(place.page or home, 1), record.pages)
        file = file_of(record)
        if not file:
            return replace(text, note=NO_PAGES)
        text = replace(text, page=page)
        if place.as_text:
            return text
        on_page = [each for each in around if each.page == page]
        lead = sentence = ""
        if on_page and home <= page <= (_page_at(around, last) or home):
            start, stop = on_page[0].start, on_page[-1].end
            sentence = _text(around, max(first, start), min(last + 1, stop))
            lead = _text(around, start, max(first, start))
        return Drawing(
            file, page, record.pages, home, node.text[begin:end], sentence, lead, text, place
        )
    return as_kept(node, begin, end, CHANGED if changed else GONE)


def draw(drawing: Drawing) -> PageView | TextView:
    """The page itself; its text with a note where it cannot be drawn."""
    text, page = drawing.text, drawing.page
    try:
        picture = render_isolated(drawing.file, drawing.file.name, page, text, drawing.lead)
    except DocumentError as error:
        note = error.reason[:1].upper() + error.reason[1:]
        return replace(drawing.instead, page=0, note=note)
    note = NOT_FOUND if text.strip() and not picture.boxes else ""
    return PageView(picture, page, drawing.pages, drawing.home, drawing.marked, drawing.place, note)


def as_kept(node: Node, begin: int, end: int, note: str) -> TextView:
    """A passage alone, as it is kept in a conversation."""
    text = node.text
    return TextView(text[:begin], text[begin:end], text[end:], note=note)


def _around(store: ChromaStore, node: Node, place: Place) -> list[Node]:
    """The passages that `node` is of, those of its page before it, and those that are wanted
    before and after."""
    back = ahead = WINDOW
    while True:
        first = max(node.ordinal - max(back, min(place.earlier, MOST)), 0)
        last = node.ordinal + max(ahead, min(place.later, MOST) + WINDOW)
        nodes = store.nodes(node.document_id, first, last)
        if not nodes:
            return []
        begins = first == 0 or nodes[0].page is None or nodes[0].page != _page_at(nodes, node.start)
        ends = nodes[-1].ordinal < last or nodes[-1].end >= node.end
        if begins and ends:
            return nodes
        back, ahead = back * (1 if begins else 4), ahead * (1 if ends else 4)


def _text_view(
    around: Sequence[Node], node: Node, begin: int, end: int, place: Place, record: StoredDocument
) -> TextView:
    within = [n for n, each in enumerate(around) if each.start < node.end and each.end > node.start]
    first = max(within[0] - min(max(place.earlier, 0), MOST), 0)
    last = min(within[-1] + min(max(place.later, 0), MOST), len(around) - 1)
    start, stop = around[first].start, around[last].end
    return TextView(
        _text(around, start, node.start + begin),
        node.text[begin:end],
        _text(around, node.start + end, stop),
        place,
        has_earlier=around[first].ordinal > 0,
        has_later=around[last].ordinal < record.passages - 1,
    )


def _text(nodes: Sequence[Node], start: int, end: int) -> str:
    """The text of the document from `start` to `end`, as far as `nodes` have it."""
    if not nodes:
        return ""
    origin = nodes[0].start
    text = nodes[0].text + "".join(each.before + each.text for each in nodes[1:])
    return text[max(start - origin, 0) : max(end - origin, 0)]


def _page_at(nodes: Sequence[Node], offset: int) -> int | None:
    """The page of the passage that begins last before `offset`, or there."""
    pages = [each.page for each in nodes if each.start <= offset]
    return pages[-1] if pages else None
