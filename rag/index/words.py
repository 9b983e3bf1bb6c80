"""Text -> words that SQLite's FTS5 can index, in languages with and without spaces.

FTS5's `unicode61` splits at spaces and punctuation. Chinese, Japanese, Thai and their like have no
spaces between words: their runs are indexed as overlapping grams, here, and asked for likewise.
"""

import re
import unicodedata

TOKENIZER = "porter unicode61 remove_diacritics 2 categories 'L* N* Co Mn Mc'"
"""Porter's stemmer for English, accents off elsewhere. Without Mn and Mc the vowel signs of Thai
and Hindi would be spaces."""

_RUN = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+"
    "|[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]+"
)
"""Han and Kana; Thai, Lao, Burmese and Khmer."""
_HAN, _THAI = 2, 3
"""Characters in a gram of each."""

_LETTERS = str.maketrans({"ł": "l", "đ": "d", "ø": "o", "æ": "ae", "œ": "oe", "ı": "i", "ħ": "h"})
"""Letters that are no accented ones, and that people type without."""

STOP = frozenset(
    "a about above after again against all also am an and any are as at be because been before"  # noqa: SIM905 - one to a line would be a page
    " being below between both but by can cannot could did do does doing done down during each few"
    " for from further had has have having he her here hers him his how i if in into is it its"
    " itself just let me more most my no nor not of off on once only or other our ours out over own"
    " same she should so some such than that the their theirs them then there these they this those"
    " through to too under until up upon us very was we were what when where which while who whom"
    " whose why will with would you your".split()
)
"""English words that are everywhere."""


def spaced(text: str) -> str:
    """`text` as it is indexed: in one form of each character, small letters, and with spaces in
    what has none."""
    if text.isascii():  # the same, in a tenth of the time
        return text.lower()
    text = unicodedata.normalize("NFKC", text).casefold().translate(_LETTERS)
    return _RUN.sub(lambda run: f" {' '.join(_grams(run[0]))} ", text)


def terms_of(question: str) -> list[str]:
    """The words of `question` as FTS5 wants them, to be joined by OR; none where it has none.

    English words that are everywhere are left out, unless there are no others. What is written in
    one piece, as E-4012 or 2.5, is sought as a phrase besides.
    """
    words: list[str] = []
    phrases: list[str] = []
    for piece in spaced(question).split():
        parts = "".join(mark if _is_word(mark) else " " for mark in piece).split()
        words += parts
        if len(parts) > 1:
            phrases.append(" ".join(parts))
    told = [word for word in words if word not in STOP] or words
    return [f'"{term}"' for term in dict.fromkeys(told + phrases)]


def _is_word(mark: str) -> bool:
    return mark.isalnum() or unicodedata.category(mark) in ("Mn", "Mc", "Co")


def _grams(run: str) -> list[str]:
    size = _THAI if "\u0e00" <= run[0] < "\u1800" else _HAN
    return [run[begin : begin + size] for begin in range(max(len(run) - size + 1, 1))]
