"""Who has the data folder, as processes see it."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rag.errors import ConfigurationError
from rag.upkeep import folder as module
from rag.upkeep.folder import alone, in_use

HOLD = """
import sys, time
from pathlib import Path
from rag.upkeep import folder
with getattr(folder, sys.argv[2])(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)


def test_programs_share_it_and_whoever_examines_it_has_it_alone(tmp_path: Path) -> None:
    with (
        in_use(tmp_path / "data"),
        in_use(tmp_path / "data"),
        pytest.raises(ConfigurationError, match="Rivulet is running with"),
        alone(tmp_path / "data"),
    ):
        pass
    with alone(tmp_path / "data"):
        for use in (in_use, alone):
            with pytest.raises(ConfigurationError, match="try again"), use(tmp_path / "data"):
                pass
    with in_use(tmp_path / "data"):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="nothing kills there like this")
@pytest.mark.parametrize("how", ["in_use", "alone"])
def test_a_process_that_is_killed_leaves_it_free(tmp_path: Path, how: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path), how],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError), alone(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    with alone(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--data-dir"), in_use(tmp_path / "file" / "data"):
        pass
