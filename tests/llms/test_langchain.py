"""`LangChainLLM` with LangChain's own fake models, and with some that behave badly."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    FakeListChatModelError,
    GenericFakeChatModel,
    ParrotFakeChatModel,
)
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field, PrivateAttr

from rag.errors import ConfigurationError, ContextWindowError, ModelError, ProviderError
from rag.llms import requests
from rag.llms.langchain import LangChainLLM
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Completion, Reasoning, Usage
from tests.llms.conftest import GUARD, read

ASKED = [ChatMessage("user", "Why is the sky blue?")]


class Model(BaseChatModel):
    """Streams `chunks`, then raises `error`. It keeps what it was called with."""

    chunks: list[AIMessageChunk] = Field(default_factory=list)
    error: Any = None
    model_name: str = "mine"
    _calls: list[dict[str, Any]] = PrivateAttr(default_factory=list)
    _events: list[str] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "mine"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        raise AssertionError("it streams")

    def _stream(
        self, messages: list[BaseMessage], stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._calls.append({"messages": messages, "stop": stop, **kwargs, **self._set()})
        for chunk in self.chunks:
            yield ChatGenerationChunk(message=chunk)
        if self.error:
            raise self.error

    def _set(self) -> dict[str, Any]:
        return {}


class WithFields(Model):
    temperature: float | None = None
    max_tokens: int | None = None

    def _set(self) -> dict[str, Any]:
        return {"fields": (self.temperature, self.max_tokens)}


class Stalling(Model):
    """Gives its chunks, then nothing more; without a thread."""

    async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        try:
            for chunk in self.chunks:
                yield ChatGenerationChunk(message=chunk)
            await asyncio.sleep(GUARD)
        finally:
            self._events.append("closed")


class Waiting(Model):
    """Waits in a thread before each piece until it may go on."""

    _go: threading.Semaphore = PrivateAttr(default_factory=lambda: threading.Semaphore(0))

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        try:
            for number in range(100):
                self._events.append(f"at {number}")
                self._go.acquire(timeout=GUARD)
                yield ChatGenerationChunk(message=AIMessageChunk("x"))
        finally:
            self._events.append("closed")


def said(*texts: str) -> list[AIMessageChunk]:
    return [AIMessageChunk(text) for text in texts]


def answered(model: Any, **options: Any) -> tuple[list[str | Reasoning], Completion]:
    return read(LangChainLLM(model).stream(ASKED, **options))


def fails(
    model: Any, error: type[Exception] = ModelError, **options: Any
) -> tuple[list[Any], Exception]:
    """The pieces that came before the error, and the error."""
    pieces: list[Any] = []
    with pytest.raises(error) as caught:
        pieces.extend(piece for piece in LangChainLLM(model).stream(ASKED, **options) if piece)
    assert type(caught.value) is error
    return pieces, caught.value


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + GUARD
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def tasks() -> int:
    return len(asyncio.all_tasks(requests._loop()))


# LangChain's own models


def test_26_a_generic_model_streams() -> None:
    llm: LLM = LangChainLLM(GenericFakeChatModel(messages=iter(["Light is\n scattered."])))
    assert llm.is_streaming
    pieces, completion = read(llm.stream(ASKED))
    assert pieces == ["Light", " ", "is", "\n", " ", "scattered."]
    assert completion == Completion("stop")


def test_26_a_model_with_asynchronous_forms_streams() -> None:
    model = FakeListChatModel(responses=["blue"], sleep=0.01)
    assert answered(model) == (["b", "l", "u", "e"], Completion("stop"))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_07_26_an_error_comes_after_exactly_the_pieces_before_it(count: int) -> None:
    pieces, error = fails(FakeListChatModel(responses=["blue"], error_on_chunk_number=count))
    assert pieces == ["b", "l", "u", "e"][:count]
    assert isinstance(error.__cause__, FakeListChatModelError)
    assert "FakeListChatModel failed (FakeListChatModelError). Ask again" in str(error)


def test_26_a_model_that_cannot_stream_answers_in_one_piece() -> None:
    llm = LangChainLLM(ParrotFakeChatModel())
    assert not llm.is_streaming
    assert read(llm.stream(ASKED)) == (["Why is the sky blue?"], Completion("stop"))


def test_a_model_that_was_told_not_to_stream() -> None:
    llm = LangChainLLM(FakeListChatModel(responses=["blue"], disable_streaming=True))
    assert not llm.is_streaming
    assert read(llm.stream(ASKED)) == (["blue"], Completion("stop"))


# Errors


@pytest.mark.parametrize("count", [0, 1, 5])
def test_07_08_an_error_in_a_thread_of_langchains(count: int) -> None:
    cause = ValueError("the key sk-secret is wrong")
    pieces, error = fails(Model(chunks=said(*["x"] * count), error=cause))
    assert pieces == ["x"] * count
    assert "The model mine failed (ValueError)" in str(error)
    assert "sk-secret" not in str(error)
    assert error.__cause__ is cause


def test_an_error_of_our_own_passes() -> None:
    cause = ContextWindowError("too long")
    _, error = fails(Model(error=cause), ContextWindowError)
    assert error is cause


@pytest.mark.parametrize("cause", [asyncio.CancelledError(), SystemExit(3), KeyboardInterrupt()])
def test_08_whatever_is_raised_the_reader_hears_of_it(cause: BaseException) -> None:
    class Native(Model):
        async def _astream(self, *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
            yield ChatGenerationChunk(message=AIMessageChunk("x"))
            raise cause

    pieces, error = fails(Native())
    assert pieces == ["x"]
    assert error.__cause__ is cause
    assert answered(Model(chunks=said("still there")))[0] == ["still there"]


def test_what_might_have_become_a_stop_sequence_comes_before_the_error() -> None:
    pieces, _ = fails(Model(chunks=said("a\nUs"), error=ValueError()), stop=["\nUser:"])
    assert "".join(pieces) == "a\nUs"


def test_13_an_empty_answer_is_no_error() -> None:
    assert answered(Model()) == ([], Completion("stop"))
    assert answered(Model(chunks=said(""))) == ([], Completion("stop"))


# What the messages hold


def test_reasoning_comes_apart_from_the_text() -> None:
    chunks = [
        AIMessageChunk([{"type": "reasoning", "reasoning": "Blue"}]),
        AIMessageChunk([{"type": "reasoning"}]),
        AIMessageChunk("", additional_kwargs={"reasoning_content": " light"}),
        AIMessageChunk(
            "",
            additional_kwargs={"reasoning_content": "."},
            response_metadata={"model_provider": "openai"},
        ),
        AIMessageChunk([{"type": "text", "text": "The"}]),
        AIMessageChunk(" sky"),
    ]
    pieces, _ = answered(Model(chunks=chunks))
    assert pieces == [Reasoning("Blue"), Reasoning(" light"), Reasoning("."), "The", " sky"]


def test_reasoning_in_a_providers_own_blocks() -> None:
    anthropic = {"model_provider": "anthropic"}
    chunks = [
        AIMessageChunk([{"type": "thinking", "thinking": "Blue"}], response_metadata=anthropic),
        AIMessageChunk([{"type": "thinking", "signature": "x"}], response_metadata=anthropic),
        AIMessageChunk([{"type": "text", "text": "The"}], response_metadata=anthropic),
    ]
    pieces, _ = answered(Model(chunks=chunks))
    assert pieces == [Reasoning("Blue"), "The"]


def test_24_usage_is_the_sum_over_the_messages() -> None:
    def used(text: str, read: int, written: int) -> AIMessageChunk:
        usage = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
        return AIMessageChunk(text, usage_metadata=usage)

    chunks = [used("The", 7, 0), AIMessageChunk(" sky"), used("", 0, 2)]
    whole = chunks[0] + chunks[1] + chunks[2]
    _, completion = answered(Model(chunks=chunks))
    assert completion.usage == Usage(7, 2)
    assert whole.usage_metadata["input_tokens"] == 7  # as LangChain has it
    assert whole.usage_metadata["output_tokens"] == 2


@pytest.mark.parametrize(
    ("told", "finish"),
    [
        ({"finish_reason": "stop"}, "stop"),
        ({"finish_reason": "length"}, "length"),
        ({"finish_reason": "MAX_TOKENS"}, "length"),
        ({"stop_reason": "end_turn"}, "stop"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"done_reason": "length"}, "length"),
        ({}, "stop"),
    ],
)
def test_how_an_answer_ended(told: dict[str, str], finish: str) -> None:
    chunks = [AIMessageChunk("The"), AIMessageChunk("", response_metadata=told)]
    assert answered(Model(chunks=chunks))[1].finish_reason == finish


def test_a_content_filter_that_ends_the_answer_says_so() -> None:
    end = AIMessageChunk("", response_metadata={"finish_reason": "SAFETY"})
    pieces, error = fails(Model(chunks=[*said("The"), end]), ProviderError)
    assert pieces == ["The"]
    assert "content filter" in str(error)


# Options


def test_what_the_model_is_given() -> None:
    model = Model(chunks=said("x"))
    asked = [
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "Hello"),
        ChatMessage("assistant", "Hi"),
        ChatMessage("user", "Why?"),
    ]
    read(LangChainLLM(model).stream(asked))
    (call,) = model._calls
    assert [(m.type, m.content) for m in call.pop("messages")] == [
        ("system", "Be brief."),
        ("human", "Hello"),
        ("ai", "Hi"),
        ("human", "Why?"),
    ]
    assert call == {"stop": None}


def test_stop_sequences_are_handed_on_and_heeded() -> None:
    model = Model(chunks=said("The sky\nUs", "er: Why", " not"), error=ValueError("too far"))
    pieces, completion = answered(model, stop=["", "\nUser:"])
    assert "".join(pieces) == "The sky"
    assert completion == Completion("stop")
    assert model._calls[0]["stop"] == ["\nUser:"]


def test_a_text_is_one_stop_sequence() -> None:
    model = Model(chunks=said("NEEDED EN", "D not"))
    assert answered(model, stop="END")[0] == [
        "NEEDED ",
    ]
    assert model._calls[0]["stop"] == ["END"]


def test_options_are_set_on_a_copy_of_the_model() -> None:
    model = WithFields(chunks=said("x"), temperature=1.0)
    for options in ({}, {"temperature": 0.0}, {"max_tokens": 5}):
        answered(model, **options)
    answered(model.bind(tag="bound"), temperature=0.5)
    read(LangChainLLM(model, max_tokens=9).stream(ASKED))
    assert [call["fields"] for call in model._calls] == [
        (1.0, None),
        (0.0, None),
        (1.0, 5),
        (0.5, None),
        (1.0, 9),
    ]
    assert model._calls[3]["tag"] == "bound"
    assert (model.temperature, model.max_tokens) == (1.0, None)


def test_a_temperature_is_an_option_of_the_call_where_the_model_has_no_field() -> None:
    model = Model(chunks=said("x"))
    answered(model, temperature=0.0)
    assert model._calls[0]["temperature"] == 0.0


def test_the_length_limit_ends_the_stream_of_any_model() -> None:
    model = Model(chunks=said("a", "", "b", "c"), error=ValueError("too far"))
    assert answered(model, max_tokens=2) == (["a", "b"], Completion("length"))
    whole = Model(chunks=said("a", "b", ""))
    assert answered(whole, max_tokens=2) == (["a", "b"], Completion("stop"))


def test_facts_about_the_model() -> None:
    llm = LangChainLLM(Model())
    assert (llm.model_name, llm.context_window, llm.max_tokens) == ("mine", 8192, 1024)
    llm = LangChainLLM(Model().with_retry(), context_window=2000, model_name="named")
    assert (llm.model_name, llm.max_tokens, llm.is_streaming) == ("named", 500, True)
    assert LangChainLLM(ParrotFakeChatModel(), max_tokens=7).max_tokens == 7
    assert LangChainLLM(ParrotFakeChatModel()).model_name == "ParrotFakeChatModel"
    assert llm.count_tokens("four words of English") >= 4


# Stopping


@pytest.mark.parametrize("count", [0, 2])
def test_10_closing_ends_a_silent_model_at_once(count: int) -> None:
    model = Stalling(chunks=said(*["x"] * count))
    threads = threading.active_count()
    stream = LangChainLLM(model).stream(ASKED)
    seen = [next(stream)]
    while seen.count("x") < count or len(seen) < count + 3:
        seen.append(next(stream))
    assert not model._events
    begin = time.monotonic()
    stream.close()
    assert wait_for(lambda: model._events == ["closed"])
    assert time.monotonic() - begin < 2
    assert wait_for(lambda: tasks() == 0)
    assert threading.active_count() <= threads + 1  # the loop's, the first time


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Python's collector of cycles comes at any time: what has to be closed is closed without."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("options", [{"max_tokens": 1}, {"stop": ["xx"]}])
@pytest.mark.parametrize("kind", [Stalling, Waiting])
def test_10_a_model_is_closed_when_no_more_is_wanted(kind: Any, options: dict[str, Any]) -> None:
    model = kind(chunks=said("x", "x"))
    if kind is Waiting:
        model._go.release(2)
    answered(model, **options)
    assert wait_for(lambda: model._events[-1:] == ["closed"])
    assert wait_for(lambda: tasks() == 0)


@pytest.mark.usefixtures("no_collector")
def test_10_of_a_model_in_a_thread_no_more_than_the_piece_it_is_at() -> None:
    model = Waiting()
    model._go.release(2)
    stream = LangChainLLM(model).stream(ASKED)
    seen = [next(stream)]
    while seen.count("x") < 2:
        seen.append(next(stream))
    assert wait_for(lambda: "at 2" in model._events)
    stream.close()  # at once, though the model is silent
    assert wait_for(lambda: tasks() == 0)
    model._go.release(50)
    assert wait_for(lambda: model._events[-1] == "closed")
    assert model._events == ["at 0", "at 1", "at 2", "closed"]


def test_streams_that_were_stopped_abandoned_or_failed_leave_nothing_behind() -> None:
    def three() -> None:
        stopped = LangChainLLM(Stalling(chunks=said("x"))).stream(ASKED)
        assert next(text for text in stopped if text)
        stopped.close()
        abandoned = LangChainLLM(Stalling(chunks=said("x"))).stream(ASKED)
        next(abandoned)
        del abandoned
        fails(Model(chunks=said("x"), error=ValueError()))

    three()
    threads = threading.active_count()
    for _ in range(30):
        three()
    assert wait_for(lambda: tasks() == 0)
    assert threading.active_count() <= threads


def test_26_many_streams_at_once_do_not_wait_for_each_other() -> None:
    """Also those of models that need threads: ten silent ones do not hold up one that is not."""
    silent = [Waiting() for _ in range(10)]
    streams = [LangChainLLM(model).stream(ASKED) for model in silent]
    for stream in streams:
        next(stream)
    assert wait_for(lambda: all(model._events for model in silent))
    assert answered(Model(chunks=said("quick")))[0] == ["quick"]
    for stream, model in zip(streams, silent, strict=True):
        stream.close()
        model._go.release()


# The optional dependency


def test_without_langchain_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "langchain_core"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match="pip install langchain-core"):
        LangChainLLM(object())


def test_it_is_loaded_only_when_needed() -> None:
    code = "import sys, rag.llms.langchain; print('langchain_core' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_what_is_no_chat_model_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes a chat model of LangChain, not str"):
        LangChainLLM("gpt-x")


def test_an_answer_that_comes_whole_tells_how_it_ended() -> None:
    class Whole(Model):
        disable_streaming: bool = True

        def _generate(self, *_: Any, **__: Any) -> ChatResult:
            message = AIMessage(
                "The sky",
                response_metadata={"finish_reason": "length"},
                usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9},
            )
            return ChatResult(generations=[ChatGeneration(message=message)])

    assert answered(Whole()) == (["The sky"], Completion("length", Usage(7, 2)))
