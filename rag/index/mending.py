"""An index in a folder, looked over and mended.

Chroma and the index of words beside it hold the same passages and vectors, so that what one has
lost can be had from the other. Nobody else may have the index open.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rag.errors import (
    DamagedIndexError,
    EmbeddingMismatchError,
    OutdatedIndexError,
    StoreError,
)
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import Embedded
from rag.index.holding import hold
from rag.index.keywords import FILE, KeywordIndex, is_sound
from rag.index.reembedding import finish_renaming
from rag.index.soundness import look_over, reading
from rag.index.store import LOCK, ChromaStore, StoredDocument
from rag.types import Node, counted

UNREADABLE = (StoreError, ValueError, KeyError, TypeError)
"""What reading a damaged index of words may raise."""


@dataclass(frozen=True)
class Finding:
    """Something that was wrong, in words for a person, who has nothing left to do if `mended`."""

    what: str
    mended: bool


def mend(
    folder: Path, embed_model: str, server: ChromaServer | None = None, name: str = "index"
) -> Iterator[Finding]:
    """Look over the index in `folder`, all of it, and mend what can be mended.

    With `server` its passages are there, under `name`. An index of another embedding model is
    looked over all the same. Raises StoreError and OSError where that cannot be done, and Timeout
    where another process has it open.
    """
    if finish_renaming(folder):
        yield Finding("what embedding it again has left behind was put in order", mended=True)
    if not folder.is_dir():
        return
    hold(folder / LOCK, 0).release()  # whoever has it open
    if not server:
        try:
            look_over(folder)
        except OutdatedIndexError as error:
            yield Finding(str(error), mended=False)
            return
        except DamagedIndexError:
            yield _from_words(folder, embed_model)
            return
        if not _is_whole(folder):
            yield _from_words(folder, embed_model)
            return
    if not is_sound(folder):
        for file in folder.glob(f"{FILE}*"):  # opening makes it anew
            file.unlink()
        yield Finding("the index of words was damaged, and was made anew", mended=True)
    try:
        yield from _agreeing(folder, embed_model, server, name)
    except EmbeddingMismatchError as error:
        yield Finding(str(error), mended=False)
        with suppress(StoreError):  # the first one tells what to do
            yield from _agreeing(folder, error.made_with, server, name)
    except OutdatedIndexError as error:
        yield Finding(str(error), mended=False)
    except StoreError:
        if server:
            raise
        yield _from_words(folder, embed_model)


def _agreeing(
    folder: Path, embed_model: str, server: ChromaServer | None, name: str
) -> list[Finding]:
    with closing(ChromaStore(folder, embed_model, server=server, name=name)) as store:
        mended, lost = store.mend()
    return [Finding(text, True) for text in mended] + [Finding(text, False) for text in lost]


def _is_whole(folder: Path) -> bool:
    """Whether Chroma's database is there, and whole, all of it."""
    try:
        with closing(reading(folder)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def made_with(folder: Path) -> str | None:
    """The embedding model that is written on the index, where that can still be read."""
    query = "SELECT str_value FROM collection_metadata WHERE key = 'embed_model'"
    with suppress(sqlite3.Error), closing(reading(folder)) as db:
        row = db.execute(query).fetchone()
        return row[0] if row else None
    return None


def _from_words(folder: Path, embed_model: str) -> Finding:
    """Put the index together again from that of words; what was there is kept beside it, unless
    nothing is lost. Raises StoreError and OSError where it cannot be written, and then it stays."""
    beside = folder.with_name(f"{folder.name}.new")
    copy = folder.with_name(f"{folder.name}.words.new")
    try:
        kept, lost = _put_together(folder, copy, beside, made_with(folder) or embed_model)
        aside = _free(folder.with_name(f"{folder.name}.damaged"))
        folder.rename(aside)
        if kept:
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(copy, ignore_errors=True)
    what = "its passages and vectors could not be read"
    if kept:
        what += f"; {counted(kept, 'document')} put together again from the index of words"
    if kept and not lost:
        shutil.rmtree(aside)
        return Finding(what, mended=True)
    missing = ", ".join(lost) or "the documents"
    return Finding(f"{what}. Add {missing} again. It is kept as {aside.name}", mended=False)


def _put_together(
    folder: Path, copy: Path, beside: Path, embed_model: str
) -> tuple[int, list[str]]:
    """Make an index in `beside`: how many documents it has, and the names of those it lacks."""
    copy.mkdir()
    for file in folder.glob(f"{FILE}*"):  # opening one that is damaged empties it
        shutil.copyfile(file, copy / file.name)
    kept, lost = 0, []
    with closing(KeywordIndex(copy)) as words, closing(ChromaStore(beside, embed_model)) as store:
        try:
            records = [StoredDocument(**fields) for fields in words.records().values()]
        except UNREADABLE:
            return 0, []
        for record in records:
            try:
                nodes, embedded = _read(record, words)
            except UNREADABLE:
                lost.append(record.name)
            else:
                store.add(record, nodes, embedded)
                kept += 1
    return kept, lost


def _read(record: StoredDocument, words: KeywordIndex) -> tuple[list[Node], list[Embedded]]:
    """A document as `words` has it. Raises ValueError where that is not whole."""
    nodes = words.nodes(record.id_)
    numbers, _ = words.vectors([record.id_])
    if not len(nodes) == len(numbers) == record.passages:
        raise ValueError("it is not whole")
    none = np.empty((0, 0), np.float32)
    embedded = []
    for passage in words.passages(numbers):
        assert passage.vector is not None
        tokens = none
        if passage.tokens is not None:
            signs = np.unpackbits(passage.tokens, 1, len(passage.vector))
            tokens = 2 * signs.astype(np.float32) - 1
        embedded.append(Embedded(passage.vector, tokens))
    return nodes, embedded


def _free(path: Path) -> Path:
    """`path`, or one like it where that is taken."""
    taken, number = path, 1
    while path.exists():
        number += 1
        path = taken.with_name(f"{taken.name}-{number}")
    return path
