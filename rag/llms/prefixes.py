"""Keys and values that were computed, found again by the tokens they belong to: `Prefixes`.

They are of all who ask. Only what the tokens of somebody's own prompt begin with is ever taken, and
keys and values depend on nothing but the tokens up to them: no text comes from one to another.
"""

from collections.abc import Sequence
from itertools import takewhile

from rag.llms.decoding import Kept

LIMIT = 512 * 2**20
"""Bytes. The default model takes 46 kB a token."""


class Prefixes:
    """What was used last is kept, as much as fits `limit` bytes."""

    def __init__(self, limit: int = LIMIT):
        self._limit = limit
        self._all: list[Kept] = []

    def begin(self, kept: Kept, prompt: Sequence[int]) -> None:
        """Take into `kept` what is known of `prompt`, but for its last token: something has to be
        computed, to know what comes next."""
        lengths = [_common(each.tokens, prompt[:-1]) for each in self._all]
        length = max(lengths, default=0)
        if length:
            found = self._all.pop(lengths.index(length))
            self._all.append(found)
            kept.take(found, length)

    def keep(self, kept: Kept) -> None:
        """What it goes on from is not needed beside it."""
        self._all = [
            each for each in self._all if _common(each.tokens, kept.tokens) < len(each.tokens)
        ]
        self._all.append(kept)
        while sum(each.size for each in self._all) > self._limit:
            self._all.pop(0)

    def forget(self) -> None:
        self._all = []


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
