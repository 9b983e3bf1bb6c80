"""Behaviours 1 to 14: the stream."""

import asyncio
import functools
import io
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args

import pytest

from rag import (
    AsyncStreamingResponse,
    Document,
    HashEmbedding,
    OpenAI,
    Response,
    ScriptedLLM,
    Settings,
    SimilarityPostprocessor,
    StreamingResponse,
    VectorStoreIndex,
    get_response_synthesizer,
)
from rag.__main__ import main
from rag.answering.prompts import NO_TEXT, NOTHING_FOUND, NOTHING_LEFT
from rag.answering.query_engine import RetrieverQueryEngine
from rag.config import ResponseMode
from rag.errors import ModelError, ProviderError
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import ChatMessage, Completion, Reasoning
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from tests.behaviours.parts import (
    DONE,
    FORMS,
    GUARD,
    KINDS,
    PIECES,
    PLAIN,
    QUESTION,
    Boom,
    Model,
    Recording,
    Ticker,
    answered,
    astarted,
    await_for,
    engine_of,
    event,
    fitting,
    index_of,
    indexed,
    says,
    sends,
    soon,
    started,
    until_gone,
    wait_for,
    within,
)
from tests.ui.conftest import asks
from tests.ui.pages import Page

STREAMING_MODES = [
    mode for mode in get_args(ResponseMode) if mode not in ("no_text", "context_only")
]
"""Those in which a model is called."""
READING_MODES = [mode for mode in STREAMING_MODES if mode != "generation"]
"""Those in which it is given passages."""
LONG = "Write a long story about a fox."


@pytest.fixture
def index() -> VectorStoreIndex:
    return index_of(1)


# 1


@FORMS
@KINDS
@pytest.mark.parametrize("mode", STREAMING_MODES)
def test_01_pieces_come_one_by_one_and_are_the_answer(
    index: VectorStoreIndex, kind: str, form: str, mode: str
) -> None:
    llm = Model(PIECES)
    got = answered(engine_of(index, llm, kind, response_mode=mode), form=form)
    heading = ["Response 1: "] if "accumulate" in mode else []
    assert got.error is None
    assert got.pieces == heading + PIECES
    assert got.text == "".join(heading + PIECES)
    assert got.response.finish_reason == "stop"


@FORMS
def test_01_white_space_before_the_first_word_is_kept(index: VectorStoreIndex, form: str) -> None:
    pieces = ["\n", "  ", " It", " is"]
    got = answered(engine_of(index, Model(pieces)), form=form)
    assert "".join(got.pieces) == got.text == "\n   It is"
    assert len(got.pieces) > 1


@KINDS
def test_01_a_piece_is_there_before_the_next_is_made(index: VectorStoreIndex, kind: str) -> None:
    gates = [threading.Event() for _ in range(4)]
    steps = [step for n, gate in enumerate(gates) for step in (f"piece{n} ", gate)]
    llm = Model(steps)

    def read() -> None:
        response = started(engine_of(index, llm, kind))
        for number, gate in enumerate(gates):
            assert next(response.response_gen) == f"piece{number} "
            assert len(llm.calls[-1].given) == number + 1
            gate.set()
        assert next(response.response_gen, None) is None

    within(read)


@KINDS
def test_01_a_piece_is_there_before_the_next_is_made_async(
    index: VectorStoreIndex, kind: str
) -> None:
    gates = [threading.Event() for _ in range(4)]
    steps = [step for n, gate in enumerate(gates) for step in (f"piece{n} ", gate)]
    llm = Model(steps)

    async def read() -> int:
        response = await astarted(engine_of(index, llm, kind))
        number = 0
        async for piece in response.async_response_gen():
            assert piece == f"piece{number} "
            assert len(llm.calls[-1].given) == number + 1
            gates[number].set()
            number += 1
        return number

    assert asyncio.run(soon(read())) == 4


def test_01_the_pieces_of_a_server_are_there_before_it_sends_the_next(
    index: VectorStoreIndex, server: Any
) -> None:
    gates = [threading.Event() for _ in range(4)]
    events: list[Any] = [
        step for n, gate in enumerate(gates) for step in (event(f"piece{n} "), gate)
    ]
    server.behaviours.append(sends(*events, event(None, "stop"), DONE))
    llm = OpenAI("m", server.url, "key", max_retries=0)

    def read() -> None:
        response = started(engine_of(index, llm))
        for number, gate in enumerate(gates):
            assert next(response.response_gen) == f"piece{number} "
            gate.set()
        assert next(response.response_gen, None) is None
        assert response.finish_reason == "stop"

    within(read)


@pytest.mark.slow
def test_01_the_pieces_of_the_local_model(index: VectorStoreIndex, smollm: HuggingFaceLLM) -> None:
    engine = engine_of(index, smollm, response_mode="generation", max_tokens=12)
    got = answered(engine, LONG)
    assert 6 < len(got.pieces) <= 12
    assert "".join(got.pieces) == got.text
    assert got.response.usage.completion_tokens == 12


# 2


class Outcome:
    """What is known of an answer at the moment `query` has returned."""

    def __init__(self, response: Any, llm: Model):
        self.response = response
        self.calls = [(call.ended, list(call.given)) for call in llm.calls]


def returned(llm: Model, engine: Any, form: str) -> Outcome:
    """`query`, and then the whole text; the last call waits for the outcome to be noted."""
    if form == "sync":
        response = started(engine)
        outcome = Outcome(response, llm)
        str(response)
        return outcome

    async def run() -> Outcome:
        response = await astarted(engine)
        outcome = Outcome(response, llm)
        await response.get_response()
        return outcome

    return asyncio.run(soon(run()))


