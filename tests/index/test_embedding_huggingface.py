"""The real all-MiniLM-L6-v2 in process."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from rag.config import DEFAULT_EMBED_MODEL
from rag.documents.splitting import split
from rag.errors import ModelUnavailableError
from rag.index.embedding import Vector
from rag.index.embedding_huggingface import BATCH, HuggingFaceEmbedding
from rag.types import Document

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def minilm(models_dir: Path) -> HuggingFaceEmbedding:
    return HuggingFaceEmbedding(models_dir=models_dir)


def cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_vectors_are_384_numbers_of_length_1(minilm: HuggingFaceEmbedding) -> None:
    (vector,) = minilm.embed(["The Rhine flows north."])
    assert (minilm.name, minilm.dimensions, len(vector)) == (DEFAULT_EMBED_MODEL, 384, 384)
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-5)
    assert minilm.embed([]) == []


def test_it_gives_what_the_published_model_gives(minilm: HuggingFaceEmbedding) -> None:
    """The three texts and their similarities are on the model card of sentence-transformers."""
    texts = [
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    ]
    a, b, c = minilm.embed(texts)
    assert [cosine(a, b), cosine(a, c), cosine(b, c)] == pytest.approx(
        [0.6660, 0.1046, 0.1411], abs=1e-3
    )


def test_a_vector_does_not_depend_on_its_company(minilm: HuggingFaceEmbedding) -> None:
    texts = [f"word {'more ' * (n * 7 % 40)}{n}" for n in range(2 * BATCH + 3)]
    together = minilm.embed(texts)
    for number in (0, 1, BATCH, len(texts) - 1):
        (alone,) = minilm.embed([texts[number]])
        assert cosine(together[number], alone) == pytest.approx(1, abs=1e-4)


def test_a_text_longer_than_the_model_reads_is_cut(minilm: HuggingFaceEmbedding) -> None:
    short, long, end = minilm.embed(["river " * 200, "river " * 5000 + "cat", "cat"])
    assert cosine(short, long) > 0.95 > cosine(long, end)
    _, same = minilm.embed(["x", "river " * 5000 + "dog"])
    assert same == pytest.approx(long, abs=1e-4)


def test_an_empty_text_has_a_vector(minilm: HuggingFaceEmbedding) -> None:
    (vector,) = minilm.embed([""])
    assert all(map(math.isfinite, vector))


def test_its_tokenizer_splits_without_cutting(minilm: HuggingFaceEmbedding) -> None:
    assert isinstance(minilm.tokenizer, Tokenizer)
    assert len(minilm.tokenizer.encode("river " * 1000).ids) >= 1000
    nodes = split(Document("Rivers flow to the sea. " * 200), minilm.tokenizer, 60)
    lengths = [len(minilm.tokenizer.encode(node.text, add_special_tokens=False)) for node in nodes]
    assert 40 < max(lengths) <= 60


def test_threads_do_not_mix_their_results(minilm: HuggingFaceEmbedding) -> None:
    texts = ["A river.", "A cat sleeps.", "The stock market fell.", "He sings."]
    alone = [minilm.embed([text])[0] for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for vector, expected in zip(
            pool.map(lambda text: minilm.embed([text])[0], texts), alone, strict=True
        ):
            assert cosine(vector, expected) == pytest.approx(1, abs=1e-5)


def test_a_folder_that_holds_no_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match=f"{tmp_path} cannot be loaded from"):
        HuggingFaceEmbedding(str(tmp_path))
    with pytest.raises(ModelUnavailableError, match="no folder"):
        HuggingFaceEmbedding(str(tmp_path / "other"))


def test_loading_is_reported(minilm_path: Path) -> None:
    told: list[tuple[str, float]] = []
    model = HuggingFaceEmbedding(str(minilm_path), report=lambda *doing: told.append(doing))
    assert told == [("Loading", 0.9)]
    assert model.name == str(minilm_path)
