"""What a person has set for themselves: the model, and how their questions are answered.

Knows nothing of gradio.
"""

import json
import logging
import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar, get_args

from pydantic import TypeAdapter

from rag.answering.options import AnswerOptions, Style
from rag.types import well_formed

logger = logging.getLogger(__name__)
Number = TypeVar("Number", int, float)

MOST_PASSAGES = 50
MOST_TOKENS = 32_768
HOTTEST = 2.0
"""The highest temperature that servers take."""
LONGEST_MODEL = 500
LONGEST_LANGUAGE = 40
LONGEST_PROMPT = 4_000
"""Characters of a system prompt."""


@dataclass(frozen=True)
class Preferences:
    """What is not set here is as the program has it."""

    model: str = ""
    """As the model picker names it; empty: the program's."""
    options: AnswerOptions = field(default_factory=AnswerOptions)

    def bounded(self) -> "Preferences":
        """The same with every number and text within its limits: they come from outside."""
        options = self.options
        return Preferences(
            _cut(self.model, LONGEST_MODEL),
            replace(
                options,
                top_k=_between(options.top_k, 1, MOST_PASSAGES),
                max_tokens=_between(options.max_tokens, 1, MOST_TOKENS),
                temperature=_between(options.temperature, 0.0, HOTTEST),
                style=options.style if options.style in get_args(Style) else "usual",
                language=_cut(" ".join(options.language.split()), LONGEST_LANGUAGE),
                system_prompt=_cut(options.system_prompt, LONGEST_PROMPT),
            ),
        )


def encode(preferences: Preferences) -> str:
    return json.dumps(asdict(preferences))


def read(file: Path) -> Preferences:
    """What is kept in `file`; where that is damaged, nothing is set, which is logged."""
    try:
        return TypeAdapter(Preferences).validate_json(file.read_bytes()).bounded()
    except FileNotFoundError:
        return Preferences()
    except (OSError, ValueError) as error:
        logger.error("The settings in %s cannot be read, and are the usual ones: %s", file, error)
        return Preferences()


def _between(number: Number | None, least: Number, most: Number) -> Number | None:
    if number is None or math.isnan(number):
        return None
    return min(max(number, least), most)


def _cut(text: str, longest: int) -> str:
    return well_formed(text).strip()[:longest].rstrip()
