"""Who has the data folder: any number of running programs, or one that examines or copies it."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import ReadWriteLock, Timeout

from rag.errors import ConfigurationError

LOCK = "lock.db"
PATIENCE = 2.0
"""Seconds to wait: another process may be about to end."""


@contextmanager
def in_use(data_dir: Path) -> Iterator[None]:
    """While a program runs with this folder. Raises ConfigurationError while it is examined."""
    with _held(data_dir, alone=False):
        yield


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """While nobody else may touch it. Raises ConfigurationError where a program runs with it."""
    with _held(data_dir, alone=True):
        yield


@contextmanager
def _held(data_dir: Path, *, alone: bool) -> Iterator[None]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = ReadWriteLock(data_dir / LOCK, is_singleton=False)
        held = (lock.acquire_write if alone else lock.acquire_read)(PATIENCE)
    except Timeout as error:
        who = "Rivulet is running with" if alone else "Another process examines or copies"
        raise ConfigurationError(
            f"{who} the folder {data_dir}. Wait for its end, or end it, and try again."
        ) from error
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(
            f"The folder {data_dir} cannot be used ({getattr(error, 'strerror', None) or error}). "
            f"Choose another by --data-dir."
        ) from error
    with held:
        yield
