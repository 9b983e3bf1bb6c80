"""question -> [NodeWithScore]."""

from collections.abc import Sequence
from typing import Protocol

from rag.index.embedding import Embedding
from rag.index.store import ChromaStore
from rag.types import NodeWithScore, well_formed


class Retriever(Protocol):
    def retrieve(self, query: str) -> list[NodeWithScore]:
        """The passages that bear on `query`, the best first."""
        ...


class VectorIndexRetriever:
    """The `similarity_top_k` passages of one or more stores nearest to the question.

    Raises ValueError when that is not at least one.
    """

    def __init__(
        self, stores: Sequence[ChromaStore], embed_model: Embedding, similarity_top_k: int = 2
    ):
        if similarity_top_k < 1:
            raise ValueError(f"similarity_top_k is {similarity_top_k}; it has to be 1 or more.")
        self.stores = stores
        self.embed_model = embed_model
        self.similarity_top_k = similarity_top_k

    def retrieve(self, query: str) -> list[NodeWithScore]:
        (vector,) = self.embed_model.embed([well_formed(query)])
        found = [hit for store in self.stores for hit in store.query(vector, self.similarity_top_k)]
        found.sort(key=NodeWithScore.get_score, reverse=True)
        return found[: self.similarity_top_k]
