"""Chroma's files, looked over before Chroma reads them.

Chroma believes what stands in the files of its graph of vectors. Of a damaged one it takes bytes
for lengths and places: it asks for memory until the system ends the process, reads where nothing is
and dies, or finds other passages without a word. So whatever it will follow is followed here first,
when an index is opened (docs/decisions.md has what it costs). The files are those of hnswlib as
chroma-core/hnswlib writes them (`persistHeader`, `persistDirty` in hnswalg.h).
"""

import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rag.errors import DamagedIndexError, OutdatedIndexError, StoreError
from rag.index.keywords import has_documents

DATABASE = "chroma.sqlite3"
COLLECTIONS = ("passages", "documents")
"""Of which one of our indexes consists in Chroma."""
GRAPH = ("header.bin", "data_level0.bin", "length.bin", "link_lists.bin", "index_metadata.pickle")
"""The files of a collection's vectors, in a folder of their own."""
HEADER = struct.Struct("<iQQQQQQiIQQQdQ")
"""Version, offset, room, elements, bytes of an element, where its label and its vector are in it,
highest level, element on it, links of an element above level 0 (twice), at level 0, two more."""
NEWEST = {"sysdb": 10, "metadb": 6, "embeddings_queue": 2}
"""The migrations that the pinned Chroma knows. It would write into the database of a newer one."""
_VERSIONS = "SELECT dir, max(version) FROM migrations GROUP BY dir"
_WRITTEN = "SELECT id FROM segments JOIN max_seq_id ON id = segment_id WHERE scope = 'VECTOR'"
"""The graphs that are in files; of others Chroma has the vectors in the database."""
_AT_ONCE = 4_096
"""Elements that are looked at together: some 8 MB."""


class _FlawError(Exception):
    """What is wrong with a file."""


def reading(folder: Path) -> sqlite3.Connection:
    """Chroma's database, which is not to be made where it is missing."""
    return sqlite3.connect(f"{(folder / DATABASE).absolute().as_uri()}?mode=rw", uri=True)


def look_over(folder: Path) -> None:
    """See that Chroma can be let into `folder`, where nobody may be writing; nothing need be there.

    Raises DamagedIndexError where something is missing, or would lead Chroma astray;
    OutdatedIndexError where a newer Chroma has written; StoreError and OSError where it cannot be
    looked at.
    """
    written: list[tuple[str]] = []
    try:
        with closing(reading(folder)) as db:
            if any(version > NEWEST.get(kind, 0) for kind, version in db.execute(_VERSIONS)):
                raise OutdatedIndexError(
                    f"The index in {folder} was written by a newer version of Chroma than the one "
                    f"that is installed here. Start the version of Rivulet that wrote it. Nothing "
                    f"was changed."
                )
            names = {name for (name,) in db.execute("SELECT name FROM collections")}
            if names >= set(COLLECTIONS):
                written = db.execute(_WRITTEN).fetchall()
    except sqlite3.Error as error:
        kind = error.sqlite_errorcode & 0xFF
        if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(folder, f"{DATABASE} is no whole database") from error
        if kind not in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CANTOPEN):
            raise StoreError(
                f"The index in {folder} cannot be read: {error}. Is the disk full, or the folder "
                f"read-only? Nothing was changed."
            ) from error
        names = set()  # it is not there, or has no tables
    if not names >= set(COLLECTIONS) and has_documents(folder):
        # Chroma would begin anew, and the words would follow it.
        raise _damaged(folder, f"{DATABASE} is missing, or empty")
    for (name,) in written:
        try:
            _follow(folder / name)
        except _FlawError as flaw:
            raise _damaged(folder, f"{name}/{flaw}") from flaw


def _damaged(folder: Path, what: str) -> DamagedIndexError:
    return DamagedIndexError(
        f"The index in {folder} is damaged: {what}. It is left as it is. Run python -m rag check "
        f"while nothing uses it: that mends what can be mended."
    )


