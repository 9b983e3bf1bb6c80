"""How long a search takes in a large index, and where the time goes.

    python -m benchmarks.search [--passages 100000] [--folder FOLDER]

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
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from rag.index import retrieval
from rag.index.embedding import Embedded
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.types import Document, Node

EVAL = Path(__file__).resolve().parents[2] / "shared" / "eval"
TOKENS = 160
STEP = 1_000
SIZES = (10_000,) * 5 + (1_000,) * 40 + (100,) * 100
"""Passages of the documents, for an index of 100,000; a smaller one has the same in proportion."""


def main() -> None:
    parser = argparse.ArgumentParser(description="How long a search takes in a large index.")
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="where the index is, or is to be made and kept")
    parser.add_argument("--eval", type=Path, default=EVAL)
    asked = parser.parse_args()
    embedding = HuggingFaceEmbedding()
    questions = random.Random(1).sample(list(_questions(asked.eval)), asked.questions)
    with tempfile.TemporaryDirectory() as scratch:
        index = ChromaStore(asked.folder or Path(scratch), embedding.name)
        if not index.documents():
            fill(index, embedding, asked.eval, asked.passages / sum(SIZES))
        measure(index, embedding, questions)
        index.close()


def fill(index: ChromaStore, embedding: HuggingFaceEmbedding, path: Path, scale: float) -> None:
    sentences = list(sentences(path))
    begun = time.perf_counter()
    embedded = embedding.embed(sentences)
    print(f"{len(sentences)} sentences embedded in {time.perf_counter() - begun:.0f} s", flush=True)
    rng = random.Random(0)
    there = 0
    for number, size in enumerate(SIZES):
        size = max(int(size * scale), 1)
        passages = [_passage(sentences, embedded, rng) for _ in range(size)]
        document = Document("", {"file_name": f"{number:03}.txt"}, id_=f"{number:03}-{size}")
        nodes = [
            Node(text, document.id_, n, 600 * n, document.name)
            for n, (text, _) in enumerate(passages)
        ]
        begun = time.perf_counter()
        with index.adding(document, nodes) as adding:
            for at in range(0, size, STEP):
                adding.take([each for _, each in passages[at : at + STEP]])
            middle = time.perf_counter()
            adding.commit()
        end = time.perf_counter()
        there += size
        if size * 1000 >= 10_000 * scale * 100 or number == len(SIZES) - 1:
            print(
                f"{there:7} passages: the last {size} took {middle - begun:.1f} s in SQLite, "
                f"{end - middle:.1f} s in Chroma ({size / (end - middle):.0f} a second)",
                flush=True,
            )


def measure(index: ChromaStore, embedding: HuggingFaceEmbedding, questions: list[str]) -> None:
    records = index.documents()
    records.sort(key=lambda record: (record.passages, record.id_))
    ids = [record.id_ for record in records]
    filters: dict[str, list[str] | None] = {
        "all": None,
        "1 document": ids[:1],
        "10 documents": ids[:10],
        "2 large ones": ids[-2:],
    }
    counts = {record.id_: record.passages for record in records}
    for name, documents in filters.items():
        size = sum(counts[id_] for id_ in documents or ids)
        print(f"\n{name}: {size} of {sum(counts.values())} passages")
        retriever = VectorIndexRetriever([index], embedding, 4, doc_ids=documents)
        times: dict[str, list[float]] = {}
        with ExitStack() as stack:
            for phase, owner, method in (
                ("embed question", HuggingFaceEmbedding, "embed_query"),
                ("Chroma", ChromaStore, "nearest"),
                ("FTS5", ChromaStore, "matching"),
                ("passages", ChromaStore, "passages"),
                ("MaxSim", retrieval, "late_interaction"),
                ("whole", VectorIndexRetriever, "retrieve"),
            ):
                stack.enter_context(timed(owner, method, times.setdefault(phase, [])))
            for question in questions:
                retriever.retrieve(question)
        for phase, seconds in times.items():
            p50, p95 = np.percentile(seconds, (50, 95))
            print(
                f"  {phase:15} p50 {p50 * 1e3:6.1f}  p95 {p95 * 1e3:6.1f}"
                f"  max {max(seconds) * 1e3:6.1f} ms"
            )


@contextmanager
def timed(owner: Any, method: str, seconds: list[float]) -> Iterator[None]:
    original: Callable[..., Any] = getattr(owner, method)

    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            seconds.append(time.perf_counter() - begun)

    with patch.object(owner, method, timed):
        yield


def _passage(
    sentences: list[str], embedded: list[Embedded], rng: random.Random
) -> tuple[str, Embedded]:
    first = rng.randrange(len(sentences) - 2)
    places = [first, first + 1, first + 2, *rng.choices(range(len(sentences)), k=2)]
    vector = np.sum([embedded[place].vector for place in places], 0)
    tokens = np.concatenate([embedded[place].tokens for place in places])[:TOKENS]
    text = " ".join(sentences[place] for place in places)
    return text, Embedded(vector / np.linalg.norm(vector), tokens)


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
