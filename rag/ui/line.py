"""Whose answer is written now, and who waits for that.

In rounds, and in each in the order of their coming: nobody's second question is begun before the
first of all who wait, and nobody is passed over for longer than a round. That is start-time fair
queuing (Goyal, Vin and Cheng, 1997) of questions that count alike. Knows nothing of gradio.
"""

import threading
import time
from dataclasses import dataclass, field
from operator import attrgetter


@dataclass(frozen=True)
class Waiting:
    """Where somebody stands in the line."""

    number: int
    """1: they are next."""
    seconds: int | None
    """About how long they wait; None where no answer has ended yet."""


class Line:
    """At most `places` answers are written at the same time."""

    def __init__(self) -> None:
        self.places = 1
        self._writing: set[Place] = set()
        self._waiting: list[Place] = []
        """As they are called."""
        self._round = 0
        """That of the question that was called last."""
        self._called: dict[str, int] = {}
        """The last round of everybody who has been called in this one."""
        self._takes: float | None = None
        """Seconds that an answer holds its place, on average, the latest above all."""
        self._lock = threading.Lock()

    @property
    def writing(self) -> int:
        """How many answers are being written."""
        return len(self._writing)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def join(self, who: str, places: int, most: int) -> "Place | None":
        """A place for somebody, or where there is none free, one in the line; None where `most`
        wait there."""
        with self._lock:
            self.places = places
            if len(self._waiting) >= most and len(self._writing) >= places:
                return None
            rounds = [each.round for each in self._waiting if each.who == who]
            own = max(rounds, default=self._called.get(who, -1)) + 1
            place = Place(self, who, max(own, self._round))
            self._waiting.append(place)
            self._waiting.sort(key=attrgetter("round"))
            self._call()
            return place

    def seconds(self, number: int) -> int | None:
        """About how long the `number`-th in the line waits."""
        return round(self._takes * number / self.places) or 1 if self._takes else None

    def _call(self) -> None:
        while self._waiting and len(self._writing) < self.places:
            place = self._waiting.pop(0)
            if place.round != self._round:
                self._round = place.round
                self._called.clear()
            self._called[place.who] = place.round
            self._writing.add(place)
            place.since = time.monotonic()
            place.called.set()

    def _where(self, place: "Place") -> Waiting | None:
        with self._lock:
            if place not in self._waiting:
                return None
            number = self._waiting.index(place) + 1
            return Waiting(number, self.seconds(number))

    def _leave(self, place: "Place") -> None:
        with self._lock:
            if place in self._writing:
                self._writing.remove(place)
                took = time.monotonic() - place.since
                before = took if self._takes is None else self._takes
                self._takes = before + (took - before) / 8
            elif place in self._waiting:
                self._waiting.remove(place)
            self._call()


@dataclass(eq=False)
class Place:
    """Of one answer."""

    line: Line
    who: str
    """Whose it is."""
    round: int
    """In which it is called."""
    called: threading.Event = field(default_factory=threading.Event)
    """Set when it may be written."""
    since: float = 0.0
    """When that was."""

    @property
    def waiting(self) -> Waiting | None:
        """Where it stands; None where it may be written."""
        return self.line._where(self)

    def leave(self) -> None:
        """Make room for the next; nothing happens the second time."""
        self.line._leave(self)
