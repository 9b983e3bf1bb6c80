"""What was found -> what is answered from. Any function `(nodes, query) -> nodes` will do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from rag.types import Node, NodeWithScore, Way


@dataclass(frozen=True)
class SimilarityPostprocessor:
    """Keeps the passages with a score (at most 1) of `similarity_cutoff` or more.

    One without a score is left out.
    """

    similarity_cutoff: float

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:  # noqa: ARG002
        return [
            hit for hit in nodes if hit.score is not None and hit.score >= self.similarity_cutoff
        ]


@dataclass(frozen=True)
class First:
    """Keeps the first `number` passages."""

    number: int

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:  # noqa: ARG002
        return nodes[: self.number]


def merge_neighbours(nodes: Sequence[NodeWithScore]) -> list[NodeWithScore]:
    """Passages that follow one another in a document as one, in the place of the best of them."""
    runs: list[list[int]] = []
    for rank in sorted(range(len(nodes)), key=lambda n: _place(nodes[n].node)):
        last = nodes[runs[-1][-1]].node if runs else None
        node = nodes[rank].node
        if last and last.document_id == node.document_id and _joined(last, node):
            runs[-1].append(rank)
        else:
            runs.append([rank])
    runs.sort(key=min)
    return [_merged([nodes[rank] for rank in run]) for run in runs]


def _place(node: Node) -> tuple[str, int]:
    return node.document_id, node.start


def _joined(one: Node, other: Node) -> bool:
    follows = one.ordinal + 1 == other.ordinal
    return follows and one.end + len(other.before) == other.start


def _merged(run: Sequence[NodeWithScore]) -> NodeWithScore:
    if len(run) == 1:
        return run[0]
    best = max(run, key=NodeWithScore.get_score)
    first = run[0].node
    text = first.text + "".join(hit.node.before + hit.node.text for hit in run[1:])
    ways = tuple(way for way in get_args(Way) if any(way in hit.found_by for hit in run))
    return replace(best, node=replace(first, text=text), found_by=ways)