def _follow(graph: Path) -> None:
    """Raises _FlawError where the files of a graph do not belong together."""
    for name in GRAPH:
        if not (graph / name).is_file():
            raise _FlawError(f"{name} is missing")
    count, entry, highest, most, size, begin, end = _header(graph)
    lengths = np.fromfile(graph / "length.bin", np.float32, count)
    if len(lengths) < count:
        raise _FlawError("length.bin is too short")
    levels = np.zeros(count, np.int32)
    above = list(_links_above(graph, count, most // 2))
    for element, level, _ in above:
        levels[element] = level  # they come in order
    for _, level, links in above:
        if links.max(initial=0) >= count or (levels[links] < level).any():
            raise _FlawError("link_lists.bin leads nowhere")
    if highest != levels.max(initial=0) or levels[entry] != highest:
        raise _FlawError("link_lists.bin and header.bin do not agree")
    squares = _level_0(graph / "data_level0.bin", count, most, size, begin, end)
    # By cosine Chroma keeps vectors at length 1; those of zeros have none, whatever is noted.
    if not ((abs(squares - 1) < 0.01) & np.isfinite(lengths) | (squares == 0)).all():
        raise _FlawError("data_level0.bin or length.bin has numbers that cannot be")


def _header(graph: Path) -> tuple[int, ...]:
    try:
        header = HEADER.unpack((graph / "header.bin").read_bytes())
    except struct.error:
        raise _FlawError("header.bin has another length") from None
    version, offset, room, count, size, end, begin, highest, entry, above, most, *_ = header
    if (
        (version, offset) != (1, 0)
        or not 0 < count <= room
        or most != 2 * above
        or begin != 4 * (most + 1)
        or (end - begin) % 4
        or size != end + 8
        or highest < 0
        or entry >= count
    ):
        raise _FlawError("header.bin has numbers that cannot be")
    return count, entry, highest, most, size, begin, end


def _links_above(
    graph: Path, count: int, most: int
) -> Iterator[tuple[int, int, NDArray[np.uint32]]]:
    """Of each element that is above level 0 its links on each level."""
    content = (graph / "link_lists.bin").read_bytes()
    step, at = most + 1, 0
    for element in range(count):
        length = int.from_bytes(content[at : at + 4], "little")
        at += 4
        if not length:
            continue
        if length % (4 * step) or at + length > len(content):
            raise _FlawError("link_lists.bin has lengths that cannot be")
        table = np.frombuffer(content, np.uint32, length // 4, at).reshape(-1, step)
        at += length
        for level, row in enumerate(table, 1):
            number = int(row[0]) & 0xFFFF
            if number > most:
                raise _FlawError("link_lists.bin has lengths that cannot be")
            yield element, level, row[1 : 1 + number]
    if at != len(content):
        raise _FlawError("link_lists.bin has another length")


def _level_0(
    file: Path, count: int, most: int, size: int, begin: int, end: int
) -> NDArray[np.float32]:
    """Elements one after another: how many links, these, the vector, the label. The squares of the
    lengths of the vectors."""
    if file.stat().st_size < count * size:
        raise _FlawError(f"{file.name} is too short")
    element = np.dtype(
        [
            ("number", "<u2"),
            ("flags", "<u2"),
            ("links", "<u4", (most,)),
            ("vector", "<f4", ((end - begin) // 4,)),
            ("label", "<u8"),
        ]
    )
    elements = np.memmap(file, element, "r", shape=(count,))
    if len(np.unique(elements["label"])) < count:
        raise _FlawError(f"{file.name} has labels twice")
    places = np.arange(most)
    squares = np.empty(count, np.float32)
    for first in range(0, count, _AT_ONCE):
        part = elements[first : first + _AT_ONCE]
        numbers = part["number"][:, None]
        if (numbers > most).any() or ((part["links"] >= count) & (places < numbers)).any():
            raise _FlawError(f"{file.name} leads nowhere")
        np.einsum(
            "nd,nd->n", part["vector"], part["vector"], out=squares[first : first + len(part)]
        )
    return squares
