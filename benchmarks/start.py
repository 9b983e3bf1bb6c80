"""How long the start takes: until the page is served, and until a question can be answered.

    python -m benchmarks.start [--runs N]

The weights are on the disk, the data folder is new, so the samples are embedded too. Beside it: how
long LlamaIndex takes to be imported, with its classes for the same models; and Gradio, without
which there is no page.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks import free_port, record, spread
from benchmarks.retrieval import machine, peer_python, weights
from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, Config

ROOT = Path(__file__).resolve().parents[1]
IMPORT = (
    "from llama_index.core import VectorStoreIndex\n"
    "from llama_index.embeddings.huggingface import HuggingFaceEmbedding\n"
    "from llama_index.llms.huggingface import HuggingFaceLLM\n"
)


def start() -> tuple[float, float]:
    """Seconds until the page is there, and until the models are."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "models").symlink_to(Config.from_env().models_dir.resolve())
        port = free_port()
        begun = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "app.py", "--no-browser", "--port", str(port), "--data-dir", folder],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            page = _served(f"http://127.0.0.1:{port}/", begun)
            assert process.stderr
            waiting = {"the sample documents: ready", f"{Path(DEFAULT_MODEL).name}: ready"}
            for line in process.stderr:
                waiting = {each for each in waiting if each not in line}
                if not waiting:
                    break
            ready = time.perf_counter() - begun
            process.terminate()
            return page, ready


def _served(address: str, begun: float) -> float:
    while time.perf_counter() - begun < 120:
        try:
            with urlopen(address) as answer:
                answer.read()
            return time.perf_counter() - begun
        except (URLError, OSError):
            time.sleep(0.02)
    raise TimeoutError("The page is not served.")


def imported(python: str | Path, code: str) -> float:
    begun = time.perf_counter()
    subprocess.run([python, "-c", code], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description="How long the start takes.")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    for model in (DEFAULT_MODEL, DEFAULT_EMBED_MODEL):
        weights(model)
    rows: dict[str, list[float]] = {
        "Rivulet: page": [],
        "Rivulet: models and samples ready": [],
        "Gradio: imported": [],
        "LlamaIndex: imported": [],
    }
    told = machine()
    for _ in range(asked.runs):
        taken = (
            *start(),
            imported(sys.executable, "import gradio"),
            imported(peer_python(), IMPORT),
        )
        for values, value in zip(rows.values(), taken, strict=True):
            values.append(value)
    table = [f"| {name} | {spread(values, '.1f')} |" for name, values in rows.items()]
    lines = (told, "", "| | seconds |", "| --- | --- |", *table)
    record("start", "\n".join(lines), asked.runs)


if __name__ == "__main__":
    main()
