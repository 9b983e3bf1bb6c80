"""What streams leave behind that were stopped, abandoned or failed: nothing.

Threads are those of the whole process, Chroma's and torch's included; files are all open
descriptors, sockets among them. Counted is what 40 streams add to what a few have left.
"""

import asyncio
import functools
import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from rag import Document, HashEmbedding, LangChainLLM, OpenAI, ScriptedLLM, VectorStoreIndex
from rag.errors import ModelError
from rag.llms.huggingface import HuggingFaceLLM
from tests.behaviours.parts import (
    FORMS,
    GUARD,
    KINDS,
    QUESTION,
    Boom,
    Model,
    astarted,
    await_for,
    engine_of,
    event,
    index_of,
    sends,
    started,
    until_gone,
    wait_for,
)

pytestmark = pytest.mark.slow  # by their number, not by a model
STREAMS = 40
SPARE = 3
"""What may come and go by itself: an idle connection that is kept, its end at the server."""
ENDS = pytest.mark.parametrize("end", ["close", "generator", "drop", "read and drop"])
TASKS, FILES = Path("/proc/self/task"), Path("/proc/self/fd")


def threads() -> int:
    return len(list(TASKS.iterdir())) if TASKS.is_dir() else threading.active_count()


def files() -> int:
    """0 where the system does not tell."""
    return len(list(FILES.iterdir())) if FILES.is_dir() else 0


def nothing_left(some: Callable[[int], None], streams: int = STREAMS) -> None:
    """`some(number)` makes so many streams and ends them: it leaves no thread and no file."""
    some(5)
    gc.collect()
    time.sleep(0.1)
    before = threads(), files()
    some(streams)
    gc.collect()
    assert wait_for(lambda: threads() <= before[0] + SPARE), (threads(), before)
    assert wait_for(lambda: files() <= before[1] + SPARE), (files(), before)


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    return index_of(1)


@pytest.fixture(scope="module", autouse=True)
def frozen() -> Iterator[None]:
    """What is there before any stream, torch and gradio, is not looked through 200 times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What is dropped has to end by that alone; the collector of cycles is not there to help."""
    gc.disable()
    yield
    gc.enable()


def end_one(engine: Any, end: str, begun: Callable[[], object] = lambda: True) -> None:
    """Begin an answer, and end it; once the model has `begun`."""
    response = started(engine)
    assert wait_for(begun)
    if end != "drop":
        assert next(response.response_gen)
    if end == "close":
        response.close()
    elif end == "generator":
        response.response_gen.close()


async def aend_one(engine: Any, end: str, begun: Callable[[], object] = lambda: True) -> None:
    response = await astarted(engine)
    assert await await_for(begun)
    if end == "drop":
        return
    stream = response.async_response_gen()
    assert await anext(stream)
    if end == "close":
        await response.close()
    elif end == "generator":
        await stream.aclose()


