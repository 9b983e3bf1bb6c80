"""A model whose every step can be seen, documents whose rank is known, and ways of reading."""

import asyncio
import json
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from rag import Document, HashEmbedding, VectorStoreIndex
from rag.answering.chat_engine import ChatEngine
from rag.answering.query_engine import RetrieverQueryEngine
from rag.llms.protocol import TextStream
from rag.types import ChatMessage, Completion, NodeWithScore, Reasoning

T = TypeVar("T")
GUARD = 30
"""Seconds after which something that does not come is given up."""
QUESTION = "Walnut?"
PIECES = ["It", " is", "  a\n", "\n\t", "nut", "  ", ".\n"]
"""An answer with all kinds of white space in it."""

FORMS = pytest.mark.parametrize("form", ["sync", "async"])
KINDS = pytest.mark.parametrize("kind", ["query", "chat"])
Engine = RetrieverQueryEngine | ChatEngine

Item = str | Reasoning | Exception | Completion | threading.Event | Callable[[], object]
"""A step of a model: a piece it gives, an error it raises, how it ends, an event it waits for, or
something it does."""


@dataclass
class Call:
    """What became of one call of a model."""

    messages: list[ChatMessage]
    max_tokens: int | None = None
    given: list[str | Reasoning] = field(default_factory=list)
    ended: bool = False
    """Whether the model came to its own end."""
    closed: bool = False
    """Whether it is over, in whichever way."""

    @property
    def prompt(self) -> str:
        return "\n".join(message.content for message in self.messages)


class Model:
    """Each call takes the steps of the next of `answers`, and of the last one ever after."""

    is_streaming = True
    is_small = False
    model_name = "stepwise"

    def __init__(
        self,
        *answers: str | Sequence[Item],
        context_window: int = 4096,
        max_tokens: int = 16,
        count_tokens: Callable[[str], int] | None = None,
    ):
        self.answers = [[steps] if isinstance(steps, str) else list(steps) for steps in answers]
        self.context_window = context_window
        self.max_tokens = max_tokens
        self.count_tokens = count_tokens or count_words
        self.calls: list[Call] = []

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        call = Call(list(messages), max_tokens)
        steps = self.answers[min(len(self.calls), len(self.answers) - 1)]
        self.calls.append(call)
        try:
            yield ""
            for step in steps:
                if isinstance(step, str | Reasoning):
                    call.given.append(step)
                    yield step
                elif isinstance(step, Exception):
                    raise step
                elif isinstance(step, Completion):
                    call.ended = True
                    return step
                elif isinstance(step, threading.Event):
                    until = time.monotonic() + 10 * GUARD
                    while not step.wait(0.01):
                        assert time.monotonic() < until
                        yield ""
                else:
                    step()
            call.ended = True
            return Completion("stop")
        finally:
            call.closed = True


def count_words(text: str) -> int:
    return len(re.findall(r"\w+|[^\w\s]", text))


class Boom(Exception):  # noqa: N818
    """What a model of the tests raises."""


def passage_of(rank: int, words: int = 100) -> str:
    """A text of `words` words: the lower its rank, the nearer to the QUESTION."""
    near = ["walnut"] * (24 - 4 * rank)
    far = [f"n{rank}x{number}" for number in range(words - len(near))]
    return " ".join(near + far)


def documents(number: int, words: int = 100) -> list[Document]:
    """Documents of one passage each, in another order than that of their rank."""
    ranked = [
        Document(passage_of(rank, words), {"file_name": f"rank{rank}.txt", "rank": rank})
        for rank in range(number)
    ]
    return ranked[1:] + ranked[:1]


def indexed(texts: Iterable[Document | str]) -> VectorStoreIndex:
    made = [Document(text) if isinstance(text, str) else text for text in texts]
    return VectorStoreIndex.from_documents(made, embed_model=HashEmbedding())


def index_of(number: int, words: int = 100) -> VectorStoreIndex:
    index = indexed(documents(number, words))
    found = index.as_retriever(max(number, 1)).retrieve(QUESTION)
    assert [hit.text for hit in found] == [passage_of(rank, words) for rank in range(number)]
    return index


def engine_of(
    index: VectorStoreIndex, llm: Any, kind: str = "query", top_k: int = 10, **options: Any
) -> Any:
    if kind == "chat":
        return index.as_chat_engine(llm, top_k, **options)
    return index.as_query_engine(streaming=True, similarity_top_k=top_k, llm=llm, **options)


