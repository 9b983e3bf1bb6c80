"""How much one session may ask for, so that there is something left for the others.

Each refusal is a text that says what to do. Knows nothing of gradio.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping

from rag.config import Config
from rag.ui.disk import size_of
from rag.ui.line import Line, Place
from rag.ui.sessions import Session

MINUTE = 60.0
MANY = 10_000
"""Sessions whose last minute is known."""
FULL = (
    "Too many ask here just now: {number} questions wait already. Ask again in {seconds} seconds."
)
BUSY = "Too much is going on here just now. Ask again in a minute."

Refusal = tuple[str, Mapping[str, object]]
"""A text in English, and what its braces name."""


class Limits:
    """Who has asked how often, and how many answers are being written for them."""

    def __init__(self, config: Config):
        self.config = config
        self._asked: dict[str, deque[float]] = {}
        """When each session, by the name of its folder, has asked in the last minute."""
        self._answers: dict[str, Counter[str]] = {}
        """The conversations of each session in which an answer is being written, or waits."""
        self.line = Line()
        self._lock = threading.Lock()

    def begin(self, session: Session, conversation: str) -> Place | Refusal:
        """The place of a question in a conversation, to be given back by `ended`; or why it is not
        answered. Of several in one conversation each gives way to the next."""
        if refusal := full(session, self.config):
            return refusal
        often, key, now = self.config.questions_per_minute, session.folder.name, time.monotonic()
        with self._lock:
            asked = self._asked.pop(key, None) or deque(maxlen=often)
            self._asked[key] = asked
            while len(self._asked) > MANY:
                del self._asked[next(iter(self._asked))]
            if len(asked) == often and now - asked[0] < MINUTE:
                text = (
                    "More than {number} questions in a minute. Wait {seconds} seconds, then ask "
                    "again."
                )
                return text, {"number": often, "seconds": round(asked[0] + MINUTE - now) or 1}
            writing = self._answers.get(key, Counter())
            if conversation not in writing and len(writing) >= self.config.max_session_answers:
                text = (
                    "{number} answers are being written for you already. Wait until one is done, "
                    "or stop one."
                )
                return text, {"number": len(writing)}
            # Also in a full line one may ask otherwise than before.
            most = self.config.max_waiting + (conversation in writing)
            place = self.line.join(key, self.config.max_answers, most)
            if not place:
                number = self.line.waiting
                return FULL, {"number": number, "seconds": self.line.seconds(number) or 60}
            asked.append(now)
            writing[conversation] += 1
            self._answers[key] = writing
        return place

    def ended(self, session: Session, conversation: str, place: Place) -> None:
        place.leave()
        with self._lock:
            if writing := self._answers.get(session.folder.name):
                writing -= Counter([conversation])
                if not writing:
                    del self._answers[session.folder.name]


def full(session: Session, config: Config) -> Refusal | None:
    """Why nothing more of a session may be stored, where that is so."""
    limit = config.max_session_mb
    if not limit or size_of(session.folder) <= limit * 1_000_000:
        return None
    text = (
        "Your documents and conversations take more than {number} MB, which is all that one person "
        "may have here. Remove some of them."
    )
    return text, {"number": limit}
