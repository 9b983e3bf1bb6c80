"""What a language model is to the rest of Rivulet."""

from collections.abc import Generator, Sequence
from typing import Protocol

from rag.types import ChatMessage, Completion

TextStream = Generator[str, None, Completion]
"""Text as the model writes it, then (as the generator's return value) how it ended.

- The first item comes once the model has begun (its request sent, its prefill begun), and may
  be empty. A generator does nothing before its first `next()`.
- Items may be empty: they carry no text, and come at least every `HEARTBEAT` seconds while the
  model is silent, so that whoever reads can stop between two tokens.
- Closing the generator stops the model within about one token.
"""

HEARTBEAT = 0.1
"""Seconds after which a silent stream yields an empty text."""


class LLM(Protocol):
    """A language model that streams."""

    model_name: str
    context_window: int
    """Tokens that prompt and answer may have together."""
    is_streaming: bool
    """False for a model that cannot stream; asking it to raises NotImplementedError."""

    is_small: bool
    """True below a billion parameters. Such a model is lost in much text: it is given the best
    passage alone, and no earlier turns, which it would repeat."""

    def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
        """Answer `messages` in at most `max_tokens` tokens.

        Raises ModelError, and only while it is iterated.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as this model counts them, or a little more."""
        ...
