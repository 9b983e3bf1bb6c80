"""Behaviours 24 to 26: what each provider's model does in an engine."""

import asyncio
import functools
import json
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
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import PrivateAttr

from rag import ChatMessage, HuggingFaceLLM, LangChainLLM, OpenAI, VectorStoreIndex
from rag.errors import ModelError, ProviderError
from rag.types import Usage
from tests.behaviours.parts import (
    DONE,
    FORMS,
    GUARD,
    KINDS,
    PLAIN,
    QUESTION,
    USAGE,
    Answered,
    answered,
    engine_of,
    event,
    index_of,
    says,
    sends,
    started,
    wait_for,
    within,
)
from tests.llms.conftest import read
from tests.ports import free_port

KEY = "sk-a-very-secret-key"


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    return index_of(1)


def openai(server: Any, **options: Any) -> OpenAI:
    return OpenAI("m", server.url, KEY, **{"max_retries": 0, **options})


def replies(status: int, body: str = "{}", **headers: str) -> Callable[[Any], None]:
    return lambda request: request.reply(status, body, **headers)


# 24


@FORMS
@KINDS
def test_24_events_without_choices_are_no_text_and_no_crash(
    index: VectorStoreIndex, server: Any, kind: str, form: str
) -> None:
    filtered = event(choices=[], prompt_filter_results=[{"prompt_index": 0}])
    server.behaviours.append(
        sends(
            filtered,  # first of all, as Azure has it
            event(""),
            event("It"),
            event(choices=[]),
            event(" is"),
            event(None, "stop"),
            event(choices=[], usage=USAGE),
            DONE,
        )
    )
    got = answered(engine_of(index, openai(server), kind), form=form)
    assert got.error is None
    assert got.pieces == ["It", " is"]
    assert got.response.finish_reason == "stop"


@FORMS
@KINDS
def test_24_usage_is_reported_when_the_server_gives_it(
    index: VectorStoreIndex, server: Any, kind: str, form: str
) -> None:
    server.behaviours.append(
        sends(event("It"), event(None, "stop"), event(choices=[], usage=USAGE), DONE)
    )
    got = answered(engine_of(index, openai(server), kind), form=form)
    assert got.response.usage == Usage(7, 3)
    assert server.received[0]["stream_options"] == {"include_usage": True}  # it was asked for


