"""How surely passages are found: Rivulet beside its parts and beside LlamaIndex.

    python -m benchmarks.retrieval --data FOLDER [--limit N] [--answers N]

FOLDER has `squad/` and `cranfield/`, each with `corpus.jsonl` and `questions.jsonl`
(docs/evaluation.md). All compute with the same weights. LlamaIndex gets an environment of its own,
which is made once, in the user's cache folder.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
from platformdirs import user_cache_path

from benchmarks import takes_data
from rag.answering.defaults import Settings
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, Config, RetrieverMode
from rag.evaluation.files import Entry, Question, read_corpus, read_questions
from rag.evaluation.measuring import measure_answers, put_in, rank
from rag.evaluation.metrics import DEPTH, contains, mean, retrieval_figures
from rag.llms.catalog import load
from rag.weights import ensure

PEERS = {
    "LlamaIndex": (
        "llama-index-core==0.14.25",
        "llama-index-embeddings-huggingface==0.8.0",
        "llama-index-llms-huggingface==0.8.0",
    ),
    "llama.cpp": ("llama-cpp-python==0.3.36",),
}
"""What is compared with, and the packages it is installed from."""
FUSED = 50
"""Entries of each ranking that are fused."""
RANK_CONSTANT = 60
"""Of reciprocal-rank fusion (Cormack, Clarke, Büttcher 2009)."""

Rankings = list[list[str]]
"""For each question the ids of entries, the best first."""


def vectors_alone(entries: Sequence[Entry], questions: Sequence[Question]) -> Rankings:
    """Whole entries by the cosine of their vectors."""
    model = Settings.embed_model
    texts = [_whole(entry) for entry in entries]
    rows = [
        each.vector for n in range(0, len(texts), 32) for each in model.embed(texts[n : n + 32])
    ]
    matrix, ids = np.stack(rows), [entry.id_ for entry in entries]
    asked = np.stack([model.embed_query(question.text).vector for question in questions])
    return [[ids[n] for n in order[:FUSED]] for order in np.argsort(-(asked @ matrix.T), axis=1)]


def bm25_alone(entries: Sequence[Entry], questions: Sequence[Question]) -> Rankings:
    """Whole entries by FTS5's BM25 of any of the question's words."""
    db = sqlite3.connect(":memory:")
    db.execute("CREATE VIRTUAL TABLE words USING fts5(id UNINDEXED, text, tokenize='unicode61')")
    db.executemany(
        "INSERT INTO words VALUES (?, ?)", ((entry.id_, _whole(entry)) for entry in entries)
    )
    search = "SELECT id FROM words WHERE words MATCH ? ORDER BY bm25(words) LIMIT ?"
    rankings = []
    for question in questions:
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", question.text))
        rankings.append([id_ for (id_,) in db.execute(search, (words or '""', FUSED))])
    db.close()
    return rankings


def fused(*rankings: Sequence[str]) -> list[str]:
    """Reciprocal-rank fusion."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for place, entry in enumerate(ranking, 1):
            scores[entry] = scores.get(entry, 0) + 1 / (RANK_CONSTANT + place)
    return sorted(scores, key=lambda entry: -scores[entry])


def _whole(entry: Entry) -> str:
    return f"{entry.title}\n{entry.text}"


def rivulet(
    index: VectorStoreIndex, mode: RetrieverMode, questions: Sequence[Question]
) -> Rankings:
    return [
        rank(lambda top_k: index.as_retriever(top_k, mode), question.text) for question in questions
    ]


def llamaindex(
    entries: Sequence[Entry], questions: Sequence[Question], *, answers: bool = False
) -> list[Any]:
    """Rankings, or with `answers` the texts that its query engine answers with."""
    with TemporaryDirectory() as folder:
        task, result = Path(folder, "task.json"), Path(folder, "result.json")
        task.write_text(
            json.dumps(
                {
                    "entries": [[entry.id_, entry.title, entry.text] for entry in entries],
                    "questions": [question.text for question in questions],
                    "embed_model": str(weights(DEFAULT_EMBED_MODEL)),
                    "model": str(weights(DEFAULT_MODEL)) if answers else None,
                    "top_k": DEPTH,
                }
            )
        )
        script = Path(__file__).with_name("llamaindex_peer.py")
        subprocess.run([peer_python(), script, task, result], check=True, stdout=sys.stderr)
        found: list[Any] = json.loads(result.read_text())
        return found


def weights(model: str) -> Path:
    return ensure(model, Config.from_env().models_dir, lambda *_: None)


