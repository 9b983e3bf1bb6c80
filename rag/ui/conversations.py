"""Conversations: questions with their answers, as they are kept and exported.

Knows nothing of gradio.
"""

import secrets
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from rag.answering.events import Timings
from rag.types import Citation, FinishReason, NodeWithScore, Usage

Scope = Literal["all", "mine", "samples", "chosen", "none"]
"""What is searched: everything, one's own documents, the samples, chosen documents, nothing."""


def _key() -> str:
    return secrets.token_hex(6)


@dataclass
class Answer:
    """An answer, as far as it has come."""

    model: str = ""
    text: str = ""
    sources: tuple[NodeWithScore, ...] = ()
    others: tuple[NodeWithScore, ...] = ()
    """Passages that were found as well, but not given to the model."""
    citations: tuple[Citation, ...] = ()
    reasoning: str = ""
    """What the model wrote for itself before it answered."""
    searched_for: str = ""
    """The question that was searched for, where it is another."""
    finish_reason: FinishReason | None = None
    """None while the answer is being written."""
    error: str = ""
    usage: Usage | None = None
    timings: Timings = Timings()
    suggestions: tuple[str, ...] = ()
    """Further questions that the documents can answer."""
    rating: int = 0
    """1 or -1 where the reader liked it or did not."""
    key: str = field(default_factory=_key)


@dataclass
class Turn:
    """A question with its answer; with several where it was asked of several models."""

    question: str
    answers: list[Answer] = field(default_factory=list)
    scope: Scope = "all"
    documents: tuple[str, ...] = ()
    """The documents that were chosen to be searched, by their identities."""
    key: str = field(default_factory=_key)


@dataclass(eq=False)
class Conversation:
    """Turns under a name. `lock` is held by the one answer that may be written at a time."""

    title: str = ""
    """Given by the reader; empty: named after the first question."""
    turns: list[Turn] = field(default_factory=list)
    changed: float = field(default_factory=time.time)
    """When it was last added to, in seconds since 1970."""
    key: str = field(default_factory=_key)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def name(self) -> str:
        """What it is called in the list."""
        return self.title or (self.turns[0].question if self.turns else "")
