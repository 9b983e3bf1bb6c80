"""Filters of streamed text: what a piece holds of them is passed on as soon as it is decided.

Each takes text with `feed`, cut into pieces anywhere, and gives with `flush` what it still held
back at the end. They know nothing of models.
"""

import re
import string
from collections.abc import Sequence

from rag.types import Reasoning

OPENINGS = ("<think>", "<thinking>", "<reasoning>", "<thought>")
"""The tags between which, and their closing ones, models write their reasoning."""
_NAMES = ("source", "passage", "document", "doc", "reference", "ref", "citation", "context", "see")
_NAMED = rf"(?:(?:{'|'.join(_NAMES)})s?\b\.?[ :]*)"
_NUMBERS = rf"#?\d{{1,2}}(?:(?: ?[,;&–-] ?| and |, and )(?:{_NAMED}?#?\d{{1,2}}))*"
_MARKER = re.compile(
    rf"\[\^?{_NAMED}?{_NUMBERS} ?\]|\({_NAMED}{{1,2}}{_NUMBERS} ?\)"
    rf"|【{_NAMED}?{_NUMBERS}(?::\d+)?(?:†[^】\n]{{0,30}})?】",
    re.I,
)
"""[1], [2, 3], [Source 1], (see source 2), 【1】, 【4:0†source】. A bare (1) is no marker."""
_GROWING = re.compile(r"(?!\([\s\d#])(?!.*\d{3})[\[(【](?:[\w .,;:&#^–-]*$|[^】]*†[^】]*$)")
"""What may become one by further text, but for its words."""
_LONGEST = 60
"""Characters of one at most."""
_POINT = re.compile(r"`+|~+|\n|[ \t]*[\[(【]")
"""Where something has to be looked at: code, lines, and brackets with the space before them."""
# `str.lower` would change the length of some texts.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def stop_sequences(stop: str | Sequence[str]) -> list[str]:
    """What is meant by `stop`: a text is one sequence, and an empty one is none."""
    return [sequence for sequence in ([stop] if isinstance(stop, str) else stop) if sequence]


