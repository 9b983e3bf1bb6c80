"""What the README, the Spacefile and the requirements say against what the code does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, VARIABLES, Config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
SPACEFILE = yaml.safe_load((ROOT / "Spacefile").read_text("utf-8"))
FRONT = yaml.safe_load(README.split("---")[1])
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text("utf-8"), re.M))


def commands(marker: str) -> list[str]:
    return re.findall(rf"<!-- {marker} -->\n```\n(.+)\n```", README)


def table(head: str) -> dict[str, list[str]]:
    """The rows of the README's table whose header begins with `head`, by their first cell."""
    rows = README.split(f"| {head} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    cells = ([cell.strip() for cell in row.strip("|").split("|")] for row in rows)
    return {first.strip("`"): rest for first, *rest in cells}


def test_there_is_one_command_to_run_and_one_to_test() -> None:
    (run,) = commands("run command")
    (test,) = commands("test command")
    for command, requirements in ((run, "requirements.txt"), (test, "requirements-dev.txt")):
        assert f"-r {requirements} " in command
        assert (ROOT / requirements).is_file()
    assert run.endswith("python app.py")
    assert test.endswith("python -m pytest")


def test_ci_runs_the_readme_s_test_command() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    (extract,) = re.findall(r"command=\$\((.+)\)\n", script)
    found = subprocess.run(["bash", "-c", extract], cwd=ROOT, capture_output=True, text=True)
    assert [found.stdout.strip()] == commands("test command")


def test_every_setting_is_documented_with_its_default() -> None:
    documented = table("Variable")
    assert set(documented) == set(VARIABLES)
    config = Config()
    for name, (attribute, parse) in VARIABLES.items():
        stated = documented[name][0].strip("`")
        if re.fullmatch(r"[\w./:-]+", stated):
            assert parse(stated) == getattr(config, attribute)


def test_every_option_is_documented() -> None:
    shown = subprocess.run(
        [sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    options = set(re.findall(r"--[a-z-]+", shown)) - {"--help"}
    documented = {option.split()[0] for option in table("Option")}
    assert documented == options


def test_spacefile_is_in_its_format_and_names_the_settings_with_their_defaults() -> None:
    assert set(SPACEFILE) == {"v", "micros"}
    assert SPACEFILE["v"] == 0
    (micro,) = SPACEFILE["micros"]
    assert set(micro) == {"name", "src", "engine", "run", "presets"}
    assert micro["engine"] == "custom"
    settings = {entry["name"]: entry for entry in micro["presets"]["env"]}
    assert set(settings) == set(VARIABLES) - {"SPACE_ID"}
    for name, entry in settings.items():
        assert set(entry) == {"name", "description", "default"}
        attribute, parse = VARIABLES[name]
        value = getattr(Config(), attribute)
        if entry["default"]:
            assert parse(entry["default"]) == value
        else:
            assert name == "RAG_DATA_DIR" or not value


def test_space_block_agrees_with_the_pins() -> None:
    assert FRONT["sdk"] == "gradio"
    assert FRONT["sdk_version"] == PINS["gradio"]
    assert FRONT["python_version"] == "3.11"
    assert (ROOT / FRONT["app_file"]).is_file()
    assert FRONT["models"] == [DEFAULT_MODEL, DEFAULT_EMBED_MODEL]
    assert len(FRONT["short_description"]) <= 60  # the Hub's limit


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_is_pinned_with_a_reason(name: str) -> None:
    for line in (ROOT / name).read_text("utf-8").splitlines():
        if line and not line.startswith(("#", "-r ")):
            assert re.fullmatch(r"[\w.-]+==[\w.]+ +# .{10,}", line)


def test_the_tree_in_the_readme_is_the_tree() -> None:
    block = README.split("```\napp.py")[1].split("```")[0]
    named = re.findall(r"^  (\w+(?:\.py|/))", block, re.M)
    layers = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "rag").iterdir()
        if path.name not in ("__init__.py", "__pycache__")
    }
    assert set(named) == layers


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).is_file(), target
