"""`Settings`: the models that are used where none is given, for the whole process."""

import logging
import threading

from rag.config import Config
from rag.index.embedding import Embedding
from rag.llms.catalog import load
from rag.llms.protocol import LLM

logger = logging.getLogger(__name__)


class _Settings:
    """Set `llm` and `embed_model` to make them the defaults.

    Unset, they are the models of the environment (`RAG_MODEL`, `RAG_EMBED_MODEL`), which are
    the local ones where that says nothing; loaded when they are first asked for.
    """

    __slots__ = ("_embed_model", "_llm", "_lock")  # a name that means nothing is an error

    def __init__(self) -> None:
        self._llm: LLM | None = None
        self._embed_model: Embedding | None = None
        self._lock = threading.Lock()

    @property
    def llm(self) -> LLM:
        with self._lock:
            if self._llm is None:
                self._llm = named(Config.from_env().model)
            return self._llm

    @llm.setter
    def llm(self, llm: LLM | None) -> None:
        with self._lock:  # a default that is just being loaded must not take its place
            self._llm = llm

    @property
    def embed_model(self) -> Embedding:
        with self._lock:
            if self._embed_model is None:
                from rag.index.embedding_huggingface import HuggingFaceEmbedding

                self._embed_model = HuggingFaceEmbedding(Config.from_env().embed_model, report=_log)
            return self._embed_model

    @embed_model.setter
    def embed_model(self, embed_model: Embedding | None) -> None:
        with self._lock:
            self._embed_model = embed_model


def named(llm: LLM | str) -> LLM:
    """`llm` itself, or the model of that name: a Hub id, a local folder or `openai:NAME`."""
    return load(llm, Config.from_env(), _log) if isinstance(llm, str) else llm


def _log(doing: str, done: float) -> None:
    logger.info("%s (%.0f %%)", doing, 100 * done)


Settings = _Settings()
"""The one of this process."""
