"""A GPU that a Hugging Face Space lends for each answer (ZeroGPU), and keeps from all else.

A function that is decorated by `spaces.GPU` runs in a process that is forked for it and has the
GPU; what it yields is pickled on its way back. Without ZeroGPU nothing here does anything.

It was tried with a double of that package, not on a Space (docs/decisions.md). Knows nothing of
what is computed.
"""

import importlib
from collections.abc import Callable, Generator
from typing import Any

SECONDS = 60
"""For which the GPU is borrowed at most; whoever asks has so much less of it left."""

Task = Callable[..., Generator[Any]]

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


def on_gpu(task: Task) -> Task:
    """`task`, run in a process that has the GPU. What it is given and yields has to be pickled,
    what it returns is lost, and closing it is seen there at the next thing it yields."""
    assert _decorate
    decorated: Task = _decorate(task)
    return decorated


def _nothing() -> None:
    """What is decorated before there is a model."""
