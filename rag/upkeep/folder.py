"""Who has the data folder: one process at a time, be it a page or what examines or copies it.

Two would write over each other's conversations, and take each other's half-written files away.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import Timeout

from rag.errors import ConfigurationError
from rag.index.holding import hold, holder

LOCK = "lock"
PATIENCE = 2.0
"""Seconds to wait: another process may be about to end."""


@contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """While nobody else may use the folder. Raises ConfigurationError where another process has it,
    or it cannot be used; one that was killed has it no longer."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = hold(data_dir / LOCK, PATIENCE)
    except Timeout as error:
        raise ConfigurationError(
            f"The folder {data_dir} is in use by {holder(data_dir / LOCK)}: a running page, or "
            f"what examines or copies it. End that, or choose another folder by --data-dir."
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"The folder {data_dir} cannot be used ({error.strerror or error}). Choose another by "
            f"--data-dir."
        ) from error
    with lock:
        yield
