"""The embedding without weights keeps what every embedding promises."""

import numpy as np
import pytest

from rag.index.embedding import HashEmbedding


def test_vectors_have_the_stated_length_and_order(hash_embedding: HashEmbedding) -> None:
    texts = ["the rhine flows north", "a cat", "the rhine flows north"]
    vectors = [embedded.vector for embedded in hash_embedding.embed(texts)]
    assert [vector.shape for vector in vectors] == [(hash_embedding.dimensions,)] * 3
    assert {vector.dtype for vector in vectors} == {np.dtype(np.float32)}
    assert [np.linalg.norm(vector) for vector in vectors] == pytest.approx([1, 1, 1])
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.array_equal(vectors[0], vectors[1])
    assert np.array_equal(hash_embedding.embed(texts[1:2])[0].vector, vectors[1])
    assert hash_embedding.embed([]) == []


def test_a_question_is_embedded_as_a_passage(hash_embedding: HashEmbedding) -> None:
    (passage,) = hash_embedding.embed(["where flows the rhine"])
    question = hash_embedding.embed_query("where flows the rhine")
    assert np.array_equal(question.vector, passage.vector)


def test_it_gives_no_token_vectors(hash_embedding: HashEmbedding) -> None:
    (embedded,) = hash_embedding.embed(["the rhine"])
    assert embedded.tokens.shape == (0, hash_embedding.dimensions)
    assert embedded.tokens.dtype == np.float32


def test_texts_are_near_by_the_words_they_share(hash_embedding: HashEmbedding) -> None:
    texts = ["The Rhine flows north.", "Where flows the rhine?", "a cat sleeps"]
    rhine, river, cat = (embedded.vector for embedded in hash_embedding.embed(texts))
    assert rhine @ river > 0.5 > rhine @ cat


def test_it_is_the_same_in_every_process(hash_embedding: HashEmbedding) -> None:
    # An index on disk outlives the process, and Python's own hash() differs in each.
    assert np.flatnonzero(hash_embedding.embed_query("rhine").vector).tolist() == [15]


def test_a_text_without_words_has_a_vector_too(hash_embedding: HashEmbedding) -> None:
    assert not hash_embedding.embed_query("?!").vector.any()


def test_its_tokenizer_counts_words(hash_embedding: HashEmbedding) -> None:
    assert hash_embedding.tokenizer("Two words, 日本語!") == 3
