"""The Dockerfile and compose.yaml against the code: containers cannot be built everywhere."""

import http.server
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag.config import VARIABLES, Config
from tests.ports import free_port
from tests.test_readme import FRONT, PINS, SPACEFILE

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
APP, CHROMA, MODEL = (COMPOSE["services"][name] for name in ("app", "chroma", "model"))


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction with what follows it, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    joined = lines.replace("\\\n", " ")
    return [
        (w, rest.strip())
        for w, _, rest in (line.partition(" ") for line in joined.splitlines())
        if w
    ]


STEPS = instructions(DOCKERFILE)
LAST = STEPS[max(n for n, (word, _) in enumerate(STEPS) if word == "FROM") :]
ENV = dict(pair.split("=", 1) for word, rest in LAST if word == "ENV" for pair in shlex.split(rest))


def last(word: str) -> str:
    """What follows the only instruction of this name in the image that is run."""
    (rest,) = (rest for each, rest in LAST if each == word)
    return rest


def test_its_python_is_the_one_of_a_space_and_small() -> None:
    images = [rest.split()[0] for word, rest in STEPS if word == "FROM"]
    assert images == [f"python:{FRONT['python_version']}-slim"] * 2


def test_what_is_copied_is_there_and_nothing_else_is_sent() -> None:
    copied = [
        rest.split()[0] for word, rest in STEPS if word == "COPY" and not rest.startswith("--from")
    ]
    assert all((ROOT / name).exists() for name in copied)
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    allowed = [line[1:] for line in lines if line.startswith("!")]
    assert sorted(copied) == sorted(allowed)
    assert lines[1] == "*"


