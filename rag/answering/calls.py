"""One call of a model as events, and what all calls of an answer cost together."""

import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from rag.answering import prompts
from rag.answering.budget import JOINT, left_beside
from rag.answering.events import READING, THINKING, WAITING, WRITING, Begun, Event, Status, Timings
from rag.errors import ContextWindowError
from rag.llms.filters import ReasoningTags
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Completion, FinishReason, Prefill, Queued, Reasoning, Usage


@dataclass(frozen=True)
class Part:
    """What one call reads: `context`, in which passages end at `ends`, the first of them the one
    with the number `first`, from 1, of `total`. `doing` is what is done with them."""

    context: str
    ends: Sequence[int]
    first: int
    total: int
    alone: bool
    """Whether no other call reads anything."""
    doing: str = READING

    @property
    def status(self) -> Status:
        return Status(self.doing, 0 if self.alone else self.first, self.total)

    def reached(self, messages: Sequence[ChatMessage], llm: LLM) -> Callable[[Prefill], Status]:
        """At which passage a model is that has read so much of `messages`."""
        prompt = JOINT.join(message.content for message in messages)
        begin = max(prompt.rfind(self.context), 0)
        places = [0, *(begin + end for end in self.ends), len(prompt)]
        lengths = [llm.count_tokens(prompt[one:other]) for one, other in pairwise(places)]
        shares = [length / max(sum(lengths), 1) for length in accumulate(lengths)]

        def status(read: Prefill) -> Status:
            place = bisect_right(shares, read.done / read.total)
            return Status(self.doing, self.first + min(place, len(self.ends) - 1), self.total)

        return status


class Calls:
    """The calls of `llm` for one answer, each limited to `limit` tokens (None: the model's own).

    Reasoning is taken apart from the text. No call is made whose prompt does not fit the
    model's window: ContextWindowError. `usage` is that of all calls, None while none told it;
    `finish_reason` is how the text that was written ended, `ended` how the last call did.
    """

    def __init__(
        self,
        llm: LLM,
        limit: int | None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ):
        self.llm = llm
        self.options: Any = {"max_tokens": limit, "temperature": temperature, "stop": stop}
        self.max_tokens = llm.max_tokens if limit is None else limit
        self.usage: Usage | None = None
        self.finish_reason: FinishReason = "stop"
        self.ended: FinishReason = "stop"
        self._asked = time.monotonic()
        self._begun = False
        self._first_token: float | None = None

    def collect(
        self, messages: Sequence[ChatMessage], part: Part | None = None
    ) -> Generator[Event, None, str]:
        """A call that does not stream, which reads `part`: its whole text."""
        text = ""
        calls = self._call(messages, part)
        with closing(calls):
            while True:
                try:
                    piece = next(calls)
                except StopIteration as end:
                    self._ended(end.value, last=False)
                    break
                if isinstance(piece, str):
                    text += piece
                # The reader can stop here.
                yield piece if isinstance(piece, Status) else ""
        if self.usage:
            yield self.usage
        return text

    def write(
        self, messages: Sequence[ChatMessage], part: Part | None = None, otherwise: str = ""
    ) -> Generator[Event, None, None]:
        """A call that streams, which reads `part`; `otherwise` is the text where the model writes
        none."""
        began = 0.0
        pieces = 0
        blank = ""
        spoken = reasoned = False
        calls = self._call(messages, part)
        with closing(calls):
            while True:
                try:
                    piece = next(calls)
                except StopIteration as end:
                    completion: Completion = end.value
                    break
                except Exception:
                    if not spoken:  # what came before an error is not lost
                        yield blank
                    raise
                if not self._begun:
                    self._begun = True
                    yield Begun()
                if isinstance(piece, Status):
                    yield piece
                    continue
                if piece and not began:
                    began = time.monotonic()
                pieces += bool(piece)
                if isinstance(piece, Reasoning):
                    if not reasoned:
                        yield Status(THINKING)
                    reasoned = True
                    yield piece
                elif spoken:
                    yield piece
                elif not piece.strip():  # kept back: it may be all there is
                    blank += piece
                    yield ""
                else:
                    spoken = True
                    self._first_token = self._first_token or time.monotonic() - self._asked
                    yield Status(WRITING)
                    yield Timings(first_token=self._first_token)
                    yield blank + piece
        self._ended(completion, last=True)
        tokens = completion.usage.completion_tokens if completion.usage else pieces
        if not spoken:
            cut = reasoned and completion.finish_reason == "length"
            yield otherwise or (prompts.ONLY_REASONING if cut else prompts.NO_TEXT)
        elif tokens > 1:
            speed = (tokens - 1) / max(time.monotonic() - began, 1e-6)
            yield Timings(first_token=self._first_token, tokens_per_second=speed)

    def _call(
        self, messages: Sequence[ChatMessage], part: Part | None
    ) -> Generator[str | Reasoning | Status, None, Completion]:
        """A model's stream with its reasoning taken apart from its text, and what it has read of
        its prompt as what it has read of `part`."""
        if left_beside(self.llm, messages, self.max_tokens) < 0:
            raise ContextWindowError(
                f"The question is too long for {self.llm.model_name}, which reads and writes "
                f"{self.llm.context_window} tokens, {self.max_tokens} of them kept for the "
                f"answer. Shorten it, or choose a model with a larger window."
            )
        tags = ReasoningTags()
        reached: Callable[[Prefill], Status] | None = None
        with closing(self.llm.stream(messages, **self.options)) as stream:
            while True:
                try:
                    piece = next(stream)
                except StopIteration as end:
                    yield from tags.flush()
                    # A model of somebody's own may just yield its text.
                    return end.value or Completion("stop")
                except Exception:
                    yield from tags.flush()  # what came before an error is not lost
                    raise
                if isinstance(piece, Reasoning):
                    yield piece
                elif isinstance(piece, Queued):
                    if piece.ahead:
                        yield Status(WAITING, 0, piece.ahead)
                    elif part:
                        yield part.status
                elif isinstance(piece, Prefill):
                    if part:
                        reached = reached or part.reached(messages, self.llm)
                        yield reached(piece)
                else:
                    yield from tags.feed(piece) or ("",)

    def _ended(self, completion: Completion, *, last: bool) -> None:
        self.usage = both(self.usage, completion.usage)
        self.ended = completion.finish_reason
        # That a step in between came to its length limit is nothing to the reader; that one was
        # cut off outweighs everything after it.
        ended = completion.finish_reason
        if ended == "truncated" or (last and ended != "stop" and self.finish_reason == "stop"):
            self.finish_reason = ended


def both(first: Usage | None, second: Usage | None) -> Usage | None:
    """The sum of what is known."""
    if not (first and second):
        return first or second
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
    )
