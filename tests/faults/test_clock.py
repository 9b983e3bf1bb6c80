"""The clock of the computer is set a day ahead or an hour back while the app runs: durations do not
come from it. Real requests to a real app, whose process has the other time."""

import json
import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from rag import passwords
from rag.ui import login
from rag.ui.sessions import Session
from tests.browser.conftest import App, scripted_app
from tests.strangers.people import Person
from tests.strangers.test_login import logs_in
from tests.ui.pages import GUARD, Gated

DAY, HOUR = 86_400.0, 3600.0
QUESTIONS = 3


class Clock:
    """What tells the time to the process: `ahead` of what it was, in seconds."""

    def __init__(self, patch: pytest.MonkeyPatch):
        self.ahead = 0.0
        real, real_ns, utime = time.time, time.time_ns, os.utime

        def touch(path: Any, times: Any = None, **named: Any) -> None:
            now = time.time()
            utime(path, times or (now, now), **named)

        patch.setattr(time, "time", lambda: real() + self.ahead)
        patch.setattr(time, "time_ns", lambda: real_ns() + int(self.ahead * 1e9))
        patch.setattr(os, "utime", touch)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture(params=[DAY, -HOUR], ids=["a day ahead", "an hour back"])
def jump(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.fixture(scope="module")
def gated() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, gated: Gated) -> Iterator[App]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", 16)
        app = scripted_app(
            tmp_path_factory.mktemp("data"),
            {"scripted": gated},
            auth=(("ann", "plum"),),
            questions_per_minute=QUESTIONS,
            forget_after=1,
        )
    yield app
    app.stop()


@pytest.fixture
def ann(app: App, gated: Gated, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    """Someone who is logged in."""
    gated.gate.set()
    gated.said_half.clear()
    with Person(app.page, app.address) as person:
        assert logs_in(person, "ann", "plum").status_code == 200
        yield person


def session(app: App, person: Person) -> Session:
    return app.backend.sessions.get(f"ann\n{person.token}")


def test_an_answer_goes_on_and_the_next_is_written(
    app: App, ann: Person, gated: Gated, clock: Clock, jump: float
) -> None:
    gated.gate.clear()
    ann.begin("Slow?")
    assert gated.said_half.wait(GUARD)
    clock.ahead = jump
    time.sleep(0.3)  # it looks ten times a second whether it is to end
    gated.gate.set()
    *_, last = ann.messages()
    assert last["success"], last
    ann.ask("And now?", "samples")
    folder = session(app, ann).folder
    kept = Session(folder).conversation(session(app, ann).shown(ann.tab).key)
    assert kept
    answers = [answer for turn in kept.turns for answer in turn.answers]
    assert [(a.text, a.finish_reason) for a in answers] == [("Half and half.", "stop")] * 2


def test_nobody_is_taken_to_have_been_away(
    app: App, ann: Person, clock: Clock, jump: float
) -> None:
    ann.add("a.txt", "The heron is grey.")
    ann.ask("What is grey?")
    for ahead in (jump, 0.0, jump):
        clock.ahead = ahead
        app.backend.sessions._sessions.clear()  # known from the disk alone
        assert app.backend.sessions.forget_idle(1) == 0
        assert "a.txt" in ann.shows()
        assert "What is grey?" in ann.shows()
    ann.add("b.txt", "The stork is white.")
    assert app.backend.sessions.forget_idle(1) == 0
    assert {"a.txt", "b.txt"} <= set(re.findall(r"\w\.txt", ann.shelf()))


def test_questions_in_a_minute_are_counted_in_minutes(
    ann: Person, clock: Clock, jump: float
) -> None:
    for _ in range(QUESTIONS):
        ann.ask("Walnuts?", "samples")
    clock.ahead = jump
    ann.join(ann.number("box", "submit"), [{"text": "More?", "files": []}, "scripted", "none", []])
    told = json.dumps(list(ann.messages()))
    (seconds,) = re.findall(r"questions in a minute. Wait (\d+) seconds", told)
    assert 0 < int(seconds) <= 60


def test_wrong_passwords_wait_as_long_as_they_have_to(
    app: App, clock: Clock, jump: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Person(app.page, app.address) as eve:
        for _ in range(login.FREE + 1):
            assert logs_in(eve, "ann", "pear").status_code == 400
        clock.ahead = jump
        assert logs_in(eve, "ann", "plum").status_code == 400  # two seconds from the last
        time.sleep(2.1)
        assert logs_in(eve, "ann", "plum").status_code == 200


def test_who_is_logged_in_stays_so_and_is_the_same(
    app: App, ann: Person, clock: Clock, jump: float
) -> None:
    ann.ask("Who am I?", "samples")
    clock.ahead = jump
    ann.http.get("/").raise_for_status()  # the page is opened again
    assert "Who am I?" in ann.shows()


def test_what_is_asked_last_comes_first(app: App, ann: Person, clock: Clock, jump: float) -> None:
    ann.ask("Before?", "samples")
    clock.ahead = jump
    ann.press("conversations", "new")
    ann.ask("After?", "samples")
    names = [entry.name for entry in Session(session(app, ann).folder).conversations]
    assert names == ["After?", "Before?"]
