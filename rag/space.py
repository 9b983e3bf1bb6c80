"""What a Hugging Face Space with ZeroGPU needs: a GPU that is there only while it is borrowed.

A function that is decorated by `spaces.GPU` runs in a process that is forked for it and has the
GPU; what it yields is pickled on its way back. So what computes a text there is a generator, and
the text comes out of it as anywhere else. Without ZeroGPU nothing here does anything.

It was tried with a double of that package, not on a Space (docs/decisions.md). Knows nothing of
what is computed.
"""

import importlib
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from rag.errors import ModelError, RivuletError
from rag.types import Completion, Prefill

SECONDS = 60
"""For which the GPU is borrowed at most; whoever asks has so much less of it left."""
HEARTBEAT = 0.1
"""Seconds after which the reader is given something, so that it can stop."""

Piece = str | Prefill
Compute = Callable[..., Completion]
"""Takes what it needs, an event that stops it, and a function that takes the pieces of text."""

_decorate: Callable[[Any], Any] | None = None


def borrow_gpus() -> None:
    """From now on models borrow their GPU. To be called before gradio and torch are loaded, on a
    Space with ZeroGPU, which has the package `spaces`. Raises ImportError elsewhere."""
    global _decorate
    _decorate = importlib.import_module("spaces").GPU(duration=SECONDS)
    _decorate(_nothing)  # without any such function, the Space is not started


def is_borrowing() -> bool:
    """Whether a GPU is there only while it is borrowed; what computes little stays without."""
    return _decorate is not None


def borrowing(compute: Compute) -> Compute | None:
    """`compute`, run where the GPU is; None where none is borrowed.

    Its last two arguments are the event and the function that takes the pieces.
    """
    if not _decorate:
        return None

    def in_its_process(*arguments: Any) -> Iterator[Piece | Completion | RivuletError]:
        yield from _pieces(compute, arguments)

    decorated = _decorate(in_its_process)

    def borrowed(*arguments: Any) -> Completion:
        *rest, stopped, hand_over = arguments
        with closing(decorated(*rest)) as pieces:
            for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
                if isinstance(piece, RivuletError):
                    raise piece
                if stopped.is_set():
                    return Completion("stopped")
                if piece:
                    hand_over(piece)
        raise ModelError("The GPU was taken away before the answer was there. Ask again.")

    return borrowed


def _pieces(
    compute: Compute, arguments: tuple[Any, ...]
) -> Iterator[Piece | Completion | RivuletError]:
    """What `compute` hands over, then what it returns or raises; closing it stops it."""
    pieces: queue.SimpleQueue[Piece | Completion | RivuletError] = queue.SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        try:
            pieces.put(compute(*arguments, stopped, pieces.put))
        except RivuletError as error:
            pieces.put(error)
        except Exception as error:  # of others only the name would come through
            pieces.put(ModelError(f"The model failed: {error}. Ask again, or choose another."))

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            try:
                piece = pieces.get(timeout=HEARTBEAT)
            except queue.Empty:
                yield ""
                continue
            yield piece
            if isinstance(piece, Completion | RivuletError):
                return
    finally:
        stopped.set()
        worker.join()


def _nothing() -> None:
    """What is decorated before there is a model."""
