"""What an engine tells while it answers."""

import ast
from pathlib import Path

import pytest

from rag.answering import events
from rag.answering.events import READING, SEARCHING, STATUSES, TOGETHER, WAITING, Status

ANSWERING = Path(events.__file__).parent


@pytest.mark.parametrize(
    ("status", "english"),
    [
        (Status(SEARCHING), "Searching"),
        (Status(READING, 3, 5), "Reading passages 3 of 5"),
        (Status(READING, 0, 4), "Reading 4 passages"),
        (Status(READING, 0, 1), "Reading 1 passage"),
        (Status(WAITING, 0, 1), "Waiting for 1 answer before this one"),
        (Status(TOGETHER, 0, 2), "Putting 2 answers together"),
        (Status(TOGETHER, 1, 3), "Putting answers together 1 of 3"),
    ],
)
def test_a_status_in_english(status: Status, english: str) -> None:
    assert str(status) == english


def test_every_status_is_one_of_a_few_texts() -> None:
    """Whoever translates them knows them all: no status is made of a text on the spot."""
    names = {name for name, value in vars(events).items() if value in STATUSES}
    assert len(names) == len(set(STATUSES)) == len(STATUSES)
    for file in ANSWERING.glob("*.py"):
        for call in ast.walk(ast.parse(file.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Status":
                said = {n.id for n in ast.walk(call.args[0]) if isinstance(n, ast.Name)}
                assert said & names or ast.unparse(call.args[0]) == "self.doing", ast.unparse(call)
