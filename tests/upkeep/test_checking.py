"""A data folder is looked over, and mended."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rag.__main__ import main
from rag.config import Config
from rag.index.store import ChromaStore
from rag.upkeep.checking import Seen, check
from tests.upkeep.conftest import WHO, kept


def run(config: Config) -> int:
    return main(["check", "--data-dir", str(config.data_dir)])


def test_in_a_folder_that_is_whole_nothing_is_found(
    config: Config,
    folders: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = {who: kept(config, who) for who in WHO}
    assert run(config) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "Looked over: 2 sessions, 2 documents, 2 conversations.",
        "2 files on the way in, offered again on the page.",
        "All is in order.",
    ]
    assert {who: kept(config, who) for who in WHO} == before


def half_written(session: Path) -> None:
    (session / "preferences.new").write_text("{")
    (session / "conversations" / "0123456789ab.new").write_text("{")
    (session / "incoming" / "00.new").mkdir()


def stray_original(session: Path) -> None:
    (session / "originals" / "0-0.pdf").write_bytes(b"%PDF")


def left_uploads(session: Path) -> None:
    folder = session.parents[1] / "uploads" / "7860" / "abc"
    folder.mkdir(parents=True)
    (folder / "private.txt").write_text("quince")


def damaged_words(session: Path) -> None:
    (session / "chroma" / "words.sqlite3").write_bytes(b"no database" * 999)


def missing_chroma(session: Path) -> None:
    (session / "chroma" / "chroma.sqlite3").unlink()


def torn_feedback(session: Path) -> None:
    with (session.parents[1] / "feedback.jsonl").open("a") as file:
        file.write('{"rating": -1}')


def damaged_settings(session: Path) -> None:
    (session / "preferences.json").write_text('{"model": 5')


def damaged_samples(session: Path) -> None:
    folder = session.parents[1] / "samples" / "hash"
    ChromaStore(folder, "hash").close()
    (folder / "chroma.sqlite3").write_bytes(b"no database" * 999)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (half_written, "half-written files were removed: 3"),
        (stray_original, "originals that belong to no document were removed: 1"),
        (left_uploads, "uploads: what a program that was cut off has left was removed"),
        (damaged_words, "the index of words was damaged, and was made anew"),
        (missing_chroma, "1 document put together again"),
        (torn_feedback, "feedback.jsonl: its last line was not ended; now it is"),
        (damaged_settings, "is kept as preferences.damaged.json"),
        (damaged_samples, "samples/hash: was damaged, and is made again"),
    ],
)
def test_what_can_be_mended_is(
    config: Config,
    folders: list[Path],
    capsys: pytest.CaptureFixture[str],
    harm: Callable[[Path], None],
    says: str,
) -> None:
    before = {who: kept(config, who) for who in WHO}
    harm(folders[0])
    assert run(config) == 0
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert line.startswith("mended  ")
    assert says in line
    assert captured.err.endswith("1 thing mended.\n")
    assert {who: kept(config, who) for who in WHO} == before
    assert run(config) == 0
    assert capsys.readouterr().out == ""


def test_a_damaged_conversation_is_kept_aside_and_told(
    config: Config,
    folders: list[Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (file,) = (folders[0] / "conversations").iterdir()
    whole = file.read_text()
    file.write_text(whole[:-20])  # which the list of them does not show
    assert run(config) == 1
    captured = capsys.readouterr()
    (line,) = captured.out.splitlines()
    assert line.startswith(f"to do   sessions/{folders[0].name}: ")
    assert f"{file.stem}.damaged.json" in line
    assert captured.err.endswith("1 thing to do, 0 mended.\n")
    assert file.with_suffix(".damaged.json").read_text() == whole[:-20]
    assert run(config) == 0


def test_what_is_lost_is_told_and_its_original_stays(config: Config, folders: list[Path]) -> None:
    for name in ("words.sqlite3", "chroma.sqlite3"):
        (folders[0] / "chroma" / name).write_bytes(b"no database" * 999)
    assert run(config) == 1
    assert (folders[0] / "chroma.damaged").is_dir()
    assert len(list((folders[0] / "originals").iterdir())) == 1
    assert kept(config, "two")[0] == ["The pears of two are in the cellar."]


def test_another_embedding_model_is_told_once_for_each_index(
    config: Config, folders: list[Path]
) -> None:
    found = list(check(replace(config, embed_model="another"), Seen()))
    assert [place for place, _ in found] == sorted(folders)
    assert all("python -m rag reembed" in finding.what for _, finding in found)
    assert kept(config, "one")[3]


def test_a_server_that_is_away_is_told_once_and_the_rest_is_looked_over(
    config: Config, folders: list[Path]
) -> None:
    seen = Seen()
    config = replace(config, chroma_url="http://127.0.0.1:9")
    ((place, finding),) = check(config, seen)
    assert place == config.data_dir
    assert "cannot be reached" in finding.what
    assert (seen.sessions, seen.conversations) == (2, 2)


def test_what_cannot_be_read_costs_only_itself(
    config: Config, folders: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: ChromaStore) -> None:
        raise PermissionError(13, "Permission denied", "words.sqlite3")

    monkeypatch.setattr(ChromaStore, "mend", refused)
    found = list(check(config, Seen()))
    assert [finding.mended for _, finding in found] == [False, False]
    assert "Permission denied" in found[0][1].what


def test_a_folder_that_is_not_there_is_one_line(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(config) == 1
    assert capsys.readouterr().err == f"There is no folder {config.data_dir}. Check the path.\n"
    assert not config.data_dir.exists()
