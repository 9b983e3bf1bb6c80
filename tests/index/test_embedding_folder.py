"""What a model's folder states is followed: tiny random models, made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, XLMRobertaConfig, XLMRobertaModel

from rag.errors import ModelUnavailableError
from rag.index import embedding_huggingface
from rag.index.embedding_huggingface import HuggingFaceEmbedding

pytestmark = pytest.mark.slow

TEXT = "A river, a town."
HALF = np.array([[0.5], [1], [0.5], [1]])
"""In a question its "a" weigh half."""
OLD = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}
"""The keys of the files that sentence-transformers wrote before it had `pooling_mode`."""
SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that vectors can be compared exactly, whatever the processor has."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """Words and punctuation between [CLS] and [SEP]; places for 40 tokens."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words += ["a", "river", "town", "question", "passage", ":", ",", "."]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(words[:4])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = BertConfig(vocab_size=len(words), max_position_embeddings=40, **SIZES)
    BertModel(config).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def roberta(tmp_path: Path) -> Path:
    """Bytes as tokens, as GPT-2 and RoBERTa write them; padding is 1 and has a place of its own."""
    torch.manual_seed(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<s>", "<pad>", "</s>", *alphabet]
    tokenizer = Tokenizer(models.BPE({w: i for i, w in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(words[:3])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), add_prefix_space=False
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    config = XLMRobertaConfig(
        vocab_size=len(words),
        max_position_embeddings=42,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        **SIZES,
    )
    XLMRobertaModel(config).save_pretrained(tmp_path)
    write(tmp_path, "tokenizer_config.json", {"model_max_length": 40})
    return tmp_path


def write(folder: Path, name: str, content: Any) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


def hidden(folder: Path, text: str) -> np.ndarray[Any, Any]:
    """The last hidden states of `text`, computed by transformers alone."""
    kind = XLMRobertaModel if "roberta" in (folder / "config.json").read_text() else BertModel
    model = kind.from_pretrained(folder).eval()
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    with torch.inference_mode():
        states: np.ndarray[Any, Any] = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return np.asarray(states)


def of_length_1(vector: np.ndarray[Any, Any]) -> Any:
    return pytest.approx(vector / np.linalg.norm(vector, axis=-1, keepdims=True), abs=1e-5)


@pytest.mark.parametrize("named", [{}, {"pooling_mode": "mean"}, {OLD["mean"]: True}])
def test_the_mean_of_its_tokens(bert: Path, named: dict[str, Any]) -> None:
    if named:
        write(bert, "1_Pooling/config.json", {"word_embedding_dimension": 16, **named})
    longer, text = HuggingFaceEmbedding(str(bert)).embed([TEXT * 2, TEXT])
    assert text.vector == of_length_1(hidden(bert, TEXT).mean(0))
    assert longer.vector == of_length_1(hidden(bert, TEXT * 2).mean(0))


@pytest.mark.parametrize("named", [{"pooling_mode": "cls"}, {OLD["cls"]: True, OLD["mean"]: False}])
def test_the_first_of_its_tokens(bert: Path, named: dict[str, Any]) -> None:
    write(bert, "1_Pooling/config.json", named)
    (text,) = HuggingFaceEmbedding(str(bert)).embed([TEXT])
    assert text.vector == of_length_1(hidden(bert, TEXT)[0])


@pytest.mark.parametrize(
    "named",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["mean", "max"]},
        {OLD["cls"]: True, OLD["mean"]: True},
        {OLD["mean"]: False},
        {"pooling_mode": "mean", "include_prompt": False},
    ],
)
def test_other_ways_are_refused(bert: Path, named: dict[str, Any]) -> None:
    write(bert, "1_Pooling/config.json", named)
    with pytest.raises(ModelUnavailableError, match=r"by \{.*only mean and cls are supported"):
        HuggingFaceEmbedding(str(bert))


def test_layers_behind_the_tokens_are_refused(bert: Path) -> None:
    kinds = ["Transformer", "Pooling", "Normalize"]
    modules = [{"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    write(bert, "modules.json", modules)
    HuggingFaceEmbedding(str(bert))
    write(bert, "modules.json", [*modules, {"type": "sentence_transformers.models.Dense"}])
    with pytest.raises(ModelUnavailableError, match="through a Dense layer, which is not"):
        HuggingFaceEmbedding(str(bert))


@pytest.mark.parametrize("name", ["passage", "document"])
def test_what_goes_before_questions_and_passages(bert: Path, name: str) -> None:
    prompts = {"query": "question: ", name: "passage: "}
    write(bert, "config_sentence_transformers.json", {"prompts": prompts})
    model = HuggingFaceEmbedding(str(bert))
    (passage,) = model.embed([TEXT])
    question = model.embed_query(TEXT)
    for prompt, embedded in (("question: ", question), ("passage: ", passage)):
        states = hidden(bert, prompt + TEXT)
        assert embedded.vector == of_length_1(states.mean(0))
        # [CLS] question : a river , a town . [SEP]
        weights = HALF if embedded is question else 1
        assert embedded.tokens / weights == of_length_1(states[[3, 4, 6, 7]])


@pytest.mark.parametrize("prompts", [None, {}, {"query": "", "document": ""}])
def test_nothing_goes_before_them(bert: Path, prompts: Any) -> None:
    write(bert, "config_sentence_transformers.json", {"prompts": prompts})
    question = HuggingFaceEmbedding(str(bert)).embed_query(TEXT)
    states = hidden(bert, TEXT)
    assert question.vector == of_length_1(states.mean(0))
    assert question.tokens / HALF == of_length_1(states[[1, 2, 4, 5]])


@pytest.mark.parametrize(
    ("files", "read"),
    [
        ({}, 40),
        ({"sentence_bert_config.json": {"max_seq_length": 10}}, 10),
        ({"sentence_bert_config.json": {"max_seq_length": None}}, 40),
        # As sentence-transformers 6 writes it.
        (
            {
                "sentence_bert_config.json": {"transformer_task": "feature-extraction"},
                "tokenizer_config.json": {"model_max_length": 12},
            },
            12,
        ),
        ({"tokenizer_config.json": {"model_max_length": 10**30}}, 40),
    ],
)
def test_how_much_it_reads(bert: Path, files: dict[str, Any], read: int) -> None:
    for name, content in files.items():
        write(bert, name, content)
    (text,) = HuggingFaceEmbedding(str(bert)).embed(["river " * 100])
    assert len(text.tokens) == read - 2


def test_a_vocabulary_of_bytes(roberta: Path) -> None:
    """A space is written as a letter there, and a letter such as é as two tokens."""
    model = HuggingFaceEmbedding(str(roberta))
    texts = ["a (b) 7!", "river " * 20]
    text, longer = model.embed(texts)
    states = hidden(roberta, texts[0])
    assert text.vector == of_length_1(states.mean(0))
    assert text.tokens == of_length_1(states[[1, 4, 7]])  # behind <s>: a, b and 7
    assert len(longer.tokens) == 38 - 38 // 6


def test_batches_are_filled_with_texts_of_like_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding_huggingface, "BATCH", 20)
    batches = list(embedding_huggingface._batches([5, 30, 4, 10, 5, 6, 6, 6]))
    assert batches == [[2, 0, 4], [5, 6, 7], [3], [1]]
    assert list(embedding_huggingface._batches([])) == []
