"""`OpenAI`: the chat models of OpenAI, and of every server that speaks its protocol.

The requests run in one event loop of this module's own, because there a request can be given
up at any moment, also while the server is silent: cancelling it closes its connection.
"""

import asyncio
import functools
import queue
import threading
from collections.abc import Sequence
from typing import Any, cast

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

from rag.errors import ConfigurationError, ContextWindowError, ProviderError, RivuletError
from rag.llms.protocol import TextStream
from rag.llms.relay import Pieces, drain
from rag.types import ChatMessage, Completion, FinishReason, Usage

TIMEOUT = httpx2.Timeout(60.0, connect=10.0)
"""Seconds without a sign of the server. There is no limit on the time of a whole answer."""
NO_CHAT = ("embedding", "whisper", "tts", "dall-e", "image", "audio", "realtime", "moderation")
"""Words in the names of OpenAI's own models that do not chat."""


class OpenAI:
    """The model `model` of the server at `base_url` (OpenAI's own when None).

    A start that fails for a passing reason is tried again by the SDK, with its back-off; a
    stream that has begun never is. Raises ConfigurationError where OpenAI's own server is meant
    and there is no key.
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
        max_retries: int = 2,
    ):
        self.model_name = model
        self.context_window = context_window
        self._own_server = base_url is None
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=_key(base_url, api_key),
            timeout=TIMEOUT,
            max_retries=max_retries,
        )

    def count_tokens(self, text: str) -> int:
        # The tokenizer is the server's. Bytes / 3 is more than what common ones count.
        return len(text.encode()) // 3 + 1

    def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
        pieces: Pieces = queue.Queue()
        request = asyncio.run_coroutine_threadsafe(
            self._request(messages, max_tokens, pieces), _loop()
        )
        try:
            return (yield from drain(pieces))
        finally:
            request.cancel()

    async def _request(
        self, messages: Sequence[ChatMessage], max_tokens: int, pieces: Pieces
    ) -> None:
        try:
            pieces.put(await self._receive(messages, max_tokens, pieces))
        except Exception as error:
            pieces.put(explain(error, self.model_name))

    async def _receive(
        self, messages: Sequence[ChatMessage], max_tokens: int, pieces: Pieces
    ) -> Completion:
        # OpenAI's newer models refuse the older name, most other servers know only that one.
        limit = "max_completion_tokens" if self._own_server else "max_tokens"
        options: dict[str, Any] = {limit: max_tokens}
        stream: openai.AsyncStream[
            ChatCompletionChunk
        ] = await self._client.chat.completions.create(
            model=self.model_name,
            messages=cast(Any, [{"role": m.role, "content": m.content} for m in messages]),
            stream=True,
            stream_options={"include_usage": True},
            **options,
        )
        finish: FinishReason = "truncated"
        usage = None
        begun = False
        async with stream:
            try:
                async for chunk in stream:
                    if chunk.usage:
                        usage = Usage(chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                    for choice in chunk.choices:
                        if choice.delta.content:
                            begun = True
                            pieces.put(choice.delta.content)
                        if choice.finish_reason:
                            finish = "length" if choice.finish_reason == "length" else "stop"
            except openai.APITimeoutError:
                raise
            except openai.APIConnectionError:
                # The connection was cut. What has come is an answer, only not a whole one.
                if not begun:
                    raise
        return Completion(finish, usage)


def list_models(base_url: str | None, api_key: str | None, timeout: float = 5.0) -> list[str]:
    """The names of the server's chat models. Raises ProviderError, ConfigurationError."""
    try:
        with openai.OpenAI(
            base_url=base_url,
            api_key=_key(base_url, api_key),
            timeout=timeout,
            max_retries=0,
        ) as client:
            names = sorted(model.id for model in client.models.list())
    except Exception as error:
        raise explain(error, "the list of models") from error
    if base_url is None:
        names = [name for name in names if not any(word in name for word in NO_CHAT)]
    return names


def explain(error: Exception, what: str) -> RivuletError:
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
        case openai.APITimeoutError() | httpx2.TimeoutException():
            text = "The model server does not answer in time. Try again, or choose another model."
        case openai.APIConnectionError() | httpx2.TransportError():
            text = "The model server cannot be reached. Check OPENAI_BASE_URL and the connection."
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


def _caused(error: RivuletError, cause: Exception) -> RivuletError:
    error.__cause__ = cause
    return error


def _key(base_url: str | None, api_key: str | None) -> str:
    if not api_key and base_url is None:
        raise ConfigurationError(
            "OpenAI's models need a key: set OPENAI_API_KEY. For a server without keys set "
            "OPENAI_BASE_URL; without either, the local model answers."
        )
    return api_key or "none"  # the SDK wants a key also where the server does not


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="openai requests", daemon=True).start()
    return loop
