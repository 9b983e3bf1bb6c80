"""A question's way through the page: the handlers of the conversations.

One handler begins an answer (`writing`), another looks on and yields the conversation as it
changes, at most every `PACE` seconds, the first piece at once. That has no other output: Gradio
makes each component anew of which it is told nothing (docs/decisions.md). An answer goes on while
its tab shows another conversation, and a page that is loaded looks on where one is being written.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import gradio as gr

from rag.errors import RivuletError
from rag.ui import turns
from rag.ui.anticipation import Anticipation
from rag.ui.backend import Backend
from rag.ui.conversations import Answer, Conversation, Scope, Turn
from rag.ui.exports import file_name, to_json, to_markdown
from rag.ui.feedback import Feedback
from rag.ui.identity import identity
from rag.ui.jobs import Job
from rag.ui.language import Say, speaking
from rag.ui.limits import Limits, Refusal
from rag.ui.line import Place
from rag.ui.sessions import Session
from rag.ui.writing import Writing

PACE = 0.1
"""Seconds between two states of a growing answer: nobody reads faster, and each costs 350 bytes."""
FAST = 80
"""Characters that come between two states from which on the next one is waited for twice as long:
nobody reads so fast."""
SHARE = 50
"""How many times as long as one state takes it is at least until the next, so that a hundred pages
that look on leave the event loop time for all else."""
SLOWEST = 1.0
"""Seconds between two states, at most."""
GLANCE = 0.02
"""Seconds between two looks at whether anything has changed."""
ALIVE = 1.0
"""Seconds after which something is sent while the model is silent: only then does Gradio see that
the tab has gone, and the page that the connection has not."""
PATIENCE = 5.0
"""Seconds that a running answer is given to end."""
TYPING = 0.2
"""Seconds that what is typed is waited for more, before anything is read ahead."""

TOO_LONG = (
    "The question has more than {number} characters. Shorten it, or add the text as a document."
)
STILL_WRITING = "Another answer is still being written. Stop it, then ask again."

T = TypeVar("T")
Put = Callable[[], object]
"""Puts an answer that is about to be written into its conversation."""
Tree = dict[str, Any]
"""The `key` of a conversation, its `parts`, and while no answer is being written there, the key of
the one that has `ended` last."""
Beside = tuple[Any, Any]
"""Updates of the question box and the list of conversations."""
View = tuple[Tree, Any, Any]
"""The conversation, and these."""
NOTHING: Beside = (gr.skip(), gr.skip())
LAST: Tree = gr.skip()
"""What is yielded last is sent once more at the end, and whole. An empty tree would cost Gradio
less, but of what comes at once a browser shows the latest alone, and not the state before it."""
IDLE_BOX = {"submit_btn": True, "stop_btn": False}
BUSY_BOX = {"submit_btn": False, "stop_btn": True}


@dataclass(frozen=True)
class Look:
    """Who looks on: a tab of a session, and in which language."""

    session: Session
    tab: str
    say: Say
    made: turns.Made = field(default_factory=turns.Made)

    @property
    def conversation(self) -> Conversation:
        """The one that the tab shows; at first the one that the session had open last."""
        return self.session.shown(self.tab)


class Pace:
    """When who looks on is told of a growing answer: of its first piece at once, then after `PACE`,
    and the more seldom the longer it takes to tell."""

    def __init__(self, writing: Writing):
        self._answer = writing.answer
        self._length = self._grown = 0
        self._told = self._took = 0.0

    @property
    def is_silent(self) -> bool:
        return time.monotonic() - self._told > ALIVE

    @contextmanager
    def telling(self) -> Iterator[None]:
        self._told, length = time.monotonic(), len(self._answer.text)
        self._grown, self._length = length - self._length, length
        yield
        self._took += (time.monotonic() - self._told - self._took) / 4

    async def wait(self) -> None:
        due = self._told
        if self._length:  # until then each step is told, and the first piece is not waited for
            due += min(max(PACE * (1 + (self._grown > FAST)), SHARE * self._took), SLOWEST)
        await asyncio.sleep(max(GLANCE, due - time.monotonic()))


@dataclass(frozen=True)
class Asking:
    """What is chosen beside the question."""

    model: str
    scope: Scope
    documents: tuple[str, ...] = ()


def look_of(backend: Backend, request: gr.Request) -> Look:
    """Who looks on with this request."""
    _, say = speaking(request.headers.get("accept-language", ""))
    return Look(backend.sessions.get(identity(request)), str(request.session_hash), say)


class Chat:
    """The handlers, over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.feedback = Feedback.of(backend.config)
        self.limits = Limits(backend.config)
        self._anticipation = Anticipation(backend) if backend.config.read_ahead else None
        self._writings: WeakValueDictionary[str, Writing] = WeakValueDictionary()
        """The last answer of each conversation, by its key, as long as it changes."""

    def look(self, request: gr.Request) -> Look:
        return look_of(self.backend, request)

    async def ask(
        self, box: dict[str, Any], asking: Asking, request: gr.Request, files: Sequence[Job] = ()
    ) -> Beside:
        """Have the question in the box answered, as soon as `files` can be searched."""
        look = self.look(request)
        question = (box.get("text") or "").strip()
        if not question:
            return gr.update(value=None, **self._box(look)), gr.skip()
        if self._is_too_long(question, look):
            return NOTHING
        return await self._ask(look, question, asking, files)

    async def expect(self, box: dict[str, Any], asking: Asking, request: gr.Request) -> None:
        """While a question is being typed, and nothing else is to be done: read ahead."""
        await asyncio.sleep(TYPING)
        if not self._anticipation or any(not each.over for each in self._writings.values()):
            return
        look = self.look(request)
        options = look.session.preferences.options
        question = (box.get("text") or "").strip()[: self.backend.config.max_question]
        turn = Turn(question, scope=asking.scope, documents=asking.documents, options=options)
        expect = self._anticipation.expect
        await asyncio.to_thread(expect, look.session, look.conversation, turn, asking.model)

    async def press(self, event: gr.EventData, asking: Asking, request: gr.Request) -> Beside:
        """Do what a button of the conversation says that has an answer written."""
        look = self.look(request)
        key, text = str(event.key), str(event.text).strip()
        asked = key.strip()[: self.backend.config.max_question]
        if event.do in ("suggested", "follow-up") and asked:
            if event.do == "suggested":
                asking = replace(asking, scope="samples")
            return await self._ask(look, asked, asking, emptied=False)
        if self._is_too_long(text, look):
            return NOTHING
        if again := self._again(look, event.do, key, text, asking):
            return await self._write(look, *again)
        return self.beside(look)

    def _again(
        self, look: Look, do: str, key: str, text: str, asking: Asking
    ) -> tuple[Turn, Answer, Put, str] | None:
        """What is written where a question is asked again: the turn, the answer, how they come into
        the conversation, and what is searched for if not the question."""
        turn, answer = find(look.conversation, key)
        if not turn:
            return None
        if do == "compare":
            new, searched = Answer(text), turn.answers[-1].searched_for
            put = partial(turn.answers.append, new)
            return (turn, new, put, searched) if self._is_model(text) else None
        if do == "retry" and answer and len(turn.answers) > 1:
            new = Answer(answer.model)
            return turn, new, partial(_replace, turn.answers, answer, new), ""
        options = look.session.preferences.options
        new = Answer(asking.model)
        if do == "edit":
            changed = Turn(text or turn.question, [new], asking.scope, asking.documents, options)
        else:
            changed = Turn(turn.question, [new], turn.scope, turn.documents, options)
        put = partial(_replace, look.conversation.turns, turn, changed, and_after=True)
        return changed, new, put, text if do == "search" else ""

    async def follow(self, request: gr.Request) -> AsyncGenerator[Tree, None]:
        """The conversation that the tab shows, again each time that it changes, as long as an
        answer is being written in it."""
        look = self.look(request)
        writing = self._writings.get(look.conversation.key)
        if writing and look.tab not in writing.watching:
            async for tree in self._follow(look, writing):
                yield tree
        else:
            yield self._tree(look)
        yield LAST

    def settle(self, request: gr.Request) -> Beside:
        """What is beside a conversation in which an answer has ended."""
        return self.beside(self.look(request))

    def stop(self, request: gr.Request) -> None:
        """End the running answer; who looks on then shows it as stopped."""
        self.look(request).conversation.stop.set()

    def do(self, event: gr.EventData, request: gr.Request) -> View:
        """Do what a button says that is done at once."""
        look = self.look(request)
        session, key, text = look.session, str(event.key), str(event.text).strip()
        box: dict[str, Any] = {}
        match event.do:
            case "new":
                session.show(look.tab, session.begin(look.tab))
            case "show":
                if chosen := session.conversation(key):
                    session.show(look.tab, chosen)
            case "rename":
                self._tried(look, session.rename, key, text)
            case "delete":
                self._tried(look, session.delete, key)
            case "undo":
                box = self._undo(look, key)
            case "choose":
                self._choose(look, key)
            case "rate" | "comment":
                self._rate(look, event.do, key, text)
        return self.view(look, box)

    def export(self, event: gr.EventData, request: gr.Request) -> dict[str, Any]:
        """A conversation as a file to be saved."""
        session = self.look(request).session
        conversation = session.conversation(str(event.key))
        if not conversation:
            return {}
        ending = "json" if event.text == "json" else "md"
        made = to_json(conversation) if ending == "json" else to_markdown(conversation)
        number = time.monotonic_ns()
        return {"name": file_name(conversation.name, ending), "text": made, "number": number}

    def load(self, request: gr.Request) -> View:
        """What this browser had open when it was here last."""
        return self.view(self.look(request))

    def view(self, look: Look, box: dict[str, Any] | None = None) -> View:
        """All that the tab shows, as it is."""
        return self._tree(look), *self.beside(look, box)

    def beside(self, look: Look, box: dict[str, Any] | None = None) -> Beside:
        """What is beside the conversation that the tab shows, as it is."""
        return (
            gr.update(**self._box(look), **(box or {})),
            turns.conversations(look.session.conversations, look.conversation.key, look.say),
        )

    def _tree(self, look: Look) -> Tree:
        conversation, config = look.conversation, self.backend.config
        writing = self._writings.get(conversation.key)
        models = self.backend.catalog.choices()
        shown = turns.Shown(look.say, models, not config.strangers, bool(self.feedback), look.made)
        now = writing.answer if writing and not writing.answer.finish_reason else None
        doing = writing.doing if writing else None
        parts = turns.parts(conversation, shown, now, doing)
        ended = "" if self._is_busy(look) else conversation.ended
        return {"key": conversation.key, "parts": parts, "ended": ended}

    def _box(self, look: Look) -> dict[str, Any]:
        return BUSY_BOX if self._is_busy(look) else IDLE_BOX

    @staticmethod
    def _is_busy(look: Look) -> bool:
        return look.conversation.lock.locked()

    async def _ask(
        self,
        look: Look,
        question: str,
        asking: Asking,
        files: Sequence[Job] = (),
        *,
        emptied: bool = True,
    ) -> Beside:
        answer = Answer(asking.model)
        options = look.session.preferences.options
        turn = Turn(question, [answer], asking.scope, asking.documents, options)
        put = partial(look.conversation.turns.append, turn)
        # The box is emptied only when the question has been taken.
        box = {"value": None} if emptied else {}
        return await self._write(look, turn, answer, put, files=files, box=box)

    async def _write(
        self,
        look: Look,
        turn: Turn,
        answer: Answer,
        put: Put,
        search_for: str = "",
        *,
        files: Sequence[Job] = (),
        box: dict[str, Any] | None = None,
    ) -> Beside:
        """Have `answer` written in the conversation that is shown. `put` puts it in its place
        there."""
        begun = await self.begin(
            look.session, look.conversation, turn, answer, put, files, search_for
        )
        if not isinstance(begun, Writing):
            text, values = begun
            gr.Warning(look.say(text, **values))
            return NOTHING
        self._prefer(look.session, answer.model)
        return self.beside(look, box)

    async def begin(
        self,
        session: Session,
        conversation: Conversation,
        turn: Turn,
        answer: Answer,
        put: Put,
        files: Sequence[Job] = (),
        search_for: str = "",
    ) -> Writing | Refusal:
        """Have `answer` written in a conversation, where `put` puts it; or why it is not."""

        def begun() -> Writing | Refusal:
            place = self.limits.begin(session, conversation.key)
            if not isinstance(place, Place):
                return place
            ended = partial(self.limits.ended, session, conversation.key, place)
            writing = Writing(
                self.backend, session, conversation, turn, answer, place, files, search_for, ended
            )
            is_begun = False
            try:
                is_begun = self._begin(writing, put)
            finally:
                if not is_begun:
                    ended()
            return writing if is_begun else (STILL_WRITING, {})

        return await asyncio.to_thread(begun)

    def _begin(self, writing: Writing, put: Put) -> bool:
        """Begin, when the answer that is being written there has given way; whether it has."""
        conversation = writing.conversation
        if not _take(conversation):
            return False
        try:
            conversation.stop.clear()
            put()
            writing.keep()
        except BaseException:
            conversation.lock.release()
            raise
        self._writings[conversation.key] = writing
        writing.start()
        return True

    async def _follow(self, look: Look, writing: Writing) -> AsyncIterator[Tree]:
        """Yield the conversation each time that it changes, until nothing does. A tab that shows
        another one is given nothing, and is looking on all the same."""
        with writing.watched_by(look.tab):
            version, tree, pace = -1, LAST, Pace(writing)
            while True:
                over, now = writing.over, writing.version
                shown = look.conversation is writing.conversation
                if changed := shown and now != version:
                    version, tree = now, self._tree(look)
                elif not shown:
                    tree = LAST
                if changed:
                    with pace.telling():
                        yield tree
                elif pace.is_silent:
                    with pace.telling():
                        # Gradio sends what differs from the state before: a number.
                        yield {**tree, "alive": time.monotonic()} if shown else tree
                if over:
                    break
                await pace.wait()
            if writing.unsaved:
                gr.Warning(
                    look.say(
                        "The conversation could not be saved: {reason}. It stays here until the "
                        "program ends, and is saved with the next answer, if that can be.",
                        reason=writing.unsaved,
                    )
                )

    def _undo(self, look: Look, key: str) -> dict[str, Any]:
        """Take a turn back, with what came after; its question returns to the box."""
        conversation = look.conversation
        turn, _ = find(conversation, key)
        if not turn or not _take(conversation):
            return {}
        try:
            if turn in conversation.turns:
                del conversation.turns[conversation.turns.index(turn) :]
                self._keep(look)
        finally:
            conversation.lock.release()
        return {"value": {"text": turn.question, "files": []}}

    def _choose(self, look: Look, key: str) -> None:
        """Keep one of several answers. The one that is being written beside it is given up."""
        turn, answer = find(look.conversation, key)
        if not turn or not answer or not answer.finish_reason:
            return
        writing = self._writings.get(look.conversation.key)
        if writing and writing.turn is turn and writing.answer is not answer:
            look.conversation.stop.set()
        turn.answers[:] = [answer]
        self._keep(look)

    def _prefer(self, session: Session, model: str) -> None:
        """The model that was asked last is the one that is offered first."""
        if session.preferences.model != model:
            with suppress(OSError):
                session.prefer(replace(session.preferences, model=model))

    def _rate(self, look: Look, do: str, key: str, text: str) -> None:
        """Keep what a person says of an answer. A second press takes it back."""
        turn, answer = find(look.conversation, key)
        if not (self.feedback and turn and answer):
            return
        if do == "rate":
            rating = -1 if key.endswith(":-1") else 1
            answer.rating = 0 if answer.rating == rating else rating
            self._keep(look)
        try:
            self.feedback.give(turn, answer, text)
        except RivuletError as error:
            gr.Warning(look.say(str(error)))
        else:
            if do == "comment":
                gr.Info(look.say("Thank you. It is kept for whoever runs this page."))

    def _keep(self, look: Look) -> None:
        self._tried(look, look.session.keep, look.conversation)

    @staticmethod
    def _tried(look: Look, change: Callable[..., None], *arguments: Any) -> None:
        """Change what is on the disk; where that cannot be, the person is told so."""
        try:
            change(*arguments)
        except OSError as error:
            gr.Warning(look.say("It could not be saved: {reason}.", reason=error.strerror or error))

    def _is_model(self, name: str) -> bool:
        """Whether a person may have this model answer."""
        known = [model for _, model in self.backend.catalog.choices()]
        return bool(name) and (not self.backend.config.strangers or name in known)

    def too_long(self, question: str) -> Refusal | None:
        """Why it cannot be asked, where it is too long."""
        most = self.backend.config.max_question
        return (TOO_LONG, {"number": most}) if len(question) > most else None

    def _is_too_long(self, question: str, look: Look) -> bool:
        """Whether it is; then the person has been told."""
        if refusal := self.too_long(question):
            text, values = refusal
            gr.Warning(look.say(text, **values))
        return bool(refusal)


def _take(conversation: Conversation) -> bool:
    """Acquire its lock, when the answer that is being written in it has given way; whether it
    has."""
    until = time.monotonic() + PATIENCE
    conversation.stop.set()
    while not conversation.lock.acquire(timeout=0.1):
        if time.monotonic() > until:
            return False
        conversation.stop.set()  # another answer may have begun before this one could
    return True


def _replace(items: list[T], old: T, new: T, *, and_after: bool = False) -> None:
    """Put `new` in the place of `old`, and of what comes after it where that is wanted; at the end
    where `old` is gone."""
    at = items.index(old) if old in items else len(items)
    items[at : None if and_after else at + 1] = [new]


def find(conversation: Conversation, key: str) -> tuple[Turn | None, Answer | None]:
    """The turn and the answer that a button's key names: TURN, TURN:ANSWER, or ANSWER."""
    names = key.split(":")
    for turn in conversation.turns:
        for answer in turn.answers:
            if answer.key in names[:2]:
                return turn, answer
        if turn.key == names[0]:
            return turn, None
    return None, None
