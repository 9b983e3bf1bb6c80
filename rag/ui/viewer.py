"""A source in its place -> the HTML of the panel beside the answer. Pure functions, no state.

Everything from a document is escaped here: it is text, never HTML.
"""

import base64
import html
import re
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import PurePosixPath

from rag.documents.loading import CODE
from rag.documents.pages import Box
from rag.types import NodeWithScore
from rag.ui import buttons
from rag.ui.language import Say, english
from rag.ui.views import HERE, PageView, Place, TextView

MORE = 4
"""Passages that "Earlier text" adds."""
MONOSPACED = CODE | {".json", ".jsonl"}


def source(
    view: PageView | TextView,
    hit: NodeWithScore,
    number: int,
    *,
    key: str,
    cite: str = "",
    say: Say = english,
) -> str:
    """The panel: the source's head, and its page or text.

    `number` is what the source is called in the answer. `key` comes back in the buttons' data-key,
    from which `asked` reads what is to be shown next. `cite` marks what belongs to a mark in the
    answer: all of it has it as data-cite.
    """
    shown = _page(view, hit, key, cite, say) if isinstance(view, PageView) else ""
    if isinstance(view, TextView):
        shown = _text(view, hit, key, cite, say)
    told = html.escape(say(view.note))
    note = f'<p class="viewer-note" role="status">{told}</p>' if told else ""
    label = html.escape(say("Source {number}", number=number))
    return (
        f'<section class="viewer" aria-label="{label}">'
        f"{_head(view, hit, number, say)}{note}{shown}</section>"
    )


def asked(key: str) -> tuple[str, Place]:
    """What a pressed button of the panel is about: the `key` it was given, and what to show."""
    found = re.fullmatch(r"(.*) (\d{1,6}) (\d{1,6}) (\d{1,6}) ([01])", key, re.S)
    if not found:
        return key, HERE
    page, earlier, later, as_text = map(int, found.groups()[1:])
    return found[1], Place(page, earlier, later, bool(as_text))


def _head(view: PageView | TextView, hit: NodeWithScore, number: int, say: Say) -> str:
    node = hit.node
    page = view.home if isinstance(view, PageView) else node.page
    places = [say("page {page}", page=str(page))] if page else []
    if node.headings:
        places.append(" › ".join(node.headings))
    close = button("×", "close", title=say("Close the source"))
    return (
        f'<header class="viewer-head"><span class="number">{number}</span>'
        f'<span class="where"><b dir="auto">{html.escape(node.file_name)}</b>'
        f'<small dir="auto">{html.escape(" · ".join(places))}</small>'
        f"<small>{html.escape(_why(hit, say))}</small></span>{close}</header>"
    )


button = partial(buttons.button, on="")

WAYS = {
    (): "",
    ("meaning",): "found by its meaning",
    ("words",): "found by its words",
    ("meaning", "words"): "found by its meaning and its words",
}


def _why(hit: NodeWithScore, say: Say) -> str:
    """How it was found, and how well it fits."""
    way = WAYS.get(hit.found_by, "")
    parts = [say(way)] if way else []
    if hit.score is not None:
        parts.append(say("score {score}", score=Decimal(f"{max(hit.score, 0):.2f}")))
    return " · ".join(parts)


def _page(view: PageView, hit: NodeWithScore, key: str, cite: str, say: Say) -> str:
    picture, page, pages = view.picture, view.page, view.pages
    described = say("Page {page} of {file}", page=str(page), file=hit.node.file_name)
    reached = say("Page {page} of {pages}", page=str(page), pages=str(pages))
    boxes = "".join(_box(box, cite) for box in picture.boxes)

    def turn(to: int, text: str, label: str) -> str:
        place = replace(view.place, page=to)
        out = not 1 <= to <= pages
        return button(text, "view", _key(key, place), title=label, disabled=out)

    buttons = [
        turn(page - 1, "‹", say("Previous page")),
        f"<span>{html.escape(reached)}</span>",
        turn(page + 1, "›", say("Next page")),
    ]
    if page != view.home:
        buttons.append(turn(view.home, say("Back to the passage"), ""))
    as_text = _key(key, replace(view.place, as_text=True))
    buttons.append(button(say("Show as text"), "view", as_text))
    data = base64.b64encode(picture.data).decode()
    return (
        f'<p class="viewer-turn">{"".join(buttons)}</p>'
        f'<figure class="sheet"><img src="data:image/webp;base64,{data}" '
        f'width="{picture.width}" height="{picture.height}" alt="{html.escape(described)}">'
        f"{boxes}</figure>"
        f'<blockquote class="viewer-quote" dir="auto" data-cite="{html.escape(cite)}">'
        f"{html.escape(_unwrapped(view.marked))}</blockquote>"
    )


def _box(box: Box, cite: str) -> str:
    left, top, right, bottom = (100 * side for side in box)
    return (
        f'<span class="spot" data-cite="{html.escape(cite)}" style="left:{left:.2f}%;'
        f'top:{top:.2f}%;width:{right - left:.2f}%;height:{bottom - top:.2f}%"></span>'
    )


def _text(view: TextView, hit: NodeWithScore, key: str, cite: str, say: Say) -> str:
    place, node = view.place, hit.node
    parts = (view.before, view.marked, view.after)
    before, marked, after = map(html.escape, map(_unwrapped, parts) if node.page else parts)
    earlier = later = pages = ""
    if view.has_earlier:
        more = _key(key, replace(place, earlier=place.earlier + MORE))
        earlier = button(say("Earlier text"), "view", more)
    if view.has_later:
        more = _key(key, replace(place, later=place.later + MORE))
        later = button(say("Later text"), "view", more)
    if view.page:
        page = _key(key, replace(place, as_text=False, page=view.page))
        pages = button(say("Show the page"), "view", page)
    code = PurePosixPath(node.file_name).suffix.lower() in MONOSPACED
    label = html.escape(say("Text of {file}", file=node.file_name))
    return (
        f'<p class="viewer-turn">{earlier}{pages}</p>'
        f'<div class="viewer-text{" code" if code else ""}" dir="{"ltr" if code else "auto"}" '
        f'role="region" tabindex="0" aria-label="{label}">{before}'
        f'<mark class="spot" data-cite="{html.escape(cite)}">{marked}</mark>{after}</div>'
        f'<p class="viewer-turn">{later}</p>'
    )


def _unwrapped(text: str) -> str:
    """A PDF's text: its lines end where its page did, which is narrower or wider than this one."""
    return re.sub(r"(?<!\n)\n(?!\n)", " ", text)


def _key(key: str, place: Place) -> str:
    return f"{key} {place.page} {place.earlier} {place.later} {int(place.as_text)}"
