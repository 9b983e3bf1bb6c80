import pytest

from rag.llms.threads import AGAIN, TRIES, Threads


def work(threads: Threads, seconds: dict[int, float], times: int) -> list[int]:
    """The numbers that were taken, one after the other; with each it takes its `seconds`."""
    numbers = []
    for _ in range(times):
        numbers.append(threads.next())
        threads.took(numbers[-1], seconds[numbers[-1]])
    return numbers


@pytest.mark.parametrize(
    ("most", "tried"), [(1, {1}), (2, {1, 2}), (3, {1, 2, 3}), (6, {1, 2, 4, 6}), (8, {1, 2, 4, 8})]
)
def test_each_number_is_tried_first(most: int, tried: set[int]) -> None:
    threads = Threads(most)
    assert threads.best == most  # nothing is known
    numbers = work(threads, dict.fromkeys(tried, 1.0), TRIES * len(tried))
    assert {number: numbers.count(number) for number in numbers} == dict.fromkeys(tried, TRIES)
    assert numbers[: len(tried)] == sorted(tried)  # in turn, so that a slow moment strikes all


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_quickest_is_taken(best: int) -> None:
    threads = Threads(4)
    seconds = {number: 1.0 if number == best else 1.5 for number in (1, 2, 4)}
    work(threads, seconds, TRIES * 3)
    assert threads.best == best
    assert work(threads, seconds, 24 * AGAIN).count(best) > 20 * AGAIN


def test_a_slow_moment_changes_nothing() -> None:
    threads = Threads(2)
    work(threads, {1: 1.0, 2: 1.2}, TRIES * 2)
    threads.took(1, 100.0)
    threads.took(1, 100.0)
    assert threads.best == 1


def test_what_has_become_quicker_is_found() -> None:
    threads = Threads(2)
    work(threads, {1: 1.0, 2: 1.2}, 100)
    assert threads.best == 1
    work(threads, {1: 1.0, 2: 0.5}, 2 * AGAIN * TRIES)
    assert threads.best == 2
    work(threads, {1: 1.0, 2: 2.0}, TRIES)
    assert threads.best == 1
