"""Passages and their vectors, in Chroma, with an index of their words beside it.

Two collections make one index: `passages` holds text, place and vector of every passage;
`documents` has one record for each document, and what it has decides: a document is in the index
when its record is there and not marked as removed. The passages of a document are those whose
identity begins with its record's `key`, and every writing of a document has a key of its own. So a
document comes, goes, or is replaced by the one call that writes a record; what a crash leaves of a
change is known by its marks; and nobody writes, or takes out, the passages of somebody else.

In a folder, one process at a time: two would write over each other's vectors. On a Chroma server
any number of processes; each has an index of words of its own, which follows the records. Of two
versions of a document that two processes have put in at the same time, the later one stays.
"""

import hashlib
import logging
import shutil
import time
import uuid
import weakref
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache, wraps
from itertools import count
from pathlib import Path
from threading import Lock, RLock
from typing import Any, Concatenate, ParamSpec, TypeVar
from weakref import WeakValueDictionary

import chromadb
import numpy as np
from chromadb.config import Settings
from chromadb.errors import InternalError, NotFoundError
from filelock import Timeout

from rag.errors import (
    DamagedIndexError,
    EmbeddingMismatchError,
    OutdatedIndexError,
    RemovedIndexError,
    RivuletError,
    StoreError,
)
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import Embedded, Vector
from rag.index.holding import hold, holder
from rag.index.keywords import DamagedError, KeywordIndex, Passage, Pending
from rag.index.memory import give_back, overwrite_unused, zeroed_memory
from rag.index.records import from_node, to_json, to_node
from rag.index.soundness import COLLECTIONS, look_over
from rag.types import Document, Node, NodeWithScore, counted

logger = logging.getLogger(__name__)

BATCH = 2_000
"""Passages written or removed at once; Chroma's own limit is some 5,000."""
READ = 10_000
"""Records read at once; SQLite's limit is some 32,000."""
REQUEST = 300
"""Records written to a server, or read from it, at once: the limit of Chroma Cloud."""
HNSW: Any = {
    "space": "cosine",
    "max_neighbors": 64,
    "ef_construction": 200,
    "ef_search": 1000,
}
"""How thoroughly the graph of vectors is built and searched. With Chroma's defaults a quarter of
the questions over passages that are much alike missed the passage they fit (docs/decisions.md)."""
EXACT = 2_500
"""Where only some documents are searched, which have no more passages than this together, all
their vectors are compared. Where they have more, so many nearest of the whole index are taken that
enough should be of them. Both are faster than Chroma's filter (docs/decisions.md)."""
WIDE = 2_000
"""How many are taken then at most; where it would take more, all vectors are compared as well."""
# Documents are never searched by nearness; Chroma wants a vector for every record.
_NO_VECTOR = [0.0]
FORMAT = 3
"""Of what is written; an index of another format cannot be read."""
UNFINISHED = "unfinished"
"""The file that is there while Chroma writes: what is left in memory then must not stay."""
LOCK = "lock"
"""The file that is locked by the process that has a folder open."""
_WRITING, _REMOVED = "writing:", "removed:"
"""Before the key of a document that is being written, or is no longer in the index."""
_CHANGED = "changed"
"""The record that is another whenever a document has come or gone."""
PATIENCE = 5.0
"""Seconds to wait for a folder that another process has open: it may be about to end."""
SAMPLES = 50
"""Passages whose own vector is searched for when an index is looked over."""
ABANDONED = 3600.0
"""Seconds after which a document that another process began to write to a server is taken out."""


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
    text_hash: str = ""
    """Changes with the text alone."""
    version: str = ""
    """Another one each time that it is written."""

    @property
    def key(self) -> str:
        """What the identities of its passages begin with."""
        return f"{self.version}:{self.id_}"


P = ParamSpec("P")
R = TypeVar("R")


