"""The models that can be chosen: a name -> a loaded model.

A name is a Hub id or a local folder, or `openai:NAME` for a model of the OpenAI-compatible
server of the settings.
"""

import logging
import threading
from pathlib import Path

from rag.config import DEFAULT_MODEL, Config
from rag.errors import RivuletError
from rag.llms.protocol import LLM
from rag.preparation import Preparation
from rag.weights import Report

logger = logging.getLogger(__name__)

OPENAI = "openai:"


class Catalog:
    """Loads each model once, in the background, and keeps the server's list of models."""

    def __init__(self, config: Config):
        self.config = config
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
        from rag.llms.openai import list_models  # half a second, which the page need not wait for

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
                known = Preparation(
                    label(name), lambda report: load(name, self.config, report)
                ).start()
                self._preparations[name] = known
            return known

    def forget(self) -> None:
        """Have the models that are loaded drop what they keep of prompts and answers."""
        for preparation in list(self._preparations.values()):
            forget = getattr(preparation.result(), "forget", None) if preparation.ready else None
            if forget:
                forget()

    def put(self, name: str, llm: LLM) -> None:
        """Offer a model that is loaded already under `name`: for tests and demos."""
        self._preparations[name] = Preparation(label(name), lambda _: llm).start()


def load(name: str, config: Config, report: Report) -> LLM:
    """The model `name`, ready to be asked, as `config` sets it up.

    Raises ModelUnavailableError, or ConfigurationError where a key is missing.
    """
    if name.startswith(OPENAI):
        from rag.llms.openai import OPENAI_URL, OpenAI

        return OpenAI(
            name.removeprefix(OPENAI),
            config.openai_base_url or OPENAI_URL,
            config.openai_api_key,
            max_tokens=config.max_new_tokens,
        )
    from rag.llms.huggingface import HuggingFaceLLM

    return HuggingFaceLLM(
        name,
        max_new_tokens=config.max_new_tokens,
        models_dir=config.models_dir,
        report=report,
    )


def label(name: str) -> str:
    """A model's name without what a reader does not need: owner, folder, prefix."""
    if name.startswith(OPENAI):
        return name.removeprefix(OPENAI)
    return Path(name).name