def test_all_that_the_app_imports_of_ours_is_copied(tmp_path: Path) -> None:
    for word, rest in LAST:
        if word == "COPY" and not rest.startswith("--from"):
            source, target = (part.rstrip("/") for part in rest.split())
            to = tmp_path / (source if target == "." else target)
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / source, to)
    code = "import app, rag.ui.page, rag.ui.backend as b; assert any(b.SAMPLES.iterdir())"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_torch_is_the_pinned_one_of_an_index_that_can_be_named() -> None:
    (install,) = (rest for word, rest in STEPS if word == "RUN" and "torch" in rest)
    (pin,) = re.findall(r"\$\(.+?\)", install)
    found = subprocess.run(
        ["bash", "-c", f'printf %s "{pin}"'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout == f"torch=={PINS['torch']}"
    assert ("ARG", "TORCH_INDEX=") in STEPS
    option = install.split('"$(')[0].removeprefix("pip install ")
    for index, given in (
        ("", ""),
        ("https://index.example/cpu", "--index-url https://index.example/cpu"),
    ):
        shown = subprocess.run(
            ["bash", "-c", f"echo {option}"],
            env={**os.environ, "TORCH_INDEX": index},
            capture_output=True,
            text=True,
            check=True,
        )
        assert shown.stdout.strip() == given


def test_it_is_not_root_and_writes_below_its_volume() -> None:
    user, group = last("USER").split(":")
    assert user.isdecimal()
    assert int(user) > 0
    assert any(f"--uid {user} " in rest for word, rest in LAST if word == "RUN")
    assert ENV["RAG_DATA_DIR"] == last("VOLUME") == ENV["HOME"]
    assert ENV["HF_HOME"].startswith(f"{ENV['RAG_DATA_DIR']}/")
    assert any(f"-o {user} -g {group}" in rest for word, rest in LAST if word == "RUN")
    Config.from_env({name: ENV[name] for name in ENV.keys() & VARIABLES.keys()})


def test_its_command_is_that_of_the_spacefile_and_its_port_the_usual_one() -> None:
    assert json.loads(last("CMD")) == shlex.split(SPACEFILE["micros"][0]["run"])
    assert last("EXPOSE") == str(Config().port)


def health_command() -> list[str]:
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD")[2])
    return command


@pytest.mark.skipif(sys.platform != "linux", reason="a file system is made read-only there alone")
def test_it_runs_with_a_root_that_is_read_only_and_says_that_it_is_well(tmp_path: Path) -> None:
    """In a namespace of its own in which nothing can be written but its volume and /tmp."""
    read_only = (
        "mount -o remount,ro,bind / && mount -t tmpfs none /tmp && mkdir -p $0 && "
        'mount -t tmpfs none "$0" && exec "$@"'
    )
    data = tmp_path / "data"
    data.mkdir()
    alone = ["unshare", "-rm", "sh", "-c", read_only, str(data)]
    tried = 'touch "$PWD/x" 2>&1 | grep -q "Read-only"'
    if subprocess.run([*alone, "sh", "-c", tried], cwd=ROOT, check=False).returncode:
        pytest.skip("no such namespace can be made here")
    port = str(free_port())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = ENV | {
        "PATH": path, "PORT": port, "RAG_DATA_DIR": str(data), "HOME": str(data),
        "HF_HOME": str(data / "huggingface"), "HF_ENDPOINT": "http://127.0.0.1:9",
        "PIP_NO_INDEX": "1",
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*alone, *json.loads(last("CMD"))], cwd=ROOT, env=env, stdout=output, stderr=output
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/", process, log)
        # No weights can be had in this test: what has failed makes it unwell.
        while "failed" not in health(port):
            time.sleep(0.2)
        assert subprocess.run(health_command(), env=env, check=False).returncode == 1
        assert json.loads(health(port))["parts"]["index"] == "ready"
    finally:
        process.terminate()
        process.wait()
    assert "Traceback" not in log.read_text()
    assert "Read-only" not in log.read_text()


def wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + 120
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)


def health(port: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def test_the_check_of_its_health_succeeds_where_it_is_well(tmp_path: Path) -> None:
    asked = []

    class Well(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Well) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        env = {**os.environ, "PORT": str(server.server_port)}
        command = [sys.executable, *health_command()[1:]]
        assert subprocess.run(command, env=env, check=False).returncode == 0
        server.shutdown()
    assert asked == ["/health"]


def test_compose_sets_what_the_code_knows() -> None:
    settings = {name: str(value) for name, value in APP["environment"].items()}
    assert settings.keys() <= VARIABLES.keys()
    assert settings.pop("RAG_AUTH") == "${RAG_AUTH:-}"  # no password stands in a file
    config = Config.from_env(settings)
    assert config.offers_openai
    assert config.chroma_url
    for secret in ("KEY", "TOKEN"):
        assert not [name for name in settings if secret in name]


def test_compose_s_addresses_are_those_of_its_services() -> None:
    environment = APP["environment"]
    chroma, model = environment["CHROMA_URL"], environment["OPENAI_BASE_URL"]
    assert chroma == "http://chroma:8000"  # where its image listens
    words = shlex.split(MODEL["command"])
    options = dict(zip(words[::2], words[1::2], strict=True))
    assert model == f"http://model:{options['--port']}/v1"
    assert environment["RAG_MODEL"] == f"openai:{options['--alias']}"
    assert options["--host"] == "0.0.0.0"
    assert APP["ports"] == [f"127.0.0.1:{Config().port}:{last('EXPOSE')}"]
    assert environment["RAG_METRICS_PORT"] not in str(APP["ports"])  # it has no login
    assert set(APP["depends_on"]) == COMPOSE["services"].keys() - {"app"}


def test_compose_s_chroma_is_the_pinned_one() -> None:
    assert CHROMA["image"] == f"chromadb/chroma:{PINS['chromadb']}"


def test_compose_keeps_what_has_to_stay_and_nothing_else_can_be_written() -> None:
    volumes = {name: service["volumes"] for name, service in COMPOSE["services"].items()}
    assert volumes["app"] == [f"app:{last('VOLUME')}"]
    assert volumes["chroma"] == ["chroma:/data"]
    assert {place.split(":")[0] for each in volumes.values() for place in each} == set(
        COMPOSE["volumes"]
    )
    assert APP["read_only"] is True
    assert APP["tmpfs"] == ["/tmp"]
    assert APP["cap_drop"] == ["ALL"]
