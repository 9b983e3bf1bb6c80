"""Sentence embeddings by a BERT-like model of the Hugging Face Hub, in process.

Implements what the published all-MiniLM-L6-v2 states in its `modules.json`: the mean over the
tokens' last hidden states, scaled to length 1. torch is loaded when the first model is.
"""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from rag.config import DEFAULT_EMBED_MODEL, Config
from rag.errors import ModelUnavailableError
from rag.index.embedding import Vector
from rag.weights import Report, ensure, loading

BATCH = 16
"""Texts that are computed together; more gained nothing on two cores."""


class HuggingFaceEmbedding:
    """The model `model_name`, a Hub id or a local folder. One thread computes at a time.

    Its weights are kept in `models_dir` (of the settings when None); `report` is told how far
    getting and loading them is. Raises ModelUnavailableError when it cannot be had or loaded.
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
            tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
            with loading() as (torch, transformers):
                self._device = "cuda" if torch.cuda.is_available() else "cpu"
                self._model: Any = transformers.AutoModel.from_pretrained(
                    path, local_files_only=True, dtype=torch.float32
                )
                self._model.to(self._device).eval()
        except Exception as error:
            raise ModelUnavailableError(
                f"The embedding model {model_name} cannot be loaded from {path}: {error}"
            ) from error
        self.name = model_name
        self.dimensions: int = self._model.config.hidden_size
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self.tokenizer = tokenizer
        self._truncating = Tokenizer.from_str(tokenizer.to_str())
        self._truncating.enable_truncation(_max_tokens(path, self._model))
        # A text longer than this many tokens is cut by the model.
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The vectors of `texts`, in their order: `dimensions` floats of length 1 each."""
        encoded = self._truncating.encode_batch(list(texts))
        # Texts of like length share a batch, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda i: len(encoded[i].ids))
        vectors: list[Vector] = [()] * len(texts)
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            for place, vector in zip(
                batch, self._batch([encoded[i].ids for i in batch]), strict=True
            ):
                vectors[place] = vector
        return vectors

    def _batch(self, ids: list[list[int]]) -> list[Vector]:
        import torch
        from torch.nn.functional import normalize

        width = max(map(len, ids))
        padded = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        padded, mask = padded.to(self._device), mask.to(self._device)
        with self._lock, torch.inference_mode():
            hidden = self._model(input_ids=padded, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weights).sum(1) / weights.sum(1)
            result: list[Vector] = normalize(mean, dim=1).tolist()
        return result


def _max_tokens(path: Path, model: Any) -> int:
    """How many tokens the model reads: what its authors state, else what it has places for."""
    stated = path / "sentence_bert_config.json"
    if stated.is_file():
        return int(json.loads(stated.read_text("utf-8"))["max_seq_length"])
    return int(model.config.max_position_embeddings)
