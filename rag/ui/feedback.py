"""What people say of answers, in one file for whoever runs the program.

Each line is a JSON object. Who changes their mind adds a line with the same `answer`, of which the
last one counts. Nothing in it tells who it is from. Knows nothing of gradio.
"""

import json
import logging
import os
import threading
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag.config import Config
from rag.errors import RivuletError
from rag.types import well_formed
from rag.ui.conversations import Answer, Turn
from rag.ui.exports import described

logger = logging.getLogger(__name__)

LONGEST_COMMENT = 2_000
"""Characters of a comment."""
LARGEST = 50_000_000
"""Bytes of the file, beyond which nothing is added: whoever can open the page can write to it."""


class Feedback:
    """Appends to `file`. Any number of threads and processes may do so at once."""

    def __init__(self, file: Path):
        self.file = file
        self._lock = threading.Lock()

    @classmethod
    def of(cls, config: Config) -> "Feedback | None":
        """As the settings have it; None where it is off."""
        return cls(config.data_dir / "feedback.jsonl") if config.feedback else None

    def give(self, turn: Turn, answer: Answer, comment: str = "") -> None:
        """Append a line with `answer`, its rating, and the comment. Raises RivuletError where it
        cannot be kept; the conversation is not affected."""
        comment = comment.strip()
        if len(comment) > LONGEST_COMMENT:
            raise RivuletError(
                f"The comment has {len(comment):,} characters; at most {LONGEST_COMMENT:,} are "
                f"taken. Shorten it."
            )
        text = json.dumps(_record(turn, answer, comment), ensure_ascii=False, default=str)
        try:
            self._append(f"{well_formed(text)}\n".encode())
        except OSError as error:
            logger.error("Feedback cannot be written to %s: %s", self.file, error)
            raise RivuletError(
                f"What you said of the answer could not be kept: {error.strerror or error}. "
                f"Your conversation is not affected."
            ) from error

    def _append(self, line: bytes) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
        with self._lock:
            file = os.open(self.file, flags, 0o600)
            try:
                before = os.fstat(file).st_size
                if before + len(line) > LARGEST:
                    logger.error("%s is full: move it away to go on", self.file)
                    raise RivuletError(
                        "What you said of the answer could not be kept: there is no more room for "
                        "it. Tell whoever runs this page."
                    )
                written = os.write(file, line)  # at once, so that no other line comes into it
                if written < len(line):
                    if os.fstat(file).st_size == before + written:
                        os.truncate(file, before)
                    raise OSError(None, "the disk is full")
            finally:
                os.close(file)


def _record(turn: Turn, answer: Answer, comment: str) -> dict[str, Any]:
    said = described(answer)
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "answer": answer.key,
        "rating": said.pop("rating"),
        "comment": comment,
        "question": turn.question,
        "scope": turn.scope,
        "options": asdict(turn.options),
        **said,
    }
