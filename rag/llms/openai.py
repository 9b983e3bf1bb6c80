"""`OpenAI`: the chat models of OpenAI, and of every server that speaks its protocol."""

import asyncio
import functools
import json
import os
import weakref
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from rag.config import Config
from rag.errors import ConfigurationError, ContextWindowError, ProviderError, RivuletError
from rag.llms.filters import stop_sequences
from rag.llms.protocol import TextStream, check_options, estimate_tokens
from rag.llms.requests import Outlet, finish_reason, request, run
from rag.types import ChatMessage, Completion, Reasoning, Usage

OPENAI_URL = "https://api.openai.com/v1"
MAX_STOPS = 4
"""Stop sequences that OpenAI's protocol takes; more are watched for here alone."""
LAST = 5.0
"""Seconds to wait for what may follow the end of an answer, which is its usage."""
LARGEST_EVENT, LARGEST_BODY = 1_000_000, 8_000_000
"""Bytes of an event, and of a body without events, at most."""
EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")
NO_CHAT = ("embedding", "whisper", "tts", "dall-e", "image", "audio", "realtime", "moderation")
"""Words in the names of OpenAI's own models that do not chat."""


class OpenAI:
    """The model `model` of the server at `base_url` (OpenAI's own when None).

    Without an address and a key both are those of the settings. With either given, nothing is:
    a key of the environment is never sent to an address that was given here.

    `max_tokens` and `temperature` hold for calls that set none of their own; where neither does,
    the server's own hold. `timeout` is the seconds without a sign of the server; a whole answer
    may take any time. A start that fails for a passing reason is tried again by the SDK, up to
    `max_retries` times and with its back-off, within that time; a stream that has begun never is.
    Raises ConfigurationError where OpenAI's own server is meant and there is no key.
    """

    is_streaming = True
    is_small = False

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        context_window: int = 8192,
        max_tokens: int | None = None,
        temperature: float | None = None,
        timeout: float = 120.0,
        max_retries: int = 2,
    ):
        check_options(max_tokens, temperature)
        if base_url is None and api_key is None:
            config = Config.from_env()
            base_url, api_key = config.openai_base_url, config.openai_api_key
        address = base_url or OPENAI_URL
        self.model_name = model
        self.context_window = context_window
        self.max_tokens = min(1024, context_window // 4) if max_tokens is None else max_tokens
        self._limit = max_tokens
        self._temperature = temperature
        # OpenAI's newer models refuse the older name, most other servers know only that one.
        self._limit_name = "max_completion_tokens" if _is_openais(address) else "max_tokens"
        self._timeout = timeout
        key = _key(address, api_key)
        self._make_client = functools.partial(_client, address, key, timeout, max_retries)
        self._clients: dict[int, openai.AsyncOpenAI] = {}
        """By process: one that is forked must not use its parent's connections."""

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
        given = {
            self._limit_name: self._limit if max_tokens is None else max_tokens,
            "temperature": self._temperature if temperature is None else temperature,
            "stop": stop_sequences(stop)[:MAX_STOPS] or None,
        }
        # Some models refuse an option, whatever its value: only what is set is sent.
        options = {name: value for name, value in given.items() if value is not None}
        receive = functools.partial(self._receive, self._client(), messages, options)
        return (yield from request(receive, lambda error: explain(error, self.model_name), stop))

    def _client(self) -> openai.AsyncOpenAI:
        process = os.getpid()
        if process not in self._clients:
            client = self._clients[process] = self._make_client()
            weakref.finalize(self, _close, client, process).atexit = False
        return self._clients[process]

    async def _receive(
        self,
        client: openai.AsyncOpenAI,
        messages: Sequence[ChatMessage],
        options: dict[str, Any],
        outlet: Outlet,
    ) -> Completion:
        async with asyncio.timeout(self._timeout):  # of all tries together
            stream: openai.AsyncStream[ChatCompletionChunk] = await client.chat.completions.create(
                model=self.model_name,
                messages=cast(Any, [{"role": m.role, "content": m.content} for m in messages]),
                stream=True,
                stream_options={"include_usage": True},
                **options,
            )
        finish = usage = None
        empty, begun = True, False
        try:
            async with stream, asyncio.timeout(None) as patience:
                async for chunk in _chunks(stream):
                    empty = False
                    usage = _usage(chunk.usage) or usage
                    for choice in chunk.choices or ():
                        for piece in _pieces(choice.delta):
                            begun = True
                            outlet.put(piece)
                        finish = choice.finish_reason or finish
                    if outlet.ended:
                        return Completion(outlet.ended, usage)
                    if finish:
                        patience.reschedule(asyncio.get_running_loop().time() + LAST)
        except TimeoutError:
            pass  # the answer had ended
        except openai.APIConnectionError as error:
            # Where the connection was cut, what has come is an answer, only not a whole one.
            cut = begun and not isinstance(error, openai.APITimeoutError)
            if not (finish or cut):
                raise
        if empty:
            raise ProviderError(
                "The model server's answer holds nothing that can be read. Check OPENAI_BASE_URL."
            )
        if not (begun or finish):
            raise ProviderError(
                "The model server broke off before there was an answer. Try again, or choose "
                "another model."
            )
        return Completion(finish_reason(finish) if finish else "truncated", usage)


def _client(address: str, key: str, timeout: float, max_retries: int) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        base_url=address,
        api_key=key,
        timeout=httpx2.Timeout(timeout, connect=min(10.0, timeout)),
        max_retries=max_retries,
        http_client=openai.DefaultAsyncHttpx2Client(event_hooks={"response": [_bound]}),
    )


