"""Copies of a data folder, and how they are brought back.

A backup is a tar file, packed by gzip, of all that people have stored: sessions and feedback. What
can be had again is left out: weights, samples, uploads. Databases are copied by SQLite itself, so
what stands beside a database and is not yet in it comes along. Nobody else may have the folder.
"""

import io
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from rag.errors import ConfigurationError, RivuletError

ABOUT = "rivulet-backup.json"
"""The first file in it: what it is, and when it was made."""
FORMAT = 1
LEFT_OUT = ("models", "samples", "samples-words", "uploads")
"""Of the data folder."""
DATABASE = ".sqlite3"
_BESIDE_IT = (".sqlite3-wal", ".sqlite3-shm", ".sqlite3-journal")
RESTORING = "restoring.new"


def backup(data_dir: Path, file: Path) -> int:
    """Copy the data folder to `file`, which is there wholly or not at all; how many files are in
    it. Raises ConfigurationError where `file` cannot be made, and RivuletError where something in
    the folder cannot be copied.
    """
    file = file.expanduser().resolve()
    if file.exists():
        raise ConfigurationError(f"{file} exists already. Choose another name.")
    if file.is_relative_to(data_dir.resolve()):
        raise ConfigurationError(f"{file} is in the folder that is copied. Choose another place.")
    try:
        with tempfile.TemporaryDirectory(prefix=".rivulet-", dir=file.parent) as beside:
            made = Path(beside) / "backup"
            number = _pack(data_dir, made, Path(beside) / "database")
            made.rename(file)
    except OSError as error:
        raise ConfigurationError(
            f"The backup {file} cannot be made: {error.strerror or error}."
        ) from error
    return number


def _pack(data_dir: Path, made: Path, database: Path) -> int:
    number = 0
    about = {"format": FORMAT, "made": datetime.now(UTC).isoformat(timespec="seconds")}
    content = json.dumps(about).encode()
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as output:
        with tarfile.open(fileobj=output, mode="w:gz", compresslevel=3) as tar:
            first = tarfile.TarInfo(ABOUT)
            first.size = len(content)
            tar.addfile(first, io.BytesIO(content))
            for path in _files(data_dir):
                name = path.relative_to(data_dir).as_posix()
                if path.suffix == DATABASE:
                    _copy(path, database)
                    tar.add(database, name)
                    database.unlink()
                else:
                    tar.add(path, name, recursive=False)
                number += 1
        output.flush()
        os.fsync(output.fileno())
    return number


def _files(data_dir: Path) -> Iterator[Path]:
    """What is copied, in order. Links are not followed."""
    for folder, folders, names in os.walk(data_dir):
        here = Path(folder)
        if here == data_dir:
            folders[:] = [name for name in folders if name not in LEFT_OUT]
            names = [name for name in names if name not in LEFT_OUT]
        folders.sort()
        for path in (here / name for name in sorted(names)):
            is_left = path.name == "lock" or path.name.endswith(_BESIDE_IT)
            if path.is_file() and not path.is_symlink() and not is_left:
                yield path


def _copy(database: Path, to: Path) -> None:
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(to)) as copy:
            source.backup(copy)
            (whole,) = copy.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        whole = str(error)
    if whole != "ok":
        raise RivuletError(
            f"{database} is damaged ({whole}), and no backup was made. Run python -m rag check, "
            f"then try again."
        )


def restore(data_dir: Path, file: Path) -> int:
    """Unpack a backup into the data folder, in which nothing of the kind may be; how many files.

    Raises ConfigurationError where `file` is no backup, or the folder is not empty.
    """
    beside = data_dir / RESTORING
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with tarfile.open(file.expanduser(), "r:gz") as tar:
            _check_about(tar)
            beside.mkdir(parents=True)
            tar.extractall(beside, filter="data")
        (beside / ABOUT).unlink()
        tops = sorted(beside.iterdir())
        if there := [top.name for top in tops if (data_dir / top.name).exists()]:
            raise ConfigurationError(
                f"In {data_dir} there is already {', '.join(there)}. Move it away, or choose "
                f"another folder by --data-dir."
            )
        number = sum(1 for path in beside.rglob("*") if path.is_file())
        for session in (beside / "sessions").glob("*"):
            os.utime(session)  # nobody shall be forgotten for not having been here since then
        for top in tops:
            top.rename(data_dir / top.name)
        return number
    except (tarfile.TarError, EOFError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{file} is no whole backup of Rivulet: {error}.") from error
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be brought back: {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_about(tar: tarfile.TarFile) -> None:
    """Raises ValueError where it is no backup that can be read."""
    first = tar.next()
    content = tar.extractfile(first) if first and first.name == ABOUT else None
    if not content:
        raise ValueError(f"{ABOUT} is not its first file")
    format_ = json.load(content)["format"]
    if format_ != FORMAT:
        raise ValueError(f"its format is {format_}, not {FORMAT}")
