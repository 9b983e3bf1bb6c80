"""Markdown of a model -> HTML that does nothing: its blocks, with a mark at each checked sentence.

No tag, handler or picture comes out that the text asks for: tags are shown as text, a picture
becomes a link, and a link shows where it leads. Pure functions, no state.
"""

import html
import re
from collections.abc import Callable, Sequence
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from rag.types import Citation

# Unicode keeps these two for a program's own use; the letter after them is the citation's number.
BEGIN, END = "\ufdd0", "\ufdd1"
_FIRST = 0xE000
_SIGNS = re.compile(f"([{BEGIN}{END}])([\ue000-\uf8ff])")
_CLOSING = re.compile(r"(\s*</(?!a>|button>)[a-z0-9]+>)+\s*\Z")
_SCHEMES = ("http://", "https://", "mailto:")

Mark = Callable[[int, Citation], str]
"""The HTML of the mark behind a sentence: the number of its citation, and the citation."""


def blocks(
    text: str, citations: Sequence[Citation] = (), mark: Mark | None = None, key: str = ""
) -> list[str]:
    """The paragraphs, lists, tables of `text` as HTML, each alone: growing text changes the last.

    A checked sentence becomes `<span class="sentence" data-cite="KEY:NUMBER">`, with its mark
    behind it.
    """
    env: dict[str, Any] = {"citations": citations, "mark": mark, "key": key, "inside": None}
    tokens = _MARKDOWN.parse(_with_signs(text, citations if mark else ()), env)
    found, begin, depth = [], 0, 0
    for end, token in enumerate(tokens, start=1):
        depth += token.nesting
        if depth == 0:
            block = _MARKDOWN.renderer.render(tokens[begin:end], _MARKDOWN.options, env)
            found.append(_SIGNS.sub("", block))
            begin = end
    return found


def left_open(block: str) -> str:
    """A block that still grows without the tags that end it, which a browser closes by itself: then
    only what is added has to be sent."""
    return _CLOSING.sub("", block)


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

    def text(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        parts = _SIGNS.split(tokens[idx].content)
        out = [_sentence(parts[0], env)]
        for sign, letter, rest in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            number = ord(letter) - _FIRST
            if sign == BEGIN:
                env["inside"] = number
            else:
                env["inside"] = None
                out.append(env["mark"](number, env["citations"][number]))
            out.append(_sentence(rest, env))
        return "".join(out)

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
        return f"{html.escape(_SIGNS.sub('', tokens[idx].content))} {_address(href)}"


def _sentence(text: str, env: Any) -> str:
    shown = html.escape(text)
    if env["inside"] is None or not text:
        return shown
    return f'<span class="sentence" data-cite="{env["key"]}:{env["inside"]}">{shown}</span>'


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
