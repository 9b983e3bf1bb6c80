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


def guarded(handler: Callable[..., Any]) -> Callable[..., Any]:
    """`handler`, whose errors Gradio shows as a line, and does not print."""
    if inspect.isasyncgenfunction(handler):

        @functools.wraps(handler)
        async def yields(*values: Any, **named: Any) -> AsyncIterator[Any]:
            with _told():
                async with aclosing(handler(*values, **named)) as found:
                    async for each in found:
                        yield each

        return yields

    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def awaits(*values: Any, **named: Any) -> Any:
            with _told():
                return await handler(*values, **named)

        return awaits

    @functools.wraps(handler)
    def returns(*values: Any, **named: Any) -> Any:
        with _told():
            return handler(*values, **named)

    return returns


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except gr.Error:
        raise
    except RivuletError as error:
        raise gr.Error(str(error), print_exception=False) from error
    except Exception as error:
        number = uuid.uuid4().hex[:8]
        logger.exception("Error %s in the page", number)
        text = f"Something went wrong (error {number} in the log). Try it again."
        raise gr.Error(text, print_exception=False) from error
