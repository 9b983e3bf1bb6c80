"""What `query` and `chat` return: an answer that is whole, or one that is still being written.

A `StreamingResponse` reads the engine's events up to the start of the model call whose text is
the answer; whoever iterates it reads the rest. Names are those of LlamaIndex.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any, Self, TypeVar

from rag.answering.events import (
    Begun,
    Event,
    Events,
    Finished,
    LeftOut,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.types import Citation, FinishReason, NodeWithScore, Reasoning, Usage

T = TypeVar("T")

NOT_FOUND = "not found in your documents"


@dataclass
class Response:
    """An answer as far as it is known; `str()` of it is its text."""

    response: str = ""
    source_nodes: list[NodeWithScore] = field(default_factory=list)
    """The passages that the model was given, the best first."""
    other_nodes: list[NodeWithScore] = field(default_factory=list)
    """Passages that were found as well, and not given to the model."""
    finish_reason: FinishReason | None = None
    """None while the answer is being written."""
    usage: Usage | None = None
    """Tokens of all model calls that are finished; None where the model does not tell."""
    timings: Timings = Timings()
    searched_for: str = ""
    """The question that was searched for, where it is another than the one that was asked."""
    reasoning: str = ""
    """What the model wrote for itself before it answered."""
    left_out: LeftOut = LeftOut()
    """What did not fit the model's window."""
    citations: list[Citation] = field(default_factory=list)
    """What bears out its sentences, in their order: of those that claim something, and have been
    checked."""
    status: str = ""
    """What was being done last."""

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        """The metadata of each source, by the identity of its passage."""
        return {hit.node.id_: dict(hit.metadata) for hit in self.source_nodes}

    def __str__(self) -> str:
        return self.response

    def get_formatted_sources(self, length: int = 100) -> str:
        """Each source's place, its score where it has one, and the first `length` characters of
        its text."""
        return formatted(self.source_nodes, length)

    def get_formatted_citations(self, length: int = 100) -> str:
        """The first `length` characters of each sentence that was checked, and what bears it out:
        the number and the place of the passage, and the score."""
        numbers = numbered(self.citations)
        return "\n".join(
            _formatted_citation(self.response, each, numbers, length) for each in self.citations
        )

    def take(self, event: Event) -> None:
        """Note what `event` tells."""
        match event:
            case str(text):
                self.response += text
            case Reasoning(text):
                self.reasoning += text
            case Status(text):
                self.status = text
            case SearchedFor(question):
                self.searched_for = question
            case Sources(nodes, others):
                self.source_nodes, self.other_nodes = list(nodes), list(others)
            case LeftOut(messages, characters):
                known = self.left_out
                self.left_out = LeftOut(known.messages + messages, known.characters + characters)
            case Timings():
                self.timings = event
            case Citation():
                self.citations.append(event)
            case Usage():
                self.usage = event
            case Finished(reason, usage):
                self.finish_reason, self.usage = reason, usage
            case Begun():
                pass

    @classmethod
    def of(cls, events: Events) -> "Response":
        """The whole answer. Raises what the events raise."""
        response = cls()
        for event in events:
            response.take(event)
        return response


def formatted(nodes: Iterable[NodeWithScore], length: int = 100) -> str:
    """The place of each, its score where it has one, and the first `length` characters."""
    return "\n\n".join(
        f"> Source ({_place_and_score(hit)}): {shorten_text(hit.text, length)}" for hit in nodes
    )


def numbered(citations: Iterable[Citation]) -> dict[str, int]:
    """The passages that are cited, by their identity, numbered from 1 as they come in an answer."""
    cited = dict.fromkeys(each.node.id_ for each in citations if each.node)
    return {id_: number for number, id_ in enumerate(cited, 1)}


def _formatted_citation(
    answer: str, citation: Citation, numbers: Mapping[str, int], length: int
) -> str:
    sentence = shorten_text(answer[citation.start : citation.end], length)
    if not citation.node:
        return f'> [-] "{sentence}" {NOT_FOUND}'
    mark = f'> [{numbers[citation.node.id_]}] "{sentence}"'
    place = f"{citation.node.label}, {citation.score:.2f}"
    if citation.support == "partly":
        lacking = ", ".join(citation.missing)
        verb = "is" if len(citation.missing) == 1 else "are"
        return f"{mark} partly: {lacking} {verb} not in it ({place})"
    return f"{mark} {place}"


def _place_and_score(hit: NodeWithScore) -> str:
    return hit.node.label if hit.score is None else f"{hit.node.label}, {hit.score:.2f}"


def shorten_text(text: str, length: int) -> str:
    """The start of `text` in at most `length` characters, on one line, cut between two words
    where there are any: some languages have none."""
    line = " ".join(text.split())
    if len(line) <= length:
        return line
    start = line[: max(length - 1, 0)]
    words = start.rpartition(" ")[0]
    start = words if len(words) > length // 2 else start[:-1]
    return f"{start} …".strip()[:length]


