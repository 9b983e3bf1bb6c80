"""A tab of a browser for tests: it calls the handlers as Gradio does, and shows what they give."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import chain
from typing import Any

import gradio as gr
from bs4 import BeautifulSoup

from rag.llms.protocol import TextStream
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion
from rag.ui.chat import Asking, Beside, Chat
from rag.ui.conversations import Answer, Conversation, Scope
from rag.ui.jobs import Job
from rag.ui.line import Line, Place
from rag.ui.sessions import Session

MODEL = "scripted"
View = tuple[Any, Any, Any]
"""Updates of the conversation, the question box and the list of conversations."""
GUARD = 20.0
"""Seconds after which a test gives up: a hang guard."""


class Clock:
    """The time, as a test has it."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def eventually(true: Callable[[], object]) -> None:
    """Wait until it is so."""
    until = time.monotonic() + GUARD
    while not true():
        assert time.monotonic() < until, "it has not come to that"
        time.sleep(0.005)


def event(do: str, key: str = "", text: str = "") -> gr.EventData:
    return gr.EventData(None, {"do": do, "key": key, "text": text})


def free_place() -> Place:
    """One in a line in which nobody waits."""
    place = Line().join("", 1, 1)
    assert place
    return place


def skipped(update: Any) -> bool:
    return bool(update == gr.skip())


