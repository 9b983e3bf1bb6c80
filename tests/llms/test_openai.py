"""`OpenAI` against a real HTTP server that behaves well and badly."""

import gc
import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from rag.errors import ConfigurationError, ContextWindowError, ProviderError
from rag.llms.openai import OpenAI, list_models
from rag.types import ChatMessage, Completion, Reasoning, Usage
from tests.llms.conftest import read
from tests.ports import free_port

KEY = "sk-a-very-secret-key"
ASKED = [ChatMessage("user", "Why is the sky blue?")]
GUARD = 20
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}

Behaviour = Callable[[Any], None]


def chunk(text: str | None = None, finish: str | None = None, **fields: Any) -> bytes:
    """One event of the stream, as OpenAI's servers send it."""
    delta = {"content": text, **fields.pop("delta", {})}
    event = {
        "id": "1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **fields,
    }
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
ERROR = b'data: {"error": {"message": "CUDA out of memory", "code": 500}}\n\n'


def streams(*events: bytes, then: str = "end") -> Behaviour:
    """Send `events`, then "end" the answer, "cut" the connection, or "stall"."""

    def behave(request: Any) -> None:
        request.begin()
        for event in events:
            request.send(event)
        getattr(request, then)()

    return behave


def replies(status: int, body: str = "{}", **headers: str) -> Behaviour:
    return lambda request: request.reply(status, body, **headers)


NORMAL = streams(
    chunk(""),
    chunk("The"),
    chunk(" sky"),
    chunk(None, "stop"),
    chunk(choices=[], usage=USAGE),
    DONE,
)


def model(server: Any, **options: Any) -> OpenAI:
    return OpenAI("m", server.url, KEY, **{"max_retries": 0, **options})


def answered(llm: OpenAI, **options: Any) -> tuple[list[str | Reasoning], Completion]:
    """The pieces that have text, and how it ended."""
    return read(llm.stream(ASKED, **options))


def fails(
    llm: OpenAI, error: type[Exception] = ProviderError, **options: Any
) -> tuple[list[Any], str]:
    """The pieces that came before the error, and what it says."""
    pieces: list[Any] = []
    with pytest.raises(error) as caught:
        pieces.extend(piece for piece in llm.stream(ASKED, **options) if piece)
    assert type(caught.value) is error
    return pieces, str(caught.value)


