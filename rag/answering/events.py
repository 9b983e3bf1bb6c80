"""What an engine tells while it answers. The page, the terminal and Python read the same events.

An answer is one `Sources`, any number of texts (`str`), and one `Finished`, in this order;
a `Status` can come at any time before the first text, and `Timings` whenever one more is known,
so that an answer that is stopped has them too.
"""

from collections.abc import Generator
from dataclasses import dataclass

from rag.types import FinishReason, NodeWithScore, Usage


@dataclass(frozen=True)
class Status:
    """What the engine is doing, for a person who waits."""

    text: str


@dataclass(frozen=True)
class Sources:
    """The passages that the model is given, the best first; `others` were found as well."""

    nodes: tuple[NodeWithScore, ...]
    others: tuple[NodeWithScore, ...] = ()


@dataclass(frozen=True)
class Timings:
    """Seconds since the question was asked, and the speed after the first token."""

    retrieval: float | None = None
    first_token: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Finished:
    """How the answer ended."""

    finish_reason: FinishReason
    usage: Usage | None = None


Event = Status | Sources | Timings | str | Finished
Events = Generator[Event, None, None]
"""Closing it ends the model's work within about one token. Texts may be empty: they come
while the model is silent, so that the reader can stop there too."""