def peer_python(peer: str = "LlamaIndex") -> Path:
    """The Python of an environment with a peer, which sees what is installed here as well: torch
    need not be there twice. llama.cpp is compiled, which takes a C++ compiler and 10 to 20 minutes.
    """
    shared = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    state = "\n".join((*PEERS[peer], *shared, sys.version))
    digest = hashlib.sha256(state.encode()).hexdigest()[:12]
    folder = user_cache_path("rivulet") / f"{peer.lower()}-{digest}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = folder / "complete"
    if not complete.exists():
        _say(f"Installing {peer} into {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([python, "-c", asked], check=True, capture_output=True, text=True)
        Path(own.stdout.strip(), "shared.pth").write_text("\n".join(shared))
        pip: list[str | Path] = [python, "-m", "pip", "install", "-qq", *PEERS[peer]]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        complete.touch()
    return python


def rankings_of_all(
    entries: Sequence[Entry], questions: Sequence[Question], *, peer: bool
) -> Iterator[tuple[str, Rankings]]:
    """What is compared: its name, and its rankings."""
    _say("Vectors alone")
    dense = vectors_alone(entries, questions)
    yield "vectors alone", dense
    sparse = bm25_alone(entries, questions)
    yield "BM25 alone", sparse
    yield "reciprocal-rank fusion of both", list(map(fused, dense, sparse))
    if peer:
        _say("LlamaIndex")
        yield "LlamaIndex", llamaindex(entries, questions)
    index = VectorStoreIndex()
    _say("Rivulet")
    put_in(index, entries, lambda *_: None)
    for mode in reversed(get_args(RetrieverMode)):
        yield f"Rivulet, {mode}", rivulet(index, mode, questions)
    index.close()


def measure(folder: Path, limit: int | None, *, peer: bool) -> dict[str, dict[str, float]]:
    """The figures of all that is compared, by name."""
    entries, questions = _read(folder, limit)
    return {
        name: mean(
            [
                retrieval_figures(ranking[:DEPTH], question.grades)
                for ranking, question in zip(rankings, questions, strict=True)
            ]
        )
        for name, rankings in rankings_of_all(entries, questions, peer=peer)
    }


def _read(folder: Path, limit: int | None) -> tuple[list[Entry], list[Question]]:
    """A corpus, and the questions it answers."""
    entries = read_corpus(folder / "corpus.jsonl")
    questions = read_questions(folder / "questions.jsonl", {entry.id_ for entry in entries})
    return entries, [question for question in questions if question.is_searchable][:limit]


def measure_answers_of_both(folder: Path, limit: int) -> dict[str, float]:
    """The share of answers that contain a gold answer, by the default local model."""
    entries, questions = _read(folder, limit)
    config = Config()
    _say("Rivulet's answers")
    index = VectorStoreIndex()
    put_in(index, entries, lambda *_: None)
    llm = load(DEFAULT_MODEL, Config.from_env(), lambda *_: None)
    own = measure_answers(index, questions, "hybrid", llm, config, lambda *_: None)
    index.close()
    _say("LlamaIndex's answers")
    texts = llamaindex(entries, questions, answers=True)
    right = [contains(text, each.answers) for text, each in zip(texts, questions, strict=True)]
    return {"LlamaIndex": sum(right) / len(right), "Rivulet": own["contains"]}


def machine(*peers: str) -> str:
    """Date, processor, versions and what else there is to do, for the top of a table."""
    names = ("torch", "transformers", "chromadb")
    versions = [f"{name} {version(name)}" for name in names]
    versions += [f"SQLite {sqlite3.sqlite_version}"]
    versions += [each.replace("==", " ") for peer in peers for each in PEERS[peer]]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, {', '.join(versions)}. Load {os.getloadavg()[0]:.1f}."
    )


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)", info.read_text(), re.M) if info.exists() else None
    return found[1] if found else platform.processor() or platform.machine()


def table(columns: Mapping[str, Callable[[str], float]], rows: Sequence[str]) -> str:
    """A Markdown table: what each column says of each row."""
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    lines += [[row, *(f"{column(row):.3f}" for column in columns.values())] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.retrieval", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    takes_data(parser)
    parser.add_argument("--limit", type=int, metavar="N", help="the first N questions of each only")
    parser.add_argument(
        "--answers", type=int, metavar="N", help="compare N answers of the local model; it is slow"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave LlamaIndex out")
    options = parser.parse_args(arguments)
    squad = measure(options.data / "squad", options.limit, peer=not options.no_peer)
    cranfield = measure(options.data / "cranfield", options.limit, peer=not options.no_peer)
    names = ("recall@1", "recall@5", "recall@10", "mrr")
    columns: dict[str, Callable[[str], float]] = {
        f"SQuAD {name}": lambda row, name=name: squad[row][name]  # type: ignore[misc]
        for name in names
    }
    columns["Cranfield ndcg@10"] = lambda row: cranfield[row]["ndcg@10"]
    peers = () if options.no_peer else ("LlamaIndex",)
    print(f"{machine(*peers)}\n\n{table(columns, list(squad))}")
    if options.answers:
        shares = measure_answers_of_both(options.data / "squad", options.answers)
        name = f"contains, {options.answers} SQuAD questions"
        print(f"\n{table({name: lambda row: shares[row]}, list(shares))}")


if __name__ == "__main__":
    main()
