"""Passages and their vectors, in Chroma.

Two collections make one index: `passages` holds text, place and vector of every passage;
`documents` holds one record for each document. A document is in the index when its record is:
the record is written last and removed first, so a crash leaves no half document behind. The
passages of a document are those whose identity begins with its record's `key`: another version
of it has another key, and stands beside the old one until the record is changed.

A folder belongs to one process at a time: two would write over each other's vectors.
"""

import hashlib
import json
import time
import uuid
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from itertools import count
from pathlib import Path
from threading import RLock
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakValueDictionary

import chromadb
from chromadb.config import Settings
from filelock import FileLock, Timeout

from rag.errors import EmbeddingMismatchError, OutdatedIndexError, StoreError
from rag.index.embedding import Vector
from rag.index.memory import overwrite_unused, zeroed_memory
from rag.types import Document, Node, NodeWithScore

BATCH = 2_000
"""Passages written or removed at once; Chroma's own limit is some 5,000."""
READ = 10_000
"""Records read at once; SQLite's limit is some 32,000."""
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
FORMAT = 2
"""Of what is written; an index of another format cannot be read."""
UNFINISHED = "unfinished"
"""The file that is there while a document is put in or taken out."""
PATIENCE = 5.0
"""Seconds to wait for a folder that another process has open: it may be about to end."""


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
    content_hash: str
    """Changes with the text and the metadata."""

    @property
    def key(self) -> str:
        """What the identities of its passages begin with."""
        return f"{self.id_}:{self.content_hash}"


P = ParamSpec("P")
R = TypeVar("R")


