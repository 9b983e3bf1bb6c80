"""Who has the data folder."""

import os
from pathlib import Path

import pytest

from rag.errors import ConfigurationError
from rag.upkeep import folder as module
from rag.upkeep.folder import held


def test_one_at_a_time_and_the_other_is_told_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    with (
        held(tmp_path / "data"),
        pytest.raises(ConfigurationError, match=rf"in use by process {os.getpid()} on .*data-dir"),
        held(tmp_path / "data"),
    ):
        pass
    with held(tmp_path / "data"):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--data-dir"), held(tmp_path / "file" / "data"):
        pass
