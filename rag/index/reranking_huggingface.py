"""Re-ranking by a cross-encoder of the Hugging Face Hub, in process.

A cross-encoder reads a question and a passage together, and says how well they fit: surer than the
comparison of vectors, and far slower, so that it is asked about the best passages only. torch is
loaded when the first model is.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rag.config import Config
from rag.errors import ModelUnavailableError
from rag.space import is_borrowing
from rag.types import NodeWithScore
from rag.weights import Report, ensure, loading

BATCH = 16
"""Passages that are read together."""


class SentenceTransformerRerank:
    """A post-processor: the `top_n` of the passages by the cross-encoder `model`, the best first.

    `model` is a Hub id or a local folder of a sequence classifier with one label, such as
    `cross-encoder/ms-marco-MiniLM-L6-v2` or `BAAI/bge-reranker-base`; scores are its sigmoid, 0 to
    1. Its weights are kept in `models_dir` (of the settings when None). One thread computes at a
    time. Name and arguments are LlamaIndex's. Raises ModelUnavailableError when the model cannot be
    had or loaded, or is no cross-encoder.
    """

    def __init__(
        self,
        model: str,
        top_n: int = 2,
        *,
        models_dir: Path | None = None,
        report: Report | None = None,
    ):
        if top_n < 1:
            raise ValueError(f"top_n is {top_n}; it has to be 1 or more.")
        models_dir = models_dir or Config.from_env().models_dir
        report = report or (lambda *_: None)
        path = ensure(model, models_dir, lambda doing, done: report(doing, 0.9 * done))
        report("Loading", 0.9)
        try:
            with loading() as (torch, transformers):
                has_gpu = torch.cuda.is_available() and not is_borrowing()
                self._device = "cuda" if has_gpu else "cpu"
                self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
                    path, local_files_only=True
                )
                self._model: Any = transformers.AutoModelForSequenceClassification.from_pretrained(
                    path, local_files_only=True, dtype=torch.float32
                )
            self._model.to(self._device).eval()
        except Exception as error:
            raise ModelUnavailableError(
                f"The re-ranking model {model} cannot be loaded from {path}: {error}"
            ) from error
        if self._model.config.num_labels != 1:
            raise ModelUnavailableError(
                f"{model} is no cross-encoder: it has {self._model.config.num_labels} labels, not "
                f"one. Set RAG_RERANK_MODEL to another model, or leave it empty."
            )
        self.top_n = top_n
        self._lock = threading.Lock()

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:
        scores = self.scores(query, [hit.node.embedded_text for hit in nodes])
        ranked = [replace(hit, score=score) for hit, score in zip(nodes, scores, strict=True)]
        ranked.sort(key=NodeWithScore.get_score, reverse=True)
        return ranked[: self.top_n]

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each of `texts` answers `query`, from 0 to 1."""
        # Texts of like length share a batch, so that little is computed for padding.
        order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        scores = [0.0] * len(texts)
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            found = self._batch(query, [texts[n] for n in batch])
            for place, score in zip(batch, found, strict=True):
                scores[place] = score
        return scores

    def _batch(self, query: str, texts: list[str]) -> list[float]:
        import torch

        read = self._tokenizer(
            [query] * len(texts),
            texts,
            truncation="longest_first",
            max_length=min(self._tokenizer.model_max_length, 512),
            padding=True,
            return_tensors="pt",
        ).to(self._device)
        with self._lock, torch.inference_mode():
            logits = self._model(**read).logits[:, 0].float()
        scores: list[float] = torch.sigmoid(logits).tolist()
        return scores
