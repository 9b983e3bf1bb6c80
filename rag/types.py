"""The values that travel along both ways: documents in, passages out, messages, text."""

import hashlib
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "stopped", "truncated", "error"]
"""How an answer ended: by the model itself, at the length limit, stopped by the reader,
cut off by a lost connection, or by an error."""


@dataclass(frozen=True)
class Document:
    """The text of one document, with where its pages begin.

    Lone surrogates, which no encoding can write, are replaced in it, in `id_`, and in the names
    and texts of the metadata. `doc_id` and `get_content()` are LlamaIndex's names.
    """

    text: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    id_: str = ""
    """Identity of the content; made from the text when not given: then the same text is the same
    document, whatever its metadata."""
    page_starts: tuple[int, ...] = ()
    """Offset in characters at which each page begins; empty when there are no pages."""
    plain: bool = False
    """Whether the text is no Markdown, such as source code: a # begins no heading in it."""

    def __post_init__(self) -> None:
        metadata = {_clean(key): _clean(value) for key, value in self.metadata.items()}
        object.__setattr__(self, "text", well_formed(self.text))
        object.__setattr__(self, "metadata", metadata)
        object.__setattr__(self, "id_", well_formed(self.id_) or self.text_hash)

    @property
    def doc_id(self) -> str:
        return self.id_

    def get_content(self) -> str:
        return self.text

    @property
    def text_hash(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]

    @property
    def name(self) -> str:
        """The file's name, or the start of its identity when it came from no file."""
        return well_formed(str(self.metadata.get("file_name") or self.id_[:8]))

    def page_at(self, offset: int) -> int | None:
        """The page (from 1) on which the character at `offset` stands; None without pages."""
        return bisect_right(self.page_starts, offset) if self.page_starts else None


@dataclass(frozen=True)
class Node:
    """A passage: one stretch of a document's text, as long as the embedding model reads.

    `node_id`, `ref_doc_id` and `get_content()` are LlamaIndex's names.
    """

    text: str
    document_id: str
    ordinal: int
    """Position among the passages of its document, from 0."""
    start: int
    """Offset of the passage in the document's text, in characters."""
    file_name: str = ""
    page: int | None = None
    headings: tuple[str, ...] = ()
    """The headings above the passage, outermost first."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """The metadata of its document, and `page_label` where that has pages."""
    before: str = ""
    """What stands in the document between the passage before it and this one: white space, a
    heading. With it neighbours can be joined as they were."""

    @property
    def id_(self) -> str:
        return f"{self.document_id}:{self.ordinal}"

    @property
    def node_id(self) -> str:
        return self.id_

    @property
    def ref_doc_id(self) -> str:
        return self.document_id

    def get_content(self) -> str:
        return self.text

    @property
    def end(self) -> int:
        """Offset just after the passage in the document's text, in characters."""
        return self.start + len(self.text)

    def holds(self, other: "Node") -> bool:
        """Whether `other` is a part of this passage, or the same."""
        same = self.document_id == other.document_id
        return same and self.start <= other.start and other.end <= self.end

    @property
    def embedded_text(self) -> str:
        """What is embedded: the passage below its headings, which often hold its subject."""
        return "\n".join((*self.headings, self.text))

    @property
    def label(self) -> str:
        """Where the passage stands, for a person, on one line: file, then page or headings."""
        where = f"page {self.page}" if self.page else " › ".join(self.headings)
        label = f"{self.file_name}, {where}" if where else self.file_name
        return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", label)


Way = Literal["meaning", "words"]
"""How a passage was found: near to the question by its vector, or by words they share."""


@dataclass(frozen=True)
class NodeWithScore:
    """A passage that was found, and how near it is to the question.

    `node_id`, `get_content()` and `get_score()` are LlamaIndex's names.
    """

    node: Node
    score: float | None = None
    """Cosine, at most 1; None where who found it gives no score."""
    found_by: tuple[Way, ...] = ()
    """What brought it in; empty where that is not known."""

    @property
    def node_id(self) -> str:
        return self.node.id_

    def get_content(self) -> str:
        return self.node.text

    def get_score(self) -> float:
        """The score; 0 where there is none."""
        return self.score or 0.0

    @property
    def text(self) -> str:
        return self.node.text

    @property
    def metadata(self) -> Mapping[str, Any]:
        return self.node.metadata


Support = Literal["supported", "partly", "none"]
"""How far a passage bears a sentence out: wholly, but for a number, date or name in it, or not."""


@dataclass(frozen=True)
class Citation:
    """A sentence of an answer, and what in the passages bears it out.

    Offsets are in characters; `end` is just after the sentence.
    """

    start: int
    """Where the sentence begins in the answer."""
    end: int
    support: Support
    node: Node | None = None
    """The passage that bears it out; None where none does."""
    node_start: int = 0
    """Where in `node.text` the sentence that bears it out begins."""
    node_end: int = 0
    score: float = 0.0
    """How near the two sentences are, at most 1."""
    missing: tuple[str, ...] = ()
    """The numbers, dates and names of the sentence that the passage lacks, as they are written."""


@dataclass(frozen=True)
class ChatMessage:
    role: Literal["system", "user", "assistant"]
    content: str
    finish_reason: FinishReason | None = None
    """How an answer ended, in a history: one that is not whole can be told by it."""


@dataclass(frozen=True)
class Reasoning:
    """A piece of what a model writes for itself before it answers: never part of the answer."""

    text: str


@dataclass(frozen=True)
class Queued:
    """How many answers a model computes before this one; 0: this one's turn has come."""

    ahead: int


@dataclass(frozen=True)
class Prefill:
    """How many tokens of its prompt a model has read: `done` of `total`."""

    done: int
    total: int


@dataclass(frozen=True)
class Usage:
    """Tokens read and written by a model in one call."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Completion:
    """How one call of a model ended: what an `LLM.stream` generator returns."""

    finish_reason: FinishReason
    usage: Usage | None = None


def harmless(text: str) -> str:
    """`text` as a terminal can be given it: what would move the cursor, change colours or titles,
    or turn the line around is shown as a sign."""
    return text.translate(_SIGNS)


_SIGNS: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"},
    **dict.fromkeys((*range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd"),
}
"""Control characters, those that turn writing around among them, and what is shown of each."""


def well_formed(text: str) -> str:
    """`text` with each lone surrogate (as in a file name that is not UTF-8) replaced by U+FFFD."""
    return re.sub(r"[\ud800-\udfff]", "\ufffd", text)


def _clean(value: Any) -> Any:
    return well_formed(value) if isinstance(value, str) else value


def counted(number: int, noun: str) -> str:
    """A number with its noun, for a person: "1 passage", "1,234 passages"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
