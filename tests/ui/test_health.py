"""What is told at /health, and what is not."""

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from rag.config import Config
from rag.errors import RivuletError
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import HashEmbedding
from rag.ui import health as module
from rag.ui.backend import Backend
from rag.ui.health import Health


def asked(health: Health) -> tuple[int, dict[str, Any]]:
    answer = health.answer(Request({"type": "http"}))
    return answer.status_code, json.loads(bytes(answer.body))


def test_when_all_is_prepared_it_is_ready(backend: Backend) -> None:
    parts = dict.fromkeys(("model", "search", "samples", "index"), "ready")
    assert asked(Health(backend)) == (200, {"status": "ready", "parts": parts})


def test_before_that_it_is_starting(unstarted: Backend, config: Config) -> None:
    config.data_dir.mkdir()
    status, told = asked(Health(unstarted))
    assert (status, told["status"]) == (200, "starting")
    assert told["parts"]["samples"] == "starting"


def test_what_failed_is_named_without_saying_why(backend: Backend) -> None:
    backend.samples.error = RivuletError("The key of secret-server is wrong.")
    status, told = asked(Health(backend))
    assert (status, told["status"], told["parts"]["samples"]) == (503, "failed", "failed")
    assert "secret" not in json.dumps(told)
    backend.samples.error = None


def test_a_data_folder_that_is_gone_is_a_failed_index(config: Config, samples: Path) -> None:
    status, told = asked(Health(Backend(config, HashEmbedding())))
    assert (status, told["parts"]["index"]) == (503, "failed")


def test_a_server_is_asked_once_in_a_while_and_by_one_at_a_time(
    config: Config, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_at, go_on = [], threading.Event()

    def is_there(self: ChromaServer) -> bool:
        asked_at.append(time.monotonic())
        go_on.wait(5)
        return False

    monkeypatch.setattr(ChromaServer, "is_there", is_there)
    health = Health(Backend(replace(config, chroma_url="http://127.0.0.1:9"), HashEmbedding()))
    first = threading.Thread(target=asked, args=(health,))
    first.start()
    while not asked_at:
        time.sleep(0.01)
    assert asked(health)[1]["parts"]["index"] == "ready"  # not known otherwise yet
    go_on.set()
    first.join()
    assert [asked(health)[1]["parts"]["index"] for _ in range(9)] == ["failed"] * 9
    assert len(asked_at) == 1
    monkeypatch.setattr(module, "FRESH", 0.0)
    asked(health)
    assert len(asked_at) == 2


def test_no_server_is_said_so() -> None:
    assert not ChromaServer("http://127.0.0.1:9").is_there()
