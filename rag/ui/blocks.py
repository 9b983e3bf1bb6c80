"""Markdown of a model -> HTML that does nothing: its blocks, and where its sentences are in them.

No tag, handler or picture comes out that the text asks for: tags are shown as text, a picture
becomes a link, and a link shows where it leads. Pure functions, no state.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from rag.types import Citation

# Unicode keeps these two for a program's own use; the letter after them is the citation's number.
BEGIN, END = "\ufdd0", "\ufdd1"
_FIRST = 0xE000
_SIGNS = re.compile(f"([{BEGIN}{END}])([\ue000-\uf8ff])")
_TAG = re.compile("<[^>]*>")
_CLOSING = re.compile(r"</(?!a>)[a-z0-9]+>\Z")
_SCHEMES = ("http://", "https://", "mailto:")


@dataclass(frozen=True)
class Sentence:
    """Where a checked sentence stands in the text of its block, counted as JavaScript does: in
    units of UTF-16."""

    number: int
    """Of its citation."""
    start: int
    end: int


@dataclass(frozen=True)
class Block:
    """A paragraph, a list, a table."""

    html: str
    sentences: tuple[Sentence, ...]
    """Those that end in it."""


def blocks(text: str, citations: Sequence[Citation] = ()) -> list[Block]:
    """The paragraphs, lists, tables of `text`, each alone: growing text changes the last."""
    env: dict[str, Any] = {}
    tokens = _MARKDOWN.parse(_with_signs(text, citations), env)
    found, begin, depth = [], 0, 0
    for end, token in enumerate(tokens, start=1):
        depth += token.nesting
        if depth == 0:
            found.append(
                _block(_MARKDOWN.renderer.render(tokens[begin:end], _MARKDOWN.options, env))
            )
            begin = end
    return found


def _block(markup: str) -> Block:
    """`markup` without its signs, and where they stood in its text."""
    begins: dict[int, int] = {}
    sentences = []
    text, *rest = _SIGNS.split(html.unescape(_TAG.sub("", markup)))
    place = _units(text)
    for sign, letter, text in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        number = ord(letter) - _FIRST
        if sign == BEGIN:
            begins[number] = place
        else:  # one that began in a block before has no beginning here
            sentences.append(Sentence(number, begins.get(number, 0), place))
        place += _units(text)
    return Block(_SIGNS.sub("", markup), tuple(sentences))


def _units(text: str) -> int:
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def left_open(block: str) -> str:
    """A block without the tags that end it, which a browser closes by itself: so only what is added
    to one that grows has to be sent, and nothing when it is whole."""
    block = block.rstrip()
    while end := _CLOSING.search(block):
        block = block[: end.start()].rstrip()
    return block


def _with_signs(text: str, citations: Sequence[Citation]) -> str:
    """`text` with a sign where a checked sentence begins and ends. Its own are replaced."""
    text = text.replace(BEGIN, "\ufffd").replace(END, "\ufffd")
    places = [
        (offset, sign + chr(_FIRST + number))
        for number, citation in enumerate(citations[: 0xF8FF - _FIRST])
        for offset, sign in ((citation.start, BEGIN), (citation.end, END))
        if 0 <= citation.start < citation.end <= len(text)
    ]
    for offset, sign in sorted(places, key=lambda place: place[0], reverse=True):
        text = text[:offset] + sign + text[offset:]
    return text


class _Markdown(MarkdownIt):
    def normalizeLink(self, url: str) -> str:  # noqa: N802
        """Without signs, which would be written in it as `%EF%B7%90` and the like."""
        return super().normalizeLink(_SIGNS.sub("", url))


class _Renderer(RendererHTML):
    """Renders what the page allows; markdown-it calls a method for each type of token."""

    def link_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        href = str(tokens[idx].attrGet("href") or "")
        env.setdefault("links", []).append(href)
        return _anchor(href)

    def link_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        href = env["links"].pop()
        opened = idx - 2 >= 0 and tokens[idx - 2].type == "link_open"
        shown = _SIGNS.sub("", tokens[idx - 1].content) if opened else ""
        close = "</a>" if href.startswith(_SCHEMES) else ""
        # An address that is its own text needs no second one.
        return close if shown == href else f"{close} {_address(href)}"

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        href = str(tokens[idx].attrGet("src") or "")
        return f"{html.escape(tokens[idx].content)} {_address(href)}"


def _anchor(href: str) -> str:
    if not href.startswith(_SCHEMES):
        return ""
    return f'<a href="{html.escape(href)}" target="_blank" rel="noopener noreferrer nofollow">'


def _address(href: str) -> str:
    return f'<span class="address" dir="ltr">({html.escape(href)})</span>'


_MARKDOWN = (
    _Markdown("commonmark", {"html": False, "breaks": True}, renderer_cls=_Renderer)
    .enable(["table", "strikethrough"])
    .disable(["reference"])
)
