"""What goes wrong in a handler is one line for the person; the log has the rest, under a number."""

import functools
import inspect
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import gradio as gr

from rag.errors import RivuletError

logger = logging.getLogger(__name__)


def guarded(handler: Callable[..., Any], strangers: bool = False) -> Callable[..., Any]:
    """`handler`, whose errors Gradio shows as a line, and does not print. `strangers`: whether that
    is shown to others than whoever runs the program."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def yields(*values: Any, **named: Any) -> AsyncIterator[Any]:
            with _told(strangers):
                async with aclosing(handler(*values, **named)) as found:
                    async for each in found:
                        yield each

        return yields

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def awaits(*values: Any, **named: Any) -> Any:
            with _told(strangers):
                return await handler(*values, **named)

        return awaits

    @functools.wraps(handler)
    def returns(*values: Any, **named: Any) -> Any:
        with _told(strangers):
            return handler(*values, **named)

    return returns


@contextmanager
def _told(strangers: bool) -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(as_line(error, strangers), print_exception=False) from error


def as_line(error: Exception, strangers: bool) -> str:
    """What is told of an error; of one that is not ours the log has the rest, under a number."""
    if isinstance(error, RivuletError):
        if not (strangers and error.for_others):
            return str(error)
        logger.error("%s", error)
        return error.for_others
    number = uuid.uuid4().hex[:8]
    logger.error("Error %s in the page", number, exc_info=error)
    return f"Something went wrong (error {number} in the log). Try it again."
