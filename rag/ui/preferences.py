"""What a person has set for themselves: the model, and how their questions are answered.

Knows nothing of gradio.
"""

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path

from pydantic import TypeAdapter

from rag.answering.options import AnswerOptions
from rag.errors import ConfigurationError
from rag.types import well_formed

logger = logging.getLogger(__name__)

LONGEST_MODEL = 500
"""Characters of a model's name."""


@dataclass(frozen=True)
class Preferences:
    """What is not set here is as the program has it."""

    model: str = ""
    """As the model picker names it; empty: the program's."""
    options: AnswerOptions = field(default_factory=AnswerOptions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", well_formed(self.model)[:LONGEST_MODEL])


def encode(preferences: Preferences) -> str:
    return well_formed(json.dumps(asdict(preferences), ensure_ascii=False))


def decode(kept: bytes) -> Preferences:
    """What is in a file. Raises ValueError or ConfigurationError where it is damaged."""
    return TypeAdapter(Preferences).validate_json(kept)


def read(file: Path) -> Preferences:
    """What is kept in `file`; where that is damaged, nothing is set, which is logged."""
    try:
        return decode(file.read_bytes())
    except FileNotFoundError:
        return Preferences()
    except (OSError, ValueError, ConfigurationError) as error:
        logger.error("The settings in %s cannot be read, and are the usual ones: %s", file, error)
        return Preferences()
