"""The models that can be chosen, and how they are loaded."""

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from rag.config import DEFAULT_MODEL, Config
from rag.errors import ConfigurationError, ModelUnavailableError, ProviderError
from rag.llms.catalog import Catalog, label, load
from rag.llms.openai import OpenAI
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage
from tests.llms.conftest import read

KEY = "sk-a-very-secret-key"


def served(*names: str) -> Any:
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in names]
    return lambda request: request.reply(200, json.dumps({"object": "list", "data": listed}))


@pytest.fixture
def catalog(tmp_path: Path, server: Any) -> Catalog:
    """One with a model server."""
    config = Config(data_dir=tmp_path, openai_base_url=server.url, openai_api_key=KEY)
    return Catalog(config)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (DEFAULT_MODEL, "SmolLM2-135M-Instruct"),
        ("openai:org/gpt-x", "org/gpt-x"),
        ("/home/me/models/mine", "mine"),
        ("mine", "mine"),
    ],
)
def test_a_label_leaves_out_what_a_reader_does_not_need(name: str, shown: str) -> None:
    assert label(name) == shown


def test_the_set_model_is_offered_first_and_the_local_one_always() -> None:
    offered = Catalog(Config(model="openai:gpt-x")).choices()
    assert offered == [("gpt-x", "openai:gpt-x"), ("SmolLM2-135M-Instruct", DEFAULT_MODEL)]
    assert len(Catalog(Config()).choices()) == 1


def test_the_servers_models_are_offered(catalog: Catalog, server: Any) -> None:
    server.behaviours.append(served("zephyr", "alpha"))
    catalog.refresh()
    assert catalog.choices()[1:] == [("alpha", "openai:alpha"), ("zephyr", "openai:zephyr")]


def test_without_key_and_address_no_server_is_asked(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)  # the settings count, not this
    server.behaviours.append(served("alpha"))
    catalog = Catalog(Config())
    catalog.refresh()
    assert len(catalog.choices()) == 1
    assert len(server.behaviours) == 1


def test_a_server_without_a_list_is_usable_by_its_models_name(
    catalog: Catalog, server: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.behaviours.append(lambda request: request.reply(500, "no list here"))
    with caplog.at_level(logging.INFO):
        catalog.refresh()
    assert "gives no list of its models" in caplog.text
    assert KEY not in caplog.text
    assert len(catalog.choices()) == 1
    llm = catalog.prepare("openai:typed").result()
    assert isinstance(llm, OpenAI)
    assert llm.model_name == "typed"
    text = b'data: {"choices": [{"index": 0, "delta": {"content": "Hello"}}]}\n\n'

    def answers(request: Any) -> None:
        request.begin()
        request.send(text)
        request.end()

    server.behaviours.append(answers)
    pieces, _ = read(llm.stream([ChatMessage("user", "Hi")]))
    assert pieces == ["Hello"]
    assert server.received[0]["model"] == "typed"


def test_the_settings_limit_holds_for_a_models_answers(tmp_path: Path, server: Any) -> None:
    config = Config(data_dir=tmp_path, openai_base_url=server.url, max_new_tokens=77)
    llm = load("openai:m", config, lambda doing, done: None)
    assert llm.max_tokens == 77
    server.behaviours.append(lambda request: request.reply(500, "", x_should_retry="false"))
    with pytest.raises(ProviderError):
        read(llm.stream([ChatMessage("user", "Hi")]))
    assert server.received[0]["max_tokens"] == 77


def test_a_model_of_openais_needs_the_settings_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # the settings count, not this
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        load("openai:gpt-x", Config(), lambda doing, done: None)


def test_a_list_that_was_had_is_kept_when_the_next_fails(catalog: Catalog, server: Any) -> None:
    server.behaviours += [served("alpha"), lambda request: request.reply(500, "")]
    catalog.refresh()
    catalog.refresh()
    assert ("alpha", "openai:alpha") in catalog.choices()


def test_a_model_is_loaded_once_for_all_who_want_it(catalog: Catalog) -> None:
    together = threading.Barrier(8, timeout=20)
    found = []

    def want() -> None:
        together.wait()
        found.append(catalog.prepare("openai:alpha").result())

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_model_that_failed_is_tried_again_only_when_asked(tmp_path: Path) -> None:
    catalog = Catalog(Config(data_dir=tmp_path))
    name = str(tmp_path / "nothing-here")
    first = catalog.prepare(name)
    with pytest.raises(ModelUnavailableError, match="no folder"):
        first.result()
    assert catalog.prepare(name, again=False) is first
    second = catalog.prepare(name)
    assert second is not first
    with pytest.raises(ModelUnavailableError):
        second.result()


def test_a_model_that_is_loaded_already_can_be_put_in() -> None:
    catalog, llm = Catalog(Config()), ScriptedLLM()
    catalog.put("scripted", llm)
    assert catalog.prepare("scripted").result() is llm


def test_loaded_models_are_told_to_forget(catalog: Catalog) -> None:
    class Keeps(ScriptedLLM):
        told = 0

        def forget(self) -> None:
            self.told += 1

    llm = Keeps()
    catalog.put("keeps", llm)
    catalog.put("keeps nothing", ScriptedLLM())
    catalog.prepare("keeps").result()
    catalog.forget()
    assert llm.told == 1
