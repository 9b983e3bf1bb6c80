"""The program in a process of its own, as `app.py` starts it, but with a scripted model and hashed
embeddings; and what a test does to it.

`python -m tests.faults.program DATA_DIR`; `WORD_SECONDS` is the pace of an answer, `EMBED_SECONDS`
how long it takes to embed a text with the word `SLOW`.
"""

import dataclasses
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import httpx

from rag.config import Config
from rag.index.embedding import Embedded, HashEmbedding
from rag.llms.scripted import ScriptedLLM
from tests.deploying.tab import PATIENCE, Tab
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
SLOW = "treacle"
SAMPLE = "Documents stay on this computer."
ANSWER = " ".join(f"word{n}" for n in range(30))


class Slow(HashEmbedding):
    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        if any(SLOW in text for text in texts):
            time.sleep(float(os.environ.get("EMBED_SECONDS", 0)))
        return super().embed(texts)


def main(data_dir: Path) -> None:
    import app
    from rag.ui import backend

    pace = float(os.environ.get("WORD_SECONDS", 0))

    class Prepared(backend.Backend):
        def __init__(self, config: Config):
            super().__init__(config, Slow())
            llm = ScriptedLLM(ANSWER, tokens_per_second=1 / pace if pace else 0)
            self.catalog.put("scripted", llm)

    backend.Backend = Prepared  # type: ignore[misc]
    backend.SAMPLES = data_dir.with_name("samples")
    config = dataclasses.replace(
        Config.from_env(), data_dir=data_dir, model="scripted", embed_model="hash"
    )
    app.serve(config, "127.0.0.1", share=False, open_browser=False)


@contextmanager
def uploading(port: int, name: str, length: int) -> Iterator[socket.socket]:
    """An upload that has begun, and whose so many bytes are sent by the test, if it sends them."""
    begin = f'--b\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    head = (
        "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; "
        f"boundary=b\r\nContent-Length: {len(begin) + length}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as upload:
        upload.sendall((head + begin).encode())
        yield upload


def halves(data_dir: Path) -> list[Path]:
    """What Gradio has begun to write of uploads; for each whole one it makes an empty file too."""
    return [file for file in data_dir.glob("uploads/*/tmp*") if file.stat().st_size]


class Program:
    """A process of it, which is started, killed, and started again with the same data; as a context
    it is ended at the end.

    `before` is put before its command: what confines it.
    """

    def __init__(self, data_dir: Path, *before: str):
        self.data_dir, self.before = data_dir, before
        self.port = free_port()
        self.log = data_dir.with_name("log")
        data_dir.with_name("samples").mkdir()  # reading those that ship takes many seconds
        data_dir.with_name("samples").joinpath("here.txt").write_text(SAMPLE)
        self.env = {
            **os.environ,
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
            "RAG_QUESTIONS_PER_MINUTE": "1000",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, **env: str) -> None:
        self.begin(**env)
        self.wait_until("ready")

    def begin(self, **env: str) -> None:
        command = [sys.executable, "-m", "tests.faults.program", str(self.data_dir)]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*self.before, *command], cwd=ROOT, env=self.env | env, stdout=log, stderr=log
            )

    def wait_until(self, *states: str) -> None:
        """Until its health is one of these."""
        until = time.monotonic() + PATIENCE
        while self.health().get("status") not in states:
            assert self.process
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.05)

    def health(self) -> dict[str, object]:
        try:
            found: dict[str, object] = httpx.get(f"{self.address}health", timeout=30).json()
        except httpx.HTTPError:
            return {}
        return found

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def tab(self) -> Tab:
        """Somebody new at the page."""
        return Tab(httpx.Client(base_url=self.address, timeout=PATIENCE))

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
            self.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
