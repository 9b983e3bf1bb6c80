"""A corpus, and questions about it with what answers them, as JSON Lines (docs/evaluation.md)."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rag.errors import DocumentError
from rag.types import Document, well_formed

HIGHEST = 100
"""A grade at most: it is an exponent."""


@dataclass(frozen=True)
class Entry:
    """One text of a corpus."""

    id_: str
    title: str
    text: str

    @property
    def document(self) -> Document:
        """The entry as a Markdown document, below its title."""
        title = " ".join(self.title.split())
        text = f"# {title}\n\n{self.text}" if title else self.text
        return Document(text, {"file_name": title or self.id_}, self.id_)


@dataclass(frozen=True)
class Question:
    """A question, and what is known of its answer."""

    id_: str
    text: str
    grades: Mapping[str, float]
    """How well entries answer it; one that is not here does not."""
    answers: tuple[str, ...]
    """Texts of which a right answer contains one; empty where none is known."""

    @property
    def is_searchable(self) -> bool:
        """Whether it is known what should be found."""
        return any(grade > 0 for grade in self.grades.values())

    @property
    def is_answerable(self) -> bool:
        """Whether something in the corpus answers it."""
        return self.is_searchable or bool(self.answers)


def read_corpus(path: Path) -> list[Entry]:
    """Raises DocumentError, which names the file and the line, for what cannot be used."""
    return _read(path, _entry)


def read_questions(path: Path, known: Collection[str]) -> list[Question]:
    """`known` are the identities of the corpus. Raises DocumentError as `read_corpus`."""

    def question(fields: dict[str, Any]) -> Question:
        return _question(fields, known)

    return _read(path, question)


class _Identified(Protocol):
    @property
    def id_(self) -> str: ...


T = TypeVar("T", bound=_Identified)


def _read(path: Path, parse: Callable[[dict[str, Any]], T]) -> list[T]:
    items: dict[str, T] = {}
    for number, line in _lines(path):
        try:
            item = parse(_object(line))
            if item.id_ in items:
                raise ValueError(f"the id {item.id_!r} was there before")
        except ValueError as error:
            raise DocumentError(str(path), f"line {number}: {error}.") from error
        items[item.id_] = item
    if not items:
        raise DocumentError(str(path), "the file is empty.")
    return list(items.values())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line) for number, line in enumerate(file, 1) if line.strip())
    except OSError as error:
        raise DocumentError(str(path), f"it cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise DocumentError(str(path), "it is not UTF-8.") from error


def _object(line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} at character {error.colno}") from error
    except (RecursionError, ValueError) as error:  # too deep, or a number too long
        raise ValueError("this is JSON that cannot be read") from error
    if not isinstance(fields, dict):
        raise ValueError("this is not a JSON object, in braces")
    return fields


def _entry(fields: dict[str, Any]) -> Entry:
    title = _text(fields, "title") if "title" in fields else ""
    return Entry(_identity(_field(fields, "id")), title, _filled(fields, "text"))


def _question(fields: dict[str, Any], known: Collection[str]) -> Question:
    id_, text = _identity(_field(fields, "id")), _filled(fields, "question")
    if "relevance" not in fields and "passages" not in fields:
        raise ValueError('"passages" or "relevance" is missing')
    if "relevance" in fields:
        relevance = fields["relevance"]
        if not isinstance(relevance, dict) or not all(map(_is_grade, relevance.values())):
            raise ValueError(f'"relevance" has to be numbers from 0 to {HIGHEST}, by ids')
        grades = {_identity(entry): float(grade) for entry, grade in relevance.items()}
    else:
        grades = {_identity(entry): 1.0 for entry in _list(fields, "passages")}
    for entry in grades:
        if entry not in known:
            raise ValueError(f"there is no {entry!r} in the corpus")
    answers = _list(fields, "answers") if "answers" in fields else []
    if not all(isinstance(answer, str) and answer.strip() for answer in answers):
        raise ValueError('"answers" has to be texts')
    return Question(id_, text, grades, tuple(answers))


def _field(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise ValueError(f'"{name}" is missing')
    return fields[name]


def _text(fields: dict[str, Any], name: str) -> str:
    value = _field(fields, name)
    if not isinstance(value, str):
        raise ValueError(f'"{name}" has to be a text')
    return well_formed(value)


def _filled(fields: dict[str, Any], name: str) -> str:
    text = _text(fields, name)
    if not text.strip():
        raise ValueError(f'"{name}" is empty')
    return text


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(fields[name], list):
        raise ValueError(f'"{name}" has to be a list')
    return list(fields[name])


def _identity(value: Any) -> str:
    """An id is a text or a whole number."""
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
        raise ValueError("an id has to be a text or a whole number")
    return well_formed(str(value))


def _is_grade(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= HIGHEST
