"""A person at the running page, as a program speaks to it: real HTTP, and a cookie of their own."""

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
import httpx
from gradio_client.utils import apply_diff

from rag.ui.identity import COOKIE

GUARD = 30.0
"""Seconds after which a request is given up: a hang guard."""
API = "gradio_api/"


class Person:
    """A browser: its cookie, its tab, and the requests that the page's script makes."""

    def __init__(self, page: gr.Blocks, address: str, cookies: Mapping[str, str] | None = None):
        self.page = page
        self.tab = secrets.token_hex(8)
        self.http = httpx.Client(base_url=address, timeout=GUARD, cookies=dict(cookies or {}))

    def __enter__(self) -> "Person":
        self.http.get("/").raise_for_status()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    @property
    def token(self) -> str:
        return self.http.cookies[COOKIE]

    def number(self, element: str, event: str, after: int = 0) -> int:
        """The number of the handler of an event of the element with this id."""
        (block,) = [
            key
            for key, found in self.page.blocks.items()
            if getattr(found, "elem_id", None) == element
        ]
        found = [n for n, fn in self.page.fns.items() if (block, event) in fn.targets]
        return found[after]

    def body(self, number: int, data: list[Any], event: Any = None) -> dict[str, Any]:
        inputs = {"data": data, "fn_index": number, "session_hash": self.tab}
        return {**inputs, "event_data": event, "trigger_id": self.page.fns[number].targets[0][0]}

    def join(self, number: int, data: list[Any], event: Any = None) -> httpx.Response:
        return self.http.post(API + "queue/join", json=self.body(number, data, event))

    def messages(self, tab: str = "", seconds: float = GUARD) -> Iterator[dict[str, Any]]:
        """What the stream of a tab tells."""
        until = time.monotonic() + seconds
        query = {"session_hash": tab or self.tab}
        with self.http.stream("GET", API + "queue/data", params=query) as stream:
            stream.raise_for_status()
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    yield message
                    if message["msg"] in ("process_completed", "close_stream"):
                        return
                if time.monotonic() > until:
                    return

    def call(self, number: int, data: list[Any], event: Any = None) -> Any:
        """What a handler gives in the end; before it what the page shows, where it looks on."""
        self.join(number, data, event).raise_for_status()
        *_, last = self.messages()
        assert last["msg"] == "process_completed", last
        output = last["output"]
        if last["success"] and (then := self.then(number)) is not None:
            shown = self.follow(then)
            if "parts" in (output["data"][0] or {}):
                output["data"][0] = shown
            else:
                output["data"].insert(0, shown)
        return output

    def then(self, number: int) -> int | None:
        """The number of the handler that comes after another."""
        fns = self.page.fns.items()
        return next((n for n, fn in fns if fn.trigger_after == number), None)

    def follow(self, number: int) -> Any:
        """The conversation, when nothing is written in it any more."""
        self.join(number, []).raise_for_status()
        tree: Any = None
        shown: dict[str, Any] = {}
        for message in self.messages():
            if message["msg"] == "process_generating":
                (value,) = message["output"]["data"]
                tree = value if tree is None else apply_diff(tree, value)
                shown = tree if "parts" in tree else shown
        assert message["success"], message
        return shown

    def press(self, element: str, do: str, key: str = "", text: str = "") -> Any:
        event = {"do": do, "key": key, "text": text}
        return self.call(self.number(element, "click"), [], event)

    def load(self) -> str:
        """All that the page shows when it is opened."""
        number = next(n for n, fn in self.page.fns.items() if fn.targets[0][1] == "load")
        return json.dumps(self.call(number, []))

    def shows(self) -> str:
        """What the conversation, its list and the list of documents show."""
        return self.load() + self.shelf()

    def ask(self, question: str, scope: str = "mine", model: str = "scripted") -> Any:
        box = {"text": question, "files": []}
        return self.call(self.number("box", "submit"), [box, model, scope, []])

    def begin(self, question: str, scope: str = "samples") -> str:
        """Ask and do not wait: the identity of the event that looks on."""
        box = {"text": question, "files": []}
        number = self.number("box", "submit")
        self.join(number, [box, "scripted", scope, []]).raise_for_status()
        list(self.messages())
        then = self.then(number)
        assert then is not None
        joined = self.join(then, [])
        return str(joined.raise_for_status().json()["event_id"])

    def upload(self, name: str, content: bytes) -> str:
        """The path under which Gradio has an uploaded file."""
        answer = self.http.post(API + "upload", files={"files": (name, content)})
        return str(answer.raise_for_status().json()[0])

    def take(self, path: str, name: str = "a.txt", **more: Any) -> httpx.Response:
        """Have a file that Gradio has taken in."""
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}, **more}
        return self.join(self.number("drop", "upload"), [[file]])

    def add(self, name: str, content: str | bytes, ready: str = "is ready") -> None:
        """Add a document, and wait until it is there."""
        content = content.encode() if isinstance(content, str) else content
        self.take(self.upload(name, content), name).raise_for_status()
        *_, last = self.messages()
        assert last["success"], last
        until = time.monotonic() + GUARD
        while not re.search(f"{re.escape(name)}[^<]*{ready}", self.shelf()):
            assert time.monotonic() < until, self.shelf()
            time.sleep(0.05)

    def shelf(self) -> str:
        """The list of documents and the notes."""
        number = self.number("notes", "click")
        shown = self.call(number, [], {"do": "look", "key": "", "text": ""})
        return json.dumps(shown)
