"""Who has a place, as processes see it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from rag.index.holding import hold, holder

HOLD = """
import sys, time
from pathlib import Path
from rag.index.holding import hold
lock = hold(Path(sys.argv[1]), 5)
print("held", flush=True)
time.sleep(60)
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="nobody else may read it there")
def test_whoever_has_it_is_named(tmp_path: Path, other: "subprocess.Popen[bytes]") -> None:
    with pytest.raises(Timeout):
        hold(tmp_path / "lock", 0)
    assert holder(tmp_path / "lock").startswith(f"process {other.pid} on ")


@pytest.mark.skipif(sys.platform == "win32", reason="nothing kills there like this")
def test_one_that_was_killed_has_it_no_longer(
    tmp_path: Path, other: "subprocess.Popen[bytes]"
) -> None:
    other.send_signal(signal.SIGKILL)
    other.wait()
    lock = hold(tmp_path / "lock", 0)
    assert holder(tmp_path / "lock").startswith(f"process {os.getpid()} on ")
    lock.release()
    hold(tmp_path / "lock", 0).release()


def test_where_nobody_is_named_it_is_another(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") == "another process"
    (tmp_path / "empty").touch()
    assert holder(tmp_path / "empty") == "another process"
