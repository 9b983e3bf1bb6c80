"""Reads a file in a process of its own, with a time and a memory limit.

What a parser does with a hostile file (crash, hang, take all memory) ends with that process, and
costs one document: for the rest of an archive another process is started. The documents come back
as lines of JSON, never as pickle, because the sender is not to be trusted.
"""

import ctypes
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rag import errors
from rag.documents.archives import Part
from rag.documents.loading import TEXT_LIMIT, load_part, parts
from rag.types import Document

MEMORY_LIMIT = 2_000_000_000
"""Bytes of address space a reading process may use, where the system can limit it."""
LINE_LIMIT = 4 * TEXT_LIMIT
"""Bytes of a document on its way here."""
_END_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2): whoever is killed can end nobody any more."""
LATE = {"broken": "late"}
TOO_MUCH = {
    "error": "DocumentError",
    "reason": "reading it took too much memory and was stopped.",
}
ROOT = Path(__file__).resolve().parents[2]


def load_isolated(
    path: Path, file_name: str, timeout: float, originals: Path | None = None
) -> Generator[Document | errors.DocumentError, None, None]:
    """`loading.load` in a process of its own, which goes on while its reader is at work.

    Raises what `load` raises. It is a DocumentError too when reading takes longer than `timeout`
    seconds or the process dies. A file in an archive may take half of the time that is left, so
    that one which hangs leaves time for the others. Each PDF is written into the folder
    `originals`, named after its document's `text_hash`.
    """
    left, told, broken = timeout, 0, True
    reason = f"reading took longer than {timeout:.0f} seconds; the rest was left out."
    unread = errors.DocumentError(file_name, reason)
    while broken:
        folder = str(originals.resolve()) if originals else ""
        with process(__name__, str(path.resolve()), file_name, str(told), folder) as running:
            reading, broken = "", False
            while not broken:
                inner = reading not in ("", file_name)
                limit = left / 2 if inner else left
                begun = time.monotonic()
                answer = next_answer(running, limit)
                left -= time.monotonic() - begun
                if "reading" in answer:
                    reading = str(answer["reading"])
                    continue
                if "end" in answer:
                    return
                broken = "broken" in answer
                item = _item(answer, reading or file_name, limit)
                if isinstance(item, errors.DocumentError) and not inner:
                    if not told:
                        raise item
                    # What is in it could not be told to the end.
                    yield unread if answer == LATE else item
                    return
                told += 1
                yield item
                reading = ""
        if left < timeout / 50:
            yield unread
            return


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a module of ours; it ends with the context."""
    command = [sys.executable, "-m", module, *arguments]
    # Nothing of ours is handed on: a parser has no business with keys.
    secrets = ("OPENAI_API_KEY", "RAG_AUTH", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    env = {key: value for key, value in os.environ.items() if key not in secrets}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as running:
        try:
            yield running
        finally:
            running.kill()
            with suppress(OSError):  # it has not read all that it was asked
                running.stdin.close()  # type: ignore[union-attr]


def next_answer(
    running: subprocess.Popen[bytes], limit: float, asked: bytes = b""
) -> dict[str, Any]:
    """The next line, once it has got the lines `asked`; {"broken": ...} where there is none within
    `limit` seconds, or no sense."""
    assert running.stdin
    assert running.stdout
    late = threading.Event()

    def stop() -> None:
        late.set()
        running.kill()

    timer = threading.Timer(limit, stop)
    timer.start()
    try:
        if asked:
            running.stdin.write(asked)
            running.stdin.flush()
        answer = json.loads(running.stdout.readline(LINE_LIMIT))
    except (OSError, ValueError, RecursionError):
        answer = None
    finally:
        timer.cancel()
    if late.is_set():
        return LATE
    return answer if isinstance(answer, dict) else {"broken": "off"}


def _item(answer: dict[str, Any], name: str, limit: float) -> Document | errors.DocumentError:
    """The document or the error in an answer about the part of this name."""
    if answer == LATE:
        return errors.DocumentError(
            name, f"reading it took longer than {limit:.0f} seconds and was stopped."
        )
    try:
        if "error" in answer:
            error = getattr(errors, answer["error"])(name, answer["reason"])
            assert isinstance(error, errors.DocumentError)
            return error
        return Document(**{**answer, "page_starts": tuple(answer["page_starts"])})
    except (AssertionError, AttributeError, KeyError, TypeError):
        return errors.DocumentError(
            name,
            "it could not be read: the reading process broke off. The file is damaged, or takes "
            "more memory than it may.",
        )


def confined() -> Callable[[dict[str, Any]], None]:
    """Limits the memory of this process, which ends with the thread that started it, and answers
    from now on by what is returned."""
    if sys.platform == "linux":  # elsewhere it ends when it has something to say
        ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time limit holds there too
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a library prints goes elsewhere.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def tell(answer: dict[str, Any]) -> None:
        line = json.dumps(answer, ensure_ascii=False)
        out.write(line.encode("utf-8", "surrogatepass") + b"\n")
        out.flush()

    return tell


def main(path: str, file_name: str, skip: str, originals: str) -> None:
    """The reading process: prints which part it reads, then its document or error; and so on."""
    tell = confined()

    def read(part: Part) -> dict[str, Any]:
        try:
            document = load_part(part)
            if originals and document.page_starts:
                target = Path(originals) / f"{document.text_hash}.pdf"
                _keep(part, Path(path) if part.name == file_name else None, target)
            return dataclasses.asdict(document)
        except errors.DocumentError as error:
            return _told(error)
        except MemoryError:
            return TOO_MUCH

    try:
        for number, part in enumerate(parts(Path(path), file_name)):
            if number >= int(skip):
                tell({"reading": part.name})
                tell(read(part))
        tell({"end": True})
    except errors.DocumentError as error:
        tell(_told(error))
    except MemoryError:
        tell(TOO_MUCH)


def _keep(part: Part, file: Path | None, target: Path) -> None:
    """Put what was read into `target`; what cannot be kept is read all the same."""
    if file:
        with suppress(OSError):  # another disk, or one that knows no links
            os.link(file, target)
            return
    try:
        target.write_bytes(part.read())
    except OSError:
        with suppress(OSError):
            target.unlink()  # the disk is full


def _told(error: errors.DocumentError) -> dict[str, Any]:
    return {"error": type(error).__name__, "reason": error.reason}


if __name__ == "__main__":
    main(*sys.argv[1:])
