"""Whether many at once get their answers: whole, soon, and nobody another's.

    python -m benchmarks.load [--clients 100] [--seconds 300] [--chaos 0.1] [--max-answers N]
    python -m benchmarks.load --team 2
    python -m benchmarks.load --local [--clients 8]

Each client has a document of its own and asks of it. The app runs in a process of its own, with a
scripted model that writes 30 tokens a second for each, and says in each answer something that no
other answer has, so that what comes can be checked word by word. Most clients are browsers that
speak as the page's script does; some are `gradio_client.Client`. With `--chaos`, this share of the
browsers vanishes, stops and uploads at random. With fewer places than clients (`--max-answers`)
questions wait in the line, and how well the wait was foretold is measured as well.

With `--team` there are so many processes of the app, behind nginx and on one Chroma server, as
docs/deploying.md has it, but for TLS, path and login.

With `--local` all ask the default model the same at once: how evenly do their answers grow?
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import linear_regression, quantiles
from urllib.parse import urlsplit

import httpx

from benchmarks import NGINX, free_port
from benchmarks.load_app import SECTIONS
from benchmarks.load_clients import Found, Plan, browse, together
from benchmarks.retrieval import machine
from rag.config import Config

WARM = 60.0
"""Seconds after which memory is to be flat."""
LISTENS = "0A"
"""How Linux says that a socket waits for connections."""
KINDS = ("lost", "mixed up", "cut")


@dataclass(frozen=True)
class State:
    """What a process holds."""

    at: float
    memory: float
    """Resident, MB."""
    threads: int
    connections: int
    processor: float
    """Seconds that it has taken of it."""


class Process:
    """Another process, as Linux sees it; or several together."""

    def __init__(self, *numbers: int):
        self.numbers = numbers

    def state(self) -> State:
        _, *held = zip(*map(astuple, map(self._state, self.numbers)), strict=True)
        return State(time.monotonic(), *map(sum, held))

    @staticmethod
    def _state(number: int) -> State:
        folder = Path("/proc", str(number))
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        files = []
        for each in (folder / "fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                files.append(str(each.readlink()))
        connections = 0  # each file of a process may be one
        for name in ("tcp", "tcp6"):
            for line in (folder / "net" / name).read_text().splitlines()[1:]:
                state, inode = line.split()[3], line.split()[9]
                connections += state != LISTENS and f"socket:[{inode}]" in files
        return State(
            time.monotonic(),
            int(status["VmRSS"].split()[0]) / 1000,
            int(status["Threads"]),
            connections,
            ticks / os.sysconf("SC_CLK_TCK"),
        )


class Watch:
    """Looks at a process each second."""

    def __init__(self, process: Process):
        self.states: list[State] = []
        self._process = process
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def _look(self) -> None:
        while not self._over.is_set():
            self.states.append(self._process.state())
            self._over.wait(1)

    @contextmanager
    def looking(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def slope(self, seconds: float) -> float:
        """MB a minute by which memory grows, once `seconds` have gone."""
        begun = self.states[0].at + seconds
        late = [each for each in self.states if each.at >= begun]
        if len(late) < 2:
            return float("nan")
        times = [(each.at - begun) / 60 for each in late]
        return linear_regression(times, [each.memory for each in late]).slope


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, is_there: Callable[[], bool], **environment: str
) -> Iterator[int]:
    """The number of a process that is there, as long as the context is. It is ended like a
    service."""
    with log.open("w") as told:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=told, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + 300
        while not is_there():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"It does not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@contextmanager
def served(command: Sequence[str], log: Path, **environment: str) -> Iterator[tuple[str, Process]]:
    """The address of an app, and its process."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        with suppress(httpx.TransportError):
            return bool(httpx.get(f"{address}/health").json()["status"] == "ready")
        return False

    environment["PORT"] = str(port)
    with running([sys.executable, *command], log, is_ready, **environment) as number:
        yield address, Process(number)


SITE = """{upstream}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://rivulet/;
            {settings}
        }}
    }}
"""


