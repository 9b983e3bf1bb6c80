"""Text -> its sentences, also while it grows; passages -> those that answer a question, for a model
that is lost in more."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from rag.index.embedding import Embedded, Embedding, remembered
from rag.index.retrieval import COSINE
from rag.index.words import STOP
from rag.types import NodeWithScore

PASSAGES = 3
"""The first passages, in which the best sentence is sought where no other number is given."""
BEHIND = 0.03
"""What a sentence's score loses for each passage before its own."""
NEAR = 0.1
"""How much less its neighbours may score to stay with the best sentence."""

LONGEST = 2000
"""Characters of a growing text without an end of a sentence that are taken for one."""

_SENTENCE = (
    r"(?<=[.!?…])[\"”’»)\]*_]*\s+(?=[\"“‘„«(\[*_]*[^\Wa-z_])"
    r"|(?<=[。！？])[」』”’）]*(?=[^」』”’）])|\n{2,}"
)
_END = re.compile(_SENTENCE)
"""Between two sentences; what is no prose, as a table, stays in one piece."""
_LINE_END = re.compile(_SENTENCE + r"|[^\S\n]*\n(?=\s*[^\sa-zà-öø-ÿ])")
"""The same, and between two lines unless the second goes on in small letters."""
_TITLE = re.compile(
    r"\b(?:Dr|Mr|Mrs|Ms|Mx|Prof|St|Mt|Ft|Rev|Hon|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Messrs|Mme|Hr|Fr)"
    r"\.$"
)
_SHORT = re.compile(
    r"\b(?:[A-HJ-Za-z]|[Ee]\.g|[Ii]\.e|etc|vs|cf|al|approx|ca|Jr|Sr|Inc|Ltd|Co|Corp|Bros|Dept|Univ"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|bzw|usw|Abb|Bd|Nr|Str)\.$"
)
"""After these it depends on what follows."""
_BEFORE_NUMBER = re.compile(
    r"\b(?:[Nn]os?|[Ff]igs?|[Vv]ols?|pp?|[Aa]rt|[Cc]h|[Ss]ec|[Ee]q|[Tt]ab|ed)\.$"
)
_DAY = re.compile(r"\b\d{1,2}\.$")
_MONTH = re.compile(
    r"(?:Jan|Feb|März|April|Mai|Jun|Jul|Aug|Sept|Okt|Nov|Dez)"  # German: 3. März
)
_WORD = re.compile(r"\W*(\w+)")
_APART = re.compile(
    r" {0,3}(?:#{1,6}\s|\||(?P<fence>`{3,}|~{3,}))|\s*\*\*[^*\n]+\*\*:?[^\S\n]*(?:\n|$)"
)
"""At the beginning of a line: a heading, also one in bold, a row of a table, code."""
_MARK = re.compile(
    r"[^\S\n]*(?:>[^\S\n]*)*(?:(?:[-*+•–—·]|\(?\d{1,3}[.)]|\(?[a-z][.)])[^\S\n]+)?"
    r"(?:\[[ xX]\][^\S\n]+)?(?:Response \d+: )?"
)
"""What a line may begin with before its text; the last is what accumulating modes write."""
_EMPHASIS = "*_~"


class BestSentences:
    """Keeps of the first `passages` the sentence that answers best, with those around it that
    answer nearly as well.

    With the default model half of the answers are right then, a third with the best passage
    (docs/decisions.md). What is left is a stretch of its document: `start` is where it begins.
    """

    def __init__(self, embed_model: Embedding, passages: int = PASSAGES):
        self.embed_model = embed_model
        self.passages = passages

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:
        if not nodes:
            return []
        question = self.embed_model.embed_query(query)
        first_ones = nodes[: self.passages]
        found = [(hit, begin, end) for hit in first_ones for begin, end in sentences(hit.text)]
        # Known where the same passages were looked at for the question while it was being typed.
        embedded = remembered(self.embed_model).embed(
            ["\n".join((*hit.node.headings, hit.text[begin:end])) for hit, begin, end in found]
        )
        ranks = {id(hit): rank for rank, hit in enumerate(first_ones)}
        scores = [
            _score(question, each) - BEHIND * ranks[id(hit)]
            for each, (hit, _, _) in zip(embedded, found, strict=True)
        ]
        first = last = int(np.argmax(scores))
        hit = found[first][0]
        least = scores[first] - NEAR
        while first > 0 and found[first - 1][0] is hit and scores[first - 1] >= least:
            first -= 1
        while last + 1 < len(found) and found[last + 1][0] is hit and scores[last + 1] >= least:
            last += 1
        begin, end = found[first][1], found[last][2]
        node = replace(hit.node, text=hit.text[begin:end], start=hit.node.start + begin)
        return [replace(hit, node=node)]


