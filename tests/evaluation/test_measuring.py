"""Questions put to a small index: what is ranked, answered, refused."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import Config
from rag.errors import StoreError
from rag.evaluation.files import Entry, Question
from rag.evaluation.measuring import measure_answers, measure_retrieval, put_in, rank
from rag.index.embedding import HashEmbedding
from rag.types import Document, NodeWithScore
from tests.answering.conftest import Says, hit

ENTRIES = [
    Entry("rhine", "The Rhine", "It flows north."),
    Entry("elbe", "The Elbe", "It flows past Hamburg."),
    Entry("cat", "Cats", "They sleep."),
]


class Ranked:
    """A retriever that finds the first `top_k` passages of given documents."""

    def __init__(self, documents: Sequence[str]):
        self.hits = [hit(str(n), document_id=id_) for n, id_ in enumerate(documents)]
        self.depths: list[int] = []

    def __call__(self, top_k: int) -> "Ranked":
        self.depths.append(top_k)
        return self

    def retrieve(self, query: str) -> list[NodeWithScore]:
        return self.hits[: self.depths[-1]]


@pytest.fixture
def index() -> Iterator[VectorStoreIndex]:
    index = VectorStoreIndex(embed_model=HashEmbedding())
    yield index
    index.close()


def quiet(doing: str, done: float) -> None:
    assert doing
    assert 0 <= done < 1


def question(text: str, *relevant: str, answers: Sequence[str] = ()) -> Question:
    return Question(text, text, dict.fromkeys(relevant, 1.0), tuple(answers))


def test_an_entry_stands_where_its_best_passage_stands() -> None:
    assert rank(Ranked("abacab"), "q") == ["a", "b", "c"]
    assert rank(Ranked(""), "q") == []


def test_ten_different_entries_are_looked_for() -> None:
    """Long entries take many places."""
    found = Ranked("a" * 30 + "b" * 5 + "cdefghijkl")
    assert rank(found, "q") == list("abcdefghij")
    assert found.depths == [10, 20, 40, 80]
    found = Ranked("abcdefghijkl")
    assert rank(found, "q") == list("abcdefghij")
    assert found.depths == [10]


def test_the_looking_ends() -> None:
    found = Ranked("ab")
    assert rank(found, "q") == ["a", "b"]
    assert found.depths == [10, 20]
    found = Ranked("a" * 100_000)
    assert rank(found, "q") == ["a"]
    assert found.depths[-1] < 2_000


@pytest.mark.parametrize("mode", ["hybrid", "dense", "keyword"])
def test_figures_of_a_small_corpus(index: VectorStoreIndex, mode: Any) -> None:
    put_in(index, ENTRIES, quiet)
    asked = [
        question("Where does the Rhine flow north?", "rhine"),
        question("Do cats sleep?", "elbe"),  # wrong, and found later or not at all
        question("What is nowhere?"),  # nothing is to be found
    ]
    figures = measure_retrieval(index, asked, mode, quiet)
    assert figures["recall@1"] == 0.5
    assert figures["mrr"] >= 0.5
    assert set(figures) == {"recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"}
    assert measure_retrieval(index, asked[2:], mode, quiet) == {}


def test_a_long_entry_is_one_entry(index: VectorStoreIndex) -> None:
    long = "\n\n".join(f"The Rhine passes town {n} and flows. " * 20 for n in range(40))
    put_in(index, [Entry("long", "The Rhine", long), *ENTRIES[1:]], quiet)
    assert sum(document.passages for document in index.documents) > 30
    asked = [question("Where does the Rhine flow past Hamburg?", "elbe", "long", "cat")]
    assert measure_retrieval(index, asked, "dense", quiet)["recall@5"] == 1


def test_the_same_corpus_is_put_in_once(index: VectorStoreIndex) -> None:
    put_in(index, ENTRIES, quiet)
    before = {document.id_: document.added for document in index.documents}
    put_in(index, ENTRIES, quiet)
    assert {document.id_: document.added for document in index.documents} == before
    changed = [Entry("cat", "Cats", "They purr."), *ENTRIES[:2]]
    put_in(index, changed, quiet)
    (hit,) = index.as_retriever(1).retrieve("purr")
    assert (hit.text, len(index.documents)) == ("They purr.", 3)


def test_what_is_in_the_index_besides_is_an_error(index: VectorStoreIndex) -> None:
    index.insert(Document("Somebody's own note."))
    with pytest.raises(StoreError, match="1 document that the corpus has not"):
        put_in(index, ENTRIES, quiet)
    assert len(index.documents) == 1


def test_answers_and_refusals_are_counted(index: VectorStoreIndex) -> None:
    put_in(index, ENTRIES, quiet)
    llm = Says(["It flows", " NORTH."], ["No idea."], ["Made up."])
    asked = [
        question("Where does the Rhine flow?", "rhine", answers=["the north"]),
        question("Where does the Elbe flow?", "elbe", answers=["Hamburg"]),
        question("Do cats dream?"),
        question("Qqqq?", answers=["something"]),  # keywords find nothing
        question("Zzzz?"),
    ]
    figures = measure_answers(index, asked, "keyword", llm, Config(), quiet)
    assert figures == {
        "contains": pytest.approx(1 / 3),
        "refused": 0.5,
        "refused_wrongly": pytest.approx(1 / 3),
    }
    assert len(llm.calls) == 3


def test_only_figures_that_have_questions_are_told(index: VectorStoreIndex) -> None:
    put_in(index, ENTRIES, quiet)
    llm = Says(["North."])
    config = Config()
    known = [question("Where does the Rhine flow?", "rhine", answers=["north"])]
    assert measure_answers(index, known, "hybrid", llm, config, quiet) == {"contains": 1}
    unknown = [question("Why?")]
    assert measure_answers(index, unknown, "hybrid", llm, config, quiet) == {"refused": 0}
    assert measure_answers(index, [question("Why?", "cat")], "hybrid", llm, config, quiet) == {}


def test_answers_are_made_as_on_the_page(index: VectorStoreIndex) -> None:
    put_in(index, ENTRIES, quiet)
    asked = [question("Where does the Rhine flow?", "rhine", answers=["north"])]
    for small, passages in ((True, 1), (False, 3)):
        llm = Says(["North."], small=small)
        measure_answers(index, asked, "hybrid", llm, Config(max_new_tokens=7), quiet)
        assert sum(entry.text in llm.prompts[0] for entry in ENTRIES) == passages
        assert llm.limits == [7]
