"""Zeroed memory for Chroma.

Chroma writes its vector files with room for vectors to come, and never clears that room: what
stood in the process's memory before, such as the text of another person's document, goes to the
disk with it. glibc can be told to clear memory when it hands it out (`M_PERTURB` in mallopt(3)).
Elsewhere there is no such switch, and nothing is done.
"""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_M_PERTURB = -6
_ZERO = 255
"""New memory is filled with the complement of this byte."""
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
_lock = threading.Lock()
_inside = 0


@contextmanager
def zeroed_memory() -> Iterator[None]:
    """What is allocated inside, in whichever thread, is zero. It slows that down a little."""
    _enter(1)
    try:
        yield
    finally:
        _enter(-1)


def _enter(number: int) -> None:
    global _inside
    with _lock:
        _inside += number
        if _mallopt:
            _mallopt(_M_PERTURB, _ZERO if _inside else 0)
