"""One long thing in the background: its progress, its result, its failure."""

import logging
import threading
from collections.abc import Iterator

import pytest

from rag.errors import ModelUnavailableError, RivuletError
from rag.preparation import Preparation
from rag.weights import Report

HANG = 30.0
"""Seconds after which a test that hangs is given up."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Lets what waits for it go on, at the latest when the test ends."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_it_tells_its_progress_and_then_its_result(gate: threading.Event) -> None:
    reported = threading.Event()

    def make(report: Report) -> str:
        report("Fetching", 0.43)
        reported.set()
        gate.wait(HANG)
        return "made"

    preparation = Preparation("the model", make)
    assert preparation.status == "Preparing the model, 0 %"
    assert preparation.start() is preparation
    assert reported.wait(HANG)
    assert preparation.status == "Preparing the model, 43 %"
    assert (preparation.doing, preparation.done) == ("Fetching", 0.43)
    assert not preparation.ready
    assert not preparation.wait(0)

    gate.set()
    assert preparation.result() == "made"
    assert preparation.wait(HANG)
    assert preparation.ready
    assert preparation.status == "the model is ready"


def test_what_has_failed_can_be_tried_again() -> None:
    in_the_way = True

    def make(report: Report) -> str:
        if in_the_way:
            raise RivuletError("Something is in the way.")
        return "made"

    preparation = Preparation("x", make).start()
    for _ in range(2):
        with pytest.raises(RivuletError, match="in the way"):
            preparation.result()
        preparation.again()
    in_the_way = False
    preparation.wait()
    preparation.again()
    assert preparation.result() == "made"
    preparation.again()
    assert preparation.result() == "made"


def test_nothing_runs_before_start() -> None:
    ran = threading.Event()
    preparation = Preparation("x", lambda report: ran.set())
    assert not preparation.wait(0.05)
    assert not ran.is_set()


def test_everyone_who_waits_gets_the_same_result(gate: threading.Event) -> None:
    def make(report: Report) -> object:
        gate.wait(HANG)
        return object()

    preparation = Preparation("x", make)
    results: list[object] = []
    waiting = [
        threading.Thread(target=lambda: results.append(preparation.result())) for _ in range(3)
    ]
    for thread in waiting:
        thread.start()
    preparation.start()
    gate.set()
    for thread in waiting:
        thread.join(HANG)
    assert results == [preparation.result()] * 3


def test_an_error_of_ours_is_the_status_and_is_raised_as_it_is() -> None:
    failed = ModelUnavailableError("Check the connection.")

    def make(report: Report) -> str:
        report("Fetching", 0.5)
        raise failed

    preparation = Preparation("x", make).start()
    assert preparation.wait(HANG)
    assert not preparation.ready
    assert preparation.status == "Check the connection."
    for _ in range(2):  # it can be asked again
        with pytest.raises(ModelUnavailableError) as caught:
            preparation.result()
        assert caught.value is failed


def test_any_other_error_is_logged_and_told(caplog: pytest.LogCaptureFixture) -> None:
    def make(report: Report) -> str:
        raise OSError("no space left")

    preparation = Preparation("the model", make).start()
    with pytest.raises(RivuletError, match=r"^the model could not be prepared: no space left$"):
        preparation.result()
    logged = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info is not None for record in logged] == [True]
