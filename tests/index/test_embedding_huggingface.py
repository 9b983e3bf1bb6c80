"""The real all-MiniLM-L6-v2 in process."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from rag.config import DEFAULT_EMBED_MODEL
from rag.documents.splitting import split
from rag.errors import ModelUnavailableError
from rag.index.embedding import Vector
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.types import Document

pytestmark = pytest.mark.slow

SAME = 0.9995
"""The least cosine of one text's vectors in bfloat16, computed alone and with others."""


@pytest.fixture(scope="module")
def minilm(models_dir: Path) -> HuggingFaceEmbedding:
    return HuggingFaceEmbedding(models_dir=models_dir)


def vectors(model: HuggingFaceEmbedding, *texts: str) -> list[Vector]:
    return [embedded.vector for embedded in model.embed(texts)]


def test_vectors_are_384_numbers_of_length_1(minilm: HuggingFaceEmbedding) -> None:
    (vector,) = vectors(minilm, "The Rhine flows north.")
    assert (minilm.name, minilm.dimensions) == (DEFAULT_EMBED_MODEL, 384)
    assert (vector.shape, vector.dtype) == ((384,), np.float32)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert minilm.embed([]) == []


def test_it_gives_what_the_published_model_gives(minilm: HuggingFaceEmbedding) -> None:
    """The three texts and their similarities are on the model card of sentence-transformers."""
    a, b, c = vectors(
        minilm,
        "The weather is lovely today.",
        "It's so sunny outside!",
        "He drove to the stadium.",
    )
    assert [a @ b, a @ c, b @ c] == pytest.approx([0.6660, 0.1046, 0.1411], abs=5e-3)


def test_without_matrix_units_for_it_nothing_is_rounded_to_bfloat16(
    minilm: HuggingFaceEmbedding, minilm_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    exact = HuggingFaceEmbedding(str(minilm_path))
    assert exact._model.dtype == torch.float32
    texts = ["It's so sunny outside!", "He drove to the stadium. " * 30]
    for one, other in zip(exact.embed(texts), minilm.embed(texts), strict=True):
        assert one.vector @ other.vector > SAME
        assert (one.tokens * other.tokens).sum(1).min() > 0.995
    a, b = vectors(exact, "The weather is lovely today.", "It's so sunny outside!")
    assert a @ b == pytest.approx(0.6660, abs=1e-4)


def test_words_have_vectors_of_their_own(minilm: HuggingFaceEmbedding) -> None:
    text = "It’s 12 o'clock – (really?) 🚀 [SEP]"
    tokens = ["it", "s", "12", "o", "clock", "really"]
    (embedded,) = minilm.embed([text])
    assert embedded.tokens.shape == (len(tokens), 384)
    assert embedded.tokens.dtype == np.float32
    assert np.linalg.norm(embedded.tokens, axis=1) == pytest.approx(1, abs=1e-5)
    assert isinstance(minilm.tokenizer, Tokenizer)
    vocabulary = minilm.tokenizer.get_vocab()
    words = {text for text, number in vocabulary.items() if minilm._weights[number]}
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    assert words == {text for text in vocabulary if any(map(str.isalnum, text))} - special


def test_a_word_is_near_itself_in_another_text(minilm: HuggingFaceEmbedding) -> None:
    question = minilm.embed_query("river").tokens
    (passage,) = minilm.embed(["A long river crosses the town."])
    assert (question @ passage.tokens.T).argmax() == 2


def test_a_question_of_this_model_is_embedded_as_a_passage(minilm: HuggingFaceEmbedding) -> None:
    (passage,) = minilm.embed(["Where does the Rhine flow?"])
    question = minilm.embed_query("Where does the Rhine flow?")
    assert np.array_equal(question.vector, passage.vector)
    # "Where", "does" and "the" weigh half.
    weights = np.array([[0.5], [0.5], [0.5], [1], [1]], np.float32)
    assert np.array_equal(question.tokens, passage.tokens * weights)


def test_a_vector_does_not_depend_on_its_company(minilm: HuggingFaceEmbedding) -> None:
    texts = [f"word {'more ' * (n * 7 % 200)}{n}" for n in range(67)]
    together = minilm.embed(texts)
    for number in (0, 1, 20, len(texts) - 1):
        (alone,) = minilm.embed([texts[number]])
        assert together[number].vector @ alone.vector > SAME
        assert together[number].tokens.shape == alone.tokens.shape == (2 + number * 7 % 200, 384)
        assert (together[number].tokens * alone.tokens).sum(1).min() > 0.995


def test_a_text_longer_than_the_model_reads_is_cut(minilm: HuggingFaceEmbedding) -> None:
    short, long, end = vectors(minilm, "river " * 200, "river " * 5000 + "cat", "cat")
    assert short @ long > 0.95 > long @ end
    _, same = minilm.embed(["x", "river " * 5000 + "dog"])
    assert same.vector @ long > SAME
    assert same.tokens.shape == (254, 384)


def test_an_empty_text_has_a_vector(minilm: HuggingFaceEmbedding) -> None:
    (empty,) = minilm.embed([""])
    assert np.linalg.norm(empty.vector) == pytest.approx(1, abs=1e-5)
    assert empty.tokens.shape == (0, 384)


def test_its_tokenizer_splits_without_cutting(minilm: HuggingFaceEmbedding) -> None:
    assert isinstance(minilm.tokenizer, Tokenizer)
    assert len(minilm.tokenizer.encode("river " * 1000).ids) >= 1000
    nodes = split(Document("Rivers flow to the sea. " * 200), minilm.tokenizer, 60)
    lengths = [len(minilm.tokenizer.encode(node.text, add_special_tokens=False)) for node in nodes]
    assert 40 < max(lengths) <= 60


def test_threads_do_not_mix_their_results(minilm: HuggingFaceEmbedding) -> None:
    texts = ["A river.", "A cat sleeps.", "The stock market fell.", "He sings."]
    alone = [minilm.embed_query(text).vector for text in texts]
    with ThreadPoolExecutor(4) as pool:
        for embedded, expected in zip(pool.map(minilm.embed_query, texts), alone, strict=True):
            assert embedded.vector @ expected == pytest.approx(1, abs=1e-5)


def test_other_threads_go_on_while_it_computes(minilm: HuggingFaceEmbedding) -> None:
    """An event loop in the same process serves the page meanwhile."""
    done = threading.Event()
    pauses: list[float] = []

    def tick() -> None:
        while not done.is_set():
            begin = time.perf_counter()
            time.sleep(0.005)
            pauses.append(time.perf_counter() - begin)

    with ThreadPoolExecutor(1) as pool:
        ticking = pool.submit(tick)
        minilm.embed(["Rivers flow to the sea and carry sand. " * 15] * 32)
        done.set()
        ticking.result()
    assert np.quantile(pauses, 0.9) < 0.1


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
