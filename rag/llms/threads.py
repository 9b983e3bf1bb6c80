"""How many threads are best for a small piece of work: `Threads` tries.

Threads share the work, and wait for each other: where they sleep meanwhile, waking one may take as
long as its share. Which is more depends on the size of the work, on the machine, and on what else
it does at the time, so it is measured while the work is done.
"""

from collections import deque
from collections.abc import Mapping
from itertools import cycle
from statistics import median

TRIES = 5
"""Durations of which the median counts."""
AGAIN = 8
"""Each that many times the next number in turn is taken: what was best may be no longer."""


class Threads:
    """Numbers of threads up to `most`, for work of one size, by how long it took with each."""

    def __init__(self, most: int):
        self.most = most
        powers = (2**each for each in range(most.bit_length()))
        self._took: Mapping[int, deque[float]] = {
            number: deque(maxlen=TRIES) for number in sorted({*powers, most})
        }
        self._in_turn = cycle(self._took)
        self._times = 0

    @property
    def best(self) -> int:
        tried = [number for number, took in self._took.items() if took]
        return min(tried, key=lambda number: median(self._took[number]), default=self.most)

    def next(self) -> int:
        """The number to take this time."""
        new = min(self._took, key=lambda number: len(self._took[number]))
        if len(self._took[new]) < TRIES:
            return new
        self._times += 1
        return self.best if self._times % AGAIN else next(self._in_turn)

    def took(self, number: int, seconds: float) -> None:
        self._took[number].append(seconds)
