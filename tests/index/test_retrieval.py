"""A question finds its passages, over one index or several."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.config import RetrieverMode
from rag.index.embedding import HashEmbedding
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.index.ingestion import ingest
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.types import Document


@pytest.fixture
def other(hash_embedding: HashEmbedding) -> Iterator[ChromaStore]:
    store = ChromaStore(None, hash_embedding.name)
    yield store
    store.close()


def fill(store: ChromaStore, **documents: str) -> None:
    for name, text in documents.items():
        list(ingest(Document(text, {"file_name": name}), store, HashEmbedding()))


def names(retriever: VectorIndexRetriever, query: str) -> list[str]:
    return [hit.node.file_name for hit in retriever.retrieve(query)]


def test_the_best_come_first_and_no_more_than_asked(
    store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    fill(
        store,
        rhine="the rhine flows north",
        elbe="the elbe flows past hamburg",
        cat="cats sleep",
        cake="bake it slowly",
    )
    retriever = VectorIndexRetriever([store], hash_embedding, 2)
    assert names(retriever, "where does the rhine flow north") == ["rhine", "elbe"]
    scores = [hit.score for hit in retriever.retrieve("rhine")]
    assert scores == sorted(scores, reverse=True)
    assert names(VectorIndexRetriever([store], hash_embedding, 1), "cats") == ["cat"]
    assert len(names(VectorIndexRetriever([store], hash_embedding, 9), "cats")) == 4


def test_several_indexes_are_ranked_as_one(
    store: ChromaStore, other: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    fill(store, mine="the rhine flows north", cat="cats sleep")
    fill(other, sample="the rhine", far="bake it slowly")
    retriever = VectorIndexRetriever([store, other], hash_embedding, 2)
    assert names(retriever, "the rhine") == ["sample", "mine"]
    assert names(retriever, "the rhine flows north") == ["mine", "sample"]


def test_where_nothing_is_nothing_is_found(
    store: ChromaStore, other: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    assert VectorIndexRetriever([], hash_embedding).retrieve("x") == []
    assert VectorIndexRetriever([store], hash_embedding).retrieve("x") == []
    fill(other, cat="cats sleep")
    assert names(VectorIndexRetriever([store, other], hash_embedding), "cats") == ["cat"]


def test_a_question_without_words_is_no_error(
    store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    fill(store, cat="cats sleep")
    assert len(VectorIndexRetriever([store], hash_embedding).retrieve("?!")) == 1


def test_a_question_with_half_a_character_is_no_error(
    store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    fill(store, cat="cats sleep", rhine="the rhine")
    assert names(VectorIndexRetriever([store], hash_embedding, 1), "\ud800 cats") == ["cat"]


@pytest.mark.slow
def test_a_question_with_half_a_character_is_no_error_for_the_real_model(models_dir: Path) -> None:
    embedding = HuggingFaceEmbedding(models_dir=models_dir)
    store = ChromaStore(None, embedding.name)
    list(ingest(Document("Half a character: \ud800."), store, embedding))
    assert len(VectorIndexRetriever([store], embedding).retrieve("\ud800?")) == 1
    store.close()


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_number_of_passages_below_one_is_refused(
    store: ChromaStore, hash_embedding: HashEmbedding, top_k: int
) -> None:
    with pytest.raises(ValueError, match=f"similarity_top_k is {top_k}; it has to be 1 or more"):
        VectorIndexRetriever([store], hash_embedding, top_k)


def test_two_are_found_where_no_number_is_given(
    store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    fill(store, a="the rhine", b="the elbe", c="the oder")
    assert len(VectorIndexRetriever([store], hash_embedding).retrieve("the")) == 2


@pytest.mark.parametrize(
    ("mode", "found_by"),
    [
        ("hybrid", {"rhine": ("meaning", "words"), "cat": ("meaning",)}),
        ("dense", {"rhine": ("meaning",), "cat": ("meaning",)}),
        ("keyword", {"rhine": ("words",)}),
    ],
)
def test_each_says_how_it_was_found(
    store: ChromaStore,
    hash_embedding: HashEmbedding,
    mode: RetrieverMode,
    found_by: dict[str, tuple[str, ...]],
) -> None:
    fill(store, rhine="the rhine flows north", cat="cats sleep")
    hits = VectorIndexRetriever([store], hash_embedding, 5, mode).retrieve("Where is the rhine?")
    assert {hit.node.file_name: hit.found_by for hit in hits} == found_by
