"""Which passage bears out each sentence of an answer, found while the answer is being written.

A sentence is compared with those of the passages, and with two that follow one another: by the
words that they share and, where these do not decide, by an embedding model. No language model is
asked. What a model writes of its own as a marker of a source is taken out of the text; it decides
only between passages that bear the sentence out alike.
"""

import logging
import math
import re
import time
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import zip_longest

from rag.answering import facts, prompts
from rag.answering.events import Event, Events, Finished, Sources
from rag.answering.sentences import GrowingSentences, sentences
from rag.config import DEFAULT_EMBED_MODEL
from rag.index.embedding import Embedding, Vector
from rag.index.words import STOP, spaced
from rag.llms.filters import SourceMarkers
from rag.llms.protocol import HEARTBEAT
from rag.types import Citation, Node, NodeWithScore, Support

logger = logging.getLogger(__name__)

ASKED = 0.5
"""What a word weighs that stands in the question as well: it is less of a claim."""
SURE, HOPELESS = 0.8, 0.2
"""Shares of words from which on, and below which, the embedding model is not asked."""
WORDS = 0.6
"""Score from which on a passage bears a sentence out, by words alone."""
CUTOFFS = {DEFAULT_EMBED_MODEL: 0.5}
"""The same for the mean of that and an embedding model's cosine. Both were chosen by measurement
(docs/decisions.md). For a model without a measurement only words decide."""
HINT = 0.02
"""What the model's own marker of a passage adds to the share of words by which one is chosen."""
FRAGMENT = 3
"""Words of a sentence that says too little without its question, unless it has one of these:"""
_WHOLE = set(
    "is was are were be been has have had do does did can will it its he she they their his her"  # noqa: SIM905
    " this that these there i we you".split()
)
FOREIGN, ENGLISH, LEAST_WORDS = 0.1, 0.2, 6
"""Share of the words that are everywhere in English up to which a text is in another language, and
from which on it is in English; and with how few words that cannot be told."""
_PRONOUNS = frozenset(["he", "she", "it", "they", "him", "her", "them", "his", "its", "their"])
_NUMERIC = re.compile(r"\d")
PATIENCE = 5.0
"""Seconds that the end of an answer waits for sentences that are not checked."""

