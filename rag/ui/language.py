"""The language of the page: each person's own, as their browser states it.

Texts are written in English where they are used; `locale/` has a file for each other language,
from the English text to its translation. What has none is shown in English. Names in braces are
filled in. Knows nothing of gradio.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

FOLDER = Path(__file__).with_name("locale")


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
    return text.format(**values) if values else text


def speaking(accepted: str) -> tuple[str, Say]:
    """The code of the language to speak, and how. `accepted` is the Accept-Language header."""
    for code in _by_preference(accepted):
        if code == "en":
            break
        if code in translations():
            return code, _in(code)
    return "en", english


def _in(code: str) -> Say:
    known = translations()[code]

    def say(text: str, /, **values: object) -> str:
        return english(known.get(text, text), **values)

    return say


def _by_preference(accepted: str) -> list[str]:
    wanted = []
    for part in accepted.split(","):
        tag, _, quality = part.partition(";q=")
        try:
            weight = float(quality or 1)
        except ValueError:
            continue
        if code := tag.strip().partition("-")[0].lower():
            wanted.append((weight, code))
    return [code for _, code in sorted(wanted, key=lambda one: -one[0])]


def said(choices: Sequence[tuple[str, str]], say: Say) -> list[tuple[str, str]]:
    """Labels and values of a list, the labels in a person's language."""
    return [(say(label), value) for label, value in choices]
