"""A model server on loopback that speaks OpenAI's protocol, well or badly."""

import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from rag.llms.protocol import TextStream
from rag.types import Completion, Prefill, Queued, Reasoning

GUARD = 20
"""Seconds after which a test that hangs is given up."""


def read(stream: TextStream) -> tuple[list[str | Reasoning], Completion]:
    """The pieces that have text, and how it ended."""
    pieces = []
    while True:
        try:
            piece = next(stream)
        except StopIteration as end:
            return pieces, end.value
        if piece and not isinstance(piece, Queued | Prefill):
            pieces.append(piece)


class Request(BaseHTTPRequestHandler):
    """One connection; the pieces that behaviours are put together from."""

    protocol_version = "HTTP/1.1"
    server: "ModelServer"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.received.append(json.loads(body))
        self.server.keys.append(self.headers["Authorization"])
        try:
            self.server.behaviours.popleft()(self)
        except ConnectionError:  # as it went there was something that it had not read
            self.close_connection = True
            self.server.gone.set()

    def do_GET(self) -> None:
        self.server.behaviours.popleft()(self)

    def log_message(self, *_: Any) -> None:
        pass

    def reply(self, status: int, body: str, **headers: str) -> None:
        """A whole answer."""
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        for name, value in {"Content_Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def send(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def end(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close the connection in the middle of the answer."""
        self.close_connection = True
        self.connection.close()

    def stall(self) -> None:
        """Say nothing more until the client goes."""
        self.close_connection = True
        self.connection.settimeout(GUARD)
        if self.connection.recv(1) == b"":
            self.server.gone.set()


class ModelServer(ThreadingHTTPServer):
    """Each request is answered by the next of `behaviours`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.behaviours: deque[Callable[[Request], None]] = deque()
        self.received: list[dict[str, Any]] = []
        """The bodies of the POST requests."""
        self.keys: list[str] = []
        """What they were authorized with."""
        self.gone = threading.Event()
        """Set when a client went before the end of its answer."""
        self.connections: list[Any] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, *_: Any) -> None:
        """A client that went is nothing to tell."""

    def close(self) -> None:
        self.shutdown()
        self.server_close()
        for connection in self.connections:
            connection.close()


@pytest.fixture
def server() -> Iterator[ModelServer]:
    server = ModelServer()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.close()
