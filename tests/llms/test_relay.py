"""How text comes from a thread to the generator that is read."""

import queue
import threading

import pytest

from rag.errors import ProviderError
from rag.llms.relay import Pieces, drain
from rag.types import Completion, Reasoning


def filled(*pieces: str | Reasoning | Completion | Exception) -> Pieces:
    result: Pieces = queue.Queue()
    for piece in pieces:
        result.put(piece)
    return result


def test_text_then_the_completion() -> None:
    done = Completion("length")
    stream = drain(filled("a", "b", done, "after the end"))
    assert [next(stream), next(stream), next(stream)] == ["", "a", "b"]
    with pytest.raises(StopIteration) as end:
        next(stream)
    assert end.value.value is done


def test_reasoning_comes_as_it_is() -> None:
    stream = drain(filled(Reasoning("hm"), "a", Completion("stop")))
    assert list(stream) == ["", Reasoning("hm"), "a"]


def test_the_first_item_does_not_wait() -> None:
    assert next(drain(queue.Queue())) == ""


def test_silence_yields_empty_texts() -> None:
    pieces: Pieces = queue.Queue()
    stream = drain(pieces)
    assert [next(stream) for _ in range(3)] == ["", "", ""]
    threading.Timer(0.05, pieces.put, ["late"]).start()
    assert next(text for text in stream if text) == "late"


def test_text_before_an_error_is_delivered() -> None:
    failure = ProviderError("gone")
    stream = drain(filled("a", "b", failure))
    assert [next(stream) for _ in range(3)] == ["", "a", "b"]
    with pytest.raises(ProviderError) as caught:
        next(stream)
    assert caught.value is failure
