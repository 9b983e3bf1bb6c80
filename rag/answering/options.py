"""What a person can set for their own questions, beside what the program is set to."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from rag.answering.prompts import REFINE, SIMPLE, SUMMARY, TEXT_QA, Prompts
from rag.errors import ConfigurationError

Style = Literal["usual", "brief", "detailed", "list", "simple"]
"""How an answer is written."""

TOP_K = (1, 20)
MAX_TOKENS = (16, 4096)
TEMPERATURE = (0.0, 2.0)
"""The least and the most that can be set."""
MAX_SYSTEM_PROMPT = 4000
MAX_LANGUAGE = 40
"""Characters."""

_HOW: dict[Style, str] = {
    "usual": "in a full sentence",
    "brief": "in one short sentence",
    "detailed": "in detail, in several full sentences",
    "list": "as a list of points, each on a line of its own that begins with a dash",
    "simple": "in a full sentence of simple words",
}
_LANGUAGE = re.compile(r"[^\W\d_][\w '’()-]*")


@dataclass(frozen=True)
class AnswerOptions:
    """How questions are answered. None, or empty: as the program has it.

    Raises ConfigurationError for what cannot be set.
    """

    top_k: int | None = None
    """Passages that are searched for. A model that is given single sentences (`BestSentences`) gets
    the best of those in so many passages."""
    max_tokens: int | None = None
    """Length limit of an answer, in tokens."""
    temperature: float | None = None
    """0: always the most likely word."""
    style: Style = "usual"
    language: str = ""
    """Of the answer, by its English name or its own, such as "German"; empty: as the model has it,
    mostly that of the question."""
    system_prompt: str = ""
    """What the model is told before everything else."""

    def __post_init__(self) -> None:
        _check("number of passages", self.top_k, TOP_K)
        _check("length of an answer", self.max_tokens, MAX_TOKENS)
        _check("temperature", self.temperature, TEMPERATURE)
        if self.style not in get_args(Style):
            raise ConfigurationError(
                f"There is no style {self.style!r}. Possible are {', '.join(get_args(Style))}."
            )
        if self.language and (
            len(self.language) > MAX_LANGUAGE or not _LANGUAGE.fullmatch(self.language)
        ):
            raise ConfigurationError(
                f"The language has to be a name of at most {MAX_LANGUAGE} letters, such as German."
            )
        if len(self.system_prompt) > MAX_SYSTEM_PROMPT:
            raise ConfigurationError(
                f"The system prompt has {len(self.system_prompt):,} characters; at most "
                f"{MAX_SYSTEM_PROMPT:,} are taken. Shorten it, or add the text as a document."
            )

    def prompts(self, *, small: bool = False) -> Prompts:
        """The usual templates, with style and language in their wording.

        Not for a `small` model: told of a language it answers in none, and of a style, worse
        (docs/decisions.md).
        """
        how = "" if self.style == "usual" or small else _HOW[self.style]
        language = f"Write the answer in {self.language}." if self.language and not small else ""
        wish = " ".join(filter(None, (f"Answer {how}." if how else "", language)))

        def worded(template: str, usual: str) -> str:
            before, _, after = template.partition(usual)
            line, after = after.split("\n", 1)
            return f"{before}{how or usual}{line} {language}".rstrip() + f"\n{after}"

        return Prompts(
            text_qa_template=worded(TEXT_QA, "in a full sentence"),
            refine_template=worded(REFINE, "in full sentences"),
            summary_template=worded(SUMMARY, "in full sentences"),
            simple_template=f"{SIMPLE}\n\n{wish}" if wish else SIMPLE,
            system_prompt=self.system_prompt.strip(),
        )


def _check(what: str, value: float | None, bounds: tuple[float, float]) -> None:
    least, most = bounds
    whole = isinstance(least, int)
    if value is not None and not (least <= value <= most and (not whole or isinstance(value, int))):
        kind = "a whole number" if whole else "a number"
        raise ConfigurationError(
            f"The {what} cannot be {value}: it has to be {kind} from {least:g} to {most:g}."
        )


USUAL = AnswerOptions()
