"""The language of the page: each person's own, as their browser states it.

Texts are written in English where they are used; `locale/` has a file for each other language,
from the English text to its translation. What has none is shown in English. Names in braces are
filled in, numbers as the language writes them. Knows nothing of gradio.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).with_name("locale")
MARKS = {"de": ".,", "es": "\u202f,", "fr": "\u202f,"}
"""What stands between thousands and before decimals, where it is not as in English."""
TURNING = {"R", "AL", "RLE", "RLO", "RLI", "LRE", "LRO"}
"""Unicode's names for what is written from the right, or has what follows it written so."""


class Say(Protocol):
    """An English text -> the same in a person's language, with what its braces name."""

    def __call__(self, text: str, /, **values: object) -> str: ...


@cache
def translations() -> Mapping[str, Mapping[str, str]]:
    """The languages by their codes, such as "de", and what English texts are in each."""
    return {
        file.stem: json.loads(file.read_text("utf-8")) for file in sorted(FOLDER.glob("*.json"))
    }


def english(text: str, /, **values: object) -> str:
    """The text itself."""
    return _filled(text, values)


def speaking(accepted: str) -> tuple[str, Say]:
    """The code of the language to speak, and how. `accepted` is the Accept-Language header.

    Only the language that is wanted most counts, whatever its country, or English: Gradio knows
    no other one, and a page in two languages would be worse.
    """
    code = _wanted_most(accepted)
    return (code, _in(code)) if code in translations() else ("en", english)


def _in(code: str) -> Say:
    known, marks = translations()[code], MARKS.get(code, ",.")

    def say(text: str, /, **values: object) -> str:
        return _filled(known.get(text, text), values, marks)

    return say


def _filled(text: str, values: Mapping[str, object], marks: str = ",.") -> str:
    if not values:
        return text
    return text.format(**{name: _shown(value, marks) for name, value in values.items()})


def _shown(value: object, marks: str) -> str:
    if isinstance(value, int | float | Decimal):
        return f"{value:,}".translate({ord(","): marks[0], ord("."): marks[1]})
    text = str(value)
    if text.isascii() or TURNING.isdisjoint(map(unicodedata.bidirectional, text)):
        return text
    return f"\u2068{text}\u2069"  # so that it does not turn what stands around it


def _wanted_most(accepted: str) -> str:
    wanted = []
    for part in accepted.split(","):
        tag, _, parameter = part.partition(";")
        try:
            weight = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if weight > 0:
            wanted.append((weight, tag.strip().partition("-")[0].lower()))
    return max(wanted, key=lambda one: one[0], default=(0, ""))[1]


def said(choices: Sequence[tuple[str, str]], say: Say) -> list[tuple[str, str]]:
    """Labels and values of a list, the labels in a person's language."""
    return [(say(label), value) for label, value in choices]
