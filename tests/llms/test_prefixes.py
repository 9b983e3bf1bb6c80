"""Which keys and values are found again."""

from typing import Any

import pytest

from rag.llms.prefixes import Prefixes


class Kept:
    """Keys and values of 10 bytes a token."""

    def __init__(self, *tokens: int):
        self.tokens = list(tokens)
        self.taken: Any = None

    @property
    def size(self) -> int:
        return 10 * len(self.tokens)

    def take(self, other: "Kept", length: int) -> None:
        self.taken = other
        self.tokens = other.tokens[:length]


def begun(prefixes: Prefixes, *prompt: int) -> Kept:
    kept: Any = Kept()
    prefixes.begin(kept, prompt)
    return kept


def keeping(*texts: tuple[int, ...], limit: int = 1000) -> Prefixes:
    prefixes = Prefixes(limit)
    for text in texts:
        prefixes.keep(Kept(*text))
    return prefixes


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ((1, 2, 3, 4, 9), [1, 2, 3, 4]),
        ((1, 2, 9, 9), [1, 2]),
        ((1, 5, 6), [1, 5]),
        ((1, 2, 3), [1, 2]),  # the last token is always computed
        ((1,), []),
        ((2, 3), []),
    ],
)
def test_the_longest_beginning_that_is_known(prompt: tuple[int, ...], found: list[int]) -> None:
    assert begun(keeping((1, 2, 3, 4), (1, 5, 6, 7)), *prompt).tokens == found


def test_nothing_is_taken_where_nothing_is_known() -> None:
    assert begun(Prefixes(), 1, 2).taken is None
    assert begun(keeping((1, 2)), 3, 4).taken is None


def test_what_goes_on_takes_the_place_of_its_beginning() -> None:
    prefixes = keeping((1, 2), (3, 4), (1, 2, 5))
    assert [each.tokens for each in prefixes._all] == [[3, 4], [1, 2, 5]]


def test_the_least_recently_used_goes_first() -> None:
    prefixes = keeping((1, 2, 3), (4, 5, 6), limit=60)
    begun(prefixes, 1, 2, 9)
    prefixes.keep(Kept(7, 8, 9))
    assert [each.tokens for each in prefixes._all] == [[1, 2, 3], [7, 8, 9]]


def test_what_is_larger_than_the_limit_is_not_kept() -> None:
    assert keeping((1, 2, 3, 4), limit=30)._all == []


def test_everything_can_be_forgotten() -> None:
    prefixes = keeping((1, 2, 3))
    prefixes.forget()
    assert begun(prefixes, 1, 2, 3).tokens == []
