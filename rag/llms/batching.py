"""Answers that are computed together: `Batch`. What computes them is a `Decoder`.

One thread goes round for all: each time every answer gets a token, or some, and the first of those
whose prompt is not read yet gets a piece of it read. The thread is there while there is something
to do. There is no lock that it waits for: the collector may close a stream in the middle of any
line here, and that waits until the thread has let go of the answer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from rag.llms import drafts
from rag.llms.decoding import Choice, Kept, Text
from rag.llms.prefixes import Prefixes
from rag.llms.protocol import TextStream
from rag.llms.relay import Pieces, drain
from rag.llms.writing import Writer
from rag.types import Completion, FinishReason, Prefill, Queued, Usage

AHEAD = 16
"""Pieces of text an answer may be ahead of its reader."""
TOGETHER = 16
"""Answers that are computed at a time; others wait in the order of their coming."""
PIECE = 256
"""Tokens of a prompt that are read at a time."""
BESIDE = 64
"""The same while answers are being written, which wait for it."""
ROWS = 6
"""Tokens that are computed at a time where answers are guessed ahead. FBGEMM's product takes six
rows at a time; one more is dearer than what is won."""
LOOK = 0.02
"""Seconds after which it is looked whether a reader has read on."""


class Decoder(Protocol):
    def room(self, tokens: int) -> Kept: ...

    def read(self, texts: Sequence[Text], look: Callable[[], object]) -> list[list[int]]: ...


@dataclass(eq=False)
class Answer:
    """A `prompt` in tokens, and what is to come of it: at most `limit` tokens, up to one of `ends`.

    `writer` puts its text into `pieces`. `failed` makes of what was raised what the reader gets.
    """

    prompt: list[int]
    limit: int
    choice: Choice
    ends: frozenset[int]
    pieces: Pieces
    writer: Writer
    failed: Callable[[BaseException], Exception]
    stopped: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    """Set when nothing is computed for it any more."""
    last: threading.Thread | None = None
    """The thread, where it ends with this answer."""
    kept: Kept | None = None
    told: int = 0

    def __post_init__(self) -> None:
        self.seen = drafts.text(self.prompt)

    @property
    def is_writing(self) -> bool:
        return self.writer.last_id is not None

    @property
    def is_ahead(self) -> bool:
        """Whether its reader is to read on first."""
        return self.pieces.qsize() >= AHEAD

    def following(self, ahead: int) -> Text:
        """With at most `ahead` tokens that may come."""
        assert self.kept
        assert self.writer.last_id is not None
        draft = drafts.draft(self.seen, min(ahead, self.limit - self.writer.count - 1))
        return Text(self.kept, [self.writer.last_id], self.choice, draft)

    def take(self, id_: int) -> bool:
        """Whether the answer ends with this token."""
        self.seen += chr(id_)
        ended = self.writer.write(id_)
        return ended or id_ in self.ends or self.writer.count == self.limit

    def tell_place(self, ahead: int) -> None:
        if ahead != self.told:
            self.told = ahead
            self.pieces.put(Queued(ahead))

    def end(self, error: BaseException | None = None) -> None:
        finish: FinishReason = "length"
        if self.stopped.is_set():
            finish = "stopped"
        elif self.writer.stopped or self.writer.last_id in self.ends:
            finish = "stop"
        self.writer.end()
        usage = Usage(len(self.prompt), self.writer.count)
        self.pieces.put(self.failed(error) if error else Completion(finish, usage))


class _Interrupted(Exception):  # noqa: N818
    """What is being read is no longer wanted, or something else comes first."""


class Batch:
    """`begins` is called with each thread that is to be started, and the event that ends it."""

    def __init__(
        self,
        decoder: Decoder,
        name: str,
        begins: Callable[[threading.Thread, threading.Event], object] = lambda *_: None,
    ):
        self._decoder = decoder
        self._name = name
        self._begins = begins
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._arrived: deque[Answer] = deque()
        self._answers: list[Answer] = []
        self._gone: list[Answer] = []
        self._ahead: deque[list[int]] = deque(maxlen=1)
        """A prompt that is read while there is nothing else to do."""
        self.prefixes = Prefixes()
        self.steps = 0
        """Tokens written."""
        self.read = 0
        """Tokens of prompts that were computed."""

    def stream(self, answer: Answer) -> TextStream:
        """Closing it ends the work."""
        self._arrived.append(answer)
        try:
            thread = self._start()
        except RuntimeError as error:  # the system gives no more of them
            self._arrived.remove(answer)
            raise answer.failed(error) from error
        try:
            return (yield from drain(answer.pieces))
        finally:
            answer.stopped.set()
            # The collector may close a stream that nobody holds in any thread, also in this one.
            if thread is not threading.current_thread():
                answer.left.wait()
                if answer.last:
                    answer.last.join()

    def read_ahead(self, prompt: list[int]) -> None:
        """Read `prompt` while no answer is computed, instead of any that was wanted before."""
        self._ahead.append(prompt)
        self._start()

    def forget(self) -> None:
        """Drop what is kept of answers that have ended."""
        self.prefixes = Prefixes()

    def _start(self) -> threading.Thread:
        with self._starting:
            if not (self._thread and self._thread.is_alive()):  # it may not have been started
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._begins(self._thread, self._ending)
                self._thread.start()
            return self._thread

    def _rests(self) -> bool:
        """Whether there is nothing to do; then this thread is no longer the one."""
        if not self._starting.acquire(blocking=False):
            return False
        try:
            if self._arrived or self._ahead:
                return False
            self._thread = None
            return True
        finally:
            self._starting.release()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # whatever it is: nobody may wait for a thread that is gone
            self._break(error)

    def _break(self, error: BaseException) -> None:
        """Tell all who wait, and let the next one who asks begin another thread."""
        lost = [*self._answers, *self._gone]
        self._answers, self._gone = [], []
        self._ahead.clear()
        self._thread = None
        with suppress(IndexError):  # who comes now sees that there is no thread
            while True:
                lost.append(self._arrived.popleft())
        for answer in lost:
            answer.pieces.put(answer.failed(error))
            answer.left.set()

    def _loop(self) -> None:
        while True:
            while self._arrived:
                self._answers.append(self._arrived.popleft())
            if self._ending.is_set():
                self._ahead.clear()
                for answer in self._answers:
                    answer.stopped.set()
            for answer in list(self._answers):
                if answer.stopped.is_set():
                    self._leave(answer)
            gone, self._gone = self._gone, []
            rests = not self._answers and self._rests()
            for answer in gone:
                answer.last = threading.current_thread() if rests else None
                answer.left.set()
            if rests:
                return
            self._go()

    def _go(self) -> None:
        """A token for each answer that is written, or more where they are as was guessed; and a
        piece of the first prompt that is not read."""
        going = [each for each in self._answers if each.is_writing and not each.is_ahead]
        unread = [each for each in self._answers if not each.is_writing]
        reading = unread[0] if unread and len(going) < TOGETHER else None
        for ahead, answer in enumerate(unread, 1 if reading is None else 0):
            answer.tell_place(ahead)
        if not going and not reading:
            if not self._read_ahead():
                time.sleep(LOOK)
            return
        size = BESIDE if going else PIECE
        if reading:
            going.append(reading)

        def look() -> None:
            if self._ending.is_set() or (reading and reading.stopped.is_set()):
                raise _Interrupted

        with suppress(_Interrupted):
            try:
                self._pass(going, size, look)
            except _Interrupted:
                raise
            except BaseException:
                # It may be the fault of one alone, or what is kept for later takes the memory.
                self.forget()
                for answer in going:
                    self._pass_alone(answer, size, look)

    def _pass_alone(self, answer: Answer, size: int, look: Callable[[], object]) -> None:
        try:
            self._pass([answer], size, look)
        except _Interrupted:
            raise
        except BaseException as error:  # it belongs to the reader, whatever it is
            self._leave(answer, error)

    def _pass(self, answers: Sequence[Answer], size: int, look: Callable[[], object]) -> None:
        """Once through the model for all of these. Raises what goes wrong there, and then they are
        as they were."""
        writing = sum(each.is_writing for each in answers)
        texts = [
            each.following(ROWS // writing - 1) if each.is_writing else self._piece_of(each, size)
            for each in answers
        ]
        ids = self._decoder.read(texts, look)
        for answer, text, own in zip(answers, texts, ids, strict=True):
            if not answer.is_writing:
                self.read += len(text.tokens)
            self._take(answer, own)

    def _piece_of(self, answer: Answer, size: int) -> Text:
        total = len(answer.prompt)
        if not answer.kept:
            answer.kept = self._decoder.room(total + answer.limit)
            self.prefixes.begin(answer.kept, answer.prompt)
        done = len(answer.kept.tokens)
        if total > size:
            answer.pieces.put(Prefill(done, total))
        end = min(done + size, total)
        return Text(answer.kept, answer.prompt[done:end], answer.choice if end == total else None)

    def _take(self, answer: Answer, ids: list[int]) -> None:
        try:
            for id_ in ids:
                self.steps += 1
                if answer.take(id_):
                    self._leave(answer)
                    return
        except Exception as error:
            self._leave(answer, error)

    def _leave(self, answer: Answer, error: BaseException | None = None) -> None:
        self._answers.remove(answer)
        self._gone.append(answer)
        try:
            answer.end(error)
            if answer.kept:
                self.prefixes.keep(answer.kept)
        except BaseException as failure:  # after its end nothing more of it is read
            answer.pieces.put(answer.failed(error or failure))

    def _read_ahead(self) -> bool:
        """Whether there was something to read."""
        try:
            prompt = self._ahead[0]
        except IndexError:
            return False
        kept = None

        def look() -> None:
            if self._arrived or self._ending.is_set() or self._ahead[0] != prompt:
                raise _Interrupted

        # Nobody waits for it: what goes wrong is told to whoever asks.
        with suppress(Exception):
            kept = self._decoder.room(len(prompt))
            self.prefixes.begin(kept, prompt)
            while (done := len(kept.tokens)) < len(prompt):
                self._decoder.read([Text(kept, prompt[done : done + PIECE])], look)
                self.read += len(kept.tokens) - done
        if kept and kept.tokens:
            self.prefixes.keep(kept)
        with suppress(ValueError):
            self._ahead.remove(prompt)
        return True
