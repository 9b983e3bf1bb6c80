"""What an answer may go on with."""

import pytest

from rag.llms.drafts import draft, text


@pytest.mark.parametrize(
    ("seen", "most", "found"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3], 5, [4, 5, 6, 7, 8]),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3], 2, [4, 5]),
        ([1, 2, 3, 4, 9, 2, 3, 5, 9, 2, 3], 2, [5, 9]),  # where it stood last
        ([7, 2, 3, 4, 9, 3, 5, 9, 8, 2, 3], 3, [4, 9, 3]),  # more tokens are surer than the last
        ([3, 4, 5, 6, 7, 8, 3], 9, [4, 5, 6]),  # a single token says little
        ([2, 3, 4, 5, 6, 7, 8, 2, 3], 9, [4, 5, 6, 7, 8]),
        ([1, 2, 1, 2], 5, [1, 2]),
        ([4, 4, 4, 4], 5, [4]),
        ([1, 2, 3], 5, []),
        ([1], 5, []),
        ([], 5, []),
        ([1, 2, 1], 0, []),
        ([1, 2, 1], -1, []),
        ([0xD800, 0x10FFFF, 0, 0xD800], 3, [0x10FFFF, 0, 0xD800]),  # any token's number
    ],
)
def test_what_followed_the_last_tokens_before(seen: list[int], most: int, found: list[int]) -> None:
    assert draft(text(seen), most) == found
