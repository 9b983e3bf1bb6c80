"""What a person can set for their own questions, beside what the program is set to."""

from dataclasses import dataclass
from typing import Literal

Style = Literal["usual", "brief", "detailed", "list", "simple"]
"""How an answer is written."""


@dataclass(frozen=True)
class AnswerOptions:
    """How questions are answered. None, or empty: as the program has it."""

    top_k: int | None = None
    """Passages that are searched for."""
    max_tokens: int | None = None
    """Length limit of an answer, in tokens."""
    temperature: float | None = None
    """0: always the most likely word."""
    style: Style = "usual"
    language: str = ""
    """Of the answer, in English, such as "German"; empty: that of the question."""
    system_prompt: str = ""
