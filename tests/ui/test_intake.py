"""The queue behind the page: whose turn it is, how a job ends, what a kill leaves."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rag.errors import DocumentError, StoreError
from rag.index.ingestion import Ingested, Progress, Rejected, Searchable
from rag.ui import intake as module
from rag.ui.intake import AHEAD, Intake
from rag.ui.jobs import Event, Note
from rag.ui.sessions import Session, Sessions

GUARD = 20.0


@dataclass
class Page:
    path: Path
    name: str
    url: str


class Steps:
    """Takes in a file whose text is a number in that many steps of embedding; a gate can be shut
    before one of them."""

    def __init__(self) -> None:
        self.done: list[str] = []
        """The session's and the file's name, for each step."""
        self.closed: list[str] = []
        self.shut: dict[str, threading.Event] = {}
        """What has to be set before a step of this name is done."""
        self.reached = threading.Event()

    def take_in(self, session: Session, path: Path, name: str, url: str) -> Iterator[Event]:
        try:
            for event in self.events(path, name):
                step = getattr(event, "step", type(event).__name__)
                if gate := self.shut.get(f"{name} {step}"):
                    self.reached.set()
                    assert gate.wait(GUARD)
                self.done.append(f"{session.folder.name} {name} {step}")
                yield event
        finally:
            self.closed.append(name)

    def events(self, path: Path, name: str) -> Iterator[Event]:
        text = path.read_text().strip()
        yield Progress(name, "reading")
        if text == "odd":
            raise RuntimeError("internal detail")
        if text == "store":
            raise StoreError("The index cannot be opened.")
        if not text.isdecimal():
            yield Rejected(name, "it is no number.")
            return
        yield Searchable(name, f"id of {name}", int(text))
        for done in range(int(text)):
            yield Progress(name, "embedding", done, int(text))
        yield Progress(name, "storing", int(text), int(text))
        yield Ingested(name, f"id of {name}", 0, int(text))

    @staticmethod
    def fetch(address: str, folder: Path) -> Page:
        if "bad" in address:
            raise DocumentError(address, "there is no such page.")
        (folder / "page.html").write_text("2")
        return Page(folder / "page.html", "example.com › herons.html", address)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def intake(steps: Steps) -> Iterator[Intake]:
    intake = Intake(steps.take_in, steps.fetch)
    yield intake
    for gate in steps.shut.values():
        gate.set()
    intake.close()


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path / "one")


@pytest.fixture
def put(tmp_path: Path) -> Callable[[str, str], Path]:
    """An uploaded file; no two have the same size."""
    count = iter(range(1, 10**6))

    def make(name: str, text: str) -> Path:
        number = next(count)
        file = tmp_path / f"upload{number}" / name
        file.parent.mkdir()
        file.write_text(text + number * " ")
        return file

    return make


Put = Callable[[str, str], Path]


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + GUARD
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def over(*sessions: Session) -> None:
    until(lambda: not any(session.jobs for session in sessions))


def told(session: Session) -> list[tuple[str, str]]:
    return [(note.kind, note.said()) for note in session.notes]


def kept(session: Session) -> list[Path]:
    return list(session.incoming.iterdir()) if session.incoming.exists() else []


class TestTakingIn:
    def test_a_file_goes_in_and_its_copy_is_deleted(
        self, intake: Intake, session: Session, put: Put
    ) -> None:
        (job,) = intake.add(session, [put("a.txt", "3")])
        over(session)
        assert told(session) == [("good", "a.txt is ready.")]
        assert job.settled
        assert kept(session) == []
        assert session.arrived == session.batches == 1

    def test_each_failure_is_told_and_the_others_go_in(
        self, intake: Intake, session: Session, put: Put, caplog: pytest.LogCaptureFixture
    ) -> None:
        texts = {"a": "1", "odd": "odd", "no": "x", "store": "store", "b": "1"}
        intake.add(session, [put(name, text) for name, text in texts.items()])
        over(session)
        assert sorted(told(session)) == [
            ("bad", "no: it is no number."),
            ("bad", "odd: it could not be taken in. The log says why."),
            ("bad", "store: The index cannot be opened."),
            ("good", "a is ready."),
            ("good", "b is ready."),
        ]
        assert "internal detail" in caplog.text
        assert kept(session) == []

    def test_two_of_one_name_get_two(self, intake: Intake, session: Session, put: Put) -> None:
        jobs = intake.add(session, [put("report.pdf", "1"), put("report.pdf", "2")])
        assert [job.name for job in jobs] == ["report.pdf", "report (2).pdf"]
        over(session)
        (again,) = intake.add(session, [put("report.pdf", "3")])
        assert again.name == "report.pdf"  # another version of the first
        over(session)

    def test_a_disk_that_is_full(
        self, intake: Intake, session: Session, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(source: Path, target: Path) -> None:
            if source.name == "big.txt":
                raise OSError(28, "No space left on device")
            target.write_bytes(source.read_bytes())

        monkeypatch.setattr(os, "link", full)
        monkeypatch.setattr(shutil, "copyfile", full)
        jobs = intake.add(session, [put("big.txt", "1"), put("small.txt", "1")])
        assert [job.name for job in jobs] == ["small.txt"]
        over(session)
        (bad, why), good = told(session)
        assert bad == "bad"
        assert why.startswith("big.txt: it could not be copied (No space left on device). See that")
        assert good == ("good", "small.txt is ready.")
        assert kept(session) == []

    def test_an_upload_that_is_gone_is_told(self, intake: Intake, session: Session) -> None:
        assert intake.add(session, [Path("/gone/a.txt")]) == []
        ((kind, text),) = told(session)
        assert kind == "bad"
        assert "No such file" in text

    def test_words_come_first_then_the_vectors_of_the_short(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["long reading"] = threading.Event()
        intake.add(session, [put("long", "9"), put("short", "2")])
        gate.set()
        over(session)
        order = [done.removeprefix("one ") for done in steps.done]
        assert order.index("short Searchable") < order.index("long embedding")
        assert order.index("short Ingested") < order.index("long embedding")

    def test_what_may_be_the_same_waits_for_it(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["a embedding"] = threading.Event()
        same = put("same", "1")
        files = [put("a", "1"), same, put("c", "1")]
        same.write_text(files[0].read_text())
        intake.add(session, files)
        intake.add(session, [put("a", "2")])  # another version
        assert steps.reached.wait(GUARD)
        assert [job.settled for job in session.jobs] == [True, False, True, False]
        gate.set()
        over(session)
        order = [done.removeprefix("one ") for done in steps.done]
        assert order.index("a Ingested") < order.index("same reading")
        assert order.count("a Ingested") == 2

    def test_only_some_are_begun(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        names = [f"{number:02}" for number in range(AHEAD + 3)]
        gate = steps.shut["00 embedding"] = threading.Event()
        intake.add(session, [put(name, "1") for name in names])
        assert steps.reached.wait(GUARD)
        assert sum(job.steps is not None for job in session.jobs) == AHEAD
        gate.set()
        over(session)
        assert len(session.notes) == len(names)


class TestTurns:
    def test_one_file_does_not_wait_for_anothers_two_hundred(
        self, intake: Intake, steps: Steps, tmp_path: Path, put: Put
    ) -> None:
        many, one = Session(tmp_path / "many"), Session(tmp_path / "one")
        gate = steps.shut["000 reading"] = threading.Event()
        intake.add(many, [put(f"{n:03}", "5") for n in range(200)])
        assert steps.reached.wait(GUARD)
        intake.add(one, [put("mine", "5")])
        gate.set()
        over(one)
        assert len(many.jobs) > 150
        intake.cancel(many)
        over(many)

    def test_more_long_files_than_threads_do_not_hold_up_a_short_one(
        self, intake: Intake, tmp_path: Path, put: Put, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        others = [Session(tmp_path / f"other{n}") for n in range(2 * module.WORKERS)]
        for other in others:
            intake.add(other, [put("endless", "1000000")])
        mine = Session(tmp_path / "mine")
        intake.add(mine, [put("short", "5")])
        over(mine)
        assert all(other.jobs for other in others)
        for other in others:
            intake.cancel(other)
        over(*others)

    def test_of_a_session_one_step_is_done_at_a_time(self, session: Session, put: Put) -> None:
        busy = threading.Lock()

        def take_in(session: Session, path: Path, name: str, url: str) -> Iterator[Event]:
            for number in range(5):
                assert busy.acquire(blocking=False)
                time.sleep(0.002)
                busy.release()
                yield Progress(name, "embedding", number, 5)

        intake = Intake(take_in, Steps.fetch)
        intake.add(session, [put(str(n), "") for n in range(9)])
        over(session)
        assert session.notes == []
        intake.close()


class TestCancelling:
    @pytest.mark.parametrize("step", ["reading", "Searchable", "embedding", "storing"])
    def test_at_each_step(
        self, intake: Intake, session: Session, steps: Steps, put: Put, step: str
    ) -> None:
        gate = steps.shut[f"a {step}"] = threading.Event()
        intake.add(session, [put("a", "2")])
        assert steps.reached.wait(GUARD)
        (job,) = session.jobs
        intake.cancel(session, job.key)
        assert session.jobs == [job]  # until its step is done
        gate.set()
        over(session)
        assert told(session) == [("cancelled", "a: cancelled; nothing was added.")]
        assert steps.closed == ["a"]
        assert kept(session) == []
        assert not [done for done in steps.done if "Ingested" in done]

    def test_one_that_waits_goes_at_once_and_the_others_go_in(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["a reading"] = threading.Event()
        _, second, _ = intake.add(session, [put(name, "1") for name in "abc"])
        assert steps.reached.wait(GUARD)
        intake.cancel(session, second.key)
        assert [job.name for job in session.jobs] == ["a", "c"]
        assert not second.path.exists()
        gate.set()
        over(session)
        assert sorted(told(session)) == [
            ("cancelled", "b: cancelled; nothing was added."),
            ("good", "a is ready."),
            ("good", "c is ready."),
        ]

    def test_all(self, intake: Intake, session: Session, steps: Steps, put: Put) -> None:
        gate = steps.shut["a reading"] = threading.Event()
        intake.add(session, [put(name, "1") for name in "abc"])
        assert steps.reached.wait(GUARD)
        intake.cancel(session)
        gate.set()
        over(session)
        assert [note.kind for note in session.notes] == ["cancelled"] * 3
        assert kept(session) == []

    def test_of_anothers_or_of_nothing_there_is_none(
        self, intake: Intake, session: Session, tmp_path: Path, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["a reading"] = threading.Event()
        (job,) = intake.add(session, [put("a", "1")])
        other = Session(tmp_path / "other")
        for key in (job.key, "nothing", "../..", ""):
            intake.cancel(other, key)
            intake.discard(other, key)
            intake.again(other, key)
        intake.discard(session, job.key)  # it is not interrupted
        intake.again(session, job.key)
        gate.set()
        over(session)
        assert told(session) == [("good", "a is ready.")]


class TestPages:
    def test_a_page_is_fetched_and_goes_in_under_its_name(
        self, intake: Intake, session: Session, steps: Steps
    ) -> None:
        intake.add_page(session, "https://example.com/herons?grey=1#top")
        over(session)
        assert told(session) == [("good", "example.com › herons.html is ready.")]
        assert kept(session) == []

    def test_one_that_cannot_be_had(self, intake: Intake, session: Session) -> None:
        intake.add_page(session, "https://example.com/bad")
        over(session)
        assert told(session) == [("bad", "https://example.com/bad: there is no such page.")]
        assert kept(session) == []

    def test_one_that_hangs_can_be_cancelled_and_holds_up_nothing(
        self, steps: Steps, session: Session, put: Put
    ) -> None:
        gate, folders = threading.Event(), []

        def hangs(address: str, folder: Path) -> Page:
            folders.append(folder)
            assert gate.wait(GUARD)
            return steps.fetch(address, folder)

        intake = Intake(steps.take_in, hangs)
        (page,) = intake.add_page(session, "https://example.com")
        until(lambda: folders)
        intake.add(session, [put("a", "1")])
        until(lambda: session.notes)
        assert told(session) == [("good", "a is ready.")]
        assert session.jobs == [page]
        intake.cancel(session, page.key)
        over(session)
        gate.set()
        until(lambda: not page.fetching)
        assert kept(session) == []
        assert session.notes[1].kind == "cancelled"
        intake.close()


class TestNotes:
    def test_they_go_when_something_is_added_or_when_they_are_dismissed(
        self, intake: Intake, session: Session, put: Put
    ) -> None:
        for name in "ab":
            intake.add(session, [put(name, "1")])
            over(session)
            assert told(session) == [("good", f"{name} is ready.")]
        intake.dismiss(session)
        assert session.notes == []

    def test_they_stay_while_something_is_on_its_way(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["slow embedding"] = threading.Event()
        intake.add(session, [put("slow", "9")])
        assert steps.reached.wait(GUARD)
        session.notes.append(Note("bad", "x: it is broken."))
        intake.add(session, [put("more", "1")])
        assert [note.kind for note in session.notes] == ["bad"]
        gate.set()
        over(session)
        assert [note.kind for note in session.notes] == ["bad", "good", "good"]

    def test_a_password_in_an_address_is_neither_shown_nor_kept(
        self, steps: Steps, session: Session
    ) -> None:
        intake = Intake(steps.take_in, steps.fetch)
        (job,) = intake.add_page(session, "http://user:geheim@example.com/bad")
        assert (job.name, job.address) == ("http://…@example.com/bad",) * 2
        over(session)
        assert "geheim" not in str(told(session)) + str(session.notes)
        intake.close()


class TestEnds:
    def test_what_was_going_on_when_the_process_ends_is_offered_again(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["a embedding"] = threading.Event()
        intake.add(session, [put(name, "2") for name in "abc"])
        assert steps.reached.wait(GUARD)
        closing = threading.Thread(target=intake.close)
        closing.start()
        gate.set()
        closing.join(GUARD)
        assert sorted(steps.closed) == ["a", "b", "c"]
        again = Session(session.folder)
        assert [(job.name, job.interrupted) for job in again.jobs] == [
            ("a", True),
            ("b", True),
            ("c", True),
        ]

    def test_what_has_just_come_in_is_not_offered_again(
        self, intake: Intake, session: Session, steps: Steps, put: Put
    ) -> None:
        gate = steps.shut["a Ingested"] = threading.Event()
        (job,) = intake.add(session, [put("a", "2")])
        assert steps.reached.wait(GUARD)
        closing = threading.Thread(target=intake.close)
        closing.start()
        while not intake._closing:
            time.sleep(0.01)
        gate.set()
        closing.join(GUARD)
        assert job.ended
        assert Session(session.folder).jobs == []

    def test_a_step_that_does_not_end_is_left_and_costs_no_file(
        self,
        steps: Steps,
        session: Session,
        put: Put,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(module, "PATIENCE", 0.1)
        gate = threading.Event()

        def take_in(session: Session, path: Path, name: str, url: str) -> Iterator[Event]:
            steps.reached.set()
            assert gate.wait(GUARD)
            raise RuntimeError("the index is closed")
            yield

        intake = Intake(take_in, steps.fetch)
        (job,) = intake.add(session, [put("a", "2")])
        assert steps.reached.wait(GUARD)
        intake.close()
        gate.set()
        for thread in intake._threads:
            thread.join(GUARD)
        assert job.path.exists()

    def test_interrupted_ones_are_added_again_or_removed(
        self, intake: Intake, tmp_path: Path, put: Put
    ) -> None:
        before = Session(tmp_path / "one")
        closed = Intake(lambda *_: iter(()), Steps.fetch)
        closed.close()
        closed.add(before, [put(name, "1") for name in "abcd"])
        session = Session(tmp_path / "one")
        a, b, *_ = session.jobs
        intake.cancel(session)  # they are not on their way
        intake.discard(session, a.key)
        assert not a.path.exists()
        intake.again(session, b.key)
        until(lambda: session.notes)
        assert told(session) == [("good", "b is ready.")]
        assert [job.name for job in session.jobs] == ["c", "d"]
        intake.again(session)
        over(session)
        assert kept(session) == []

    def test_forgetting_ends_everything(
        self, tmp_path: Path, steps: Steps, intake: Intake, put: Put
    ) -> None:
        sessions = Sessions(tmp_path / "sessions", "hash")
        session = sessions.get("me")
        gate = steps.shut["a embedding"] = threading.Event()
        intake.add(session, [put(name, "2") for name in "abc"])
        assert steps.reached.wait(GUARD)
        sessions.forget(session)
        gate.set()
        over(session)
        assert sorted(steps.closed) == ["a", "b", "c"]
        assert not session.folder.exists()
        assert sessions.get("me").jobs == []
        intake.add(session, [put("late", "1")])  # from a tab that does not know yet
        over(session)
        assert kept(session) == []

    def test_a_killed_process_leaves_what_can_be_added_again(
        self, tmp_path: Path, put: Put
    ) -> None:
        code = """
import sys, time
from pathlib import Path
from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.ui.backend import Backend
class Slow(HashEmbedding):
    def embed(self, texts):
        print("embedding", flush=True)
        time.sleep(60)
data, *files = map(Path, sys.argv[1:])
backend = Backend(Config(model="x", embed_model="hash", data_dir=data), Slow())
backend.embedding.start()
session = backend.sessions.get("me")
backend.intake.add(session, files)
time.sleep(60)
"""
        files = [put("a.txt", "The heron is grey."), put("b.txt", "The crow is black.")]
        data = tmp_path / "data"
        with subprocess.Popen(
            [sys.executable, "-c", code, str(data), *map(str, files)],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == b"embedding\n"
            process.send_signal(signal.SIGKILL)
        sessions = Sessions(data / "sessions", "hash")
        session = sessions.get("me")
        assert [job.name for job in session.jobs] == ["a.txt", "b.txt"]
        assert not sessions.has_documents(session)
        assert {path.name for path in session.folder.iterdir()} == {"incoming"}
        sessions.close()
