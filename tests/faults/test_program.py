"""The program as a whole, killed and in the way of others: real processes, real requests."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.deploying.tab import PATIENCE
from tests.documents.makers import pdf
from tests.documents.test_isolation import within
from tests.faults.program import ROOT, SLOW, Program, halves, uploading
from tests.ports import free_port
from tests.test_main import HASHED

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing kills there like this")

QUESTION = "Where does everything stay?"
CUT_OFF = "cut off: the connection or the program ended"


class Killed:
    """A program that was killed while it wrote an answer and took in files, and started again."""

    def __init__(self, program: Program):
        self.program = program
        program.start(WORD_SECONDS="0.2", EMBED_SECONDS="600")
        self.me = program.tab()
        self.me.adds("heron.pdf", pdf("The heron is grey."))
        self.me.sees_in_the_end("heron.pdf is ready")
        self.me.adds("slow.pdf", pdf(f"The tar runs like {SLOW}."))
        self.me.adds("crow.txt", b"The crow is black.")
        self.me.sees_in_the_end("0 of 1 passage")
        with suppress(httpx.HTTPError):  # the stream breaks off
            for _, line in self.me.begins(QUESTION):
                if "word3" in line:
                    program.kill()
        self.left = files(program.data_dir)
        program.start()
        self.me.read_config()

    @property
    def session(self) -> Path:
        (folder,) = (self.program.data_dir / "sessions").iterdir()
        return folder


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    with Program(tmp_path_factory.mktemp("killed") / "data") as program:
        yield Killed(program)


def test_killed_in_mid_answer_it_says_so_and_answers_again(killed: Killed) -> None:
    seen = killed.me.sees()
    assert QUESTION in seen
    assert CUT_OFF in seen
    assert "word29" not in seen
    assert "word29" in killed.me.answer("And what of my passwords?")
    again = killed.me.sees()
    assert CUT_OFF in again
    assert "word29" in again


def test_killed_while_it_takes_in_files_it_offers_them_again(killed: Killed) -> None:
    """What was said to be ready is there; of the rest nothing is, and then all."""
    assert killed.left.count("slow.pdf") == 2  # the upload, and what it is taken in from
    assert "heron.pdf" in killed.me.answer("Of what colour is the heron?", "mine")
    seen = killed.me.sees()
    assert "heron.pdf" in seen
    assert seen.count(">interrupted<") == 2
    assert "slow.pdf" not in killed.me.answer(f"What runs like {SLOW}?", "mine")
    killed.me.press("notes", "again")
    for name in ("slow.pdf", "crow.txt"):
        killed.me.sees_in_the_end(f"{name} is ready")
    assert "slow.pdf" in killed.me.answer(f"What runs like {SLOW}?", "mine")
    assert ">interrupted<" not in killed.me.sees()


def test_what_was_uploaded_before_it_was_killed_is_gone(killed: Killed) -> None:
    uploads = killed.program.data_dir / "uploads"
    assert "crow.txt" in killed.left
    assert files(uploads) == []
    killed.me.press("notes", "discard")
    assert files(killed.session / "incoming") == []
    assert len(files(killed.session / "originals")) == 2  # of the PDFs that are in


def run(*command: str | Path, **env: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_another_process_is_told_which_one_has_the_folder(killed: Killed, tmp_path: Path) -> None:
    data_dir = killed.program.data_dir
    there = ("--data-dir", data_dir)
    index = killed.session / "chroma"
    tried = {
        "page": run("app.py", "--no-browser", "--port", str(free_port()), *there),
        "check": run("-m", "rag", "check", *there),
        "backup": run("-m", "rag", "backup", tmp_path / "copy.tar.gz", *there),
        "restore": run("-m", "rag", "restore", tmp_path / "copy.tar.gz", *there),
        "reembed": run("-c", HASHED, "reembed", RAG_DATA_DIR=str(data_dir)),
        "ask": run("-c", HASHED, "ask", "Of what colour?", "--storage-dir", index),
        "check of one": run("-m", "rag", "check", "--storage-dir", index),
    }
    named = f"in use by process {killed.program.pid} on "
    for what, process in tried.items():
        output, errors = process.communicate(timeout=PATIENCE)
        assert named in output + errors, what
        assert process.returncode == 1, what
        assert len(errors.splitlines()) == 1, errors
        assert "Traceback" not in errors
    assert not (tmp_path / "copy.tar.gz").exists()
    assert "heron.pdf" in killed.me.answer("Of what colour is the heron?", "mine")


def test_half_an_upload_is_not_kept(killed: Killed) -> None:
    """Of somebody who goes away in the middle of it."""
    with uploading(killed.program.port, "half.txt", 1_000_000) as upload:
        upload.sendall(b"x" * 500_000)
        within(PATIENCE, lambda: halves(killed.program.data_dir))
    within(PATIENCE, lambda: not halves(killed.program.data_dir))