def test_24_usage_in_the_last_event_with_text(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours.append(sends(event("It"), event(".", "stop", usage=USAGE), DONE))
    assert answered(engine_of(index, openai(server))).response.usage == Usage(7, 3)


def test_24_no_usage_is_made_up(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours.append(says("It", " is"))
    got = answered(engine_of(index, openai(server)))
    assert (got.text, got.response.usage) == ("It is", None)


def test_24_usage_of_several_calls_is_their_sum(server: Any) -> None:
    usage = event(choices=[], usage=USAGE)
    server.behaviours += [sends(event("x"), event(None, "stop"), usage, DONE)] * 3
    got = answered(engine_of(index_of(3), openai(server), response_mode="refine"))
    assert got.response.usage == Usage(21, 9)


@FORMS
@KINDS
@pytest.mark.parametrize(
    "failure",
    [
        replies(429, Retry_After="0.05"),
        replies(500, Retry_After="0.05"),
        replies(503, Retry_After="0.05"),
        lambda request: request.cut(),  # before a byte of the answer
    ],
    ids=["429", "500", "503", "cut"],
)
def test_24_a_failed_start_is_tried_again(
    index: VectorStoreIndex, server: Any, kind: str, form: str, failure: Any
) -> None:
    server.behaviours += [failure, failure, says("It", " is")]
    got = answered(engine_of(index, openai(server, max_retries=2), kind), form=form)
    assert got.error is None
    assert got.pieces == ["It", " is"]
    assert len(server.received) == 3
    assert server.received[0] == server.received[2]


@pytest.mark.parametrize(
    ("headers", "least"), [({"Retry_After": "1"}, 0.9), ({"retry_after_ms": "700"}, 0.6), ({}, 0.3)]
)
def test_24_between_two_tries_it_waits_as_the_server_and_the_sdk_say(
    index: VectorStoreIndex, server: Any, headers: dict[str, str], least: float
) -> None:
    times: list[float] = []

    def behave(request: Any) -> None:
        times.append(time.monotonic())
        (says("It") if len(times) > 1 else replies(429, **headers))(request)

    server.behaviours += [behave, behave]
    assert answered(engine_of(index, openai(server, max_retries=2))).text == "It"
    assert times[1] - times[0] >= least


def test_24_tries_come_to_an_end(index: VectorStoreIndex, server: Any) -> None:
    server.behaviours += [replies(500, Retry_After="0.01")] * 5
    got = answered(engine_of(index, openai(server, max_retries=2)))
    assert isinstance(got.error, ProviderError)
    assert len(server.received) == 3


@FORMS
@pytest.mark.parametrize("sent", [0, 1, 3])
@pytest.mark.parametrize(
    "ending", ["end", "cut", "error", "garbage", "silence"], ids=lambda ending: ending
)
def test_24_a_stream_that_has_begun_is_never_begun_again(
    index: VectorStoreIndex, server: Any, form: str, sent: int, ending: str
) -> None:
    last = {"error": b'data: {"error": {"message": "oh"}}\n\n', "garbage": b"data: {oh no\n\n"}
    then = {"cut": "cut", "silence": "stall"}.get(ending, "end")
    behaviour = sends(
        *[event(f"t{n} ") for n in range(sent)],
        *([last[ending]] if ending in last else []),
        then=then,
    )
    server.behaviours += [behaviour, says("again")]
    llm = openai(server, max_retries=2, timeout=1 if ending == "silence" else 60)
    got = answered(engine_of(index, llm), form=form)
    assert got.pieces == [f"t{n} " for n in range(sent)]
    assert len(server.received) == 1
    if sent and ending in ("end", "cut"):
        assert got.response.finish_reason == "truncated"
    else:
        assert isinstance(got.error, ProviderError)  # never a silent end
        assert got.response.finish_reason == "error"


@FORMS
@pytest.mark.parametrize("then", ["end", "cut"])
def test_24_a_close_without_the_end_mark_is_truncated(
    index: VectorStoreIndex, server: Any, form: str, then: str
) -> None:
    server.behaviours.append(sends(event("It"), event(" is"), then=then))
    got = answered(engine_of(index, openai(server)), form=form)
    assert (got.text, got.response.finish_reason) == ("It is", "truncated")


def refuses(status: int) -> Callable[[Any], None]:
    body = {"error": {"message": f"Incorrect key {KEY}", "code": "x"}}
    return replies(status, json.dumps(body))


@FORMS
@KINDS
@pytest.mark.parametrize(
    ("status", "says_what", "what_to_do"),
    [
        (401, "refuses the key", "Check OPENAI_API_KEY"),
        (403, "refuses the key", "Check OPENAI_API_KEY"),
        (404, "does not know m", "Choose another model"),
        (429, "too many requests", "Wait"),
        (500, "500", "Try again"),
        (502, "502", "Try again"),
        (503, "503", "Try again"),
        (529, "529", "Try again"),
    ],
)
def test_24_a_refusal_says_what_to_do(
    index: VectorStoreIndex,
    server: Any,
    kind: str,
    form: str,
    status: int,
    says_what: str,
    what_to_do: str,
) -> None:
    server.behaviours.append(refuses(status))
    got = answered(engine_of(index, openai(server), kind), form=form)
    assert isinstance(got.error, ProviderError)
    assert says_what in str(got.error)
    assert what_to_do in str(got.error)
    assert KEY not in str(got.error)
    assert got.pieces == []


@FORMS
@pytest.mark.parametrize("pieces", [None, 2])
def test_24_a_time_out_says_what_to_do(
    index: VectorStoreIndex, server: Any, form: str, pieces: int | None
) -> None:
    silent = sends(*[event("x")] * (pieces or 0), then="stall")
    server.behaviours.append(silent if pieces else lambda request: request.stall())
    got = answered(engine_of(index, openai(server, timeout=1)), form=form)
    assert isinstance(got.error, ProviderError)
    assert "in time" in str(got.error)
    assert "Try again" in str(got.error)
    assert got.pieces == ["x"] * (pieces or 0)


def test_24_a_long_answer_is_not_timed_out(index: VectorStoreIndex, server: Any) -> None:
    """The time-out is for silence, not for the whole."""

    def behave(request: Any) -> None:
        request.begin()
        for _ in range(10):
            request.send(event("x"))
            time.sleep(0.15)
        request.send(event(None, "stop") + DONE)
        request.end()

    server.behaviours.append(behave)
    got = answered(engine_of(index, openai(server, timeout=1.2)))
    assert (got.error, got.text) == (None, "x" * 10)


@FORMS
def test_24_a_refused_connection_says_what_to_do(index: VectorStoreIndex, form: str) -> None:
    llm = OpenAI("m", f"http://127.0.0.1:{free_port()}/v1", KEY, max_retries=0)
    got = answered(engine_of(index, llm), form=form)
    assert isinstance(got.error, ProviderError)
    assert "cannot be reached" in str(got.error)
    assert "Check OPENAI_BASE_URL" in str(got.error)


def test_24_a_host_that_is_not_there_says_what_to_do(index: VectorStoreIndex) -> None:
    llm = OpenAI("m", "http://no-such-host.invalid/v1", KEY, max_retries=0)
    got = answered(engine_of(index, llm))
    assert isinstance(got.error, ProviderError)
    assert "Check OPENAI_BASE_URL" in str(got.error)


# 25


LONG = [ChatMessage("user", "Write a long story about a fox.")]
TEXTS = [
    "🙂🎉🚀!",
    "你好世界，我们。",
    "\N{MAN}\u200d\N{WOMAN}\u200d\N{GIRL} naïve",
    "हिन्दी की बात",
]
"""Of characters that are several tokens each."""


def forced(monkeypatch: pytest.MonkeyPatch, llm: HuggingFaceLLM, text: str) -> list[str]:
    """Let the model write `text`, token by token."""
    read = llm._llama.read
    ids = [*llm._tokenizer.encode(text, add_special_tokens=False), llm._tokenizer.eos_token_id]
    at = 0

    @functools.wraps(read)
    def forcing(texts: Any, look: Any) -> list[list[int]]:
        nonlocal at
        if read([each._replace(draft=()) for each in texts], look) == [[]]:  # of the prompt
            return [[]]
        at += 1
        return [[ids[at - 1]]]

    monkeypatch.setattr(llm._llama, "read", forcing)
    return [llm._tokenizer.decode([id_]) for id_ in ids[:-1]]


def spied(monkeypatch: pytest.MonkeyPatch, llm: HuggingFaceLLM) -> list[dict[str, Any]]:
    """What transformers' `generate` is called with."""
    generate = llm._model.generate
    calls: list[dict[str, Any]] = []

    def spying(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return generate(*args, **kwargs)

    monkeypatch.setattr(llm._model, "generate", spying)
    return calls


def asked_of(monkeypatch: pytest.MonkeyPatch, llm: HuggingFaceLLM) -> list[Any]:
    """What is to be computed, with its prompt in tokens and how they are chosen."""
    stream = llm._batch.stream
    answers: list[Any] = []

    def spying(answer: Any) -> Any:
        answers.append(answer)
        return stream(answer)

    monkeypatch.setattr(llm._batch, "stream", spying)
    return answers


@pytest.mark.slow
def test_25_the_options_of_a_call_are_honoured(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**options: Any) -> tuple[str, Any]:
        pieces, completion = read(smollm.stream(LONG, **options))
        return "".join(map(str, pieces)), completion

    answers = asked_of(monkeypatch, smollm)
    short, ended = ask(max_tokens=3)
    long, _ = ask(max_tokens=9)
    assert (ended.finish_reason, ended.usage.completion_tokens) == ("length", 3)
    assert long.startswith(short)
    assert len(long) > len(short)
    ask(max_tokens=3, temperature=0.7)
    assert answers[-1].choice.temperature == 0.7
    assert ask(max_tokens=9, temperature=0)[0] == long  # greedy, whatever was asked before it
    assert not answers[-1].choice.temperature
    assert ask(max_tokens=9)[0] == long
    assert ask(max_tokens=9, stop=[long[5:8]])[0] == long[: long.index(long[5:8])]


@pytest.mark.slow
def test_25_two_calls_at_the_same_time_have_their_own_options(smollm: HuggingFaceLLM) -> None:
    limits = (3, 11)
    streams = [smollm.stream(LONG, max_tokens=limit) for limit in limits]
    for stream in streams:
        next(stream)
    used = [read(stream)[1].usage.completion_tokens for stream in streams]
    assert used == list(limits)


@pytest.mark.slow
@KINDS
def test_25_the_options_of_an_engine_reach_the_model(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, kind: str
) -> None:
    engine = engine_of(index, smollm, kind, response_mode="generation", max_tokens=4)
    got = answered(engine, LONG[0].content)
    assert got.response.usage.completion_tokens == 4
    assert got.response.finish_reason == "length"


@pytest.mark.slow
def test_25_the_models_own_options_hold_for_every_call(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, models_dir: Any
) -> None:
    llm = HuggingFaceLLM(
        max_new_tokens=5, generate_kwargs={"repetition_penalty": 1.3}, models_dir=models_dir
    )
    calls = spied(monkeypatch, llm)
    for _ in range(2):
        _, completion = read(llm.stream(LONG))
        assert completion.usage.completion_tokens == 5
        assert calls[-1]["repetition_penalty"] == 1.3


@pytest.mark.slow
@KINDS
def test_25_the_chat_template_is_used(
    index: VectorStoreIndex, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The prompt is what the tokenizer's own template makes of the messages, once."""
    answers = asked_of(monkeypatch, smollm)
    engine = engine_of(index, smollm, kind, max_tokens=2, system_prompt="Be brief.", **PLAIN)
    answered(engine)
    (hit,) = index.as_retriever(1).retrieve(QUESTION)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"FIRST {QUESTION} FROM [{hit.text}]"},
    ]
    expected = smollm._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    expected = expected if isinstance(expected, list) else expected["input_ids"]
    assert answers[0].prompt == list(expected)
    assert "<|im_start|>assistant" in smollm._tokenizer.decode(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop", ["### END", "# E", "ND of", "\n\n### E", ". \n", "the answer. \n\n### END of"]
)
def test_25_a_stop_sequence_split_over_tokens(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    text = "This is the answer. \n\n### END of it all"
    with monkeypatch.context() as patch:
        tokens = forced(patch, smollm, text)
        pieces, completion = read(smollm.stream(LONG, max_tokens=40, stop=["no such", stop]))
    assert stop not in tokens  # it is split
    kept = text.partition(stop)[0]
    assert "".join(map(str, pieces)) == kept
    for number in range(len(pieces)):  # at no moment was a part of it shown
        assert kept.startswith("".join(map(str, pieces[: number + 1])))
    assert completion.finish_reason == "stop"
    assert completion.usage.completion_tokens < len(tokens)  # nor was all of it computed


@pytest.mark.slow
@FORMS
@pytest.mark.parametrize("text", TEXTS)
def test_25_a_character_split_over_tokens_is_never_shown_broken(
    index: VectorStoreIndex,
    smollm: HuggingFaceLLM,
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    text: str,
) -> None:
    with monkeypatch.context() as patch:
        tokens = forced(patch, smollm, text)
        engine = engine_of(index, smollm, response_mode="generation", max_tokens=60)
        got = answered(engine, "Hello?", form)
    assert any("\ufffd" in token for token in tokens)  # it is split
    assert got.error is None
    assert got.text == text
    for number in range(len(got.pieces)):
        shown = "".join(got.pieces[: number + 1])
        assert "\ufffd" not in shown
        assert text.startswith(shown)
    assert len(got.pieces) > 1
    assert got.response.finish_reason == "stop"


# 26


class Custom(BaseChatModel):
    """A chat model of one's own: gives `words`, then raises `error`."""

    words: list[str]
    error: Any = None
    gate: Any = None
    _told: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "custom"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        raise AssertionError("it streams")

    def _stream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> Iterator[ChatGenerationChunk]:
        self._told.append(messages)
        for number, word in enumerate(self.words):
            if self.gate and number:
                assert self.gate.wait(GUARD)
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        if self.error:
            raise self.error


class CustomAsync(Custom):
    """The same with asynchronous forms, and no others."""

    def _stream(self, *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        raise AssertionError("it is asynchronous")
        yield

    async def _astream(
        self, messages: list[BaseMessage], *_: Any, **__: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        self._told.append(messages)
        for number, word in enumerate(self.words):
            while self.gate and number and not self.gate.is_set():
                await asyncio.sleep(0.01)
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        if self.error:
            raise self.error


OWN = pytest.mark.parametrize("own", [Custom, CustomAsync])


def by(index: VectorStoreIndex, model: Any, kind: str = "query", form: str = "sync") -> Answered:
    return within(lambda: answered(engine_of(index, LangChainLLM(model), kind), form=form))


@FORMS
@KINDS
@pytest.mark.parametrize(
    ("make", "pieces"),
    [
        (
            lambda: GenericFakeChatModel(messages=iter(["It is\n  a nut."])),
            ["It", " ", "is", "\n  ", "a", " ", "nut."],
        ),
        (
            lambda: GenericFakeChatModel(messages=iter([AIMessage("It is.")])),
            ["It", " ", "is."],
        ),
        (lambda: FakeListChatModel(responses=["a nut"]), list("a nut")),
        (lambda: FakeListChatModel(responses=["nut"], sleep=0.01), list("nut")),
        (lambda: Custom(words=["It", "  is", "\n"]), ["It", "  is", "\n"]),
        (lambda: CustomAsync(words=["It", "  is", "\n"]), ["It", "  is", "\n"]),
        (lambda: Custom(words=["It", " is"]).bind(stop=["x"]), ["It", " is"]),
        (lambda: Custom(words=["It", " is"]).with_retry(), ["It", " is"]),
    ],
    ids=["generic", "generic message", "list", "slow list", "own", "own async", "bind", "retry"],
)
def test_26_any_chat_model_streams(
    index: VectorStoreIndex, make: Any, pieces: list[str], kind: str, form: str
) -> None:
    got = by(index, make(), kind, form)
    assert got.error is None
    assert "".join(got.pieces) == "".join(pieces) == got.text
    # LangChain's fake may cut white space into one or more pieces.
    assert len(got.pieces) >= len([piece for piece in pieces if piece.strip()])
    assert got.response.finish_reason == "stop"
    assert len(got.response.source_nodes) == 1


@OWN
def test_26_the_model_gets_the_messages(index: VectorStoreIndex, own: Any) -> None:
    model = own(words=["It", " is"])
    engine = engine_of(index, LangChainLLM(model), "chat", system_prompt="Be brief.", **PLAIN)
    answered(engine, "One?")
    answered(engine, "Two?")
    first, condensing, last = model._told
    assert [message.type for message in first] == ["system", "human"]
    assert first[1].content.startswith("FIRST One? FROM [")
    assert "Two?" in condensing[-1].content
    assert [message.type for message in last] == ["system", "human", "ai", "human"]
    assert [message.content for message in last[1:3]] == ["One?", "It is"]


@OWN
def test_26_a_piece_is_there_before_the_next_is_made(index: VectorStoreIndex, own: Any) -> None:
    gate = threading.Event()
    response = started(engine_of(index, LangChainLLM(own(words=["It", " is"], gate=gate))))

    def run() -> None:
        assert next(response.response_gen) == "It"
        gate.set()
        assert next(response.response_gen) == " is"
        assert next(response.response_gen, None) is None

    within(run)


@FORMS
@KINDS
@OWN
@pytest.mark.parametrize("count", [0, 1, 5])
def test_26_an_error_is_raised_after_the_pieces_before_it(
    index: VectorStoreIndex, own: Any, kind: str, form: str, count: int
) -> None:
    cause = ValueError("the provider fell over")
    words = [f"w{n} " for n in range(count)]
    got = by(index, own(words=words, error=cause), kind, form)
    assert isinstance(got.error, ModelError)
    assert got.error.__cause__ is cause
    assert got.pieces == words
    assert got.response.finish_reason == "error"


@FORMS
@pytest.mark.parametrize("count", [0, 1, 3])
def test_26_an_error_of_langchains_own_fake_is_raised(
    index: VectorStoreIndex, form: str, count: int
) -> None:
    model = FakeListChatModel(responses=["walnut"], error_on_chunk_number=count)
    got = by(index, model, form=form)
    assert isinstance(got.error, ModelError)
    assert isinstance(got.error.__cause__, FakeListChatModelError)
    assert got.pieces == list("walnut")[:count]
    assert got.response.finish_reason == "error"


@OWN
def test_26_an_error_of_a_call_that_does_not_stream_is_raised(own: Any) -> None:
    engine = index_of(2).as_query_engine(
        llm=LangChainLLM(own(words=["x"], error=ValueError("oh"))), response_mode="refine"
    )
    with pytest.raises(ModelError):
        within(lambda: engine.query(QUESTION))


def test_26_a_model_that_cannot_stream(index: VectorStoreIndex) -> None:
    llm = LangChainLLM(ParrotFakeChatModel())
    with pytest.raises(NotImplementedError, match="ParrotFakeChatModel"):
        engine_of(index, llm).query(QUESTION)
    response = index.as_query_engine(llm=llm).query(QUESTION)
    assert QUESTION in str(response)
    assert response.finish_reason == "stop"


@FORMS
@OWN
def test_26_there_is_no_limit_on_the_streams_time(
    index: VectorStoreIndex, monkeypatch: pytest.MonkeyPatch, own: Any, form: str
) -> None:
    """A day passes between two pieces: every clock that a limit could be read from is set on."""
    gate = threading.Event()
    engine = engine_of(index, LangChainLLM(own(words=["It", " is", " late"], gate=gate)))
    clocks = {name: getattr(time, name) for name in ("monotonic", "perf_counter", "time")}
    results: list[Answered] = []
    reading = threading.Thread(
        target=lambda: results.append(answered(engine, form=form)), daemon=True
    )
    reading.start()
    time.sleep(0.5)  # the first piece has come, the next is waited for
    with monkeypatch.context() as patch:
        for name, clock in clocks.items():
            patch.setattr(time, name, lambda clock=clock: clock() + 86_400)
        time.sleep(0.5)
        assert reading.is_alive()
        gate.set()
        reading.join(GUARD)
        assert not reading.is_alive()
    (got,) = results
    assert got.error is None
    assert got.text == "It is late"
    assert got.response.finish_reason == "stop"


@FORMS
@OWN
def test_26_stopping_ends_the_model(index: VectorStoreIndex, own: Any, form: str) -> None:
    gate = threading.Event()
    ended = threading.Event()

    class Watched(own):  # type: ignore[misc, valid-type]
        def _stream(self, *args: Any, **kwargs: Any) -> Any:
            try:
                yield from super()._stream(*args, **kwargs)
            finally:
                ended.set()

        async def _astream(self, *args: Any, **kwargs: Any) -> Any:
            if own is Custom:
                async for chunk in BaseChatModel._astream(self, *args, **kwargs):
                    yield chunk
                return
            try:
                async for chunk in super()._astream(*args, **kwargs):
                    yield chunk
            finally:
                ended.set()

    engine = engine_of(index, LangChainLLM(Watched(words=["x "] * 100, gate=gate)))

    def sync() -> Any:
        response = engine.query(QUESTION)
        assert next(response.response_gen) == "x "
        response.close()
        return response

    async def not_sync() -> Any:
        response = await engine.aquery(QUESTION)
        assert await anext(response.async_response_gen()) == "x "
        await response.close()
        return response

    response = within(sync if form == "sync" else lambda: asyncio.run(not_sync()))
    gate.set()  # a model in a thread is told at its next piece
    assert wait_for(ended.is_set)
    assert str(response) == "x "
    assert response.finish_reason == "stopped"
