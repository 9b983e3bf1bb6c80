"""Nothing that stood in memory goes to the disk with Chroma's vectors."""

import struct
import sys
import threading
from pathlib import Path

import pytest

from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.memory import overwrite_unused, zeroed_memory
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
        store.query(hash_embedding.embed_query("quince").vector, 3)
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


def header(vectors: int) -> bytes:
    return struct.pack("<iQQQ", 1, 0, 100, vectors) + bytes(72)


@pytest.mark.parametrize(
    ("vectors", "size", "cleared"),
    [(0, 400, True), (0, 1032, True), (1, 400, False), (30, 400, False), (0, 4000, False)],
)
def test_only_what_holds_no_vector_yet_is_overwritten(
    tmp_path: Path, vectors: int, size: int, cleared: bool
) -> None:
    segment = tmp_path / "segment"
    segment.mkdir()
    (segment / "header.bin").write_bytes(header(vectors))
    (segment / "length.bin").write_bytes(b"x" * size)
    overwrite_unused(tmp_path)
    assert (segment / "length.bin").read_bytes() == (bytes(size) if cleared else b"x" * size)


@pytest.mark.parametrize("begin", [None, b"", header(0)[:20]])
def test_files_that_a_crash_left_halfway_are_left_alone(
    tmp_path: Path, begin: bytes | None
) -> None:
    (tmp_path / "segment").mkdir()
    lengths = tmp_path / "segment" / "length.bin"
    lengths.write_bytes(b"x" * 400)
    if begin is not None:
        lengths.with_name("header.bin").write_bytes(begin)
    overwrite_unused(tmp_path)
    assert lengths.read_bytes() == b"x" * 400
    overwrite_unused(tmp_path / "nowhere")