class _Growing:
    """What the two streaming responses have in common: the answer so far."""

    def __init__(self, events: Events, *, beats: bool = False):
        self._answer = Response()
        self._events = events
        self._texts = _texts(events, self._answer, beats)
        next(self._texts)  # closing a generator that has not begun would end nothing

    @property
    def source_nodes(self) -> list[NodeWithScore]:
        return self._answer.source_nodes

    @property
    def metadata(self) -> dict[str, dict[str, Any]]:
        return self._answer.metadata

    @property
    def finish_reason(self) -> FinishReason | None:
        if self._answer.finish_reason is None and getgeneratorstate(self._events) == GEN_CLOSED:
            return "stopped"  # by a chat engine, for another message
        return self._answer.finish_reason

    @property
    def usage(self) -> Usage | None:
        return self._answer.usage

    @property
    def timings(self) -> Timings:
        return self._answer.timings

    @property
    def searched_for(self) -> str:
        return self._answer.searched_for

    @property
    def reasoning(self) -> str:
        return self._answer.reasoning

    @property
    def left_out(self) -> LeftOut:
        return self._answer.left_out

    @property
    def citations(self) -> list[Citation]:
        return self._answer.citations

    def get_formatted_sources(self, length: int = 100) -> str:
        return self._answer.get_formatted_sources(length)

    def get_formatted_citations(self, length: int = 100) -> str:
        return self._answer.get_formatted_citations(length)

    def _close(self) -> None:
        self._answer.finish_reason = self._answer.finish_reason or "stopped"
        with suppress(ValueError):  # another thread reads at this moment: it sees the reason
            self._texts.close()


def _texts(events: Events, answer: Response, beats: bool) -> Generator[str, None, None]:
    """The text in `events` as it comes; `answer` is kept true. With `beats` empty texts come as
    well, while the model is silent: a reader who cannot interrupt this can stop there.

    Refers to no response, so that one which is dropped ends its model's work at once, without
    waiting for the garbage collector.
    """
    try:
        yield ""
        for event in events:
            if answer.finish_reason:  # closed by another thread
                break
            answer.take(event)
            if isinstance(event, str) and (event or beats):
                yield event
    except Exception:
        answer.finish_reason = "error"
        raise
    finally:
        events.close()
        answer.finish_reason = answer.finish_reason or "stopped"


class StreamingResponse(_Growing):
    """An answer that is being written.

    `response_gen` yields its text as it comes, and raises what the model raises; closing it, or
    `close()`, stops the model within about one token. What has come is kept. `source_nodes` and
    `metadata` are there from the beginning; `finish_reason`, `usage` and `timings` once the
    stream has ended.
    """

    @classmethod
    def begin(cls, events: Events) -> Self:
        """Read `events` until the model call has begun. Raises what they raise until then."""
        response = cls(events)
        try:
            for event in events:
                if isinstance(event, Begun):
                    break
                response._answer.take(event)
        except BaseException:
            events.close()
            raise
        return response

    @property
    def response_gen(self) -> Generator[str, None, None]:
        """The one generator of this response's text: it can be read once."""
        return self._texts

    def get_response(self) -> Response:
        """The whole answer; reads what is left of it. Raises what the model raises."""
        for _ in self._texts:
            pass
        return self._answer

    def __str__(self) -> str:
        return str(self.get_response())

    def print_response_stream(self) -> None:
        """Print the text as it comes; what had come before first."""
        print(self._answer, end="", flush=True)
        for text in self._texts:
            print(text, end="", flush=True)

    def close(self) -> None:
        """Stop the model; what has come is kept, and marked as stopped. Any thread may do it."""
        self._close()


class AsyncStreamingResponse(_Growing):
    """A `StreamingResponse` for an event loop, which goes on while the model works.

    The same generator is read step by step in a thread of its own, which ends with the response.
    """

    def __init__(self, events: Events):
        super().__init__(events, beats=True)
        self._executor: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "response")

    @classmethod
    async def begin(cls, events: Events) -> Self:
        """Read `events` until the model call has begun. Raises what they raise until then."""
        response = cls(events)
        try:
            while not isinstance(event := await response._run(next, events, Begun()), Begun):
                response._answer.take(event)
        except BaseException:
            await response.close()
            raise
        return response

    async def async_response_gen(self) -> AsyncGenerator[str, None]:
        """The text as it comes: it can be read once. Closing it early stops the model."""
        try:
            while self._answer.finish_reason is None:
                if text := await self._run(next, self._texts, None):
                    yield text
        finally:
            await self.close()

    async def get_response(self) -> Response:
        """The whole answer; reads what is left of it. Raises what the model raises."""
        async for _ in self.async_response_gen():
            pass
        return self._answer

    def __str__(self) -> str:
        """The text that has come so far."""
        return str(self._answer)

    async def print_response_stream(self) -> None:
        """Print the text as it comes; what had come before first."""
        print(self._answer, end="", flush=True)
        async for text in self.async_response_gen():
            print(text, end="", flush=True)

    async def close(self) -> None:
        """Stop the model; what has come is kept, and marked as stopped."""
        if self._executor:
            await self._run(self._close)
        if self._executor:  # another task may have come first
            self._executor.shutdown(wait=False)
            self._executor = None

    async def _run(self, function: Callable[..., T], *arguments: Any) -> T:
        assert self._executor
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, function, *arguments
        )


def respond(events: Events, streaming: bool) -> Response | StreamingResponse:
    """The answer that `events` tell: whole, or (where `streaming`) as it is written."""
    return StreamingResponse.begin(events) if streaming else Response.of(events)


async def arespond(events: Events, streaming: bool) -> Response | AsyncStreamingResponse:
    """`respond` without holding up the event loop. Cancelling it stops the model."""
    response = await AsyncStreamingResponse.begin(events)
    return response if streaming else await response.get_response()
