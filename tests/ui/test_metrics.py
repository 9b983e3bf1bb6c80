"""The figures for Prometheus: what is counted where, and what no label says."""

import re
import socket
import time
import urllib.request
from pathlib import Path

import pytest

from rag.answering.events import Timings
from rag.errors import ConfigurationError, ProviderError
from rag.llms.scripted import ScriptedLLM
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Turn
from rag.ui.jobs import Steps
from rag.ui.metrics import Metrics
from rag.ui.writing import Writing
from tests.ports import free_port
from tests.ui.conftest import MODEL
from tests.ui.pages import free_place

LABELS = {"ending", "model", "kind", "result", "le"}


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, labels) or 0.0


def written(backend: Backend, question: str = "What of quincemarmalade?") -> Answer:
    """Has a question answered, as the page does."""
    session = backend.sessions.get("one")
    conversation = session.begin()
    answer = Answer(MODEL)
    turn = Turn(question, [answer], "samples")
    conversation.turns.append(turn)
    conversation.lock.acquire()
    writing = Writing(backend, session, conversation, turn, answer, free_place())
    writing.start()
    until = time.monotonic() + 30
    while not writing.over:
        assert time.monotonic() < until
        time.sleep(0.01)
    return answer


def test_an_answer_is_counted_with_its_first_token_and_its_speed(backend: Backend) -> None:
    written(backend, "walnuts")
    metrics = backend.metrics
    assert value(metrics, "rivulet_answers_total", ending="stop") == 1
    assert value(metrics, "rivulet_first_token_seconds_count", model="local") == 1
    assert value(metrics, "rivulet_tokens_per_second_count", model="local") == 1
    assert value(metrics, "rivulet_answers_running") == 0


def test_errors_are_counted_by_their_kind(backend: Backend, llm: ScriptedLLM) -> None:
    for llm.error in (ProviderError("no quincemarmalade"), KeyError("quincemarmalade")):
        written(backend, "walnuts")
    metrics = backend.metrics
    assert value(metrics, "rivulet_errors_total", kind="ProviderError") == 1
    assert value(metrics, "rivulet_errors_total", kind="unexpected") == 1
    assert value(metrics, "rivulet_answers_total", ending="error") == 2
    assert value(metrics, "rivulet_answers_running") == 0


def test_a_server_s_model_is_not_named() -> None:
    metrics = Metrics()
    metrics.answered(Answer("openai:a-person-typed-this", timings=Timings(first_token=0.2)))
    assert value(metrics, "rivulet_first_token_seconds_count", model="server") == 1


def test_documents_are_counted_by_what_became_of_them(backend: Backend, tmp_path: Path) -> None:
    session, metrics = backend.sessions.get("one"), backend.metrics
    for name, text in (("a.txt", "Apples."), ("b.txt", "Apples."), ("c.exe", "MZ\0")):
        (tmp_path / name).write_text(text)
        list(backend._take_in(session, tmp_path / name, name, ""))
    assert value(metrics, "rivulet_documents_total", result="added") == 1
    assert value(metrics, "rivulet_documents_total", result="same") == 1
    assert value(metrics, "rivulet_documents_total", result="rejected") == 1
    assert value(metrics, "rivulet_passages_total") == 1
    assert value(metrics, "rivulet_ingestion_seconds_count") == 3
    assert value(metrics, "rivulet_files_being_taken_in") == 0


def test_closing_closes_what_takes_the_file_in() -> None:
    closed = []

    def events() -> Steps:
        try:
            while True:
                yield  # type: ignore[misc]
        finally:
            closed.append(True)

    metrics = Metrics()
    taking_in = metrics.ingesting(events())
    next(taking_in)
    assert value(metrics, "rivulet_files_being_taken_in") == 1
    taking_in.close()
    assert closed == [True]
    assert value(metrics, "rivulet_documents_total", result="cancelled") == 1
    assert value(metrics, "rivulet_files_being_taken_in") == 0


def test_they_are_served_and_say_nothing_of_anybody(backend: Backend, llm: ScriptedLLM) -> None:
    written(backend, "walnuts")
    llm.error = ProviderError("no quincemarmalade")
    written(backend)
    port = free_port()
    close = backend.metrics.serve("127.0.0.1", port, lambda: 7)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    close()
    assert "rivulet_requests_queued 7.0" in text
    assert "quincemarmalade" not in text
    labels = dict(re.findall(r'[{,](\w+)="([^"]*)"', text))
    assert set(labels) == LABELS - {"result"}
    with pytest.raises(OSError):  # noqa: PT011 - nobody listens any more
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2)


def test_every_figure_is_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "deploying.md").read_text("utf-8")
    documented = set(re.findall(r"^\| `(rivulet_\w+)`", docs, re.M))
    families = Metrics().registry.collect()
    assert documented == {f.name + "_total" * (f.type == "counter") for f in families}


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match="RAG_METRICS_PORT"):
            Metrics().serve("127.0.0.1", taken.getsockname()[1])
