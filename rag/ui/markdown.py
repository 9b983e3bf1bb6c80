"""Markdown of a model or a person, made harmless; marks put into it. Pure functions."""

import re
from collections.abc import Callable, Sequence

from rag.types import Citation

_CODE = (
    r"(?P<code>"
    r"^ {0,3}(?P<fence>`{3,}(?=[^`\n]*$)|~{3,})[^\n]*$"
    r".*?(?:(?P<closed>^ {0,3}(?P=fence)(?:(?<=`)`*|(?<=~)~*)[ \t]*$)|\Z)"
    r"|(?<![\\`])(?P<ticks>`+)(?!`)(?:[^\n]|\n(?![ \t]*$| {0,3}(?:`{3,}[^`\n]*$|~{3})))*?"
    r"(?<!`)(?P=ticks)(?!`)"
    r")"
)
_CODES = re.compile(_CODE, re.S | re.M)
_MARKUP = re.compile(
    rf"{_CODE}|(?P<tag><(?=[a-zA-Z/!?]))|(?P<picture>!+(?=\[))",
    re.S | re.M,
)
_SPECIAL = re.compile(r"([\\`*_\[\]>#|~!$])|(?P<tag><)|(?P<entity>&(?=#|\w+;))")


def as_text(markdown: str) -> str:
    """`markdown` with its tags shown instead of obeyed, and its pictures as links.

    It knows code by two rules, not by the whole of CommonMark: what is made to look like code and
    is none can pass. Where that would do harm, something else has to hold it back as well.
    """
    return _MARKUP.sub(lambda found: found["code"] or ("&lt;" if found["tag"] else ""), markdown)


def escaped(text: str) -> str:
    """`text` on one line, with nothing in it that Markdown would obey."""

    def escape(found: re.Match[str]) -> str:
        if found["tag"]:  # not by a backslash, which `as_text` would part from it
            return "&lt;"
        return "&amp;" if found["entity"] else f"\\{found[0]}"

    return _SPECIAL.sub(escape, " ".join(text.split()))


def closed(markdown: str) -> str:
    """`markdown` with the end of a code block that was cut off in the middle, so that what comes
    after it is no code."""
    for code in _CODES.finditer(markdown):
        if code["fence"] and code["closed"] is None:
            end = "" if markdown.endswith("\n") else "\n"
            return f"{markdown}{end}{code['fence']}"
    return markdown


def marked(markdown: str, citations: Sequence[Citation], render: Callable[[Citation], str]) -> str:
    """`markdown` with what `render` gives for each citation just after its sentence. Inside of
    code nothing is put: the mark comes after it, and after a code block on a line of its own.

    Nothing else is changed. Where the last code block may be cut off, close it first.
    """
    blocks = [code.span() for code in _CODES.finditer(markdown) if code["fence"]]
    spans = [code.span() for code in _CODES.finditer(markdown) if not code["fence"]]
    marks = []
    for citation in citations:
        at, mark = min(max(citation.end, 0), len(markdown)), render(citation)
        for start, end in blocks:
            if mark and start < at <= end:
                at, mark = end, f"\n{mark}"
        marks.append((next((end for start, end in spans if start < at < end), at), mark))
    pieces, last = [], 0
    for at, mark in sorted(marks, key=lambda each: each[0]):
        pieces += [markdown[last:at], mark]
        last = at
    return "".join(pieces) + markdown[last:]