@FORMS
@KINDS
def test_02_query_returns_when_the_model_call_has_begun(
    index: VectorStoreIndex, kind: str, form: str
) -> None:
    llm = Model(PIECES)
    outcome = returned(llm, engine_of(index, llm, kind), form)
    assert outcome.calls == [(False, [])]  # begun; nothing written, not ended
    assert isinstance(outcome.response, StreamingResponse | AsyncStreamingResponse)
    assert str(outcome.response) == "".join(PIECES)


@FORMS
def test_02_query_does_not_wait_for_the_first_text(index: VectorStoreIndex, form: str) -> None:
    gate = threading.Event()
    llm = Model([gate, "late"])

    def run() -> str:
        engine = engine_of(index, llm)
        if form == "sync":
            response = engine.query(QUESTION)
            assert response.finish_reason is None
            gate.set()
            return str(response)

        async def read() -> str:
            response = await engine.aquery(QUESTION)
            assert response.finish_reason is None
            gate.set()
            return str(await response.get_response())

        return asyncio.run(read())

    assert within(run) == "late"


@FORMS
@KINDS
def test_02_the_request_is_at_the_server_before_any_next(
    index: VectorStoreIndex, server: Any, kind: str, form: str
) -> None:
    release = threading.Event()

    def behave(request: Any) -> None:
        assert release.wait(GUARD)  # not even the status line is sent until then
        says("It", " is")(request)

    server.behaviours.append(behave)
    engine = engine_of(index, OpenAI("m", server.url, "key", max_retries=0), kind)

    def sync() -> str:
        response = started(engine)
        assert response.finish_reason is None
        assert wait_for(lambda: server.received)
        release.set()
        return str(response)

    async def not_sync() -> str:
        response = await astarted(engine)
        assert response.finish_reason is None
        assert await await_for(lambda: server.received)
        release.set()
        return str(await response.get_response())

    assert within(sync if form == "sync" else lambda: asyncio.run(not_sync())) == "It is"
    assert len(server.received) == 1


def test_02_of_several_requests_the_last_is_at_the_server(server: Any) -> None:
    release = threading.Event()
    server.behaviours += [
        says("one"),
        says("two"),
        sends(release, event("three"), event(None, "stop"), DONE),
    ]
    llm = OpenAI("m", server.url, "key", max_retries=0)
    response = within(lambda: engine_of(index_of(3), llm, response_mode="refine").query(QUESTION))
    assert wait_for(lambda: len(server.received) == 3)
    assert response.finish_reason is None
    release.set()
    assert str(response) == "three"


@pytest.mark.slow
@FORMS
@KINDS
def test_02_the_local_model_computes_before_any_next(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str, form: str
) -> None:
    before = smollm.steps
    engine = engine_of(index, smollm, kind, response_mode="generation", max_tokens=200)

    def check(response: Any) -> None:
        assert response.finish_reason is None
        assert smollm.steps - before < 200  # it did not wait for the end

    def sync() -> None:
        response = started(engine, LONG)
        check(response)
        assert wait_for(lambda: smollm.steps > before)
        response.close()

    async def not_sync() -> None:
        response = await astarted(engine, LONG)
        check(response)
        assert await await_for(lambda: smollm.steps > before)
        await response.close()

    within(sync if form == "sync" else lambda: asyncio.run(not_sync()))


# 3


@FORMS
@KINDS
@pytest.mark.parametrize(
    ("mode", "window", "calls"),
    [("refine", 4096, 3), ("compact", fitting(1), 3), ("tree_summarize", fitting(1), 4)],
)
def test_03_all_calls_but_the_last_are_finished_in_query(
    kind: str, form: str, mode: str, window: int, calls: int
) -> None:
    early = [["not ", "this "] for _ in range(calls - 1)]
    llm = Model(*early, PIECES, context_window=window)
    engine = engine_of(index_of(3), llm, kind, response_mode=mode, **PLAIN)
    outcome = returned(llm, engine, form)
    assert outcome.calls == [*[(True, ["not ", "this "])] * (calls - 1), (False, [])]
    assert str(outcome.response) == "".join(PIECES)  # and nothing of the calls before it
    assert len(llm.calls) == calls


def test_03_only_the_last_call_of_a_chat_turn_streams(index: VectorStoreIndex) -> None:
    llm = Model("first", "condensed", PIECES)
    engine = engine_of(index, llm, "chat")
    assert answered(engine).text == "first"
    outcome = returned(llm, engine, "sync")
    assert outcome.calls[1:] == [(True, ["condensed"]), (False, [])]
    assert str(outcome.response) == "".join(PIECES)


# 4


@FORMS
@KINDS
@pytest.mark.parametrize("mode", STREAMING_MODES)
def test_04_sources_and_metadata_are_there_before_the_first_token(
    kind: str, form: str, mode: str
) -> None:
    gate = threading.Event()
    llm = Model([gate, "late"])
    engine = engine_of(index_of(3), llm, kind, top_k=1, response_mode=mode)
    if mode == "generation":
        expected: list[Any] = []
    else:
        (hit,) = index_of(3).as_retriever(1).retrieve(QUESTION)
        expected = [(hit.text, hit.score, {"file_name": "rank0.txt", "rank": 0})]

    def check(response: Any) -> None:
        assert not any(call.given for call in llm.calls)
        sources = response.source_nodes
        assert [(hit.text, hit.score, dict(hit.metadata)) for hit in sources] == expected
        ids = [hit.node.id_ for hit in sources]
        assert response.metadata == dict(
            zip(ids, (metadata for *_, metadata in expected), strict=True)
        )
        gate.set()

    def sync() -> None:
        response = started(engine)
        check(response)
        str(response)
        assert len(response.source_nodes) == len(expected)  # nor do they go afterwards

    async def not_sync() -> None:
        response = await astarted(engine)
        check(response)
        await response.get_response()
        assert len(response.source_nodes) == len(expected)

    within(sync if form == "sync" else lambda: asyncio.run(not_sync()))


