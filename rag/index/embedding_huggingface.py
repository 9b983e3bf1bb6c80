"""Text embeddings by a BERT-like model of the Hugging Face Hub, in process.

Follows what sentence-transformers writes into a model's folder: the mean over the tokens' last
hidden states or the first one's (`1_Pooling`), how much the model reads, and what goes before a
question and a passage (`prompts`). Vectors are scaled to length 1. torch is loaded when the first
model is.
"""

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from rag.config import DEFAULT_EMBED_MODEL, Config
from rag.errors import ModelUnavailableError
from rag.index.embedding import Embedded
from rag.index.words import STOP
from rag.space import is_borrowing
from rag.weights import Report, ensure, loading

BATCH = 2048
"""Tokens that are computed together, padding included. Twice as many took longer on two cores."""


STOP_WEIGHT = 0.5
"""Measured: more or less than this finds the right passage less often (docs/decisions.md)."""


class HuggingFaceEmbedding:
    """The model `model_name`, a Hub id or a local folder. One thread computes at a time.

    Its weights are kept in `models_dir` (of the settings when None); `report` is told how far
    getting and loading them is. Raises ModelUnavailableError when it cannot be had or loaded, or
    is of a kind that is not known here.
    """

    def __init__(
        self,
        model_name: str = DEFAULT_EMBED_MODEL,
        *,
        models_dir: Path | None = None,
        report: Report | None = None,
    ):
        models_dir = models_dir or Config.from_env().models_dir
        report = report or (lambda *_: None)
        path = ensure(model_name, models_dir, lambda doing, done: report(doing, 0.9 * done))
        report("Loading", 0.9)
        try:
            self._pools_first = _pooling(path) == "cls"
            self._query_prompt, self._passage_prompt = _prompts(path)
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
            with loading() as (torch, transformers):
                self._model = _load(torch, transformers, path)
            self.max_tokens = _max_tokens(path, self._model.config)
        except Exception as error:
            raise ModelUnavailableError(
                f"The embedding model {model_name} cannot be loaded from {path}: {error}"
            ) from error
        self.name = model_name
        self.dimensions: int = self._model.config.hidden_size
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self._weights = _weights(tokenizer)
        self._truncating = Tokenizer.from_str(tokenizer.to_str())
        self._truncating.enable_truncation(self.max_tokens)
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """The passages `texts`, in their order."""
        return self._embed(self._passage_prompt, texts)

    def embed_query(self, text: str) -> Embedded:
        """The question `text`, to be compared with passages."""
        (embedded,) = self._embed(self._query_prompt, [text], weighted=True)
        return embedded

    def _embed(
        self, prompt: str, texts: Sequence[str], *, weighted: bool = False
    ) -> list[Embedded]:
        encoded = self._truncating.encode_batch([prompt + text for text in texts])
        result: dict[int, Embedded] = {}
        for places in _batches([len(text.ids) for text in encoded]):
            vectors, tokens = self._forward([encoded[place].ids for place in places])
            for place, vector, rows in zip(places, vectors, tokens, strict=True):
                weights = self._weights_of(encoded[place], len(prompt))
                words = weights > 0
                rows = rows[: len(words)][words]
                result[place] = Embedded(vector, rows * weights[words, None] if weighted else rows)
        return [result[place] for place in range(len(texts))]

    def _weights_of(self, text: Encoding, prompt: int) -> NDArray[np.float32]:
        """What each token of `text` weighs; 0 where it is no word, or belongs to the prompt."""
        ends = np.array([end for _, end in text.offsets])
        weights: NDArray[np.float32] = self._weights[text.ids] * (ends > prompt)
        return weights

    def _forward(self, ids: list[list[int]]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Vectors (texts x dimensions) and token vectors (texts x longest x dimensions)."""
        import torch
        from torch.nn.functional import normalize

        width = max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        padded, mask = padded.to(self._model.device), mask.to(self._model.device)
        with self._lock, torch.inference_mode():
            hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state.float()
            if self._pools_first:
                pooled = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).float()
                pooled = (hidden * weights).sum(1) / weights.sum(1)
            return normalize(pooled, dim=-1).cpu().numpy(), normalize(hidden, dim=-1).cpu().numpy()


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """The places of `lengths` in groups, which padded to their longest hold BATCH tokens.

    Texts of like length are in one, so that little is computed for padding.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and (len(batch) + 1) * lengths[place] > BATCH:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _load(torch: Any, transformers: Any, path: Path) -> Any:
    """The model, in bfloat16 where the processor multiplies it in matrix units (Intel's AMX).

    Elsewhere in float32: with other instructions for bfloat16, and without any, it is faster.
    """
    device = "cuda" if torch.cuda.is_available() and not is_borrowing() else "cpu"
    has_amx = device == "cpu" and torch.cpu.get_capabilities().get("amx_bf16", False)
    dtype = torch.bfloat16 if has_amx else torch.float32
    model = transformers.AutoModel.from_pretrained(path, local_files_only=True, dtype=dtype)
    if has_amx:
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                # The same matrix, in the order in memory in which its product is faster.
                layer.weight.data = layer.weight.data.t().contiguous().t()
    return model.to(device).eval()


def _weights(tokenizer: Tokenizer) -> NDArray[np.float32]:
    """For each token of the vocabulary what it weighs in a question: 1, or STOP_WEIGHT where it is
    a word that is everywhere, or 0 where no letter or digit is in it."""
    count = max(tokenizer.get_vocab().values()) + 1
    # Decoded, special tokens are empty and a byte-level vocabulary's bytes are letters again.
    texts = tokenizer.decode_batch([[token] for token in range(count)], skip_special_tokens=True)
    return np.array(
        [
            STOP_WEIGHT if text.strip().lower() in STOP else any(map(str.isalnum, text))
            for text in texts
        ],
        np.float32,
    )


def _stated(path: Path) -> Any:
    """The JSON of a file of the model's folder, {} where there is none."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _pooling(path: Path) -> str:
    """How token vectors become one: "mean" (also where nothing is stated) or "cls", the first.

    Raises ValueError for all else that would change the vector.
    """
    for module in _stated(path / "modules.json"):
        kind = module["type"].rpartition(".")[2]
        if kind not in ("Transformer", "Pooling", "Normalize"):
            raise ValueError(f"its vectors go through a {kind} layer, which is not supported")
    stated = _stated(path / "1_Pooling" / "config.json") or {"pooling_mode": "mean"}
    # Older files have a key for each way, such as pooling_mode_mean_tokens.
    mode = stated.get("pooling_mode") or " and ".join(
        key.removeprefix("pooling_mode_").partition("_token")[0]
        for key, chosen in stated.items()
        if key.startswith("pooling_mode_") and chosen
    )
    if mode not in ("mean", "cls") or not stated.get("include_prompt", True):
        raise ValueError(
            f"it makes one vector of its tokens by {stated}; only mean and cls are supported"
        )
    return str(mode)


def _prompts(path: Path) -> tuple[str, str]:
    """What goes before a question and before a passage, empty where nothing is stated."""
    stated = _stated(path / "config_sentence_transformers.json").get("prompts") or {}
    names = ("document", "passage", "corpus")
    return stated.get("query") or "", next((stated[n] for n in names if stated.get(n)), "")


def _max_tokens(path: Path, config: Any) -> int:
    """How many tokens the model reads: what its authors state, at most what it has places for."""
    limits = (
        _stated(path / "sentence_bert_config.json").get("max_seq_length"),
        _stated(path / "tokenizer_config.json").get("model_max_length"),
        config.max_position_embeddings,
    )
    return int(min(limit for limit in limits if limit))
