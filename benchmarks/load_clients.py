"""The people of `benchmarks.load`: browsers, as the page's own script speaks, and programs.

A browser is a cookie, a tab, a heartbeat that stays open, and a stream of the tab's events that is
open while there are any. It speaks HTTP by itself: a hundred of them are to leave the processor to
the app. A program is `gradio_client.Client`.
"""

import asyncio
import html
import json
import random
import re
import resource
import secrets
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gradio_client import Client, handle_file

from benchmarks.decoding import TOPICS
from benchmarks.load_app import answer, code_word, document, question
from rag.config import DEFAULT_MODEL

API = "/gradio_api/"
GUARD = 120.0
"""Seconds after which something that does not come counts as lost."""
AT_ONCE = 10
"""Browsers that arrive at the same time, each with a document."""
TURNS = 8
"""Questions after which a reader begins a new conversation."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """What is asked of everybody."""

    address: str
    seconds: float
    """How long everybody asks, once all have arrived."""
    tokens: int
    speed: float
    first: float
    """Seconds that the model takes for its first token."""
    pause: float = 1.0
    """Seconds that a reader thinks, on average, before they ask again."""


@dataclass
class Found:
    """What came of it."""

    answers: int = 0
    tokens: int = 0
    first: list[float] = field(default_factory=list)
    """Seconds from asking to the first text, without those that the model took."""
    late: list[float] = field(default_factory=list)
    """Seconds from when the model was to be done until the whole answer was there."""
    wrong: list[str] = field(default_factory=list)
    """What was mixed up, cut or lost."""
    waits: list[tuple[float, float]] = field(default_factory=list)
    """Of those who waited in the line: seconds that they were told at first, and that it took."""
    begun: float = 0.0
    """When all had arrived."""
    did: Counter[str] = field(default_factory=Counter)
    processor: float = 0.0
    """Seconds of the processor that the clients took themselves."""

    def __iadd__(self, other: "Found") -> "Found":
        self.answers += other.answers
        self.tokens += other.tokens
        self.first += other.first
        self.late += other.late
        self.wrong += other.wrong
        self.waits += other.waits
        self.did += other.did
        self.processor += other.processor
        return self


class Http:
    """HTTP/1.1 to one host, as a browser has it: connections that are used again, and a cookie."""

    def __init__(self, address: str, cookie: str = ""):
        parts = urlsplit(address)
        self._place = parts.hostname or "", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open: set[asyncio.StreamWriter] = set()
        self.cookie = cookie

    async def get(self, path: str) -> bytes:
        return await self._whole("GET", path, b"", "")

    async def post(self, path: str, body: Json) -> Any:
        told = await self._whole("POST", path, json.dumps(body).encode(), "application/json")
        return json.loads(told)

    async def upload(self, name: str, content: bytes) -> str:
        """The path under which the app has the file."""
        mark = secrets.token_hex(16)
        disposition = f'form-data; name="files"; filename="{name}"'
        head = f"--{mark}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()
        body = head + content + f"\r\n--{mark}--\r\n".encode()
        kind = f"multipart/form-data; boundary={mark}"
        return str(json.loads(await self._whole("POST", f"{API}upload", body, kind))[0])

    async def lines(self, path: str) -> AsyncIterator[bytes]:
        """The lines of a stream, over a connection of its own."""
        reader, writer = await self._connection()
        try:
            headers = await self._asked(reader, writer, "GET", path, b"", "")
            line = b""
            async for chunk in _chunks(reader, headers):
                *whole, line = (line + chunk).split(b"\n")
                for each in whole:
                    yield each
            self._idle.append((reader, writer))
        except BaseException:
            self._drop(writer)
            raise

    def vanish(self) -> None:
        """Every connection ends without a goodbye, as where a network goes away."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        self._idle.clear()

    async def _whole(self, method: str, path: str, body: bytes, kind: str) -> bytes:
        while True:
            used = bool(self._idle)
            reader, writer = self._idle.pop() if used else await self._connection()
            try:
                headers = await self._asked(reader, writer, method, path, body, kind)
                found = b"".join([chunk async for chunk in _chunks(reader, headers)])
            except (OSError, asyncio.IncompleteReadError):
                self._drop(writer)
                if used:  # the server had closed it meanwhile
                    continue
                raise
            except BaseException:
                self._drop(writer)
                raise
            self._idle.append((reader, writer))
            return found

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self._place)
        self._open.add(writer)
        return reader, writer

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.transport.abort()

    async def _asked(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: str,
        path: str,
        body: bytes,
        kind: str,
    ) -> dict[str, str]:
        """The headers of the answer. Raises RuntimeError for one that is not well."""
        head = [f"{method} {path} HTTP/1.1", f"Host: {self._place[0]}:{self._place[1]}"]
        head += [f"Cookie: {self.cookie}"] if self.cookie else []
        head += [f"Content-Type: {kind}", f"Content-Length: {len(body)}"] if kind else []
        writer.write("\r\n".join([*head, "", ""]).encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
        if first.split()[1] != "200":
            told = b"".join([chunk async for chunk in _chunks(reader, headers)])
            raise RuntimeError(f"{method} {path.split('?')[0]}: {first} {told[:200]!r}")
        if given := re.match(r"rivulet=[^;]+", headers.get("set-cookie", "")):
            self.cookie = given[0]
        return headers


async def _chunks(reader: asyncio.StreamReader, headers: dict[str, str]) -> AsyncIterator[bytes]:
    """The body of an answer as it comes."""
    if headers.get("transfer-encoding") != "chunked":
        yield await reader.readexactly(int(headers.get("content-length", 0)))
        return
    while size := int(await reader.readline(), 16):
        yield (await reader.readexactly(size + 2))[:-2]
    await reader.readline()


class Page:
    """Which number each handler of the page has."""

    def __init__(self, config: Json):
        elements = {
            name: each["id"]
            for each in config["components"]
            if (name := each["props"].get("elem_id"))
        }
        self._names = {key: name for name, key in elements.items()}
        self._handlers: dict[tuple[str, str], list[tuple[int, int | None]]] = {}
        for each in config["dependencies"]:
            for block, event in each["targets"]:
                name = self._names.get(block, "")
                self._handlers.setdefault((name, event), []).append((each["id"], block))
        self.after = {  # by the handler that they come after
            each["trigger_after"]: each["id"]
            for each in config["dependencies"]
            if each.get("trigger_after") is not None
        }

    def handlers(self, element: str, event: str) -> list[tuple[int, int | None]]:
        return self._handlers[element, event]


class Browser:
    """One tab of the page."""

    def __init__(self, page: Page, address: str, cookie: str = ""):
        self.page = page
        self.http = Http(address, cookie)
        self.tab = secrets.token_hex(6)
        self.tree: Json = {"key": "", "parts": []}
        """The conversation, as the page has it."""
        self.warned: list[str] = []
        self._events: dict[str, asyncio.Queue[Json]] = {}
        self._reading: asyncio.Task[None] | None = None
        self._beating: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self.http.get("/")
        self._beating = asyncio.create_task(self._beat())
        ((number, block),) = self.page.handlers("", "load")
        await self.done(number, block, [])
        await _drain(self.follow(number))

    async def close(self) -> None:
        for task in (self._reading, self._beating):
            if task:
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task
        self.http.vanish()

    async def follow(self, number: int) -> AsyncIterator[None]:
        """What is shown after a handler, each time that it changes."""
        if number in self.page.after:
            async for _ in self.call(self.page.after[number], None, []):
                yield

    async def press(self, element: str, do: str, key: str = "") -> None:
        """A button of a list."""
        number, block = self.page.handlers(element, "click")[0]
        await self.done(number, block, [], {"do": do, "key": key, "text": ""})
        await _drain(self.follow(number))

    async def stop(self) -> None:
        number, block = self.page.handlers("box", "stop")[0]
        await self.done(number, block, [])

    async def add(self, name: str, text: str) -> None:
        """Drop a file, and wait until it is in."""
        content = text.encode()
        path = await self.http.upload(name, content)
        file = {"path": path, "orig_name": name, "size": len(content)}
        file["meta"] = {"_type": "gradio.FileData"}
        for number, block in self.page.handlers("drop", "upload"):
            await self.done(number, block, [[file]])
        number, block = self.page.handlers("notes", "click")[0]
        until = time.monotonic() + GUARD
        while time.monotonic() < until:
            shown = await self.done(number, block, [], {"do": "", "key": "", "text": ""})
            if re.search(rf"{re.escape(name)}[^<]*(is ready|was here)", json.dumps(shown)):
                return
            await asyncio.sleep(0.7)  # as the page looks
        raise TimeoutError(f"{name} does not come in")

    async def ask(
        self, text: str, scope: str = "mine", model: str = "scripted"
    ) -> AsyncIterator[None]:
        """Each time that the page shows something else, until nothing changes any more."""
        number, block = self.page.handlers("box", "submit")[0]
        box = {"text": text, "files": []}
        async for _ in self.call(number, block, [box, model, scope, []]):
            yield
        async for _ in self.follow(number):
            yield

    async def done(
        self, number: int, block: int | None, data: list[Any], event: Json | None = None
    ) -> Any:
        """What a handler gives in the end."""
        messages = [message async for message in self.call(number, block, data, event)]
        return messages[-1]["output"]

    async def call(
        self,
        number: int,
        block: int | None,
        data: list[Any],
        event: Json | None = None,
    ) -> AsyncIterator[Json]:
        """What a handler tells, message by message; a conversation is put into the page."""
        body = {"data": data, "event_data": event, "fn_index": number}
        body |= {"trigger_id": block, "session_hash": self.tab}
        joined = await self.http.post(f"{API}queue/join?", body)
        key = str(joined["event_id"])
        told = self._events.setdefault(key, asyncio.Queue())
        if not self._reading:
            self._reading = asyncio.create_task(self._read())
        outputs: Any = None
        try:
            while True:
                async with asyncio.timeout(GUARD):  # `wait_for` may miss that it is cancelled
                    message = await told.get()
                kind = message["msg"]
                if kind == "log":
                    self.warned.append(message["log"])
                elif kind == "process_generating" and message["success"]:
                    data = message["output"]["data"]
                    outputs = data if outputs is None else list(map(_changed, outputs, data))
                    self._show(outputs)
                elif kind == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"The app failed: {message['output']}")
                    self._show(message["output"].get("data"))
                    yield message
                    return
                yield message
        finally:
            self._events.pop(key, None)

    def _show(self, outputs: Sequence[Any] | None) -> None:
        first = outputs[0] if outputs else None  # the conversation, where it is one of them
        if isinstance(first, dict) and "parts" in first:
            self.tree = first

    async def _read(self) -> None:
        """The stream of the tab, as long as something is going on."""
        try:
            while True:
                stream = self.http.lines(f"{API}queue/data?session_hash={self.tab}")
                async for line in stream:
                    if line.startswith(b"data:"):
                        message = json.loads(line[5:])
                        if key := message.get("event_id"):
                            self._events.setdefault(key, asyncio.Queue()).put_nowait(message)
                if not self._events:
                    return
        finally:
            self._reading = None

    async def _beat(self) -> None:
        async for _ in self.http.lines(f"{API}heartbeat/{self.tab}"):
            pass

    # What the page shows

    @property
    def turns(self) -> int:
        """Questions of the conversation."""
        parts = self.tree["parts"]
        return len(parts) if parts and parts[-1]["k"] != "welcome" else 0

    def shown(self, turn: int = -1) -> "Shown":
        """The last answer of a turn."""
        return Shown(self.tree["parts"][turn])