# 5


@KINDS
def test_05_the_full_text_is_there_after_iterating_by_hand(
    index: VectorStoreIndex, kind: str
) -> None:
    response = started(engine_of(index, Model(PIECES), kind))
    seen = list(response.response_gen)
    for _ in range(2):
        assert str(response) == "".join(PIECES) == "".join(seen)
        whole = response.get_response()
        assert isinstance(whole, Response)
        assert str(whole) == whole.response == "".join(PIECES)
    assert [hit.text for hit in whole.source_nodes] == [hit.text for hit in response.source_nodes]
    assert whole.source_nodes
    assert whole.metadata == response.metadata
    assert whole.finish_reason == "stop"


@KINDS
def test_05_the_full_text_is_there_after_iterating_by_hand_async(
    index: VectorStoreIndex, kind: str
) -> None:
    async def read() -> None:
        response = await astarted(engine_of(index, Model(PIECES), kind))
        seen = [piece async for piece in response.async_response_gen()]
        for _ in range(2):
            assert str(response) == "".join(PIECES) == "".join(seen)
            assert str(await response.get_response()) == "".join(PIECES)

    asyncio.run(soon(read()))


@pytest.mark.parametrize("read_before", [0, 1, 3])
def test_05_the_full_text_is_there_after_iterating_in_part(
    index: VectorStoreIndex, read_before: int
) -> None:
    response = started(engine_of(index, Model(PIECES)))
    for _ in range(read_before):
        next(response.response_gen)
    assert str(response) == "".join(PIECES)
    assert str(response.get_response()) == "".join(PIECES)


# 6


class Printed(io.StringIO):
    """A standard output that keeps what was written and when it was flushed."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed = ""

    def flush(self) -> None:
        self.flushed = self.getvalue()


@contextmanager
def printing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Printed]:
    with monkeypatch.context() as patch:
        printed = Printed()
        patch.setattr(sys, "stdout", printed)
        yield printed


@FORMS
@KINDS
def test_06_it_prints_as_text_arrives_and_the_kept_text_again(
    index: VectorStoreIndex, monkeypatch: pytest.MonkeyPatch, kind: str, form: str
) -> None:
    shown: list[str] = []
    with printing(monkeypatch) as printed:
        # Between two pieces: what a person sees is what has been flushed.
        steps = [step for p in PIECES for step in (p, lambda: shown.append(printed.flushed))]
        engine = engine_of(index, Model(steps), kind)

        def sync() -> None:
            response = started(engine)
            response.print_response_stream()
            printed.write("|")
            response.print_response_stream()

        async def not_sync() -> None:
            response = await astarted(engine)
            await response.print_response_stream()
            printed.write("|")
            await response.print_response_stream()

        sync() if form == "sync" else asyncio.run(not_sync())
    whole = "".join(PIECES)
    assert shown == ["".join(PIECES[: n + 1]) for n in range(len(PIECES))]
    first, _, second = printed.flushed.partition("|")
    assert first.rstrip("\n") == whole.rstrip("\n")
    assert second.rstrip("\n") == whole.rstrip("\n")
    assert len(printed.flushed) <= 2 * len(whole) + 3  # a line's end may be added


def test_06_after_iterating_in_part_all_of_it_is_printed(
    index: VectorStoreIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = started(engine_of(index, Model(PIECES)))
    next(response.response_gen)
    with printing(monkeypatch) as printed:
        response.print_response_stream()
    assert printed.flushed.rstrip() == "".join(PIECES).rstrip()


def test_06_after_a_stop_the_kept_text_is_printed(
    index: VectorStoreIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    response = started(engine_of(index, Model(PIECES)))
    next(response.response_gen)
    response.close()
    with printing(monkeypatch) as printed:
        response.print_response_stream()
    assert printed.flushed.rstrip() == PIECES[0]


@KINDS
def test_06_formatted_sources_name_each_source_and_the_start_of_its_text(kind: str) -> None:
    texts = {
        "oak.txt": "The walnut is no oak. " + "Oaks grow slowly and get old. " * 6,
        "nut.txt": "A walnut is a nut, " + "and nuts are rich in oil. " * 6,
        "tiny.txt": "Walnut!",
    }
    docs = [Document(text, {"file_name": name}) for name, text in texts.items()]
    response = started(engine_of(indexed(docs), Model("x"), kind))
    assert len(response.source_nodes) == 3

    def starts(**options: int) -> dict[str, str]:
        """What is shown of each source's text."""
        shown = response.get_formatted_sources(**options)
        found = {}
        for name, text in texts.items():
            (line,) = [line for line in shown.splitlines() if name in line]
            found[name] = line[line.index(text[:6]) :]
        return found

    for options, length in (({}, 100), ({"length": 40}, 40), ({"length": 100}, 100)):
        for name, start in starts(**options).items():
            common = start.removesuffix("…").removesuffix("...").rstrip()
            assert texts[name].startswith(common)
            assert len(start) <= length + 3
            assert len(common) >= min(length - 12, len(texts[name].strip()))
    assert starts(length=10_000)["oak.txt"].strip() == texts["oak.txt"].strip()


