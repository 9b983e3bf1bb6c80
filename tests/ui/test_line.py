"""Whose answer is written, and who waits."""

from itertools import count

import pytest

from rag.ui import line as module
from rag.ui.line import Line, Place, Waiting
from tests.ui.pages import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


NAMES = map(str, count())


def join(line: Line, places: int = 1, most: int = 10, who: str = "") -> Place:
    place = line.join(who or next(NAMES), places, most)
    assert place
    return place


def test_places_are_given_in_the_order_of_coming() -> None:
    line = Line()
    places = [join(line, 2) for _ in range(5)]
    assert [place.called.is_set() for place in places] == [True, True, False, False, False]
    places[3].leave()  # who waits may go
    places[1].leave()
    assert [place.called.is_set() for place in places] == [True, True, True, False, False]
    assert places[4].waiting == Waiting(1, 1)
    assert (line.writing, line.waiting) == (2, 1)


def test_everybody_s_first_question_comes_before_anybody_s_next() -> None:
    line = Line()
    begun = join(line, who="ann")
    second, third = join(line, who="ann"), join(line, who="ann")
    bob, again = join(line, who="bob"), join(line, who="bob")
    waiting = [place.waiting for place in (bob, second, again, third)]
    assert waiting == [Waiting(number, None) for number in (1, 2, 3, 4)]
    begun.leave()
    assert bob.called.is_set()
    bob.leave()
    assert second.called.is_set()
    cyd = join(line, who="cyd")
    order = [place.waiting for place in (again, cyd, third)]
    assert order == [Waiting(number, 1) for number in (1, 2, 3)]


def test_who_asked_alone_for_long_has_no_precedence_and_no_arrears() -> None:
    line = Line()
    for _ in range(5):
        join(line, who="ann").leave()
    begun = join(line, who="ann")
    bob, ann = join(line, who="bob"), join(line, who="ann")
    later = join(line, who="bob")
    assert [place.waiting for place in (bob, ann, later)] == [Waiting(n, 1) for n in (1, 2, 3)]
    begun.leave()
    assert bob.called.is_set()


def test_to_leave_twice_is_to_leave_once() -> None:
    line = Line()
    first, second, third = join(line), join(line), join(line)
    first.leave()
    first.leave()
    assert (second.waiting, third.waiting is None) == (None, False)


def test_who_comes_when_it_is_too_long_gets_no_place() -> None:
    line = Line()
    first = join(line, most=1)
    second = join(line, most=1)
    assert line.join("late", 1, 1) is None
    first.leave()
    second.leave()
    assert join(line, most=0).waiting is None  # nobody has to wait


def test_the_wait_is_told_by_how_long_answers_take(clock: Clock) -> None:
    line = Line()
    first, second = join(line, 2), join(line, 2)
    third, fourth = join(line, 2), join(line, 2)
    assert third.waiting == Waiting(1, None)  # nobody has been done yet
    clock.now = 20.0
    first.leave()
    assert third.waiting is None
    assert fourth.waiting == Waiting(1, 10)
    fifth = join(line, 2)
    assert fifth.waiting == Waiting(2, 20)
    second.leave()
    fourth.leave()  # at once: answers are getting shorter
    assert fifth.waiting is None
    sixth = join(line, 2)
    assert sixth.waiting == Waiting(1, 9)


def test_more_places_are_for_those_who_wait() -> None:
    line = Line()
    places = [join(line) for _ in range(3)]
    places.append(join(line, 3))
    assert [place.waiting is None for place in places] == [True, True, True, False]
