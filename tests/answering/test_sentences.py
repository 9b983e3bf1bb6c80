"""The sentences of passages that a small model is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.sentences import BestSentences, GrowingSentences, sentences
from rag.index.embedding import HashEmbedding
from rag.types import NodeWithScore
from tests.answering.conftest import hit

RHINE = (
    "The Rhine rises in the Alps. It flows north to the sea. Its mouth is in Holland. Cats sleep."
)


def texts(text: str) -> list[str]:
    return [text[begin:end] for begin, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "found"),
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
def test_sentences_end_where_they_end(text: str, found: list[str]) -> None:
    assert texts(text) == found


@given(st.text('aB.!? \n"”(。', max_size=40))
def test_nothing_but_space_is_between_sentences(text: str) -> None:
    spans = list(sentences(text))
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


# A text that grows


def grown(*pieces: str) -> list[str]:
    """The sentences of a text in pieces; where each stands is checked."""
    growing, whole = GrowingSentences(), "".join(pieces)
    spans = [span for piece in pieces for span in growing.feed(piece)] + growing.flush()
    assert [end for _, end in spans] == sorted(end for _, end in spans)
    return [whole[begin:end] for begin, end in spans]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It rises in the Alps. It flows", ["It rises in the Alps.", "It flows"]),
        ("It costs 2.50 euros.\nNo more.", ["It costs 2.50 euros.", "No more."]),
        ("Dr. A. Smith met J. F. Kennedy.", ["Dr. A. Smith met J. F. Kennedy."]),
        ("Shops, cafés, etc. The end.", ["Shops, cafés, etc.", "The end."]),
        ("See fig. 3. Then go.", ["See fig. 3.", "Then go."]),
        ("- Cats, etc.\n- Dogs\n- B.\n`1`", ["Cats, etc.", "Dogs", "B.", "`1`"]),
        ("I say no. It is so.", ["I say no.", "It is so."]),
        ("Es war am 3. März 1847. Dann nicht.", ["Es war am 3. März 1847.", "Dann nicht."]),
        ("It has 3. Then more.", ["It has 3.", "Then more."]),
        ("北京。「上海！」广州", ["北京。", "「上海！」", "广州"]),
        ("It is:\n\n- **Lisbon**\n- *Porto.*\n1. Faro", ["It is:", "Lisbon", "Porto.", "Faro"]),
        ("* [x] Done. Well\n> Quoted.", ["Done.", "Well", "Quoted."]),
        ("A line that goes\non in the next.", ["A line that goes\non in the next."]),
        ("# One. Two\nThree.\n## Four", ["Three."]),
        ("**A title**\nThree.\n\n**Note:**\nFour.", ["Three.", "Four."]),
        ("**Bold.** Then *more.*", ["Bold.", "Then *more."]),
        ("So:\n```py\nx = 1. Y\n\n# no\n```\nAnd on.", ["So:", "And on."]),
        ("| a | b. C |\n|---|---|\nText.", ["Text."]),
        ("~~~\nA. B\n```\nC. D", []),
        ("One.\n---\nTwo.", ["One.", "Two."]),
        ("\n---------------------\nResponse 2: It is.", ["It is."]),
        ('He said "No." Then left.', ['He said "No."', "Then left."]),
        ("", []),
        (" \n\n ... !", []),
    ],
)
def test_the_sentences_of_a_growing_text(text: str, found: list[str]) -> None:
    assert grown(text) == found
    assert grown(*text) == found


@given(st.lists(st.text("aB1.! \n*-#`|。”"), max_size=12))
def test_sentences_do_not_depend_on_how_the_text_is_cut(pieces: list[str]) -> None:
    assert grown(*pieces) == grown("".join(pieces))


@given(
    st.lists(st.sampled_from(["Dr.", " The", " A.", " etc.", "\n", " fig. ", "3. ", "März ", "b"]))
)
def test_nor_do_abbreviations(pieces: list[str]) -> None:
    assert grown(*"".join(pieces)) == grown("".join(pieces))


def test_a_sentence_is_told_once_the_next_begins() -> None:
    growing = GrowingSentences()
    assert growing.feed("It rises. ") == []
    assert growing.feed("I") == [(0, 9)]
    assert growing.feed("t flows.\n\n") == [(10, 19)]
    assert growing.flush() == []


def test_a_text_without_an_end_is_taken_in_pieces() -> None:
    growing = GrowingSentences()
    spans = [span for _ in range(1000) for span in growing.feed("word ")] + growing.flush()
    assert len(spans) == 3


@pytest.mark.parametrize(("passages", "found"), [(1, "Cats sleep."), (4, "The Rhine rises.")])
def test_in_how_many_passages_it_is_sought(passages: int, found: str) -> None:
    nodes = [hit(text) for text in ("Cats sleep.", "Dogs bark.", "Cows moo.", "The Rhine rises.")]
    (best,) = BestSentences(HashEmbedding(), passages)(nodes, "Where does the Rhine rise?")
    assert best.text == found
