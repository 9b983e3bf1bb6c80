"""The folder of an index is read-only, damaged, or from an older Chroma, or the Chroma server is
started again, behind a program that runs: real processes, real requests."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rag.__main__ import main
from rag.index.soundness import DATABASE
from tests.deploying.tab import Tab
from tests.faults.confined import LINUX, no_override
from tests.faults.older_chroma import NUMBER
from tests.faults.program import ANSWER, SAMPLE, Program
from tests.faults.test_full import keys
from tests.integration.test_chroma_server import Running

pytestmark = LINUX

END = ANSWER.split()[-1]
OLDER = Path(__file__).with_name("older_chroma.tar.gz")
HERON, CROW = "Of what colour is the heron?", "Of what colour is the crow?"
RIVERS = "\n\n".join(f"## Part {n}\n\nriver{n} {'flows ' * 60}" for n in range(1_100))
"""So much that Chroma writes its graph of vectors into files."""


def asks(tab: Tab, question: str, scope: str = "mine") -> str:
    """What is shown of a conversation that begins with this question."""
    tab.press("conversations", "new")
    return tab.answer(question, scope)


def finds(tab: Tab, question: str, name: str, scope: str = "mine") -> None:
    """It is answered from the document of this name."""
    told = asks(tab, question, scope)
    assert END in told, told[-6000:]
    assert name in told, told[-6000:]


def is_told(tab: Tab, *what: str) -> None:
    """A question to one's own documents has this for an answer; samples are answered from."""
    told = asks(tab, HERON)
    assert END not in told
    for text in what:
        assert text in told, told[-6000:]
    finds(tab, SAMPLE, "here.txt", "samples")


def puts_in(tab: Tab, name: str, text: str) -> None:
    tab.adds(name, text.encode())
    tab.sees_in_the_end(f"{name} is ready")


class Several:
    """A program, and people who have documents there."""

    def __init__(self, program: Program):
        self.program = program
        program.start()
        self.me, self.other = program.tab(), program.tab()
        puts_in(self.me, "heron.txt", "The heron is grey.")
        puts_in(self.me, "rivers.md", RIVERS)
        (self.mine,) = self.folders("chroma")
        puts_in(self.other, "crow.txt", "The crow is black.")
        (self.others,) = self.folders("chroma") - {self.mine}

    def folders(self, name: str) -> set[Path]:
        """Those that the sessions have."""
        return set(self.program.data_dir.glob(f"sessions/*/{name}"))

    def start(self) -> None:
        self.program.start()
        for tab in (self.me, self.other):
            tab.read_config()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with Program(tmp_path_factory.mktemp("several") / "data", *no_override()) as program:
        yield Several(program)


def make_read_only(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        path.chmod(path.stat().st_mode & ~0o222)


def make_writable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | 0o200)


def overwrite(file: Path) -> None:
    """With anything, in its place and as long as it was."""
    with file.open("r+b") as opened:
        opened.write(os.urandom(file.stat().st_size))


def test_while_it_is_read_only_questions_are_answered_and_nothing_is_lost(several: Several) -> None:
    me = several.me
    finds(me, HERON, "heron.txt")  # the first question after an upload may write
    make_read_only(several.mine)
    finds(me, HERON, "heron.txt")
    me.adds("tern.txt", b"The tern is white.")
    assert "heron.txt" in me.sees_in_the_end("Is the disk full, or the folder read-only?")
    told = me.press("documents", "remove", keys(me.sees(), "remove")[0])
    assert "Is the disk full, or the folder read-only?" in told
    finds(me, HERON, "heron.txt")
    finds(several.other, CROW, "crow.txt")
    make_writable(several.mine)
    puts_in(me, "tern.txt", "The tern is white.")
    finds(me, "Of what colour is the tern?", "tern.txt")
    finds(me, HERON, "heron.txt")


