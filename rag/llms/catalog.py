"""The models that can be chosen: a name -> a loaded model.

A name is a Hub id or a local folder, or `openai:NAME` for a model of the OpenAI-compatible
server of the settings.
"""

import logging
import threading
from pathlib import Path

from rag.config import DEFAULT_MODEL, Config
from rag.errors import RivuletError
from rag.llms.openai import OpenAI, list_models
from rag.llms.protocol import LLM
from rag.preparation import Preparation
from rag.weights import Report, ensure

logger = logging.getLogger(__name__)

OPENAI = "openai:"


class Catalog:
    """Loads each model once, in the background, and keeps the server's list of models."""

    def __init__(self, config: Config, models_dir: Path):
        self.config = config
        self.models_dir = models_dir
        self._preparations: dict[str, Preparation[LLM]] = {}
        self._served: list[str] = []
        self._lock = threading.Lock()

    def choices(self) -> list[tuple[str, str]]:
        """What the model picker offers: (label, name), the default first."""
        names = list(dict.fromkeys([self.config.model, DEFAULT_MODEL, *self._served]))
        return [(label(name), name) for name in names]

    def refresh(self) -> None:
        """Ask the server for its models. One that gives no list is usable all the same."""
        if not self.config.offers_openai:
            return
        try:
            names = list_models(self.config.openai_base_url, self.config.openai_api_key)
        except RivuletError as error:
            logger.warning("The model server gives no list of its models: %s", error)
        else:
            self._served = [OPENAI + name for name in names]

    def prepare(self, name: str, *, again: bool = True) -> Preparation[LLM]:
        """The model `name`, loading or loaded. One that failed is tried `again`, or shown so."""
        with self._lock:
            known = self._preparations.get(name)
            if known is None or (known.error and again):
                known = Preparation(label(name), lambda report: self._load(name, report)).start()
                self._preparations[name] = known
            return known

    def put(self, name: str, llm: LLM) -> None:
        """Offer a model that is loaded already under `name`: for tests and demos."""
        self._preparations[name] = Preparation(label(name), lambda _: llm).start()

    def _load(self, name: str, report: Report) -> LLM:
        if name.startswith(OPENAI):
            return OpenAI(
                name.removeprefix(OPENAI), self.config.openai_base_url, self.config.openai_api_key
            )
        path = ensure(name, self.models_dir, lambda doing, done: report(doing, 0.9 * done))
        report("Loading", 0.9)
        from rag.llms.huggingface import HuggingFaceLLM

        return HuggingFaceLLM(path, label(name))


def label(name: str) -> str:
    """A model's name without what a reader does not need: owner, folder, prefix."""
    if name.startswith(OPENAI):
        return name.removeprefix(OPENAI)
    return Path(name).name