@pytest.mark.parametrize("text", ["漢字仮名交じり文" * 30, "https://example.org/" + "walnut/" * 30])
def test_06_formatted_sources_of_a_text_without_spaces(text: str) -> None:
    response = started(engine_of(indexed([Document(text, {"file_name": "a.txt"})]), Model("x")))
    assert text[:50] in response.get_formatted_sources()
    assert text[:120] not in response.get_formatted_sources()


# 7


@FORMS
@KINDS
@pytest.mark.parametrize("mode", STREAMING_MODES)
@pytest.mark.parametrize("count", [0, 1, 5])
def test_07_exactly_the_tokens_before_an_error_then_the_error(
    index: VectorStoreIndex, kind: str, form: str, mode: str, count: int
) -> None:
    error = Boom("at last")
    llm = Model([*PIECES[:count], error])
    got = answered(engine_of(index, llm, kind, response_mode=mode), form=form)
    heading = ["Response 1: "] if "accumulate" in mode and count else []
    assert got.error is error
    assert got.pieces == heading + PIECES[:count]
    assert got.response.finish_reason == "error"
    assert got.text == "".join(heading + PIECES[:count])
    assert llm.calls[-1].closed


@pytest.mark.parametrize("produced", [["<"], ["<thi", "n"], [" "], ["\n", " <"], ["<think>a</th"]])
def test_07_text_that_could_have_become_something_else_is_not_lost(
    index: VectorStoreIndex, produced: list[str]
) -> None:
    """What the stream's filters hold back has been produced as well."""
    error = Boom("at last")
    got = answered(engine_of(index, Model([*produced, error])))
    assert got.error is error
    reasoning = got.response.reasoning
    given = f"<think>{reasoning}" if reasoning else "".join(got.pieces)
    assert given == "".join(produced)


def test_07_a_slow_reader_gets_all_tokens_before_the_error(
    index: VectorStoreIndex, server: Any
) -> None:
    """The error is long there when the first token is read."""
    events = [event(f"t{n} ") for n in range(40)]
    sent = threading.Event()
    server.behaviours.append(
        lambda request: (
            sends(*events, b'data: {"error": {"message": "oh"}}\n\n')(request),
            sent.set(),
        )
    )
    response = started(engine_of(index, OpenAI("m", server.url, "key", max_retries=0)))
    assert sent.wait(GUARD)
    time.sleep(0.2)
    pieces: list[str] = []
    with pytest.raises(ProviderError):
        pieces.extend(response.response_gen)
    assert pieces == [f"t{n} " for n in range(40)]


@FORMS
def test_07_an_error_in_an_earlier_call_is_raised_by_query(form: str) -> None:
    error = Boom("early")
    llm = Model("one", ["tw", error], "three")
    got = answered(engine_of(index_of(3), llm, response_mode="refine"), form=form)
    assert got.error is error
    assert (got.response, got.pieces) == (None, [])
    assert len(llm.calls) == 2


# 8


def forward(
    monkeypatch: pytest.MonkeyPatch, llm: HuggingFaceLLM, fails_at: int, error: BaseException
) -> None:
    """Let the pass through the model number `fails_at` raise `error`."""
    real = llm._llama.read
    passes = 0

    @functools.wraps(real)
    def counting(*args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        if passes == fails_at:
            raise error
        passes += 1
        return real(*args, **kwargs)

    monkeypatch.setattr(llm._llama, "read", counting)


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("generate ")]