def test_one_of_an_older_chroma_is_searched_and_added_to(several: Several) -> None:
    third = several.program.tab()
    before = several.folders("conversations")
    third.answer("Whose documents?", "none")
    (conversations,) = several.folders("conversations") - before
    with tarfile.open(OLDER) as archive:
        archive.extractall(conversations.parent, filter="data")
    seen = third.sees()
    assert "days.md" in seen
    assert f"{NUMBER} passages" in seen
    finds(third, "Of what colour is the stork?", "stork.txt")
    puts_in(third, "swan.txt", "The swan is white.")
    finds(third, "What happened on day 17?", "days.md")


def test_a_database_that_is_damaged_behind_a_running_program(several: Several) -> None:
    overwrite(several.mine / DATABASE)
    for _ in range(2):
        is_told(several.me, "is damaged", DATABASE, "Run python -m rag check")
    several.me.adds("gull.txt", b"The gull is grey.")
    several.me.sees_in_the_end("gull.txt: The index in")
    finds(several.other, CROW, "crow.txt")
    puts_in(several.other, "jay.txt", "The jay is blue.")


def test_its_check_puts_the_index_together_again(
    several: Several, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    several.program.stop()
    monkeypatch.setenv("RAG_EMBED_MODEL", "hash")
    assert main(["check", "--data-dir", str(several.program.data_dir)]) == 0
    assert "3 documents put together again" in capsys.readouterr().out


def test_started_on_a_damaged_graph_and_a_read_only_folder(several: Several) -> None:
    """Each is told to whom it concerns; who can write again needs no restart."""
    several.program.stop()
    for graph in several.mine.glob("*/data_level0.bin"):
        overwrite(graph)
    make_read_only(several.others)
    several.start()
    is_told(several.me, "is damaged", "data_level0.bin", "Run python -m rag check")
    is_told(several.other, "cannot be opened", "or the folder read-only?")
    make_writable(several.others)
    finds(several.other, CROW, "crow.txt")
    puts_in(several.other, "daw.txt", "The daw is black.")


def test_what_was_damaged_is_there_again_and_goes_on(
    several: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    several.program.stop()
    monkeypatch.setenv("RAG_EMBED_MODEL", "hash")
    assert main(["check", "--data-dir", str(several.program.data_dir)]) == 0
    several.start()
    finds(several.me, HERON, "heron.txt")
    finds(several.me, "Of what colour is the tern?", "tern.txt")
    puts_in(several.me, "gull.txt", "The gull is grey.")
    finds(several.other, CROW, "crow.txt")


@pytest.mark.slow
class TestServer:
    @pytest.fixture(scope="class")
    def server(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
        server = Running(tmp_path_factory.mktemp("server"))
        yield server
        server.kill()

    @pytest.fixture(scope="class")
    def me(self, server: Running, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
        with Program(tmp_path_factory.mktemp("program") / "data") as program:
            program.start(CHROMA_URL=server.at.url)
            me = program.tab()
            puts_in(me, "heron.txt", "The heron is grey.")
            yield me

    def test_it_is_started_again_while_nothing_is_asked(self, server: Running, me: Tab) -> None:
        server.kill()
        server.start()
        finds(me, HERON, "heron.txt")
        puts_in(me, "crow.txt", "The crow is black.")

    def test_it_is_asked_while_it_is_away(self, server: Running, me: Tab) -> None:
        server.kill()
        for scope in ("mine", "samples"):
            told = asks(me, HERON, scope)
            assert f"The Chroma server at {server.at.url} failed or cannot be reached" in told
            assert "Start it again" in told
            assert END not in told
        assert END in asks(me, HERON, "none")
        me.adds("tern.txt", b"The tern is white.")
        me.sees_in_the_end("tern.txt: The Chroma server at")
        server.start()
        finds(me, HERON, "heron.txt")
        finds(me, SAMPLE, "here.txt", "samples")
        puts_in(me, "tern.txt", "The tern is white.")
        finds(me, CROW, "crow.txt")