class Shown:
    """A turn of the conversation, as the page shows it."""

    def __init__(self, turn: Json):
        asked, answers = (json.loads(turn["j"]) if "j" in turn else turn)["n"]
        self.question = _text(asked["h"].partition("</h3>")[0])
        last = answers["n"][-1]
        self.writing = "writing" in last["c"]
        self._parts: list[Json] = last["n"]

    @property
    def has_text(self) -> bool:
        return any(part["k"] == "text0" for part in self._parts)

    @property
    def text(self) -> str:
        return " ".join(_text(part["h"]) for part in self._parts if part["c"] == "said")

    @property
    def facts(self) -> str:
        return self._part("facts")

    @property
    def sources(self) -> list[str]:
        """The names of the documents that it is from."""
        return re.findall(r'<b dir="auto">([^<]*)</b>', self._part("sources"))

    @property
    def status(self) -> str:
        return _text(self._part("status"))

    @property
    def error(self) -> str:
        return _text(self._part("error"))

    def _part(self, key: str) -> str:
        return next((str(part["h"]) for part in self._parts if part["k"] == key), "")


_TAG = re.compile(r"<[^>]*>")


def _text(markup: str) -> str:
    return " ".join(html.unescape(_TAG.sub("", markup)).split())


def _changed(value: Any, edits: Sequence[Any]) -> Any:
    """`value` with Gradio's `edits` made in it, as its own clients make them."""
    # What it was is still shown where it turns into "nothing new".
    value = value.copy() if edits and isinstance(value, dict) else value
    for action, path, new in edits:
        if not path:
            value = new if action == "replace" else value + new
            continue
        inner = value
        for step in path[:-1]:
            inner = inner[step]
        last = path[-1]
        if action == "replace":
            inner[last] = new
        elif action == "append":
            inner[last] += new
        elif action == "delete":
            del inner[last]
        elif isinstance(inner, list):
            inner.insert(last, new)
        else:
            inner[last] = new
    return value


