"""Nothing that stood in memory goes to the disk with Chroma's vectors."""

import sys
import threading
from pathlib import Path

import pytest

from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.memory import zeroed_memory
from rag.index.store import ChromaStore
from rag.types import Document

glibc = pytest.mark.skipif(sys.platform != "linux", reason="only glibc can clear memory")


@glibc
def test_no_index_holds_the_text_of_another(tmp_path: Path, hash_embedding: HashEmbedding) -> None:
    def put(store: ChromaStore, text: str, name: str) -> None:
        for _ in ingest(Document(text, {"file_name": name}), store, hash_embedding):
            pass

    for n in range(12):
        secret = "\n\n".join(f"Secret{n} {i} of the zanzibarquince." + " w" * 90 for i in range(30))
        store = ChromaStore(tmp_path / str(n), hash_embedding.name)
        put(store, secret, "a.txt")
        store.close()
        store = ChromaStore(tmp_path / str(n), hash_embedding.name)
        store.query(hash_embedding.embed(["quince"])[0], 3)
        put(store, f"Number {n} more.", "b.txt")
        store.close()
    files = list(tmp_path.rglob("*.bin"))
    assert files
    for file in files:
        assert b"zanzi" not in file.read_bytes()
    assert b"zanzi" in (tmp_path / "0" / "chroma.sqlite3").read_bytes()


@glibc
def test_it_ends_with_the_last_of_those_inside() -> None:
    """Read from what the C library hands out for a block it was given back full of ones."""
    import ctypes

    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    size = 50_000

    def cleared() -> bool:
        for _ in range(3):
            block = libc.malloc(size)
            ctypes.memset(block, 1, size)
            libc.free(block)
        block = libc.malloc(size)
        middle = ctypes.string_at(block + 1000, size - 2000)
        libc.free(block)
        return not any(middle)

    assert not cleared()
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with zeroed_memory():
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=other)
    with zeroed_memory():
        thread.start()
        assert inside.wait(20)
        assert cleared()
    assert cleared()  # the other thread is still inside
    leave.set()
    thread.join(20)
    assert not cleared()
