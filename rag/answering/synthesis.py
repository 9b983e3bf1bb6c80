"""Question and passages -> answer: LlamaIndex's response modes, each a generator of events.

All model calls of an answer but the last are finished before its text begins; the last one
streams. In the two accumulating modes each call does, one after another. Knows nothing of
retrieval.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from rag.answering.budget import JOINT, Passages, left_beside, newest
from rag.answering.calls import Calls, Part
from rag.answering.events import (
    CONVERSATION,
    QUESTION,
    READING,
    TOGETHER,
    Begun,
    Event,
    Events,
    Finished,
    LeftOut,
    Sources,
    Status,
)
from rag.answering.postprocessing import merge_neighbours
from rag.answering.prompts import NO_TEXT, NOTHING_FOUND, Prompts, passage
from rag.answering.response import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
    arespond,
    respond,
)
from rag.config import ResponseMode
from rag.errors import ConfigurationError, ContextWindowError
from rag.llms.protocol import LLM
from rag.types import ChatMessage, NodeWithScore

SEPARATOR = "\n---------------------\n"
"""Between the answers of the accumulating modes, as in LlamaIndex."""


@dataclass(frozen=True)
class ResponseSynthesizer:
    """Makes an answer of a question and passages, by `llm`.

    - `compact`: as many passages in a call as fit; what does not fit betters the answer in
      further calls. `refine`: the same with a call for each passage.
    - `tree_summarize`: an answer from each windowful, then one from these answers, and so on.
    - `simple_summarize`: one call, with as much as fits.
    - `accumulate`: an answer from each passage, one below the other; `compact_accumulate`: from
      each windowful.
    - `generation`: the question alone. `no_text`: no answer, the passages alone.
      `context_only`: their text as the answer. The last two call no model.

    `max_tokens` limits each call's text, `temperature` is how freely it is written (0: always the
    likeliest word), and it ends before any text of `stop`; as the model has it where not given.
    Raises ConfigurationError when there is no such mode, or a number is too small.
    """

    llm: LLM
    response_mode: ResponseMode = "compact"
    streaming: bool = False
    prompts: Prompts = Prompts()
    max_tokens: int | None = None
    temperature: float | None = None
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ConfigurationError(f"max_tokens is {self.max_tokens}; it has to be 1 or more.")
        if self.temperature is not None and self.temperature < 0:
            raise ConfigurationError(f"temperature is {self.temperature}; it has to be 0 or more.")
        if self.response_mode not in get_args(ResponseMode):
            raise ConfigurationError(
                f"There is no response mode {self.response_mode!r}. "
                f"Possible are {', '.join(get_args(ResponseMode))}."
            )

    def synthesize(
        self, query: str, nodes: Sequence[NodeWithScore]
    ) -> Response | StreamingResponse:
        """The answer to `query` from `nodes`, the best first: a stream where that is set."""
        return respond(self.events(query, nodes), self.streaming)

    async def asynthesize(
        self, query: str, nodes: Sequence[NodeWithScore]
    ) -> Response | AsyncStreamingResponse:
        """`synthesize` without holding up the event loop."""
        return await arespond(self.events(query, nodes), self.streaming)

    @property
    def answers_without_passages(self) -> bool:
        return self.response_mode == "generation"

    @property
    def writes_from_passages(self) -> bool:
        """Whether a model writes the answer, and from passages."""
        return self.response_mode not in ("generation", "no_text", "context_only")

    def events(
        self,
        query: str,
        nodes: Sequence[NodeWithScore],
        history: Sequence[ChatMessage] = (),
        *,
        standalone: str = "",
        nothing: str = NOTHING_FOUND,
    ) -> Events:
        """The answer to `query` from `nodes`, the best first, as events from `Sources` on.

        As much of `history` goes before it as fits beside the passages; where none does, the
        question is put as `standalone`. Without nodes the answer is `nothing`, and no model is
        called. Raises what the model raises, and ContextWindowError; text that came before an
        error has been yielded.
        """
        nodes = tuple(merge_neighbours([hit for hit in nodes if hit.text.strip()]))
        if not nodes and not self.answers_without_passages:
            yield Sources(())
            yield Begun()
            if self.response_mode not in ("no_text", "context_only"):
                yield nothing
            yield Finished("stop")
            return
        work = _Work(self, query, nodes, history, standalone or query)
        yield from _MODES[self.response_mode](work)
        yield Finished(work.calls.finish_reason, work.calls.usage)


class _Work:
    """One answer in the making: its passages, its model calls, what they cost."""

    def __init__(
        self,
        synthesizer: ResponseSynthesizer,
        query: str,
        nodes: tuple[NodeWithScore, ...],
        history: Sequence[ChatMessage],
        standalone: str,
    ):
        self.llm = synthesizer.llm
        self.prompts = synthesizer.prompts
        self.calls = Calls(
            self.llm, synthesizer.max_tokens, synthesizer.temperature, synthesizer.stop
        )
        self.query, self.standalone = query, standalone
        self.nodes, self.history = nodes, history
        self.passages = Passages(map(passage, nodes))

    def render(
        self, template: str, place: str, **values: str
    ) -> Callable[[str], list[ChatMessage]]:
        """The messages of `template` as a function of the context, which goes to `place`."""
        return lambda context: self.prompts.messages(
            template, {"query_str": self.standalone, **values, place: context}
        )

    def take(
        self,
        render: Callable[[str], list[ChatMessage]],
        *,
        pack: bool = True,
        doing: str = READING,
    ) -> Part:
        """What the next call reads."""
        passages, before = self.passages, self.passages.number
        context = passages.take(self.llm, render, self.calls.max_tokens, pack=pack)
        ends = passages.ends
        first = passages.number - len(ends) + 1
        alone = not before and not passages
        return Part(context, ends, first, passages.total, alone, doing)

    def in_conversation(
        self, template: str, place: str, context: str
    ) -> Generator[Event, None, list[ChatMessage]]:
        """The messages of the only call of an answer, with the conversation before them."""
        values = {"query_str": self.query, place: context} if place else {"query_str": self.query}
        messages = self.prompts.messages(template, values)
        room = left_beside(self.llm, messages, self.calls.max_tokens)
        kept = [] if self.llm.is_small else newest(self.history, self.llm, room)
        if not kept:
            messages = self.prompts.messages(template, {**values, "query_str": self.standalone})
        if not self.llm.is_small and len(kept) < len(self.history):
            yield LeftOut(messages=len(self.history) - len(kept))
        system = [message for message in messages[:1] if message.role == "system"]
        return [*system, *kept, *messages[len(system) :]]

    def without_conversation(self) -> Iterator[Event]:
        """Tells of an answer of several calls that the conversation is in none of them."""
        if self.history and not self.llm.is_small:
            yield LeftOut(messages=len(self.history))


Mode = Callable[[_Work], Iterator[Event]]


def _refine(work: _Work, *, pack: bool) -> Iterator[Event]:
    """Answer from the first passages, then better the answer by those that are left."""
    yield Sources(work.nodes)
    answer = ""
    while work.passages:
        before = work.passages.number
        if answer.strip():
            render = work.render("refine_template", "context_msg", existing_answer=answer)
        else:
            render = work.render("text_qa_template", "context_str")
        part = work.take(render, pack=pack)
        yield part.status
        if work.passages:
            better = yield from work.calls.collect(render(part.context), part)
            answer = better if better.strip() else answer
        elif before:
            yield from work.without_conversation()
            yield from work.calls.write(render(part.context), part, otherwise=answer.strip())
        else:
            messages = yield from work.in_conversation(
                "text_qa_template", "context_str", part.context
            )
            yield from work.calls.write(messages, part)


def _tree_summarize(work: _Work) -> Iterator[Event]:
    yield Sources(work.nodes)
    render = work.render("summary_template", "context_str")
    number = 0
    while True:
        parts = []
        while work.passages:
            parts.append(work.take(render, doing=TOGETHER if number else READING))
        if len(parts) == 1:
            break
        if number and len(parts) >= number:
            raise ContextWindowError(
                f"The answers from {number} parts of the text do not fit together into the "
                f"{work.llm.context_window} tokens of {work.llm.model_name}. Use fewer passages, "
                f"or a model with a larger window."
            )
        answers = []
        for part in parts:
            yield part.status
            answers.append((yield from work.calls.collect(render(part.context), part)))
        if not any(answer.strip() for answer in answers):
            yield Begun()
            yield NO_TEXT
            return
        number = len(parts)
        work.passages = Passages(answer for answer in answers if answer.strip())
    (part,) = parts
    yield part.status
    if number:
        yield from work.without_conversation()
        yield from work.calls.write(render(part.context), part, otherwise=part.context)
    else:
        messages = yield from work.in_conversation("summary_template", "context_str", part.context)
        yield from work.calls.write(messages, part)


def _simple_summarize(work: _Work) -> Iterator[Event]:
    part = work.take(work.render("text_qa_template", "context_str"))
    part = replace(part, total=len(part.ends), alone=True)
    yield Sources(work.nodes[: work.passages.number])
    if work.passages:
        yield LeftOut(characters=work.passages.characters)
    yield part.status
    messages = yield from work.in_conversation("text_qa_template", "context_str", part.context)
    yield from work.calls.write(messages, part)


def _accumulate(work: _Work, *, pack: bool) -> Iterator[Event]:
    yield Sources(work.nodes)
    yield from work.without_conversation()
    render = work.render("text_qa_template", "context_str")
    number = 0
    while work.passages:
        part = work.take(render, pack=pack)
        yield part.status
        number += 1
        heading = f"{SEPARATOR if number > 1 else ''}Response {number}: "
        yield from _below(heading, work.calls.write(render(part.context), part))
        if work.passages and work.calls.usage:
            yield work.calls.usage


def _below(heading: str, events: Iterator[Event]) -> Iterator[Event]:
    """`events` with `heading` before their first text."""
    for event in events:
        if heading and isinstance(event, str) and event:
            yield heading
            heading = ""
        yield event


def _generation(work: _Work) -> Iterator[Event]:
    yield Sources(())
    messages = yield from work.in_conversation("simple_template", "", "")
    yield Status(CONVERSATION if len(messages) > 2 else QUESTION)
    yield from work.calls.write(messages)


def _without_model(work: _Work, *, text: bool) -> Iterator[Event]:
    yield Sources(work.nodes)
    yield Begun()
    if text:
        yield JOINT.join(map(passage, work.nodes))


_MODES: dict[ResponseMode, Mode] = {
    "compact": partial(_refine, pack=True),
    "refine": partial(_refine, pack=False),
    "tree_summarize": _tree_summarize,
    "simple_summarize": _simple_summarize,
    "generation": _generation,
    "no_text": partial(_without_model, text=False),
    "context_only": partial(_without_model, text=True),
    "accumulate": partial(_accumulate, pack=False),
    "compact_accumulate": partial(_accumulate, pack=True),
}
