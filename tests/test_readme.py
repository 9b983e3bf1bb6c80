"""What the README, the Spacefile and the requirements say against what the code does."""

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
import urllib.request
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import SpaceHardware

from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, VARIABLES, Config
from rag.weights import HUB_FILES
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")


class Strict(yaml.SafeLoader):
    """Refuses a key that is there twice, of which YAML takes the last one silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), keys
        return super().construct_mapping(node, deep)


def parsed(text: str) -> Any:
    return yaml.load(text, Strict)


SPACEFILE = parsed((ROOT / "Spacefile").read_text("utf-8"))
FRONT = parsed(README.split("---")[1])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
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
    assert set(micro["presets"]) == {"env"}
    assert re.fullmatch(r"[a-z][a-z0-9-]*", micro["name"])
    assert (ROOT / micro["src"] / "app.py").is_file()
    assert micro["engine"] == "custom"
    settings = {entry["name"]: entry for entry in micro["presets"]["env"]}
    assert set(settings) == set(VARIABLES) - {"SPACE_ID", "SPACES_ZERO_GPU"}
    assert len(settings) == len(micro["presets"]["env"])
    documented = table("Variable")
    for name, entry in settings.items():
        assert set(entry) == {"name", "description", "default"}
        assert all(isinstance(value, str) for value in entry.values()), name
        assert entry["description"]
        if documented[name][0].startswith("`") and entry["default"]:
            assert entry["default"] == documented[name][0].strip("`")
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
    assert FRONT["license"] == PROJECT["license"].lower()
    assert tuple(map(int, FRONT["python_version"].split("."))) >= (3, 11)
    assert PROJECT["requires-python"] == ">=3.11"
    assert FRONT["suggested_hardware"] in [each.value for each in SpaceHardware]
    assert set(FRONT) == {
        *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version"),
        *("app_file", "license", "short_description", "models", "preload_from_hub"),
        "suggested_hardware",
    }


def test_a_space_is_built_with_all_that_is_read_of_the_models() -> None:
    """Whole in the Hub's cache: `weights.ensure` takes what it finds there."""
    preloaded = [entry.split() for entry in FRONT["preload_from_hub"]]
    assert [name for name, _ in preloaded] == FRONT["models"]
    for _, files in preloaded:
        names = files.split(",")
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(names)
        assert all(any(fnmatch(name, pattern) for pattern in HUB_FILES) for name in names)


def test_the_commands_that_make_a_space_are_those_of_the_pinned_client() -> None:
    (block,) = re.findall(r"<!-- space commands -->\n```\n(.+?)\n```", README, re.S)
    create, upload = block.splitlines()
    for command in (create, upload):
        program, *words = shlex.split(command)
        assert program == ".venv/bin/hf"
        verbs = words[: next(n for n, word in enumerate(words) if "/" in word)]
        shown = subprocess.run(
            [Path(sys.executable).with_name("hf"), *verbs, "--help"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for option in (word for word in words if word.startswith("--")):
            assert option in shown, option
    left_out = [word for word in shlex.split(upload) if word.endswith("/*")]
    assert FRONT["app_file"] not in left_out
    assert not {"rag/*", "data/*"} & set(left_out)


def test_the_spacefile_s_command_starts_the_app(tmp_path: Path) -> None:
    (micro,) = SPACEFILE["micros"]
    port = free_port()
    settings = {entry["name"]: entry["default"] for entry in micro["presets"]["env"]}
    here = {"PORT": str(port), "RAG_DATA_DIR": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(
            shlex.split(micro["run"]),
            cwd=ROOT / micro["src"],
            env={**os.environ, **settings, **here, "PATH": path, "PIP_NO_INDEX": "1"},
            stdout=log,
            stderr=log,
        ) as process,
    ):
        until = time.monotonic() + 120
        status = 0
        while not status and process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    status = page.status
            except OSError:
                time.sleep(0.1)
        process.terminate()
    assert status == 200, (tmp_path / "log").read_text()


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
