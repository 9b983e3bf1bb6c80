"""Further questions that the documents can answer."""

import pytest

from rag.answering.events import Sources
from rag.answering.suggestions import MOST, TRIED, questions_of, suggest
from rag.config import Config
from rag.errors import ProviderError
from rag.index.embedding import HashEmbedding
from rag.llms.protocol import LLM
from rag.types import Node, NodeWithScore
from tests.answering.conftest import Finds, Says, hit

PROSE = "It is one of the things that are told of in this text, and there is more to it."


def node(text: str, *headings: str) -> Node:
    return hit(text, headings=headings).node


def under(heading: str, number: int = 0, *, score: float = 0.5) -> NodeWithScore:
    place = {"ordinal": 2 * number, "start": 1000 * number}
    return hit(PROSE, score=score, headings=("A guide", heading), **place)


class Searches:
    """Finds the passage whose heading or text has most words of the question, then the others."""

    def __init__(self, *passages: NodeWithScore):
        self.passages = passages
        self.asked: list[str] = []

    def retrieve(self, query: str) -> list[NodeWithScore]:
        self.asked.append(query)
        words = set(query.lower().strip("?").split())

        def shared(one: NodeWithScore) -> int:
            return len(words & set(one.node.embedded_text.lower().replace("?", "").split()))

        return sorted(self.passages, key=shared, reverse=True)


GUIDE = [
    under(heading, number)
    for number, heading in enumerate(
        [
            "How do I begin?",
            "How do I add documents?",
            "Which formats are read?",
            "Is anything sent away?",
            "Who made Rivulet?",
        ]
    )
]


def suggested(
    passages: list[NodeWithScore],
    *asked: str,
    llm: LLM | None = None,
    cutoff: float | None = None,
) -> list[str]:
    sources = Sources((passages[0],), tuple(passages[1:2]))
    found = suggest(
        asked or ("How do I begin?",),
        sources,
        Searches(*passages),
        Config(relevance_cutoff=cutoff),
        HashEmbedding(),
        llm,
    )
    return [question for question in found if question]


# What can be asked of a passage


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("How do I begin?", "How do I begin?"),
        ("3.2 How do I begin?", "How do I begin?"),
        ("Wie fange ich an?", "Wie fange ich an?"),
        ("どう始めますか？", "どう始めますか？"),
        ("2. Things", "What do the documents say about things?"),
        ("Chapter 3: The Rhine", "What do the documents say about the Rhine?"),
        ("Edict of Nantes", "What do the documents say about Edict of Nantes?"),
        ("GPU memory", "What do the documents say about GPU memory?"),
    ],
)
def test_a_heading_is_asked_about(heading: str, question: str) -> None:
    assert next(questions_of(node(PROSE, "Outer", heading))) == question


@pytest.mark.parametrize(
    "heading",
    [
        "Introduction",
        "1. Overview",
        "References",
        "Appendix B",
        "And then?",
        "Is it?",
        "7",
        "-",
        "",
    ],
)
def test_a_heading_that_says_nothing_by_itself_is_not(heading: str) -> None:
    assert list(questions_of(node(PROSE, heading))) == []


def test_elsewhere_than_in_english_a_heading_stays_as_it_is() -> None:
    text = (
        "Der Hausmeister ist ein Mann, der den Schlüssel zum Keller hat. Der Rhein ist ein Fluss."
    )
    assert list(questions_of(node(text, "Schlüssel und Keller"))) == ["Schlüssel und Keller"]
    assert list(questions_of(node(text))) == []


@pytest.mark.parametrize(
    ("text", "questions"),
    [
        ("A token is a piece of a word that the model reads.", ["What is a token?"]),
        (
            "Imperialism is the practice of ruling others. So is imperialism.",
            ["What is imperialism?"],
        ),
        (
            "The Normans (Latin: Normanni) were the people who gave their name to Normandy.",
            ["Who were the Normans?"],
        ),
        ("William Farel was a French theologian of that time.", ["Who was William Farel?"]),
        ("This is a thing that is not named in the sentence.", []),
        ("The effort was a failure that is told of in the letters.", []),
        ("Another result is a thing that is told of in the text.", []),
        ("Braddock's plan was a failure that is told of by them.", []),
    ],
)
def test_what_a_sentence_defines_is_asked_for(text: str, questions: list[str]) -> None:
    asked = questions_of(node(text))
    assert [question for question in asked if "documents" not in question] == questions


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("It was the end of the Edict of Nantes, as they had it.", ["the Edict of Nantes"]),
        ("They were led by Pierre Bayle and by him alone.", ["Pierre Bayle"]),
        ("In the French and Indian War, it was not so.", []),
        ("They met the West Asian and the other ones.", []),
        ("It was by the National Science Foundation grants that it was done.", []),
        ("It was on the First Monday of the month.", []),
        ("It is as in William E. of the others.", []),
        ("It was in Normandy that they were.", []),
    ],
)
def test_what_has_a_name_is_asked_about(text: str, names: list[str]) -> None:
    expected = [f"What do the documents say about {name}?" for name in names]
    assert list(questions_of(node(text))) == expected