def wait_for(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + GUARD
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def test_24_text_finish_reason_and_usage(server: Any) -> None:
    server.behaviours.append(NORMAL)
    pieces, completion = answered(model(server))
    assert pieces == ["The", " sky"]
    assert completion == Completion("stop", Usage(7, 3))


def test_the_first_item_is_empty_and_comes_before_the_server_answers(server: Any) -> None:
    server.behaviours.append(lambda request: request.stall())
    with closing(model(server).stream(ASKED, max_tokens=5)) as stream:
        assert [next(stream), next(stream)] == ["", ""]


def test_what_is_sent(server: Any) -> None:
    server.behaviours.append(NORMAL)
    answered(model(server), max_tokens=42)
    (body,) = server.received
    assert body["messages"] == [{"role": "user", "content": "Why is the sky blue?"}]
    assert body["stream"] is True
    assert body["max_tokens"] == 42
    assert "max_completion_tokens" not in body


def test_only_what_is_set_is_sent(server: Any) -> None:
    server.behaviours += [NORMAL] * 4
    answered(model(server))
    answered(model(server, max_tokens=9, temperature=0.5))
    answered(model(server, max_tokens=9, temperature=0.5), max_tokens=5, temperature=0, stop=["x"])
    answered(model(server), stop=["", "a", "b", "c", "d", "e"])
    plain, constructed, called, stops = server.received
    assert plain.keys() == {"model", "messages", "stream", "stream_options"}
    assert (constructed["max_tokens"], constructed["temperature"]) == (9, 0.5)
    assert (called["max_tokens"], called["temperature"], called["stop"]) == (5, 0, ["x"])
    assert stops["stop"] == ["a", "b", "c", "d"]  # no server takes more


def test_the_room_kept_for_an_answer() -> None:
    def room(**options: Any) -> int:
        return OpenAI("m", "http://127.0.0.1:9/v1", **options).max_tokens

    assert room() == 1024
    assert room(context_window=2000) == 500
    assert room(max_tokens=256) == 256


@pytest.fixture
def own(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A server that stands in for OpenAI's own."""
    monkeypatch.setattr("rag.llms.openai.OPENAI_URL", server.url)
    return server


def test_openais_own_server_knows_the_limit_by_its_newer_name(own: Any) -> None:
    own.behaviours.append(NORMAL)
    answered(OpenAI("m", api_key=KEY), max_tokens=42)
    (body,) = own.received
    assert body["max_completion_tokens"] == 42
    assert "max_tokens" not in body


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_comes_apart_from_the_text(server: Any, name: str) -> None:
    server.behaviours.append(
        streams(
            chunk(delta={"content": "", name: "Blue"}),
            chunk(delta={name: " light"}),
            chunk("The", delta={name: None}),
            chunk(None, "stop"),
            DONE,
        )
    )
    assert answered(model(server)) == (
        [Reasoning("Blue"), Reasoning(" light"), "The"],
        Completion("stop"),
    )


def test_content_in_parts(server: Any) -> None:
    """As Mistral's reasoning models send it."""

    def thought(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    server.behaviours.append(
        streams(
            chunk(delta={"content": [thought("Blue")]}),
            chunk(delta={"content": [{"type": "thinking", "thinking": " light"}]}),
            chunk(delta={"content": [thought("."), {"type": "text", "text": "The"}]}),
            chunk(delta={"content": [" sky", {"type": "reference", "reference_ids": [1]}]}),
            chunk(delta={"content": [{"type": "thinking", "thinking": None}]}),
            chunk(delta={"content": []}),
            chunk("!", "stop"),
            DONE,
        )
    )
    assert answered(model(server)) == (
        [Reasoning("Blue"), Reasoning(" light"), Reasoning("."), "The", " sky", "!"],
        Completion("stop"),
    )


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": None, "completion_tokens": 3},
        {"prompt_tokens": 7},
        {"prompt_tokens": "7", "completion_tokens": 3.5},
        {},
        "none",
    ],
)
def test_24_usage_that_is_no_number_is_unknown(server: Any, usage: Any) -> None:
    server.behaviours.append(
        streams(chunk("The"), chunk(None, "stop"), chunk(choices=[], usage=usage), DONE)
    )
    assert answered(model(server)) == (["The"], Completion("stop"))


@pytest.mark.parametrize(
    "odd",
    [
        chunk(delta={"content": 7}),
        chunk(delta={"content": {"text": "x"}}),
        chunk(delta={"reasoning_content": ["x", 7]}),
        chunk(choices={"0": "x"}),
        chunk(choices=["x"]),
        chunk(None, 7),  # type: ignore[arg-type]
        b"data: 7\n\n",
    ],
)
def test_24_what_no_server_should_send(server: Any, odd: bytes) -> None:
    server.behaviours.append(streams(chunk("The"), odd, DONE))
    pieces, said = fails(model(server))
    assert pieces == ["The"]
    assert "cannot be read" in said


def test_a_stop_sequence_that_the_server_did_not_heed(server: Any) -> None:
    behaviour = streams(chunk("The sky\nUs"), chunk("er: Why"), chunk(" not"), then="stall")
    server.behaviours.append(behaviour)
    pieces, completion = answered(model(server), stop=["1", "2", "3", "4", "\nUser:"])
    assert "".join(pieces) == "The sky"
    assert completion == Completion("stop")
    assert server.gone.wait(GUARD)  # what follows is not waited for


def test_a_text_is_one_stop_sequence(server: Any) -> None:
    server.behaviours.append(streams(chunk("NEEDED EN"), chunk("D not"), then="stall"))
    pieces, _ = answered(model(server), stop="END")
    assert "".join(pieces) == "NEEDED "
    assert server.received[0]["stop"] == ["END"]


def test_what_might_have_become_a_stop_sequence_is_text_at_the_end(server: Any) -> None:
    server.behaviours += [
        streams(chunk("The\nUs"), chunk(None, "stop"), DONE),
        streams(chunk("The\nUs"), ERROR),
    ]
    pieces, _ = answered(model(server), stop=["\nUser:"])
    assert "".join(pieces) == "The\nUs"
    pieces, _ = fails(model(server), stop=["\nUser:"])
    assert "".join(pieces) == "The\nUs"


def test_a_content_filter_that_ends_the_answer_says_so(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(None, "content_filter"), DONE))
    pieces, said = fails(model(server))
    assert pieces == ["The"]
    assert "content filter" in said
    assert "Ask in other words" in said


