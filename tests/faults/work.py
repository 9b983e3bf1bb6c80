"""What the processes of the kill test do, and how an index is looked over afterwards."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from rag.index import ingestion
from rag.index import store as store_module
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import Progress, ingest_file
from rag.index.retrieval import RetrieverMode, VectorIndexRetriever
from rag.index.store import ChromaStore

MODES: tuple[RetrieverMode, ...] = ("dense", "keyword", "hybrid")
REPLACED, REMOVED = "old.md", "gone.md"


class Embedding(HashEmbedding):
    """Takes its time, and gives tokens."""

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        time.sleep(0.05)
        return super().embed(texts)

    def embed_query(self, text: str) -> Embedded:
        vector = super().embed_query(text).vector
        return Embedded(vector, np.stack([vector, -vector]))


EMBEDDING = Embedding()


def take_in(store: ChromaStore, files: Sequence[Path], tell: Callable[[str], None]) -> None:
    for file in files:
        for event in ingest_file(
            file, file.name, store, EMBEDDING, max_bytes=10**9, read_timeout=60
        ):
            if isinstance(event, Progress):
                step = event.step
                tell("replacing" if (file.name, step) == (REPLACED, "storing") else step)


def work(folder: Path, files: Sequence[Path], pipe: Connection, die_at: int, after: bool) -> None:
    """Put files into the index in `folder` and take one out. Tells `pipe` the phases, and the calls
    that may be the last; this process dies before or after the call with the number `die_at`."""
    store_module.BATCH = 16
    store = ChromaStore(folder, EMBEDDING.name)
    calls = 0

    def counted(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            number, calls = calls, calls + 1
            pipe.send(f"call {type(owner).__name__} {getattr(owner, 'name', '')} {name}")
            if number == die_at and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments, **named)
            if number == die_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, call)

    for collection in (store._passages, store._documents):
        counted(collection, "upsert")
        counted(collection, "delete")
    for name in ("put", "embed", "finish", "remove"):
        counted(store._words, name)
    counted(store_module, "overwrite_unused")
    counted(ingestion, "load_isolated")
    counted(ingestion, "split")
    pipe.send("begun")
    take_in(store, files, pipe.send)
    pipe.send("removing")
    (gone,) = (record.id_ for record in store.documents() if record.name == REMOVED)
    store.delete(gone)
    store.close()
    pipe.send("done")


def examine(folder: Path) -> dict[str, list[str]]:
    """The texts of the passages of each document, by its name, in an index all of whose parts have
    to agree."""
    store = ChromaStore(folder, EMBEDDING.name)
    records = {record.key: record for record in store.documents()}
    passages = store._passages.get(include=["documents", "embeddings"])
    rows = zip(passages["ids"], passages["documents"], passages["embeddings"], strict=True)
    chroma = {id_: (text, vector) for id_, text, vector in rows}
    ids = [f"{key}:{n}" for key, record in records.items() for n in range(record.passages)]
    assert set(chroma) == set(ids)
    assert set(store._documents.get()["ids"]) - {store_module._CHANGED} == set(records)
    db = store._words._db
    assert db.execute("SELECT count(*), total(ready) FROM documents").fetchone() == (
        *(len(records), len(records)),
    )
    for table in ("passages", "words"):
        assert db.execute(f"SELECT count(*) FROM {table}").fetchone() == (len(ids),)
    db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    texts: dict[str, list[str]] = {}
    for key, first in store._words.numbers(records).items():
        record = records[key]
        found = store.passages(range(first, first + record.passages))
        assert [passage.node.ordinal for passage in found] == list(range(record.passages))
        for n, passage in enumerate(found):
            text, vector = chroma[f"{key}:{n}"]
            assert (passage.node.text, passage.node.document_id) == (text, record.id_)
            assert passage.vector is not None
            assert np.allclose(passage.vector, vector, atol=1e-3)
        assert record.name not in texts
        texts[record.name] = [passage.node.text for passage in found]
    everything = {text for each in texts.values() for text in each}
    for mode in MODES:
        for name, own in texts.items():
            hits = VectorIndexRetriever([store], EMBEDDING, 3, mode).retrieve(own[0])
            assert hits[0].text == own[0], (mode, name)
            assert {hit.text for hit in hits} <= everything
    assert not (folder / store_module.UNFINISHED).exists()
    store.close()
    return texts
