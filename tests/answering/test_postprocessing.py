"""What was found -> what is answered from."""

from dataclasses import replace

import pytest

from rag.answering.postprocessing import First, SimilarityPostprocessor, merge_neighbours
from rag.types import Node, NodeWithScore
from tests.answering.conftest import hit

FOUND = [hit("a", score=0.9), hit("b", score=0.5), hit("c", score=0.5), hit("d", score=-0.2)]


@pytest.mark.parametrize(
    ("cutoff", "kept"), [(-1, 4), (0, 3), (0.5, 3), (0.51, 1), (0.9, 1), (0.91, 0), (1.0, 0)]
)
def test_passages_below_the_cut_off_are_left_out(cutoff: float, kept: int) -> None:
    given = list(FOUND)
    assert SimilarityPostprocessor(cutoff)(given, "q") == FOUND[:kept]
    assert given == FOUND


def test_a_passage_without_a_score_is_left_out() -> None:
    unscored = NodeWithScore(FOUND[0].node)
    assert SimilarityPostprocessor(-1)([unscored, *FOUND], "q") == FOUND


def test_its_name_for_the_cut_off_is_llama_index_s() -> None:
    assert SimilarityPostprocessor(similarity_cutoff=0.6)(FOUND, "q") == FOUND[:1]


TEXT = "First.\n\n## A\n\nSecond.\nThird.  Fourth."
PLACES = [(0, 6, ""), (14, 21, "\n\n## A\n\n"), (22, 28, "\n"), (30, 37, "  ")]


def passage(ordinal: int, score: float | None = 0.5, document: str = "d") -> NodeWithScore:
    begin, end, before = PLACES[ordinal]
    node = Node(TEXT[begin:end], document, ordinal, begin, before=before)
    return NodeWithScore(node, score)


def test_neighbours_are_one_with_what_stands_between_them() -> None:
    merged = merge_neighbours([passage(1, 0.9), passage(3, 0.8), passage(0, 0.7)])
    assert [(hit.text, hit.score) for hit in merged] == [
        ("First.\n\n## A\n\nSecond.", 0.9),
        ("Fourth.", 0.8),
    ]
    assert all(TEXT[hit.node.start : hit.node.end] == hit.text for hit in merged)
    (whole,) = merge_neighbours([passage(n, None) for n in (2, 0, 3, 1)])
    assert (whole.text, whole.score) == (TEXT, None)
    assert all(whole.node.holds(passage(n).node) for n in range(4))


def test_passages_of_other_documents_or_from_elsewhere_are_no_neighbours() -> None:
    apart = [passage(0), passage(1, document="e"), passage(2), passage(2)]
    assert merge_neighbours(apart) == apart
    moved = [passage(0), hit("Second.", ordinal=1, start=99)]
    assert merge_neighbours(moved) == moved
    assert merge_neighbours([]) == []


def test_neighbours_were_found_by_whatever_found_one_of_them() -> None:
    found = [
        replace(passage(1, 0.9), found_by=("words",)),
        replace(passage(2), found_by=("meaning",)),
    ]
    (merged,) = merge_neighbours(found)
    assert merged.found_by == ("meaning", "words")


@pytest.mark.parametrize("number", [1, 3, 9])
def test_the_first_are_kept(number: int) -> None:
    assert First(number)(FOUND, "q") == FOUND[:number]