class StopSequences:
    """Passes the text before the first occurrence of any of `stop`, and nothing after it.

    The first is the one that begins first. Only what may be the beginning of one is held back.
    """

    def __init__(self, stop: Sequence[str]):
        self._stop = stop_sequences(stop)
        self._held = ""
        self.stopped = False
        """Whether one has come: no text passes any more."""

    def feed(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = self._find(text)
        undecided = _beginning(text, self._stop)
        self.stopped = found < len(text) and found <= undecided
        self._held = "" if self.stopped else text[undecided:]
        return text[: min(found, undecided)]

    def flush(self) -> str:
        text, self._held = self._held, ""
        found = self._find(text)
        self.stopped = self.stopped or found < len(text)
        return text[:found]

    def _find(self, text: str) -> int:
        """Where the first sequence begins; the length of `text` when none is in it."""
        places = [text.find(sequence) for sequence in self._stop]
        return min((place for place in places if place >= 0), default=len(text))


class ReasoningTags:
    """Takes apart what stands in reasoning tags before an answer, and the answer.

    Blocks count only before the first text of the answer, in upper or lower case, each up to
    the closing tag of its own name or to the end. Where there is one, white space before the
    answer is left out. White space at the very beginning is held back, since a block may follow.
    """

    def __init__(self) -> None:
        self._held = ""
        self._space: list[str] = []
        """White space before the answer, while there is no block."""
        self._closing = ""
        """The tag that ends the block, inside of one."""
        self._reasoned = False
        self._answering = False

    def feed(self, text: str) -> list[str | Reasoning]:
        pieces: list[str | Reasoning] = []
        text, self._held = self._held + text, ""
        while text and not self._answering:
            text = self._inside(text, pieces) if self._closing else self._before(text)
        if text:
            pieces.append(text)
        return pieces

    def flush(self) -> list[str | Reasoning]:
        text, self._held = "".join(self._space) + self._held, ""
        self._space = []
        if not text:
            return []
        return [Reasoning(text) if self._closing else text]

    def _before(self, text: str) -> str:
        """What is left of `text` once it is known whether a block or the answer begins."""
        body = text.lstrip()
        if not self._reasoned:
            self._space.append(text[: len(text) - len(body)])
        start = body[: max(map(len, OPENINGS))].translate(_LOWER)
        for tag in OPENINGS:
            if start.startswith(tag):
                self._space, self._reasoned, self._closing = [], True, f"</{tag[1:]}"
                return body[len(tag) :]
        if any(tag.startswith(start) for tag in OPENINGS):  # so does an empty text
            self._held = body
            return ""
        self._answering = True
        body, self._space = "".join(self._space) + body, []
        return body

    def _inside(self, text: str, pieces: list[str | Reasoning]) -> str:
        """What is left of `text` after the end of the block."""
        lower = text.translate(_LOWER)
        begin = lower.find(self._closing)
        rest = ""
        if begin >= 0:
            rest = text[begin + len(self._closing) :]
            self._closing = ""
        else:
            begin = _beginning(lower, [self._closing])
            self._held = text[begin:]
        if begin:
            pieces.append(Reasoning(text[:begin]))
        return rest


class SourceMarkers:
    """Takes the markers of sources out of an answer that a model wrote of its own accord, such as
    [1], and the space before them where that came in the same piece: a piece that may be no
    beginning of one is passed as it is.

    Left as they are: links, definitions of links, and code. `found` has each marker's numbers, and
    how much text had been passed before it.
    """

    def __init__(self) -> None:
        self.found: list[tuple[int, tuple[int, ...]]] = []
        self._held = ""
        self._code = ""
        """The marks that ended it, were they to come again; inside of code."""
        self._passed = 0
        self._last = "\n"
        """The last character that was passed."""

    def feed(self, text: str) -> str:
        return self._pass(self._held + text, whole=False)

    def flush(self) -> str:
        return self._pass(self._held, whole=True)

    def _pass(self, text: str, *, whole: bool) -> str:
        passed, place = "", 0
        self._held = ""
        while point := _POINT.search(text, place):
            start, sign = point.start(), point[0].strip(" \t")
            bracket = point.end() - 1
            ends = point.end() == len(text)
            if sign in ("[", "(", "【") and not self._code:
                marker = _MARKER.match(text, bracket)
                undecided = marker.end() == len(text) if marker else _may_go_on(text[bracket:])
            else:
                marker, undecided = None, ends and sign[:1] in ("`", "~")
            if undecided and not whole:
                self._held = text[start:]
                text = text[:start]
                break
            before = passed + text[place:start]
            if marker and not _is_link(text, marker.end(), (self._last + before)[-1:]):
                passed, place = before, marker.end()
                numbers = tuple(map(int, re.findall(r"\d{1,2}", marker[0])))
                self.found.append((self._passed + len(passed), numbers))
                continue
            if sign[:1] in ("`", "~"):
                self._mark_code(sign)
            elif sign == "\n" and len(self._code) < 3:
                self._code = ""  # a single mark that was none
            passed, place = passed + text[place : point.end()], point.end()
        passed += text[place:]
        self._passed += len(passed)
        self._last = passed[-1:] or self._last
        return passed

    def _mark_code(self, marks: str) -> None:
        if not self._code:
            self._code = "" if marks in ("~", "~~") else marks
        elif marks == self._code or (len(self._code) > 2 and marks.startswith(self._code)):
            self._code = ""


def _may_go_on(text: str) -> bool:
    """Whether the bracket that `text` begins with may become a marker."""
    if len(text) > _LONGEST or not _GROWING.match(text):
        return False
    *words, last = re.findall(r"[^\W\d]+", text.partition("†")[0].lower()) or [""]
    known = [f"{name}s" for name in (*_NAMES, *["and"] * any(map(str.isdigit, text)))]
    return all(f"{word.rstrip('s')}s" in known for word in words) and any(
        name.startswith(last) for name in known
    )


def _is_link(text: str, end: int, before: str) -> bool:
    """Whether the brackets before `end` belong to a link, or (on a new line) define one."""
    return text[end : end + 1] == "(" or (before == "\n" and text[end : end + 1] == ":")


def open_tag(text: str) -> str:
    """The opening reasoning tag that `text` ends with, but for white space; empty without one."""
    end = text.rstrip()[-max(map(len, OPENINGS)) :].translate(_LOWER)
    return next((tag for tag in OPENINGS if end.endswith(tag)), "")


def _beginning(text: str, marks: Sequence[str]) -> int:
    """Where the beginning of one of `marks` stands at the end of `text`; its length if nowhere."""
    first = len(text) - max(map(len, marks), default=1) + 1
    for place in range(max(first, 0), len(text)):
        if any(mark.startswith(text[place:]) for mark in marks):
            return place
    return len(text)
