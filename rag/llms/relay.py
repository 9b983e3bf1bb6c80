"""How text comes from the thread that makes it to the generator that is read."""

import queue

from rag.llms.protocol import HEARTBEAT, TextStream
from rag.types import Completion, Prefill, Queued, Reasoning

Pieces = queue.Queue[str | Reasoning | Queued | Prefill | Completion | Exception]
"""Text, any number of times; then one Completion or one exception."""


def drain(pieces: Pieces) -> TextStream:
    """Yield the text in `pieces` as it comes, an empty text while none does.

    Returns the Completion, or raises the exception, that ends it.
    """
    yield ""
    while True:
        try:
            piece = pieces.get(timeout=HEARTBEAT)
        except queue.Empty:
            yield ""
            continue
        if isinstance(piece, Completion):
            return piece
        if isinstance(piece, Exception):
            raise piece
        yield piece
