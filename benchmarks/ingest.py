"""What taking documents in costs: passages a second, time until searchable, memory, removal.

    python -m benchmarks.ingest --data FOLDER [--peer PYTHON] [--only embedding text memory removal]

`--peer` is a Python with llama-index-embeddings-huggingface; without it there is no comparison.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import takes_data
from benchmarks.search import Times, sentences, timed
from rag.config import Config
from rag.index import ingestion
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.index.ingestion import EMBED_STEP, Ingested, Searchable, ingest_file
from rag.index.store import ChromaStore
from rag.types import Document, Node

ROUNDS = 5
LINES, LINE = 45, 80
"""Of a page of the PDF; a line in characters."""
LIMITS = {"max_bytes": 10**9, "read_timeout": 600.0}

PEER = """
import json, sys, time
from llama_index.embeddings.huggingface import HuggingFaceEmbedding
model = HuggingFaceEmbedding(sys.argv[1], device="cpu")
texts = json.loads(sys.stdin.readline())
model.get_text_embedding_batch(texts)
for _ in sys.stdin:
    begun = time.perf_counter()
    model.get_text_embedding_batch(texts)
    print(time.perf_counter() - begun, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="What taking documents in costs.")
    parser.add_argument("--peer", help="a Python with llama-index-embeddings-huggingface")
    takes_data(parser)
    parser.add_argument("--pages", type=int, default=1_000)
    parts = ("embedding", "text", "memory", "removal")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    asked = parser.parse_args()
    texts = list(sentences(asked.data))
    print(f"load of this machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if "embedding" in asked.only:
            embedding_speed(texts, asked.peer)
        if "text" in asked.only:
            until_searchable(texts, folder)
        if "memory" in asked.only:
            memory(texts, folder, asked.pages)
        if "removal" in asked.only:
            removal(texts, folder)


def embedding_speed(texts: list[str], peer: str | None) -> None:
    """Rounds of this and of LlamaIndex in turn, so that both have the same machine."""
    words = " ".join(texts).split()
    passages = [" ".join(words[at : at + 115]) for at in range(0, 115 * 96, 115)]
    ours = HuggingFaceEmbedding()
    seconds: list[float] = []
    peers: list[float] = []

    def embed() -> None:
        for at in range(0, len(passages), EMBED_STEP):
            ours.embed(passages[at : at + EMBED_STEP])

    embed()
    with ExitStack() as stack:
        other = None
        if peer:
            weights = Config.from_env().models_dir / ours.name.replace("/", "--")
            other = stack.enter_context(_conversation([peer, "-c", PEER, str(weights)]))
            _tell(other, json.dumps(passages))
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            embed()
            seconds.append(time.perf_counter() - begun)
            if other:
                _tell(other, "")
                peers.append(float(_hear(other)))
    print(f"(b) {len(passages) / median(seconds):.0f} passages of 115 words embedded a second")
    if peers:
        ratios = sorted(peer / our for peer, our in zip(peers, seconds, strict=True))
        print(
            f"    LlamaIndex {len(passages) / median(peers):.0f}; {median(ratios):.2f} times as "
            f"many ({ratios[0]:.2f} to {ratios[-1]:.2f} in {ROUNDS} rounds)"
        )


def until_searchable(texts: list[str], folder: Path) -> None:
    """A text file of 1 MB, as a page of its own would be uploaded, until its words are found."""
    path = folder / "text.txt"
    path.write_text(_prose(texts, 1_000_000), "utf-8")
    embedding = HuggingFaceEmbedding()
    embedding.embed(texts[:8])
    phases: dict[str, Times] = {"reading": [], "splitting": [], "words": []}
    whole = []
    for number in range(3):
        store = ChromaStore(folder / f"text{number}", embedding.name)
        with ExitStack() as stack:
            stack.enter_context(timed(ingestion, "split", phases["splitting"]))
            stack.enter_context(timed(ChromaStore, "_begin", phases["words"]))
            begun = time.perf_counter()
            events = ingest_file(path, path.name, store, embedding, **LIMITS)
            for event in events:
                if isinstance(event, Searchable):
                    break
                if event.step == "splitting":
                    phases["reading"].append((time.perf_counter() - begun, 0))
            whole.append(time.perf_counter() - begun)
            events.close()
        store.close()
    told = ", ".join(f"{phase} {sorted(taken)[1][0]:.2f}" for phase, taken in phases.items())
    print(f"(c) 1 MB of text searchable after {median(whole):.2f} s: {told} (median of 3)")


def memory(texts: list[str], folder: Path, pages: int) -> None:
    """The server's process and its workers while a long PDF goes in."""
    path = folder / "long.pdf"
    _pdf(texts, path, pages)
    child = "from benchmarks.ingest import ingesting; ingesting()"
    command = [sys.executable, "-c", child, str(path), str(folder / "pdf")]
    with _conversation(command) as process:
        idle_at = _hear(process)
        idle = peak = _pss(process.pid)
        steps: dict[str, float] = {}
        step = idle_at
        _tell(process, "")
        begun = time.perf_counter()
        heard: list[str] = []
        reader = threading.Thread(target=lambda: heard.extend(iter(process.stdout.readline, "")))
        reader.start()
        while reader.is_alive():
            step = heard[-1].strip() if heard else step
            now = _pss(process.pid)
            steps[step] = max(steps.get(step, 0), now)
            peak = max(peak, now)
            time.sleep(0.1)
        seconds = time.perf_counter() - begun
    above = ", ".join(f"{step} {most - idle:.0f}" for step, most in steps.items() if step)
    print(
        f"(d) PDF of {pages} pages ({path.stat().st_size / 1e6:.1f} MB): at most {peak - idle:.0f}"
        f" MB above the {idle:.0f} MB before ({above}); in after {seconds:.0f} s"
    )


def ingesting() -> None:
    """The process whose memory is measured."""
    path, folder = map(Path, sys.argv[1:])
    embedding = HuggingFaceEmbedding()
    embedding.embed_query("Is it warm?")
    store = ChromaStore(folder, embedding.name)
    print("idle", flush=True)
    sys.stdin.readline()
    for event in ingest_file(path, path.name, store, embedding, **LIMITS):
        print(getattr(event, "step", type(event).__name__), flush=True)
        assert isinstance(event, ingestion.Progress | Searchable | Ingested), event


def removal(texts: list[str], folder: Path, passages: int = 10_000) -> None:
    """A document of 10,000 passages, with made-up vectors, beside another one."""
    rng = np.random.default_rng(0)
    store = ChromaStore(folder / "removal", HashEmbedding.name)
    for name, count in (("small", 1_000), ("large", passages)):
        document = Document("", {"file_name": name}, id_=name)
        prose = _prose(texts, 640 * count)
        nodes = [Node(prose[640 * n : 640 * (n + 1)], name, n, 640 * n, name) for n in range(count)]
        begun = time.perf_counter()
        with store.adding(document, nodes) as adding:
            for _ in range(0, count, 100):
                vectors = rng.standard_normal((100, 384), np.float32)
                vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
                tokens = rng.standard_normal((150, 384), np.float32)
                adding.take([Embedded(vector, tokens) for vector in vectors])
            adding.commit()
        stored = time.perf_counter() - begun
    begun = time.perf_counter()
    store.delete("large")
    seconds = time.perf_counter() - begun
    print(
        f"(e) a document of {passages} passages removed in {seconds:.1f} s (stored in {stored:.1f})"
    )
    store.close()


def _prose(texts: list[str], size: int) -> str:
    rng = random.Random(size)
    paragraphs = []
    while size > 0:
        paragraphs.append(" ".join(rng.choices(texts, k=6)))
        size -= len(paragraphs[-1]) + 2
    return "\n\n".join(paragraphs)


def _pdf(texts: list[str], path: Path, pages: int) -> None:
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.utils import simpleSplit
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), A4)
    prose = _prose(texts, pages * LINES * LINE)
    lines = [
        line
        for part in prose.split("\n\n")
        for line in (*simpleSplit(part, "Times-Roman", 12, 460), "")
    ]
    for page in range(pages):
        text = canvas.beginText(60, 780)
        text.setFont("Times-Roman", 12)
        text.textLines(lines[page * LINES : (page + 1) * LINES])
        canvas.drawText(text)
        canvas.showPage()
    canvas.save()


def _conversation(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def _pss(process: int) -> float:
    """MB of memory of a process and its children, what they share counted once."""
    total = 0.0
    for member in (process, *_children(process)):
        try:
            rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        except OSError:  # it has ended
            continue
        total += next(
            int(line.split()[1]) / 1e3 for line in rollup.splitlines() if line.startswith("Pss:")
        )
    return total


def _children(process: int) -> Iterator[int]:
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _children(child)


if __name__ == "__main__":
    main()
