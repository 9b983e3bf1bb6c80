"""A file on its way in: its copy on the disk, and what is told of it."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rag.index.ingestion import Ingested, Progress, Rejected, Searchable
from rag.ui import jobs as module
from rag.ui.jobs import Event, Job, Note, distinct, left_behind
from rag.ui.language import speaking


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    return tmp_path / "session" / "incoming"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "report.pdf"
    file.write_text("The heron is grey.")
    return file


def full(*_: object) -> Any:
    raise OSError(28, "No space left on device")


class TestOnTheDisk:
    def test_the_copy_is_there_when_the_upload_has_gone(self, incoming: Path, file: Path) -> None:
        job = Job.of_file(incoming, file, "report (2).pdf")
        file.unlink()
        assert job.path.read_text() == "The heron is grey."
        assert job.path == incoming / job.key / "report (2).pdf"

    def test_a_disk_without_links(
        self, incoming: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "link", full)
        job = Job.of_file(incoming, file, file.name)
        assert job.path.read_text() == "The heron is grey."
        assert job.path.stat().st_ino != file.stat().st_ino

    def test_a_full_disk_leaves_nothing(
        self, incoming: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(source: Path, target: Path) -> None:
            target.write_text("The he")
            full()

        monkeypatch.setattr(os, "link", full)
        monkeypatch.setattr(shutil, "copyfile", half)
        with pytest.raises(OSError, match="No space"):
            Job.of_file(incoming, file, file.name)
        assert list(incoming.iterdir()) == []
        monkeypatch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space"):
            Job.of_address(incoming, "https://example.com")
        assert list(incoming.iterdir()) == []

    def test_what_was_left_behind_is_found_in_its_order(self, incoming: Path, file: Path) -> None:
        jobs = [
            Job.of_file(incoming, file, "b.txt"),
            Job.of_address(incoming, "https://example.com/ü"),
            Job.of_file(incoming, file, "a.txt"),
        ]
        found = left_behind(incoming)
        assert [(job.key, job.name, job.address) for job in found] == [
            (job.key, job.name, job.address) for job in jobs
        ]
        assert all(job.interrupted for job in found)
        for job in found:
            job.drop()
        assert list(incoming.iterdir()) == []

    def test_what_was_not_whole_is_deleted(self, incoming: Path, file: Path) -> None:
        page = Job.of_address(incoming, "https://example.com")
        page.folder.mkdir()
        (page.folder / "half.html").write_text("<h1>")
        (incoming / "1.new").mkdir()
        (incoming / "1.new" / "half.txt").write_text("half")
        (incoming / "2.new").write_text("https://exam")
        (incoming / "3").mkdir()  # its file was deleted, and then the process ended
        (found,) = left_behind(incoming)
        assert found.address == "https://example.com"
        assert [path.name for path in incoming.iterdir()] == [f"{page.key}.address"]

    def test_without_anything(self, incoming: Path) -> None:
        assert left_behind(incoming) == []
        assert not incoming.exists()

    def test_a_process_that_is_killed_while_it_copies(self, incoming: Path, file: Path) -> None:
        code = """
import os, shutil, sys, time
from pathlib import Path
from rag.ui.jobs import Job
incoming, file = map(Path, sys.argv[1:])
Job.of_file(incoming, file, "whole.txt")
def slow(source, target):
    target.write_text("half")
    print("copying", flush=True)
    time.sleep(60)
