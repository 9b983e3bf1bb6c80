"""The public names, and nothing else: each is loaded when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag.answering.chat_engine import ChatEngine as ChatEngine
    from rag.answering.defaults import Settings as Settings
    from rag.answering.postprocessing import SimilarityPostprocessor as SimilarityPostprocessor
    from rag.answering.query_engine import RetrieverQueryEngine as RetrieverQueryEngine
    from rag.answering.query_engine import get_response_synthesizer as get_response_synthesizer
    from rag.answering.relevance import RelevancePostprocessor as RelevancePostprocessor
    from rag.answering.response import AsyncStreamingResponse as AsyncStreamingResponse
    from rag.answering.response import Response as Response
    from rag.answering.response import StreamingResponse as StreamingResponse
    from rag.answering.vector_store_index import VectorStoreIndex as VectorStoreIndex
    from rag.documents.reader import SimpleDirectoryReader as SimpleDirectoryReader
    from rag.documents.reader import SimpleWebPageReader as SimpleWebPageReader
    from rag.index.chroma_server import ChromaServer as ChromaServer
    from rag.index.embedding import HashEmbedding as HashEmbedding
    from rag.index.embedding_huggingface import HuggingFaceEmbedding as HuggingFaceEmbedding
    from rag.index.reranking_huggingface import (
        SentenceTransformerRerank as SentenceTransformerRerank,
    )
    from rag.llms.huggingface import HuggingFaceLLM as HuggingFaceLLM
    from rag.llms.langchain import LangChainLLM as LangChainLLM
    from rag.llms.openai import OpenAI as OpenAI
    from rag.llms.scripted import ScriptedLLM as ScriptedLLM
    from rag.types import ChatMessage as ChatMessage
    from rag.types import Document as Document
    from rag.types import Node as Node
    from rag.types import NodeWithScore as NodeWithScore

_MODULES = {
    "AsyncStreamingResponse": "answering.response",
    "ChatEngine": "answering.chat_engine",
    "ChatMessage": "types",
    "ChromaServer": "index.chroma_server",
    "Document": "types",
    "HashEmbedding": "index.embedding",
    "HuggingFaceEmbedding": "index.embedding_huggingface",
    "HuggingFaceLLM": "llms.huggingface",
    "LangChainLLM": "llms.langchain",
    "Node": "types",
    "NodeWithScore": "types",
    "OpenAI": "llms.openai",
    "RelevancePostprocessor": "answering.relevance",
    "Response": "answering.response",
    "RetrieverQueryEngine": "answering.query_engine",
    "ScriptedLLM": "llms.scripted",
    "SentenceTransformerRerank": "index.reranking_huggingface",
    "Settings": "answering.defaults",
    "SimilarityPostprocessor": "answering.postprocessing",
    "SimpleDirectoryReader": "documents.reader",
    "SimpleWebPageReader": "documents.reader",
    "StreamingResponse": "answering.response",
    "VectorStoreIndex": "answering.vector_store_index",
    "get_response_synthesizer": "answering.query_engine",
}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
