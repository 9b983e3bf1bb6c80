"""`python -m rag`: what is printed where and when, how it stops, and its exit status."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rag import terminal
from rag.__main__ import main
from rag.answering.defaults import Settings
from rag.config import VARIABLES
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.holding import hold
from rag.types import Completion, Reasoning
from tests.answering.conftest import Says
from tests.llms.conftest import GUARD, ModelServer, Request, server
from tests.ports import free_port

__all__ = ["server"]  # a fixture

ROOT = Path(__file__).parents[1]
HASHED = (
    "import sys; from rag import HashEmbedding, Settings; Settings.embed_model = HashEmbedding();"
    "from rag.__main__ import main; sys.exit(main())"
)
"""The program with an embedding model that needs no weights."""
SOURCE = "> Source (sky.md, "


class Counting(HashEmbedding):
    """Counts the texts it embeds."""

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.texts += len(texts)
        return super().embed(texts)


@pytest.fixture(autouse=True)
def embedding(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    """No setting of this machine, and no weights."""
    for name in VARIABLES:
        if name != "RAG_DATA_DIR":  # there the slow tests have their weights
            monkeypatch.delenv(name, raising=False)
    embedding = Counting()
    Settings.embed_model = embedding
    yield embedding
    Settings.embed_model = None


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "sky.md").write_text("The sky is blue because of Rayleigh scattering.\n")
    return folder


def chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    data = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return f"data: {json.dumps({**data, 'choices': [choice]})}\n\n".encode()


END = chunk("").replace(b'"finish_reason": null', b'"finish_reason": "stop"') + b"data: [DONE]\n\n"


def says(*pieces: str | threading.Event, then: str = "end") -> Callable[[Request], None]:
    """An answer in pieces; an event among them is waited for."""

    def behave(request: Request) -> None:
        request.begin()
        for piece in pieces:
            if isinstance(piece, str):
                request.send(chunk(piece))
            else:
                piece.wait(GUARD)
        if then == "end":
            request.send(END)
        getattr(request, then)()

    return behave


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Says]:
    """Puts a model in the place of the one that the command names."""

    def say(*replies: Any, **options: Any) -> Says:
        llm = Says(*replies, **options)
        monkeypatch.setattr(terminal, "load", lambda *_: llm)
        return llm

    return say


def ask(docs: Path, *options: str, question: str = "Why is the sky blue?") -> int:
    return main(["ask", question, "--docs", str(docs), *options])


def chat(docs: Path, *lines: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return main(["chat", "--docs", str(docs)])


# One question


def test_the_answer_and_its_sources_are_the_output(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = say(["Because", " of", " scattering."])
    assert ask(docs) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(
        'Because of scattering.\n\n> [1] "Because of scattering." sky.md'
    )
    assert f"\n\n{SOURCE}" in captured.out
    assert "The sky is blue because of Rayleigh" in captured.out
    assert captured.err == ""
    assert "Rayleigh" in llm.prompts[0]
    assert "Why is the sky blue?" in llm.prompts[0]


def test_what_bears_out_the_answer_is_printed_below_it(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say(["The sky is blue because", " of Mie scattering [1].", " Cats sleep. I don't know."])
    assert ask(docs) == 0
    answer, citations, source = capsys.readouterr().out.strip().split("\n\n")
    assert answer == "The sky is blue because of Mie scattering. Cats sleep. I don't know."
    partly, nothing = citations.splitlines()
    assert partly.startswith(
        '> [1] "The sky is blue because of Mie scattering." partly: Mie is not'
    )
    assert nothing == '> [-] "Cats sleep." not found in your documents'
    assert source.startswith(SOURCE)


def test_a_file_and_several_places_can_be_asked_about(
    docs: Path, tmp_path: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "snow.txt").write_text("Snow is white.")
    (docs / "below").mkdir()
    (docs / "below" / "sea.md").write_text("The sea is deep.")
    say()
    assert ask(docs, "--docs", str(tmp_path / "snow.txt"), "--top-k", "9") == 0
    out = capsys.readouterr().out
    assert all(f"> Source ({name}, " in out for name in ("sky.md", "snow.txt", "sea.md"))


def test_reasoning_is_not_printed(docs: Path, say: Any, capsys: pytest.CaptureFixture[str]) -> None:
    say(["<think>Hm.</think>", Reasoning("Well."), "Scattering."])
    assert ask(docs) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Scattering.\n")
    assert "Hm" not in captured.out + captured.err
    assert "Well" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("ends", "note"),
    [("stop", ""), ("length", "cut short: it was too long"), ("truncated", "cut off: the conn")],
)
def test_how_an_answer_ended_is_noted_beside_it(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], ends: Any, note: str
) -> None:
    say(["Because", Completion(ends)])
    assert ask(docs) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith(f"Because\n\n{SOURCE}")
    assert (f"({note}" in captured.err) if note else captured.err == ""


def test_what_is_being_done_is_shown_in_a_terminal(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say([Reasoning("Hm."), "Because."])
    assert ask(docs) == 0
    captured = capsys.readouterr()
    for status in ("Reading ", "Searching", "Reading 1 passage", "Thinking"):
        assert f"\r\x1b[K{status}" in captured.err
        assert status not in captured.out
    assert captured.err.endswith("\r\x1b[K")  # and gives way
    assert "\x1b" not in captured.out


def test_in_a_terminal_nothing_takes_the_answer_back(docs: Path, server: ModelServer) -> None:
    """Both outputs are one screen there: what is cleared after a piece would take the piece."""
    server.behaviours.append(says("Response one.", " Then", " more."))
    main_end, program_end = pty.openpty()
    environment = {**os.environ, "OPENAI_BASE_URL": server.url, "RAG_MODEL": "openai:x"}
    arguments = ["ask", "Why?", "--docs", str(docs)]
    with subprocess.Popen(
        [sys.executable, "-c", HASHED, *arguments],
        cwd=ROOT, env=environment, stdin=program_end, stdout=program_end, stderr=program_end,
    ) as process:  # fmt: skip
        os.close(program_end)
        screen = b""
        with suppress(OSError):  # how Linux tells that nobody writes any more
            while piece := os.read(main_end, 1000):
                screen += piece
    os.close(main_end)
    assert process.returncode == 0
    assert b"Searching" in screen
    answer = screen.index(b"Response one. Then more.\r\n")
    assert b"\x1b[K" not in screen[answer:]
    assert screen.rindex(b"\x1b[K") == answer - 3  # the status gave way to it


@pytest.mark.parametrize(
    ("options", "small", "passages"),
    [([], False, 3), (["--top-k", "2"], False, 2), ([], True, 1), (["--top-k", "2"], True, 2)],
)
def test_how_many_passages_are_read(
    docs: Path,
    say: Any,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    small: bool,
    passages: int,
) -> None:
    """A small model is given one, unless a number is stated."""
    for n in range(5):
        (docs / f"{n}.md").write_text(f"Number {n} of the sky.")
    say(small=small)
    assert ask(docs, *options) == 0
    assert capsys.readouterr().out.count("> Source") == passages


def test_a_mode_can_be_chosen(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say(["Because."])
    assert ask(docs, "--mode", "accumulate") == 0
    assert capsys.readouterr().out.startswith("Response 1: Because.\n")
    monkeypatch.setenv("RAG_RESPONSE_MODE", "accumulate")
    assert ask(docs) == 0
    assert capsys.readouterr().out.startswith("Response 1: Because.\n")


def test_no_text_gives_the_sources_alone(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say()
    assert ask(docs, "--mode", "no_text") == 0
    assert capsys.readouterr().out.strip().startswith(SOURCE)


def test_the_settings_hold(docs: Path, say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_MAX_NEW_TOKENS", "7")
    llm = say()
    assert ask(docs) == 0
    assert llm.limits == [7]


def test_a_file_of_a_folder_that_cannot_be_read_is_noted_beside_the_answer(
    docs: Path, say: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (docs / "broken.pdf").write_bytes(b"no pdf")
    say()
    assert ask(docs) == 0
    assert "Left out broken.pdf" in caplog.text
    assert "broken" not in capsys.readouterr().out


# An index that is kept


def test_a_kept_index_is_not_made_again_and_loses_nothing(
    docs: Path,
    tmp_path: Path,
    say: Any,
    embedding: Counting,
    capsys: pytest.CaptureFixture[str],
) -> None:
    say()
    (docs / "snow.md").write_text("Snow is white.")
    kept = ["--storage-dir", str(tmp_path / "kept"), "--top-k", "9"]
    assert ask(docs, *kept) == 0
    assert embedding.texts == 2
    assert ask(docs, *kept) == 0
    assert embedding.texts == 2
    assert capsys.readouterr().out.count("> Source (snow.md") == 2
    (docs / "snow.md").unlink()
    assert ask(docs, *kept) == 0
    assert "> Source (snow.md" in capsys.readouterr().out
    assert main(["ask", "Why?", *kept]) == 0  # about what is there
    assert capsys.readouterr().out.count("> Source") == 2
    assert embedding.texts == 2


# What goes wrong


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that an error is told with."""
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("missing", "There is no file or folder .*missing. Check the path."),
        ("docs/broken.pdf", "broken.pdf: .*content is no PDF"),
        ("docs/blank.md", "blank.md: "),
        ("docs/program.exe", "program.exe: this type cannot be read"),
        ("empty", "There is nothing to read in .*empty"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], place: str, says: str
) -> None:
    (docs / "broken.pdf").write_bytes(b"no pdf")
    (docs / "blank.md").write_text(" \n")
    (docs / "program.exe").write_bytes(b"MZ\0\x90")
    (docs.parent / "empty").mkdir()
    say()
    assert ask(docs.parent / place) == 1
    assert re.search(says, refused(capsys))