shutil.copyfile = slow
os.link = lambda *_: (_ for _ in ()).throw(OSError())
Job.of_file(incoming, file, "half.txt")
"""
        command = [sys.executable, "-c", code, str(incoming), str(file)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == b"copying\n"
            process.send_signal(signal.SIGKILL)
        (job,) = left_behind(incoming)
        assert job.name == "whole.txt"
        assert len(list(incoming.iterdir())) == 1


@pytest.mark.parametrize(
    ("names", "given"),
    [
        ([], []),
        (["a.txt", "b.txt"], ["a.txt", "b.txt"]),
        (["a.txt", "a.txt", "a.txt"], ["a.txt", "a (2).txt", "a (3).txt"]),
        (["a.txt", "a.txt", "a (2).txt"], ["a.txt", "a (3).txt", "a (2).txt"]),
        (["README", "README", ".env", ".env"], ["README", "README (2)", ".env", ".env (2)"]),
        (["a.tar.gz", "a.tar.gz"], ["a.tar.gz", "a.tar (2).gz"]),
    ],
)
def test_names_become_distinct(names: list[str], given: list[str]) -> None:
    assert distinct(names) == given


def job(name: str, events: Sequence[Event] = ()) -> Job:
    job = Job(Path("key"), name)
    for event in events:
        job.told(event)
    return job


def report(job: Job) -> list[tuple[str, str]]:
    return [(note.kind, note.said()) for note in job.report()]


class TestTold:
    def test_a_file(self) -> None:
        told = job("a.txt", [Progress("a.txt", "reading")])
        assert not told.settled
        told.told(Searchable("a.txt", "id", 40))
        assert told.settled
        assert (told.half_in, told.unembedded) == ("id", 40)
        told.told(Progress("a.txt", "embedding", 32, 40))
        assert told.unembedded == 8
        told.told(Ingested("a.txt", "id", 0, 40))
        assert report(told) == [("good", "a.txt is ready.")]
        assert told.half_in == "id"  # until its line gives way to the document's

    def test_a_new_version(self) -> None:
        told = job("a.txt", [Ingested("a.txt", "id", 0, 1, replaced=True)])
        assert report(told) == [("good", "a.txt is ready, in place of its older version.")]

    def test_what_is_here_already(self) -> None:
        same = job("a.txt", [Ingested("a.txt", "id", 0, 1, "a.txt")])
        assert report(same) == [("same", "a.txt: it is here already; nothing was added.")]
        ((_, other),) = report(job("a.txt", [Ingested("a.txt", "id", 0, 1, "b.txt")]))
        assert "the same text, as b.txt, is here already" in other

    def test_an_archive_is_summed_up(self) -> None:
        told = job("a.zip", [Progress("a.zip", "reading"), Searchable("a.zip/a.md", "one", 1)])
        assert not told.settled
        assert told.half_in == "one"
        told.told(Ingested("a.zip/a.md", "one", 0, 1))
        assert told.half_in == ""
        told.told(Rejected("a.zip/b.pdf", "it is damaged."))
        told.told(Ingested("a.zip/c.md", "one", 0, 1, "a.zip/a.md"))
        assert report(told) == [
            ("bad", "a.zip/b.pdf: it is damaged."),
            ("good", "a.zip: 1 document of it can be searched."),
            ("same", "a.zip: 1 document of it had been here."),
        ]
        for name in ("d", "e"):
            told.told(Ingested(f"a.zip/{name}.md", name, 0, 1))
            told.told(Ingested(f"a.zip/{name}.txt", name, 0, 1, f"a.zip/{name}.md"))
        assert report(told)[1:] == [
            ("good", "a.zip: 3 documents of it can be searched."),
            ("same", "a.zip: 3 documents of it had been here."),
        ]

    def test_a_mail_is_settled_with_its_attachments(self) -> None:
        assert not job("a.eml", [Searchable("a.eml", "one", 1)]).settled

    def test_cancelled(self) -> None:
        told = job("a.zip", [Progress("a.zip", "reading")])
        told.cancelled = True
        assert report(told) == [("cancelled", "a.zip: cancelled; nothing was added.")]
        told.told(Ingested("a.zip/a.md", "one", 0, 1))
        assert report(told) == [("cancelled", "a.zip: cancelled; 1 document of it stayed.")]
        told.told(Ingested("a.zip/b.md", "two", 0, 1))
        assert report(told) == [("cancelled", "a.zip: cancelled; 2 documents of it stayed.")]

    def test_cancelled_too_late(self) -> None:
        told = job("a.txt", [Searchable("a.txt", "id", 1), Ingested("a.txt", "id", 0, 1)])
        told.cancelled = True
        assert report(told) == [("good", "a.txt is ready.")]

    def test_the_speed_is_that_of_the_last_half_minute(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = 100.0
        monkeypatch.setattr(module.time, "monotonic", lambda: now)
        told = job(
            "a.txt", [Searchable("a.txt", "id", 999), Progress("a.txt", "embedding", 0, 999)]
        )
        assert told.per_second is None
        for second in range(1, 60):
            now = 100.0 + second
            done = second if second < 20 else 10 * second
            told.told(Progress("a.txt", "embedding", done, 999))
        assert told.per_second == pytest.approx(10, rel=0.1)
        now += 1000  # others had their turn
        told.told(Progress("a.txt", "embedding", 700, 999))
        assert told.per_second is None


class TestNotes:
    def test_are_said_in_the_language_of_who_looks(self) -> None:
        _, german = speaking("de")
        told = job("a.zip", [Rejected("a.zip/b.pdf", "it is damaged and cannot be read.")])
        (note,) = told.report()
        assert note.said() == "a.zip/b.pdf: it is damaged and cannot be read."
        assert note.said(german) == "a.zip/b.pdf: ist beschädigt und lässt sich nicht lesen."

    def test_what_is_not_ours_is_not_translated(self) -> None:
        _, german = speaking("de")
        for name in ("Copy", "{name}", "{0}", "%s"):
            note = Note("bad", "{name}: {reason}", {"name": name, "reason": "{odd} 5% {"})
            assert note.said(german) == f"{name}: {{odd}} 5% {{"
            assert Note("bad", f"{name} {{").said(german) == f"{name} {{"


def test_a_long_address_is_shown_shortened(tmp_path: Path) -> None:
    address = "https://example.org/" + "a" * 3000
    job = Job.of_address(tmp_path, address)
    assert (len(job.name), job.name[-1], job.address) == (80, "…", address)
    (left,) = left_behind(tmp_path)
    assert (left.name, left.address) == (job.name, address)
