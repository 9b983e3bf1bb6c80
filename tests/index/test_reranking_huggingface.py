"""A cross-encoder changes the order of passages. The models are tiny and made here."""

from pathlib import Path

import pytest

from rag.errors import ModelUnavailableError
from rag.index.reranking_huggingface import SentenceTransformerRerank
from rag.types import Node, NodeWithScore

pytestmark = pytest.mark.slow

TEXTS = ["cats sleep", "the rhine flows north", "bake it slowly " * 300, "", "ü ö \U0001f600"]


def hits(*texts: str) -> list[NodeWithScore]:
    return [NodeWithScore(Node(text, "d", n, n * 99), 0.5) for n, text in enumerate(texts)]


def make(folder: Path, minilm_path: Path, labels: int) -> Path:
    """A model with random weights, and the tokenizer of a real one."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm_path)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        num_labels=labels,
        initializer_range=0.1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, minilm_path: Path) -> Path:
    return make(tmp_path_factory.mktemp("cross-encoder"), minilm_path, 1)


@pytest.fixture(scope="module")
def rerank(folder: Path) -> SentenceTransformerRerank:
    return SentenceTransformerRerank(str(folder), 3)


def test_scores_are_those_of_question_and_passage_together(
    rerank: SentenceTransformerRerank, folder: Path
) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    for question in ("where does the rhine flow", "cats"):
        expected = []
        for text in TEXTS:
            read = tokenizer(
                [question], [text], truncation=True, max_length=512, return_tensors="pt"
            )
            with torch.inference_mode():
                expected.append(torch.sigmoid(model(**read).logits[0, 0]).item())
        assert rerank.scores(question, TEXTS) == pytest.approx(expected, abs=1e-4)
    assert len(set(expected)) == len(TEXTS)


def test_the_best_are_left_and_come_first(rerank: SentenceTransformerRerank) -> None:
    scores = rerank.scores("cats", TEXTS)
    order = sorted(range(len(TEXTS)), key=lambda n: -scores[n])
    ranked = rerank(hits(*TEXTS), "cats")
    assert [hit.node.ordinal for hit in ranked] == order[:3]
    assert [hit.score for hit in ranked] == pytest.approx([scores[n] for n in order[:3]])
    assert rerank([], "cats") == []


def test_headings_are_read_too(rerank: SentenceTransformerRerank) -> None:
    below = NodeWithScore(Node("north", "d", 0, 0, headings=("Rhine",)), 0.5)
    (hit,) = rerank([below], "rhine")
    assert hit.score == pytest.approx(rerank.scores("rhine", ["Rhine\nnorth"])[0], abs=1e-5)


def test_a_model_with_several_labels_is_refused(tmp_path: Path, minilm_path: Path) -> None:
    with pytest.raises(ModelUnavailableError, match=r"is no cross-encoder: it has 3 labels"):
        SentenceTransformerRerank(str(make(tmp_path, minilm_path, 3)))


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelUnavailableError, match=r"The re-ranking model .* cannot be loaded"):
        SentenceTransformerRerank(str(tmp_path))


def test_fewer_than_one_passage_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="top_n is 0"):
        SentenceTransformerRerank(str(folder), 0)
