"""A question's way through the page: the handlers of the conversation.

Each handler is a generator that yields what changes on the page. Growing text is sent at most
every `PACE` seconds, the first piece at once.
"""

import logging
import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import gradio as gr

from rag.answering.engine import answer_as_set
from rag.answering.events import (
    Begun,
    Finished,
    LeftOut,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.errors import RivuletError
from rag.llms.catalog import label
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Citation, NodeWithScore, Reasoning, Usage
from rag.ui import rendering
from rag.ui.backend import Backend
from rag.ui.identity import identity
from rag.ui.jobs import Job
from rag.ui.sessions import Session, Turn

logger = logging.getLogger(__name__)

PACE = 0.07
"""Seconds between two states of a growing answer: some 14 a second, as fast as one reads."""
ALIVE = 1.0
"""Seconds after which Gradio is given something while the model is silent: only then does it see
that the tab has gone."""
MAX_QUESTION = 8_000
"""Characters of a question."""

View = tuple[Any, Any, Any]
"""Updates of the conversation, the question box and the sources."""
NOTHING: View = (gr.skip(), gr.skip(), gr.skip())
IDLE_BOX = {"submit_btn": True, "stop_btn": False}
BUSY_BOX = {"submit_btn": False, "stop_btn": True}


class Chat:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def session(self, request: gr.Request) -> Session:
        return self.backend.sessions.get(identity(request))

    def ask(
        self,
        box: dict[str, Any],
        model: str,
        scope: str,
        request: gr.Request,
        files: Sequence[Job] = (),
    ) -> Iterator[View]:
        """Answer the question in the box, as soon as `files` can be searched."""
        session = self.session(request)
        question = (box.get("text") or "").strip()
        if not question:
            yield self.view(session, box={"value": None, **IDLE_BOX})
        elif _is_too_long(question):
            yield NOTHING
        else:
            yield from self._ask(session, question, model, scope, files)

    def suggested(self, model: str, event: gr.SelectData, request: gr.Request) -> Iterator[View]:
        """Answer a suggested question that was clicked: the samples hold the answer."""
        yield from self.ask({"text": event.value["text"]}, model, "samples", request)

    def retry(
        self, model: str, scope: str, event: gr.RetryData, request: gr.Request
    ) -> Iterator[View]:
        """Ask the question of a turn again, in place of it and what came after."""
        session = self.session(request)
        yield from self._ask_again(session, _turn(event.index), None, model, scope)

    def edit(
        self, model: str, scope: str, event: gr.EditData, request: gr.Request
    ) -> Iterator[View]:
        """Ask the changed question of a turn, in place of it and what came after."""
        session = self.session(request)
        question = _text(event.value).strip()
        if _is_too_long(question):
            yield self.view(session, box=IDLE_BOX)
            return
        yield from self._ask_again(session, _turn(event.index), question, model, scope)

    def undo(self, event: gr.UndoData, request: gr.Request) -> View:
        """Take a turn back, with what came after; its question returns to the box."""
        session = self.session(request)
        self._stop_and_wait(session)
        taken = session.turns[_turn(event.index) :]
        if taken:
            del session.turns[_turn(event.index) :]
            session.save()
        box = {"value": {"text": taken[0].question if taken else "", "files": []}, **IDLE_BOX}
        return self.view(session, box=box)

    def clear(self, request: gr.Request) -> View:
        """Begin an empty conversation."""
        session = self.session(request)
        self._stop_and_wait(session)
        session.turns.clear()
        session.save()
        return self.view(session, box=IDLE_BOX)

    def stop(self, request: gr.Request) -> None:
        """End the running answer; its own handler then shows it as stopped."""
        self.session(request).stop.set()

    def select(self, event: gr.SelectData, request: gr.Request) -> str:
        """The sources of the answer that was clicked."""
        turns = self.session(request).turns
        number = _turn(event.index)
        return rendering.sources(turns[number] if number < len(turns) else None)

    def _ask_again(
        self, session: Session, number: int, question: str | None, model: str, scope: str
    ) -> Iterator[View]:
        self._stop_and_wait(session)
        if number < len(session.turns):
            question = question or session.turns[number].question
            del session.turns[number:]
        if question:
            yield from self._ask(session, question, model, scope)
        else:
            yield self.view(session, box=IDLE_BOX)

    def _stop_and_wait(self, session: Session) -> None:
        """A running answer, in this tab or another, gives way."""
        session.stop.set()
        if session.lock.acquire(timeout=5):
            session.lock.release()

    def _ask(
        self,
        session: Session,
        question: str,
        model: str,
        scope: str,
        files: Sequence[Job] = (),
    ) -> Iterator[View]:
        session.stop.set()
        if not session.lock.acquire(timeout=5):
            gr.Warning("Another answer is still being written. Stop it, then ask again.")
            yield NOTHING
            return
        session.stop.clear()
        turn = Turn(question, label(model))
        try:
            session.turns.append(turn)
            _keep(session)
            yield self.view(session, "Searching", box={"value": None, **BUSY_BOX})
            last, begun = time.monotonic(), False
            with closing(self._run(session, turn, model, scope, files)) as steps:
                for step in steps:
                    now = time.monotonic()
                    if step is None:
                        if now - last >= ALIVE:
                            last = now
                            yield NOTHING
                    elif step.status or step.sources or not begun or now - last >= PACE:
                        last, begun = now, bool(turn.answer or turn.reasoning)
                        yield (
                            rendering.messages(session.turns, step.status),
                            gr.skip(),
                            rendering.sources(turn) if step.sources else gr.skip(),
                        )
        except (RivuletError, NotImplementedError) as error:
            turn.error, turn.finish_reason = str(error), "error"
        except Exception:
            number = uuid.uuid4().hex[:8]
            logger.exception("Error %s while answering", number)
            turn.error = f"Something went wrong (error {number} in the log). Ask again."
            turn.finish_reason = "error"
        finally:
            # Not set when the reader has gone: its tab was closed, or the server ends.
            turn.finish_reason = turn.finish_reason or "stopped"
            if any(turn is kept for kept in session.turns):
                _keep(session)
            session.lock.release()
        yield self.view(session, box=IDLE_BOX)

    def _run(
        self, session: Session, turn: Turn, model: str, scope: str, files: Sequence[Job]
    ) -> Generator["_Step | None", None, None]:
        """Fill `turn`; yields a step at every change, None while there is none."""
        waiting = list(self.backend.waiting_for(model))
        while pending := [p for p in waiting if not p.wait(0)]:
            yield _Step(pending[-1].status)
            if session.stop.wait(0.2):
                return
        while unread := [job for job in files if not job.settled]:
            yield _Step(f"Reading {unread[0].name}")
            if session.stop.wait(0.2):
                return
        llm: LLM = waiting[-1].result()
        events = answer_as_set(
            turn.question,
            _Searching(self.backend, session, scope),
            llm,
            self.backend.config,
            self.backend.embedding.result(),
            self.backend.rerank,
            _history(session.turns[:-1]),
        )
        with closing(events):
            for event in events:
                if session.stop.is_set():
                    return
                match event:
                    case Status(text):
                        yield _Step(text)
                    case SearchedFor(question):
                        turn.searched_for = question
                    case Sources(nodes, others):
                        turn.sources, turn.others = nodes, others
                        yield _Step("Reading", sources=True)
                    case Reasoning(text):
                        turn.reasoning += text
                        yield _Step()
                    case Timings():
                        turn.timings = event
                    case Usage():
                        turn.usage = event
                    case Finished(reason, usage):
                        turn.finish_reason, turn.usage = reason, usage
                    case "" | Begun() | LeftOut() | Citation():
                        yield None
                    case str(text):
                        turn.answer += text
                        yield _Step()

    def view(self, session: Session, status: str = "", *, box: dict[str, Any]) -> View:
        """The whole conversation as it is."""
        last = session.turns[-1] if session.turns else None
        return (
            rendering.messages(session.turns, status),
            gr.update(**box),
            rendering.sources(last),
        )


@dataclass(frozen=True)
class _Step:
    """What changed: the status, the sources, or (with neither) the text."""

    status: str = ""
    sources: bool = False


class _Searching:
    """A retriever over what one session may see."""

    def __init__(self, backend: Backend, session: Session, scope: str):
        self.backend, self.session, self.scope = backend, session, scope

    def retrieve(self, query: str) -> list[NodeWithScore]:
        return self.backend.retrieve(self.session, self.scope, query)


def _is_too_long(question: str) -> bool:
    """Whether it is; then the person has been told."""
    if len(question) > MAX_QUESTION:
        gr.Warning(
            f"The question has {len(question):,} characters; at most {MAX_QUESTION:,} are taken. "
            f"Shorten it, or add the text as a document."
        )
    return len(question) > MAX_QUESTION


def _keep(session: Session) -> None:
    """Save the conversation. An answer is given also where the disk is full."""
    try:
        session.save()
    except OSError:
        logger.exception("The conversation in %s cannot be saved", session.folder)


def _history(turns: Sequence[Turn]) -> list[ChatMessage]:
    return [
        message
        for turn in turns
        if turn.answer
        for message in (
            ChatMessage("user", turn.question),
            ChatMessage("assistant", turn.answer, turn.finish_reason),
        )
    ]


def _turn(index: Any) -> int:
    """The turn of a message; Gradio gives a message's index, or one for message and part."""
    return int(index[0] if isinstance(index, Sequence) else index) // 2


def _text(value: Any) -> str:
    """The text of an edited message, which Gradio gives plain or in parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        return str(value.get("text", ""))
    return "".join(map(_text, value))
