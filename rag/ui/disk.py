"""How much room the sessions take on the disk, and how much they may. Knows nothing of gradio."""

import shutil
import threading
import time
from pathlib import Path

from rag.config import Config

FRESH = 20.0
"""Seconds after which it is looked again how much is there."""


SPARE = 20_000_000
"""Bytes of the disk that are left free: for conversations, and for what Chroma writes besides."""


class Disk:
    """The room below some folders: `limit` bytes in all, 0 for as much as the disk has."""

    def __init__(self, *folders: Path, limit: int, setting: str):
        self.folders, self.limit, self.setting = folders, limit, setting
        self._lock = threading.Lock()
        self._used, self._when, self._coming = 0, 0.0, 0

    @classmethod
    def of(cls, config: Config) -> "Disk":
        """What all sessions and uploads take together."""
        folders = config.data_dir / "sessions", config.data_dir / "uploads"
        return cls(*folders, limit=config.max_disk_mb * 1_000_000, setting="RAG_MAX_DISK_MB")

    def refuses(self, coming: int) -> str:
        """Why there is no room for so many bytes more; "" where there is. They count from now on,
        before they are there."""
        if _free(self.folders[0]) < coming + SPARE:
            return "There is no room for it: the disk is full. Make room on it, then add it again."
        if not self.limit:
            return ""
        with self._lock:
            if not self._when or time.monotonic() - self._when > FRESH:
                self._used, self._coming = sum(map(size_of, self.folders)), 0
                self._when = time.monotonic()
            if self._used + self._coming + coming > self.limit:
                return (
                    "There is no room for it: all that is kept here may take "
                    f"{self.limit / 1e6:,.0f} MB. Remove documents, or raise {self.setting}."
                )
            self._coming += coming
        return ""


def _free(folder: Path) -> float:
    """Bytes that can be written on its disk; the folder need not be there yet."""
    there = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    try:
        return shutil.disk_usage(there).free
    except OSError:  # writing will tell
        return float("inf")


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; those that vanish meanwhile are not counted."""
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            found = path.stat(follow_symlinks=False)
        except OSError:
            continue
        total += found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size
    return total
