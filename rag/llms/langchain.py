"""`LangChainLLM`: any chat model of LangChain.

langchain-core is not among Rivulet's requirements; whoever has a model of it has that too. It is
loaded with the first `LangChainLLM`.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from typing import Any

from rag.errors import ConfigurationError, ModelError, RivuletError
from rag.llms.filters import stop_sequences
from rag.llms.protocol import TextStream, check_options, estimate_tokens
from rag.llms.requests import Outlet, finish_reason, request
from rag.types import ChatMessage, Completion, FinishReason, Reasoning, Usage

ENDS = ("finish_reason", "stop_reason", "done_reason")
"""Where LangChain's integrations say, in their own way each, how an answer ended."""
NO_CHUNKS = "No generation chunks were returned"
"""The error that LangChain takes an empty answer for."""


class LangChainLLM:
    """The LangChain chat model `llm`, also as its `bind` and `with_retry` give it.

    `max_tokens` holds for calls that set no limit of their own. LangChain has no common name for
    options: a limit and a temperature are set on a copy of the model, as the fields `max_tokens`
    and `temperature` that most models have. On a model without the first the stream is ended
    after that many pieces, which is later where a piece has several tokens; one without the
    second is given the temperature as an option of the call, which it may refuse.

    A model with asynchronous forms of its own is given up at once when the stream is closed; of
    any other at most the piece it is at is still computed, in a thread. There is no limit on the
    time of an answer. Raises ConfigurationError without langchain-core, or when `llm` is
    something else than a chat model.
    """

    is_small = False

    def __init__(
        self,
        llm: Any,
        *,
        context_window: int = 8192,
        max_tokens: int | None = None,
        model_name: str | None = None,
    ):
        try:
            from langchain_core.language_models import BaseChatModel
        except ImportError as error:
            raise ConfigurationError(
                "LangChainLLM needs LangChain's core package: pip install langchain-core"
            ) from error
        model = _unbound(llm)
        if not isinstance(model, BaseChatModel):
            raise ConfigurationError(
                f"LangChainLLM takes a chat model of LangChain, not {type(model).__name__}."
            )
        check_options(max_tokens, None)
        named = getattr(model, "model_name", None) or getattr(model, "model", None)
        self.model_name = str(model_name or named or type(model).__name__)
        self.context_window = context_window
        self.max_tokens = min(1024, context_window // 4) if max_tokens is None else max_tokens
        kind = type(model)
        streams = (
            kind._stream is not BaseChatModel._stream or kind._astream is not BaseChatModel._astream
        )
        set_off = "streaming" in model.model_fields_set and not getattr(model, "streaming", True)
        self.is_streaming = streams and not set_off and model.disable_streaming is not True
        self._llm = llm
        self._fields = set(kind.model_fields)
        self._limit = max_tokens

    def count_tokens(self, text: str) -> int:
        return estimate_tokens(text)

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        check_options(max_tokens, temperature)
        limit = self._limit if max_tokens is None else max_tokens
        given = {"max_tokens": limit, "temperature": temperature}
        options = {name: value for name, value in given.items() if value is not None}
        receive = functools.partial(self._receive, messages, options, stop_sequences(stop))
        return (yield from request(receive, self._explain, stop))

    async def _receive(
        self,
        messages: Sequence[ChatMessage],
        options: dict[str, Any],
        stop: list[str],
        outlet: Outlet,
    ) -> Completion:
        fields = {name: value for name, value in options.items() if name in self._fields}
        llm = _changed(self._llm, fields) if fields else self._llm
        call: dict[str, Any] = {"stop": stop} if stop else {}
        if "temperature" in options and "temperature" not in fields:
            call["temperature"] = options["temperature"]
        most = None if "max_tokens" in fields else options.get("max_tokens")
        finish: FinishReason = "stop"  # what LangChain does not tell is taken for whole
        usage = None
        count = 0
        try:
            async with aclosing(llm.astream(_converted(messages), **call)) as chunks:
                async for chunk in chunks:
                    usage = _sum(usage, getattr(chunk, "usage_metadata", None))
                    for piece in _pieces(chunk):
                        if count == most:
                            return Completion("length", usage)
                        count += 1
                        outlet.put(piece)
                    if outlet.ended:
                        return Completion(outlet.ended, usage)
                    for name in ENDS:
                        if word := chunk.response_metadata.get(name):
                            finish = finish_reason(str(word))
        except ValueError as error:
            if str(error) != NO_CHUNKS:
                raise
        return Completion(finish, usage)

    def _explain(self, error: BaseException) -> RivuletError:
        if isinstance(error, RivuletError):
            return error
        # Its own words stay in the cause: some providers quote the key in them.
        explained = ModelError(
            f"The model {self.model_name} failed ({type(error).__name__}). Ask again, or choose "
            f"another."
        )
        explained.__cause__ = error
        return explained


def _unbound(llm: Any) -> Any:
    """The model inside of what `bind` and `with_retry` make."""
    return _unbound(llm.bound) if hasattr(llm, "bound") else llm


def _changed(llm: Any, fields: dict[str, Any]) -> Any:
    """A copy of `llm` in which the model has these values for its `fields`."""
    if hasattr(llm, "bound"):
        return llm.model_copy(update={"bound": _changed(llm.bound, fields)})
    return llm.model_copy(update=fields)


def _converted(messages: Sequence[ChatMessage]) -> list[Any]:
    from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

    kinds = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
    return [kinds[message.role](message.content) for message in messages]


def _pieces(chunk: Any) -> Iterator[str | Reasoning]:
    """The text and the reasoning in one message of a stream, without what is empty."""
    blocks = chunk.content_blocks
    # Some integrations keep it beside the content, where not all of LangChain's readers look.
    aside = chunk.additional_kwargs.get("reasoning_content")
    if aside and not any(block["type"] == "reasoning" for block in blocks):
        yield Reasoning(str(aside))
    for block in blocks:
        if block["type"] == "text" and block["text"]:
            yield block["text"]
        elif block["type"] == "reasoning" and block.get("reasoning"):
            yield Reasoning(block["reasoning"])


def _sum(usage: Usage | None, more: Any) -> Usage | None:
    """`usage` and what a message adds to it: LangChain's own sum over the messages of a stream."""
    if not more:
        return usage
    before = usage or Usage(0, 0)
    return Usage(
        before.prompt_tokens + more["input_tokens"],
        before.completion_tokens + more["output_tokens"],
    )