@pytest.mark.parametrize("question", ["", "  "])
def test_an_empty_question_is_one_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], question: str
) -> None:
    say()
    assert ask(docs, question=question) == 1
    assert refused(capsys) == "The question is empty. Ask something."


@pytest.mark.parametrize("top_k", ["0", "-3"])
def test_a_number_of_passages_below_one_is_one_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], top_k: str
) -> None:
    say()
    assert ask(docs, "--top-k", top_k) == 1
    assert "--top-k: it has to be a whole number above 0" in refused(capsys)


@pytest.mark.parametrize("model", ["./nowhere", "/nowhere/at/all"])
def test_a_model_that_is_not_there_is_one_line(
    docs: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    assert ask(docs, "--model", model) == 1
    assert refused(capsys) == f"There is no folder {model}. Check the path."


def test_a_model_of_a_server_without_key_and_address_is_one_line(
    docs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask(docs, "--model", "openai:x") == 1
    assert "OPENAI_API_KEY" in refused(capsys)


def test_a_connection_that_is_refused_is_one_line(
    docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{free_port()}/v1")
    assert ask(docs, "--model", "openai:x") == 1
    assert "cannot be reached" in refused(capsys)


def test_a_window_too_small_is_one_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say(context_window=60)
    assert ask(docs) == 1
    assert "larger window" in refused(capsys)


def test_a_model_that_cannot_stream_is_one_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say().is_streaming = False
    assert ask(docs) == 1
    assert "cannot stream" in refused(capsys)


def test_an_index_of_another_embedding_is_one_line(
    docs: Path, tmp_path: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    class Other(HashEmbedding):
        name = "other"

    say()
    assert ask(docs, "--storage-dir", str(tmp_path / "kept")) == 0
    capsys.readouterr()
    Settings.embed_model = Other()
    assert ask(docs, "--storage-dir", str(tmp_path / "kept")) == 1
    refusal = refused(capsys)
    assert "was made with the embedding model hash" in refusal
    assert "python -m rag reembed" in refusal
    assert main(["reembed", "--storage-dir", str(tmp_path / "kept")]) == 0
    assert "1 passage embedded again with other." in capsys.readouterr().err
    assert ask(docs, "--storage-dir", str(tmp_path / "kept")) == 0


def test_a_kept_index_that_is_damaged_is_mended(
    docs: Path, tmp_path: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    check = ["check", "--storage-dir", str(kept)]
    assert main(check) == 1
    assert "There is no folder" in refused(capsys)
    say()
    assert ask(docs, "--storage-dir", str(kept)) == 0
    capsys.readouterr()
    assert main(check) == 0
    assert "All is in order." in capsys.readouterr().err
    lock = hold(kept / "lock", 0)
    assert main(check) == 1
    assert f"in use by process {os.getpid()} on" in capsys.readouterr().out
    lock.release()
    (kept / "chroma.sqlite3").unlink()
    assert ask(docs, "--storage-dir", str(kept)) == 1
    assert "python -m rag check" in refused(capsys)
    assert main(check) == 0
    assert "1 document put together again" in capsys.readouterr().out
    assert ask(docs, "--storage-dir", str(kept)) == 0


def test_what_cannot_be_embedded_again_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAG_DATA_DIR", str(tmp_path))
    assert main(["reembed", "--storage-dir", str(tmp_path / "nowhere")]) == 1
    assert "There is no folder" in refused(capsys)
    assert main(["reembed"]) == 0
    assert "0 passages embedded again" in capsys.readouterr().err


def test_a_setting_that_cannot_be_used_is_one_line(
    docs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_TOP_K", "many")
    assert ask(docs) == 1
    assert refused(capsys).startswith("RAG_TOP_K cannot be used")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["ask"],
        ["ask", "why?"],
        ["ask", "--docs", "."],
        ["chat"],
        ["ask", "why?", "--docs", ".", "--mode", "best"],
        ["ask", "why?", "--docs", ".", "--top-k", "many"],
        ["ask", "why?", "--docs", ".", "--model", "openai:"],
        ["sing", "--docs", "."],
        ["eval"],
        ["eval", "--corpus", "c"],
        ["eval", "--corpus", "c", "--questions", "q", "--limit", "0"],
        ["eval", "--corpus", "c", "--questions", "q", "--retriever", "best"],
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert re.search(r"See python -m rag.* --help\.$|--docs\.$", refused(capsys))


def test_an_error_in_the_middle_keeps_what_came(
    docs: Path, server: ModelServer, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(request: Request) -> None:
        request.begin()
        request.send(chunk("Because") + b'data: {"error": {"message": "out of memory"}}\n\n')
        request.end()

    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    server.behaviours.append(fail)
    assert ask(docs, "--model", "openai:x") == 1
    captured = capsys.readouterr()
    assert captured.out == "Because\n"
    (line,) = captured.err.splitlines()
    assert "ended the answer with an error" in line


# A conversation


def test_chat_answers_line_by_line(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = say(["Scattering."], ["Why is the sky red?"], ["Evening."])
    assert chat(docs, "Why blue?", "", "  ", "And red?", monkeypatch=monkeypatch) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith('Scattering.\n\n> [1] "Scattering." sky.md, ')
    assert f'Evening.\n\n> [-] "Evening." not found in your documents\n\n{SOURCE}' in captured.out
    assert captured.err == "(searched for: Why is the sky red?)\n"
    assert [message.content for message in llm.calls[2][:-1]] == ["Why blue?", "Scattering."]


def test_chat_survives_an_error_in_one_of_its_lines(
    docs: Path, server: ModelServer, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("RAG_MODEL", "openai:x")
    server.behaviours += [
        says("First."),
        lambda request: request.reply(401, "{}"),  # while condensing
        says("Third, condensed?"),
        says("Third."),
    ]
    assert chat(docs, "One?", "Two?", "Three?", monkeypatch=monkeypatch) == 0
    captured = capsys.readouterr()
    assert re.findall(r"^\w+\.$", captured.out, re.M) == ["First.", "Third."]
    assert "OPENAI_API_KEY" in captured.err
    assert not server.behaviours


def test_chat_without_a_line_says_nothing(
    docs: Path, say: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    say()
    assert chat(docs, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == ""


# As a program


class Program:
    """`python -m rag` in a process, whose output is read as it comes."""

    def __init__(self, *arguments: str, url: str, command: Sequence[str] = ("-c", HASHED)):
        self.process = subprocess.Popen(
            [sys.executable, *command, *arguments],
            cwd=ROOT,
            env={**os.environ, "OPENAI_BASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            # Where the tests run in the background Ctrl-C is ignored, also by what they start.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self.out = self.err = ""
        self._readers = [
            threading.Thread(target=self._read, args=(name,)) for name in ("stdout", "stderr")
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, name: str) -> None:
        stream = getattr(self.process, name)
        short = name[3:]
        while text := stream.read(1):
            setattr(self, short, getattr(self, short) + text)

    def wait_for(self, text: str, guard: float = 60) -> None:
        until = time.monotonic() + guard
        while text not in self.out:
            assert time.monotonic() < until, (self.out, self.err)
            assert self.process.poll() is None, (self.out, self.err)
            time.sleep(0.02)

    def end(self) -> int:
        assert self.process.stdin
        self.process.stdin.close()
        code = self.process.wait(60)
        for reader in self._readers:
            reader.join(GUARD)
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(GUARD)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@pytest.fixture
def program(server: ModelServer, docs: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(*arguments: str, **options: Any) -> Program:
        arguments = (*arguments, "--docs", str(docs), "--model", "openai:x")
        started.append(Program(*arguments, url=server.url, **options))
        return started[-1]

    yield start
    for one in started:
        one.kill()


def test_the_answer_is_printed_as_it_arrives(program: Any, server: ModelServer) -> None:
    go = threading.Event()
    server.behaviours.append(says("Because", " of", go, " scattering."))
    running = program("ask", "Why?")
    running.wait_for("Because of")
    assert "scattering" not in running.out
    go.set()
    assert running.end() == 0
    assert running.out.startswith('Because of scattering.\n\n> [1] "Because of scattering." sky.md')
    assert running.err == ""


def test_ctrl_c_stops_the_model_and_keeps_what_came(program: Any, server: ModelServer) -> None:
    server.behaviours.append(says("Because", " of", then="stall"))
    running = program("ask", "Why?")
    running.wait_for("Because of")
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    assert server.gone.wait(GUARD)
    assert running.out.startswith(f"Because of\n\n{SOURCE}")
    assert running.err == "(stopped)\n"


def test_ctrl_c_before_the_first_text_stops_the_model_too(
    program: Any, server: ModelServer
) -> None:
    server.behaviours.append(says(then="stall"))
    running = program("ask", "Why?")
    until = time.monotonic() + 60
    while not server.received and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(0.3)
    running.process.send_signal(signal.SIGINT)
    assert running.end() == 0
    assert server.gone.wait(GUARD)
    assert running.out.strip().startswith(SOURCE)
    assert running.err == "(stopped)\n"


def test_ctrl_c_in_a_conversation_ends_only_the_answer(program: Any, server: ModelServer) -> None:
    server.behaviours += [says("One", then="stall"), says("Condensed?"), says("Two.")]
    running = program("chat")
    running.process.stdin.write("First?\nSecond?\n")
    running.process.stdin.flush()
    running.wait_for("One")
    running.process.send_signal(signal.SIGINT)
    running.wait_for("Two.")
    assert running.end() == 0
    assert server.gone.is_set()
    assert running.out.startswith(f"One\n\n{SOURCE}")
    assert running.err == "(stopped)\n(searched for: Condensed?)\n"
    told = server.received[-1]["messages"]
    assert [message["content"] for message in told[:-1]] == ["First?", "One"]


def test_ctrl_c_while_it_waits_for_a_line_ends_the_conversation(
    program: Any, server: ModelServer
) -> None:
    server.behaviours.append(says("One."))
    running = program("chat")
    running.process.stdin.write("First?\n")
    running.process.stdin.flush()
    running.wait_for(SOURCE)
    time.sleep(0.3)
    running.process.send_signal(signal.SIGINT)
    running.process.wait(60)  # before its input ends, which would end it too
    assert running.end() == 0
    assert running.err == ""


@pytest.mark.parametrize("command", ["ask", "chat"])
def test_a_reader_that_has_read_enough_is_no_error(
    server: ModelServer, docs: Path, command: str
) -> None:
    go = threading.Event()
    server.behaviours.append(says("First line.\n", go, *["More lines.\n"] * 50, then="stall"))
    arguments = ["ask", "Why?"] if command == "ask" else ["chat"]
    arguments += ["--docs", str(docs), "--model", "openai:x"]
    with subprocess.Popen(
        [sys.executable, "-c", HASHED, *arguments],
        cwd=ROOT,
        env={**os.environ, "OPENAI_BASE_URL": server.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write("Why?\n")
        process.stdin.flush()
        assert process.stdout.readline() == "First line.\n"
        process.stdout.close()  # as `head -1` does
        go.set()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""


def test_notes_go_to_the_standard_error(program: Any, server: ModelServer, docs: Path) -> None:
    (docs / "broken.pdf").write_bytes(b"no pdf")
    server.behaviours.append(says("Because."))
    running = program("ask", "Why?")
    assert running.end() == 0
    assert running.out.startswith("Because.\n")
    assert running.err.startswith("Left out broken.pdf: ")
    assert running.err.count("\n") == 1


def test_an_error_is_one_line_and_status_1(program: Any, server: ModelServer) -> None:
    server.behaviours.append(lambda request: request.reply(404, "{}"))
    running = program("ask", "Why?")
    assert running.end() == 1
    assert (running.out, running.err.count("\n")) == ("", 1)
    assert running.err.startswith("The model server does not know x.")


@pytest.mark.slow
def test_the_module_runs_with_real_embeddings(
    program: Any, server: ModelServer, minilm_path: Path
) -> None:
    server.behaviours.append(says("Because of", " scattering."))
    running = program("ask", "Why?", command=("-m", "rag"))
    assert running.end() == 0
    assert running.out.startswith('Because of scattering.\n\n> [1] "Because of scattering." sky.md')
    assert running.err == ""


@pytest.mark.slow
def test_the_module_answers_with_the_default_model(
    docs: Path, minilm_path: Path, smollm_path: Path
) -> None:
    arguments = ["ask", "Why is the sky blue?", "--docs", str(docs)]
    done = subprocess.run(
        [sys.executable, "-m", "rag", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    answer, cited, sources = done.stdout.split("\n\n", 2)
    assert "scattering" in answer
    assert cited.startswith("> [1] ")
    assert sources.startswith(SOURCE)


# Measuring


@pytest.fixture
def measured(tmp_path: Path) -> list[str]:
    """The arguments that name a corpus and its questions."""
    corpus, questions = tmp_path / "corpus.jsonl", tmp_path / "questions.jsonl"
    entries = [
        {"id": "sky", "title": "Sky", "text": "The sky is blue because of scattering."},
        {"id": "snow", "title": "Snow", "text": "Snow is white."},
    ]
    asked = [
        {"id": "1", "question": "Why is the sky blue?", "answers": ["scattering"]},
        {"id": "2", "question": "Why is snow white?", "answers": ["ice"]},
        {"id": "3", "question": "Who sings?", "answers": []},
    ]
    places: list[list[str]] = [["sky"], ["sky"], []]
    questions.write_text(
        "".join(json.dumps(q | {"passages": p}) + "\n" for q, p in zip(asked, places, strict=True))
    )
    corpus.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return ["eval", "--corpus", str(corpus), "--questions", str(questions)]


def test_figures_are_printed_one_a_line(
    measured: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(measured) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        *("recall@1 0.500", "recall@5 1.000", "recall@10 1.000", "mrr 0.750", "ndcg@10 0.815")
    ]
    assert captured.err == "3 questions, 1 without an answer\n"


def test_answers_are_measured_on_request(
    measured: list[str], say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    llm = say(["Because of Scattering!"])
    assert main([*measured, "--answers", "--retriever", "keyword"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[5:] == ["contains 0.500", "refused 1.000", "refused_wrongly 0.000"]
    assert len(llm.calls) == 2
    assert main([*measured, "--answers", "--limit", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[5:] == ["contains 1.000"]


def test_figures_for_programs(measured: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*measured, "--json", "--limit", "1", "--retriever", "dense"]) == 0
    captured = capsys.readouterr()
    shares = dict.fromkeys(("recall@1", "recall@5", "recall@10", "mrr", "ndcg@10"), 1.0)
    counts = {"entries": 2, "questions": 1, "unanswerable": 0}
    assert json.loads(captured.out) == shares | counts
    assert captured.err == ""


def test_a_corpus_that_is_kept_is_not_embedded_again(
    measured: list[str], tmp_path: Path, embedding: Counting
) -> None:
    kept = [*measured, "--storage-dir", str(tmp_path / "kept")]
    assert main(kept) == 0
    texts = embedding.texts
    assert main(kept) == 0
    assert (texts, embedding.texts) == (2, 2)


def test_how_far_measuring_is_is_shown_in_a_terminal(
    measured: list[str],
    say: Any,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    say()
    assert main([*measured, "--answers"]) == 0
    captured = capsys.readouterr()
    for status in ("Embedding 2 documents, 50%", "Searching for 2 quest", "Answering 3 questions"):
        assert f"\r\x1b[K{status}" in captured.err
    assert "\x1b" not in captured.out


def test_what_cannot_be_measured_is_one_line(
    measured: list[str], tmp_path: Path, say: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    say()
    _, _, corpus, _, questions = measured
    assert main([*measured[:4], str(tmp_path / "missing")]) == 1
    assert (
        refused(capsys) == f"{tmp_path / 'missing'}: it cannot be read: No such file or directory."
    )
    Path(questions).write_text('{"id": "3", "question": "Who sings?", "passages": []}\n')
    assert main(measured) == 1
    assert refused(capsys).startswith("There is nothing to measure: ")
    assert main([*measured, "--answers"]) == 0
    assert capsys.readouterr().out.splitlines() == ["refused 0.000"]
    Path(questions).write_text('{"id": "3", "question": "Who?", "passages": ["moon"]}\n')
    assert main(measured) == 1
    assert refused(capsys) == f"{questions}: line 1: there is no 'moon' in the corpus."
    Path(corpus).write_text("no\n")
    assert main(measured) == 1
    assert "corpus.jsonl: line 1: this is not JSON" in refused(capsys)
