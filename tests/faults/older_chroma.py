"""Makes `older_chroma.tar.gz`: an index of ours in a folder that Chroma 0.5.23 has written.

    python -m tests.faults.older_chroma > index.json
    python -m venv older && older/bin/pip install chromadb==0.5.23 "numpy<2"
    older/bin/python -m tests.faults.older_chroma chroma < index.json
    tar czf tests/faults/older_chroma.tar.gz chroma

The graph of vectors is written from the fiftieth on, so that there is one.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

QUICK = {"hnsw:space": "cosine", "hnsw:sync_threshold": 50, "hnsw:batch_size": 10}
NUMBER = 60
"""Passages of the longer one of its two documents."""


def index() -> dict[str, Any]:
    """What our index consists of in Chroma."""
    from rag.index.embedding import HashEmbedding
    from rag.index.ingestion import ingest
    from rag.index.store import ChromaStore
    from rag.types import Document

    days = (f"## Day {n}\n\nOn day {n} the stork {'stood and ' * 8} flew." for n in range(NUMBER))
    texts = {"days.md": "\n\n".join(days), "stork.txt": "The stork is white."}
    with TemporaryDirectory() as folder:
        store = ChromaStore(Path(folder), HashEmbedding().name)
        for name, text in texts.items():
            list(ingest(Document(text, {"file_name": name}), store, HashEmbedding()))
        parts = {"passages": store._passages, "documents": store._documents}
        content = ["documents", "metadatas", "embeddings"]
        found = {name: part.get(include=content) for name, part in parts.items()}
        about = store._passages.metadata
        store.close()
    return {
        "about": about,
        "parts": {
            name: {
                "ids": part["ids"],
                "documents": part["documents"] if name == "passages" else None,
                "metadatas": part["metadatas"],
                "embeddings": part["embeddings"].tolist(),
            }
            for name, part in found.items()
        },
    }


def write(folder: str, content: dict[str, Any]) -> None:
    import chromadb

    client = chromadb.PersistentClient(folder)
    for name, part in content["parts"].items():
        about = QUICK | content["about"] if name == "passages" else None
        client.create_collection(name, metadata=about, embedding_function=None).add(**part)


if __name__ == "__main__":
    if sys.argv[1:]:
        write(sys.argv[1], json.load(sys.stdin))
    else:
        json.dump(index(), sys.stdout)
