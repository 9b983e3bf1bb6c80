"""What a test confines a process by, without the rights that root has: a disk of its own, rights of
files that hold for it.

Where the machine allows none of it the test is skipped, and in CI it fails: there it has to run.
"""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="made by Linux alone")
ROOT = Path(__file__).parents[2]
_OWN = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'


def own_disk(folder: Path, size: str) -> list[str]:
    """Before a command: in `folder` it finds an empty disk of this size, such as "24m"."""
    return _possible(["unshare", "-rm", "sh", "-c", _OWN, str(folder), size])


class Disk:
    """A disk in `folder` of which only those see anything who are sent there by `enter`; what is on
    it outlasts them."""

    def __init__(self, folder: Path, size: str):
        self._keeper = subprocess.Popen(
            [*own_disk(folder, size), "sh", "-c", "echo && exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == b"\n"
        at = ["-t", str(self._keeper.pid), "-U", "-m", "--preserve-credentials"]
        self.enter = ["nsenter", *at, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT)]
        self.seen = Path(f"/proc/{self._keeper.pid}/root{folder}")
        """The folder, as it can be seen from here."""

    def fill(self) -> None:
        """To the last byte."""
        with (self.seen / "fill").open("wb", 0) as file:
            for size in (1 << 16, 1):
                with suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def make_room(self) -> None:
        (self.seen / "fill").unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._keeper.communicate()


def no_override() -> list[str]:
    """Before a command: the rights of files hold for it, also where it is root's."""
    if os.getuid():
        return []
    return _possible(["setpriv", "--bounding-set", "-dac_override,-dac_read_search"])


def _possible(before: list[str]) -> list[str]:
    if shutil.which(before[0]) and not subprocess.run([*before, "true"], check=False).returncode:
        return before
    message = f"{before[0]} is not there, or not allowed here"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