@pytest.mark.slow
@FORMS
@KINDS
@pytest.mark.parametrize("count", [0, 3])
def test_08_an_error_in_the_local_models_thread_is_raised_in_the_consumer(
    index: VectorStoreIndex,
    smollm: HuggingFaceLLM,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    form: str,
    count: int,
) -> None:
    options: dict[str, Any] = {"response_mode": "generation", "max_tokens": 8}
    whole = answered(engine_of(index, smollm, **options), LONG).pieces
    cause = RuntimeError("out of memory")
    with monkeypatch.context() as patch:
        forward(patch, smollm, count, cause)
        engine = engine_of(index, smollm, kind, **options)
        got = within(lambda: answered(engine, LONG, form))
    assert isinstance(got.error, ModelError)
    assert "out of memory" in str(got.error)
    assert got.error.__cause__ is cause
    assert got.pieces == whole[:count]
    assert got.response.finish_reason == "error"
    assert wait_for(lambda: not workers())
    assert answered(engine_of(index, smollm, **options), LONG).pieces == whole  # it goes on


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [MemoryError(), StopIteration(), GeneratorExit(), SystemExit(1), KeyboardInterrupt()],
    ids=lambda error: type(error).__name__,
)
def test_08_whatever_is_raised_in_the_thread_the_consumer_does_not_hang(
    index: VectorStoreIndex,
    smollm: HuggingFaceLLM,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    forward(monkeypatch, smollm, 1, error)
    engine = engine_of(index, smollm, response_mode="generation", max_tokens=8)
    got = within(lambda: answered(engine, LONG), 15)
    assert isinstance(got.error, ModelError)
    assert got.error.__cause__ is error
    assert len(got.pieces) == 1
    assert wait_for(lambda: not workers())


@pytest.mark.slow
def test_08_an_error_while_the_reader_is_behind(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker has filled the queue when it fails, and nobody reads yet."""
    forward(monkeypatch, smollm, 20, RuntimeError("out of memory"))
    engine = engine_of(index, smollm, response_mode="generation", max_tokens=40)
    before = smollm.steps
    response = engine.query(LONG)
    wait_for(lambda: smollm.steps - before >= 16)
    time.sleep(0.5)
    pieces: list[str] = []
    with pytest.raises(ModelError, match="out of memory"):
        within(lambda: pieces.extend(response.response_gen))
    assert smollm.steps - before == 20
    assert len(pieces) >= 16
    assert wait_for(lambda: not workers())


# 9


@FORMS
@KINDS
@pytest.mark.parametrize("then", ["end", "cut"])
def test_09_an_answer_without_a_finish_reason_is_truncated(
    index: VectorStoreIndex, server: Any, kind: str, form: str, then: str
) -> None:
    server.behaviours.append(sends(event("It"), event(" is"), then=then))
    engine = engine_of(index, OpenAI("m", server.url, "key"), kind)
    got = answered(engine, form=form)
    assert got.error is None
    assert got.pieces == ["It", " is"]
    assert got.text == "It is"
    assert got.response.finish_reason == "truncated"
    if kind == "chat":
        assert engine.chat_history[-1] == ChatMessage("assistant", "It is", "truncated")


def test_09_the_end_mark_alone_is_no_finish_reason(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours.append(sends(event("It"), DONE))
    got = answered(engine_of(index, OpenAI("m", server.url, "key")))
    assert got.response.finish_reason == "truncated"


def test_09_a_whole_answer_is_not_called_truncated(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours.append(says("It", " is"))
    got = answered(engine_of(index, OpenAI("m", server.url, "key")))
    assert got.response.finish_reason == "stop"


@pytest.mark.parametrize("number", [0, 1])
def test_09_also_where_a_call_before_the_last_was_cut(server: Any, number: int) -> None:
    server.behaviours += [says("one"), says("two"), says("three")]
    server.behaviours[number] = sends(event("It"), then="cut")
    llm = OpenAI("m", server.url, "key")
    got = answered(engine_of(index_of(3), llm, response_mode="refine"))
    assert got.text == "three"
    assert got.response.finish_reason == "truncated"


def test_09_the_page_says_so(backend: Backend) -> None:
    backend.catalog.put("cut", Model(["It", Completion("truncated")]))
    page = Page(Chat(backend), asks(1))
    answer = page.ask(QUESTION, model="cut")
    assert page.said == "It"
    assert "cut off" in page.text("facts")
    assert answer.finish_reason == "truncated"


def test_09_the_terminal_says_so(
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Any,
) -> None:
    (tmp_path / "walnut.txt").write_text("The walnut is a tree.")
    server.behaviours.append(sends(event("It"), event(" is"), then="cut"))
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setattr(Settings, "_embed_model", HashEmbedding())
    assert main(["ask", QUESTION, "--docs", str(tmp_path), "--model", "openai:m"]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("It is\n")
    assert "cut off" in said.err


# 10


def stop(response: Any, how: str) -> None:
    if how == "close":
        response.close()
    else:
        response.response_gen.close()


@KINDS
@pytest.mark.parametrize("how", ["close", "generator"])
@pytest.mark.parametrize("read", [0, 1, 3])
def test_10_stopping_ends_the_model_and_keeps_what_came(
    index: VectorStoreIndex, kind: str, how: str, read: int
) -> None:
    llm = ScriptedLLM("word " * 50)
    response = started(engine_of(index, llm, kind))
    seen = [next(response.response_gen) for _ in range(read)]
    before = llm.steps
    stop(response, how)
    assert llm.steps - before <= 1
    assert response.finish_reason == "stopped"
    assert list(response.response_gen) == []
    assert str(response) == str(response.get_response()) == "".join(seen)
    assert response.get_response().finish_reason == "stopped"
    assert response.source_nodes
    assert llm.steps - before <= 1  # asking for the text does not start it again
    response.close()  # nor is it an error to stop twice
    assert response.finish_reason == "stopped"


@KINDS
@pytest.mark.parametrize("read", [0, 1, 3])
def test_10_stopping_ends_the_model_and_keeps_what_came_async(
    index: VectorStoreIndex, kind: str, read: int
) -> None:
    llm = Model(["word "] * 50)

    async def run() -> None:
        response = await astarted(engine_of(index, llm, kind))
        stream = response.async_response_gen()
        seen = [await anext(stream) for _ in range(read)]
        if read:
            await stream.aclose()
        else:
            await response.close()
        assert llm.calls[-1].closed
        assert not llm.calls[-1].ended
        assert len(llm.calls[-1].given) <= read + 1
        assert response.finish_reason == "stopped"
        assert str(response) == "".join(seen)
        whole = await response.get_response()
        assert (str(whole), whole.finish_reason) == ("".join(seen), "stopped")
        await response.close()

    asyncio.run(soon(run()))


@KINDS
@pytest.mark.parametrize("waiting", ["in the first call", "in the last call", "in a piece"])
def test_10_cancelling_a_task_ends_the_model(kind: str, waiting: str) -> None:
    never = threading.Event()
    steps: list[Any] = ["word ", never]
    llm = Model(*([] if waiting == "in the first call" else ["one"]), steps)
    engine = engine_of(index_of(2), llm, kind, response_mode="refine")

    async def run() -> None:
        async def ask() -> None:
            response = await astarted(engine)
            if waiting == "in a piece":
                async for _ in response.async_response_gen():
                    pass
            else:
                await response.get_response()

        task = asyncio.create_task(ask())
        number = 1 if waiting == "in the first call" else 2
        try:
            assert await await_for(lambda: len(llm.calls) == number and llm.calls[-1].given)
            if waiting == "in a piece":
                await asyncio.sleep(0.1)  # until the next one is waited for
            task.cancel()
            assert await await_for(lambda: llm.calls[-1].closed, 10), "the model goes on"
            assert not llm.calls[-1].ended
            with pytest.raises(asyncio.CancelledError):
                await soon(task)
            assert len(llm.calls) == number
        finally:
            never.set()

    asyncio.run(run())


@KINDS
def test_10_closing_while_another_task_waits_for_a_piece(
    index: VectorStoreIndex, kind: str
) -> None:
    """The model is silent, and says so: it can be stopped."""
    never = threading.Event()
    llm = Model(["word ", never])
    seen: list[str] = []

    async def run() -> None:
        response = await astarted(engine_of(index, llm, kind))

        async def read() -> None:
            async for piece in response.async_response_gen():
                seen.append(piece)

        reading = asyncio.create_task(read())
        closing = None
        try:
            assert await await_for(lambda: seen)
            closing = asyncio.create_task(response.close())
            assert await await_for(lambda: llm.calls[-1].closed, 10), "the model goes on"
            await soon(asyncio.gather(reading, closing))
            assert not llm.calls[-1].ended
            assert (str(response), response.finish_reason) == ("word ", "stopped")
        finally:
            never.set()

    asyncio.run(run())


def test_10_closing_from_another_thread_while_one_waits_for_a_piece(
    index: VectorStoreIndex,
) -> None:
    never = threading.Event()
    llm = Model(["word ", never])
    response = started(engine_of(index, llm))
    seen: list[str] = []
    reading = threading.Thread(target=lambda: seen.extend(response.response_gen), daemon=True)
    reading.start()
    try:
        assert wait_for(lambda: llm.calls[-1].given)
        time.sleep(0.1)  # until the next piece is waited for
        response.close()
        assert wait_for(lambda: llm.calls[-1].closed, 10), "the model goes on"
        reading.join(GUARD)
        assert not llm.calls[-1].ended
        assert (seen, response.finish_reason) == (["word "], "stopped")
    finally:
        never.set()


@KINDS
def test_10_a_response_that_is_dropped_ends_its_model(index: VectorStoreIndex, kind: str) -> None:
    llm = Model(["word "] * 50)
    engine = engine_of(index, llm, kind)
    response = started(engine)
    next(response.response_gen)
    del response
    assert llm.calls[-1].closed
    assert len(llm.calls[-1].given) == 1


@FORMS
@KINDS
@pytest.mark.parametrize("pieces", [None, 0, 2])
def test_10_stopping_closes_the_connection_to_a_server(
    index: VectorStoreIndex, server: Any, kind: str, form: str, pieces: int | None
) -> None:
    """Before it has answered at all (None), before the first text, after some."""
    begun = [] if pieces is None else [event("")]
    server.behaviours.append(until_gone(*begun, *[event("x ")] * (pieces or 0)))
    engine = engine_of(index, OpenAI("m", server.url, "key", max_retries=0), kind)

    def sync() -> None:
        response = started(engine)
        assert wait_for(lambda: server.received)
        for _ in range(pieces or 0):
            assert next(response.response_gen) == "x "
        assert not server.gone.is_set()
        response.close()
        assert server.gone.wait(GUARD)
        assert str(response) == "x " * (pieces or 0)
        assert response.finish_reason == "stopped"

    async def not_sync() -> None:
        response = await astarted(engine)
        assert await await_for(lambda: server.received)
        stream = response.async_response_gen()
        for _ in range(pieces or 0):
            assert await anext(stream) == "x "
        assert not server.gone.is_set()
        await response.close()
        assert await await_for(server.gone.is_set)
        assert str(response) == "x " * (pieces or 0)
        assert response.finish_reason == "stopped"

    within(sync if form == "sync" else lambda: asyncio.run(not_sync()))


@pytest.mark.slow
@FORMS
@KINDS
@pytest.mark.parametrize("read", [0, 2])
def test_10_stopping_the_local_model_ends_its_computing(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str, form: str, read: int
) -> None:
    engine = engine_of(index, smollm, kind, response_mode="generation", max_tokens=400)
    start = smollm.steps

    def sync() -> tuple[Any, list[str], int]:
        response = started(engine, LONG)
        seen = [next(response.response_gen) for _ in range(read)]
        before = smollm.steps
        response.close()
        return response, seen, before

    async def not_sync() -> tuple[Any, list[str], int]:
        response = await astarted(engine, LONG)
        stream = response.async_response_gen()
        seen = [await anext(stream) for _ in range(read)]
        before = smollm.steps
        await response.close()
        return response, seen, before

    response, seen, before = within(
        sync if form == "sync" else lambda: asyncio.run(not_sync()), GUARD
    )
    assert wait_for(lambda: not workers())
    ended = smollm.steps
    assert ended - before <= 2
    assert ended - start < 60
    time.sleep(0.5)
    assert smollm.steps == ended
    assert response.finish_reason == "stopped"
    assert str(response) == "".join(seen)


# 11


class Whole(Model):
    is_streaming = False
    model_name = "all-at-once"


@FORMS
@KINDS
@pytest.mark.parametrize("mode", STREAMING_MODES)
def test_11_a_model_that_cannot_stream_is_refused_before_retrieval(
    index: VectorStoreIndex, kind: str, form: str, mode: str
) -> None:
    llm = Whole("It is.")
    engine = engine_of(index, llm, kind, response_mode=mode)
    engine.retriever = retriever = Recording(engine.retriever)
    got = answered(engine, form=form)
    assert type(got.error) is NotImplementedError
    assert "all-at-once" in str(got.error)
    assert "streaming=False" in str(got.error)
    assert got.response is None  # `query` raised it
    assert retriever.asked == []
    assert llm.calls == []


def test_11_without_streaming_it_answers(index: VectorStoreIndex) -> None:
    engine = index.as_query_engine(llm=Whole("It is."))
    for response in (engine.query(QUESTION), asyncio.run(engine.aquery(QUESTION))):
        assert type(response) is Response
        assert str(response) == "It is."
    chat = index.as_chat_engine(Whole("It is."))
    assert str(chat.chat(QUESTION)) == "It is."
    chat.reset()
    assert str(asyncio.run(chat.achat(QUESTION))) == "It is."


# 12


def nothing(*_: Any) -> list[Any]:
    return []


NOTHING = {
    "an empty index": (0, (), NOTHING_FOUND),
    "a cut-off": (2, (SimilarityPostprocessor(1.1),), NOTHING_LEFT),
    "a callable": (2, (nothing,), NOTHING_LEFT),
    "two in a row": (2, (SimilarityPostprocessor(0.0), nothing), NOTHING_LEFT),
}


@FORMS
@KINDS
@pytest.mark.parametrize("mode", READING_MODES)
@pytest.mark.parametrize("why", NOTHING)
def test_12_without_a_hit_the_stream_is_the_fallback(
    kind: str, form: str, mode: str, why: str
) -> None:
    number, postprocessors, fallback = NOTHING[why]
    llm = Model("never")
    engine = engine_of(
        index_of(number), llm, kind, response_mode=mode, node_postprocessors=postprocessors
    )
    got = answered(engine, form=form)
    expected = StreamingResponse if form == "sync" else AsyncStreamingResponse
    assert type(got.response) is expected
    assert got.pieces == [fallback]
    assert got.text == fallback
    assert llm.calls == []
    assert got.response.source_nodes == []
    assert got.response.metadata == {}
    assert got.response.get_formatted_sources() == ""
    assert got.response.finish_reason == "stop"


@pytest.mark.parametrize("mode", ["no_text", "context_only"])
def test_12_the_modes_without_a_model_stream_without_a_hit_too(mode: str) -> None:
    llm = Model("never")
    got = answered(engine_of(index_of(0), llm, response_mode=mode))
    assert type(got.response) is StreamingResponse
    assert (llm.calls, got.response.source_nodes) == ([], [])


def test_12_a_response_that_does_not_stream_has_the_fallback_too() -> None:
    llm = Model("never")
    engine = index_of(0).as_query_engine(llm=llm)
    for response in (engine.query(QUESTION), asyncio.run(engine.aquery(QUESTION))):
        assert type(response) is Response
        assert str(response) == NOTHING_FOUND
        assert response.source_nodes == []
    assert llm.calls == []


def test_12_by_the_low_level_parts_too() -> None:
    synthesizer = get_response_synthesizer(streaming=True, llm=Model("never"))
    engine = RetrieverQueryEngine(
        retriever=index_of(0).as_retriever(), response_synthesizer=synthesizer
    )
    response = engine.query(QUESTION)
    assert isinstance(response, StreamingResponse)
    assert list(response.response_gen) == [NOTHING_FOUND]


def test_12_the_fallback_texts_are_texts() -> None:
    for text in (NOTHING_FOUND, NOTHING_LEFT, NO_TEXT):
        assert text.strip() == text != ""


# 13


EMPTY: dict[str, list[Any]] = {
    "nothing": [],
    "empty pieces": ["", ""],
    "blank": [" ", "\n\n", "\t"],
    "reasoning": [Reasoning("Let me"), Reasoning(" see.")],
    "reasoning, then blank": [Reasoning("Let me see."), "\n\n"],
    "tags": ["<thi", "nk>Let me see.</", "think>", "\n"],
    "open tag": ["<think>Let me", " see."],
    "empty tags": ["<think></think>"],
}


@FORMS
@KINDS
@pytest.mark.parametrize("steps", EMPTY.values(), ids=EMPTY.keys())
def test_13_without_a_word_of_an_answer_there_is_the_fallback(
    index: VectorStoreIndex, kind: str, form: str, steps: list[Any]
) -> None:
    got = answered(engine_of(index, Model(steps), kind), form=form)
    assert got.error is None
    assert got.pieces == [NO_TEXT]
    assert got.text == NO_TEXT
    assert got.response.finish_reason == "stop"
    if "<think></think>" not in steps and (Reasoning in map(type, steps) or "<" in str(steps)):
        assert got.response.reasoning.strip() == "Let me see."


@pytest.mark.parametrize("mode", STREAMING_MODES)
@pytest.mark.parametrize("steps", EMPTY.values(), ids=EMPTY.keys())
def test_13_in_every_mode(mode: str, steps: list[Any]) -> None:
    """Also where each of several calls gives nothing."""
    llm = Model(steps, context_window=fitting(2))
    got = answered(engine_of(index_of(3), llm, response_mode=mode, **PLAIN))
    assert got.error is None
    if "accumulate" in mode:
        assert got.text.count(NO_TEXT) == len(llm.calls)
    else:
        assert got.text == NO_TEXT
    assert "Let me" not in got.text


def test_13_a_call_in_between_that_gives_nothing_does_not_spoil_the_answer() -> None:
    for mode in ("refine", "tree_summarize"):
        llm = Model([" "], [Reasoning("x")], "The answer.", context_window=fitting(2))
        got = answered(engine_of(index_of(3), llm, response_mode=mode, **PLAIN))
        assert got.error is None
        assert got.text in ("The answer.", NO_TEXT)
        if len(llm.calls) == 3:
            assert got.text == "The answer."


@FORMS
def test_13_reasoning_up_to_the_length_limit_says_what_to_do(
    index: VectorStoreIndex, form: str
) -> None:
    steps: list[Any] = [Reasoning("Let me see."), Completion("length")]
    got = answered(engine_of(index, Model(steps)), form=form)
    assert got.error is None
    (text,) = got.pieces
    assert "limit" in text
    assert got.response.finish_reason == "length"
    assert got.response.reasoning == "Let me see."


def test_13_an_empty_answer_of_a_server(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours += [
        sends(event(None, "stop"), DONE),
        sends(event(""), event("\n"), event(None, "stop"), DONE),
        sends(
            event(choices=[{"index": 0, "delta": {"reasoning_content": "Hm"}}]),
            event(None, "stop"),
            DONE,
        ),
    ]
    engine = engine_of(index, OpenAI("m", server.url, "key", max_retries=0))
    for _ in range(3):
        got = answered(engine)
        assert (got.error, got.pieces) == (None, [NO_TEXT])


@KINDS
def test_13_without_streaming_too(index: VectorStoreIndex, kind: str) -> None:
    for steps in EMPTY.values():
        llm = Model(steps)
        if kind == "chat":
            response = index.as_chat_engine(llm).chat(QUESTION)
        else:
            response = index.as_query_engine(llm=llm).query(QUESTION)
        assert str(response) == NO_TEXT


# 14


class Slow:
    """An index whose every part holds up its thread until the event loop has gone on."""

    def __init__(self, ticker: Ticker, kind: str, mode: str):
        self.ticker = ticker
        block = ticker.block
        self.llm = Model(*[[block, "a ", block, "b ", block, "c "]] * 3)
        index = index_of(2)

        class Embedding(HashEmbedding):
            def embed(self, texts: Any) -> Any:
                block()
                return super().embed(texts)

        self.retriever = index.as_retriever(2)
        self.retriever.embed_model = Embedding()
        self.engine = engine_of(index, self.llm, kind, response_mode=mode)
        self.engine.retriever = self.retriever
        self.engine.node_postprocessors = (self._postprocess,)

    def _postprocess(self, nodes: Any, query: str) -> Any:
        self.ticker.block()
        return nodes


@KINDS
@pytest.mark.parametrize("mode", ["compact", "refine", "accumulate"])
@pytest.mark.parametrize("how", ["generator", "get_response", "print", "whole"])
def test_14_no_part_of_an_answer_blocks_the_event_loop(
    capsys: pytest.CaptureFixture[str], kind: str, mode: str, how: str
) -> None:
    ticker = Ticker()
    slow = Slow(ticker, kind, mode)

    async def run() -> str:
        if how == "whole":
            if kind == "chat":
                return str(await slow.engine.achat(QUESTION))
            engine = RetrieverQueryEngine(
                slow.retriever,
                get_response_synthesizer(response_mode=mode, llm=slow.llm),  # type: ignore[arg-type]
                slow.engine.node_postprocessors,
            )
            return str(await engine.aquery(QUESTION))
        response = await astarted(slow.engine)
        if how == "generator":
            async for _ in response.async_response_gen():
                pass
        elif how == "print":
            await response.print_response_stream()
        else:
            await response.get_response()
        return str(response)

    assert ticker.run(run).endswith("a b c ")


def test_14_stopping_does_not_block_the_event_loop(index: VectorStoreIndex) -> None:
    """A model may take its time to end."""
    ticker = Ticker()
    ended = threading.Event()

    class LateToEnd(Model):
        def stream(self, *args: Any, **options: Any) -> Any:
            try:
                return (yield from super().stream(*args, **options))
            finally:
                ticker.block()
                ended.set()

    async def run() -> None:
        for close in (False, True):
            ended.clear()
            response = await astarted(engine_of(index, LateToEnd(["a ", "b "])))
            stream = response.async_response_gen()
            await anext(stream)
            await (response.close() if close else stream.aclose())
            assert ended.is_set()

    ticker.run(run)


def test_14_two_answers_at_once_do_not_hold_each_other_up(index: VectorStoreIndex) -> None:
    first, second = threading.Event(), threading.Event()
    one = Model([first, "one"])
    two = Model([first.set, second, "two"])

    async def run() -> list[str]:
        async def read(llm: Model) -> str:
            response = await astarted(engine_of(index, llm))
            return str(await response.get_response())

        async def third() -> str:
            assert await await_for(first.is_set)
            second.set()
            return ""

        return await soon(asyncio.gather(read(one), read(two), third()))

    assert asyncio.run(run()) == ["one", "two", ""]


@pytest.mark.slow
@KINDS
def test_14_the_local_model_does_not_block_the_event_loop(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str
) -> None:
    ticker = Ticker()
    engine = engine_of(index, smollm, kind, response_mode="generation", max_tokens=10)
    between: list[int] = []

    async def run() -> None:
        before = ticker.ticks
        response = await astarted(engine, "Tell of foxes. " * 60)
        async for _ in response.async_response_gen():
            between.append(ticker.ticks - before)
            before = ticker.ticks

    ticker.run(run)
    assert len(between) >= 5
    assert between[0] >= 5  # while the prompt was read
    # Pieces come from a queue: some may be there at once. In all, a tick is 1 ms, a token 50.
    assert sum(between[1:]) >= 3 * len(between)


@pytest.mark.slow
@KINDS
def test_14_a_whole_answer_of_the_local_model_does_not_block_the_event_loop(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str
) -> None:
    ticker = Ticker()

    async def run() -> str:
        if kind == "chat":
            chat = index.as_chat_engine(smollm, response_mode="generation", max_tokens=10)
            return str(await chat.achat(LONG))
        engine = index.as_query_engine(llm=smollm, response_mode="generation", max_tokens=10)
        return str(await engine.aquery(LONG))

    assert ticker.run(run)
    assert ticker.ticks >= 30