def _while_open(
    method: Callable[Concatenate["ChromaStore", P], R],
) -> Callable[Concatenate["ChromaStore", P], R]:
    """Runs `method` in zeroed memory, once more where the index had to be opened anew. Raises
    StoreError when the index is closed, or its disk or server fails."""

    @wraps(method)
    def checked(store: "ChromaStore", /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not (store._close.alive or store._broken):
            raise StoreError(
                "This index was closed. Open it again, or close it after its last use."
            )
        with zeroed_memory(), _told_of(store._server or store._path):
            if store._broken:
                store._reconnect()
            client = store._client
            try:
                return method(store, *args, **kwargs)
            except AttributeError:
                if store._client is client and not store._broken:
                    raise
                # Another thread has closed the client meanwhile, to begin anew.
                return checked(store, *args, **kwargs)
            except NotFoundError:  # another process has removed the index
                if not store._server:
                    raise
                store._open_collections()
            except DamagedError as error:
                logger.warning("%s", error)
                store._words.renew()
            except InternalError:
                store._begin_anew()
                if store._broken:
                    raise
                # What Chroma opens while the folder is read-only stays so when that is over.
            store._folder.seen = None
            try:
                return method(store, *args, **kwargs)
            except InternalError:
                store._begin_anew()
                raise

    return checked


@contextmanager
def _told_of(place: ChromaServer | Path | None) -> Iterator[None]:
    """What goes wrong with a server or a folder, as a StoreError."""
    try:
        yield
    except RivuletError:
        raise
    except Exception as error:
        if isinstance(place, ChromaServer):  # Chroma's client raises all kinds
            raise StoreError(
                f"The Chroma server at {place.url} failed or cannot be reached: {error}. Start it "
                f"again, or correct CHROMA_URL; nothing that was stored is lost."
            ) from error
        if place and isinstance(error, InternalError | OSError):
            raise _unusable(place, "read or written", error) from error
        raise


def _unusable(folder: Path, what: str, error: Exception) -> StoreError:
    return StoreError(
        f"The index in {folder} cannot be {what}: {error}. Is the disk full, or the folder "
        f"read-only? If neither, see what python -m rag check says while nothing uses it, or "
        f"choose another folder (storage_dir in Python, RAG_DATA_DIR for the page). Nothing that "
        f"was stored is lost."
    )


class _Folder:
    """A folder that this process has open, alone, for as long as one of its stores is."""

    def __init__(self, path: Path | None, holds: tuple[ChromaServer | None, str]):
        self.changing = RLock()
        self.holds = holds
        """The index whose words are here."""
        self.seen: str | None = None
        """The last change that the words have followed; None: they have to."""
        self._lock = None
        if path:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = hold(path / LOCK, PATIENCE)
        try:
            if path and not holds[0]:
                look_over(path)
            self.words = KeywordIndex(path)
        except BaseException:
            if self._lock:
                self._lock.release()
            raise


_folders: WeakValueDictionary[Path, _Folder] = WeakValueDictionary()
_opening = RLock()


class ChromaStore:
    """One index in the folder `path`; in memory when None.

    With `server` its passages are there, in collections named after `name`, and only the index of
    words is in the folder. Raises EmbeddingMismatchError when the index was made by another
    embedding model than `embed_model`, OutdatedIndexError when it was by another version,
    DamagedIndexError when its files are not whole, and StoreError when the folder cannot be opened,
    another process has it open, or the server cannot be reached.
    """

    @zeroed_memory()
    def __init__(
        self,
        path: Path | None,
        embed_model: str,
        *,
        server: ChromaServer | None = None,
        name: str = "index",
    ):
        self._path = path and path.resolve()  # the working folder may change
        self._server = server
        self._name = name
        self._embed_model = embed_model
        self._broken = False
        """Chroma could not write, and has to be opened anew."""
        try:
            with _opening:
                self._open()
        except Timeout as error:
            raise StoreError(
                f"The index in {path} is in use by {holder(Path(error.lock_file))}. End that, or "
                f"choose another folder (storage_dir in Python, RAG_DATA_DIR for the page)."
            ) from error
        except RivuletError:
            raise
        except Exception as error:  # Chroma raises its own kinds and Rust's
            if not self._path:
                raise StoreError(f"No index can be made in memory: {error}.") from error
            raise _unusable(self._path, "opened", error) from error

    @contextmanager
    def adding(
        self, document: Document | StoredDocument, nodes: Sequence[Node]
    ) -> Iterator["Adding"]:
        """Put in a document, or one of another index, with its passages, in place of one with the
        same `id_`.

        From the beginning of the context the passages are found by their words, unless an older
        version of the document is there. Once all vectors are there, `commit` puts it in. A context
        that ends before leaves nothing behind.
        """
        adding = self._begin(document, nodes)
        try:
            yield adding
        finally:
            if not adding.committed and self._close.alive:
                with suppress(StoreError):  # the first error is to be told
                    self._words.remove([adding.pending.key])

    def add(
        self,
        document: Document | StoredDocument,
        nodes: Sequence[Node],
        embedded: Sequence[Embedded],
    ) -> None:
        """Put in a document with its passages at once; `embedded` belong to `nodes` one by one."""
        with self.adding(document, nodes) as adding:
            adding.take(embedded)
            adding.commit()

    @_while_open
    def delete(self, document_id: str) -> None:
        """Take out a document and its passages; nothing happens when it is not there."""
        with self._changing():
            self._follow()
            gone = self._records(document_id)
            if not gone:
                return
            self._write(_marks(gone))
            with self._followed():
                self._words.remove(gone)
            with self._or_later():
                self._clear(gone)

    @_while_open
    def documents(self) -> list[StoredDocument]:
        """The records of all documents, the newest first."""
        self._follow()
        return sorted(self._records().values(), key=lambda record: record.added, reverse=True)

    @_while_open
    def document(self, document_id: str) -> StoredDocument | None:
        """The record of one document; None when it is not there."""
        self._follow()
        return next(iter(self._records(document_id).values()), None)

    @_while_open
    def searchable(self, document_id: str) -> StoredDocument | None:
        """The record of the version of a document that is searched, which may not be wholly in."""
        self._follow()
        fields = self._words.searchable(document_id)
        return StoredDocument(**fields) if fields else None

    @_while_open
    def nodes(self, document_id: str, first: int = 0, last: int | None = None) -> list[Node]:
        """The passages of a document in their order: all, or those from the ordinal `first` to
        `last`."""
        self._follow()
        return self._words.nodes(document_id, first, last)

    @_while_open
    def nearest(
        self, vector: Vector, top_k: int, documents: Collection[str] | None = None
    ) -> dict[int, float]:
        """The `top_k` passages nearest to `vector`, the nearest first: their numbers and cosines.

        `documents` are identities: only these are searched.
        """
        self._follow()
        most = REQUEST if self._server else WIDE
        wanted = min(top_k, most)
        if documents is not None:
            size = self._words.count(documents)
            wanted = 3 * top_k * self._words.count() // max(size, 1)
            if size <= EXACT or wanted > most:
                return self._exact(vector, top_k, documents)
        while True:
            found = self._passages.query(
                query_embeddings=[np.asarray(vector, np.float32)],
                n_results=wanted,
                include=["distances"],
            )
            near = self._numbered(found["ids"][0], found["distances"][0], documents)
            if len(near) >= top_k or len(found["ids"][0]) < wanted:
                return dict(list(near.items())[:top_k])
            if documents is not None:
                return self._exact(vector, top_k, documents)
            if wanted >= most:
                return near
            wanted = min(4 * wanted, most)  # some are of a document that is on its way in or out

    @_while_open
    def matching(
        self, question: str, top_k: int, documents: Collection[str] | None = None
    ) -> dict[int, float]:
        """The `top_k` passages with words of `question`, the best first: their numbers and BM25."""
        self._follow()
        return self._words.search(question, top_k, documents)

    @_while_open
    def passages(self, numbers: Collection[int]) -> list[Passage]:
        """The passages with these numbers, of those that are still there."""
        return self._words.passages(numbers)

    @_while_open
    def keep(self, first: int, embedded: Sequence[Embedded]) -> None:
        """Keep what the passages from number `first` on were embedded to."""
        self._words.embed(first, embedded)

    def query(self, vector: Vector, top_k: int) -> list[NodeWithScore]:
        """The `top_k` passages nearest to `vector`, the nearest first, scored by cosine."""
        cosines = self.nearest(vector, top_k)
        found = {passage.number: passage.node for passage in self.passages(cosines)}
        return [
            NodeWithScore(found[number], cosine)
            for number, cosine in cosines.items()
            if number in found  # or it was removed meanwhile
        ]

    @_while_open
    def mend(self) -> tuple[list[str], list[str]]:
        """Read all of Chroma, and make it and the index of words agree where they do not. Nobody
        else may be writing.

        What was wrong: of what was mended, and of what was lost. Raises StoreError where the
        vectors cannot be read, or are not those that were written.
        """
        mended, lost = [], []
        with self._changing():
            self._folder.seen = None
            self._follow()
            records = self._records()
            marked = {id_ for found in self._batches(include=[]) for id_ in found["ids"]}
            known = {_bare(id_) for id_ in marked}
            there = self._read_passages()
            for key in known - records.keys() - {_CHANGED}:
                if fields := self._fields([key]).get(key):
                    record = StoredDocument(**fields)
                    self._write(_marks({key: record}))
                    self._clear([key])
                    lost.append(f"{record.name} was not whole, and was taken out. Add it again")
            for key, record in records.items():
                missing = [n for n in range(record.passages) if f"{key}:{n}" not in there]
                if missing:
                    self._put_again(record, missing)
                    what = counted(len(missing), "passage")
                    mended.append(f"{what} of {record.name} had no vector; put in again")
            strays = [id_ for id_ in there if id_.rpartition(":")[0] not in known | records.keys()]
            if (
                strays and not self._server
            ):  # there another process may be about to write its record
                for batch in self._slices(len(strays)):
                    self._passages.delete(strays[batch])
                what = counted(len(strays), "passage")
                mended.append(f"{what} that belonged to no document; taken out")
        return mended, lost

    def _read_passages(self) -> set[str]:
        """The identities of all passages in Chroma, whose vectors are those of the words."""
        there: set[str] = set()
        samples: list[Any] = []
        size = self._at_once(BATCH)
        for offset in count(0, size):
            found = self._passages.get(limit=size, offset=offset, include=["embeddings"])
            ids, vectors = found["ids"], found["embeddings"]
            there |= set(ids)
            first = self._words.numbers({id_.rpartition(":")[0] for id_ in ids})
            by_number = {}
            for id_, vector in zip(ids, vectors, strict=True):
                key, _, ordinal = id_.rpartition(":")
                if key in first:
                    by_number[first[key] + int(ordinal)] = vector
            for passage in self._words.passages(by_number):
                vector = by_number[passage.number]
                if passage.vector is not None and not np.allclose(
                    passage.vector, vector, atol=0.01
                ):
                    raise StoreError("The vectors in Chroma are not those that were written.")
            samples += list(vectors[:: max(1, len(vectors) // SAMPLES)])
            if len(ids) < size:
                break
        for vector in samples[:: max(1, len(samples) // SAMPLES)]:
            nearest = self._passages.query(
                query_embeddings=[vector], n_results=1, include=["distances"]
            )["distances"][0]
            if not nearest or not nearest[0] < 0.01:  # nor is it, where it is no number
                raise StoreError("The graph of vectors does not lead to what is in it.")
        return there

    def _put_again(self, record: StoredDocument, ordinals: Sequence[int]) -> None:
        """Give Chroma passages of a document as the index of words has them."""
        first = self._words.numbers([record.key])[record.key]
        for batch in self._slices(len(ordinals)):
            passages = self._words.passages([first + n for n in ordinals[batch]])
            vectors = [passage.vector for passage in passages if passage.vector is not None]
            if len(vectors) < len(ordinals[batch]):
                raise StoreError(f"{record.name} is not whole.")
            self._passages.upsert(
                [f"{record.key}:{passage.number - first}" for passage in passages],
                np.stack(vectors),
                [from_node(passage.node) for passage in passages],
                [passage.node.text for passage in passages],
            )

    def close(self) -> None:
        """Give back the files, threads and memory; the index must not be used afterwards."""
        self._close()
        for shared in ("_folder", "_words"):  # they end with the last store that has them
            vars(self).pop(shared, None)

    @_while_open
    def _begin(self, document: Document | StoredDocument, nodes: Sequence[Node]) -> "Adding":
        record = document if isinstance(document, StoredDocument) else _record(document, nodes)
        record = replace(record, version=uuid.uuid4().hex)
        self._follow()
        pending = self._words.put(document.id_, asdict(record), nodes)
        return Adding(self, record, nodes, pending, self._documents.id)

    @_while_open
    def _commit(self, adding: "Adding") -> None:
        record, key = adding.record, adding.record.key
        ids = [f"{key}:{node.ordinal}" for node in adding.nodes]
        places: Any = [from_node(node) for node in adding.nodes]
        texts = [node.text for node in adding.nodes]
        vectors: Any = adding.vectors
        with self._changing():
            self._follow()
            if adding.collection != self._documents.id:
                raise RemovedIndexError("Everything was removed meanwhile. Add it again.")
            older = self._records(record.id_)
            if any(other.content_hash == record.content_hash for other in older.values()):
                self._words.remove([adding.pending.key])  # it has come another way meanwhile
                return
            since = {"since": time.time(), "passages": record.passages}
            self._documents.upsert([_WRITING + key], _no_vectors(1), [since])
            try:
                for batch in self._slices(len(ids)):
                    self._passages.upsert(ids[batch], vectors[batch], places[batch], texts[batch])
                self._replace(record, older)
            except BaseException as error:
                self._folder.seen = None  # it may be in, and only the answer was lost
                if self._server or not isinstance(error, InternalError):
                    with suppress(Exception):  # or it is done when the index is next opened
                        if not self._documents.get([key], include=[])["ids"]:
                            self._take_back(key, record.passages)
                raise
            with self._followed():
                self._words.finish(adding.pending.key, key)
            with self._or_later():
                self._clear(older)
                self._documents.delete([_WRITING + key])

    def _replace(self, record: StoredDocument, older: Mapping[str, StoredDocument]) -> None:
        self._write({record.key: asdict(record)} | _marks(older))

    def _write(self, records: Mapping[str, Mapping[str, Any]]) -> None:
        """The one call by which documents are in, and others no longer."""
        ids = [*records, _CHANGED]
        change = {"change": uuid.uuid4().hex}
        self._documents.upsert(ids, _no_vectors(len(ids)), [*records.values(), change])

    @contextmanager
    def _or_later(self) -> Iterator[None]:
        """What fails here is done when the index is next opened."""
        try:
            yield
        except Exception as error:
            logger.warning("Removed passages are cleared when the index is next opened: %s", error)
            if isinstance(error, InternalError):
                with suppress(DamagedIndexError):  # the next use will tell
                    self._begin_anew()

    @contextmanager
    def _followed(self) -> Iterator[None]:
        """The words follow what was written; where that fails, before they are next used."""
        try:
            yield
        except BaseException:
            self._folder.seen = None
            raise

    def _clear(self, keys: Collection[str]) -> None:
        """Take out what is left of documents that are marked as removed."""
        for key in keys:
            found = self._documents.get([_REMOVED + key])["metadatas"]
            if found:
                self._remove_passages(key, found[0]["passages"])
                self._documents.delete([key])
                self._documents.delete([_REMOVED + key])

    def _take_back(self, key: str, passages: int) -> None:
        """Take out what is left of a document that was not wholly written."""
        self._remove_passages(key, passages)
        self._documents.delete([_WRITING + key])

    def _remove_passages(self, key: str, passages: int) -> None:
        ids = [f"{key}:{n}" for n in range(passages)]
        for batch in self._slices(passages):
            self._passages.delete(ids[batch])

    def _records(self, document_id: str | None = None) -> dict[str, StoredDocument]:
        records = self._words.records(document_id)
        return {key: StoredDocument(**fields) for key, fields in records.items()}

    def _exact(self, vector: Vector, top_k: int, documents: Collection[str]) -> dict[int, float]:
        """The same as `nearest`, by comparing all vectors of `documents`."""
        numbers, vectors = self._words.vectors(documents)
        if not numbers:
            return {}
        # Not a product of BLAS, whose threads wait for each other.
        cosines = np.einsum("nd,d->n", vectors, np.asarray(vector, np.float32))
        order = np.argsort(-cosines)[:top_k]
        return {numbers[n]: float(cosines[n]) for n in order}

    def _numbered(
        self, ids: Sequence[str], distances: Sequence[float], documents: Collection[str] | None
    ) -> dict[int, float]:
        """The passages that Chroma found by their numbers, with their cosines; without those of
        documents that are not in the index, or not among `documents`."""
        places = [id_.rpartition(":") for id_ in ids]
        first = self._words.numbers({key for key, _, _ in places}, documents)
        return {
            first[key] + int(ordinal): 1.0 - distance
            for (key, _, ordinal), distance in zip(places, distances, strict=True)
            if key in first
        }

    def _follow(self) -> None:
        """See what other processes have written to the server."""
        folder = self._folder
        if not self._server and folder.seen is not None:
            return
        with folder.changing:
            found = self._documents.get([_CHANGED], include=["metadatas"])["metadatas"]
            change = found[0]["change"] if found else ""
            if change != folder.seen:
                self._mirror()
                folder.seen = change

    def _mirror(self) -> None:
        """Make the index of words hold the documents that Chroma has, and no others."""
        ids = [id_ for found in self._batches(include=[]) for id_ in found["ids"]]
        removed = {id_.removeprefix(_REMOVED) for id_ in ids if id_.startswith(_REMOVED)}
        there = {id_ for id_ in ids if not id_.startswith((_REMOVED, _WRITING, _CHANGED))} - removed
        there -= self._beaten(there)
        known = self._words.records().keys()
        self._words.remove(known - there)
        for key, fields in self._fields(list(there - known)).items():
            self._fetch(key, fields)

    def _beaten(self, keys: Collection[str]) -> set[str]:
        """Of documents that are there in more than one version, all but the newest; these are taken
        out."""
        versions = defaultdict(list)
        for key in keys:
            versions[key.partition(":")[2]].append(key)
        several = [versions_ for versions_ in versions.values() if len(versions_) > 1]
        fields = self._fields([key for versions_ in several for key in versions_])
        beaten: dict[str, StoredDocument] = {}
        for versions_ in several:
            there = fields.keys() & versions_
            older = sorted(there, key=lambda key: (fields[key]["added"], key))[:-1]
            beaten |= {key: StoredDocument(**fields[key]) for key in older}
        if beaten:
            self._write(_marks(beaten))
            with self._or_later():
                self._clear(beaten)
        return set(beaten)

    def _fields(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The records of documents as Chroma has them."""
        fields: dict[str, dict[str, Any]] = {}
        for batch in self._slices(len(keys)):
            found = self._documents.get(keys[batch], include=["metadatas"])
            fields |= dict(zip(found["ids"], found["metadatas"], strict=True))
        return fields

    def _fetch(self, key: str, fields: Mapping[str, Any]) -> None:
        """Take a document of Chroma's into the index of words."""
        nodes: list[Node] = []
        vectors: list[Vector] = []
        ids = [f"{key}:{n}" for n in range(fields["passages"])]
        for batch in self._slices(len(ids)):
            found = self._passages.get(ids[batch], include=["documents", "metadatas", "embeddings"])
            rows = zip(found["documents"], found["metadatas"], found["embeddings"], strict=True)
            for text, place, vector in rows:
                nodes.append(to_node(text, place))
                vectors.append(vector)
        order = sorted(range(len(nodes)), key=lambda n: nodes[n].ordinal)
        if len(order) < fields["passages"]:
            return  # it is being removed
        pending = self._words.put(fields["id_"], fields, [nodes[n] for n in order])
        none = np.empty((0, 0), np.float32)
        self._words.embed(pending.first, [Embedded(vectors[n], none) for n in order])
        self._words.finish(pending.key, key)

    def _recover(self) -> None:
        """Take out what a crash has left: of a folder at once, as nobody else has it; on a server
        what is so old that nobody is still writing it."""
        marked = {}
        for found in self._batches(include=["metadatas"]):
            for id_, fields in zip(found["ids"], found["metadatas"], strict=True):
                if id_.startswith((_REMOVED, _WRITING)):
                    marked[id_] = fields
        for id_, fields in marked.items():
            if id_.startswith(_REMOVED):
                self._clear([id_.removeprefix(_REMOVED)])
                continue
            key = id_.removeprefix(_WRITING)
            if self._documents.get([key], include=[])["ids"]:  # it was whole
                self._documents.delete([id_])
            elif not self._server or time.time() - fields["since"] > ABANDONED:
                self._take_back(key, fields["passages"])

    def _open(self) -> None:
        holds = (self._server, self._name)
        folder = _folders.get(self._path) if self._path else None
        is_new = folder is None
        folder = folder or _Folder(self._path, holds)
        if folder.holds != holds:
            raise StoreError(
                f"The folder {self._path} is in use for another index. Choose another one."
            )
        if self._path:
            _folders[self._path] = folder
        self._folder = folder
        self._words = folder.words
        with _told_of(self._server):
            self._connect()
            try:
                self._open_collections()
                if is_new:
                    self._words.drop_pending()
                    self._recover()
                    self._follow()
                    if self._path and (self._path / UNFINISHED).exists():
                        self._end_writing(self._path)
            except BaseException:
                self.close()
                raise

    def _connect(self) -> None:
        settings = _settings().model_copy()
        own: Sequence[str] = ()
        suffix = ""
        if self._server:
            client, suffix = self._server.connect(), f"-{self._name}"
        elif self._path:
            client = _in_folder(self._path, settings)
        else:
            # Clients in memory share one store: the name keeps indexes apart there.
            client, suffix = chromadb.EphemeralClient(settings), f"-{uuid.uuid4().hex}"
            own = tuple(name + suffix for name in COLLECTIONS)
        self._client: Any = client
        self._suffix = suffix
        # A store that is dropped gives back what it holds, as one that is closed.
        self._close = weakref.finalize(self, _release, client, own, self._folder)
        self._close.atexit = False  # nothing is left to be written then

    def _begin_anew(self) -> None:
        """Reconnect, or do so before the next use where that is not possible now. Raises
        DamagedIndexError where it will not be possible then either."""
        self._broken = True
        try:
            self._reconnect()
        except DamagedIndexError:
            raise
        except StoreError as error:
            logger.warning("%s", error)

    def _reconnect(self) -> None:
        """Begin anew with a folder in which Chroma could not write: it keeps a lock then, for which
        its next call would wait for ever. Raises StoreError where that cannot be, such as on a disk
        that is still full; DamagedIndexError where its files are not whole."""
        if self._server or not self._path:
            self._broken = False
            return
        with self._folder.changing:
            if not self._broken:  # another thread has been here
                return
            try:
                self._close()
                look_over(self._path)
                self._connect()
                self._open_collections()
            except RivuletError:
                raise
            except Exception as error:
                raise _unusable(self._path, "opened", error) from error
            self._folder.seen = None
            self._broken = False

    def _open_collections(self) -> None:
        made = {"embed_model": self._embed_model, "format": FORMAT}
        self._passages, self._documents = (
            self._client.get_or_create_collection(
                name + self._suffix,
                embedding_function=None,
                configuration=configuration,
                metadata=metadata,
            )
            for name, configuration, metadata in zip(
                *(COLLECTIONS, ({"hnsw": HNSW}, None), (made, None)), strict=True
            )
        )
        place = self._server.url if self._server else self._path
        about = self._passages.metadata or {}
        if about.get("format") != FORMAT:
            raise OutdatedIndexError(
                f"The index in {place} was made by another version of Rivulet. Start that version, "
                f'or remove the index ("Forget everything" on the page, the folder itself from '
                f"Python) and add the documents again."
            )
        if about.get("embed_model") != self._embed_model:
            made_with = str(about.get("embed_model"))
            again = (
                "remove the index and add the documents again"
                if self._server
                else "embed everything again: python -m rag reembed, while the page is not running "
                "(with --storage-dir for a folder of your own)"
            )
            raise EmbeddingMismatchError(
                f"The index in {place} was made with the embedding model {made_with}, but "
                f"{self._embed_model} is set. Set RAG_EMBED_MODEL={made_with} (embed_model in "
                f"Python), or {again}.",
                made_with,
            )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One change at a time; what Chroma leaves uncleared in its files is cleared after it."""
        with self._folder.changing:
            embedded = self._path if not self._server else None
            if embedded:
                (embedded / UNFINISHED).touch()
            try:
                yield
            finally:
                if embedded:
                    self._end_writing(embedded)

    def _end_writing(self, folder: Path) -> None:
        overwrite_unused(folder)
        (folder / UNFINISHED).unlink()

    def _at_once(self, records: int) -> int:
        return min(records, REQUEST) if self._server else records

    def _slices(self, length: int) -> Iterator[slice]:
        size = self._at_once(BATCH)
        return (slice(begin, begin + size) for begin in range(0, length, size))

    def _batches(self, **which: Any) -> Iterator[Any]:
        """All of the collection of documents, as many at a time as can be read."""
        size = self._at_once(READ)
        for offset in count(0, size):
            found = self._documents.get(limit=size, offset=offset, **which)
            yield found
            if len(found["ids"]) < size:
                return


class Adding:
    """A document on its way into a store; see `ChromaStore.adding`."""

    def __init__(
        self,
        store: ChromaStore,
        record: StoredDocument,
        nodes: Sequence[Node],
        pending: Pending,
        collection: uuid.UUID,
    ):
        self.record = record
        self.nodes = nodes
        self.pending = pending
        self.collection = collection
        """Where it is going; another one when the index was removed meanwhile."""
        self.vectors: list[Vector] = []
        self.committed = False
        self._store = store

    def take(self, embedded: Sequence[Embedded]) -> None:
        """What the next passages were embedded to."""
        self._store.keep(self.pending.first + len(self.vectors), embedded)
        self.vectors += [each.vector for each in embedded]
        give_back()

    def commit(self) -> None:
        """Put the document in, wholly or not at all."""
        self._store._commit(self)
        self.committed = True


class Glance:
    """Sees which indexes a server has, and makes none. Keeps one connection."""

    def __init__(self, server: ChromaServer):
        self._server = server
        self._client: Any = None
        self._opening = Lock()

    def has_documents(self, name: str) -> bool:
        """Whether there is a document, or the beginnings of one, in the index of this name. Raises
        StoreError."""
        with _told_of(self._server):
            with self._opening:
                self._client = self._client or self._server.connect()
            try:
                documents = self._client.get_collection(
                    f"{COLLECTIONS[1]}-{name}", embedding_function=None
                )
                return bool(documents.count() > 1)  # one record tells of changes
            except NotFoundError:
                return False

    def close(self) -> None:
        """Give back the connection."""
        if self._client:
            self._client.close()
            self._client = None


@cache
def _settings() -> Settings:
    """Made once: to look for each in the environment takes a fifth of opening an index."""
    return Settings(anonymized_telemetry=False)


def _bare(id_: str) -> str:
    """The key of a document in the identity of its record, or of a mark of it."""
    return id_.removeprefix(_REMOVED).removeprefix(_WRITING)


def destroy(path: Path, server: ChromaServer | None = None, name: str = "index") -> None:
    """Remove an index that nobody has open, from the disk and from the server."""
    if server:
        with _told_of(server):
            client = server.connect()
            for collection in COLLECTIONS:
                with suppress(NotFoundError):
                    client.delete_collection(f"{collection}-{name}")
    shutil.rmtree(path, ignore_errors=True)


def _record(document: Document, nodes: Sequence[Node]) -> StoredDocument:
    return StoredDocument(
        document.id_,
        document.name,
        len(document.page_starts),
        len(nodes),
        len(document.text),
        time.time(),
        content_hash(document),
        document.text_hash,
    )


def content_hash(document: Document) -> str:
    """A hash that changes with the document's text, its pages and its metadata."""
    metadata = to_json(document.metadata, sort_keys=True)
    content = "\0".join((document.text, str(document.page_starts), metadata))
    return hashlib.sha256(content.encode()).hexdigest()[:32]


def _marks(gone: Mapping[str, StoredDocument]) -> dict[str, dict[str, Any]]:
    """What marks documents as removed."""
    return {_REMOVED + key: {"passages": record.passages} for key, record in gone.items()}


def _no_vectors(number: int) -> Any:
    return [_NO_VECTOR] * number


def _in_folder(path: Path, settings: Settings) -> Any:
    try:
        return chromadb.PersistentClient(path, settings)
    except BaseException:
        # Chroma keeps what did not start, for the next client of this folder: that fails for this
        # alone, and lets go of it.
        with suppress(Exception):
            left: Any = chromadb.PersistentClient(path, settings)
            left.close()
        raise


@zeroed_memory()
def _release(client: Any, collections: Sequence[str], folder: _Folder | None) -> None:  # noqa: ARG001
    """Ends what a store holds; the folder is given back with the last store that holds it."""
    for name in collections:  # in memory they would stay as long as the process
        client.delete_collection(name)
    client.close()
