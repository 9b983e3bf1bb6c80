"""The figures, against values computed by hand and against another way to compute them."""

import re
import string
from itertools import permutations
from math import isclose, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.evaluation.metrics import contains, mean, ndcg, recall, reciprocal_rank, retrieval_figures

ENTRIES = list("abcdefghijklmno")
rankings = st.lists(st.sampled_from(ENTRIES), unique=True, max_size=12)
all_grades = st.dictionaries(st.sampled_from(ENTRIES), st.integers(0, 4)).filter(
    lambda grades: any(grades.values())
)


def test_one_relevant_entry_in_third_place() -> None:
    assert retrieval_figures(["x", "y", "right", "z"], {"right": 1}) == {
        "recall@1": 0,
        "recall@5": 1,
        "recall@10": 1,
        "mrr": 1 / 3,
        "ndcg@10": 0.5,  # 1 / log2(4)
    }


def test_three_relevant_entries_one_of_them_far_down_and_one_not_found() -> None:
    ranking = ["a", *"123456", "b"]
    figures = retrieval_figures(ranking, {"a": 1, "b": 1, "c": 1})
    assert figures["recall@1"] == figures["recall@5"] == 1 / 3
    assert figures["recall@10"] == 2 / 3
    assert figures["mrr"] == 1
    # (1 + 1/log2(9)) / (1 + 1/log2(3) + 1/log2(4))
    assert isclose(figures["ndcg@10"], 1.315465 / 2.130930, rel_tol=1e-5)


def test_grades_weigh_by_their_gain() -> None:
    """The example of Wikipedia's article, with the gain 2^grade - 1: 3 2 3 0 1 2 of 3 3 3 2 2 2."""
    grades = {"a": 3.0, "b": 2.0, "c": 3.0, "d": 0.0, "e": 1.0, "f": 2.0, "g": 3.0, "h": 2.0}
    assert isclose(ndcg(list("abcdef"), grades, 6), 13.848264 / 18.437735, rel_tol=1e-5)


def test_nothing_relevant_found_is_0() -> None:
    for ranking in ([], ["x"], list("xyz")):
        assert set(retrieval_figures(ranking, {"right": 2}).values()) == {0}


def test_the_best_order_is_1_also_with_fewer_than_ten_and_more_than_ten_relevant() -> None:
    few = retrieval_figures(["a", "b"], {"a": 2, "b": 1})
    assert (few["ndcg@10"], few["recall@10"], few["recall@1"]) == (1, 1, 0.5)
    many = retrieval_figures(ENTRIES[:10], dict.fromkeys(ENTRIES, 1))
    assert (many["ndcg@10"], many["recall@10"]) == (1, 10 / 15)


def test_entries_of_the_same_grade_may_change_places() -> None:
    grades = {"a": 2.0, "b": 2.0, "c": 2.0}
    assert {ndcg(order, grades, 10) for order in permutations("abc")} == {1}


def test_a_grade_of_0_is_not_relevant() -> None:
    figures = retrieval_figures(["a", "b"], {"a": 0, "b": 1})
    assert (figures["recall@1"], figures["mrr"], figures["recall@5"]) == (0, 0.5, 1)


def test_what_comes_after_the_tenth_counts_for_nothing() -> None:
    assert set(retrieval_figures([*"0123456789", "right"], {"right": 1}).values()) == {0}


def independent(ranking: list[str], grades: dict[str, int]) -> dict[str, float]:
    """The same from the definitions, place by place."""
    places = {entry: ranking.index(entry) + 1 for entry in grades if entry in ranking}
    found = [places[entry] for entry in places if grades[entry]]
    relevant = len([grade for grade in grades.values() if grade])

    def gain(grade: int, place: int) -> float:
        return (pow(2, grade) - 1) * log(2) / log(place + 1) if place <= 10 else 0.0

    order = sorted(grades, key=lambda entry: -grades[entry])
    best = sum(gain(grades[entry], place + 1) for place, entry in enumerate(order))
    first = min(found, default=99)
    return {
        **{f"recall@{k}": len([p for p in found if p <= k]) / relevant for k in (1, 5, 10)},
        "mrr": 1 / first if first <= 10 else 0.0,
        "ndcg@10": sum(gain(grades[entry], places[entry]) for entry in places) / best,
    }


@given(rankings, all_grades)
def test_the_figures_are_those_of_another_implementation(
    ranking: list[str], grades: dict[str, int]
) -> None:
    assert retrieval_figures(ranking, grades) == pytest.approx(independent(ranking, grades))


@given(rankings, all_grades)
def test_every_figure_is_a_share(ranking: list[str], grades: dict[str, int]) -> None:
    figures = retrieval_figures(ranking, grades)
    assert all(0 <= figure <= 1 + 1e-9 for figure in figures.values())
    assert figures["recall@1"] <= figures["recall@5"] <= figures["recall@10"]


def test_the_parts_take_any_depth() -> None:
    assert recall("abcd", {"b", "d"}, 3) == 0.5
    assert reciprocal_rank("abcd", {"b", "d"}) == 0.5
    assert ndcg(["b", "a"], {"a": 1}, 1) == 0


@pytest.mark.parametrize(
    ("answer", "gold", "is_in"),
    [
        ("Normandy is in France.", ["France"], True),
        ("Normandy is in FRANCE", ["france."], True),
        ("In the 10th and 11th centuries, it was.", ["10th and the 11th centuries"], True),
        ("It is in Spain.", ["France", "Spain"], True),
        ("It is in Spain.", ["France"], False),
        ("", ["France"], False),
        ("It cost 1,200 francs", ["1200"], True),
        ("the U.S. Army", ["US army"], True),
        ("a cat", ["The cat"], True),
        ("theatre", ["atre"], True),  # an article is a word
        ("Die Antwort ist „Straße“.", ["Straße"], True),
        ("首都是北京。", ["北京"], True),
        ("a\n line   break", ["line break"], True),
        ("anything", ["the", "?!", " "], False),  # nothing is left of these
        ("anything", [], False),
    ],
)
def test_an_answer_contains_a_gold_answer(answer: str, gold: list[str], is_in: bool) -> None:
    assert contains(answer, gold) is is_in


def squad_normal(text: str) -> str:
    """`normalize_answer` of SQuAD's published evaluation script."""
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text).split())


words = st.lists(st.sampled_from(["The", "a", "An", "cat", "U.S.", "1,000", "sat!", "ant"]))


@given(words, st.lists(words, max_size=3))
def test_texts_are_compared_as_squad_compares_them(
    answer: list[str], gold: list[list[str]]
) -> None:
    texts = [" ".join(each) for each in gold]
    normal = [squad_normal(text) for text in texts]
    expected = any(each and each in squad_normal(" ".join(answer)) for each in normal)
    assert contains(" ".join(answer), texts) == expected


def test_the_mean_is_that_of_each_figure() -> None:
    assert mean([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 0.0}]) == {"a": 0.5, "b": 0}
    assert mean([]) == {}
