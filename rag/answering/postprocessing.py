"""What was found -> what is answered from. Any function `(nodes, query) -> nodes` will do."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.types import NodeWithScore


@dataclass(frozen=True)
class SimilarityPostprocessor:
    """Keeps the passages with a score (cosine, at most 1) of `similarity_cutoff` or more.

    One without a score is left out.
    """

    similarity_cutoff: float

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:  # noqa: ARG002
        return [
            hit for hit in nodes if hit.score is not None and hit.score >= self.similarity_cutoff
        ]


def best_only(nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:  # noqa: ARG001
    """Keeps the best passage: a small model is lost in more (docs/decisions.md)."""
    return nodes[:1]
