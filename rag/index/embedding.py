"""What an embedding model is, and one without weights for tests and demos.

Knows nothing of torch: the real model is in `embedding_huggingface`.
"""

import re
import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

Vector = NDArray[np.float32]
"""One embedding, of length 1 (so that a dot product is the cosine)."""


@dataclass(frozen=True)
class Embedded:
    """A text as an embedding model sees it."""

    vector: Vector
    """`dimensions` floats, of length 1."""
    tokens: NDArray[np.float32]
    """One row of length 1 for each of its tokens that has a letter or digit in it.

    Special tokens and punctuation are left out. In a question the rows of words that are everywhere
    are of length 0.5: they weigh half. The shape is (tokens, `dimensions`), which is
    (0, `dimensions`) where the model gives none.
    """


class Embedding(Protocol):
    """Turns texts into vectors of `dimensions` numbers."""

    name: str
    """Written on every index it makes; an index opens only with the same name."""
    dimensions: int
    max_tokens: int
    """How many tokens of a text it reads, its own special ones included; the rest is cut off."""

    def __hash__(self) -> int: ...

    @property
    def tokenizer(self) -> Tokenizer | Callable[[str], int]:
        """Its tokenizer without truncation, or a function that counts tokens: for splitting."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        """The passages `texts`, in their order."""
        ...

    def embed_query(self, text: str) -> Embedded:
        """The question `text`, to be compared with passages."""
        ...


class Remembered:
    """`embed` of `embed_model`, which computes only what it was not asked for lately: the `most`
    texts that were used last are known. Any thread may ask."""

    def __init__(self, embed_model: Embedding, most: int = 512):
        self._embed_model = embed_model
        self._most = most
        self._known: dict[str, Embedded] = {}
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        with self._lock:
            known = {text: self._known[text] for text in texts if text in self._known}
        new = list(dict.fromkeys(text for text in texts if text not in known))
        if new:
            known |= zip(new, self._embed_model.embed(new), strict=True)
        with self._lock:
            for text in texts:
                self._known.pop(text, None)
                self._known[text] = known[text]
            while len(self._known) > self._most:
                del self._known[next(iter(self._known))]
        return [known[text] for text in texts]


@lru_cache(maxsize=2)
def remembered(embed_model: Embedding) -> Remembered:
    """The one for this model."""
    return Remembered(embed_model)


class HashEmbedding:
    """Counts words into `dimensions` hashed places: near texts share words. No weights.

    The vector of a text without words is 0. It gives no token vectors.
    """

    name = "hash"
    dimensions = 256
    max_tokens = 1_000_000

    @property
    def tokenizer(self) -> Callable[[str], int]:
        return lambda text: len(_words(text))

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        return [self.embed_query(text) for text in texts]

    def embed_query(self, text: str) -> Embedded:
        counts = np.zeros(self.dimensions, np.float32)
        for word in _words(text):
            counts[zlib.crc32(word.encode()) % self.dimensions] += 1
        length = np.linalg.norm(counts) or 1.0
        return Embedded(
            (counts / length).astype(np.float32), np.empty((0, self.dimensions), np.float32)
        )


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