def test_a_server_that_gives_up_has_not_given_a_whole_answer(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(None, "abort"), DONE))
    assert answered(model(server)) == (["The"], Completion("truncated"))


def test_an_answer_from_a_server_that_does_not_stream(server: Any) -> None:
    message = {"role": "assistant", "content": "The sky", "reasoning_content": "Blue"}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "length"}]}
    server.behaviours.append(replies(200, json.dumps({**body, "usage": USAGE})))
    assert answered(model(server)) == (
        [Reasoning("Blue"), "The sky"],
        Completion("length", Usage(7, 3)),
    )


@pytest.mark.parametrize(
    ("body", "kind", "says"),
    [
        ('{"error": {"message": "no such model"}}', "application/json", "ended the answer with"),
        ('{"detail": "here be dragons"}', "application/json", "cannot be read"),
        ("[]", "application/json", "cannot be read"),
        ("not JSON", "application/json", "cannot be read"),
        ("<html>Welcome</html>", "text/html", "can be read. Check OPENAI_BASE_URL"),
        ("", "text/event-stream", "can be read. Check OPENAI_BASE_URL"),
    ],
)
def test_something_else_than_an_answer(server: Any, body: str, kind: str, says: str) -> None:
    server.behaviours.append(lambda request: request.reply(200, body, Content_Type=kind))
    pieces, said = fails(model(server))
    assert pieces == []
    assert says in said


def test_the_length_limit(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(None, "length"), DONE))
    assert answered(model(server)) == (["The"], Completion("length"))


def test_01_one_byte_at_a_time(server: Any) -> None:
    body = chunk("Ü🙂") + chunk("漢字") + chunk(None, "stop") + DONE
    server.behaviours.append(streams(*(bytes([byte]) for byte in body)))
    assert answered(model(server)) == (["Ü🙂", "漢字"], Completion("stop"))


def test_24_events_without_choices_are_no_text(server: Any) -> None:
    server.behaviours.append(
        streams(chunk(choices=[]), chunk("The"), chunk(choices=None), chunk(None, "stop"), DONE)
    )
    assert answered(model(server)) == (["The"], Completion("stop"))


def test_an_empty_answer_is_no_error(server: Any) -> None:
    server.behaviours.append(streams(chunk(None, "stop"), DONE))
    assert answered(model(server)) == ([], Completion("stop"))


@pytest.mark.parametrize("then", ["end", "cut"])
def test_09_24_an_answer_that_breaks_off_is_truncated(server: Any, then: str) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(" sky"), then=then))
    assert answered(model(server, max_retries=2)) == (["The", " sky"], Completion("truncated"))
    assert len(server.received) == 1  # a stream that has begun is never begun again


def test_an_answer_cut_after_its_end_is_whole(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(None, "stop"), then="cut"))
    assert answered(model(server)) == (["The"], Completion("stop"))


@pytest.mark.parametrize("limit", [{"timeout": 0.3}, {}])
def test_an_answer_is_whole_where_the_server_falls_silent_after_its_end(
    server: Any, monkeypatch: pytest.MonkeyPatch, limit: dict[str, float]
) -> None:
    """Some neither say that they are done nor close the connection."""
    monkeypatch.setattr("rag.llms.openai.LAST", 0.5)
    server.behaviours.append(streams(chunk("The"), chunk(None, "stop"), then="stall"))
    begin = time.monotonic()
    assert answered(model(server, **limit)) == (["The"], Completion("stop"))
    assert time.monotonic() - begin < 5
    assert server.gone.wait(GUARD)


def test_a_connection_cut_before_any_text_is_an_error(server: Any) -> None:
    server.behaviours.append(streams(chunk(""), then="cut"))
    pieces, said = fails(model(server))
    assert pieces == []
    assert "OPENAI_BASE_URL" in said


def test_24_a_server_that_falls_silent(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), chunk(" sky"), then="stall"))
    pieces, said = fails(model(server, timeout=0.3))
    assert pieces == ["The", " sky"]
    assert "does not answer in time" in said
    assert "Try again" in said


