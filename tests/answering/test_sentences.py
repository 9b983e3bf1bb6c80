"""The sentences of passages that a small model is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.sentences import BestSentences, _sentences
from rag.index.embedding import HashEmbedding
from rag.types import NodeWithScore
from tests.answering.conftest import hit

RHINE = (
    "The Rhine rises in the Alps. It flows north to the sea. Its mouth is in Holland. Cats sleep."
)


def texts(text: str) -> list[str]:
    return [text[begin:end] for begin, end in _sentences(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ('He said "No." Then left.', ['He said "No."', "Then left."]),
        ("It costs 2.50 euros, e.g. here. Ok.", ["It costs 2.50 euros, e.g. here.", "Ok."]),
        ("Äpfel. Über alles.", ["Äpfel.", "Über alles."]),
        ("北京。上海！", ["北京。", "上海！"]),
        ("A list\n\n- a\n- b", ["A list", "- a\n- b"]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["| a | b |\n|---|---|\n| 1 | 2 |"]),
        ("no end", ["no end"]),
        ("", [""]),
        (" \n\n ", [" \n\n "]),
    ],
)
def test_sentences_end_where_they_end(text: str, sentences: list[str]) -> None:
    assert texts(text) == sentences


@given(st.text('aB.!? \n"”(。', max_size=40))
def test_nothing_but_space_is_between_sentences(text: str) -> None:
    spans = list(_sentences(text))
    assert spans
    end = 0
    for begin, stop in spans:
        assert not text[end:begin].strip()
        assert begin >= end
        end = stop
    assert not text[end:].strip()


def best(*hits: NodeWithScore, question: str = "where does the rhine rise") -> NodeWithScore:
    (left,) = BestSentences(HashEmbedding())(list(hits), question)
    return left


def test_the_best_sentence_is_left_with_its_place() -> None:
    left = best(hit(f"Cats sleep. {RHINE}", start=100, score=0.7), question="the rhine rises alps")
    assert (left.text, left.node.start, left.score) == ("The Rhine rises in the Alps.", 112, 0.7)


def test_neighbours_that_say_as_much_stay_with_it() -> None:
    text = "Cats sleep. The rhine flows. The rhine rises. Dogs bark."
    left = best(hit(text), question="the rhine")
    assert left.text == "The rhine flows. The rhine rises."


def test_a_later_passage_has_it_where_it_is_better() -> None:
    other = hit("The rhine is wide. The elbe flows past Hamburg.", document_id="e")
    assert best(hit(RHINE), other, question="the elbe flows past hamburg").node.document_id == "e"
    far = [hit("Cats sleep.", ordinal=n) for n in range(3)]
    assert best(*far, other, question="the elbe flows past hamburg").text == "Cats sleep."


def test_headings_are_read_with_each_sentence() -> None:
    below = hit("It flows north. It is long.", headings=("Rhine",))
    assert best(below, question="rhine north flows it").text == "It flows north."


def test_of_nothing_nothing_is_left() -> None:
    assert BestSentences(HashEmbedding())([], "x") == []
    assert best(hit("")).text == ""


@pytest.mark.parametrize(("passages", "found"), [(1, "Cats sleep."), (4, "The Rhine rises.")])
def test_in_how_many_passages_it_is_sought(passages: int, found: str) -> None:
    nodes = [hit(text) for text in ("Cats sleep.", "Dogs bark.", "Cows moo.", "The Rhine rises.")]
    (best,) = BestSentences(HashEmbedding(), passages)(nodes, "Where does the Rhine rise?")
    assert best.text == found
