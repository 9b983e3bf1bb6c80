"""An answer -> further questions that the documents can answer, each checked by a search."""

from collections.abc import Generator, Sequence

from rag.answering.events import Sources
from rag.config import Config
from rag.index.embedding import Embedding
from rag.index.retrieval import Retriever
from rag.llms.protocol import LLM

MOST = 3
"""Questions that are suggested."""


def suggest(
    asked: Sequence[str],
    sources: Sources,
    retriever: Retriever,
    config: Config,
    embed_model: Embedding,
    llm: LLM | None = None,
) -> Generator[str, None, None]:
    """At most `MOST` questions, one by one; empty texts between, at which the reader can stop.

    `asked` are the questions of the conversation, that of the answer last, as it was searched for;
    `sources` are that answer's. Of the rule alone where `llm` is None or small.
    """
    yield ""
