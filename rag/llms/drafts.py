"""What an answer may go on with, guessed from the text before it: `draft`.

Answers from documents quote them, so what followed the last words where they stood before often
follows again (prompt lookup, Saxena 2023). A model computes some tokens that may be right in hardly
more time than one, and keeps those that it chooses itself: the text is the same.
"""

LONGEST = 3
"""Tokens that are looked for."""


def text(tokens: list[int]) -> str:
    """A sign for each token: a string is searched faster than a list."""
    return "".join(map(chr, tokens))


def draft(seen: str, most: int) -> list[int]:
    """The tokens that followed where the end of `seen` stood last, at most `most`: fewer where it
    is known by a single token only, and none where it did not stand before."""
    if most > 0:
        for length in range(LONGEST, 0, -1):
            place = seen.rfind(seen[-length:], 0, -1)
            if place >= 0:
                begin = place + length
                return [ord(sign) for sign in seen[begin : begin + min(most, 2 * length + 1)]]
    return []
