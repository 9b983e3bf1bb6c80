"""The embedding without weights keeps what every embedding promises."""

import math

import pytest

from rag.index.embedding import HashEmbedding, Vector


def cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_have_the_stated_length_and_order(hash_embedding: HashEmbedding) -> None:
    texts = ["the rhine flows north", "a cat", "the rhine flows north"]
    vectors = hash_embedding.embed(texts)
    assert [len(vector) for vector in vectors] == [hash_embedding.dimensions] * 3
    assert [math.hypot(*vector) for vector in vectors] == pytest.approx([1, 1, 1])
    assert vectors[0] == vectors[2] != vectors[1]
    assert hash_embedding.embed(texts[1:2]) == vectors[1:2]
    assert hash_embedding.embed([]) == []


def test_texts_are_near_by_the_words_they_share(hash_embedding: HashEmbedding) -> None:
    rhine, river, cat = hash_embedding.embed(
        ["The Rhine flows north.", "Where flows the rhine?", "a cat sleeps"]
    )
    assert cosine(rhine, river) > 0.5 > cosine(rhine, cat)


def test_it_is_the_same_in_every_process(hash_embedding: HashEmbedding) -> None:
    # An index on disk outlives the process, and Python's own hash() differs in each.
    (vector,) = hash_embedding.embed(["rhine"])
    assert [place for place, number in enumerate(vector) if number] == [15]


def test_a_text_without_words_has_a_vector_too(hash_embedding: HashEmbedding) -> None:
    assert hash_embedding.embed(["?!"]) == [[0.0] * hash_embedding.dimensions]


def test_its_tokenizer_counts_words(hash_embedding: HashEmbedding) -> None:
    assert hash_embedding.tokenizer("Two words, 日本語!") == 3
