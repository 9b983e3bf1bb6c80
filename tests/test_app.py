"""The program as it is started in a terminal: real processes, real ports."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from gradio_client import Client

from rag.config import DEFAULT_MODEL
from tests.deploying.tab import Tab
from tests.ports import free_port

ROOT = Path(__file__).parents[1]
PATIENCE = 120.0
"""Seconds after which a process that does not come to its end is given up."""


@dataclass
class Program:
    """A running `python app.py`, and what it prints."""

    process: "subprocess.Popen[str]"
    log: Path
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def printed(self) -> str:
        return self.log.read_text("utf-8")

    def wait_for(self, text: str) -> None:
        until = time.monotonic() + PATIENCE
        while text not in self.printed():
            assert self.process.poll() is None, self.printed()
            assert time.monotonic() < until, self.printed()
            time.sleep(0.02)

    def status(self) -> int:
        """The HTTP status of the page, 0 while nobody listens."""
        try:
            with urllib.request.urlopen(self.address, timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0


Start = Callable[..., Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts `python app.py` on a free port with data of its own."""
    programs: list[Program] = []

    def run(*options: str, models_dir: Path | None = None, **env: str) -> Program:
        data_dir = tmp_path / "data"
        data_dir.mkdir(exist_ok=True)
        if models_dir and not (data_dir / "models").exists():
            (data_dir / "models").symlink_to(models_dir.resolve(), target_is_directory=True)
        port = free_port()
        log = tmp_path / f"log{len(programs)}.txt"
        command = [sys.executable, "app.py", "--no-browser", "--data-dir", str(data_dir)]
        ports = [] if "PORT" in env else ["--port", str(port)]
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, *ports, *options],
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
        programs.append(Program(process, log, int(env.get("PORT", port))))
        return programs[-1]

    yield run
    for program in programs:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


@pytest.mark.slow
def test_page_is_served_before_torch_is_loaded(start: Start, models_dir: Path) -> None:
    program = start(models_dir=models_dir)
    until = time.monotonic() + PATIENCE
    while program.status() != 200:
        assert time.monotonic() < until
        time.sleep(0.02)
    maps = Path(f"/proc/{program.process.pid}/maps")
    if maps.exists():  # Linux lists there what a process has loaded
        assert "libtorch" not in maps.read_text()
    program.wait_for("SmolLM2-135M-Instruct: ready")
    if maps.exists():
        assert "libtorch" in maps.read_text()


@pytest.mark.slow
def test_question_asked_meanwhile_waits_and_ctrl_c_ends_the_answer(
    start: Start, models_dir: Path, smollm_path: Path, minilm_path: Path
) -> None:
    program = start(models_dir=models_dir)
    program.wait_for("Rivulet is at")
    seen = ""
    with httpx.Client(base_url=program.address, timeout=PATIENCE) as http:
        asked = Tab(http).begins("Tell me everything about streaming.", model=DEFAULT_MODEL)
        for _, line in asked:
            seen += line
            if '"said"' in line:  # the status gave way to the first words of the answer
                break
        assert "Preparing" in seen
        program.process.send_signal(signal.SIGINT)
        sent = time.monotonic()
        assert program.process.wait(PATIENCE) == 0
        assert time.monotonic() - sent < 10  # a hang guard; it takes some tenths of a second
    assert "Traceback" not in program.printed()
    # What had arrived was kept, and is marked.
    (kept,) = (ROOT / program.log.parent / "data" / "sessions").glob("*/conversations/*.json")
    assert '"stopped"' in kept.read_text()


@pytest.mark.slow
def test_share_without_a_tunnel_says_so_and_asks_for_the_login(start: Start) -> None:
    # No way out: the tunnel's program can be neither fetched nor reached.
    nowhere = "http://127.0.0.1:9"
    program = start("--share", HTTPS_PROXY=nowhere, HTTP_PROXY=nowhere, NO_PROXY="127.0.0.1")
    program.wait_for("The public link cannot be had")
    printed = program.printed()
    login = re.search(r"Log in as (\S+) with the password (\S+)", printed)
    assert login
    assert len(login[2]) >= 16
    client = Client(program.address, auth=(login[1], login[2]), verbose=False)
    assert client.config["title"] == "Rivulet"
    with pytest.raises(Exception, match=r"(?i)auth|credential|login|401"):
        Client(program.address, auth=(login[1], "wrong"), verbose=False)
    with urllib.request.urlopen(program.address, timeout=10) as page:
        assert "auth_required" in page.read().decode()


