"""Passages and their vectors, in Chroma.

Two collections make one index: `passages` holds text, place and vector of every passage;
`documents` holds one record for each document. A document is in the index when its record is:
the record is written last and removed first, so a crash leaves no half document behind.
"""

import json
import time
import uuid
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import chromadb
from chromadb.config import Settings

from rag.errors import EmbeddingMismatchError, StoreError
from rag.index.embedding import Vector
from rag.index.memory import overwrite_unused, zeroed_memory
from rag.types import Document, Node, NodeWithScore

BATCH = 2_000
"""Passages written at once; Chroma's own limit is some 5,000."""
HNSW: Any = {
    "space": "cosine",
    "max_neighbors": 64,
    "ef_construction": 500,
    "ef_search": 1000,
}
"""How thoroughly the graph of vectors is built and searched. With Chroma's defaults a quarter of
the questions over passages that are much alike missed the passage they fit (docs/decisions.md)."""
# Documents are never searched by nearness; Chroma wants a vector for every record.
_NO_VECTOR = [0.0]


@dataclass(frozen=True)
class StoredDocument:
    """The record of a document in an index."""

    id_: str
    name: str
    pages: int
    """0 where the format has no pages."""
    passages: int
    characters: int
    added: float
    """When it came in, in seconds since 1970."""
    text_hash: str = ""


class ChromaStore:
    """One index in the folder `path`; in memory when None.

    Raises EmbeddingMismatchError when the index was made by another embedding model than
    `embed_model`, and StoreError when the folder cannot be opened.
    """

    @zeroed_memory()
    def __init__(self, path: Path | None, embed_model: str):
        self._path = path
        settings = Settings(anonymized_telemetry=False)
        # Clients in memory share one store: the name keeps indexes apart there.
        suffix = f"-{uuid.uuid4().hex}" if path is None else ""
        names = (f"passages{suffix}", f"documents{suffix}")
        try:
            self._client: Any = (
                chromadb.EphemeralClient(settings)
                if path is None
                else chromadb.PersistentClient(path, settings)
            )
            self._passages = self._client.get_or_create_collection(
                names[0],
                embedding_function=None,
                configuration={"hnsw": HNSW},
                metadata={"embed_model": embed_model},
            )
            self._documents = self._client.get_or_create_collection(
                names[1], embedding_function=None
            )
        except Exception as error:  # Chroma raises its own kinds and Rust's
            raise StoreError(
                f"The index in {path or 'memory'} cannot be opened: {error}. "
                f"Move the folder away, or choose another one by RAG_DATA_DIR."
            ) from error
        # A store that is dropped gives back what it holds, as one that is closed.
        self._close = weakref.finalize(self, _release, self._client, () if path else names)
        self._close.atexit = False  # nothing is left to be written then
        made_by = (self._passages.metadata or {}).get("embed_model")
        if made_by != embed_model:
            self.close()
            raise EmbeddingMismatchError(
                f"The index in {path} was made with the embedding model {made_by}, but "
                f"{embed_model} is set. Set RAG_EMBED_MODEL={made_by} (embed_model in Python), or "
                f'remove the index ("Forget everything" on the page, the folder itself from '
                f"Python) and add the documents again."
            )
        self._remove_orphans()
        self._overwrite_unused()

    @zeroed_memory()
    def add(self, document: Document, nodes: Sequence[Node], vectors: Sequence[Vector]) -> None:
        """Put in a document with its passages; `vectors` belong to `nodes` one by one."""
        record = StoredDocument(
            document.id_,
            document.name,
            len(document.page_starts),
            len(nodes),
            len(document.text),
            time.time(),
            document.text_hash,
        )
        fields = asdict(record)
        try:
            for begin in range(0, len(nodes), BATCH):
                batch = nodes[begin : begin + BATCH]
                # Chroma takes lists and no other sequence.
                numbers = [list(vector) for vector in vectors[begin : begin + BATCH]]
                self._passages.add(
                    ids=[node.id_ for node in batch],
                    embeddings=cast(Any, numbers),
                    documents=[node.text for node in batch],
                    metadatas=[_to_metadata(node) for node in batch],
                )
            self._documents.add(
                ids=[fields.pop("id_")], embeddings=cast(Any, [_NO_VECTOR]), metadatas=[fields]
            )
        except Exception:
            self._remove_passages(document.id_)  # or they would be found
            raise
        finally:
            self._overwrite_unused()

    @zeroed_memory()
    def delete(self, document_id: str) -> None:
        """Take out a document and its passages; nothing happens when it is not there."""
        self._documents.delete(ids=[document_id])
        self._remove_passages(document_id)

    @zeroed_memory()
    def documents(self) -> list[StoredDocument]:
        """The records of all documents, the newest first."""
        records = self._records()
        return sorted(records, key=lambda record: record.added, reverse=True)

    @zeroed_memory()
    def document(self, document_id: str) -> StoredDocument | None:
        """The record of one document; None when it is not there."""
        return next(iter(self._records(ids=[document_id])), None)

    @zeroed_memory()
    def query(self, vector: Vector, top_k: int) -> list[NodeWithScore]:
        """The `top_k` passages nearest to `vector`, the nearest first."""
        top_k = min(top_k, self._passages.count())
        if not top_k:
            return []
        found = self._passages.query(
            query_embeddings=cast(Any, [list(vector)]),
            n_results=top_k,
            include=["documents", "metadatas", "distances"],
        )
        texts, places, distances = found["documents"], found["metadatas"], found["distances"]
        assert texts is not None and places is not None and distances is not None  # noqa: PT018
        return [
            NodeWithScore(_to_node(text, place), 1.0 - distance)
            for text, place, distance in zip(texts[0], places[0], distances[0], strict=True)
        ]

    def close(self) -> None:
        """Give back the files, threads and memory; the index must not be used afterwards."""
        self._close()

    def _records(self, **which: Any) -> list[StoredDocument]:
        found = self._documents.get(include=["metadatas"], **which)
        return [
            StoredDocument(id_, **fields)  # type: ignore[arg-type]
            for id_, fields in zip(found["ids"], found["metadatas"] or (), strict=True)
        ]

    def _overwrite_unused(self) -> None:
        if self._path:
            overwrite_unused(self._path)

    def _remove_passages(self, document_id: str) -> None:
        self._passages.delete(where={"document_id": document_id})

    def _remove_orphans(self) -> None:
        known = self._documents.get(include=[])["ids"]
        where: Any = {"document_id": {"$nin": known}} if known else None
        orphans = self._passages.get(where=where, include=[])["ids"]
        for begin in range(0, len(orphans), BATCH):
            self._passages.delete(ids=orphans[begin : begin + BATCH])


@zeroed_memory()
def _release(client: Any, collections: Sequence[str]) -> None:
    for name in collections:  # in memory they would stay as long as the process
        client.delete_collection(name)
    client.close()


def _to_metadata(node: Node) -> dict[str, Any]:
    return {
        "document_id": node.document_id,
        "ordinal": node.ordinal,
        "start": node.start,
        "file_name": node.file_name,
        "page": node.page or 0,
        "headings": "\n".join(node.headings),
        "metadata": json.dumps(dict(node.metadata), default=str),
    }


def _to_node(text: str, place: Any) -> Node:
    headings = place["headings"]
    return Node(
        text,
        place["document_id"],
        place["ordinal"],
        place["start"],
        place["file_name"],
        place["page"] or None,
        tuple(headings.split("\n")) if headings else (),
        json.loads(place.get("metadata", "{}")),
    )
