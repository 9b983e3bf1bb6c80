"""That no behaviour is left without a test."""

import ast
import re
from pathlib import Path

BEHAVIOURS = 26


def test_every_behaviour_has_a_test() -> None:
    names = [
        node.name
        for file in Path(__file__).parent.glob("test_*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
    ]
    numbers = {int(found[1]) for name in names if (found := re.match(r"test_(\d\d)_", name))}
    assert numbers == set(range(1, BEHAVIOURS + 1))
