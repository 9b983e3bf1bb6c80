"""A real OpenAI-compatible server with the real default model: `transformers serve`."""

import logging
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.answering.engine import answer
from rag.answering.events import Finished, Sources, Timings
from rag.answering.synthesis import ResponseSynthesizer
from rag.config import Config
from rag.errors import ModelError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.llms.catalog import OPENAI, Catalog
from rag.llms.openai import OpenAI
from rag.llms.protocol import TextStream
from rag.types import ChatMessage, Completion, Document, Reasoning
from tests.ports import free_port

pytestmark = pytest.mark.slow

START = 180
"""Seconds the server may take to load its model on a busy machine."""


@pytest.fixture(scope="module")
def served(smollm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The server's address."""
    folder = tmp_path_factory.mktemp("serve")
    port = free_port()
    command = [
        *(sys.executable, "-m", "transformers.cli.transformers", "serve"),
        *("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", str(smollm_path)),
    ]
    # Without a cache of the Hub, as on a machine that has never reached it.
    env = {**os.environ, "HF_HOME": str(folder / "hub"), "HF_HUB_OFFLINE": "1"}
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(command, env=env, stdout=log, stderr=log) as process,
    ):
        try:
            until = time.monotonic() + START
            while not _answers(f"http://127.0.0.1:{port}/health"):
                if process.poll() is not None or time.monotonic() > until:
                    log.seek(0)
                    pytest.fail(f"the server did not start: {log.read()[-2000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _whole(stream: TextStream) -> Iterator[str | Reasoning | Completion]:
    """The pieces, then how it ended."""
    yield (yield from stream)


def test_an_answer_streams(served: str, smollm_path: Path) -> None:
    llm = OpenAI(str(smollm_path), served)
    stream = llm.stream([ChatMessage("user", "What is the capital of France?")], max_tokens=24)
    *timed, (_, completion) = ((time.monotonic(), piece) for piece in _whole(stream) if piece)
    times, pieces = [when for when, _ in timed], [str(piece) for _, piece in timed]
    assert isinstance(completion, Completion)
    assert "Paris" in "".join(pieces)
    assert len(pieces) > 3
    assert times[-1] > times[0]  # not all in one lump
    assert completion.finish_reason == "stop"
    assert completion.usage is not None
    assert completion.usage.prompt_tokens > 10
    assert completion.usage.completion_tokens >= len(pieces)


def test_the_length_limit(served: str, smollm_path: Path) -> None:
    llm = OpenAI(str(smollm_path), served)
    stream = llm.stream([ChatMessage("user", "Write a story about a fox.")], max_tokens=6)
    *_, completion = _whole(stream)
    assert isinstance(completion, Completion)
    assert completion.finish_reason == "length"
    assert completion.usage
    assert completion.usage.completion_tokens == 6


def test_a_stop_sequence(served: str, smollm_path: Path) -> None:
    llm = OpenAI(str(smollm_path), served)
    asked = [ChatMessage("user", "What is the capital of France?")]
    *pieces, completion = _whole(llm.stream(asked, max_tokens=24, temperature=0, stop=["Paris"]))
    assert isinstance(completion, Completion)
    assert completion.finish_reason == "stop"
    assert pieces
    assert "Paris" not in "".join(map(str, pieces))


def test_stopping_frees_the_server(served: str, smollm_path: Path) -> None:
    llm = OpenAI(str(smollm_path), served)
    asked = [ChatMessage("user", "Write a long story about a fox.")]
    stream = llm.stream(asked, max_tokens=2000)
    assert next(piece for piece in stream if piece)
    stream.close()
    pieces = list(llm.stream(asked, max_tokens=4))  # it is answered long before the first ends
    assert any(pieces)


def test_the_whole_way_from_a_question_to_an_answer(
    served: str, smollm_path: Path, store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    for name, text in {
        "fox.txt": "The fox of Rivulet is called Zorro.",
        "owl.txt": "The owl lives in the oak tree.",
    }.items():
        for _ in ingest(Document(text, {"file_name": name}), store, hash_embedding):
            pass
    retriever = VectorIndexRetriever([store], hash_embedding, similarity_top_k=1)
    llm = OpenAI(str(smollm_path), served)
    synthesizer = ResponseSynthesizer(llm, streaming=True, max_tokens=24)
    events = list(answer("What is the fox called?", retriever, synthesizer))
    (sources,) = (event for event in events if isinstance(event, Sources))
    assert [hit.node.file_name for hit in sources.nodes] == ["fox.txt"]
    pieces = [event for event in events if isinstance(event, str) and event]
    assert len(pieces) > 2
    assert "Zorro" in "".join(pieces)
    assert events.index(sources) < events.index(pieces[0])
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason in ("stop", "length")
    assert finished.usage is not None
    (*_, timings) = (event for event in events if isinstance(event, Timings))
    assert timings.first_token is not None
    assert timings.tokens_per_second is not None


def test_the_server_is_usable_by_a_models_name_with_or_without_a_list(
    served: str, smollm_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = Catalog(Config(data_dir=tmp_path, openai_base_url=served))
    with caplog.at_level(logging.WARNING):
        catalog.refresh()  # this server may answer 500, which must not raise
    listed = len(catalog.choices()) > 1
    assert listed or "gives no list of its models" in caplog.text
    llm = catalog.prepare(f"{OPENAI}{smollm_path}").result()
    pieces = list(llm.stream([ChatMessage("user", "Say hello.")], max_tokens=6))
    assert "".join(map(str, pieces)).strip()


def test_a_model_that_the_server_does_not_know(served: str) -> None:
    """What it answers is its own affair; it must be an error that says what to do."""
    llm = OpenAI("no/such-model", served, max_retries=0)
    with pytest.raises(ModelError, match=r"Choose another|Try again"):
        list(llm.stream([ChatMessage("user", "Hello")], max_tokens=4))