def test_port_from_the_environment(start: Start) -> None:
    program = start(PORT=str(free_port()), HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    program.wait_for("Rivulet is at")
    assert program.status() == 200


def test_models_that_cannot_be_had_are_said_and_the_page_stays(start: Start) -> None:
    program = start(HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1", HF_HOME=os.devnull)
    program.wait_for("could not be fetched")
    assert program.status() == 200
    program.process.send_signal(signal.SIGTERM)
    assert program.process.wait(PATIENCE) == 0
    assert "Traceback" not in program.printed()


def test_while_it_runs_its_folder_is_not_examined_and_afterwards_it_is(start: Start) -> None:
    program = start(HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1", RAG_AUTH="ann:secret")
    program.wait_for("Rivulet is at")
    health = httpx.get(f"{program.address}health", timeout=30).json()  # which needs no login
    assert health["parts"]["index"] == "ready"
    check = [sys.executable, "-m", "rag", "check", "--data-dir", str(program.log.parent / "data")]
    refused = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert f"is in use by process {program.process.pid}" in refused.stderr
    program.process.kill()
    program.process.wait()
    done = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_figures_are_served_on_a_port_of_their_own(start: Start) -> None:
    port = free_port()
    program = start(RAG_METRICS_PORT=str(port), HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    program.wait_for("Rivulet is at")
    program.wait_for("could not be fetched")
    assert "rivulet_answers_running 0.0" in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert "rivulet_" not in httpx.get(f"{program.address}metrics").text


def test_taken_port_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    first = start(HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    first.wait_for("Rivulet is at")
    second = start("--port", str(first.port), "--data-dir", str(tmp_path / "other"))
    assert second.process.wait(PATIENCE) == 1
    assert f"Port {first.port}" in second.printed()
    assert "--port" in second.printed()
    assert "Traceback" not in second.printed()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RAG_TOP_K", "many"),
        ("RAG_AUTH", "nocolon"),
        ("PORT", "99999"),
        ("RAG_MODEL", "openai:"),
        ("OPENAI_BASE_URL", "notaurl"),
    ],
)
def test_setting_that_cannot_be_used_is_one_clear_line(
    start: Start, variable: str, value: str
) -> None:
    program = start(**({variable: value} if variable != "PORT" else {"PORT": value}))
    assert program.process.wait(PATIENCE) == 1
    assert variable in program.printed()
    assert len(program.printed().splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--port", "-5"), "--port"),
        (("--auth", "nocolon"), "user:password"),
        (("--host", "::1"), "::1"),
        (("--data-dir", __file__), "--data-dir"),
    ],
)
def test_option_that_cannot_be_used_is_said_clearly(
    start: Start, options: tuple[str, ...], named: str
) -> None:
    program = start(*options)
    assert program.process.wait(PATIENCE) in (1, 2)
    assert named in program.printed().splitlines()[-1]
    assert "Traceback" not in program.printed()


def test_uploads_of_a_run_that_was_cut_off_are_deleted(start: Start) -> None:
    first = start(HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    first.wait_for("Rivulet is at")
    with httpx.Client(base_url=first.address) as http:
        http.post("gradio_api/upload", files={"files": ("a.txt", b"quincemarmalade")})
    uploads = first.log.parent / "data" / "uploads"
    assert list(uploads.rglob("a.txt"))
    first.process.kill()
    first.process.wait()
    second = start("--port", str(first.port), HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    second.wait_for("Rivulet is at")
    assert list(uploads.rglob("a.txt")) == []


@pytest.mark.parametrize(
    ("options", "env"), [(("--host", "0.0.0.0"), {}), ((), {"SPACE_ID": "ann/rivulet"})]
)
def test_other_address_than_loopback_makes_up_a_login(
    start: Start, options: tuple[str, ...], env: dict[str, str]
) -> None:
    program = start(*options, HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1", **env)
    program.wait_for("Rivulet is at")
    assert "with the password" in program.printed()
    assert "There is no login" not in program.printed()
    assert httpx.get(f"{program.address}config").status_code == 401


@pytest.mark.parametrize(
    ("options", "env", "warned"),
    [
        (("--host", "0.0.0.0", "--open"), {}, "whoever can reach the page can use it."),
        ((), {"SPACE_ID": "ann/rivulet", "RAG_OPEN": "on", "OPENAI_API_KEY": "sk-1"}, "_KEY pays"),
    ],
)
def test_without_a_login_only_where_that_is_asked_for(
    start: Start, options: tuple[str, ...], env: dict[str, str], warned: str
) -> None:
    nowhere = {"OPENAI_BASE_URL": "http://127.0.0.1:9", "HF_ENDPOINT": "http://127.0.0.1:9"}
    program = start(*options, PIP_NO_INDEX="1", **nowhere, **env)
    program.wait_for("Rivulet is at")
    assert "with the password" not in program.printed()
    (line,) = (line for line in program.printed().splitlines() if "There is no login" in line)
    assert line.startswith("WARNING")
    assert warned in line
    assert httpx.get(f"{program.address}config").status_code == 200


def test_who_may_log_in_is_said_by_options_and_a_file(start: Start, tmp_path: Path) -> None:
    made = subprocess.run(
        [sys.executable, "-m", "rag", "password", "bob"],
        cwd=ROOT,
        input="pear\n",
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "pear" not in made
    file = tmp_path / "users"
    file.write_text(made)
    options = ("--auth", "ann:plum", "--auth", "eve:fig", "--auth-file", str(file))
    program = start(*options, HF_ENDPOINT="http://127.0.0.1:9", PIP_NO_INDEX="1")
    program.wait_for("Rivulet is at")
    with httpx.Client(base_url=program.address, timeout=PATIENCE) as http:
        for user, password in (("ann", "plum"), ("eve", "fig"), ("bob", "pear")):
            form = {"username": user, "password": password}
            assert http.post("login", data=form).status_code == 200
        assert http.post("login", data={"username": "bob", "password": "x"}).status_code == 400
    assert "pear" not in program.printed()
    assert "plum" not in program.printed()


def test_a_file_of_passwords_that_is_none_is_one_clear_line(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text("bob:pear\n")
    program = start("--auth-file", str(file))
    assert program.process.wait(PATIENCE) == 1
    assert len(program.printed().splitlines()) == 1
    assert "python -m rag password" in program.printed()
    assert "pear" not in program.printed()