PLAIN = {
    "text_qa_template": "FIRST {query_str} FROM [{context_str}]",
    "refine_template": "BETTER <{existing_answer}> TO {query_str} BY [{context_msg}]",
    "summary_template": "SUM {query_str} OF [{context_str}]",
    "simple_template": "PLAIN {query_str}",
    "condense_template": "CONDENSE ({chat_history}) AND {question}",
}
"""Short templates that can be told from each other."""


def context_in(call: Call) -> str:
    """What a call by one of the PLAIN templates was given to read."""
    return call.prompt.partition("[")[2].rpartition("]")[0]


def fitting(passages: int) -> int:
    """A window for so many passages of 100 words, whatever else the PLAIN prompts hold."""
    return 100 * (passages + 1)


@dataclass
class Answered:
    """An answer that was read to its end."""

    pieces: list[str]
    response: Any = None
    error: Exception | None = None
    text: str = ""
    """What `str()` of the response says then."""


def answered(engine: Any, question: str = QUESTION, form: str = "sync") -> Answered:
    """Read the stream of an answer, piece by piece."""
    result = Answered([])

    def sync() -> None:
        start = engine.stream_chat if isinstance(engine, ChatEngine) else engine.query
        result.response = start(question)
        for piece in result.response.response_gen:
            result.pieces.append(piece)

    async def not_sync() -> None:
        start = engine.astream_chat if isinstance(engine, ChatEngine) else engine.aquery
        result.response = await start(question)
        async for piece in result.response.async_response_gen():
            result.pieces.append(piece)

    try:
        sync() if form == "sync" else asyncio.run(not_sync())
    except Exception as error:
        result.error = error
    if result.response is not None:
        result.text = str(result.response)
    return result


def started(engine: Any, question: str = QUESTION) -> Any:
    return (
        engine.stream_chat(question) if isinstance(engine, ChatEngine) else engine.query(question)
    )


async def astarted(engine: Any, question: str = QUESTION) -> Any:
    chat = isinstance(engine, ChatEngine)
    return await (engine.astream_chat(question) if chat else engine.aquery(question))


def wait_for(condition: Callable[[], object], seconds: float = GUARD) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return bool(condition())


async def await_for(condition: Callable[[], object], seconds: float = GUARD) -> bool:
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        await asyncio.sleep(0.01)
    return bool(condition())


def within(work: Callable[[], T], seconds: float = 2 * GUARD) -> T:
    """What `work` gives, in a thread of its own; a failure if it does not come."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return results[0]


def at_the_same_time(*works: Callable[[], T]) -> list[T]:
    """What each gives, all run at once."""
    results: dict[int, T] = {}
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            results[number] = works[number]()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(2 * GUARD)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(works))]


class Ticker:
    """Counts the turns of an event loop."""

    def __init__(self) -> None:
        self.ticks = 0

    def block(self) -> None:
        """Hold up this thread until the loop has gone on turning."""
        goal = self.ticks + 3
        assert wait_for(lambda: self.ticks >= goal, 10), "the event loop stands still"

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `work` with the ticker beside it."""

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.001)
                self.ticks += 1

        async def main() -> T:
            ticking = asyncio.create_task(tick())
            try:
                return await work()
            finally:
                ticking.cancel()

        return asyncio.run(main())


async def soon(awaitable: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaitable, 2 * GUARD)


class Recording:
    """A retriever that keeps what it was asked."""

    def __init__(self, retriever: Any):
        self.retriever = retriever
        self.asked: list[str] = []

    def retrieve(self, query: str) -> list[NodeWithScore]:
        self.asked.append(query)
        return self.retriever.retrieve(query)


# A model server's side


def event(text: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """One event of a stream, as OpenAI's servers send it."""
    body = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}],
        **fields,
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def sends(*events: bytes | threading.Event, then: str = "end") -> Callable[[Any], None]:
    """Send `events` and wait where there is something to wait for; then "end", "cut", "stall"."""

    def behave(request: Any) -> None:
        request.begin()
        for item in events:
            if isinstance(item, threading.Event):
                item.wait(GUARD)
            else:
                request.send(item)
        getattr(request, then)()

    return behave


def says(*pieces: str) -> Callable[[Any], None]:
    """A whole answer, sent as it should be."""
    return sends(*map(event, pieces), event(None, "stop"), DONE)


def until_gone(*events: bytes) -> Callable[[Any], None]:
    """Send `events`, then nothing more; the server's `gone` is set when the client has left,
    also if it leaves in the middle of them."""

    def behave(request: Any) -> None:
        try:
            if events:
                sends(*events, then="stall")(request)
            else:
                request.stall()
        except ConnectionError:
            request.server.gone.set()

    return behave
