"""What an engine tells while it answers. The page, the terminal and Python read the same events.

An answer is one `Sources`, one `Begun`, any number of texts (`str`), and one `Finished`, in this
order. A `Citation` comes after the text of its sentence, once that has been checked: maybe after
later texts, but before `Finished`. A `Status` can come at any time, `Reasoning` after `Begun`;
`Timings` and the `Usage` of the calls so far whenever more is known, so that an answer that is
stopped has them too.
"""

from collections.abc import Generator
from dataclasses import dataclass

from rag.types import Citation, FinishReason, NodeWithScore, Reasoning, Usage, counted

CONVERSATION = "Reading the conversation"
SEARCHING = "Searching"
READING = "Reading passages"
QUESTION = "Reading the question"
TOGETHER = "Putting answers together"
WAITING = "Waiting for answers before this one"
THINKING = "Thinking"
WRITING = "Writing"
STATUSES = (CONVERSATION, SEARCHING, READING, QUESTION, TOGETHER, WAITING, THINKING, WRITING)
"""All that a `Status` can say."""


@dataclass(frozen=True)
class Status:
    """What the engine is doing, for a person who waits: one of `STATUSES`.

    Where it has to do with passages or answers, `total` is how many they are, and `done` which of
    them it is at, from 1; 0 where that is not known, or it is at all of them together.
    """

    text: str
    done: int = 0
    total: int = 0

    def __str__(self) -> str:
        """In English, such as "Reading passages 3 of 5" and "Reading 4 passages"."""
        if self.done:
            return f"{self.text} {self.done} of {self.total}"
        if not self.total:
            return self.text
        text = self.text.replace("passages", counted(self.total, "passage"))
        return text.replace("answers", counted(self.total, "answer"))


@dataclass(frozen=True)
class SearchedFor:
    """The question as it is searched for: a follow-up, made to stand by itself."""

    question: str


@dataclass(frozen=True)
class Sources:
    """The passages that the model is given, the best first; `others` were found as well."""

    nodes: tuple[NodeWithScore, ...]
    others: tuple[NodeWithScore, ...] = ()


@dataclass(frozen=True)
class LeftOut:
    """What did not fit the model's window."""

    messages: int = 0
    """Earlier messages of the conversation, the oldest ones."""
    characters: int = 0
    """Characters of the passages, the last ones."""


@dataclass(frozen=True)
class Begun:
    """The model call whose text follows has started; all calls before it are finished."""


@dataclass(frozen=True)
class Timings:
    """Seconds since the question was asked, and the speed after the first token."""

    retrieval: float | None = None
    first_token: float | None = None
    tokens_per_second: float | None = None


@dataclass(frozen=True)
class Finished:
    """How the answer ended. `usage` is that of all model calls together."""

    finish_reason: FinishReason
    usage: Usage | None = None


ENDINGS: dict[FinishReason, str] = {
    "stopped": "stopped",
    "length": "cut short: it was too long, or repeated itself",
    "truncated": "cut off: the connection or the program ended",
}
"""The endings that a person is told of."""

Event = (
    Status
    | SearchedFor
    | Sources
    | LeftOut
    | Begun
    | Reasoning
    | Citation
    | Timings
    | Usage
    | str
    | Finished
)
Events = Generator[Event, None, None]
"""Closing it ends the model's work within about one token. Texts may be empty: they come
while the model is silent, so that the reader can stop there too."""
