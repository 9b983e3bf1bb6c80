"""A browser with one tab at a running program, as Gradio's page speaks to its server."""

import os
import time
from collections.abc import Iterator
from typing import Any

import httpx

PATIENCE = 120.0
"""Seconds after which what does not come is given up: a hang guard."""


class Tab:
    """One of its own for each browser: `http` has its cookie."""

    def __init__(self, http: httpx.Client):
        self.http = http
        self.hash = os.urandom(6).hex()
        http.get("").raise_for_status()
        self.read_config()

    def read_config(self) -> None:
        """What the page consists of; to be read when one has logged in, or it was started again."""
        self.config = self.http.get("config").raise_for_status().json()

    def event(self, of: str, trigger: str, number: int = 0) -> int:
        """The number of an event by the component's `elem_id`."""
        parts = {part["props"].get("elem_id"): part["id"] for part in self.config["components"]}
        events = self.config["dependencies"]
        found = [e["id"] for e in events if [parts.get(of), trigger] in e["targets"]]
        return int(found[number])

    def after(self, event: int) -> int:
        """The number of the event that comes after another."""
        events = self.config["dependencies"]
        return next(int(e["id"]) for e in events if e["trigger_after"] == event)

    def does(
        self, event: int, *data: Any, told: dict[str, Any] | None = None
    ) -> Iterator[tuple[float, str]]:
        """What comes back, and when. `told`: what a button says."""
        body = {
            "data": list(data),
            "fn_index": event,
            "session_hash": self.hash,
            "event_data": told,
        }
        self.http.post("gradio_api/queue/join", json=body).raise_for_status()
        with self.http.stream(
            "GET", "gradio_api/queue/data", params={"session_hash": self.hash}
        ) as stream:
            for line in stream.iter_lines():
                yield time.monotonic(), line
                if '"process_completed"' in line:
                    return

    def press(self, of: str, do: str, key: str = "", text: str = "") -> str:
        """Press a button of ours; what comes back."""
        told = {"do": do, "key": key, "text": text}
        return _text(self.does(self.event(of, "click"), told=told))

    def begins(
        self, question: str, scope: str = "samples", model: str = "scripted"
    ) -> Iterator[tuple[float, str]]:
        """Ask, then look on, as the page does."""
        box, submit = {"text": question, "files": []}, self.event("box", "submit")
        yield from self.does(submit, box, model, scope, [])
        yield from self.does(self.after(submit))

    def asks(self, question: str, scope: str = "samples") -> list[tuple[float, str]]:
        return list(self.begins(question, scope))

    def answer(self, question: str, scope: str = "samples") -> str:
        """All that is shown of an answer while it comes."""
        return _text(self.begins(question, scope))

    def uploads(self, name: str, content: bytes) -> httpx.Response:
        return self.http.post("gradio_api/upload", files={"files": (name, content)})

    def adds(self, name: str, content: bytes) -> str:
        (path,) = self.uploads(name, content).raise_for_status().json()
        file = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
        return _text(self.does(self.event("drop", "upload"), [file]))

    def sees(self) -> str:
        """What the page shows when it is loaded again."""
        load = next(e for e in self.config["dependencies"] if e["targets"][0][1] == "load")
        return _text(self.does(load["id"]))

    def sees_in_the_end(self, text: str) -> str:
        """What it shows once this is there."""
        until = time.monotonic() + PATIENCE
        while text not in (seen := self.sees()):
            assert time.monotonic() < until, seen
            time.sleep(0.05)
        return seen


def _text(lines: Iterator[tuple[float, str]]) -> str:
    return "".join(line for _, line in lines)