_LINE = re.compile(r"Number \d+ in the line(?:, some (\d+) s)?")


@dataclass
class Asker:
    """Somebody who asks about a document of their own, one question after another."""

    plan: Plan
    page: Page
    name: str
    found: Found = field(default_factory=Found)
    number: int = 0
    """Questions so far."""
    here: list[int] = field(default_factory=list)
    """Those before in the same conversation."""
    stopped: set[int] = field(default_factory=set)
    """Those whose answers were stopped."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.name)

    def question(self) -> str:
        return question(self.name, self.number)

    def expected(self, number: int) -> str:
        word = code_word(self.name, number)
        return " ".join(answer(self.name, number, word, self.plan.tokens).split())

    def came(self, begun: float, first: float, done: float, waited: float = 0.0) -> None:
        """Take note of an answer that is whole."""
        self.found.answers += 1
        self.found.tokens += self.plan.tokens
        own = self.plan.first + waited
        if self.here:  # the question is put by itself first
            own += self.plan.first + len(self.question().split()) / self.plan.speed
        self.found.first.append(first - begun - own)
        self.found.late.append(done - begun - own - (self.plan.tokens - 1) / self.plan.speed)

    def check(self, said: str, number: int, how: str = "") -> None:
        expected = self.expected(number)
        begins = expected.startswith(said)
        if said != expected and not (begins and number in self.stopped):
            kind = "cut" if begins else "mixed up"
            self.wrong(kind, f"{question(self.name, number)} ({how}): {said} / {expected}")

    def wrong(self, kind: str, what: str) -> None:
        self.found.did[kind] += 1
        self.found.wrong.append(f"{kind}: {what[:600]}")


class Reader(Asker):
    """At a browser."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.browser = Browser(self.page, self.plan.address)
        self.rest: asyncio.Task[None] | None = None

    async def arrive(self) -> None:
        await self.browser.open()
        await self.browser.add(f"{self.name}.md", document(self.name))

    async def read(self) -> None:
        until = time.monotonic() + self.plan.seconds
        await asyncio.sleep(self.chance.uniform(0, 3 * self.plan.pause))
        while time.monotonic() < until:
            if len(self.here) == TURNS:
                await self.browser.press("conversations", "new")
                self.here.clear()
            self.number += 1
            try:
                await self.next()
            except (RuntimeError, TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                self.wrong("lost", f"{self.question()}: {error!r}")
            self.here.append(self.number)
            await asyncio.sleep(self.chance.uniform(0, 2 * self.plan.pause))

    async def next(self) -> None:
        await self.asked()

    async def asked(self) -> None:
        """Ask the next question, and see what comes."""
        begun, first, done, waited = time.monotonic(), 0.0, 0.0, 0.0
        told: float | None = None
        asking = self.browser.ask(self.question())
        async for _ in asking:
            if self.browser.turns <= len(self.here):
                continue
            shown = self.browser.shown()
            if line := _LINE.match(shown.status):
                waited = time.monotonic() - begun
                told = told or float(line[1] or 0)
            if not first and shown.has_text:
                first = time.monotonic()
            if not shown.writing and shown.facts:
                done = time.monotonic()
                break
        # What is found of further questions is looked at while one thinks of the next.
        self.rest = asyncio.create_task(_drain(asking))
        if not done:
            self.wrong("lost", f"{self.question()}: {self.browser.warned[-1:]}")
            return
        if told:
            self.found.waits.append((told, waited))
        if self.looked_over():
            self.came(begun, first, done, waited)

    def looked_over(self) -> bool:
        """Check the whole conversation; whether the last answer is there to its end."""
        numbers = [*self.here, self.number]
        if self.browser.turns != len(numbers):
            self.wrong("lost", f"{self.name}: {self.browser.turns} turns of {len(numbers)}")
            return False
        for turn, number in enumerate(numbers):
            shown = self.browser.shown(turn)
            if shown.question != question(self.name, number):
                self.wrong("mixed up", f"turn {number} of {self.name}: {shown.question}")
            if shown.error:
                self.wrong("lost", f"{shown.question}: {shown.error}")
                return False
            self.check(shown.text, number, shown.status or shown.facts)
            if any(source.split("+")[0] != f"{self.name}.md" for source in shown.sources):
                self.wrong("mixed up", f"{shown.question}: from {shown.sources}")
        return self.number not in self.stopped

    async def leave(self) -> None:
        if self.rest:
            self.rest.cancel()
        await self.browser.close()


class Restless(Reader):
    """Who vanishes, stops and uploads at random."""

    async def next(self) -> None:
        await self.chance.choice([self.asked, self.stop, self.upload, self.reload, self.vanish])()

    async def stop(self) -> None:
        self.stopped.add(self.number)
        asking = asyncio.create_task(self.asked())
        await asyncio.sleep(self._moment())
        if not asking.done():
            self.found.did["stopped"] += 1
            await self.browser.stop()
        await asking

    async def upload(self) -> None:
        self.found.did["uploaded"] += 1
        name = f"{self.name}.md+{self.number}.md"
        text = f"# Notes {self.number}\n\nNothing of this is asked by {self.name}."
        await asyncio.gather(self.asked(), self.browser.add(name, text))

    async def reload(self) -> None:
        """Go without a goodbye, and come back soon: the answer has gone on."""
        self.found.did["came back"] += 1
        await self._go()
        self.browser = Browser(self.page, self.plan.address, self.browser.http.cookie)
        await self.browser.open()
        if self.browser.turns == len(self.here):  # gone before it was asked
            self.here.pop()
        self.looked_over()

    async def vanish(self) -> None:
        """Go without a goodbye. Somebody else comes."""
        self.found.did["vanished"] += 1
        await self._go()
        self.browser = Browser(self.page, self.plan.address)
        self.here.clear()
        await self.arrive()
        await self.asked()

    async def _go(self) -> None:
        asking = asyncio.create_task(_drain(self.browser.ask(self.question())))
        await asyncio.sleep(self._moment())
        asking.cancel()
        await self.leave()
        await asyncio.sleep(self.chance.uniform(0, 2 * self.plan.pause))

    def _moment(self) -> float:
        return self.chance.uniform(0.2, 2 * self.plan.first + self.plan.tokens / self.plan.speed)


class Program(Asker):
    """By `gradio_client`, in a thread."""

    def read(self, ready: threading.Barrier) -> None:
        client = Client(self.plan.address, verbose=False, analytics_enabled=False)
        try:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, f"{self.name}.md")
                file.write_text(document(self.name))
                client.predict(handle_file(file), "", api_name="/add")
            ready.wait()
            until = time.monotonic() + self.plan.seconds
            while time.monotonic() < until:
                self.number += 1
                try:
                    self.asked(client)
                except Exception as error:  # whatever it is, no answer came
                    self.wrong("lost", f"{self.question()}: {error!r}")
                self.here.append(self.number)
                time.sleep(self.chance.uniform(0, 2 * self.plan.pause))
        finally:
            client.close()

    def asked(self, client: Client) -> None:
        begun, first = time.monotonic(), 0.0
        text, more, waited = "", None, 0.0
        for text, more in client.submit(self.question(), "mine", api_name="/ask"):
            if more and "waiting" in more:
                waited = time.monotonic() - begun
            if text and not first:
                first = time.monotonic()
        done = time.monotonic()
        if not more or more.get("ended") != "stop":
            self.wrong("lost", f"{self.question()}: {more}")
            return
        self.check(" ".join(text.split()), self.number)
        if any(source["name"] != f"{self.name}.md" for source in more["sources"]):
            self.wrong("mixed up", f"{self.question()}: from {more['sources']}")
        self.came(begun, first, done, waited)