def read_one(engine: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        str(started(engine))


async def aread_one(engine: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        await (await astarted(engine)).get_response()


def times(one: Callable[[], None], aone: Callable[[], Awaitable[None]], form: str) -> Any:
    """A function that does `one` so many times, or `aone` in one event loop."""

    def some(number: int) -> None:
        async def all_of_them() -> None:
            for _ in range(number):
                await aone()

        if form == "async":
            asyncio.run(all_of_them())
        else:
            for _ in range(number):
                one()

    return some


# The scripted model


@FORMS
@KINDS
@ENDS
def test_10_scripted_streams_that_were_ended(
    index: VectorStoreIndex, kind: str, form: str, end: str
) -> None:
    llm = ScriptedLLM("word " * 50)

    def engine() -> Any:
        return engine_of(index, llm, kind)

    nothing_left(times(lambda: end_one(engine(), end), lambda: aend_one(engine(), end), form))
    assert len(llm.calls) == STREAMS + 5
    assert llm.steps <= 3 * len(llm.calls)


@FORMS
@KINDS
@ENDS
def test_10_streams_whose_sentences_were_being_checked(
    index: VectorStoreIndex, kind: str, form: str, end: str
) -> None:
    llm = ScriptedLLM("A walnut. " * 50)

    def engine() -> Any:
        return engine_of(index, llm, kind)

    def one() -> None:
        response = started(engine())
        texts = response.response_gen
        assert len([next(texts) for _ in range(9)]) == 9
        if end == "close":
            response.close()
        elif end == "generator":
            texts.close()

    async def aone() -> None:
        response = await astarted(engine())
        texts = response.async_response_gen()
        assert len([await anext(texts) for _ in range(9)]) == 9
        if end == "close":
            await response.close()
        elif end == "generator":
            await texts.aclose()

    nothing_left(times(one, aone, form))


@FORMS
@KINDS
def test_07_scripted_streams_that_failed(index: VectorStoreIndex, kind: str, form: str) -> None:
    llm = ScriptedLLM("word " * 50, error=Boom(), error_after=3)

    def engine() -> Any:
        return engine_of(index, llm, kind)

    nothing_left(times(lambda: read_one(engine(), Boom), lambda: aread_one(engine(), Boom), form))


@pytest.mark.usefixtures("no_collector")
@FORMS
@KINDS
@pytest.mark.parametrize("end", ["drop", "read and drop"])
def test_10_dropping_alone_ends_the_model(
    index: VectorStoreIndex, kind: str, form: str, end: str
) -> None:
    llm = Model(["word "] * 50)
    engine = engine_of(index, llm, kind)
    if form == "sync":
        end_one(engine, end)
        assert llm.calls[-1].closed
        return

    async def run() -> None:
        await aend_one(engine, end)
        assert await await_for(lambda: llm.calls[-1].closed)

    asyncio.run(run())


def test_10_dropped_conversations_and_engines(index: VectorStoreIndex) -> None:
    """An answer is dropped with all that it came from."""
    llm = ScriptedLLM("word " * 50)

    def some(number: int) -> None:
        for _ in range(number):
            response = started(engine_of(index, llm, "chat"))
            next(response.response_gen)

    nothing_left(some)


# A model server


@FORMS
@pytest.mark.parametrize(
    ("sent", "end"),
    [(0, "drop"), (1, "close"), (1, "generator"), (1, "drop"), (1, "read and drop")],
)
def test_10_streams_of_a_server_that_were_ended(
    index: VectorStoreIndex, server: Any, form: str, end: str, sent: int
) -> None:
    """The server has begun to answer and is silent then, or is silent from the start."""
    behaviour = until_gone(*[event("x")] * sent)
    llm = OpenAI("m", server.url, "key", max_retries=0)
    engine = engine_of(index, llm)

    def begun() -> bool:
        return len(server.received) == server.expected

    def one() -> None:
        prepare()
        end_one(engine, end, begun)
        assert server.gone.wait(GUARD)

    async def aone() -> None:
        prepare()
        await aend_one(engine, end, begun)
        assert await await_for(server.gone.is_set)

    def prepare() -> None:
        server.gone.clear()
        server.behaviours.append(behaviour)
        server.expected = len(server.received) + 1

    nothing_left(times(one, aone, form))


@pytest.mark.usefixtures("no_collector")
@FORMS
@KINDS
@pytest.mark.parametrize("end", ["drop", "read and drop"])
def test_10_dropping_alone_closes_the_connection(
    index: VectorStoreIndex, server: Any, kind: str, form: str, end: str
) -> None:
    llm = OpenAI("m", server.url, "key", max_retries=0)
    for _ in range(3):
        engine = engine_of(index, llm, kind)
        server.gone.clear()
        server.behaviours.append(until_gone(event("x")))
        before = len(server.received)

        def begun(before: int = before) -> bool:
            return len(server.received) > before

        if form == "sync":
            end_one(engine, end, begun)
            assert server.gone.wait(GUARD)
        else:

            async def run(engine: Any = engine, begun: Callable[[], bool] = begun) -> bool:
                await aend_one(engine, end, begun)
                return await asyncio.to_thread(server.gone.wait, GUARD)

            assert asyncio.run(run())


@FORMS
@pytest.mark.parametrize("failure", ["cut at once", "error", "500", "silence", "refused"])
def test_07_streams_of_a_server_that_failed(
    index: VectorStoreIndex, server: Any, form: str, failure: str
) -> None:
    number = STREAMS
    address, timeout = server.url, 60.0
    behaviour = sends(event("x"), b'data: {"error": {"message": "oh"}}\n\n')
    if failure == "cut at once":
        behaviour = sends(then="cut")
    elif failure == "500":
        behaviour = functools.partial(lambda request: request.reply(500, "{}"))
    elif failure == "silence":
        number, timeout = 12, 0.2
        behaviour = sends(event("x"), then="stall")
    elif failure == "refused":
        address = "http://127.0.0.1:9/v1"
    engine = engine_of(index, OpenAI("m", address, "key", max_retries=0, timeout=timeout))
    server.behaviours += [behaviour] * (number + 5)
    one = functools.partial(read_one, engine, ModelError)
    aone = functools.partial(aread_one, engine, ModelError)
    nothing_left(times(one, aone, form), number)


@FORMS
def test_09_streams_of_a_server_that_were_cut(
    index: VectorStoreIndex, server: Any, form: str
) -> None:
    engine = engine_of(index, OpenAI("m", server.url, "key", max_retries=0))
    server.behaviours += [sends(event("x"), then="cut")] * (STREAMS + 5)

    def one() -> None:
        assert str(started(engine)) == "x"

    async def aone() -> None:
        assert str(await (await astarted(engine)).get_response()) == "x"

    nothing_left(times(one, aone, form))


def test_24_models_that_are_dropped_leave_no_connections(
    index: VectorStoreIndex, server: Any
) -> None:
    """A model for each question, as a page makes one for each session."""
    server.behaviours += [sends(event("x"), event(None, "stop"))] * 45

    def some(number: int) -> None:
        for _ in range(number):
            llm = OpenAI("m", server.url, "key", max_retries=0)
            assert str(started(engine_of(index, llm))) == "x"

    nothing_left(some, 40)


# LangChain's models


class Endless(BaseChatModel):
    """Gives words without end, from a thread of LangChain's; or raises after two."""

    fails: bool = False

    @property
    def _llm_type(self) -> str:
        return "endless"

    def _generate(self, *_: Any, **__: Any) -> ChatResult:
        raise AssertionError("it streams")

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        for number in range(5000):
            if self.fails and number == 2:
                raise ValueError("oh")
            yield ChatGenerationChunk(message=AIMessageChunk("word "))
            time.sleep(0.002)


class EndlessAsync(Endless):
    """The same by itself in the event loop."""

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        for number in range(5000):
            if self.fails and number == 2:
                raise ValueError("oh")
            yield ChatGenerationChunk(message=AIMessageChunk("word "))
            await asyncio.sleep(0.002)


@FORMS
@ENDS
@pytest.mark.parametrize("model", [Endless, EndlessAsync])
def test_26_streams_of_langchain_that_were_ended(
    index: VectorStoreIndex, form: str, end: str, model: Any
) -> None:
    engine = engine_of(index, LangChainLLM(model()))
    nothing_left(times(lambda: end_one(engine, end), lambda: aend_one(engine, end), form))


@FORMS
@pytest.mark.parametrize("model", [Endless, EndlessAsync])
def test_26_streams_of_langchain_that_failed(
    index: VectorStoreIndex, form: str, model: Any
) -> None:
    engine = engine_of(index, LangChainLLM(model(fails=True)))
    one = functools.partial(read_one, engine, ModelError)
    aone = functools.partial(aread_one, engine, ModelError)
    nothing_left(times(one, aone, form))


# The local model


LOCAL = 12
LONG = "Write a long story about a fox."


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("generate ")]


def at_rest(llm: HuggingFaceLLM) -> bool:
    """No thread of the model's is there, and it computes nothing."""
    if not wait_for(lambda: not workers()):
        return False
    steps = llm.steps
    time.sleep(0.3)
    return llm.steps == steps


@pytest.mark.slow
@FORMS
@ENDS
def test_10_streams_of_the_local_model_that_were_ended(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, form: str, end: str
) -> None:
    engine = engine_of(index, smollm, response_mode="generation", max_tokens=200)
    start = smollm.steps
    nothing_left(times(lambda: end_one(engine, end), lambda: aend_one(engine, end), form), LOCAL)
    assert at_rest(smollm)
    assert smollm.steps - start < 200  # of 17 answers of 200 tokens


@pytest.mark.slow
@FORMS
def test_08_streams_of_the_local_model_that_failed(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    read = smollm._llama.read
    passes = 0

    @functools.wraps(read)
    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal passes
        passes += 1
        if passes % 4 in (3, 0):  # a pass that fails is tried once more
            raise RuntimeError("out of memory")
        return read(*args, **kwargs)

    monkeypatch.setattr(smollm._llama, "read", failing)
    engine = engine_of(index, smollm, response_mode="generation", max_tokens=20)
    one = functools.partial(read_one, engine, ModelError)
    aone = functools.partial(aread_one, engine, ModelError)
    nothing_left(times(one, aone, form), LOCAL)
    assert at_rest(smollm)


@pytest.mark.slow
@pytest.mark.usefixtures("no_collector")
@FORMS
@KINDS
@pytest.mark.parametrize("end", ["drop", "read and drop"])
def test_10_dropping_alone_ends_the_local_model(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str, form: str, end: str
) -> None:
    engine = engine_of(index, smollm, kind, response_mode="generation", max_tokens=400)
    before = smollm.steps

    async def run() -> None:
        await aend_one(engine, end)
        await await_for(lambda: not workers())  # the loop closes what was dropped

    if form == "sync":
        end_one(engine, end)
    else:
        asyncio.run(run())
    assert at_rest(smollm)
    assert smollm.steps - before < 60  # not the 400 that were asked for


# Indexes


def collections(index: VectorStoreIndex) -> int:
    """How many there are in memory, in the whole process."""
    return int(index._store._client.count_collections())


def test_22_indexes_in_memory_that_are_dropped(index: VectorStoreIndex) -> None:
    before = collections(index)

    def some(number: int) -> None:
        for n in range(number):
            made = VectorStoreIndex.from_documents(
                [Document(f"The walnut number {n}.")], embed_model=HashEmbedding()
            )
            engine = engine_of(made, ScriptedLLM("It is."))
            assert str(started(engine)) == "It is."

    nothing_left(some, 40)
    assert wait_for(lambda: collections(index) <= before)
    assert index.as_retriever().retrieve(QUESTION)  # the others are not touched


@pytest.mark.usefixtures("no_collector")
def test_22_dropping_alone_gives_back_an_index(index: VectorStoreIndex) -> None:
    before = collections(index)
    made = VectorStoreIndex.from_documents([Document("The walnut.")], embed_model=HashEmbedding())
    response = started(engine_of(made, Model(["It", " is."])))
    del made
    assert collections(index) > before
    assert str(response) == "It is."  # an answer outlives the name of its index
    del response
    assert wait_for(lambda: collections(index) == before, 10)


def test_22_an_index_that_is_closed_gives_back_its_collections(index: VectorStoreIndex) -> None:
    before = collections(index)
    made = [index_of(1) for _ in range(5)]
    assert collections(index) > before
    for one in made:
        one.close()
    assert collections(index) == before


def test_22_indexes_in_a_folder_that_are_dropped(tmp_path: Path) -> None:
    def some(number: int) -> None:
        for n in range(number):
            VectorStoreIndex.from_documents(
                [Document(f"The walnut number {n}.")],
                embed_model=HashEmbedding(),
                storage_dir=tmp_path / str(n),
            )

    nothing_left(some, 15)