async def _bound(response: httpx2.Response) -> None:
    response.stream = _Bounded(response)


class _Bounded(httpx2.AsyncByteStream):
    """The body of `response`, as long as it, or where it has events each of them, is not larger
    than can be meant: the SDK would take in all that comes."""

    def __init__(self, response: httpx2.Response):
        self._stream = cast(httpx2.AsyncByteStream, response.stream)
        self._has_events = response.headers.get("content-type", "").startswith("text/event-stream")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        most = LARGEST_EVENT if self._has_events else LARGEST_BODY
        size, last = 0, b""
        async for part in self._stream:
            last = last[-3:] + part
            end = max(map(last.rfind, EVENT_ENDS)) if self._has_events else -1
            size = size + len(part) if end < 0 else len(last) - end
            if size > most:
                raise ProviderError(
                    "The model server sends more than an answer can be. Check OPENAI_BASE_URL."
                )
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


def _close(client: openai.AsyncOpenAI, process: int) -> None:
    if process == os.getpid():
        run(client.close())


async def _chunks(
    stream: openai.AsyncStream[ChatCompletionChunk],
) -> AsyncIterator[ChatCompletionChunk]:
    """The events of `stream`; an answer that comes whole, from a server that does not stream, is
    one event."""
    if not stream.response.headers.get("content-type", "").startswith("application/json"):
        async for chunk in stream:
            yield chunk
        return
    answer = json.loads(await stream.response.aread())
    if answer.get("error"):
        raise openai.APIError("error", stream.response.request, body=answer["error"])
    for choice in answer["choices"]:
        choice["delta"] = choice.pop("message")
        choice["finish_reason"] = choice.get("finish_reason") or "stop"
    yield ChatCompletionChunk.construct(**answer)


def _pieces(delta: Any) -> Iterator[str | Reasoning]:
    """What one event adds. Servers give reasoning in three ways, none of them OpenAI's."""
    reasoning = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
    if text := _text(reasoning):
        yield Reasoning(text)
    content: Any = getattr(delta, "content", None)
    for part in content if isinstance(content, list) else [content]:
        thinking = isinstance(part, dict) and part.get("type") == "thinking"
        if text := _text(part["thinking"] if thinking else part):
            yield Reasoning(text) if thinking else text


def _text(part: Any) -> str:
    """The text in a part of a message, or in a list of them; empty in one of another kind."""
    match part:
        case str():
            return part
        case {"type": "text", "text": str(text)}:
            return text
        case None | {"type": str()}:
            return ""
        case list():
            return "".join(map(_text, part))
    raise TypeError(f"{type(part).__name__} as content")


def _usage(told: Any) -> Usage | None:
    """What a server told of it, where that is numbers."""
    read = getattr(told, "prompt_tokens", None)
    written = getattr(told, "completion_tokens", None)
    return Usage(read, written) if isinstance(read, int) and isinstance(written, int) else None


def list_models(base_url: str | None, api_key: str | None, timeout: float = 5.0) -> list[str]:
    """The names of the chat models of the server at `base_url` (OpenAI's own when None).

    Raises ProviderError, ConfigurationError.
    """
    address = base_url or OPENAI_URL

    async def ask() -> list[str]:
        async with asyncio.timeout(timeout), _client(address, key, timeout, 0) as client:
            return sorted([model.id async for model in client.models.list()])

    try:
        key = _key(address, api_key)
        names = run(ask()).result()
    except Exception as error:
        raise explain(error, "the list of models") from error
    if _is_openais(address):
        names = [name for name in names if not any(word in name for word in NO_CHAT)]
    return names


def explain(error: BaseException, what: str) -> RivuletError:
    """`error` as one that says what a person can do about it."""
    if isinstance(error, RivuletError):
        return error
    match error:
        case openai.AuthenticationError() | openai.PermissionDeniedError():
            text = "The model server refuses the key. Check OPENAI_API_KEY."
        case openai.NotFoundError():
            text = f"The model server does not know {what}. Choose another model."
        case openai.RateLimitError():
            text = "The model server has too many requests, or the quota is used up. Wait a little."
        case openai.BadRequestError() if "context" in str(error).lower():
            return _caused(
                ContextWindowError(
                    f"The prompt does not fit the context window of {what}. Ask a shorter "
                    f"question, or start a new conversation."
                ),
                error,
            )
        case openai.APITimeoutError() | httpx2.TimeoutException() | TimeoutError():
            text = "The model server does not answer in time. Try again, or choose another model."
        case openai.APIConnectionError() | httpx2.TransportError():
            text = (
                "The model server cannot be reached, or is something else. Check OPENAI_BASE_URL "
                "and the connection."
            )
        case openai.APIStatusError():
            text = f"The model server failed with status {error.status_code}. Try again later."
        case openai.APIError() if not isinstance(error, openai.APIResponseValidationError):
            text = "The model server ended the answer with an error. Try again later."
        case _:
            text = (
                f"The model server sent something that cannot be read ({type(error).__name__}). "
                f"Check OPENAI_BASE_URL."
            )
    return _caused(ProviderError(text), error)


def _caused(error: RivuletError, cause: BaseException) -> RivuletError:
    error.__cause__ = cause
    return error


def _is_openais(address: str) -> bool:
    return address.rstrip("/") == OPENAI_URL


def _key(address: str, api_key: str | None) -> str:
    if not api_key and _is_openais(address):
        raise ConfigurationError(
            "OpenAI's models need a key: set OPENAI_API_KEY. For a server without keys set "
            "OPENAI_BASE_URL; without either, the local model answers."
        )
    return api_key or "none"  # the SDK wants a key also where the server does not
