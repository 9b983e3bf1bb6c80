"""question -> [NodeWithScore]: by vectors, by words, and by the tokens of both.

Two searches name the candidates: Chroma's nearest vectors, and the best passages by BM25. Each
candidate is then scored by all that is known of it.
"""

import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from rag.config import RetrieverMode
from rag.index.embedding import Embedded, Embedding
from rag.index.keywords import Passage
from rag.index.store import ChromaStore
from rag.types import NodeWithScore, Way, well_formed

DEPTH = 50
"""Candidates of each search."""
TOKENS, COSINE, KEYWORDS = 1.0, 0.2, 0.006
"""What late interaction, the cosine of the whole texts and BM25 weigh in a score. These and the
numbers below were chosen by measurement on two collections (docs/decisions.md)."""
BEST = 5
"""Passages whose middle the others are compared with."""
FEEDBACK = 0.5
"""What their cosine to that middle weighs."""
SURE = 3
"""Passages at the front that keep their place all the same."""
SAME = 0.9
"""Share of words from which on two passages say the same."""
SMALL = 2**18
"""Multiplications in one product of matrices: NumPy's OpenBLAS shares larger ones among threads,
which spin while they wait for each other, and take ten times as long when others want a core."""
COMPUTE = 16
"""Passages of one search whose tokens are computed where they are not known, as while a document
is being embedded: the first by their words. It takes 5 to 20 ms each, once."""


class Retriever(Protocol):
    def retrieve(self, query: str) -> list[NodeWithScore]:
        """The passages that bear on `query`, the best first."""
        ...


