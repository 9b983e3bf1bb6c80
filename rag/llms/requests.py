"""Requests that can be given up at any moment, also while nothing comes.

A thread that waits for a socket cannot be interrupted, a coroutine can: requests are coroutines,
in one event loop with a thread of its own. Knows nothing of whom they ask.
"""

import asyncio
import functools
import os
import queue
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from rag.errors import ProviderError
from rag.llms.filters import StopSequences
from rag.llms.protocol import TextStream
from rag.llms.relay import Pieces, drain
from rag.types import Completion, FinishReason, Reasoning

LONGEST = 1_000_000
"""Characters of an answer, which a server that does not heed its limit in tokens is held to."""
THREADS = 32
"""Calls that wait in a thread at once: look-ups of names, models without asynchronous forms."""
LENGTH = ("length", "max_tokens", "max_output_tokens")
FILTERED = ("content_filter", "content_filtered", "refusal", "safety", "prohibited_content")
CUT = ("abort", "error", "insufficient_system_resource")
"""Providers' words for an answer's end, in small letters: at a limit, by a filter, by a fault."""

T = TypeVar("T")

_starting = threading.RLock()  # the collector may close something in the middle of a start
_loops: list[asyncio.AbstractEventLoop] = []
"""Never dropped: a forked process shares the sockets of its parent's, which closing would touch."""


class Outlet:
    """Where a request puts what it receives: it lets text through up to the first of `stop`."""

    def __init__(self, pieces: Pieces, stop: Sequence[str]):
        self._pieces = pieces
        self._text = StopSequences(stop)
        self._length = 0

    @property
    def ended(self) -> FinishReason | None:
        """Why what follows is not wanted: the text has come to one of `stop`, or is too long."""
        if self._text.stopped:
            return "stop"
        return "length" if self._length > LONGEST else None

    def put(self, piece: str | Reasoning) -> None:
        self._length += len(piece if isinstance(piece, str) else piece.text)
        shown = self._text.feed(piece) if isinstance(piece, str) else piece
        if shown:
            self._pieces.put(shown)

    def end(self, how: Completion | Exception) -> None:
        if kept_back := self._text.flush():
            self._pieces.put(kept_back)
        self._pieces.put(how)


Receive = Callable[[Outlet], Coroutine[Any, Any, Completion]]
Explain = Callable[[BaseException], Exception]


def request(receive: Receive, explain: Explain, stop: Sequence[str] = ()) -> TextStream:
    """What `receive` puts into its outlet; what it returns is returned.

    What it raises is raised as `explain` makes of it. Closing the generator cancels it at once.
    """
    pieces: Pieces = queue.Queue()
    running = run(_run(receive, explain, Outlet(pieces, stop)))
    try:
        return (yield from drain(pieces))
    finally:
        running.cancel()


def run(coroutine: Coroutine[Any, Any, T]) -> Future[T]:
    """Begin it in the loop, and do not wait for it."""
    return asyncio.run_coroutine_threadsafe(coroutine, _loop())


async def _run(receive: Receive, explain: Explain, outlet: Outlet) -> None:
    task = asyncio.current_task()
    try:
        outlet.end(await receive(outlet))
    except BaseException as error:  # whatever it is: the reader waits, and the loop goes on
        # Kept for a reader that is gone, it would keep alive what the request had in hand.
        if not (task and task.cancelling()):
            outlet.end(explain(error))


def finish_reason(word: str) -> FinishReason:
    """What a provider's word for the end of an answer means.

    Raises ProviderError where the provider took the rest away: that answer is not whole.
    """
    word = word.lower()
    if word in FILTERED:
        raise ProviderError(
            "The provider's content filter ended the answer. Ask in other words, or choose "
            "another model."
        )
    if word in CUT:
        return "truncated"
    return "length" if word in LENGTH else "stop"


def _loop() -> asyncio.AbstractEventLoop:
    with _starting:
        return _started()


@functools.cache
def _started() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # Python's own choice (cores + 4) is used up by a few models that are silent.
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "requests"))
    threading.Thread(target=loop.run_forever, name="requests", daemon=True).start()
    _loops.append(loop)
    return loop


def _forked() -> None:
    """Let the next request start a loop: of the old one a forked process has not the thread."""
    global _starting
    _starting = threading.RLock()
    _started.cache_clear()


os.register_at_fork(after_in_child=_forked)
