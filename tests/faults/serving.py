"""The app in a process of its own, and a wire to it that can be cut without a word."""

import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tests.deploying.serving import WORDS
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
ANSWER = " ".join(f"word{n}" for n in range(WORDS))


class Serving:
    """An app whose model writes `ANSWER`, so many words a second."""

    def __init__(self, folder: Path, pace: float = 10, **env: str):
        self.folder, self.pace, self.env = folder, pace, env
        self.port = free_port()
        self.start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, pace: float = 0) -> None:
        pace = pace or self.pace
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.deploying.serving", self.folder, str(pace)],
            cwd=ROOT,
            env={**os.environ, "PORT": str(self.port), "PYTHONUNBUFFERED": "1", **self.env},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        for line in self.process.stdout:
            if "Rivulet is at" in line:
                return
        raise AssertionError("it did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def kept(self) -> str:
        """The conversation that was written last, as it is on the disk."""
        files = self.folder.glob("sessions/*/conversations/*.json")
        last = max(files, key=lambda file: file.stat().st_mtime, default=None)
        return last.read_text("utf-8") if last else ""


class Wire:
    """Passes bytes to a port and back. While it is cut nothing passes, and nobody is told. When it
    is mended what was connected is forgotten: whoever sends something over it is told then, and
    whoever only listens is not. So it is where a network was away, or a router has begun anew."""

    def __init__(self, port: int):
        self.to = port
        self._whole = threading.Event()
        self._whole.set()
        self._cut: set[socket.socket] = set()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._whole.clear()
        self._cut |= self._open

    def mend(self) -> None:
        self._whole.set()

    def drop(self) -> None:
        """Close what was cut, as its ends do after some time."""
        for each in self._cut:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.mend()
        self.drop()
        for each in (self._listener, *self._open):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                one, _ = self._listener.accept()
                threading.Thread(target=self._join, args=(one,), daemon=True).start()

    def _join(self, one: socket.socket) -> None:
        self._whole.wait()
        with suppress(OSError):
            other = socket.create_connection(("127.0.0.1", self.to))
            self._open |= {one, other}
            for ends in ((one, other), (other, one)):
                threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if one in self._cut:
                    self._whole.wait()
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.close()  # which resets it
                    return
                other.sendall(data)
            if one not in self._cut:
                other.shutdown(socket.SHUT_WR)
