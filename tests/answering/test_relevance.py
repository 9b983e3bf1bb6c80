"""Whether anything that was found bears on a question."""

import pytest

from rag.answering import relevance as relevance_module
from rag.answering.relevance import CUTOFFS, RelevancePostprocessor
from rag.config import DEFAULT_EMBED_MODEL
from rag.index.embedding import HashEmbedding
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from tests.answering.conftest import hit

GENERAL = (
    "What's this about?",
    "sum it up",
    "Who is the author?",
    "hi there",
    "What is chapter 2 about?",
    "Worum geht es in dem Dokument?",
)
SPECIFIC = (
    "When did the Normans settle?",
    "How tall is the Eiffel tower?",
    "What does error 0x80070057 mean?",
    "Which river flows through Bonn?",
)


def test_all_or_nothing_is_kept_by_the_best_score(hash_embedding: HashEmbedding) -> None:
    relevance = RelevancePostprocessor(hash_embedding, 0.5)
    low, high = hit("a", score=0.2), hit("b", score=0.5)
    assert list(relevance([high, low], "why so blue?")) == [high, low]
    assert list(relevance([low], "why so blue?")) == []
    assert list(relevance([], "why so blue?")) == []


def test_a_question_about_the_documents_as_a_whole_is_let_through(
    hash_embedding: HashEmbedding,
) -> None:
    relevance = RelevancePostprocessor(hash_embedding, 0.5)
    low = hit("a", score=0.2)
    for question in ("what is this document about", "Why?", "?!"):
        assert list(relevance([low], question)) == [low]


def test_nothing_is_refused_where_nothing_was_measured(hash_embedding: HashEmbedding) -> None:
    assert hash_embedding.name not in CUTOFFS
    low = hit("a", score=-0.2)
    assert list(RelevancePostprocessor(hash_embedding)([low], "why?")) == [low]
    minilm_with_none = RelevancePostprocessor(hash_embedding, 0.0)
    assert list(minilm_with_none([hit("a", score=0.0)], "why?"))


@pytest.mark.slow
def test_questions_about_the_whole_are_told_from_others_by_the_default_model() -> None:
    relevance = RelevancePostprocessor(HuggingFaceEmbedding())
    assert relevance.cutoff == CUTOFFS[DEFAULT_EMBED_MODEL]
    low = [hit("a", score=0.1)]
    for question in GENERAL:
        assert relevance(low, question), question
    for question in SPECIFIC:
        assert not relevance(low, question), question


def test_a_passage_with_all_the_words_bears_on_the_question(
    hash_embedding: HashEmbedding, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relevance_module, "GENERAL", 2.0)
    relevance = RelevancePostprocessor(hash_embedding, 0.5)
    low = hit("Call +49 30 901820, ask for Łukasz.", score=0.1)
    assert relevance([low], "what is +49 30 901820?")
    assert relevance([low], "Lukasz")
    assert not relevance([low], "purple elephants dial 901821")
    assert not relevance([low], "blue Lukasz")


def test_what_is_written_in_another_script_is_not_refused(hash_embedding: HashEmbedding) -> None:
    relevance = RelevancePostprocessor(hash_embedding, 0.5)
    assert relevance([hit("a", score=0.1)], "这是关于什么的？")
