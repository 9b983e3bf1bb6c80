"""From the tokens of an answer to its text: `Writer`. It knows nothing of how they come to be."""

from collections import deque
from collections.abc import Callable
from typing import Any

from tokenizers.decoders import DecodeStream

from rag.llms.filters import StopSequences

LOOP = 24
"""Tokens which, once written a second time in an answer, end it: a small model that decodes
greedily goes on repeating itself to the length limit."""


class Writer:
    """Tokens in, text out, at a cost for each that does not grow with the answer.

    The text before the first of `stops` goes to `hand_over`; what may yet become one is held back.
    """

    def __init__(self, tokenizer: Any, stops: StopSequences, hand_over: Callable[[str], object]):
        self._backend = tokenizer.backend_tokenizer
        self._decoder = DecodeStream(skip_special_tokens=True)
        self._stops = stops
        self._hand_over = hand_over
        self._recent: deque[int] = deque(maxlen=LOOP)
        self._seen: set[tuple[int, ...]] = set()
        self.last_id: int | None = None
        self.count = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence has come."""
        return self._stops.stopped

    def write(self, id_: int) -> bool:
        """Whether the answer is to end with this token."""
        self.count += 1
        self.last_id = id_
        text = self._decoder.step(self._backend, id_)
        if text and (text := self._stops.feed(text)):
            self._hand_over(text)
        return self.stopped or self._loops(id_)

    def end(self) -> None:
        """Nothing is held back any more, but bytes that never became a character."""
        if rest := self._stops.flush():
            self._hand_over(rest)

    def _loops(self, id_: int) -> bool:
        self._recent.append(id_)
        run = tuple(self._recent)
        if len(run) < LOOP:
            return False
        known = run in self._seen
        self._seen.add(run)
        return known
