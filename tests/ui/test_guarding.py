"""What goes wrong in a handler, as the person is told of it."""

import asyncio
import inspect
from collections.abc import AsyncIterator

import gradio as gr
import pytest

from rag.errors import DocumentError, RemovedIndexError, StoreError
from rag.ui.guarding import as_line, guarded


def fails(value: int, request: gr.Request) -> int:
    if value == 1:
        raise StoreError("The index is damaged.")
    if value == 2:
        raise gr.Error("As it is.")
    if value == 3:
        raise KeyError("what a document says")
    return value


def told(value: int, strangers: bool = False) -> gr.Error:
    with pytest.raises(gr.Error) as raised:
        guarded(fails, strangers)(value, None)
    return raised.value


def test_what_goes_well_is_as_it_was() -> None:
    assert guarded(fails)(7, None) == 7
    assert inspect.signature(guarded(fails)) == inspect.signature(fails)
    assert guarded(lambda: 1)() == 1


def test_an_error_of_ours_says_what_to_do() -> None:
    error = told(1)
    assert error.message == "The index is damaged."
    assert not error.print_exception
    assert told(2).message == "As it is."


def test_strangers_are_not_told_of_folders_and_addresses(caplog: pytest.LogCaptureFixture) -> None:
    assert told(1, strangers=True).message == StoreError.for_others
    assert caplog.messages == ["The index is damaged."]
    assert told(2, strangers=True).message == "As it is."
    assert as_line(DocumentError("a.pdf", "it is empty."), True) == "a.pdf: it is empty."
    assert as_line(RemovedIndexError("Add it again."), True) == "Add it again."


def test_any_other_is_in_the_log_under_a_number(caplog: pytest.LogCaptureFixture) -> None:
    error = told(3)
    assert "what a document says" not in error.message
    number = error.message.split("error ")[1].split(" ")[0]
    assert number in caplog.text
    assert not error.print_exception


def test_whoever_stops_reading_ends_the_handler() -> None:
    ended = []

    async def counts() -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            ended.append(True)

    async def reads() -> None:
        found = guarded(counts)()
        assert [await anext(found), await anext(found)] == [0, 1]
        await found.aclose()

    asyncio.run(reads())
    assert ended == [True]


def test_one_that_fails_half_way() -> None:
    async def breaks() -> AsyncIterator[int]:
        yield 1
        raise KeyError("x")

    async def reads() -> None:
        found = guarded(breaks)()
        assert await anext(found) == 1
        with pytest.raises(gr.Error, match="in the log"):
            await anext(found)

    asyncio.run(reads())
