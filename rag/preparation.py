"""Something that takes long, done once in the background, with a progress one can read."""

import logging
import threading
from collections.abc import Callable
from typing import Generic, Self, TypeVar

from rag.errors import RivuletError
from rag.weights import Report

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Preparation(Generic[T]):
    """Runs `make` in a thread of its own, from `start` on.

    `make` is given a function to report with: what is being done, and the share of it done.
    """

    def __init__(self, name: str, make: Callable[[Report], T]):
        self.name = name
        self.doing = "waiting"
        self.done = 0.0
        self.error: RivuletError | None = None
        self._make = make
        self._result: T | None = None
        self._finished = threading.Event()
        self._failed = threading.Lock()
        """Held by whoever tries again."""

    def start(self) -> Self:
        threading.Thread(target=self._run, name=f"prepare {self.name}", daemon=True).start()
        return self

    def again(self) -> None:
        """Start once more where it has failed: what was in its way may be gone."""
        with self._failed:
            if self.error:
                self._finished.clear()  # first: who sees no error waits
                self.error = None
                self.start()

    @property
    def ready(self) -> bool:
        return self._result is not None

    @property
    def status(self) -> str:
        """One line for a person, such as "Preparing the local model, 43 %"."""
        if self.error:
            return str(self.error)
        if self.ready:
            return f"{self.name} is ready"
        return f"Preparing {self.name}, {self.done:.0%}".replace("%", " %")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is finished, in whichever way; whether it is."""
        return self._finished.wait(timeout)

    def result(self) -> T:
        """What was made; waits for it. Raises the RivuletError it failed with."""
        self._finished.wait()
        if self.error:
            raise self.error
        assert self._result is not None
        return self._result

    def _report(self, doing: str, done: float) -> None:
        if doing != self.doing:
            logger.info("%s: %s (%.0f %%)", self.name, doing, 100 * done)
        self.doing, self.done = doing, done

    def _run(self) -> None:
        try:
            self._result = self._make(self._report)
            logger.info("%s: ready", self.name)
        except RivuletError as error:
            logger.error("%s: %s", self.name, error)
            self.error = error
        except Exception as error:
            logger.exception("%s could not be prepared", self.name)
            self.error = RivuletError(f"{self.name} could not be prepared: {error}")
        finally:
            self._finished.set()
