"""The words of passages, ranked by BM25 in SQLite's FTS5, and what else ranking needs at hand.

Chroma ranks by vectors alone on one machine. This index stands beside it and is derived from it:
whatever is lost here is made again from there. Only a document that is still being embedded is
here alone ("pending"), so that it can be searched by its words meanwhile.
"""

import json
import sqlite3
import threading
import uuid
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.errors import StoreError
from rag.index.embedding import Embedded, Vector
from rag.index.records import from_node, to_node
from rag.index.words import TOKENIZER, spaced, terms_of
from rag.types import Node

FILE = "words.sqlite3"
FORMAT = 2
COMPOUND, COMPOUNDS = 5, 20
"""Letters from which on a word is sought within longer ones, and how many of these."""
HEADINGS_WEIGHT = 2.0
"""What a word counts in the headings above a passage; in its text 1. See docs/decisions.md."""
SCORED = 10_000
"""Passages that a search gives a BM25 score, which takes about 0.7 µs each. Where more have a word
of the question, its commonest words, which weigh least, only put the best by the others in order:
docs/decisions.md."""
AGAIN = 500
"""So many of these."""
_MANY_RANGES = 400
"""SQLite's expressions may be 1,000 deep."""

Signs = NDArray[np.uint8]
"""The signs of token vectors, eight to a byte: tokens x dimensions / 8."""

_SCHEMA = f"""
CREATE TABLE documents (
    number INTEGER PRIMARY KEY, key TEXT UNIQUE, id TEXT, ready INTEGER,
    first INTEGER, last INTEGER, record TEXT
);
CREATE INDEX documents_id ON documents (id);
CREATE TABLE passages (number INTEGER PRIMARY KEY, node TEXT);
CREATE TABLE vectors (number INTEGER PRIMARY KEY, vector BLOB);
CREATE TABLE tokens (number INTEGER PRIMARY KEY, signs BLOB);
CREATE VIRTUAL TABLE words USING fts5(text, headings, tokenize="{TOKENIZER}");
PRAGMA user_version = {FORMAT};
"""
# Rows have the numbers of passages; a document's have no gap in them. What is read of many passages
# at once lies together.


_TEMPORARY = f"""
CREATE VIRTUAL TABLE temp.vocabulary USING fts5vocab('main', 'words', 'row');
CREATE VIRTUAL TABLE temp.asked USING fts5(word, tokenize="{TOKENIZER}");
CREATE VIRTUAL TABLE temp.stems USING fts5vocab('temp', 'asked', 'row');
"""  # the words of the index; a word of a question, and its stem


@dataclass(frozen=True)
class Passage:
    """A passage with what ranking wants of it."""

    number: int
    """Its place in this index."""
    node: Node
    vector: Vector | None
    """None while it is not embedded yet."""
    tokens: Signs | None
    """None where the model gave none, or they are not known here yet."""

    def with_(self, embedded: Embedded) -> "Passage":
        """The same passage, embedded."""
        return replace(self, vector=embedded.vector, tokens=_signs(embedded.tokens))


class DamagedError(StoreError):
    """The file has to be made anew."""


@dataclass(frozen=True)
class Pending:
    """A document that is on its way in."""

    key: str
    first: int
    """The number of its first passage; the others follow."""