async def _drain(asking: AsyncIterator[Any]) -> None:
    async for _ in asking:
        pass


async def page_of(address: str) -> Page:
    http = Http(address)
    found = Page(json.loads(await http.get("/config")))
    http.vanish()
    return found


def browse(plan: Plan, names: Sequence[str], programs: int = 0, restless: int = 0) -> Found:
    """All ask at the same time, once all have arrived; the first ones are programs, the last ones
    restless."""
    return asyncio.run(_browse(plan, names, programs, restless))


async def _browse(plan: Plan, names: Sequence[str], programs: int, restless: int) -> Found:
    page = await page_of(plan.address)
    kinds = [Reader] * (len(names) - programs - restless) + [Restless] * restless
    readers = [kind(plan, page, name) for kind, name in zip(kinds, names[programs:], strict=True)]
    others = [Program(plan, page, name) for name in names[:programs]]
    ready = threading.Barrier(programs + 1)
    with ThreadPoolExecutor(programs + 1) as pool:
        reading = [pool.submit(each.read, ready) for each in others]
        try:
            for some in range(0, len(readers), AT_ONCE):
                await asyncio.gather(*(each.arrive() for each in readers[some : some + AT_ONCE]))
        except BaseException:
            ready.abort()  # the programs wait for all
            raise
        await asyncio.get_running_loop().run_in_executor(pool, ready.wait)
        found = Found(begun=time.monotonic())
        used = _processor()
        await asyncio.gather(*(reader.read() for reader in readers))
        await asyncio.gather(*map(asyncio.wrap_future, reading))
        found.processor = _processor() - used
    for asker in (*readers, *others):
        found += asker.found
    for reader in readers:
        await reader.leave()
    return found


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Run:
    """An answer as it grew, by seconds since all were asked."""

    states: list[tuple[float, str]] = field(default_factory=list)

    @property
    def first(self) -> float:
        return self.states[0][0]

    @property
    def ended(self) -> float:
        return self.states[-1][0]

    def text_at(self, when: float) -> str:
        return next(text for at, text in reversed(self.states) if at <= when)


def together(address: str, clients: int, number: int) -> list[Run]:
    """What as many browsers see that ask the default model at the same time."""
    return asyncio.run(_together(address, clients, number))


async def _together(address: str, clients: int, number: int) -> list[Run]:
    page = await page_of(address)
    browsers = [Browser(page, address) for _ in range(clients)]
    await asyncio.gather(*(browser.open() for browser in browsers))
    begun = time.monotonic()

    async def ask(browser: Browser, topic: str) -> Run:
        run = Run()
        text = f"This is question {number}. Write a long story about a {topic}."
        async for _ in browser.ask(text, "none", DEFAULT_MODEL):
            if browser.turns and (shown := browser.shown()).has_text:
                run.states.append((time.monotonic() - begun, shown.text))
                if not shown.writing:
                    break
        return run

    runs = await asyncio.gather(*map(ask, browsers, TOPICS))
    for browser in browsers:
        await browser.close()
    return runs
