"""What a test confines a process by, without the rights that root has: a disk of its own, a folder
that cannot be written to.

Where the machine allows none of it the test is skipped, and in CI it fails: there it has to run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="made by Linux alone")
_OWN = 'mount -t tmpfs -o size="$1" none "$0" && shift && exec "$@"'
_READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


def own_disk(folder: Path, size: str) -> list[str]:
    """Before a command: in `folder` it finds an empty disk of this size, such as "24m"."""
    return _possible(["unshare", "-rm", "sh", "-c", _OWN, str(folder), size])


def read_only(folder: Path) -> list[str]:
    """Before a command: it finds `folder` read-only, as one that is mounted so."""
    return _possible(["unshare", "-rm", "sh", "-c", _READ_ONLY, str(folder)])


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