@contextmanager
def team(
    number: int, model: Sequence[str], folder: Path, environment: dict[str, str]
) -> Iterator[tuple[str, Process]]:
    """The address of nginx, and all that runs behind it: apps and a Chroma server."""
    docs = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text("utf-8")
    (site,) = re.findall(r"<!-- nginx -->\n```nginx\n(.+?)```", docs, re.DOTALL)
    upstream, _, server = site.partition("\nserver {")
    with ExitStack() as stack:
        port = free_port()
        chroma = Path(sysconfig.get_path("scripts"), "chroma")
        command = [
            chroma,
            "run",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
            "--path",
            folder / "c",
        ]
        is_there = partial(listens, port)
        numbers = [stack.enter_context(running(command, folder / "chroma.log", is_there))]
        environment |= {"CHROMA_URL": f"http://127.0.0.1:{port}"}
        addresses = []
        for each in range(number):
            app = ["-m", "benchmarks.load_app", str(folder / f"data{each}"), *model]
            log = folder / f"log{each}"
            address, process = stack.enter_context(served(app, log, **environment))
            addresses.append(urlsplit(address).netloc)
            numbers += process.numbers
        servers = "".join(f"    server {each};\n" for each in addresses)
        port = free_port()
        made = SITE.format(
            upstream=re.sub(r"(    server .+;\n)+", servers, upstream),
            port=port,
            settings="\n".join(re.findall(r"proxy_(?!pass).+;|client_.+;", server)),
        )
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, site=made))
        command = ["nginx", "-p", folder, "-c", folder / "nginx.conf"]
        is_there = partial(listens, port)
        numbers.append(stack.enter_context(running(command, folder / "nginx.out", is_there)))
        yield f"http://127.0.0.1:{port}", Process(*numbers)


def load(options: argparse.Namespace, folder: Path) -> str:
    """Measure, and tell in a table."""
    places = options.max_answers or options.clients
    model = [str(each) for each in (options.tokens, options.speed, options.first)]
    environment = {
        "RAG_MAX_ANSWERS": str(places),
        "RAG_MAX_WAITING": str(options.clients),
        "RAG_QUESTIONS_PER_MINUTE": "10000",
        "RAG_MAX_NEW_TOKENS": str(2 * options.tokens),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }
    if options.hash:
        # Such vectors do not find what is asked; all passages of a document do.
        environment |= {"RAG_EMBED_MODEL": "hash", "RAG_TOP_K": str(len(SECTIONS))}
    if options.team:
        all_ = team(options.team, model, folder, environment)
    else:
        command = ["-m", "benchmarks.load_app", str(folder / "data"), *model]
        all_ = served(command, folder / "log", **environment)
    with all_ as (address, process):
        plan = Plan(address, options.seconds, options.tokens, options.speed, options.first)
        # What is made with the first question, and kept, is there when it begins.
        browse(replace(plan, seconds=0.1), ["warm"])
        before = _settled(process, lambda now: not now.connections, 10)
        watch = Watch(process)
        names = [f"reader-{number}" for number in range(options.clients)]
        chaotic = round(options.chaos * options.clients)
        with watch.looking():
            found = browse(replace(plan, pause=options.pause), names, options.programs, chaotic)
        after = process.state()

        def is_gone(now: State) -> bool:
            return now.threads <= before.threads and now.connections <= before.connections

        gone = _settled(process, is_gone, options.settle)
        logs = "".join(log.read_text() for log in sorted(folder.glob("log*")))
        errors = [line for line in logs.splitlines() if "ERROR" in line]
    return table(options, found, watch, before, after, gone) + "".join(
        f"\n{line}" for line in (*found.wrong[:20], *errors[:20])
    )


def _settled(process: Process, done: Callable[[State], bool], seconds: float) -> State:
    """The state when it is as wanted, or after so many seconds."""
    until = time.monotonic() + seconds
    while not done(now := process.state()) and time.monotonic() < until:
        time.sleep(0.5)
    return now


