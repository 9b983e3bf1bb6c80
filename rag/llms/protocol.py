"""What a language model is to the rest of Rivulet."""

import re
from collections.abc import Generator, Sequence
from typing import Protocol

from rag.errors import ConfigurationError
from rag.types import ChatMessage, Completion, Prefill, Queued, Reasoning

TextStream = Generator[str | Reasoning | Queued | Prefill, None, Completion]
"""Text as the model writes it, then (as the generator's return value) how it ended.

- The first item comes once the model has begun (its request sent, its prefill begun), and may
  be empty. A generator does nothing before its first `next()`.
- Items may be empty: they carry no text, and come at least every `HEARTBEAT` seconds while the
  model is silent, so that whoever reads can stop between two tokens.
- What a server marks as the model's reasoning comes as `Reasoning`. Tags in the text are left
  in it: the engine takes them apart (`filters.ReasoningTags`).
- `Queued` tells what a call waits for, and `Prefill` how much of a long prompt has been read,
  where the model knows it.
- Closing the generator stops the model within about one token.
"""

HEARTBEAT = 0.1
"""Seconds after which a silent stream yields an empty text."""


class LLM(Protocol):
    """A language model."""

    model_name: str
    context_window: int
    """Tokens that prompt and answer may have together."""
    max_tokens: int
    """Tokens of an answer where a call sets no limit of its own."""
    is_streaming: bool
    """False for a model that gives its text only when it is whole."""

    is_small: bool
    """True below a billion parameters. Such a model is lost in much text: it is given no earlier
    turns, which it would repeat."""

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        stop: Sequence[str] = (),
    ) -> TextStream:
        """Answer `messages` in at most `max_tokens` tokens, ending before any text of `stop`.

        An option that is not given is the model's own; a text as `stop` is one sequence. Raises
        ModelError, or ConfigurationError for an option that no model takes (`check_options`),
        and only while it is iterated.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Tokens of `text` as this model counts them, or a little more."""
        ...


def check_options(max_tokens: int | None, temperature: float | None) -> None:
    """Raises ConfigurationError for values that no model takes."""
    if max_tokens is not None and max_tokens < 1:
        raise ConfigurationError(
            f"max_tokens cannot be {max_tokens}: give at least 1, or leave it out."
        )
    if temperature is not None and not temperature >= 0:  # nor what is no number
        raise ConfigurationError(
            f"temperature cannot be {temperature}: give 0 or more, or leave it out."
        )


_PART = re.compile(
    r"""
    [ ]?  # a space before a letter or a sign belongs to it
    (?:
        [A-Z]? (?:[ct]h | [b-df-hj-np-tv-xz])? [aeiouy] (?:n[dt] | [b-df-hj-np-tv-xz])?
        | [A-Za-z]  # out of such a syllable
        | [!-/:-@\[-`{-~]
    )
    | [ ](?=[0-9]) | [ ]{1,4}(?![0-9])
    | [^A-Za-z ]
    """,
    re.VERBOSE,
)


def estimate_tokens(text: str) -> int:
    """Tokens of `text` where the tokenizer is elsewhere: rather too many.

    A token is counted for each short syllable of ASCII letters, each letter beside one, digit
    and sign, and each byte of any other character, of which no tokenizer of bytes makes more. For
    letters that is what was measured: not less than the tokenizers of SmolLM2, GPT-3 to GPT-4o,
    Claude (the published one) and DeepSeek counted in prose of 45 languages, code, tables,
    addresses, base64, and letters drawn at random; but syllables that no language has can have
    more. It is about twice SmolLM2's count of English prose, up to 3 times that of other
    scripts, and still more of the newest tokenizers'.
    """
    parts = len(_PART.findall(text))
    return parts + len(text.encode("utf-8", "surrogatepass")) - len(text) + 1