def test_24_a_server_that_never_answers(server: Any) -> None:
    server.behaviours.append(lambda request: request.stall())
    pieces, said = fails(model(server, timeout=0.3))
    assert pieces == []
    assert "does not answer in time" in said


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "Check OPENAI_API_KEY"),
        (403, "Check OPENAI_API_KEY"),
        (404, "does not know m. Choose another model"),
        (429, "Wait a little"),
        (500, "status 500. Try again later"),
        (503, "status 503. Try again later"),
    ],
)
def test_24_refusals_say_what_to_do(
    server: Any, status: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}", "code": "x"}})
    server.behaviours.append(replies(status, body))
    with caplog.at_level(logging.DEBUG):
        pieces, said = fails(model(server))
    assert pieces == []
    assert says in said
    assert KEY not in said
    assert caplog.records  # something was logged, and the key is not in it
    assert not any(KEY in record.getMessage() for record in caplog.records)


def test_a_prompt_that_does_not_fit_the_servers_window(server: Any) -> None:
    body = {"error": {"message": "This model's maximum context length is 4096 tokens."}}
    server.behaviours.append(replies(400, json.dumps(body)))
    _, said = fails(model(server), ContextWindowError)
    assert "Ask a shorter question" in said


@pytest.mark.parametrize("count", [0, 1, 7])
def test_07_an_error_in_the_middle_of_the_stream(server: Any, count: int) -> None:
    server.behaviours.append(streams(*[chunk("x")] * count, ERROR, chunk("y"), DONE))
    pieces, said = fails(model(server, max_retries=2))
    assert pieces == ["x"] * count
    assert "Try again" in said
    assert len(server.received) == 1


def test_24_what_is_no_json(server: Any) -> None:
    server.behaviours.append(streams(chunk("The"), b"data: {oh no\n\n", DONE))
    pieces, said = fails(model(server))
    assert pieces == ["The"]
    assert "cannot be read" in said
    assert "OPENAI_BASE_URL" in said


def test_24_a_server_that_is_not_there() -> None:
    pieces, said = fails(OpenAI("m", f"http://127.0.0.1:{free_port()}/v1", KEY, max_retries=0))
    assert pieces == []
    assert "cannot be reached" in said
    assert "OPENAI_BASE_URL" in said


def test_24_a_start_that_fails_is_tried_again(server: Any) -> None:
    server.behaviours += [replies(429, Retry_After="0.05"), replies(500), NORMAL]
    pieces, completion = answered(model(server, max_retries=2))
    assert pieces == ["The", " sky"]
    assert completion.finish_reason == "stop"
    assert len(server.received) == 3


def test_a_start_that_fails_again_and_again_is_given_up(server: Any) -> None:
    server.behaviours += [replies(500, Retry_After="0.05")] * 4
    fails(model(server, max_retries=2))
    assert len(server.received) == 3


@pytest.mark.parametrize("pieces", [0, 2])
def test_10_stopping_closes_the_connection_of_a_silent_server(server: Any, pieces: int) -> None:
    server.behaviours.append(streams(*[chunk("x")] * pieces, then="stall"))
    stream = model(server).stream(ASKED, max_tokens=50)
    seen = [next(stream)]
    while seen.count("x") < pieces or len(seen) < 3:
        seen.append(next(stream))
    assert not server.gone.is_set()
    stream.close()
    assert server.gone.wait(GUARD)


def test_02_10_stopping_before_the_server_has_answered_closes_the_connection(server: Any) -> None:
    server.behaviours.append(lambda request: request.stall())
    stream = model(server).stream(ASKED, max_tokens=50)
    next(stream)
    assert wait_for(lambda: len(server.received) == 1)
    stream.close()
    assert server.gone.wait(GUARD)


def test_stopped_streams_leave_nothing_behind(server: Any) -> None:
    llm = model(server)

    def stopped() -> None:
        server.gone.clear()
        server.behaviours.append(streams(chunk("x"), then="stall"))
        with closing(llm.stream(ASKED, max_tokens=50)) as stream:
            assert next(text for text in stream if text) == "x"
        assert server.gone.wait(GUARD)

    stopped()
    threads, sockets = threading.active_count(), _sockets()
    for _ in range(30):
        stopped()
    # The server's own end of the last connection may still be closing.
    assert wait_for(lambda: threading.active_count() <= threads + 1)
    assert wait_for(lambda: _sockets() <= sockets + 1)


def _sockets() -> int:
    count = 0
    for file in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            count += str(file.readlink()).startswith("socket:")
    return count


