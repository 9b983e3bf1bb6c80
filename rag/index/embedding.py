"""What an embedding model is, and one without weights for tests and demos.

Knows nothing of torch: the real model is in `embedding_huggingface`.
"""

import math
import re
import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

from tokenizers import Tokenizer

Vector = Sequence[float]
"""One embedding, of length 1 (so that a dot product is the cosine)."""


class Embedding(Protocol):
    """Turns texts into vectors of `dimensions` numbers."""

    name: str
    """Written on every index it makes; an index opens only with the same name."""
    dimensions: int

    @property
    def tokenizer(self) -> Tokenizer | Callable[[str], int]:
        """Its tokenizer without truncation, or a function that counts tokens: for splitting."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """The vectors of `texts`, in their order."""
        ...


class HashEmbedding:
    """Counts words into `dimensions` hashed places: near texts share words. No weights."""

    name = "hash"
    dimensions = 256

    @property
    def tokenizer(self) -> Callable[[str], int]:
        return lambda text: len(_words(text))

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        counts = [0.0] * self.dimensions
        for word in _words(text):
            counts[zlib.crc32(word.encode()) % self.dimensions] += 1.0
        length = math.sqrt(sum(count * count for count in counts)) or 1.0
        return [count / length for count in counts]


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
