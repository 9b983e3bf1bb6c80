"""Models that say given pieces, retrievers that find given passages, and what reads events."""

from collections.abc import Iterable, Sequence
from typing import Any

from rag.answering.events import Event, Status
from rag.llms.protocol import TextStream
from rag.types import ChatMessage, Completion, Node, NodeWithScore, Prefill, Queued, Reasoning

GUARD = 20
"""Seconds after which a test that hangs is given up."""

MANY = 500
"""Calls of a model that no answer needs."""

Piece = str | Reasoning | Queued | Prefill | Exception | Completion


class Says:
    """A model that writes given pieces as they are: one list of them for each call.

    An exception among them is raised, a Completion is how the call ends; the last list is said
    again. `calls` keeps the messages of every call, `limits` their limits and `temperatures`;
    `open` counts the streams that run, `steps` the pieces that were written.
    """

    is_streaming = True

    def __init__(
        self,
        *replies: Sequence[Piece],
        context_window: int = 8192,
        max_tokens: int = 20,
        small: bool = False,
    ):
        self.replies = list(replies) or [["An", " answer."]]
        self.model_name = "says"
        self.context_window = context_window
        self.max_tokens = max_tokens
        self.is_small = small
        self.calls: list[list[ChatMessage]] = []
        self.limits: list[int | None] = []
        self.temperatures: list[float | None] = []
        self.open = self.steps = 0

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        self.calls.append(list(messages))
        assert len(self.calls) < MANY, "it goes on for ever"
        self.limits.append(max_tokens)
        self.temperatures.append(temperature)
        reply = self.replies[min(len(self.calls), len(self.replies)) - 1]
        self.open += 1
        try:
            yield ""
            for piece in reply:
                if isinstance(piece, Exception):
                    raise piece
                if isinstance(piece, Completion):
                    return piece
                self.steps += 1
                yield piece
            return Completion("stop")
        finally:
            self.open -= 1

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    @property
    def prompts(self) -> list[str]:
        """The last message of every call."""
        return [messages[-1].content for messages in self.calls]


class Finds:
    """A retriever that finds the same passages always; `asked` keeps the questions."""

    def __init__(self, *found: NodeWithScore | str):
        self.found = hits(*(one for one in found if isinstance(one, str)))
        self.found += [one for one in found if isinstance(one, NodeWithScore)]
        self.asked: list[str] = []

    def retrieve(self, query: str) -> list[NodeWithScore]:
        self.asked.append(query)
        return list(self.found)


def hit(text: str, *, score: float = 0.5, **fields: Any) -> NodeWithScore:
    place = {"document_id": "d", "ordinal": 0, "start": 0, "file_name": "a.md"}
    return NodeWithScore(Node(text, **{**place, **fields}), score)


def hits(*texts: str) -> list[NodeWithScore]:
    """Passages of one document in the order of their rank, with others between them."""
    return [
        hit(text, ordinal=2 * n, start=1000 * n, score=1 - n / 10) for n, text in enumerate(texts)
    ]


def dialogue(*texts: str) -> list[ChatMessage]:
    """What user and assistant said in turn."""
    return [
        ChatMessage("assistant" if n % 2 else "user", text, "stop" if n % 2 else None)
        for n, text in enumerate(texts)
    ]


def text_of(events: Iterable[Event]) -> str:
    return "".join(event for event in events if isinstance(event, str))


def of(kind: type, events: Iterable[Event]) -> list[Any]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def statuses(events: Iterable[Event]) -> list[str]:
    return [str(event) for event in of(Status, events)]
