"""What docs/security.md and docs/faults.md promise, against the tests that they name."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECURITY, FAULTS = (
    (ROOT / "docs" / name).read_text("utf-8") for name in ("security.md", "faults.md")
)
NAME = re.compile(r"`(tests/[\w/]+\.py(?:::\w+)*)`")
NAMED = [sorted(set(NAME.findall(page))) for page in (SECURITY, FAULTS)]
PROMISED, _ = SECURITY.split("## What is not promised")
ROWS = [
    line.strip("|").split("|")
    for line in FAULTS.splitlines()
    if line.startswith("|") and not line.startswith("|-") and "What a person sees" not in line
]


def test_tests_are_named() -> None:
    security, faults = map(len, NAMED)
    assert security > 30
    assert faults > 40


@pytest.mark.parametrize("name", sorted({name for names in NAMED for name in names}))
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


def test_each_fault_says_what_is_seen_and_kept_and_names_one() -> None:
    for row in ROWS:
        what, seen, kept, tests = row
        assert all(cell.strip() for cell in (what, seen, kept)), row
        assert NAME.search(tests), row
