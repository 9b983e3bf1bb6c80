"""Places on the disk that one process has at a time, and which one that is."""

import os
import platform
from contextlib import suppress
from pathlib import Path

from filelock import FileLock


def hold(file: Path, patience: float) -> FileLock:
    """Lock `file` until `release`, or until this process ends, however it does.

    Waits `patience` seconds for another process to give it back; then raises filelock's Timeout.
    Raises OSError where the file cannot be made.
    """
    lock = FileLock(file, patience, thread_local=False)  # it goes with whoever has it
    lock.acquire()
    with suppress(OSError):  # on a full disk it is held all the same
        file.write_text(f"process {os.getpid()} on {platform.node()}", "utf-8")
    return lock


def holder(file: Path) -> str:
    """The process that has locked `file`, as a person can find it."""
    with suppress(OSError, ValueError):  # some systems let nobody else read it
        if named := file.read_text("utf-8"):
            return named
    return "another process"
