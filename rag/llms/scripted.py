"""A model that says what it was given to say: for tests, demos and load tests."""

import re
import time
from collections.abc import Callable, Sequence
from typing import Any

from rag.llms.filters import StopSequences
from rag.llms.protocol import HEARTBEAT, TextStream, check_options
from rag.types import ChatMessage, Completion, FinishReason, Usage

Script = str | Callable[[Sequence[ChatMessage]], str]


class ScriptedLLM:
    """Streams `script` word by word, at `tokens_per_second` (0: as fast as it is read).

    `script` is the text, or a function of the messages. With `error`, it is raised after
    `error_after` words. `calls` keeps the messages of every call and `options` what each set,
    `steps` counts the words that were made in all calls together.
    """

    is_streaming = True
    is_small = False

    def __init__(
        self,
        script: Script = "This is a scripted answer.",
        *,
        tokens_per_second: float = 0,
        first_token: float = 0,
        error: Exception | None = None,
        error_after: int = 0,
        model_name: str = "scripted",
        context_window: int = 8192,
        max_tokens: int = 256,
    ):
        check_options(max_tokens, None)
        self.script = script
        self.model_name = model_name
        self.context_window = context_window
        self.max_tokens = max_tokens
        self.first_token = first_token
        self.pause = 1 / tokens_per_second if tokens_per_second else 0.0
        self.error = error
        self.error_after = error_after
        self.calls: list[list[ChatMessage]] = []
        self.options: list[dict[str, Any]] = []
        self.steps = 0

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        check_options(max_tokens, temperature)
        self.calls.append(list(messages))
        self.options.append({"max_tokens": max_tokens, "temperature": temperature, "stop": stop})
        due = time.monotonic() + self.first_token
        yield ""
        yield from _wait(due)
        text = self.script if isinstance(self.script, str) else self.script(messages)
        words = re.findall(r"\s*\S+\s*$|\s*\S+", text)
        limit = self.max_tokens if max_tokens is None else max_tokens
        stops = StopSequences(stop)
        count = 0
        for word in words[: min(limit, self.error_after) if self.error else limit]:
            count += 1
            self.steps += 1
            yield stops.feed(word)
            if stops.stopped:
                break
            due += self.pause
            yield from _wait(due)
        yield stops.flush()
        if self.error:
            raise self.error
        finish: FinishReason = "length" if count < len(words) and not stops.stopped else "stop"
        prompt_tokens = sum(self.count_tokens(message.content) for message in messages)
        return Completion(finish, Usage(prompt_tokens, count))

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def _wait(until: float) -> TextStream:
    """By the clock, so that who is late is not late for all that follows."""
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, HEARTBEAT))
        if left > HEARTBEAT:
            yield ""
    return Completion("stop")
