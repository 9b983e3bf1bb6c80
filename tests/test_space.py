"""Whether a GPU is borrowed, with a double of the package `spaces`. How is in llms/."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from rag import space
from rag.space import SECONDS, borrow_gpus, is_borrowing, on_gpu


def test_without_zero_gpu_nothing_is_borrowed() -> None:
    assert not is_borrowing()


def test_without_the_package_it_is_an_import_error() -> None:
    with pytest.raises(ImportError):
        borrow_gpus()


def test_with_it_a_function_is_decorated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Space without any is not started."""
    decorated: list[tuple[Any, int]] = []

    def gpu(duration: int) -> Any:
        return lambda task: decorated.append((task, duration)) or task

    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=gpu))  # type: ignore[arg-type]
    monkeypatch.setattr(space, "_decorate", None)
    borrow_gpus()
    assert is_borrowing()
    assert len(decorated) == 1

    def task() -> Any:
        yield

    assert on_gpu(task) is task
    assert decorated[1:] == [(task, SECONDS)]
