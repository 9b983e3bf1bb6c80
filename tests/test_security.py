"""What docs/security.md promises, against the tests that it names."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "security.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)*)`", TEXT)))
PROMISED, OPEN = TEXT.split("## What is not promised")


def test_tests_are_named() -> None:
    assert len(NAMED) > 30


@pytest.mark.parametrize("name", NAMED)
def test_each_named_test_exists(name: str) -> None:
    file, *path = name.split("::")
    body = ast.parse((ROOT / file).read_text("utf-8")).body
    for step in path:
        (found,) = [each for each in body if getattr(each, "name", "") == step]
        body = getattr(found, "body", [])
    if not path:
        return
    function = ast.FunctionDef, ast.AsyncFunctionDef
    tests = (
        [found.name]
        if isinstance(found, function)
        else [each.name for each in body if isinstance(each, function)]
    )
    assert any(each.startswith("test_") for each in tests)


def test_each_promise_names_one() -> None:
    for section in PROMISED.split("\n## ")[1:]:
        for promise in re.split(r"\n- ", section)[1:]:
            assert "`tests/" in promise, promise
