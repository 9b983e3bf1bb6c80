"""An answer that is computed where a borrowed GPU is, and comes out of that process as it goes on.

Of an exception only the name would come through, and nothing of what is returned: so both travel as
pieces. Knows nothing of models.
"""

import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from rag.errors import ModelError, RivuletError
from rag.llms.relay import Pieces, drain
from rag.space import is_borrowing, on_gpu
from rag.types import Completion

Compute = Callable[..., Completion]
"""Takes what it needs, an event that stops it, and a function that takes the pieces of text."""


def borrowing(compute: Compute) -> Compute | None:
    """`compute`, run where the GPU is; None where none is borrowed."""
    if not is_borrowing():
        return None

    def in_its_process(*arguments: Any) -> Generator[Any]:
        yield from _pieces(compute, arguments)

    # Not _pieces itself: each model has a function of its own, and so a process.
    task = on_gpu(in_its_process)

    def borrowed(*arguments: Any) -> Completion:
        *rest, stopped, hand_over = arguments
        with closing(task(*rest)) as pieces:
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


def _pieces(compute: Compute, arguments: tuple[Any, ...]) -> Generator[Any]:
    """What `compute` hands over, empty texts meanwhile, then what it returns or raises; closing it
    stops it."""
    pieces: Pieces = queue.Queue()
    stopped = threading.Event()

    def work() -> None:
        try:
            pieces.put(compute(*arguments, stopped, pieces.put))
        except Exception as error:
            pieces.put(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        yield (yield from drain(pieces))
    except RivuletError as error:
        yield error
    except Exception as error:
        yield ModelError(f"The model failed: {error}. Ask again, or choose another.")
    finally:
        stopped.set()
        worker.join()
