"""Passages -> the sentences in them that answer a question, for a model that is lost in more."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from rag.index.embedding import Embedded, Embedding
from rag.index.retrieval import COSINE
from rag.types import NodeWithScore

PASSAGES = 3
"""The first passages, in which the best sentence is sought where no other number is given."""
BEHIND = 0.03
"""What a sentence's score loses for each passage before its own."""
NEAR = 0.1
"""How much less its neighbours may score to stay with the best sentence."""

_END = re.compile(r"(?<=[.!?])[\"”’)\]]*\s+(?=[\"“‘(\[]?[^\Wa-z_])|(?<=[。！？])|\n{2,}")
"""Between two sentences; what is no prose, as a table, stays in one piece."""


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
        found = [(hit, begin, end) for hit in first_ones for begin, end in _sentences(hit.text)]
        embedded = self.embed_model.embed(
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


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends; at least one."""
    begin = 0
    for between in _END.finditer(text):
        # Quotation marks and brackets that close it belong to it.
        end = between.end() - len(between[0].lstrip('"”’)]'))
        if text[begin:end].strip():
            yield begin, end
            begin = between.end()
    if text[begin:].strip() or not begin:
        yield begin, len(text)


def _score(question: Embedded, text: Embedded) -> float:
    cosine = float(question.vector @ text.vector)
    if not len(question.tokens) or not len(text.tokens):
        return cosine
    met = (question.tokens @ text.tokens.T).max(1).sum()
    return float(met / np.linalg.norm(question.tokens, axis=1).sum()) + COSINE * cosine