def late_interaction(question: Embedded, passages: Sequence[Passage]) -> NDArray[np.float32]:
    """How well each token of the question is met by some token of a passage, on average.

    MaxSim of ColBERT (Khattab and Zaharia 2020) over the signs of the passage's token vectors; 0
    where these are not known. -1 to 1, one for each passage. A token weighs as much as its vector
    is long.
    """
    scores = np.zeros(len(passages), np.float32)
    known = [n for n, passage in enumerate(passages) if passage.tokens is not None]
    if not known or not len(question.tokens):
        return scores
    asked = np.ascontiguousarray(question.tokens.T)
    dimensions = len(asked)
    packed = [signs for n in known if (signs := passages[n].tokens) is not None]
    together = np.concatenate(packed)
    sums = np.empty((len(together), asked.shape[1]), np.float32)
    step = max(SMALL // asked.size, 1)
    for begin in range(0, len(together), step):
        some = slice(begin, begin + step)
        signs = np.unpackbits(together[some], axis=1, count=dimensions)
        sums[some] = signs.astype(np.float32) @ asked
    # The signs 0 and 1 stand for -1 and 1, scaled to length 1.
    cosines = (2 * sums - asked.sum(0)) / np.sqrt(dimensions)
    starts = np.cumsum([0, *map(len, packed[:-1])])
    met = np.maximum.reduceat(cosines, starts, axis=0).sum(1)
    scores[known] = met / np.linalg.norm(question.tokens, axis=1).sum()
    return scores


class VectorIndexRetriever:
    """The `similarity_top_k` passages of one or more stores that bear most on the question.

    `mode` says what it is compared by. Of `doc_ids` only these documents are searched. A passage
    that says the same as a better one is left out. Raises ValueError for a `similarity_top_k`
    below one, or another mode.
    """

    def __init__(
        self,
        stores: Sequence[ChromaStore],
        embed_model: Embedding,
        similarity_top_k: int = 2,
        mode: RetrieverMode = "hybrid",
        doc_ids: Collection[str] | None = None,
    ):
        if similarity_top_k < 1:
            raise ValueError(f"similarity_top_k is {similarity_top_k}; it has to be 1 or more.")
        if mode not in get_args(RetrieverMode):
            raise ValueError(f"There is no mode {mode!r}: {', '.join(get_args(RetrieverMode))}.")
        self.stores = stores
        self.embed_model = embed_model
        self.similarity_top_k = similarity_top_k
        self.mode = mode
        self.doc_ids = doc_ids

    def retrieve(self, query: str) -> list[NodeWithScore]:
        query = well_formed(query)
        question = None if self.mode == "keyword" else self.embed_model.embed_query(query)
        found = [hit for store in self.stores for hit in self._candidates(store, query, question)]
        if question and self.mode == "hybrid":
            hits = _ranked(question, found)
        else:
            found.sort(key=lambda one: one.cosine or one.keywords, reverse=True)
            hits = [
                NodeWithScore(one.passage.node, one.cosine or one.keywords, one.found_by)
                for one in found
            ]
        return _without_repetitions(hits, self.similarity_top_k)

    def _candidates(
        self, store: ChromaStore, query: str, question: Embedded | None
    ) -> list["_Candidate"]:
        depth = max(DEPTH, 2 * self.similarity_top_k)
        near: dict[int, float] = {}
        matching: dict[int, float] = {}
        if question:
            near = store.nearest(question.vector, depth, self.doc_ids)
        if self.mode != "dense":
            matching = store.matching(query, depth, self.doc_ids)
        passages = store.passages(list(near | matching))
        if question and len(question.tokens) and self.mode == "hybrid":
            passages = self._with_tokens(store, passages, matching)
        found = []
        for passage in passages:
            cosine = near.get(passage.number, 0.0)
            if question and passage.vector is not None and self.mode == "hybrid":
                cosine = float(passage.vector @ question.vector)
            ways: tuple[tuple[Way, dict[int, float]], ...]
            ways = ("meaning", near), ("words", matching)
            found_by = tuple(way for way, hits in ways if passage.number in hits)
            keywords = matching.get(passage.number, 0.0)
            found.append(_Candidate(passage, cosine, keywords, found_by))
        return found

    def _with_tokens(
        self, store: ChromaStore, passages: Sequence[Passage], matching: dict[int, float]
    ) -> list[Passage]:
        """`passages`, of which the first by their words are embedded where they are not yet."""
        unknown = [each for each in passages if each.tokens is None]
        unknown.sort(key=lambda each: matching.get(each.number, 0.0), reverse=True)
        computed = {}
        embedded = self.embed_model.embed([each.node.embedded_text for each in unknown[:COMPUTE]])
        for passage, each in zip(unknown, embedded, strict=False):
            store.keep(passage.number, [each])
            computed[passage.number] = passage.with_(each)
        return [computed.get(each.number, each) for each in passages]


@dataclass(frozen=True)
class _Candidate:
    passage: Passage
    cosine: float
    keywords: float
    """BM25; 0 where no word of the question is in it."""
    found_by: tuple[Way, ...] = ()


def _ranked(question: Embedded, found: Sequence[_Candidate]) -> list[NodeWithScore]:
    """All of `found` by all that is known of them, the best first.

    A score is the weighted mean of late interaction, cosine and BM25, and at most 1.
    Behind the first few, passages come first that are also near to what the best have in common:
    feedback by relevance, as Rocchio (1971) has it, with no one to ask.
    """
    if not found:
        return []
    late = late_interaction(question, [one.passage for one in found])
    cosines = np.array([one.cosine for one in found])
    scores = TOKENS * late + COSINE * cosines
    scores += KEYWORDS * np.array([one.keywords for one in found])
    order = np.argsort(-scores, kind="stable")
    unknown = np.zeros_like(question.vector)
    vectors = np.array([unknown if (v := one.passage.vector) is None else v for one in found])
    middle = vectors[order[:BEST]].mean(0)
    near = np.einsum("nd,d->n", vectors, middle / (np.linalg.norm(middle) or 1.0))
    rest = order[SURE:]
    rest = rest[np.argsort(-(scores + FEEDBACK * near)[rest], kind="stable")]
    most = COSINE + (TOKENS if len(question.tokens) else 0.0)
    return [
        NodeWithScore(found[n].passage.node, min(float(scores[n] / most), 1.0), found[n].found_by)
        for n in (*order[:SURE], *rest)
    ]


def _without_repetitions(hits: Sequence[NodeWithScore], top_k: int) -> list[NodeWithScore]:
    """The first `top_k` of `hits`; of those that say the same the first."""
    kept: list[tuple[NodeWithScore, Counter[str]]] = []
    for hit in hits:
        if len(kept) == top_k:
            break
        words = Counter(re.findall(r"\w+", hit.text.lower()))
        if not any(_say_the_same(words, other) for _, other in kept):
            kept.append((hit, words))
    return [hit for hit, _ in kept]


def _say_the_same(one: Counter[str], other: Counter[str]) -> bool:
    """Whether nearly all words are the same, and all that have a digit in them: two forms with
    other numbers are two passages."""
    size = one.total() + other.total()
    if 2 * min(one.total(), other.total()) < SAME * size:  # quickly told
        return False
    same = sum(min(number, other[word]) for word, number in one.items() if word in other)
    if 2 * same < SAME * size:
        return False
    return not any(re.search(r"\d", word) for word in (one - other) + (other - one))