def test_two_streams_do_not_mix(server: Any) -> None:
    both = threading.Barrier(2, timeout=GUARD)

    def says(word: str) -> Behaviour:
        def behave(request: Any) -> None:
            request.begin()
            for _ in range(20):
                both.wait()  # turn by turn
                request.send(chunk(word))
            request.send(chunk(None, "stop") + DONE)
            request.end()

        return behave

    server.behaviours += [says("a"), says("b")]
    llm = model(server)
    results: list[tuple[list[str], Completion]] = []
    readers = [threading.Thread(target=lambda: results.append(answered(llm))) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(GUARD)
    assert sorted("".join(pieces) for pieces, _ in results) == ["a" * 20, "b" * 20]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """One that names no server."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return monkeypatch


@pytest.mark.parametrize("address", [None, "https://api.openai.com/v1/"])
def test_openais_own_server_needs_a_key(
    environment: pytest.MonkeyPatch, address: str | None
) -> None:
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY") as caught:
        OpenAI("gpt-x", address)
    assert "without either, the local model answers" in str(caught.value)


def test_without_address_and_key_those_of_the_settings_hold(
    server: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENAI_BASE_URL", server.url)
    environment.setenv("OPENAI_API_KEY", KEY)
    server.behaviours.append(NORMAL)
    answered(OpenAI("m"), max_tokens=5)
    assert server.keys == [f"Bearer {KEY}"]
    assert server.received[0]["max_tokens"] == 5  # not OpenAI's own


def test_a_key_of_the_environment_is_not_sent_to_a_given_address(
    server: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENAI_API_KEY", KEY)
    server.behaviours.append(NORMAL)
    answered(OpenAI("m", server.url))
    assert KEY not in server.keys[0]


def test_a_given_key_is_not_sent_to_an_address_of_the_environment(
    own: Any, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    own.behaviours.append(NORMAL)
    answered(OpenAI("m", api_key=KEY))
    assert own.keys == [f"Bearer {KEY}"]


def test_another_server_needs_none(server: Any) -> None:
    server.behaviours.append(NORMAL)
    pieces, _ = answered(OpenAI("m", server.url))
    assert pieces == ["The", " sky"]


def test_counted_tokens_are_rather_too_many() -> None:
    llm = OpenAI("m", "http://127.0.0.1:9/v1")
    assert llm.count_tokens("four words of English") >= 4
    assert llm.count_tokens("漢字漢字") >= 4
    assert llm.count_tokens("") > 0


def models(*names: str) -> Behaviour:
    listed = [{"id": name, "object": "model", "created": 0, "owned_by": "x"} for name in names]
    return replies(200, json.dumps({"object": "list", "data": listed}))


def test_the_models_of_a_server(server: Any) -> None:
    server.behaviours.append(models("zephyr", "my-embedding", "alpha"))
    assert list_models(server.url, None) == ["alpha", "my-embedding", "zephyr"]


def test_of_openais_models_those_that_chat(own: Any) -> None:
    own.behaviours.append(models("text-embedding-3", "gpt-x", "whisper-1", "tts-1"))
    assert list_models(None, KEY) == ["gpt-x"]


@pytest.mark.parametrize("behaviour", [replies(500), replies(404), replies(200, "<html>")])
def test_a_server_without_a_list(server: Any, behaviour: Behaviour) -> None:
    server.behaviours.append(behaviour)
    with pytest.raises(ProviderError):
        list_models(server.url, KEY)


def test_the_list_of_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        list_models(None, None)


def test_a_forked_process_asks_by_connections_of_its_own(server: Any) -> None:
    """The loop's thread is not copied, and a connection can only have one reader."""
    server.behaviours += [NORMAL] * 3
    script = """
import os, signal, sys
from rag.llms.openai import OpenAI
from rag.types import ChatMessage

signal.alarm(20)
llm = OpenAI("m", sys.argv[1])

def answer():
    return "".join(llm.stream([ChatMessage("user", "x")]))

assert answer() == "The sky"
child = os.fork()
if not child:
    signal.alarm(10)
    os._exit(answer() != "The sky")
assert os.waitpid(child, 0)[1] == 0
assert answer() == "The sky"
"""
    done = subprocess.run(
        [sys.executable, "-c", script, server.url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(server.connections) == 2  # the first is used again after the child


def test_a_model_that_is_dropped_closes_its_connections(server: Any) -> None:
    server.behaviours.append(NORMAL)
    llm = model(server)
    answered(llm)
    before = _sockets()
    gc.disable()
    try:
        del llm
        assert wait_for(lambda: _sockets() < before)
    finally:
        gc.enable()