def sentences(text: str, *, lines: bool = False) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends; at least one. With `lines`, each line is one too unless
    the next goes on in small letters."""
    begin = 0
    for between in _between(text, 0, _LINE_END if lines else _END, whole=True):
        # Quotation marks and brackets that close it belong to it.
        end = between.start() + len(between[0].rstrip())
        if text[begin:end].strip():
            yield begin, end
            begin = between.end()
    if text[begin:].strip() or not begin:
        yield begin, len(text)


def _between(
    text: str, begin: int, ends: re.Pattern[str], *, whole: bool
) -> Iterator[re.Match[str]]:
    """What lies between the sentences of `text`, as far as that is known: unless it is the `whole`
    text, more may follow."""
    for between in ends.finditer(text, begin):
        if "\n" not in between[0]:
            start = max(begin, between.start() - 8)
            after = _WORD.match(text, between.start())
            last = text[start : between.start()]
            if _TITLE.search(last):
                continue
            depends = _SHORT.search(last) or _BEFORE_NUMBER.search(last) or _DAY.search(last)
            if depends and after:
                if after.end() == len(text) and not whole:
                    return
                if _goes_on(last, after[1]):
                    continue
        yield between


def _goes_on(last: str, word: str) -> bool:
    """Whether a sentence goes on with `word` after the abbreviation that `last` ends with."""
    if _DAY.search(last):
        return bool(_MONTH.match(word))
    if _BEFORE_NUMBER.search(last) and not _SHORT.search(last):
        return word[0].isdigit()
    return word.lower() not in STOP


class GrowingSentences:
    """The sentences of a text that is being written: where each begins and ends in the whole.

    Told are those that are complete, and with `flush` the last. Each item of a list is one at
    least; it begins after the item's mark, and after marks of emphasis. Headings, tables, code, and
    what has no letter or digit are none.
    """

    def __init__(self) -> None:
        self._text = ""
        """What is not yet divided."""
        self._offset = 0
        """Where that begins."""
        self._new_line = True
        self._fence = ""
        """What ends the code, inside of it."""

    def feed(self, text: str) -> list[tuple[int, int]]:
        self._text += text
        return list(self._complete(whole=False))

    def flush(self) -> list[tuple[int, int]]:
        return list(self._complete(whole=True))

    def _complete(self, *, whole: bool) -> Iterator[tuple[int, int]]:
        while self._text:
            apart = _APART.match(self._text) if self._new_line else None
            if apart or self._fence:
                line, newline, _ = self._text.partition("\n")
                if not newline and not whole:
                    return
                self._pass_line(line, apart["fence"] if apart else "")
                self._drop(len(line) + 1, new_line=True)
                continue
            mark = _MARK.match(self._text) if self._new_line else None
            begin = mark.end() if mark else 0
            between = next(_between(self._text, begin, _LINE_END, whole=whole), None)
            if between:
                end, then = between.start() + len(between[0].rstrip()), between.end()
            elif whole or len(self._text) > LONGEST:
                end = then = len(self._text)
            else:
                return
            yield from self._span(begin, end)
            self._drop(then, new_line="\n" in self._text[end:then])

    def _pass_line(self, line: str, fence: str) -> None:
        """Note whether code begins or ends in `line`."""
        if not self._fence:
            self._fence = fence or ""
        elif line.strip().startswith(self._fence) and not line.strip().strip(self._fence[0]):
            self._fence = ""

    def _span(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        text = self._text[begin:end]
        begin += len(text) - len(text.lstrip(_EMPHASIS + " \t\n"))
        end -= len(text) - len(text.rstrip(_EMPHASIS + " \t\n"))
        if any(map(str.isalnum, text)):
            yield self._offset + begin, self._offset + end

    def _drop(self, length: int, *, new_line: bool) -> None:
        self._offset += min(length, len(self._text))
        self._text = self._text[length:]
        self._new_line = new_line


def _score(question: Embedded, text: Embedded) -> float:
    cosine = float(question.vector @ text.vector)
    if not len(question.tokens) or not len(text.tokens):
        return cosine
    met = (question.tokens @ text.tokens.T).max(1).sum()
    return float(met / np.linalg.norm(question.tokens, axis=1).sum()) + COSINE * cosine
