"""The figures of one question, each from 0 to 1. Knows nothing of retrievers and models."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import log2
from string import punctuation

DEPTH = 10
"""Entries of a ranking that are looked at."""


def retrieval_figures(ranking: Sequence[str], grades: Mapping[str, float]) -> dict[str, float]:
    """All figures of a ranking of different entries, the best first.

    `grades` says how well an entry answers the question, which at least one does: above 0. Those
    without a grade do not. `mrr` is looked for in the first DEPTH.
    """
    relevant = {entry for entry, grade in grades.items() if grade > 0}
    return {
        "recall@1": recall(ranking, relevant, 1),
        "recall@5": recall(ranking, relevant, 5),
        "recall@10": recall(ranking, relevant, 10),
        "mrr": reciprocal_rank(ranking[:DEPTH], relevant),
        "ndcg@10": ndcg(ranking, grades, 10),
    }


def recall(ranking: Sequence[str], relevant: Collection[str], depth: int) -> float:
    """Which share of `relevant` is among the first `depth`."""
    return sum(entry in relevant for entry in ranking[:depth]) / len(relevant)


def reciprocal_rank(ranking: Sequence[str], relevant: Collection[str]) -> float:
    """1 / the rank of the first entry that is relevant; 0 where none is."""
    ranks = (rank for rank, entry in enumerate(ranking, 1) if entry in relevant)
    return 1 / next(ranks, float("inf"))


def ndcg(ranking: Sequence[str], grades: Mapping[str, float], depth: int) -> float:
    """The discounted cumulative gain of the first `depth`, as a share of the best there can be.

    Järvelin and Kekäläinen 2002, with the gain 2^grade - 1 of Burges et al. 2005.
    """
    best = _dcg(sorted(grades.values(), reverse=True)[:depth])
    return _dcg([grades.get(entry, 0) for entry in ranking[:depth]]) / best


def _dcg(grades: Iterable[float]) -> float:
    return sum((2**grade - 1) / log2(rank + 1) for rank, grade in enumerate(grades, 1))


def contains(answer: str, gold: Iterable[str]) -> bool:
    """Whether one of the texts of `gold` is in `answer`, but for capitals, punctuation, white space
    and articles."""
    text = _plain(answer)
    return any(plain in text for each in gold if (plain := _plain(each)))


def _plain(text: str) -> str:
    kept = "".join(
        char
        for char in text.lower()
        if char not in punctuation and not unicodedata.category(char).startswith("P")
    )
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def mean(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each figure; all have the same ones."""
    names = figures[0] if figures else ()
    return {name: sum(each[name] for each in figures) / len(figures) for name in names}