_NO_CLAIM = re.compile(
    r"""
    .*[?？:：]$
    | (?:yes|no|sure|certainly|of[ ]course|okay|ok|great|hello|hi|thanks?|thank[ ]you)\W*$
    | (?:sure|certainly|of[ ]course|okay|hello|great)[,!.].{0,60}(?:here|help|answer|question)\b
    | .*\b(?:let[ ]me[ ]know|feel[ ]free|(?:hope|glad)[ ](?:this|that|it|to)[ ]helps?)\b
    | .*\bI(?:'m|[ ]am)[ ](?:sorry|not[ ]sure|unable|an?[ ]AI)\b
    | .*\b(?:I|we|you)[ ](?:do[ ]not|don't|can[ ]?not|can't|could[ ]not|couldn't)
      [ ](?:know|find|answer|determine|say|tell|have)\b
    | .*\b(?:context|passage|text|document|source|information)s?\b.{0,40}
      \b(?:(?:do|does|did|is|are|can|could)[ ]?(?:not|n't)|no)\b.{0,40}
      \b(?:mention|say|contain|provide|specif|state|includ|tell|give|answer|available|enough)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
"""Sentences about the answer, not about the documents."""


def claims(sentence: str) -> bool:
    """Whether `sentence` says something that documents could bear out.

    Questions, what leads up to a list, greetings, and that something is not known do not.
    """
    sentence = sentence.replace("’", "'").strip("*_ \n")
    return bool(_content(sentence)) and not _NO_CLAIM.match(sentence)


def attributed(question: str, events: Events, embed_model: Embedding) -> Events:
    """`events` of an answer to `question`, with a Citation for each sentence that claims something.

    They come in the order of the sentences, once each is checked, all before `Finished`. Texts
    pass at once: a thread beside them checks, which ends with these events. Where it fails, that
    is logged, and the answer goes on without. An answer without passages passes as it is.
    """
    work = _Attribution(question, embed_model)
    try:
        with closing(events):
            for event in events:
                match event:
                    case Sources():
                        work.sources = event
                        yield event
                    case str(text) if text not in prompts.OURS:
                        yield work.take(text)
                    case Finished():
                        if rest := work.flush():
                            yield rest
                        yield from work.rest()
                        yield event
                    case _:
                        yield event
                yield from work.ready()
    except Exception:
        if rest := work.flush():  # what came before an error is not lost
            yield rest
        yield from work.ready()
        raise
    finally:
        work.close()


class _Attribution:
    """The text of one answer, and those of its sentences that are being checked."""

    def __init__(self, question: str, embed_model: Embedding):
        self.sources = Sources(())
        self._question = question
        self._embed_model = embed_model
        self._markers = SourceMarkers()
        self._growing = GrowingSentences()
        self._text = ""
        self._pending: deque[Future[Citation | None]] = deque()
        self._thread = ThreadPoolExecutor(1, "citations")  # begun with the first sentence
        self._checker: Checker | None = None
        self._failed = False

    def take(self, text: str) -> str:
        """`text` without the model's own markers; sentences that are complete are sent off."""
        if not self.sources.nodes:
            return text
        text = self._markers.feed(text)
        self._text += text
        self._send(self._growing.feed(text))
        return text

    def flush(self) -> str:
        text = self._markers.flush()
        self._text += text
        self._send(self._growing.feed(text) + self._growing.flush())
        return text

    def ready(self) -> Iterator[Citation]:
        """The citations of the sentences that have been checked meanwhile."""
        while self._pending and self._pending[0].done() and not self._failed:
            try:
                if citation := self._pending.popleft().result():
                    yield citation
            except Exception:
                self._failed = True
                logger.exception("The sentences of an answer cannot be checked")

    def rest(self) -> Iterator[Event]:
        """The other citations, as far as they come in time; meanwhile empty texts."""
        until = time.monotonic() + PATIENCE
        while self._pending and not self._failed and time.monotonic() < until:
            wait_for([self._pending[0]], HEARTBEAT)
            yield from self.ready()
            yield ""
        self.close()

    def close(self) -> None:
        self._pending.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _send(self, spans: Iterable[tuple[int, int]]) -> None:
        for start, end in spans if not self._failed else ():
            hinted = [
                number
                for place, numbers in self._markers.found
                if start < place <= end + 2  # after its full stop and a space
                for number in numbers
            ]
            sentence = self._text[start:end]
            self._pending.append(self._thread.submit(self._check, sentence, start, hinted))

    def _check(self, sentence: str, start: int, hinted: Sequence[int]) -> Citation | None:
        if not claims(sentence):
            return None
        self._checker = self._checker or Checker(
            self._question, self._embed_model, self.sources.nodes, self.sources.others
        )
        return self._checker.check(sentence, start, hinted)


@dataclass(frozen=True)
class _Window:
    """One or two sentences of a passage."""

    node: Node
    rank: int
    start: int
    end: int
    words: frozenset[str]
    """Those of the headings and the file's name among them."""

    @property
    def text(self) -> str:
        return self.node.text[self.start : self.end]


@dataclass(frozen=True)
class _Passage:
    """What a whole passage has of facts and of words."""

    keys: set[str]
    words: frozenset[str]


class Checker:
    """Finds what bears out the sentences of one answer to `question`, in the passages `given` to
    the model and the `others` that were found. One thread may use it.

    `cutoff` is the score from which on a passage does; None is what was measured for `embed_model`.
    """

    def __init__(
        self,
        question: str,
        embed_model: Embedding,
        given: Sequence[NodeWithScore],
        others: Sequence[NodeWithScore] = (),
        *,
        cutoff: float | None = None,
    ):
        self._embed_model = embed_model
        self._is_measured = embed_model.name in CUTOFFS
        self._cutoff = CUTOFFS.get(embed_model.name, WORDS) if cutoff is None else cutoff
        self._asked = set(_content(question))
        self._nodes = [hit.node for hit in (*given, *others)]
        self._is_english = _is_english(" ".join(node.text for node in self._nodes))
        self._windows = list(_windows(self._nodes))
        self._counts = Counter(word for window in self._windows for word in window.words)
        self._vectors: dict[str, Vector] = {}
        self._passages: dict[str, _Passage] = {}

    def check(self, sentence: str, start: int, hinted: Collection[int] = ()) -> Citation | None:
        """What bears out `sentence`, which begins at `start` in the answer. `hinted` are the
        passages that the model named, from 1.

        None where nothing does, and the sentence seems to be in another language than the passages.
        """
        end = start + len(sentence)
        window, score, missing = self._nearest(sentence, hinted)
        if window is None or score < self._cutoff:
            if {self._is_english, _is_english(sentence)} == {True, False}:
                return None
            return Citation(start, end, "none", score=score)
        support: Support = "partly" if missing else "supported"
        span = window.node, window.start, window.end
        return Citation(start, end, support, *span, score, missing)

    def _nearest(
        self, sentence: str, hinted: Collection[int]
    ) -> tuple[_Window | None, float, tuple[str, ...]]:
        """The window that shares most words with `sentence`; how well it bears that out, but for
        the facts that its passage lacks; and these."""
        weights = {word: self._weight(word) for word in _content(sentence)}
        fragment = len(weights) <= FRAGMENT and _WHOLE.isdisjoint(_words(sentence))
        asked = {word: self._weight(word) for word in self._asked - weights.keys()}

        def share(window: _Window) -> float:
            shared = _share(weights, window)
            return shared * (1 + _share(asked, window)) / 2 if fragment and asked else shared

        def order(window: _Window) -> tuple[float, int]:
            """Of equals the shorter, then the one that is ranked higher."""
            hint = HINT * (window.rank + 1 in hinted)
            return -share(window) - hint, len(window.words)

        window = min(self._windows, key=order, default=None)
        if window is None:
            return None, 0.0, ()
        score, missing = share(window), self._missing(sentence, weights.keys(), window)
        if fragment:
            return window, score, missing
        lacking = set(_content(" ".join(missing)))
        others = {word: weight for word, weight in weights.items() if word not in lacking}
        if 2 * len(others) >= len(weights):
            score = _share(others, window)
        if self._is_measured and HOPELESS <= score < SURE:
            score = (score + self._cosine(sentence, window.text)) / 2
        return window, score, missing

    def _cosine(self, sentence: str, text: str) -> float:
        """That of `sentence` and of a window's `text`, which is embedded once."""
        new = [] if text in self._vectors else [text]
        this, *vectors = (each.vector for each in self._embed_model.embed([sentence, *new]))
        self._vectors.update(zip(new, vectors, strict=True))
        return float(this @ self._vectors[text])

    def _weight(self, word: str) -> float:
        """The more, the fewer windows have it."""
        weight = math.log(1 + len(self._windows) / (1 + self._counts[word]))
        return weight * ASKED if word in self._asked else weight

    def _missing(self, sentence: str, words: Collection[str], window: _Window) -> tuple[str, ...]:
        """The facts of `sentence` that its passage lacks.

        One that stands elsewhere in the passage counts where more of the sentence comes from
        there; else it was put in the place of another. A name counts where a pronoun stands for it.
        """
        above = "\n".join((window.node.file_name, *window.node.headings))
        lacking = facts.missing(sentence, facts.keys(f"{above}\n{window.text}"))
        if not lacking:
            return ()
        passage = self._passage_of(window.node)
        missing = facts.missing(sentence, passage.keys)
        more = set(words) - window.words - set(_content(" ".join(lacking)))
        if more & passage.words:
            return missing
        if _PRONOUNS.isdisjoint(_words(window.text)):
            return lacking
        numbers = (fact for fact in lacking if _NUMERIC.search(fact))
        return tuple(dict.fromkeys((*missing, *numbers)))

    def _passage_of(self, node: Node) -> _Passage:
        """What the passage has, its headings and its file's name included; of a passage that was
        cut the whole."""
        if node.id_ not in self._passages:
            whole = (each.text for each in self._nodes if each.holds(node))
            text = "\n".join((node.file_name, *node.headings, *whole))
            self._passages[node.id_] = _Passage(facts.keys(text), frozenset(_content(text)))
        return self._passages[node.id_]


def _windows(nodes: Iterable[Node]) -> Iterator[_Window]:
    seen: list[Node] = []
    for rank, node in enumerate(nodes):
        above = frozenset(_content("\n".join((*node.headings, node.file_name))))
        spans = [
            (begin, end)
            for begin, end in sentences(node.text, lines=True)
            if any(map(str.isalnum, node.text[begin:end]))
            and not any(_within(node, begin, end, other) for other in seen)
        ]
        windows = [
            _Window(node, rank, begin, end, above.union(_content(node.text[begin:end])))
            for begin, end in spans
        ]
        for one, two in zip_longest(windows, windows[1:]):
            yield one
            if two:
                between = _content(node.text[one.end : two.start])
                words = one.words.union(between, two.words)
                yield _Window(node, rank, one.start, two.end, words)
        seen.append(node)


def _share(weights: Mapping[str, float], window: _Window) -> float:
    """How much of the `weights` of words is in `window`."""
    shared = math.fsum(weights[word] for word in weights.keys() & window.words)
    return shared / (math.fsum(weights.values()) or 1.0)


def _within(node: Node, begin: int, end: int, other: Node) -> bool:
    """Whether a part of `node` is a part of `other` as well."""
    same = node.document_id == other.document_id
    return same and other.start <= node.start + begin and node.start + end <= other.end


def _is_english(text: str) -> bool | None:
    """By how many words are those that are everywhere in English; None where there are few, or it
    is not clear."""
    words = [word for word in _words(text) if not word.isdigit()]
    share = sum(word in STOP for word in words) / (len(words) or 1)
    if len(words) < LEAST_WORDS or FOREIGN < share < ENGLISH:
        return None
    return share >= ENGLISH


def _content(text: str) -> list[str]:
    """The words of `text` that say something, without their endings."""
    return [_stem(word) for word in _words(text) if word not in STOP]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", spaced(text))


@lru_cache(maxsize=1 << 14)  # most words come again and again
def _stem(word: str) -> str:
    """`word` without its ending, where it may be an English one: cut alike is good enough."""
    if not word.isascii():
        return word
    shorter = re.sub(r"(?<=\w{3})(?:ing|ed|es|s|e|ly)$", "", word)
    return re.sub(r"(?<=\w{3})[iy]$", "", shorter)
