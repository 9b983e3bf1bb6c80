"""Answers are written in threads of their own, and pages look on.

So an answer goes on while another conversation is looked at, and over a reload. When nobody has
looked on for a while, it is stopped: whoever stops reading stops the computing.
Knows nothing of gradio.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from rag.answering.engine import answer_as_set
from rag.answering.events import (
    SEARCHING,
    Begun,
    Events,
    Finished,
    LeftOut,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.answering.suggestions import suggest
from rag.errors import RivuletError
from rag.types import ChatMessage, Citation, NodeWithScore, Reasoning, Usage
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.jobs import Job
from rag.ui.limits import BUSY
from rag.ui.line import Place, Waiting
from rag.ui.sessions import Session
from rag.ui.turns import Doing

logger = logging.getLogger(__name__)

TOO_LONG = (
    "The answer took longer than it may here, and was ended. Ask for less, or choose a faster "
    "model."
)
UNWATCHED = 120.0
"""Seconds without anybody looking on after which an answer is stopped: a telephone whose screen
goes dark, or a train in a tunnel, is back before."""
KEPT = 2.0
"""Seconds after which what has come of an answer is on the disk."""
GLANCE = 0.2
"""Seconds between two looks at what is waited for."""
BUSY_LINE = 8
"""Answers from which on no further questions are sought while they are being written: it takes up
to sixteen searches, and more of the processor than all else of an answer."""


@dataclass(eq=False)
class Writing:
    """One answer that is being written into a turn of a conversation, whose lock it holds."""

    backend: Backend
    session: Session
    conversation: Conversation
    turn: Turn
    answer: Answer
    place: Place
    """In the line of those who ask."""
    files: Sequence[Job] = ()
    """Files whose words have to be searchable first."""
    search_for: str = ""
    """What is to be searched for instead of the question."""
    ended: Callable[[], object] = bool
    """Is called when the answer is there, or will not come."""
    doing: Doing | None = None
    """What is being done."""
    version: int = 0
    """Counts what has changed."""
    over: bool = False
    """Nothing changes any more."""
    unsaved: str = ""
    """Why the conversation could not be saved; empty where it was."""
    watching: list[str] = field(default_factory=list)
    """The tabs that look on."""
    _seen: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Begin; the conversation's lock is held already, and is given back at the end."""
        self._told(Status(SEARCHING))
        name = f"answer {self.answer.key}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # the system gives no more of them
            logger.exception("An answer could not be begun")
            self.answer.error, self.answer.finish_reason = BUSY, "error"
            try:
                self._give_back()
            finally:
                self._end()

    @contextmanager
    def watched_by(self, tab: str) -> Iterator[None]:
        """While a tab looks on."""
        self.watching.append(tab)
        try:
            yield
        finally:
            self.watching.remove(tab)
            self._seen = time.monotonic()

    @property
    def _stopped(self) -> bool:
        if self.watching:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > UNWATCHED:
            return True
        gone = self.conversation.deleted or self.session.forgotten
        return gone or self.conversation.stop.is_set()

    def _changed(self) -> None:
        self.version += 1

    def _told(self, doing: Doing | None) -> None:
        self.doing = doing
        self._changed()

    def _run(self) -> None:
        try:
            self._answer()
            self._give_back()
            self._suggest()
        except Exception:  # what has come of the answer is there
            if not self._stopped:  # then the program may be about to end
                logger.exception("What comes after an answer went wrong")
        finally:
            self._end()

    def _answer(self) -> None:
        """Write the answer; what goes wrong becomes a part of it."""
        answer, metrics = self.answer, self.backend.metrics
        metrics.answering.inc()
        try:
            self._write()
        except (RivuletError, NotImplementedError) as error:
            metrics.failed(error)
            ours = isinstance(error, RivuletError)
            answer.error = self.backend.told(error) if ours else str(error)
            answer.finish_reason = "error"
        except Exception as error:
            metrics.failed(error)
            number = uuid.uuid4().hex[:8]
            logger.exception("Error %s while answering", number)
            answer.error = f"Something went wrong (error {number} in the log). Ask again."
            answer.finish_reason = "error"
        answer.finish_reason = answer.finish_reason or "stopped"
        metrics.answered(answer)

    def _give_back(self) -> None:
        """Keep the answer, and have the next one begun."""
        try:
            self.keep()
        finally:
            self.conversation.ended = self.answer.key
            self.conversation.lock.release()
            self.ended()
            self._told(None)

    def _end(self) -> None:
        self.over = True
        self._changed()

    def _write(self) -> None:
        """Fill the answer."""
        if not self._may_begin():
            return
        scope = self.turn.scope
        waiting = list(self.backend.waiting_for(self.answer.model, scope))
        while pending := [p for p in waiting if not p.wait(0)]:
            self._told(pending[-1])
            if self.conversation.stop.wait(GLANCE) or self._stopped:
                return
        while unread := [job for job in self.files if not job.settled]:
            self._told(unread[0])
            if self.conversation.stop.wait(GLANCE) or self._stopped:
                return
        llm = waiting[-1].result()
        retriever = None if scope == "none" else Searching(self.backend, self.session, self.turn)
        with closing(
            answer_as_set(
                self.turn.question,
                retriever,
                llm,
                self.backend.config,
                self.backend.embedding.result() if retriever else None,
                self.backend.rerank if retriever else None,
                history(_before(self.conversation.turns, self.turn)),
                self.turn.options,
                self.search_for,
            )
        ) as events:
            self._read(events)

    def _may_begin(self) -> bool:
        """Wait in the line; whether anybody still wants the answer then."""
        while not self._stopped and (now := self.place.waiting):
            if now != self.doing:
                self._told(now)
            self.place.called.wait(GLANCE)
        if isinstance(self.doing, Waiting):
            self._told(Status(SEARCHING))
        return not self._stopped

    def _read(self, events: Events) -> None:
        answer = self.answer
        kept, version = time.monotonic(), self.version
        until = kept + self.backend.config.answer_timeout
        for event in events:
            if self._stopped:
                return
            now = time.monotonic()
            if now > until:
                raise RivuletError(TOO_LONG)
            if now > kept + KEPT and self.version != version:
                self.keep()
                kept, version = now, self.version
            match event:
                case Status():
                    self.doing = event
                case SearchedFor(question):
                    answer.searched_for = question
                case Sources(nodes, others):
                    answer.sources, answer.others = nodes, others
                case Reasoning(text):
                    answer.reasoning += text
                case Citation():
                    answer.citations += (event,)
                case Timings():
                    answer.timings = event
                case Usage():
                    answer.usage = event
                case Finished(reason, usage):
                    answer.finish_reason, answer.usage = reason, usage
                case "" | Begun() | LeftOut():
                    continue
                case str(text):
                    answer.text += text
                    self.doing = None
            self._changed()

    def keep(self) -> None:
        """Save the conversation. An answer is given also where the disk is full."""
        self.unsaved = ""
        try:
            self.session.keep(self.conversation)
        except OSError as error:
            self.unsaved = error.strerror or str(error)
            logger.error("A conversation in %s cannot be saved: %s", self.session.folder, error)

    @property
    def _is_last(self) -> bool:
        return any(turn is self.turn for turn in self.conversation.turns[-1:])

    def _suggest(self) -> None:
        """Find further questions, as long as nothing else is asked, and not too much by others."""
        answer, turns = self.answer, self.conversation.turns
        if answer.finish_reason != "stop" or not answer.sources or not self._is_last:
            return
        if self.place.line.writing >= BUSY_LINE:
            return
        asked = [turn.question for turn in turns[:-1]]
        asked.append(answer.searched_for or self.turn.question)
        found = []
        with closing(
            suggest(
                asked,
                Sources(answer.sources, answer.others),
                Searching(self.backend, self.session, self.turn),
                self.backend.config,
                self.backend.embedding.result(),
                self.backend.catalog.prepare(answer.model).result(),
            )
        ) as questions:
            for question in questions:
                if self._stopped or self.conversation.lock.locked() or not self._is_last:
                    return
                found += [question] if question else []
        if found and self._is_last:
            answer.suggestions = tuple(found)
            self.keep()
            self._changed()


def history(turns: Sequence[Turn]) -> list[ChatMessage]:
    """What was said in `turns`; of several answers the last."""
    return [
        message
        for turn in turns
        for answer in turn.answers[-1:]
        if answer.text
        for message in (
            ChatMessage("user", turn.question),
            ChatMessage("assistant", answer.text, answer.finish_reason),
        )
    ]


def _before(turns: Sequence[Turn], turn: Turn) -> Sequence[Turn]:
    return turns[: turns.index(turn)] if turn in turns else ()


@dataclass(frozen=True)
class Searching:
    """A retriever over what one session may see, and one question is to be answered from."""

    backend: Backend
    session: Session
    turn: Turn

    def retrieve(self, query: str) -> list[NodeWithScore]:
        turn = self.turn
        return self.backend.retrieve(
            self.session, turn.scope, query, turn.options.top_k, turn.documents
        )
