"""Conversations: questions with their answers, and how they are written to a file.

A file is one JSON object whose first line holds what a list of conversations shows, so that a
list is there without reading the rest. Each passage stands in it once, however many answers
rest on it. Knows nothing of gradio.
"""

import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from itertools import chain
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from rag.answering.events import ENDINGS, Timings
from rag.answering.options import AnswerOptions
from rag.answering.prompts import NOTHING_FOUND, NOTHING_LEFT
from rag.errors import ConfigurationError
from rag.llms.catalog import label
from rag.types import Citation, FinishReason, Node, NodeWithScore, Usage, counted, well_formed
from rag.ui.language import Say, english

LONGEST_NAME = 80
"""Characters of a conversation's name."""

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

    def number_of(self, node: Node) -> int | None:
        """The number, from 1, of the passage that is `node` or holds it: first those that were
        given to the model, then the others."""
        nodes = [hit.node for hit in (*self.sources, *self.others)]
        same = (number for number, each in enumerate(nodes, 1) if each == node)
        around = (number for number, each in enumerate(nodes, 1) if each.holds(node))
        return next(chain(same, around), None)

    def facts(self, say: Say = english) -> list[str]:
        """Of the quiet line under it: model, first token, speed, passages, how it ended."""
        if self.text in (NOTHING_FOUND, NOTHING_LEFT):
            facts = [say("no model was asked")]
        else:
            facts = [label(self.model)] if self.model else []
        if (seconds := self.timings.first_token) is not None:
            facts.append(say("first token {seconds} s", seconds=round(seconds, 1)))
        if (speed := self.timings.tokens_per_second) is not None:
            facts.append(say("{number} tokens/s", number=round(speed)))
        if len(self.sources) == 1:
            facts.append(say("1 passage"))
        elif self.sources:
            facts.append(say("{number} passages", number=len(self.sources)))
        if self.finish_reason in ENDINGS:
            facts.append(say(ENDINGS[self.finish_reason]))
        return facts


@dataclass
class Turn:
    """A question with its answer; with several where it was asked of several models."""

    question: str
    answers: list[Answer] = field(default_factory=list)
    scope: Scope = "all"
    documents: tuple[str, ...] = ()
    """The documents that were chosen to be searched, by their identities."""
    options: AnswerOptions = AnswerOptions()
    key: str = field(default_factory=_key)


@dataclass(frozen=True)
class Entry:
    """A conversation as a list of them shows it."""

    key: str
    name: str
    changed: float
    """Seconds since 1970."""


@dataclass(eq=False)
class Conversation:
    """Turns under a name. `lock` is held by the one answer that may be written at a time."""

    title: str = ""
    """Given by the reader; empty: named after the first question."""
    turns: list[Turn] = field(default_factory=list)
    changed: float = field(default_factory=time.time)
    """When it was last kept, in seconds since 1970; a new title does not count."""
    key: str = field(default_factory=_key)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    deleted: bool = False
    """Whatever still goes on in it must leave nothing on the disk."""
    ended: str = ""
    """The key of the answer that was ended last."""

    @property
    def name(self) -> str:
        """What it is called: one line of at most `LONGEST_NAME` characters."""
        return self.title or (as_name(self.turns[0].question) if self.turns else "")

    @property
    def entry(self) -> Entry:
        return Entry(self.key, self.name, self.changed)


def as_name(text: str) -> str:
    """`text` as the name of a conversation: on one line, without what cannot be seen."""
    line = " ".join(_UNSEEN.sub(" ", well_formed(text)).split())
    return line if len(line) <= LONGEST_NAME else f"{line[: LONGEST_NAME - 1].rstrip()}…"


_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of what stands around them."""


def encode(conversation: Conversation) -> str:
    """What is written to a conversation's file."""
    nodes: dict[Node, int] = {}
    head = {
        "name": conversation.name,
        "title": conversation.title,
        "changed": conversation.changed,
    }
    turns = _plain(conversation.turns, nodes)
    passages = [_fields(node, nodes) for node in nodes]
    # The first line lacks its bracket and has a comma instead.
    return f"{_json(head)[:-1]},\n" + _json({"passages": passages, "turns": turns})[1:]


def decode_head(key: str, line: str) -> Entry:
    """The first line of a file. Raises ValueError where it is damaged."""
    with suppress(RecursionError):
        match json.loads(f"{line.rstrip().removesuffix(',')}}}"):
            case {"name": str(name), "changed": int(changed) | float(changed)}:
                return Entry(key, name, changed)
    raise ValueError("its first line is not that of a conversation")


def decode(key: str, text: str) -> Conversation:
    """The conversation in a file; an answer that was not ended in it is truncated. Raises
    ValueError where it is damaged."""
    try:
        kept = json.loads(text)
        nodes = _nodes().validate_python(kept["passages"])
        for turn in kept["turns"]:
            for answer in turn["answers"]:
                for part in (*answer["sources"], *answer["others"], *answer["citations"]):
                    if part["node"] is not None:
                        part["node"] = nodes[part["node"]]
        turns = _turns().validate_python(kept["turns"])
        title, changed = kept["title"], float(kept["changed"])
        if not isinstance(title, str):
            raise TypeError("its title is no text")
    except ValidationError as error:  # its own text quotes the conversation
        raise ValueError(f"{counted(error.error_count(), 'value')} in it cannot be") from None
    except (
        *(KeyError, IndexError, TypeError, AttributeError, RecursionError),
        ConfigurationError,  # options that cannot be set
    ) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error
    for each in turns:
        for answer in each.answers:
            answer.finish_reason = answer.finish_reason or "truncated"
    return Conversation(title, turns, changed, key)


def _plain(value: Any, nodes: dict[Node, int]) -> Any:
    """`value` as JSON knows it, with each passage as its number in `nodes`, which grow."""
    if value is None or isinstance(value, str | int | float):  # most are
        return value
    if isinstance(value, Node):
        return nodes.setdefault(value, len(nodes))
    if is_dataclass(value):
        return _fields(value, nodes)
    if isinstance(value, list | tuple):
        return [_plain(each, nodes) for each in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(each, nodes) for key, each in value.items()}
    return value


def _fields(value: Any, nodes: dict[Node, int]) -> dict[str, Any]:
    return {name: _plain(getattr(value, name), nodes) for name in _names(value.__class__)}


@cache
def _names(kind: type[Any]) -> list[str]:
    """Of the fields of a dataclass: to ask for them takes as long as to write them."""
    return [each.name for each in fields(kind)]


def _json(value: Any) -> str:
    return well_formed(json.dumps(value, ensure_ascii=False, default=str))


@cache
def _nodes() -> TypeAdapter[list[Node]]:
    return TypeAdapter(list[Node])


@cache
def _turns() -> TypeAdapter[list[Turn]]:
    return TypeAdapter(list[Turn])