class KeywordIndex:
    """One index in `folder`; in memory when None. Safe to share between threads.

    A file that is damaged, or of another format, is made anew when it is opened: empty. One that
    turns out to be damaged later raises DamagedError, until `renew`.
    """

    def __init__(self, folder: Path | None):
        self._lock = threading.RLock()
        self._path = folder and folder / FILE
        self._next = 1  # numbers that a search has at hand must not come to mean another passage
        try:
            self._db = self._open()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
            self._db = self._open_empty()

    def renew(self) -> None:
        """Begin again with an empty file."""
        with self._lock:
            self._db.close()
            self._db = self._open_empty()

    def close(self) -> None:
        """Give the file back; the index must not be used afterwards."""
        with self._lock:
            self._db.close()

    def put(self, document_id: str, record: Mapping[str, Any], nodes: Sequence[Node]) -> Pending:
        """Take in a document's passages, so that their words are found.

        Until `finish` it is pending: found only where no other version of it is.
        """
        pending = f"pending:{uuid.uuid4().hex}"
        with self._changing() as db:
            first = self._next
            self._next += max(len(nodes), 1)
            db.execute(
                "INSERT INTO documents (key, id, ready, first, last, record) VALUES (?,?,0,?,?,?)",
                (pending, document_id, first, first + max(len(nodes) - 1, 0), json.dumps(record)),
            )
            db.executemany(
                "INSERT INTO passages (number, node) VALUES (?, ?)",
                (
                    (first + n, json.dumps([node.text, from_node(node)]))
                    for n, node in enumerate(nodes)
                ),
            )
            db.executemany(
                "INSERT INTO words (rowid, text, headings) VALUES (?, ?, ?)",
                (
                    (first + n, spaced(node.text), spaced("\n".join(node.headings)))
                    for n, node in enumerate(nodes)
                ),
            )
        return Pending(pending, first)

    def embed(self, first: int, embedded: Sequence[Embedded]) -> None:
        """Keep what the passages from number `first` on were embedded to."""
        with self._changing() as db:
            for n, each in enumerate(embedded):
                for table, content in (
                    ("vectors", _to_bytes(each.vector)),
                    ("tokens", _signs(each.tokens)),
                ):
                    db.execute(
                        f"INSERT OR REPLACE INTO {table} SELECT number, ? FROM passages"  # noqa: S608
                        " WHERE number = ?",  # or it was removed meanwhile
                        (content, first + n),
                    )

    def finish(self, pending: str, key: str) -> None:
        """What was put in as `pending` is ready, as `key`: it takes the place of all other
        versions of its document."""
        with self._changing() as db:
            others = db.execute(
                "SELECT key FROM documents WHERE ready"
                " AND id = (SELECT id FROM documents WHERE key = ?)",
                (pending,),
            ).fetchall()
            self._remove([other for (other,) in others])
            db.execute("UPDATE documents SET ready = 1, key = ? WHERE key = ?", (key, pending))

    def remove(self, keys: Collection[str]) -> None:
        """Take documents out; nothing happens where they are not there."""
        with self._changing():
            self._remove(keys)

    def records(self, document_id: str | None = None) -> dict[str, dict[str, Any]]:
        """The records of all documents that are ready, or of one, by their keys."""
        which, values = ("AND id = ?", (document_id,)) if document_id is not None else ("", ())
        with self._reading() as db:
            rows = db.execute(
                f"SELECT key, record FROM documents WHERE ready {which}",  # noqa: S608
                values,
            ).fetchall()
        return {key: json.loads(record) for key, record in rows}

    def searchable(self, document_id: str) -> dict[str, Any] | None:
        """The record of the version of a document that is searched; None where none is."""
        with self._reading() as db:
            row = db.execute(
                "SELECT record FROM documents WHERE id = ? ORDER BY ready DESC LIMIT 1",
                (document_id,),
            ).fetchone()
        return json.loads(row[0]) if row else None

    def drop_pending(self) -> None:
        """Take out what a process left that is no longer there."""
        with self._changing() as db:
            rows = db.execute("SELECT key FROM documents WHERE NOT ready").fetchall()
            self._remove([key for (key,) in rows])

    def search(
        self, question: str, top_k: int, documents: Collection[str] | None = None
    ) -> dict[int, float]:
        """The `top_k` passages with words of `question`, the best first: their numbers and BM25.

        `documents` are identities: only these are searched. BM25 is FTS5's, with k1 = 1.2 and
        b = 0.75; it is not below 0 here, and there is no highest.
        """
        terms = terms_of(question)
        where, ranges = self._where(documents)
        if not terms or (documents is not None and not ranges):
            return {}
        with self._reading():
            if self.count() <= SCORED:
                terms += self._compounds(terms)
            rarest = self._rarest(terms, where, ranges)
            if len(rarest) < len(terms):
                found = self._ranked(rarest, where, max(AGAIN, top_k))
                where = f" AND +rowid IN ({','.join(str(number) for number, _ in found)})"
            return dict(self._ranked(terms, where, top_k))

    def _ranked(self, terms: Sequence[str], where: str, top_k: int) -> list[tuple[int, float]]:
        return self._db.execute(
            f"SELECT rowid, -bm25(words, 1.0, {HEADINGS_WEIGHT}) AS score FROM words"  # noqa: S608 - our own numbers
            f" WHERE words MATCH ? {where} ORDER BY score DESC LIMIT ?",
            (" OR ".join(terms), top_k),
        ).fetchall()

    def _compounds(self, terms: Sequence[str]) -> list[str]:
        """Longer words that hold those of `terms` that are rare: "Beitrag" is sought in
        "Versicherungsbeiträge" too, which German writes in one word."""
        found: list[str] = []
        rare = self.count() // 100
        for term in terms:
            word = term.strip('"')
            if len(word) < COMPOUND or not word.isalpha():
                continue
            (number,) = self._db.execute(
                "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)",
                (term, rare + 1),
            ).fetchone()
            if number <= rare:
                self._db.execute("DELETE FROM temp.asked")
                self._db.execute("INSERT INTO temp.asked VALUES (?)", (word,))
                rows = self._db.execute(
                    "SELECT vocabulary.term FROM temp.vocabulary, temp.stems"
                    " WHERE instr(vocabulary.term, stems.term) AND vocabulary.term <> stems.term"
                    " ORDER BY vocabulary.doc LIMIT ?",
                    (COMPOUNDS,),
                ).fetchall()
                found += [f'"{longer}"' for (longer,) in rows]
        return found

    def _rarest(self, terms: list[str], where: str, ranges: Sequence[tuple[int, int]]) -> list[str]:
        """Those of `terms` that together are in at most SCORED passages; one in any case."""
        if (_total(ranges) or self.count()) <= SCORED:
            return terms
        count = (
            "SELECT count(*) FROM"  # noqa: S608
            f" (SELECT 1 FROM words WHERE words MATCH ? {where} LIMIT {SCORED + 1})"
        )
        found = [(self._db.execute(count, (term,)).fetchone()[0], term) for term in terms]
        kept: list[str] = []
        total = 0
        for number, term in sorted(found, key=lambda one: one[0]):
            total += number
            if kept and total > SCORED:
                break
            kept.append(term)
        return kept

    def numbers(
        self, keys: Collection[str], documents: Collection[str] | None = None
    ) -> dict[str, int]:
        """The numbers of the first passages of those documents that are there and ready.

        Only of `documents`, which are identities, where these are given.
        """
        with self._reading() as db:
            rows = db.execute(
                f"SELECT key, first, id FROM documents WHERE ready AND key IN ({_marks(keys)})",  # noqa: S608
                tuple(keys),
            ).fetchall()
        return {key: first for key, first, id_ in rows if documents is None or id_ in documents}

    def passages(self, numbers: Collection[int]) -> list[Passage]:
        """The passages with these numbers, of those that are still there."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT number, node, vector, signs FROM passages LEFT JOIN vectors USING (number)"  # noqa: S608
                f" LEFT JOIN tokens USING (number) WHERE number IN ({_marks(numbers)})",
                tuple(numbers),
            ).fetchall()
        return [
            Passage(
                number, to_node(*json.loads(node)), _to_vector(vector), _to_signs(tokens, vector)
            )
            for number, node, vector, tokens in rows
        ]

    def count(self, documents: Collection[str] | None = None) -> int:
        """How many passages there are, in all or in `documents`."""
        if documents is not None:
            return _total(self._where(documents)[1])
        with self._reading() as db:
            (all_of,) = db.execute("SELECT sum(last - first + 1) FROM documents").fetchone()
        return all_of or 0

    def nodes(self, document_id: str, first: int = 0, last: int | None = None) -> list[Node]:
        """The passages of a document in their order: all, or those from the ordinal `first` to
        `last`."""
        _, ranges = self._where([document_id])
        with self._reading() as db:
            rows = [
                row
                for begin, end in ranges
                for row in db.execute(
                    "SELECT node FROM passages WHERE number BETWEEN ? AND ? ORDER BY number",
                    (begin + first, end if last is None else min(begin + last, end)),
                )
            ]
        return [to_node(*json.loads(node)) for (node,) in rows]

    def vectors(self, documents: Collection[str]) -> tuple[list[int], NDArray[np.float32]]:
        """Numbers and vectors of all passages of `documents` that are embedded."""
        _, ranges = self._where(documents)
        numbers: list[int] = []
        vectors: list[bytes] = []
        with self._reading() as db:
            for within in ranges:
                found = db.execute(
                    "SELECT number, vector FROM vectors WHERE number BETWEEN ? AND ?", within
                ).fetchall()
                numbers += [number for number, _ in found]
                vectors += [vector for _, vector in found]
        every = np.frombuffer(b"".join(vectors), np.float16).astype(np.float32)
        return numbers, every.reshape(len(numbers), -1 if numbers else 0)

    def _where(self, documents: Collection[str] | None) -> tuple[str, list[tuple[int, int]]]:
        """SQL that keeps a search to what may be found, and the numbers that `documents` have."""
        with self._reading() as db:
            if documents is None:
                hidden = db.execute(
                    "SELECT first, last FROM documents AS new WHERE NOT ready AND EXISTS"
                    " (SELECT 1 FROM documents AS old WHERE old.id = new.id AND old.ready)"
                ).fetchall()
                return "".join(f" AND NOT ({_between(hide)})" for hide in hidden), []
            ranges = db.execute(
                "SELECT first, last FROM documents AS one WHERE id IN"  # noqa: S608
                f" ({_marks(documents)}) AND (ready OR NOT EXISTS"
                " (SELECT 1 FROM documents AS old WHERE old.id = one.id AND old.ready))"
                " ORDER BY first",
                tuple(documents),
            ).fetchall()
        ranges = _merged(ranges)
        if len(ranges) > _MANY_RANGES:
            kept = ",".join(str(n) for first, last in ranges for n in range(first, last + 1))
            return f" AND +rowid IN ({kept})", ranges
        # FTS5 seeks the bounds; within them it looks at every passage that has a word.
        bounds = f" AND {_between((ranges[0][0], ranges[-1][1]))}" if ranges else ""
        return f"{bounds} AND ({' OR '.join(map(_between, ranges))})", ranges

    def _remove(self, keys: Collection[str]) -> None:
        for key in keys:
            row = self._db.execute(
                "DELETE FROM documents WHERE key = ? RETURNING first, last", (key,)
            ).fetchone()
            if row:
                for table in ("words", "passages", "vectors", "tokens"):
                    self._db.execute(f"DELETE FROM {table} WHERE rowid BETWEEN ? AND ?", row)  # noqa: S608

    def _open_empty(self) -> sqlite3.Connection:
        if self._path:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(FILE + suffix).unlink(missing_ok=True)
        return self._open()

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path or ":memory:", isolation_level=None, check_same_thread=False
        )
        try:
            (format_,) = db.execute("PRAGMA user_version").fetchone()
            if format_ not in (0, FORMAT):
                raise sqlite3.DatabaseError("made by another version")
            db.execute("PRAGMA journal_mode = wal")
            # After a loss of power the last changes may be missing; Chroma has them.
            db.execute("PRAGMA synchronous = normal")
            db.execute("PRAGMA secure_delete = on")
            if not format_:
                db.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            db.executescript(_TEMPORARY)
            (highest,) = db.execute("SELECT max(last) FROM documents").fetchone()
            self._next = max(self._next, (highest or 0) + 1)
        except BaseException:
            db.close()
            raise
        weakref.finalize(self, db.close)
        return db

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._reading() as db:
            nested = db.in_transaction
            if not nested:
                db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                if not nested:
                    db.execute("COMMIT")
            except BaseException:
                if not nested and db.in_transaction:  # some errors have ended it themselves
                    db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock:
                yield self._db
        except sqlite3.Error as error:
            if _is_damage(error):
                raise DamagedError(
                    f"The index of words in {self._path or 'memory'} is damaged ({error}). It is "
                    f"made anew from the passages; nothing is lost."
                ) from error
            raise StoreError(
                f"The index of words in {self._path or 'memory'} cannot be used: {error}. Is the "
                f"disk full, or the folder read-only?"
            ) from error


def has_documents(folder: Path) -> bool:
    """Whether there are documents in the index in `folder`, or it is so damaged that there may
    be."""
    file = folder / FILE
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True)) as db:
            return bool(db.execute("SELECT 1 FROM documents WHERE ready LIMIT 1").fetchone())
    except sqlite3.Error:
        return file.is_file() and file.stat().st_size > 0


def is_sound(folder: Path) -> bool:
    """Whether the index in `folder` is whole, if there is one. One of another format is: it will be
    made anew. Nobody may have it open."""
    if not (folder / FILE).exists():
        return True
    try:
        with closing(sqlite3.connect(folder / FILE)) as db:
            (format_,) = db.execute("PRAGMA user_version").fetchone()
            if format_ != FORMAT:
                return True
            db.execute("INSERT INTO words (words) VALUES ('integrity-check')")
            db.rollback()
            (whole,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            parts = db.execute(
                "SELECT (SELECT total(last - first + 1) FROM documents WHERE ready),"
                " (SELECT count(*) FROM passages JOIN documents"
                " ON passages.number BETWEEN first AND last WHERE ready),"
                " (SELECT count(*) FROM words), (SELECT count(*) FROM passages)"
            ).fetchone()
    except sqlite3.Error:
        return False
    ranges, passages, words, all_passages = parts
    return bool(whole == "ok" and ranges == passages and words == all_passages)


def _is_damage(error: sqlite3.Error) -> bool:
    """Whether the file's content is at fault, and not the disk or its rights."""
    code = getattr(error, "sqlite_errorcode", None)  # None: what `_open` itself raises
    kinds = (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
    return code is None or code & 0xFF in kinds


def _signs(tokens: NDArray[np.float32]) -> Signs | None:
    return np.packbits(tokens > 0, axis=1) if len(tokens) else None


def _to_bytes(vector: Vector) -> bytes:
    return np.asarray(vector, np.float16).tobytes()


def _to_vector(vector: bytes | None) -> Vector | None:
    return None if vector is None else np.frombuffer(vector, np.float16).astype(np.float32)


def _to_signs(tokens: bytes | None, vector: bytes | None) -> Signs | None:
    if tokens is None or vector is None:
        return None
    return np.frombuffer(tokens, np.uint8).reshape(-1, -(-len(vector) // 2 // 8))


def _merged(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in their order, those that follow each other without a gap as one."""
    merged: list[tuple[int, int]] = []
    for first, last in ranges:
        if merged and merged[-1][1] + 1 == first:
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    return merged


def _total(ranges: Sequence[tuple[int, int]]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _between(numbers: tuple[int, int]) -> str:
    return f"rowid BETWEEN {numbers[0]} AND {numbers[1]}"


def _marks(values: Collection[Any]) -> str:
    return ",".join("?" * len(values))
