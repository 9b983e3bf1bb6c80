"""What was found -> what is answered from."""

import pytest

from rag.answering.postprocessing import SimilarityPostprocessor, best_only
from rag.types import NodeWithScore
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


def test_the_best_alone() -> None:
    assert list(best_only(FOUND, "q")) == FOUND[:1]
    assert list(best_only([], "q")) == []
