"""A model that says what it was given to say: for tests, demos and load tests."""

import re
import time
from collections.abc import Callable, Sequence

from rag.llms.protocol import HEARTBEAT, TextStream
from rag.types import ChatMessage, Completion, FinishReason, Usage

Script = str | Callable[[Sequence[ChatMessage]], str]


class ScriptedLLM:
    """Streams `script` word by word, at `tokens_per_second` (0: as fast as it is read).

    `script` is the text, or a function of the messages. With `error`, it is raised after
    `error_after` words. `calls` keeps the messages of every call, `steps` counts the words
    that were made in all calls together.
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
    ):
        self.script = script
        self.model_name = model_name
        self.context_window = context_window
        self.first_token = first_token
        self.pause = 1 / tokens_per_second if tokens_per_second else 0.0
        self.error = error
        self.error_after = error_after
        self.calls: list[list[ChatMessage]] = []
        self.steps = 0

    def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
        self.calls.append(list(messages))
        yield ""
        yield from _wait(self.first_token)
        text = self.script if isinstance(self.script, str) else self.script(messages)
        prompt_tokens = sum(self.count_tokens(message.content) for message in messages)
        finish: FinishReason = "stop"
        count = 0
        for count, word in enumerate(re.findall(r"\s*\S+\s*$|\s*\S+", text), start=1):
            if self.error and count > self.error_after:
                raise self.error
            if count > max_tokens:
                count, finish = max_tokens, "length"
                break
            self.steps += 1
            yield word
            yield from _wait(self.pause)
        if self.error and count <= self.error_after:
            raise self.error
        return Completion(finish, Usage(prompt_tokens, count))

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def _wait(seconds: float) -> TextStream:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, HEARTBEAT))
        yield ""
    return Completion("stop")
