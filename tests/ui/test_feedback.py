"""What is said of an answer is one whole line, or a clear message and nothing lost."""

import errno
import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag.answering.options import AnswerOptions
from rag.config import Config
from rag.errors import RivuletError
from rag.types import Citation, Node, NodeWithScore
from rag.ui import feedback as module
from rag.ui.conversations import Answer, Turn
from rag.ui.feedback import LONGEST_COMMENT, Feedback

NODE = Node("The sky is blue.", "d", 0, 0, "sky.pdf", 2)
ANSWER = Answer(
    "m",
    "It is blue. 🙂",
    (NodeWithScore(NODE, 0.5),),
    citations=(Citation(0, 11, "supported", NODE, 0, 16, 0.9),),
    searched_for="What colour has the sky?",
    finish_reason="stop",
    rating=-1,
)
TURN = Turn("And the sky?", [ANSWER], "mine", options=AnswerOptions(top_k=4))


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    return Feedback(tmp_path / "data" / "feedback.jsonl")


def lines(feedback: Feedback) -> list[dict[str, Any]]:
    return [json.loads(line) for line in feedback.file.read_text("utf-8").split("\n")[:-1]]


def test_it_is_kept_with_question_passages_and_settings(feedback: Feedback) -> None:
    feedback.give(TURN, ANSWER, " Too\nshort. ")
    (line,) = lines(feedback)
    assert line["question"] == "And the sky?"
    assert line["searched_for"] == "What colour has the sky?"
    assert line["text"] == "It is blue. 🙂"
    assert (line["model"], line["rating"], line["comment"]) == ("m", -1, "Too\nshort.")
    (source,) = line["sources"]
    assert (source["file"], source["page"], source["text"]) == ("sky.pdf", 2, "The sky is blue.")
    (citation,) = line["citations"]
    assert (citation["sentence"], citation["source"]) == ("It is blue.", 1)
    assert (line["scope"], line["options"]["top_k"]) == ("mine", 4)
    assert line["time"].endswith("+00:00")


def test_nothing_tells_who_it_is_from(feedback: Feedback) -> None:
    feedback.give(TURN, ANSWER)
    assert set(lines(feedback)[0]) == {
        *("time", "answer", "rating", "comment", "question", "scope", "options", "model"),
        *("searched_for", "text", "citations", "sources", "reasoning", "finish_reason", "error"),
        *("usage", "timings", "suggestions"),
    }
    if os.name == "posix":
        assert feedback.file.stat().st_mode & 0o777 == 0o600


def test_who_changes_their_mind_adds_a_line(feedback: Feedback) -> None:
    feedback.give(TURN, ANSWER)
    feedback.give(TURN, replace(ANSWER, rating=1), "Better now.")
    first, second = lines(feedback)
    assert first["answer"] == second["answer"] == ANSWER.key
    assert (first["rating"], second["rating"]) == (-1, 1)


def test_it_can_be_off(tmp_path: Path) -> None:
    assert Feedback.of(Config(data_dir=tmp_path, feedback=False)) is None
    on = Feedback.of(Config(data_dir=tmp_path))
    assert on
    assert on.file == tmp_path / "feedback.jsonl"
    assert list(tmp_path.iterdir()) == []


def test_a_comment_that_is_too_long_is_told(feedback: Feedback) -> None:
    feedback.give(TURN, ANSWER, "x" * LONGEST_COMMENT)
    with pytest.raises(RivuletError, match=r"2,001 characters; at most 2,000 .*Shorten"):
        feedback.give(TURN, ANSWER, "x" * (LONGEST_COMMENT + 1))
    assert len(lines(feedback)) == 1


def test_the_file_grows_only_so_far(feedback: Feedback, monkeypatch: pytest.MonkeyPatch) -> None:
    feedback.give(TURN, ANSWER)
    size = feedback.file.stat().st_size
    monkeypatch.setattr(module, "LARGEST", size + 10)
    with pytest.raises(RivuletError, match="no more room"):
        feedback.give(TURN, ANSWER)
    assert feedback.file.stat().st_size == size
    feedback.file.rename(feedback.file.with_suffix(".old"))
    feedback.give(TURN, ANSWER)


def test_what_no_encoding_can_write_is_replaced(feedback: Feedback) -> None:
    feedback.give(TURN, ANSWER, "a\ud800")
    assert lines(feedback)[0]["comment"] == "a\ufffd"


def test_threads_do_not_write_into_each_others_lines(feedback: Feedback) -> None:
    def give(number: int) -> None:
        for _ in range(20):
            feedback.give(TURN, ANSWER, f"{number} " * 500)

    threads = [threading.Thread(target=give, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    given = [line["comment"].split() for line in lines(feedback)]
    assert len(given) == 160
    assert all(len(words) == 500 and len(set(words)) == 1 for words in given)


def test_processes_do_not_either(feedback: Feedback) -> None:
    code = (
        "import sys; from pathlib import Path; from rag.ui.feedback import *; "
        "answer = Answer(text='x' * 50_000); "
        "[Feedback(Path(sys.argv[1])).give(Turn('?'), answer) for _ in range(30)]"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(feedback.file)]) for _ in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]
    assert [len(line["text"]) for line in lines(feedback)] == [50_000] * 60


def test_a_full_disk_is_told_and_leaves_no_half_line(
    feedback: Feedback, monkeypatch: pytest.MonkeyPatch
) -> None:
    feedback.give(TURN, ANSWER)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def half(file: int, line: bytes) -> int:
        return write(file, line[:20])

    write = os.write
    for failing in (full, half):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing)
            with pytest.raises(RivuletError, match=r"could not be kept: .*conversation is not"):
                feedback.give(TURN, ANSWER)
        assert len(lines(feedback)) == 1
    feedback.give(TURN, ANSWER)
    assert len(lines(feedback)) == 2


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RivuletError, match=r"could not be kept: (Not a directory|File exists)"):
        Feedback(tmp_path / "file" / "feedback.jsonl").give(TURN, ANSWER)
