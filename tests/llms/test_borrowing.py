"""Answers of a borrowed GPU, with a double of the package `spaces` that forks a process, too."""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from rag import space
from rag.errors import ContextWindowError, ModelError, RivuletError
from rag.llms.borrowing import borrowing
from rag.llms.huggingface import HuggingFaceLLM
from rag.space import borrow_gpus
from rag.types import ChatMessage, Completion, Usage

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing is forked there")


def lent(task: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """What `spaces.GPU` makes of a generator: what goes in and out is pickled, and closing is seen
    at the next one."""

    @wraps(task)
    def handler(*arguments: Any) -> Iterator[Any]:
        fork = multiprocessing.get_context("fork")
        results: Any = fork.SimpleQueue()
        given: Any = fork.SimpleQueue()
        stop = fork.Event()

        def work() -> None:
            pieces = task(*given.get())
            for piece in pieces:
                if stop.is_set():
                    pieces.close()  # type: ignore[attr-defined]
                    break
                results.put((piece,))
            results.put(None)

        process = fork.Process(target=work, daemon=True)
        process.start()
        given.put(arguments)
        try:
            while result := results.get():
                yield result[0]
        except GeneratorExit:
            stop.set()
            raise
        finally:
            process.join()

    return handler


@pytest.fixture
def spaces(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The functions that are decorated, with a Space that has ZeroGPU."""
    decorated: list[Any] = []

    def gpu(duration: int) -> Callable[[Any], Any]:
        return lambda task: decorated.append(task) or lent(task)

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))  # type: ignore[arg-type]
    monkeypatch.setattr(space, "_decorate", None)
    return decorated


def compute(
    words: Sequence[str], pause: float, stopped: threading.Event, hand_over: Callable[[str], None]
) -> Completion:
    hand_over(f"{os.getpid()} ")
    for word in words:
        if stopped.wait(pause):
            return Completion("stopped")
        if word == "too long":
            raise ContextWindowError("It does not fit.")
        if word == "broken":
            raise KeyError("broken")
        hand_over(word)
    return Completion("stop", Usage(1, len(words)))


def test_without_zero_gpu_nothing_is_borrowed() -> None:
    assert borrowing(compute) is None


def test_a_text_comes_out_of_another_process_piece_by_piece(spaces: list[Any]) -> None:
    borrow_gpus()
    came: list[tuple[float, str]] = []
    borrowed = borrowing(compute)
    assert borrowed
    done = borrowed(
        ["a", "b", "c"], 0.2, threading.Event(), lambda text: came.append((time.monotonic(), text))
    )
    assert done == Completion("stop", Usage(1, 3))
    (_, process), *pieces = came
    assert int(process) != os.getpid()
    assert [text for _, text in pieces] == ["a", "b", "c"]
    assert pieces[-1][0] - pieces[0][0] > 0.2


def test_it_is_stopped_between_two_words(spaces: list[Any]) -> None:
    borrow_gpus()
    borrowed = borrowing(compute)
    assert borrowed
    stopped = threading.Event()
    threading.Timer(0.5, stopped.set).start()
    begun = time.monotonic()
    assert borrowed(["a"], 60.0, stopped, lambda _: None) == Completion("stopped")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("word", "kind", "says"),
    [("too long", ContextWindowError, "does not fit"), ("broken", ModelError, "Ask again")],
)
def test_what_goes_wrong_there_is_told_here(
    spaces: list[Any], word: str, kind: type[RivuletError], says: str
) -> None:
    borrow_gpus()
    borrowed = borrowing(compute)
    assert borrowed
    with pytest.raises(kind, match=says):
        borrowed([word], 0.0, threading.Event(), lambda _: None)


@pytest.mark.slow
def test_the_local_model_borrows_it(
    models_dir: Path, smollm_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: a fork of one that has computed already may wait for ever on a CPU."""
    used = []
    monkeypatch.setattr(space, "_decorate", lambda task: lambda *a: used.append(task) or task(*a))
    llm = HuggingFaceLLM(max_new_tokens=8, models_dir=models_dir)
    assert "".join(filter(None, llm.stream([ChatMessage("user", "Say hello.")])))
    assert used
