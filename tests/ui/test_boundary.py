"""Uploads on their way to Gradio; who may do what is in `tests/strangers`."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from starlette.types import Message, Receive, Scope, Send

from rag.config import Config
from rag.ui.boundary import Boundary
from rag.ui.disk import Disk


async def receives() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def sends(_: Message) -> None:
    pass


def test_an_upload_that_begins_when_another_ends_is_kept(tmp_path: Path) -> None:
    """Halves are removed when there is no upload, and none begins meanwhile."""
    half = tmp_path / "half"

    async def two() -> bool:
        loop, ended, free = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "second":
                half.write_text("half")
                await ended.wait()

        # What would be done in a thread is done when the second one is being written.
        loop.set_default_executor(ThreadPoolExecutor(1))
        busy = loop.run_in_executor(None, free.wait)
        boundary = Boundary(gradio, Disk.of(Config(data_dir=tmp_path)), tmp_path)
        uploads = []
        for path in ("first", "second"):
            kept = boundary._upload_is_kept({"path": path}, receives, sends)
            uploads.append(asyncio.create_task(kept))
            await asyncio.sleep(0)
        assert half.exists()
        free.set()
        await asyncio.gather(busy, uploads[0])
        there = half.exists()
        ended.set()
        await uploads[1]
        return there

    assert asyncio.run(two())
    assert not half.exists()
