"""`VectorStoreIndex`: documents in, query engines out, under LlamaIndex's names.

It stands here and not in `index/`, because it hands out engines.
"""

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Self, Unpack

from tqdm import tqdm

from rag.answering.chat_engine import ChatEngine
from rag.answering.defaults import Settings
from rag.answering.engine import Postprocessor
from rag.answering.query_engine import Options, RetrieverQueryEngine, get_response_synthesizer
from rag.config import ResponseMode, RetrieverMode
from rag.index.chroma_server import ChromaServer
from rag.index.embedding import Embedding
from rag.index.ingestion import ingest
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore, StoredDocument
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Document


class VectorStoreIndex:
    """Passages of documents with their vectors, in Chroma.

    With `storage_dir` they are in that folder, and there again when it is opened the next time;
    without, in memory until the index is dropped. `embed_model` is `Settings.embed_model` when
    None. With `chroma` the passages are in the collections `name` of that server, and `storage_dir`
    keeps only what makes the next opening quick. Raises EmbeddingMismatchError where the index was
    made with another model, and StoreError.
    """

    def __init__(
        self,
        *,
        embed_model: Embedding | None = None,
        storage_dir: str | os.PathLike[str] | None = None,
        chroma: ChromaServer | None = None,
        name: str = "index",
    ):
        self.embed_model = embed_model or Settings.embed_model
        path = None if storage_dir is None else Path(storage_dir).expanduser()
        self._store = ChromaStore(path, self.embed_model.name, server=chroma, name=name)

    @classmethod
    def from_documents(
        cls,
        documents: Iterable[Document],
        *,
        embed_model: Embedding | None = None,
        storage_dir: str | os.PathLike[str] | None = None,
        show_progress: bool = False,
        chroma: ChromaServer | None = None,
        name: str = "index",
    ) -> Self:
        """An index of `documents`, and of what is in `storage_dir` or on the server already."""
        index = cls(embed_model=embed_model, storage_dir=storage_dir, chroma=chroma, name=name)
        if show_progress:
            documents = tqdm(list(documents), "Embedding", unit="document")
        for document in documents:
            index.insert(document)
        return index

    def insert(self, document: Document) -> None:
        """Take in `document`, in place of one with the same `id_`.

        One that is there already is left as it is: the same text, and where `id_` was given the
        same metadata. Where `id_` was made from the text, a second name is the same document.
        """
        for _ in ingest(document, self._store, self.embed_model):
            pass

    def delete(self, document_id: str) -> None:
        """Take out the document with this `id_`; nothing happens when it is not there."""
        self._store.delete(document_id)

    @property
    def documents(self) -> list[StoredDocument]:
        """The records of all documents, the newest first."""
        return self._store.documents()

    def as_retriever(
        self,
        similarity_top_k: int = 2,
        mode: RetrieverMode = "hybrid",
        doc_ids: Collection[str] | None = None,
    ) -> VectorIndexRetriever:
        """Finds the `similarity_top_k` passages that bear most on a question, among all documents
        or those with these identities."""
        return VectorIndexRetriever(
            [self._store], self.embed_model, similarity_top_k, mode, doc_ids
        )

    def as_query_engine(
        self,
        streaming: bool = False,
        similarity_top_k: int = 2,
        llm: LLM | str | None = None,
        response_mode: ResponseMode = "compact",
        node_postprocessors: Sequence[Postprocessor] = (),
        citations: bool = True,
        **options: Unpack[Options],
    ) -> RetrieverQueryEngine:
        """Answers questions from this index; `options` are `get_response_synthesizer`'s. With
        `citations` each sentence of an answer is checked against the passages."""
        return RetrieverQueryEngine.from_args(
            self.as_retriever(similarity_top_k),
            llm,
            response_mode,
            streaming,
            node_postprocessors,
            self.embed_model if citations else None,
            **options,
        )

    def as_chat_engine(
        self,
        llm: LLM | str | None = None,
        similarity_top_k: int = 2,
        response_mode: ResponseMode = "compact",
        node_postprocessors: Sequence[Postprocessor] = (),
        chat_history: Sequence[ChatMessage] = (),
        citations: bool = True,
        **options: Unpack[Options],
    ) -> ChatEngine:
        """A new conversation over this index."""
        return ChatEngine(
            self.as_retriever(similarity_top_k),
            get_response_synthesizer(llm=llm, response_mode=response_mode, **options),
            node_postprocessors,
            chat_history,
            self.embed_model if citations else None,
        )

    def close(self) -> None:
        """Give back files and threads; the index must not be used afterwards."""
        self._store.close()
