"""The numbers, dates and names of a sentence, and whether a passage has them too.

Numbers and dates are compared by what they mean: 1,200 is 1200, 48 200 and "twelve" are numbers,
March 3, 1847 is 3 March 1847 and 1847-03-03. Names are words with a capital, acronyms among them.
Number words and the names of months are English. Knows nothing of how near two sentences are.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from rag.index.words import STOP

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"  # noqa: SIM905
    " sixteen seventeen eighteen nineteen".split()
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_WORDED = {word: n for n, word in enumerate(_ONES)} | {
    word: 10 * n for n, word in enumerate(_TENS, 2)
}
_WORDED |= {
    word: n
    for n, word in enumerate(
        "third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth"  # noqa: SIM905
        " fifteenth sixteenth seventeenth eighteenth nineteenth twentieth".split(),
        3,
    )
}
_MONTHS = {
    name: n
    for n, full in enumerate(
        "january february march april may june july august september october november december"  # noqa: SIM905
        "".split(),
        1,
    )
    for name in (full, full[:3], full[:4])
}

_GROUP = r"[,.'’ \u00a0\u202f]"
_TOKEN = re.compile(
    rf"""
    (?P<iso>(?<!\d)\d{{4}}-\d\d-\d\d(?!\d))
    | (?P<number>(?<![^\W_])\d{{1,3}}(?:{_GROUP}\d{{3}})+(?!\d)(?:[.,]\d+(?!\d))?
        | (?<![^\W_])\d+(?:[.,]\d+)?)
    | (?P<dotted>(?<!\w)(?:[A-Z]\.){{2,}})
    | (?P<word>[^\W_]+)
    """,
    re.VERBOSE,
)
_TENS_AND_ONES = re.compile(rf"\b({'|'.join(_TENS)})[- ]({'|'.join(_ONES[1:10])})\b", re.I)
_ADDRESS = re.compile(r"(?:https?://|www\.)[^\s)>\]]+")
_GERMAN = {
    "der",
    "die",
    "das",
    "den",
    "dem",
    "und",
    "ist",
    "war",
    "nicht",
    "ein",
    "eine",
    "von",
    "zu",
}
_AFTER_NAME = {
    "is",
    "was",
    "are",
    "were",
    "has",
    "had",
    "did",
    "does",
    "can",
    "will",
    "would",
    "may",
}
_NO_NAME = re.compile(
    r"(?:.*(?:ing|ed|ly|tion|sion|ment|ness|ity|ists?|ers|ors|ism)|according|yes|so|thus|hence"
    r"|like|unlike|since|although|though|even|many|much|several|one|two|first|second|third|last"
    r"|next|today|people|everyone|someone|nothing|something|please|sorry|sure|let|e|i)$",
    re.I,
)
"""Words at the beginning of a sentence that are hardly names."""


@dataclass(frozen=True)
class _Fact:
    text: str
    """As it is written."""
    start: int
    end: int
    forms: tuple[frozenset[str], ...]
    """It is borne out by any of these sets of keys."""


def keys(text: str) -> set[str]:
    """What `text` has of words, numbers and dates, in one form of each."""
    found: set[str] = set()
    before: float | None = None
    for token in _TOKEN.finditer(text):
        value: float | None = None
        match token.lastgroup:
            case "iso":
                year, month, day = token[0].split("-")
                found |= {_number(year), f"month {int(month)}", _number(day)}
            case "number":
                value = float(_number(token[0]))
                found.add(_number(token[0]))
                found |= {_number(part) for part in re.split(_GROUP, token[0])}
            case _:
                word = _folded(token[0])
                found |= {word, *re.findall(r"\d+", word)}
                if word in _MONTHS:
                    found.add(f"month {_MONTHS[word]}")
                if word in _WORDED:
                    value = _WORDED[word]
                    found.add(_number(str(value)))
                if word in _SCALES:
                    value = (1 if before is None else before) * _SCALES[word]
                    found.add(_number(f"{value:.6f}"))
        before = value
    for tens, ones in _TENS_AND_ONES.findall(text):
        found.add(str(_WORDED[tens.lower()] + _WORDED[ones.lower()]))
    return found


def missing(sentence: str, passage: set[str]) -> tuple[str, ...]:
    """The numbers, dates and names of `sentence` that a passage with these `keys` lacks, as they
    are written; neighbours are one."""
    sentence = _ADDRESS.sub(lambda address: " " * len(address[0]), sentence)
    lacking: list[_Fact] = []
    for fact in _facts(sentence):
        if any(form <= passage for form in fact.forms):
            continue
        if lacking and not sentence[lacking[-1].end : fact.start].strip(" -"):
            last = lacking.pop()
            fact = _Fact(sentence[last.start : fact.end], last.start, fact.end, ())
        lacking.append(fact)
    return tuple(dict.fromkeys(fact.text for fact in lacking))


def _facts(sentence: str) -> Iterator[_Fact]:
    tokens = list(_TOKEN.finditer(sentence))
    german = sum(token[0] in _GERMAN for token in tokens) > 1  # there all nouns have capitals
    for place, token in enumerate(tokens):
        text, word = token[0], _folded(token[0])
        near = [tokens[n].lastgroup for n in (place - 1, place + 1) if 0 <= n < len(tokens)]
        forms: list[set[str]] = []
        match token.lastgroup:
            case "iso":
                forms = [keys(text)]
            case "number":
                parts = {_number(part) for part in re.split(_GROUP, text)}
                forms = [{_number(text)}, parts] if len(parts) > 1 else [parts]
            case _ if word in _MONTHS and text[0].isupper() and "number" in near:
                forms = [{f"month {_MONTHS[word]}"}]
            case _ if word in _WORDED:
                if word not in ("zero", "one"):
                    forms = [{word}, {str(_WORDED[word])}]
            case _ if any(map(str.isdigit, word)):
                forms = [{word}, set(re.findall(r"\d+", word))]  # 10th is 10
            case _ if _is_name(tokens, place, german=german):
                forms = [{word}, {f"{word}s"}, {word.removesuffix("s")}]
        if forms:
            yield _Fact(text, token.start(), token.end(), tuple(map(frozenset, forms)))


def _is_name(tokens: list[re.Match[str]], place: int, *, german: bool) -> bool:
    text = tokens[place][0]
    if not text[0].isupper():
        return False
    if len(text) == 1:  # an initial, unless in such as "vitamin C"
        initial = re.match(r"\.\W*\w", tokens[place].string[tokens[place].end() :])
        return place > 0 and text != "I" and not initial
    if text.isupper():
        return True
    if _folded(text) in STOP or german:
        return False
    if place:
        return True
    after = tokens[1][0] if len(tokens) > 1 else ""
    if _NO_NAME.match(text):
        return False
    return not after or after[0].isupper() or after.lower() in _AFTER_NAME or after == "s"


def _folded(word: str) -> str:
    """In small letters, without accents and dots."""
    apart = unicodedata.normalize("NFKD", word.replace(".", "")).casefold()
    return "".join(mark for mark in apart if not unicodedata.combining(mark))


def _number(text: str) -> str:
    """One way to write a number: without marks between thousands, and with a point."""
    if re.fullmatch(rf"\d{{1,3}}({_GROUP}\d{{3}})+", text):
        return str(int(re.sub(r"\D", "", text)))
    whole, fraction = re.fullmatch(r"(.*?)(?:[.,](\d*))?", text).groups()  # type: ignore[union-attr]
    whole = str(int(re.sub(r"\D", "", whole) or "0"))
    fraction = (fraction or "").rstrip("0")
    return f"{whole}.{fraction}" if fraction else whole