class Gated(ScriptedLLM):
    """Says "Half", then waits for the gate to be opened, then says the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.said_half = threading.Event()
        self.closed = threading.Event()

    def stream(self, messages: Sequence[ChatMessage], **options: Any) -> TextStream:
        self.calls.append(list(messages))
        try:
            yield ""
            yield "Half"
            self.said_half.set()
            while not self.gate.wait(0.01):
                yield ""
            yield " and half."
            return Completion("stop")
        finally:
            self.closed.set()


class Reading:
    """A handler that goes on while the test does."""

    def __init__(self, page: "Page", views: AsyncIterator[Any]):
        self.page = page
        self.views: list[Any] = []
        self._handler = views
        self._closed = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._read()))
        self._thread.start()

    async def _read(self) -> None:
        async for view in self._handler:
            self.views.append(view)
            self.page.show(view)
            if self._closed.is_set():
                await self._handler.aclose()  # type: ignore[attr-defined]
                await asyncio.sleep(0)
                return

    @property
    def goes_on(self) -> bool:
        return self._thread.is_alive()

    def end(self) -> list[Any]:
        """What it yielded, once it is over."""
        self._thread.join(GUARD)
        assert not self.goes_on
        return self.views

    def close(self) -> None:
        """As Gradio does for a tab that is gone: at the next view."""
        self._closed.set()
        self.end()


class Page:
    """What a tab shows."""

    def __init__(self, chat: Chat, request: gr.Request):
        self.chat, self.request = chat, request
        self.key = ""
        self.parts: list[dict[str, Any]] = []
        self.states: list[list[dict[str, Any]]] = []
        """The conversation, each time it changed."""
        self.box: dict[str, Any] = {}
        self.listed = ""
        self.ended = ""
        self.load()

    def load(self) -> None:
        """Show what there is, without looking on."""
        self.show(self.chat.load(self.request))

    def show(self, view: tuple[Any, ...]) -> None:
        tree, box, listed = view
        if not skipped(tree):
            self.key = tree["key"]
            self.parts = opened(tree["parts"])
            self.states.append(self.parts)
        if not skipped(box):
            self.box = {**self.box, **box}
        if not skipped(listed):
            self.listed = listed

    def asks(
        self,
        question: str | None,
        model: str = MODEL,
        scope: Scope = "samples",
        documents: tuple[str, ...] = (),
        files: Sequence[Job] = (),
    ) -> Reading:
        """Begin to ask."""
        box = {"text": question, "files": []}
        asking = Asking(model, scope, documents)
        return Reading(self, self._then(self.chat.ask(box, asking, self.request, files)))

    def ask(self, *questions: str, **asking: Any) -> Answer:
        """Ask, one after the other; the last answer."""
        for question in questions:
            self.asks(question, **asking).end()
        return self.conversation.turns[-1].answers[-1]

    def presses(
        self, do: str, key: str, text: str = "", model: str = MODEL, scope: Scope = "samples"
    ) -> Reading:
        """Begin what a button has answered."""
        asking = Asking(model, scope)
        return Reading(
            self, self._then(self.chat.press(event(do, key, text), asking, self.request))
        )

    def press(self, do: str, key: str, text: str = "", **asking: Any) -> list[Any]:
        return self.presses(do, key, text, **asking).end()

    def click(self, do: str, key: str = "", text: str = "") -> Reading:
        """Have done what a button says, then look on: what the page does after each click."""
        self.show(self.chat.do(event(do, key, text), self.request))
        return self.follows()

    def follows(self) -> Reading:
        return Reading(self, self._then())

    async def _then(self, done: Awaitable[Beside] | None = None) -> AsyncIterator[View]:
        """What a handler gives, then the conversation as it changes; where an answer has ended,
        what is beside it."""
        if done:
            yield gr.skip(), *(await done)
        async with aclosing(self.chat.follow(self.request)) as trees:
            async for tree in trees:
                yield tree, gr.skip(), gr.skip()
                if not skipped(tree) and tree["ended"] not in ("", self.ended):
                    self.ended = tree["ended"]
                    yield gr.skip(), *self.chat.settle(self.request)

    def stop(self) -> None:
        self.chat.stop(self.request)

    @property
    def session(self) -> Session:
        return self.chat.look(self.request).session

    @property
    def conversation(self) -> Conversation:
        """The one that it shows."""
        return self.chat.look(self.request).conversation

    @property
    def questions(self) -> list[str]:
        """As they are shown."""
        return [str(markup.h3.string) for kind, markup in self.leaves() if kind == "question"]

    @property
    def said(self) -> str:
        """The text of the last answer that is shown."""
        return said(self.parts)

    @property
    def names(self) -> list[str]:
        """Of the conversations in the list."""
        soup = BeautifulSoup(self.listed, "html.parser")
        return [name.text for name in soup.find_all(class_="name")]

    @property
    def current(self) -> str:
        """The name of the conversation that is marked in the list."""
        found = BeautifulSoup(self.listed, "html.parser").find(attrs={"aria-current": "true"})
        return found.text if found else ""

    def leaves(self, kind: str = "") -> list[tuple[str, BeautifulSoup]]:
        return [leaf for leaf in leaves(self.parts) if not kind or leaf[0] == kind]

    def text(self, kind: str) -> str:
        """Of all parts of a kind, such as "status", "facts", "error"."""
        return " | ".join(markup.text for _, markup in self.leaves(kind))

    def do(self, what: str) -> list[str]:
        """The keys of the buttons that do this."""
        buttons = [part.find_all(attrs={"data-do": what}) for _, part in self.leaves()]
        return [str(button["data-key"]) for button in chain(*buttons)]

    @property
    def marks(self) -> list[str]:
        """The keys of the marks behind sentences, which the page makes of what it is given."""
        turns = [part["n"][1]["n"] for part in self.parts if "n" in part]
        return [
            f"{answer['k']}:{line.split()[0]}"
            for answer in chain(*turns)
            for block in answer["n"]
            for line in block.get("m", "").splitlines()
        ]


def opened(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """With what is JSON among them as what it is of."""
    return [json.loads(part["j"]) if "j" in part else part for part in parts]


def leaves(parts: Sequence[dict[str, Any]]) -> list[tuple[str, BeautifulSoup]]:
    """The class, or else the key, and the HTML of each part that has some, in the order shown."""

    def walk(parts: Sequence[dict[str, Any]]) -> Iterator[tuple[str, BeautifulSoup]]:
        for part in parts:
            if "n" in part:
                yield from walk(part["n"])
            else:
                yield part["c"] or part["k"], BeautifulSoup(part["h"], "html.parser")

    return list(walk(parts))


def said(parts: Sequence[dict[str, Any]]) -> str:
    """The text of the last answer."""
    if not parts or "n" not in parts[-1]:
        return ""
    answer = parts[-1]["n"][1]["n"][-1]
    shown = [markup.text.strip() for kind, markup in leaves(answer["n"]) if kind == "said"]
    return "\n\n".join(shown)
