"""A program whose whole data folder is on a disk that is full: it answers, says what it cannot
keep, and goes on when there is room."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.__main__ import main
from rag.ui.sessions import Session
from tests.deploying.tab import PATIENCE
from tests.documents.test_isolation import within
from tests.faults.confined import LINUX, Disk
from tests.faults.program import Program, halves, uploading

pytestmark = LINUX

FULL = "No space left on device"
UNSAVED = f"The conversation could not be saved: {FULL}."
HERON = "Of what colour is the heron?"


class Full:
    """A program on a disk of its own, and somebody who has a document and a conversation there."""

    def __init__(self, program: Program, disk: Disk):
        self.program, self.disk = program, disk
        program.start()
        self.me = program.tab()
        self.me.answer("First?")
        self.me.adds("heron.txt", b"The heron is grey.")
        self.me.sees_in_the_end("heron.txt is ready")

    def session(self) -> Session:
        """What is on the disk."""
        (folder,) = (self.disk.seen / "sessions").iterdir()
        return Session(folder)

    def questions(self) -> list[str]:
        session = self.session()
        found = (session.conversation(entry.key) for entry in session.conversations)
        return [turn.question for each in found if each for turn in each.turns]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Full]:
    folder = tmp_path_factory.mktemp("full") / "data"
    folder.mkdir()
    with Disk(folder, "64m") as disk, Program(folder, *disk.enter) as program:
        yield Full(program, disk)


def keys(seen: str, do: str) -> list[str]:
    """Those of the buttons of a kind that the page shows."""
    return re.findall(rf'data-do=\\"{do}\\" data-key=\\"([^\\]+)', seen)


def test_while_it_is_full_all_is_answered_and_what_is_not_kept_is_said(full: Full) -> None:
    me, before = full.me, full.me.sees()
    full.disk.fill()
    for question, scope in ((HERON, "mine"), ("Where is everything?", "samples")):
        told = me.answer(question, scope)
        assert "word29" in told
        assert UNSAVED in told
    renamed = me.press("conversations", "rename", keys(before, "rename")[0], "Other")
    assert f"It could not be saved: {FULL}." in renamed
    rated = me.press("chat", "rate", keys(before, "rate")[0])
    assert f"could not be kept: {FULL}. Your conversation is not affected." in rated
    removed = me.press("documents", "remove", keys(before, "remove")[0])
    assert "Is the disk full" in removed
    seen = me.sees()
    assert "heron.txt" in seen
    assert HERON in seen
    assert full.questions() == ["First?"]
    assert not list(full.disk.seen.rglob("*.new"))


def test_an_upload_is_refused_and_leaves_nothing(full: Full) -> None:
    before = sorted((full.disk.seen / "uploads").rglob("*"))
    refused = full.program.tab().uploads("crow.txt", b"The crow is black." * 9999)
    assert refused.status_code == 413
    assert "the disk is full" in refused.json()["error"]
    assert sorted((full.disk.seen / "uploads").rglob("*")) == before


def test_with_room_all_is_kept_that_was_said_meanwhile(full: Full) -> None:
    full.disk.make_room()
    me = full.me
    assert UNSAVED not in me.answer(HERON, "mine")
    asked = ["First?", HERON, "Where is everything?", HERON]
    assert full.questions() == asked
    me.adds("crow.txt", b"The crow is black.")
    me.sees_in_the_end("crow.txt is ready")
    rated = me.press("chat", "rate", keys(me.sees(), "rate")[-1])
    assert "could not" not in rated
    assert len((full.disk.seen / "feedback.jsonl").read_text().splitlines()) == 1


def test_a_disk_that_fills_up_in_the_middle_of_an_upload(full: Full) -> None:
    body = b"x" * 900_000
    with uploading(full.program.port, "half.txt", len(body)) as upload:
        upload.sendall(body[:300_000])
        within(PATIENCE, lambda: halves(full.disk.seen))
        full.disk.fill()
        upload.sendall(body[300_000:])
        answer = ""
        while not answer.endswith("}"):  # the body comes after the head
            answer += upload.recv(10_000).decode()
    assert answer.startswith("HTTP/1.1 507")
    assert f"The file could not be kept: {FULL}." in answer
    full.disk.make_room()
    within(PATIENCE, lambda: not halves(full.disk.seen))


def test_started_on_a_full_disk_it_answers_and_goes_on_with_room(
    full: Full, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full.disk.fill()
    full.program.kill()
    full.program.begin()
    full.program.wait_until("failed", "ready")
    full.me.read_config()
    assert HERON in full.me.sees()
    assert "word29" in full.me.answer("Full?", "none")
    full.disk.make_room()
    told = full.me.answer("Where do documents stay?", "samples")
    assert "here.txt" in told, told[:6000]
    full.program.wait_until("ready")
    assert "heron.txt" in full.me.answer(HERON, "mine")
    full.program.stop()
    shutil.copytree(full.disk.seen, tmp_path / "data")
    monkeypatch.setenv("RAG_EMBED_MODEL", "hash")
    assert main(["check", "--data-dir", str(tmp_path / "data")]) == 0
