"""What fits a model's window: passages, the best first; then the conversation, the newest first.

Knows nothing of what the prompts say.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence

from semantic_text_splitter import TextSplitter

from rag.errors import ContextWindowError
from rag.llms.protocol import LLM
from rag.types import ChatMessage

MESSAGE_TOKENS = 8
"""Tokens that a chat template adds to each message, or a little less."""
TEMPLATE_TOKENS = 48
"""Tokens that it may add once: many begin with a system message of their own."""
LEAST = 16
"""Tokens below which a piece of a passage says nothing, and the window is called too small."""
JOINT = "\n\n"

Render = Callable[[str], list[ChatMessage]]
"""The messages of a call, with a text in the place of its context."""


class Passages:
    """Texts in the order of their rank, taken from the front as a model's window allows."""

    def __init__(self, texts: Iterable[str]):
        self._waiting = deque(texts)
        self._begun = False
        self.total = len(self._waiting)
        self.ends: list[int] = []
        """Where each text ends in what was taken last."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def number(self) -> int:
        """Which of `total`, from 1, was the last to be taken, wholly or in part."""
        return self.total - len(self._waiting) + self._begun

    @property
    def characters(self) -> int:
        """How many are left."""
        return sum(map(len, self._waiting))

    def take(self, llm: LLM, render: Render, max_tokens: int, *, pack: bool = True) -> str:
        """As many texts as fit a call, joined by a blank line; one at most unless `pack`.

        `render(context)` and an answer of `max_tokens` are together within the window of `llm`.
        A text that does not fit by itself is cut at the end of a paragraph, a sentence or a
        word; its rest is the next to be taken. Raises ContextWindowError where next to nothing
        fits beside the rest of the call.
        """

        def room(context: str) -> int:
            return left_beside(llm, render(context), max_tokens)

        taken = ""
        self.ends = []
        while self._waiting:
            longer = JOINT.join((taken, self._waiting[0])) if taken else self._waiting[0]
            if room(longer) < 0:
                break
            taken = longer
            self.ends.append(len(taken))
            self._waiting.popleft()
            self._begun = False
            if not pack:
                break
        if taken or not self._waiting:
            return taken
        return self._cut(llm, room)

    def _cut(self, llm: LLM, room: Callable[[str], int]) -> str:
        text, size = self._waiting[0], room("")
        if size < LEAST:
            size = 0  # a piece would say nothing
        while size > 0:
            splitter = TextSplitter.from_callback(llm.count_tokens, size)
            offset, piece = splitter.chunk_indices(text)[0]
            if room(piece) >= 0:
                self._waiting.popleft()
                rest = text[offset + len(piece) :].lstrip()
                if rest:
                    self._waiting.appendleft(rest)
                self._begun = bool(rest)
                self.ends = [len(piece)]
                return piece
            # A whole prompt can have more tokens than its parts; a template may repeat them.
            size -= 1 + size // 16
        raise ContextWindowError(
            f"The question leaves no room for a passage in the {llm.context_window} tokens "
            f"that {llm.model_name} reads and writes together. Shorten the question or the "
            f"answer's length limit, or choose a model with a larger window."
        )


def left_beside(llm: LLM, messages: Iterable[ChatMessage], max_tokens: int) -> int:
    """Tokens of the window that `messages` and an answer of `max_tokens` leave; may be negative."""
    used = sum(llm.count_tokens(message.content) + MESSAGE_TOKENS for message in messages)
    return llm.context_window - max_tokens - TEMPLATE_TOKENS - used


def newest(history: Sequence[ChatMessage], llm: LLM, room: int) -> list[ChatMessage]:
    """As much of `history` as `room` tokens hold, cut from its oldest end."""
    kept: list[ChatMessage] = []
    for message in reversed(history):
        room -= llm.count_tokens(message.content) + MESSAGE_TOKENS
        if room < 0:
            break
        kept.insert(0, message)
    if kept and kept[0].role == "assistant":  # its question was cut off
        kept.pop(0)
    return kept