def _while_open(
    method: Callable[Concatenate["ChromaStore", P], R],
) -> Callable[Concatenate["ChromaStore", P], R]:
    """Runs `method` in zeroed memory. Raises StoreError when the index is closed."""

    @wraps(method)
    def checked(store: "ChromaStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not store._close.alive:
            raise StoreError(
                "This index was closed. Open it again, or close it after its last use."
            )
        with zeroed_memory():
            return method(store, *args, **kwargs)

    return checked


class _Folder:
    """A folder that this process has open, alone, for as long as one of its stores is."""

    def __init__(self, path: Path):
        path.mkdir(parents=True, exist_ok=True)
        self.writing = RLock()
        self._lock = FileLock(path / "lock", PATIENCE, thread_local=False)  # it goes with this
        self._lock.acquire()


_folders: WeakValueDictionary[Path, _Folder] = WeakValueDictionary()
_opening = RLock()


class ChromaStore:
    """One index in the folder `path`; in memory when None.

    Raises EmbeddingMismatchError when the index was made by another embedding model than
    `embed_model`, and StoreError when the folder cannot be opened, or another process has it open.
    """

    @zeroed_memory()
    def __init__(self, path: Path | None, embed_model: str):
        self._path = path and path.resolve()  # the working folder may change
        try:
            with _opening:
                self._open(embed_model)
        except Timeout as error:
            raise StoreError(
                f"The index in {path} is in use by another process. End that, or choose another "
                f"folder (storage_dir in Python, RAG_DATA_DIR for the page)."
            ) from error
        except Exception as error:  # Chroma raises its own kinds and Rust's
            raise StoreError(
                f"The index in {path or 'memory'} cannot be opened: {error}. Move the folder away, "
                f"or choose another one (storage_dir in Python, RAG_DATA_DIR for the page)."
            ) from error
        about = self._passages.metadata or {}
        if about.get("format") != FORMAT:
            self.close()
            raise OutdatedIndexError(
                f"The index in {path} was made by another version of Rivulet. Remove it "
                f'("Forget everything" on the page, the folder itself from Python) and add the '
                f"documents again."
            )
        made_by = about.get("embed_model")
        if made_by != embed_model:
            self.close()
            raise EmbeddingMismatchError(
                f"The index in {path} was made with the embedding model {made_by}, but "
                f"{embed_model} is set. Set RAG_EMBED_MODEL={made_by} (embed_model in Python), or "
                f'remove the index ("Forget everything" on the page, the folder itself from '
                f"Python) and add the documents again."
            )

    @_while_open
    def add(self, document: Document, nodes: Sequence[Node], vectors: Sequence[Vector]) -> None:
        """Put in a document with its passages, in place of one with the same `id_`; `vectors`
        belong to `nodes` one by one. When it fails, that one is still there."""
        record = StoredDocument(
            document.id_,
            document.name,
            len(document.page_starts),
            len(nodes),
            len(document.text),
            time.time(),
            content_hash(document),
        )
        fields = asdict(record)
        ids = [f"{record.key}:{node.ordinal}" for node in nodes]
        # Chroma takes lists and no other sequence.
        numbers: Any = [list(vector) for vector in vectors]
        texts = [node.text for node in nodes]
        places: Any = [_to_metadata(node) for node in nodes]
        with self._changing(document.id_):
            for begin in range(0, len(nodes), BATCH):
                batch = slice(begin, begin + BATCH)
                self._passages.upsert(ids[batch], numbers[batch], places[batch], texts[batch])
            self._documents.upsert([fields.pop("id_")], cast(Any, [_NO_VECTOR]), [fields])

    @_while_open
    def delete(self, document_id: str) -> None:
        """Take out a document and its passages; nothing happens when it is not there."""
        with self._changing(document_id):
            self._documents.delete(ids=[document_id])

    @_while_open
    def documents(self) -> list[StoredDocument]:
        """The records of all documents, the newest first."""
        return sorted(self._records(), key=lambda record: record.added, reverse=True)

    @_while_open
    def document(self, document_id: str) -> StoredDocument | None:
        """The record of one document; None when it is not there."""
        return next(iter(self._records(ids=[document_id])), None)

    @_while_open
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
            if place is not None  # or it was removed meanwhile
        ]

    def close(self) -> None:
        """Give back the files, threads and memory; the index must not be used afterwards."""
        self._close()

    def _open(self, embed_model: str) -> None:
        folder, is_new = None, False
        if self._path:
            folder = _folders.get(self._path)
            is_new = folder is None
            folder = _folders[self._path] = folder or _Folder(self._path)
        self._writing = folder.writing if folder else RLock()
        settings = Settings(anonymized_telemetry=False)
        # Clients in memory share one store: the name keeps indexes apart there.
        suffix = "" if self._path else f"-{uuid.uuid4().hex}"
        names = (f"passages{suffix}", f"documents{suffix}")
        self._client: Any = (
            chromadb.PersistentClient(self._path, settings)
            if self._path
            else chromadb.EphemeralClient(settings)
        )
        # A store that is dropped gives back what it holds, as one that is closed.
        own = () if self._path else names
        self._close = weakref.finalize(self, _release, self._client, own, folder)
        self._close.atexit = False  # nothing is left to be written then
        self._passages = self._client.get_or_create_collection(
            names[0],
            embedding_function=None,
            configuration={"hnsw": HNSW},
            metadata={"embed_model": embed_model, "format": FORMAT},
        )
        self._documents = self._client.get_or_create_collection(names[1], embedding_function=None)
        if is_new and self._path and (self._path / UNFINISHED).exists():
            self._remove_orphans()
            self._end_change(self._path)

    def _records(self, **which: Any) -> Iterator[StoredDocument]:
        for found in _batches(self._documents, include=["metadatas"], **which):
            for id_, fields in zip(found["ids"], found["metadatas"], strict=True):
                yield StoredDocument(id_, **fields)

    @contextmanager
    def _changing(self, document_id: str) -> Iterator[None]:
        """However the change of a document ends, no passage is left that its record does not
        know; what a crash leaves goes when the index is next opened."""
        with self._writing:
            if self._path:
                (self._path / UNFINISHED).touch()
            try:
                yield
            finally:
                self._remove_orphans(document_id)
                if self._path:
                    self._end_change(self._path)

    def _end_change(self, folder: Path) -> None:
        overwrite_unused(folder)
        (folder / UNFINISHED).unlink()

    def _remove_orphans(self, document_id: str | None = None) -> None:
        """Take out the passages that no record knows: all of them, or those of one document."""
        ids = [document_id] if document_id else None
        known = {record.key for record in self._records(ids=ids)}
        where: Any = {"document_id": document_id} if document_id else None
        orphans = [
            id_
            for found in _batches(self._passages, include=[], where=where)
            for id_ in found["ids"]
            if id_.rpartition(":")[0] not in known
        ]
        for begin in range(0, len(orphans), BATCH):
            self._passages.delete(ids=orphans[begin : begin + BATCH])


def content_hash(document: Document) -> str:
    """A hash that changes with the document's text, its pages and its metadata."""
    metadata = _to_json(document.metadata, sort_keys=True)
    content = "\0".join((document.text, str(document.page_starts), metadata))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _batches(collection: Any, **which: Any) -> Iterator[Any]:
    """What `collection.get(**which)` gives, `READ` records at a time."""
    for offset in count(0, READ):
        found = collection.get(limit=READ, offset=offset, **which)
        yield found
        if len(found["ids"]) < READ:
            return


@zeroed_memory()
def _release(client: Any, collections: Sequence[str], folder: _Folder | None) -> None:  # noqa: ARG001
    """Ends what a store holds; the folder is given back with the last store that holds it."""
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
        "metadata": _to_json(node.metadata),
    }


def _to_json(metadata: Mapping[Any, Any], **options: Any) -> str:
    """`metadata` as JSON; what that does not know becomes text."""
    try:
        return json.dumps(dict(metadata), default=str, **options)
    except (TypeError, ValueError, RecursionError):  # keys such as tuples; what contains itself
        as_text = {str(key): str(value) for key, value in metadata.items()}
        return json.dumps(as_text, **options)


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
        json.loads(place["metadata"]),
    )
