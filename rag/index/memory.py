"""Zeroed memory for Chroma.

Chroma writes its vector files with room for vectors to come, and never clears that room: what
stood in the process's memory before, such as the text of another person's document, goes to the
disk with it. glibc can be told to clear memory when it hands it out (`M_PERTURB` in mallopt(3)).
Elsewhere there is no such switch, and nothing is done. glibc does not clear small blocks that it
keeps ready; the one file that is made of such a block is overwritten.
"""

import ctypes
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_M_PERTURB = -6
_ZERO = 255
"""New memory is filled with the complement of this byte."""
_mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
_trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
_KEPT_READY = 1032
"""Bytes of the largest block that is handed out uncleared."""
_COUNT = struct.Struct("<iQQQ")
"""How Chroma's `header.bin` begins: version, offset, capacity, number of vectors."""
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


def give_back() -> None:
    """What is free in this process goes back to the system; glibc keeps it otherwise, in pieces.

    While 25 batches were embedded that came to 200 MB. It takes some milliseconds.
    """
    if _trim:
        _trim(0)


def overwrite_unused(folder: Path) -> None:
    """Zero the lengths of vectors in Chroma's `folder` where there are none yet.

    Chroma writes that file with the first vector it is given, and again with the thousandth:
    nobody else may write to the folder meanwhile.
    """
    for lengths in folder.glob("*/length.bin"):
        header = lengths.with_name("header.bin")
        begin = header.read_bytes()[: _COUNT.size] if header.is_file() else b""
        if len(begin) < _COUNT.size:  # a crash while they were written
            continue
        *_, vectors = _COUNT.unpack(begin)
        size = lengths.stat().st_size
        if not vectors and size <= _KEPT_READY:
            with lengths.open("r+b") as file:
                file.write(bytes(size))
