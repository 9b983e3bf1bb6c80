"""A data folder is copied, lost, and brought back."""

import io
import shutil
import sqlite3
import stat
import tarfile
from pathlib import Path

import pytest

from rag.__main__ import main
from rag.config import Config
from rag.errors import ConfigurationError, RivuletError
from rag.upkeep import backup as module
from rag.upkeep.backup import ABOUT, backup, restore
from rag.upkeep.folder import held
from tests.upkeep.conftest import WHO, kept


def run(config: Config, *command: str) -> int:
    return main([*command, "--data-dir", str(config.data_dir)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "copies" / "rivulet.tar.gz"


@pytest.fixture(autouse=True)
def place(file: Path) -> None:
    file.parent.mkdir()


def test_all_that_people_have_stored_comes_back(
    config: Config, folders: list[Path], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (config.data_dir / "models").mkdir()
    (config.data_dir / "models" / "weights").write_bytes(bytes(1000))
    before = {who: kept(config, who) for who in WHO}
    assert run(config, "backup", str(file)) == 0
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as tar:
        names = tar.getnames()
    assert not [name for name in names if "models" in name or "lock" in name]
    shutil.rmtree(config.data_dir)
    assert run(config, "restore", str(file)) == 0
    assert f"{len(names) - 1} files brought back" in capsys.readouterr().err
    assert {who: kept(config, who) for who in WHO} == before
    assert before["one"][0] == ["The pears of one are in the cellar."]
    assert (config.data_dir / "feedback.jsonl").read_text() == '{"rating": 1}\n'
    assert run(config, "check") == 0


def test_what_stands_beside_a_database_comes_along(
    config: Config, folders: list[Path], file: Path
) -> None:
    """As a process leaves it that is killed before SQLite has written it into the file."""
    database = folders[0] / "chroma" / "words.sqlite3"
    db = sqlite3.connect(database)
    db.execute("CREATE TABLE late (text)")
    db.execute("INSERT INTO late VALUES ('quince')")
    db.commit()
    assert database.with_name("words.sqlite3-wal").stat().st_size
    backup(config.data_dir, file)
    db.close()
    restore(file.parent / "new", file)
    there = file.parent / "new" / database.relative_to(config.data_dir)
    db = sqlite3.connect(there)
    assert db.execute("SELECT * FROM late").fetchall() == [("quince",)]
    db.close()
    assert [path.name for path in there.parent.glob("words*")] == ["words.sqlite3"]


def test_while_the_page_runs_nothing_is_copied_or_brought_back(
    config: Config, folders: list[Path], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with held(config.data_dir):
        for command in (["backup", str(file)], ["restore", str(file)], ["check"]):
            assert run(config, *command) == 1
            assert "is in use by process" in capsys.readouterr().err
    assert not file.exists()


def test_a_copy_that_cannot_be_made_leaves_nothing(
    config: Config, folders: list[Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(ConfigurationError, match="No space left"):
        backup(config.data_dir, file)
    assert list(file.parent.iterdir()) == []


def test_a_damaged_database_is_not_copied(config: Config, folders: list[Path], file: Path) -> None:
    (folders[1] / "chroma" / "chroma.sqlite3").write_bytes(b"no database" * 999)
    with pytest.raises(RivuletError, match="python -m rag check"):
        backup(config.data_dir, file)
    assert list(file.parent.iterdir()) == []


def test_nothing_is_written_over(config: Config, folders: list[Path], file: Path) -> None:
    file.write_text("precious")
    with pytest.raises(ConfigurationError, match="exists already"):
        backup(config.data_dir, file)
    file.unlink()
    with pytest.raises(ConfigurationError, match="another place"):
        backup(config.data_dir, config.data_dir / "copy.tar.gz")
    backup(config.data_dir, file)
    with pytest.raises(ConfigurationError, match=r"there is already feedback.jsonl, sessions"):
        restore(config.data_dir, file)
    assert kept(config, "one")[1] == ["Where are one's pears?"]
    assert not (config.data_dir / module.RESTORING).exists()


def archive(file: Path, *names: str, about: bytes = b'{"format": 1}') -> None:
    with tarfile.open(file, "w:gz") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(about)
            tar.addfile(info, io.BytesIO(about))


@pytest.mark.parametrize(
    ("names", "about"),
    [
        ((), b""),
        (("other",), b"{}"),
        ((ABOUT,), b"{}"),
        ((ABOUT,), b'{"format": 2}'),
        ((ABOUT,), b"no JSON"),
        ((ABOUT, "../outside"), b'{"format": 1}'),
        ((ABOUT, "/tmp/outside"), b'{"format": 1}'),
    ],
)
def test_what_is_no_backup_is_refused(
    config: Config, file: Path, names: tuple[str, ...], about: bytes
) -> None:
    archive(file, *names, about=about)
    if "/tmp/outside" in names:  # the slash is taken off
        restore(config.data_dir, file)
        assert (config.data_dir / "tmp" / "outside").is_file()
        return
    with pytest.raises(ConfigurationError, match="no whole backup"):
        restore(config.data_dir, file)
    assert list(file.parent.iterdir()) == [file]
    assert not list(config.data_dir.glob("*"))


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_a_file_that_cannot_be_read_is_one_line(
    config: Config, file: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        file.write_bytes(content)
    assert run(config, "restore", str(file)) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_half_a_backup_is_refused(config: Config, folders: list[Path], file: Path) -> None:
    backup(config.data_dir, file)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ConfigurationError, match="no whole backup"):
        restore(file.parent / "new", file)
    assert list((file.parent / "new").iterdir()) == []
