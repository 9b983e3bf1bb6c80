"""How long a search takes in a large index, and where the time goes.

    python -m benchmarks.search --data FOLDER [--passages 100000] [--folder FOLDER]

The index is made of sentences of the evaluation texts, each embedded by the real model: a passage
is three sentences that follow each other and two from elsewhere, its vector the sum of theirs, its
tokens theirs. So words, vectors and tokens are distributed as real ones are, and no two passages
are alike, without embedding 100,000 of them. With --folder the index is kept, and used again.
"""

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks import takes_data
from rag.index import retrieval
from rag.index.embedding import Embedded, Vector
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.types import Document, Node

TOKENS = 160
STEP = 1_000
Times = list[tuple[float, float]]
"""Seconds, and seconds of the processor, which others on the machine disturb less."""
SIZES = (10_000,) * 5 + (1_000,) * 40 + (100,) * 100
"""Passages of the documents, for an index of 100,000; a smaller one has the same in proportion."""


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a search takes in a large index.")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the index is, or is to be made and kept")
    takes_data(parser)
    asked = parser.parse_args()
    embedding = HuggingFaceEmbedding()
    questions = random.Random(1).sample(list(_questions(asked.data)), asked.questions)
    with tempfile.TemporaryDirectory() as scratch:
        index = ChromaStore(asked.folder or Path(scratch), embedding.name)
        if not index.documents():
            fill(index, embedding, asked.data, asked.passages / sum(SIZES))
        measure(index, embedding, questions)
        index.close()


def fill(index: ChromaStore, embedding: HuggingFaceEmbedding, path: Path, scale: float) -> None:
    texts = list(sentences(path))
    embedded = embedding.embed(texts)
    rng = random.Random(0)
    there = 0
    for number, size in enumerate(SIZES):
        size = max(int(size * scale), 1)
        document = Document("", {"file_name": f"{number:03}.txt"}, id_=f"{number:03}-{size}")
        places = [_places(len(texts), rng) for _ in range(size)]
        nodes = [
            Node(" ".join(texts[n] for n in five), document.id_, at, 600 * at, document.name)
            for at, five in enumerate(places)
        ]
        begun = time.perf_counter()
        with index.adding(document, nodes) as adding:
            for at in range(0, size, STEP):
                adding.take([_joined(embedded, five) for five in places[at : at + STEP]])
            middle = time.perf_counter()
            adding.commit()
        end = time.perf_counter()
        there += size
        if number % 10 < 5 and number < 50:
            print(
                f"{there:7} passages: the last {size} took {middle - begun:.1f} s in SQLite, "
                f"{end - middle:.1f} s in Chroma ({size / (end - middle):.0f} a second)",
                flush=True,
            )


def measure(index: ChromaStore, embedding: HuggingFaceEmbedding, questions: list[str]) -> None:
    counts = {record.id_: record.passages for record in index.documents()}
    ids = sorted(counts, key=lambda id_: (counts[id_], id_))
    filters = {
        "all": None,
        "1 document": ids[:1],
        "10 documents": ids[:10],
        "1 large document": ids[-1:],
        "2 large documents": ids[-2:],
    }
    vectors = [embedding.embed_query(question).vector for question in questions]
    for name, documents in filters.items():
        size = sum(counts[id_] for id_ in documents or ids)
        print(f"\n{name}: {size} of {sum(counts.values())} passages")
        retriever = VectorIndexRetriever([index], embedding, 4, doc_ids=documents)
        times: dict[str, Times] = {}
        with ExitStack() as stack:
            for phase, owner, method in (
                ("embed question", HuggingFaceEmbedding, "embed_query"),
                ("nearest", ChromaStore, "nearest"),
                ("FTS5", ChromaStore, "matching"),
                ("passages", ChromaStore, "passages"),
                ("MaxSim", retrieval, "late_interaction"),
                ("whole", VectorIndexRetriever, "retrieve"),
            ):
                stack.enter_context(timed(owner, method, times.setdefault(phase, [])))
            for question in questions:
                retriever.retrieve(question)
        times["(Chroma alone)"] = _chroma(index, vectors, documents)
        for phase, taken in times.items():
            wall, processor = np.array(taken).T * 1e3
            p50, p95 = np.percentile(wall, (50, 95))
            cpu50, cpu95 = np.percentile(processor, (50, 95))
            print(
                f"  {phase:15} p50 {p50:6.1f}  p95 {p95:6.1f}  max {wall.max():6.1f} ms"
                f"   of the processor: p50 {cpu50:6.1f}  p95 {cpu95:6.1f} ms"
            )


def _chroma(
    index: ChromaStore, vectors: Sequence[Vector], documents: Sequence[str] | None
) -> Times:
    """Chroma with its own filter and nothing around it, for comparison."""
    where: Any = {"document_id": {"$in": documents}} if documents else None
    times: Times = []
    with timed(index._passages, "query", times):
        for vector in vectors:
            index._passages.query(
                query_embeddings=[vector], n_results=50, where=where, include=["distances"]
            )
    return times


@contextmanager
def timed(owner: Any, method: str, times: Times) -> Iterator[None]:
    """Puts into `times` what every call of `method` takes."""
    original: Callable[..., Any] = getattr(owner, method)

    def noted(*args: Any, **kwargs: Any) -> Any:
        begun, processor = time.perf_counter(), time.process_time()
        try:
            return original(*args, **kwargs)
        finally:
            times.append((time.perf_counter() - begun, time.process_time() - processor))

    with patch.object(owner, method, noted):
        yield


def _places(count: int, rng: random.Random) -> list[int]:
    first = rng.randrange(count - 2)
    return [first, first + 1, first + 2, *rng.choices(range(count), k=2)]


def _joined(embedded: Sequence[Embedded], places: Sequence[int]) -> Embedded:
    vector = np.sum([embedded[place].vector for place in places], 0)
    tokens = np.concatenate([embedded[place].tokens for place in places])[:TOKENS]
    return Embedded(vector / np.linalg.norm(vector), tokens)


def sentences(path: Path) -> Iterator[str]:
    for line in _lines(path, "corpus"):
        yield from (each for each in re.split(r"(?<=[.!?]) +", line["text"]) if len(each) > 20)


def _questions(path: Path) -> Iterator[str]:
    return (line["question"] for line in _lines(path, "questions"))


def _lines(path: Path, name: str) -> Iterator[dict[str, Any]]:
    for file in sorted(path.glob(f"*/{name}.jsonl")):
        yield from map(json.loads, file.read_text("utf-8").splitlines())


if __name__ == "__main__":
    main()
