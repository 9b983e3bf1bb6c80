"""A model server in a process of its own, so that it can be killed. The name of the model that is
asked for says what it sends, byte by byte, and whether it then goes or stays and says nothing."""

import itertools
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

from tests.ports import free_port

ANSWER = "It is so."
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\n\r\n"
JSON = HEAD % b"application/json"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BARE = HEAD % b"text/event-stream"
DONE = b"data: [DONE]\n\n"


def event(text: object = None, finish: str | None = None, **fields: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


HALF = EVENTS + chunk(event("It is"))
END = chunk(event(" so.", "stop") + DONE) + b"0\r\n\r\n"
PAGE = b"<!doctype html>\n\n<title>Welcome</title>\n\n<p>Log in to the network.</p>\n\n"
WHOLE = json.dumps({"error": None, "choices": [{"message": {"content": ANSWER}}]}).encode()
MUCH = 256 * 1024

SENDS: dict[str, bytes] = {
    "well": HALF + END,
    # It says so much, then nothing.
    "silent": b"",
    "silent after the head": EVENTS,
    "silent after an empty event": EVENTS + chunk(event("")),
    "silent in the middle": HALF,
    "silent after the end": HALF + chunk(event(" so.", "stop")),
    # Not HTTP.
    "nothing": b"",
    "a greeting": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "noise": bytes(range(256)) * 8,
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Ty",
    # Not events.
    "a page": HEAD % b"text/html" + PAGE,
    "a page as events": BARE + PAGE,
    "a page elsewhere": b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n",
    "an error as JSON": JSON + b'{"error": {"message": "out of memory", "code": 500}}',
    "an error as text": JSON + b'{"error": "out of memory"}',
    "an answer without an error": JSON + WHOLE,
    "no answer": BARE + event(""),
    # Events of which one is broken.
    "half an event": HALF + chunk(b'data: {"choices": [{"ind') + b"0\r\n\r\n",
    "half an event as a whole": HALF + chunk(b'data: {"choices": [{"ind\n\n') + END,
    "an error as an event": HALF + chunk(b'data: {"error": {"message": "oh"}}\n\n') + END,
    "an error as text in an event": HALF + chunk(b'data: {"error": "oh"}\n\n') + END,
    "a number as content": HALF + chunk(event(7)) + END,
    "an object as content": HALF + chunk(event({"text": " so."})) + END,
    "a list as an event": HALF + chunk(b"data: []\n\n") + END,
    "a tool instead of a text": EVENTS + chunk(event(None, "tool_calls") + DONE) + b"0\r\n\r\n",
    "Latin-1": HALF + chunk(b'data: {"choices": [{"delta": {"content": "caf\xe9"}}]}\n\n') + END,
    "UTF-16": BARE + event("It is").decode().encode("utf-16"),
    # Broken one layer below.
    "less than its length": BARE.replace(b"\r\n", b"\r\nContent-Length: 9999\r\n", 1)
    + event("It is"),
    "a chunk without a length": EVENTS + b"zz\r\n" + event("It is"),
    "a second chunk without a length": HALF + b"zz\r\n" + event(" so."),
    "less than the length of a chunk": EVENTS + b"fff\r\n" + event("It is"),
    "no gzip": HALF.replace(b"\r\n", b"\r\nContent-Encoding: gzip\r\n", 1) + END,
}
ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "an endless head": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "an endless line": (BARE + event("It is") + b"data: ", b"x"),
    "an endless event": (BARE + event("It is"), b"data: x\n"),
    "an endless answer": (BARE + event("It is"), event(" so" * 300)),
    "endless JSON": (JSON + b'{"choices": [', b"\n\n0,"),
    "an endless error": (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\n\nno, "),
    "an endless list of models": (JSON + b'{"data": [', b'{"id": "m"},'),
}
MODELS = JSON + b'{"object": "list", "data": [{"id": "well", "object": "model"}]}'


def trickle() -> Iterator[bytes]:
    yield JSON
    while True:
        time.sleep(0.05)
        yield b" "


class Handler(StreamRequestHandler):
    running = itertools.count()
    server: "Server"

    def handle(self) -> None:
        method, path, _ = self.rfile.readline().decode().split()
        headers = dict(iter(lambda: self.rfile.readline().decode().lower().split(": "), ["\r\n"]))
        if path == "/running":
            self.wfile.write(JSON + json.dumps([self.server.running, self.server.asked]).encode())
            return
        if method == "POST":
            name = json.loads(self.rfile.read(int(headers["content-length"])))["model"]
            self.server.asked += 1
        else:
            name = headers["authorization"].removeprefix("bearer ").strip()
        self.server.running += 1
        try:
            self.answer(name, path if method == "GET" else "")
        except ConnectionError:
            pass
        finally:
            self.server.running -= 1

    def answer(self, name: str, read: str) -> None:
        if name in ENDLESS:
            begin, rest = ENDLESS[name]
            self.wfile.write(begin)
            while True:
                self.wfile.write(rest * (MUCH // len(rest)))
                time.sleep(0.01)
        if name == "a trickle":
            for part in trickle():
                self.wfile.write(part)
        if read:
            is_list = name == "well" and read.endswith("/models")
            self.wfile.write(MODELS if is_list else HEAD % b"text/html" + PAGE)
            return
        self.wfile.write(SENDS[name])
        if name.startswith("silent"):
            self.rfile.read()  # until the client goes


class Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50
    running = asked = 0


class Process:
    """The server from outside."""

    def __init__(self) -> None:
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self.port)],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == b"ready\n"

    @property
    def has_died(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def counts(self) -> tuple[int, int]:
        """How many requests are being answered, and how many there have been."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/running", timeout=20) as answer:
            running, asked = json.loads(answer.read())
        return running, asked


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        print("ready", flush=True)
        server.serve_forever()
