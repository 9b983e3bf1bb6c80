"""`Settings`: set, unset, and loaded once when first asked for."""

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rag
from rag.answering import defaults
from rag.answering.defaults import Settings, _Settings
from rag.config import Config
from rag.errors import ConfigurationError, ModelUnavailableError
from rag.index.embedding import HashEmbedding
from rag.llms.openai import OpenAI
from tests.answering.conftest import GUARD, Says


@pytest.fixture
def settings() -> _Settings:
    """Those of another process."""
    return _Settings()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the models that were loaded."""
    names: list[str] = []

    def load(name: str, config: Config, report: Callable[[str, float], None]) -> Any:
        names.append(name)
        report("Loading", 0.5)
        return Says()

    monkeypatch.setattr(defaults, "load", load)
    return names


def test_what_is_set_is_the_default(settings: _Settings) -> None:
    llm, embedding = Says(), HashEmbedding()
    settings.llm, settings.embed_model = llm, embedding
    assert settings.llm is llm
    assert settings.embed_model is embedding


def test_unset_the_model_of_the_environment_is_loaded_once(
    settings: _Settings, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_MODEL", "org/other")
    assert settings.llm is settings.llm
    assert loads == ["org/other"]
    settings.llm = None
    assert settings.llm
    assert loads == ["org/other"] * 2


def test_nothing_is_loaded_where_one_is_set(settings: _Settings, loads: list[str]) -> None:
    settings.llm = Says()
    assert settings.llm
    assert loads == []


def test_a_model_of_a_server(settings: _Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_MODEL", "openai:small")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    llm = settings.llm
    assert isinstance(llm, OpenAI)
    assert llm.model_name == "small"


def test_what_cannot_be_loaded_is_an_error_and_can_be_tried_again(
    settings: _Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("RAG_MODEL", str(tmp_path / "nowhere"))
    monkeypatch.setenv("RAG_EMBED_MODEL", str(tmp_path / "nowhere"))
    for _ in range(2):
        with pytest.raises(ModelUnavailableError, match="no folder"):
            _ = settings.llm
        with pytest.raises(ModelUnavailableError, match="no folder"):
            _ = settings.embed_model
    monkeypatch.setenv("RAG_TOP_K", "many")
    with pytest.raises(ConfigurationError, match="RAG_TOP_K"):
        _ = settings.llm


def test_several_threads_load_one_model(
    settings: _Settings, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(8, timeout=GUARD)
    got: list[Any] = []

    def ask() -> None:
        together.wait()
        got.append(settings.llm)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert len(loads) == 1
    assert len({id(llm) for llm in got}) == 1
    assert len(got) == 8


def test_loading_is_logged(
    settings: _Settings, loads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "rag"):
        assert settings.llm
    assert "Loading (50 %)" in caplog.text


def test_there_is_one_of_this_process() -> None:
    assert rag.Settings is Settings


@pytest.mark.slow
def test_the_default_embedding_is_the_real_one(settings: _Settings, minilm_path: Path) -> None:
    embedding = settings.embed_model
    assert embedding is settings.embed_model
    assert embedding.dimensions == 384


def test_a_name_that_means_nothing_is_an_error(settings: _Settings) -> None:
    with pytest.raises(AttributeError, match="chunk_size"):
        settings.chunk_size = 512  # type: ignore[attr-defined]


def test_what_is_set_while_the_default_is_loaded_stays(
    settings: _Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on, own = threading.Event(), threading.Event(), Says()

    def load(*_: Any) -> Any:
        loading.set()
        assert go_on.wait(GUARD)
        return Says()

    monkeypatch.setattr(defaults, "load", load)
    first = threading.Thread(target=lambda: settings.llm)
    first.start()
    assert loading.wait(GUARD)
    second = threading.Thread(target=setattr, args=(settings, "llm", own))
    second.start()
    go_on.set()
    first.join(GUARD)
    second.join(GUARD)
    assert settings.llm is own


def test_a_model_can_be_given_by_name(loads: list[str]) -> None:
    llm = Says()
    assert defaults.named(llm) is llm
    assert isinstance(defaults.named("openai:gpt"), Says)
    assert loads == ["openai:gpt"]
