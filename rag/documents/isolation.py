"""Reads a file in a process of its own, with a time limit.

What a parser does with a hostile file (crash, hang, take all memory) ends with that process.
The document comes back as JSON, never as pickle, because the sender is not to be trusted.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

from rag import errors
from rag.documents.loading import load
from rag.types import Document

MEMORY_LIMIT = 2_000_000_000
"""Bytes of address space a reading process may use, where the system can limit it."""
ROOT = Path(__file__).resolve().parents[2]


def load_isolated(path: Path, file_name: str, timeout: float) -> Document:
    """`loading.load` in a process of its own.

    Raises what `load` raises, and DocumentError when the process takes longer than `timeout`
    seconds or dies.
    """
    command = [sys.executable, "-m", __name__, str(path.resolve()), file_name]
    # Nothing of ours is handed on: a parser has no business with keys.
    secrets = ("OPENAI_API_KEY", "RAG_AUTH", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    env = {key: value for key, value in os.environ.items() if key not in secrets}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**env, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise errors.DocumentError(
            file_name, f"reading it took longer than {timeout:.0f} seconds and was stopped."
        ) from error
    try:
        answer = json.loads(done.stdout)
    except ValueError as error:
        raise errors.DocumentError(
            file_name, "it could not be read: the reading process broke off. The file is damaged."
        ) from error
    if "error" in answer:
        raise getattr(errors, answer["error"])(file_name, answer["reason"])
    return Document(**{**answer, "page_starts": tuple(answer["page_starts"])})


def main(path: str, file_name: str) -> None:
    """The reading process: prints the document, or the error, as one JSON object."""
    try:
        import resource
    except ImportError:  # Windows has no such limit; the time limit holds there too
        pass
    else:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = dataclasses.asdict(load(Path(path), file_name))
    except errors.DocumentError as error:
        answer = {"error": type(error).__name__, "reason": error.reason}
    except OSError as error:
        reason = f"it cannot be opened: {error.strerror or error}."
        answer = {"error": "DocumentError", "reason": reason}
    except MemoryError:
        reason = "reading it took too much memory and was stopped."
        answer = {"error": "DocumentError", "reason": reason}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
