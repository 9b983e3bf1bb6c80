"""A document's way in: load -> split -> embed -> store, told step by step.

A generator, so whoever stops reading stops the work; a document is in wholly or not at all.
"""

import hashlib
import logging
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rag.documents.isolation import load_isolated
from rag.documents.splitting import split
from rag.errors import DocumentError, FileTooLargeError
from rag.index.embedding import Embedding
from rag.index.originals import Originals
from rag.index.store import ChromaStore, StoredDocument, content_hash
from rag.types import Document

logger = logging.getLogger(__name__)

EMBED_STEP = 32
"""Passages embedded between two reports of the progress."""


@dataclass(frozen=True)
class Room:
    """How much an index may hold. The settings that limit it are named where it is full."""

    pages: int
    """Of one document."""
    documents: int
    passages: int

    def check(self, document: Document, store: ChromaStore, passages: int = 0) -> None:
        """Raises FileTooLargeError where the document, or so many passages of it, do not fit."""
        name, pages = document.name, len(document.page_starts)
        others = [record for record in store.documents() if record.id_ != document.id_]
        there = sum(record.passages for record in others)
        if pages > self.pages:
            raise FileTooLargeError(
                name,
                f"it has {pages:,} pages; at most {self.pages:,} are taken. Split the file, or "
                f"raise RAG_MAX_PAGES.",
            )
        if len(others) >= self.documents:
            raise FileTooLargeError(
                name,
                f"there are {len(others):,} documents already, as many as there may be. Remove "
                f"some, or raise RAG_MAX_FILES.",
            )
        if there + passages > self.passages:
            raise FileTooLargeError(
                name,
                f"it has {passages:,} passages, and there are {there:,} of at most "
                f"{self.passages:,}. Remove documents, or raise RAG_MAX_PASSAGES.",
            )


@dataclass(frozen=True)
class Progress:
    """What is being done for which file; `done` of `total` passages while embedding."""

    file_name: str
    step: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Searchable:
    """A document can be searched by its words, while it is being embedded."""

    file_name: str
    document_id: str
    passages: int


@dataclass(frozen=True)
class Ingested:
    """A file is in; with `known_as`, it already was, under that name."""

    file_name: str
    document_id: str
    pages: int
    passages: int
    known_as: str = ""
    replaced: bool = False
    """Whether it took the place of an older version, of the same name."""


@dataclass(frozen=True)
class Rejected:
    """A file could not be taken in, and why."""

    file_name: str
    reason: str


def ingest_file(
    path: Path,
    file_name: str,
    store: ChromaStore,
    embed_model: Embedding,
    *,
    max_bytes: int,
    read_timeout: float,
    metadata: Mapping[str, Any] | None = None,
    originals: Originals | None = None,
    room: Room | None = None,
) -> Generator[Progress | Searchable | Ingested | Rejected, None, None]:
    """Take the file at `path` into `store` under `file_name`, in place of one of this name.

    A text that is there already, under whatever name, is left as it is. Yields Progress and
    Searchable any number of times, then one Ingested or Rejected; for an archive or an e-mail so
    for each file in it. Whatever is wrong with a file is a Rejected, so that the other files of a
    batch go in. Closing the generator takes back what is not wholly in. `metadata` is added to
    that of the documents. `originals` keeps the PDFs among them while the documents are there.
    `room` limits what is in the index then.
    """
    try:
        yield Progress(file_name, "reading")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DocumentError(file_name, f"it cannot be opened: {error.strerror}.") from error
        if size > max_bytes:
            raise FileTooLargeError(
                file_name,
                f"it has {size / 1e6:.1f} MB; at most {max_bytes / 1e6:.0f} MB are taken. "
                f"Split the file, or raise RAG_MAX_FILE_MB.",
            )
        with ExitStack() as stack:
            received = stack.enter_context(originals.receiving()) if originals else None
            items = load_isolated(path, file_name, read_timeout, received)
            for item in stack.enter_context(closing(items)):
                if isinstance(item, DocumentError):
                    logger.info("Rejected %s", item)
                    yield Rejected(item.file_name, item.reason)
                elif twin := _twin(item, store):
                    yield Ingested(item.name, twin.id_, twin.pages, twin.passages, twin.name)
                else:
                    id_ = hashlib.sha256(item.name.encode()).hexdigest()[:32]
                    named = replace(item, id_=id_, metadata={**item.metadata, **(metadata or {})})
                    with ExitStack() as kept:
                        if originals and received:
                            kept.enter_context(originals.adding(named, received, store))
                        try:
                            yield from ingest(named, store, embed_model, room)
                        except FileTooLargeError as error:
                            logger.info("Rejected %s", error)
                            yield Rejected(error.file_name, error.reason)
    except DocumentError as error:
        logger.info("Rejected %s", error)
        yield Rejected(file_name, error.reason)


def _twin(document: Document, store: ChromaStore) -> StoredDocument | None:
    """The document with the same text, unless this is a new version of another one."""
    there = store.documents()
    twins = [record for record in there if record.text_hash == document.text_hash]
    own = [record for record in there if record.name == document.name]
    return next((twin for twin in twins if twin in own or not own), None)


def ingest(
    document: Document, store: ChromaStore, embed_model: Embedding, room: Room | None = None
) -> Iterator[Progress | Searchable | Ingested]:
    """Take `document` into `store`, in place of one with the same `id_`.

    One that is there already is left as it is. Where `id_` was made from the text, the same text
    is the same document, whatever its name and other metadata; where it was given, text and
    metadata have to be the same.
    """
    name, pages = document.name, len(document.page_starts)
    known = store.document(document.id_)
    known_by_text = document.id_ == document.text_hash
    if known and (known_by_text or known.content_hash == content_hash(document)):
        yield Ingested(name, known.id_, known.pages, known.passages, known.name)
        return
    if room:
        room.check(document, store)
    yield Progress(name, "splitting")
    nodes = split(document, embed_model.tokenizer, window=embed_model.max_tokens)
    if room:
        room.check(document, store, len(nodes))
    with store.adding(document, nodes) as adding:
        yield Searchable(name, document.id_, len(nodes))
        for begin in range(0, len(nodes), EMBED_STEP):
            yield Progress(name, "embedding", begin, len(nodes))
            batch = nodes[begin : begin + EMBED_STEP]
            adding.take(embed_model.embed([node.embedded_text for node in batch]))
        yield Progress(name, "storing", len(nodes), len(nodes))
        adding.commit()
    yield Ingested(name, document.id_, pages, len(nodes), replaced=known is not None)