def table(
    options: argparse.Namespace,
    found: Found,
    watch: Watch,
    before: State,
    after: State,
    gone: State,
) -> str:
    begun = next(each for each in watch.states if each.at >= found.begun)
    first = watch.states[-1]
    took = first.at - begun.at
    whole = os.cpu_count() or 1
    busy = (first.processor - begun.processor) / took
    own = found.processor / took
    rows = [
        ("processes of the app", str(options.team or 1)),
        ("clients", f"{options.clients}, {options.programs} of them `gradio_client`"),
        ("questions answered", f"{found.answers:,} in {took:.0f} s"),
        *((kind, str(found.did[kind])) for kind in KINDS),
        ("first token above the model's own, ms: p50, p95, most", _spread(found.first)),
        ("end above the model's own, ms: p50, p95, most", _spread(found.late)),
        ("of the processor, in cores of " + str(whole), f"app {busy:.2f}, clients {own:.2f}"),
        (
            "memory, MB: before, at the end, when all had gone",
            f"{before.memory:.0f}, {after.memory:.0f}, {gone.memory:.0f}",
        ),
        (
            "memory after the first minute, MB a minute",
            f"{watch.slope(begun.at - watch.states[0].at + WARM):+.1f}",
        ),
        ("threads: before, at most, when all had gone", _held(watch, before, gone, "threads")),
        ("connections: the same", _held(watch, before, gone, "connections")),
        ("seconds until then", f"{gone.at - after.at:.0f}"),
    ]
    if found.waits:
        told, real = zip(*found.waits, strict=True)
        off = sum(abs(a - b) for a, b in found.waits) / sum(real)
        rows.append(
            (
                "waited in the line: how many, s on average, told, and off by",
                f"{len(real)}, {sum(real) / len(real):.1f}, {sum(told) / len(told):.1f}, {off:.0%}",
            )
        )
    if did := ", ".join(f"{n} {kind}" for kind, n in found.did.items() if kind not in KINDS):
        rows.append(("done at random", did))
    return "\n".join(["|  |  |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows)])


def _spread(seconds: Sequence[float]) -> str:
    if len(seconds) < 2:
        return "–"
    parts = quantiles(seconds, n=100, method="inclusive")
    return ", ".join(f"{1000 * each:.0f}" for each in (parts[49], parts[94], max(seconds)))


def _held(watch: Watch, before: State, gone: State, what: str) -> str:
    most = max(getattr(each, what) for each in watch.states)
    return f"{getattr(before, what)}, {most}, {getattr(gone, what)}"


def local(options: argparse.Namespace, folder: Path) -> str:
    """The default model, asked by all at once: how evenly their answers grow."""
    from rag.llms.huggingface import HuggingFaceLLM

    command = ["app.py", "--data-dir", str(folder / "data"), "--no-browser"]
    environment = {
        "RAG_MAX_NEW_TOKENS": str(options.tokens),
        "RAG_READ_AHEAD": "off",
        "RAG_MAX_ANSWERS": str(options.clients),
    }
    lines = [
        "| round | first tokens, s | tokens of each when the first one had ended | least / most "
        "| ends, s |",
        "| --- | --- | --- | --- | --- |",
    ]
    llm = HuggingFaceLLM()
    with served(command, folder / "log", **environment) as (address, _):
        for number in range(options.rounds):
            runs = together(address, options.clients, number)
            ended = min(run.ended for run in runs)
            tokens = sorted(llm.count_tokens(run.text_at(ended)) for run in runs)
            firsts = sorted(run.first for run in runs)
            ends = sorted(run.ended for run in runs)
            lines.append(
                f"| {number + 1} | {firsts[0]:.2f} to {firsts[-1]:.2f} "
                f"| {', '.join(map(str, tokens))} | {tokens[0] / tokens[-1]:.2f} "
                f"| {ends[0]:.1f} to {ends[-1]:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.load", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clients", type=int, default=None, help="100; with --local 8")
    parser.add_argument("--seconds", type=float, default=300, help="that they ask")
    parser.add_argument("--programs", type=int, default=4, help="how many are gradio_client's")
    parser.add_argument("--chaos", type=float, default=0.0, metavar="SHARE", help="of the clients")
    parser.add_argument("--max-answers", type=int, help="places; by default one for each")
    parser.add_argument("--tokens", type=int, default=120, help="of each answer")
    parser.add_argument("--speed", type=float, default=30, help="tokens a second")
    parser.add_argument("--first", type=float, default=0.3, help="seconds until the first token")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two questions")
    parser.add_argument(
        "--settle", type=float, default=180, help="seconds until what is held is held for good"
    )
    parser.add_argument("--team", type=int, default=0, help="processes of the app behind nginx")
    parser.add_argument("--hash", action="store_true", help="embed by hashed words, not MiniLM")
    parser.add_argument("--local", action="store_true", help="ask the default model")
    parser.add_argument("--rounds", type=int, default=3, help="with --local")
    options = parser.parse_args()
    options.clients = options.clients or (8 if options.local else 100)
    print(machine(), f"Gradio {version('gradio')}.\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        models = Config.from_env().models_dir
        models.mkdir(parents=True, exist_ok=True)
        for each in ("data", *(f"data{number}" for number in range(options.team))):
            data = Path(folder, each)
            data.mkdir()
            (data / "models").symlink_to(models.resolve(), target_is_directory=True)
        print((local if options.local else load)(options, Path(folder)))


if __name__ == "__main__":
    main()
