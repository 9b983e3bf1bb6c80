"""What docs/evaluation.md shows: its files are read, and the figures have the names it explains."""

import re
from pathlib import Path

import pytest

from rag.__main__ import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "evaluation.md").read_text("utf-8")
CORPUS, QUESTIONS = re.findall(r"```json\n(.*?)```", PAGE, re.S)
(SHOWN,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The command the page shows, on the files it shows."""
    (command,) = re.findall(r"-m rag (eval .+)", PAGE)
    for name, lines in (("corpus.jsonl", CORPUS), ("questions.jsonl", QUESTIONS)):
        (tmp_path / name).write_text(lines)
        command = command.replace(name, str(tmp_path / name))
    return list(command.split())


@pytest.mark.slow
def test_the_example_prints_what_stands_below_it(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == SHOWN


def test_every_figure_and_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    for line in SHOWN.splitlines():
        assert f"`{line.split()[0]}`" in PAGE
    with pytest.raises(SystemExit):
        main(["eval", "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == set(re.findall(r"--[a-z][a-z-]*", PAGE)) - {"--data"}
