"""How much room things take on the disk."""

from pathlib import Path

import pytest

from rag.config import Config
from rag.ui import disk as module
from rag.ui.disk import Disk, size_of


def test_the_size_of_a_folder(tmp_path: Path) -> None:
    assert size_of(tmp_path / "none") == 0
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 100_000)
    (tmp_path / "c").symlink_to("/usr")
    assert 100_000 <= size_of(tmp_path) < 200_000


def test_what_is_on_its_way_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, limit=1_000_000, setting="RAG_X")
    assert disk.refuses(600_000) == ""
    assert "Remove documents, or raise RAG_X" in disk.refuses(600_000)
    assert disk.refuses(300_000) == ""
    monkeypatch.setattr(module, "FRESH", -1)
    assert disk.refuses(600_000) == ""  # it did not come


def test_what_is_there_counts(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path, max_disk_mb=1)
    for folder in ("sessions", "uploads"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_bytes(b"x" * 600_000)
    assert "1 MB" in Disk.of(config).refuses(0)


def test_without_a_limit_there_is_as_much_as_the_disk_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(tmp_path / "not" / "there", limit=0, setting="RAG_X")
    assert disk.refuses(1_000_000) == ""
    assert "the disk is full" in disk.refuses(10**15)
    monkeypatch.setattr(module, "SPARE", 10**15)
    assert "the disk is full" in disk.refuses(0)