# What is suggested


def test_some_that_lead_elsewhere_than_the_answer() -> None:
    found = suggested(GUIDE)
    assert found == [hit.node.headings[-1] for hit in GUIDE[1 : MOST + 1]]


def test_a_question_that_was_asked_is_not_suggested() -> None:
    found = suggested(GUIDE, "How can I add some documents?", "How do I begin?")
    assert found == [hit.node.headings[-1] for hit in GUIDE[2:]]


def test_nor_one_of_which_nothing_bears() -> None:
    weak = [GUIDE[0], *(under(hit.node.headings[-1], n, score=0.2) for n, hit in enumerate(GUIDE))]
    assert suggested(weak, cutoff=0.3) == []
    assert suggested(weak, cutoff=0.1)


def test_nor_two_that_lead_to_the_same_passage() -> None:
    same = [
        GUIDE[0],
        hit("A cat is a pet of very many. A dog is a pet of not so many.", ordinal=9, start=9000),
    ]
    assert suggested(same) == ["What is a cat?"]


def test_nor_one_that_leads_back_to_sentences_of_the_answer() -> None:
    """A small model is given a stretch of a passage."""
    whole = hit("A cat is a pet of very many. A dog is a pet of not so many.", start=100)
    stretch = hit("A dog is a pet of not so many.", start=129)
    found = suggest(["dogs?"], Sources((stretch,)), Finds(whole), Config(), HashEmbedding())
    assert not any(found)


def test_after_a_question_that_nothing_bears_on_the_nearest_are_suggested() -> None:
    found = suggest(
        ["Why?"], Sources((), tuple(GUIDE)), Searches(*GUIDE), Config(), HashEmbedding()
    )
    assert next(each for each in found if each) == "How do I begin?"


def test_where_nothing_else_is_found_there_is_none() -> None:
    assert suggested(GUIDE[:1]) == []


def test_it_can_be_stopped_before_each_search() -> None:
    searches = Searches(*GUIDE)
    found = suggest(["x"], Sources((GUIDE[0],)), searches, Config(), HashEmbedding())
    for searched in range(4):
        assert next(found) == ""
        assert len(searches.asked) == min(searched, 2)
        if searched == 2:
            break
    found.close()
    assert len(searches.asked) == 2


def test_not_more_are_tried_than_one_would_wait_for() -> None:
    many = [under(f"How is number {n} made?", n) for n in range(50)]
    found = Finds(*many)  # whatever is asked, it is the first that is found
    questions = suggest(["x"], Sources((many[0],)), found, Config(), HashEmbedding())
    assert not any(questions)
    assert len(found.asked) <= 2 + TRIED


# What a model writes


def test_a_model_that_is_not_small_writes_them() -> None:
    llm = Says(["1. Which formats are ", "read?\n", "- **Is anything sent away?**\nSure!\nAnd it?"])
    assert suggested(GUIDE, llm=llm) == [
        *("Which formats are read?", "Is anything sent away?"),
        "How do I add documents?",  # by rule
    ]
    (prompt,) = llm.prompts
    assert "How do I add documents?" not in prompt  # headings that are questions are left out
    assert PROSE in prompt
    assert "I have asked: How do I begin?" in prompt
    assert llm.limits[0]


def test_a_small_model_is_not_asked() -> None:
    llm = Says(small=True)
    assert len(suggested(GUIDE, llm=llm)) == MOST
    assert llm.calls == []


@pytest.mark.parametrize(
    "reply", [[], ["Sorry."], ["Which for", ProviderError("It is down.")], [" "]]
)
def test_where_a_model_writes_none_the_rule_does(reply: list[str | Exception]) -> None:
    assert len(suggested(GUIDE, llm=Says(reply))) == MOST


def test_a_model_can_be_stopped_while_it_writes() -> None:
    llm = Says(["Which "] * 20)
    found = suggest(["x"], Sources((GUIDE[0],)), Searches(*GUIDE), Config(), HashEmbedding(), llm)
    while not llm.steps:
        assert next(found) == ""
    found.close()
    assert llm.open == 0
    assert llm.steps < 20
