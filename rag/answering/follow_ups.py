"""A follow-up question -> one that can be searched for, without a model.

For models too small to condense a conversation: with the default one, questions that it had
condensed were found less often than those put together here (docs/decisions.md). The rule knows
English; a question that it does not take for a follow-up is searched for as it stands.
"""

import re
from collections.abc import Sequence

_JOINING = re.compile(r"\s*(and|but|or|so|also|what about|how about)\b", re.I)
_POINTING = re.compile(
    r"\b(it|its|it's|he|him|his|she|her|they|them|their|this|these|those|ones?"
    r"|latter|former|same|else|instead)\b",
    re.I,
)
_NAME = re.compile(r"(?<=\s)(?!I\b)[A-Z0-9]")
_LATIN = re.compile(r"[A-Za-z]")
_GREETING = re.compile(
    r"\W*(hello|hi|hey|good (morning|afternoon|evening|day)|thanks?|thank you|bye)\b"
    r"[\s\w]{0,12}\W*$",
    re.I,
)
FEW = 4
"""Words of a question that is too short to stand by itself, unless it has a name."""


def depends(question: str) -> bool:
    """Whether `question` seems to be about something that was said before it.

    It begins by joining on, or points to something (as "it" does) without a name before that, or
    has few words and no name. A name is a word with a capital or a digit, the first word aside. A
    greeting does not, nor does what has no Latin letter.
    """
    # Words that are not told apart by spaces cannot be counted; a greeting stands by itself.
    if not _LATIN.search(question) or _GREETING.match(question):
        return False
    return points_back(question) or (len(question.split()) <= FEW and not _NAME.search(question))


def points_back(question: str) -> bool:
    """Whether `question` joins on to something, or points to it without a name before that."""
    pointing = _POINTING.search(question)
    return bool(
        _JOINING.match(question) or (pointing and not _NAME.search(question[: pointing.start()]))
    )


def standalone(question: str, earlier: Sequence[str]) -> str:
    """`question`, and after it those of the `earlier` questions that it hangs on, the newest
    first: each as long as the one before it depends on another."""
    parts = [question]
    for before in reversed(earlier):
        if not depends(parts[-1]):
            break
        parts.append(before)
    return " ".join(parts)
