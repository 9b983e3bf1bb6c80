"""A question -> its answer, from Python, under LlamaIndex's names."""

from collections.abc import Sequence
from typing import TypedDict, Unpack

from rag.answering.defaults import Settings, named
from rag.answering.engine import Postprocessor, answer
from rag.answering.events import Events
from rag.answering.prompts import Prompts, Template
from rag.answering.response import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
    arespond,
    respond,
)
from rag.answering.synthesis import ResponseSynthesizer
from rag.config import ResponseMode
from rag.index.embedding import Embedding
from rag.index.retrieval import Retriever
from rag.llms.protocol import LLM


class Templates(TypedDict, total=False):
    """What the model is told; see `Prompts`."""

    text_qa_template: Template
    refine_template: Template
    summary_template: Template
    simple_template: Template
    condense_template: Template
    system_prompt: str


class Options(Templates, total=False):
    """What a synthesizer can be given besides."""

    max_tokens: int | None
    temperature: float | None
    stop: Sequence[str]


def get_response_synthesizer(
    streaming: bool = False,
    response_mode: ResponseMode = "compact",
    llm: LLM | str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    stop: Sequence[str] = (),
    **templates: Unpack[Templates],
) -> ResponseSynthesizer:
    """A synthesizer that answers by `llm` in `response_mode`.

    `llm` may be a name as `RAG_MODEL` takes it; None is `Settings.llm`. The other arguments are
    those of `ResponseSynthesizer` and `Prompts`. Raises ConfigurationError for a mode that does
    not exist, or a template that lacks a place.
    """
    if unknown := templates.keys() - Templates.__annotations__.keys():
        known = [*Options.__annotations__, *Templates.__annotations__]
        raise TypeError(
            f"There is no option {', '.join(sorted(unknown))}. There are {', '.join(known)}."
        )
    return ResponseSynthesizer(
        Settings.llm if llm is None else named(llm),
        response_mode,
        streaming,
        Prompts(**templates),
        max_tokens,
        temperature,
        stop,
    )


class RetrieverQueryEngine:
    """Answers questions, each by itself, from what `retriever` finds.

    The passages go through `node_postprocessors` in their order. With `embed_model` each sentence
    of an answer is checked against them (`response.citations`). Safe to share between threads: it
    keeps nothing of a question.
    """

    def __init__(
        self,
        retriever: Retriever,
        response_synthesizer: ResponseSynthesizer | None = None,
        node_postprocessors: Sequence[Postprocessor] = (),
        embed_model: Embedding | None = None,
    ):
        self.retriever = retriever
        self.response_synthesizer = response_synthesizer or get_response_synthesizer()
        self.node_postprocessors = tuple(node_postprocessors)
        self.embed_model = embed_model

    @classmethod
    def from_args(
        cls,
        retriever: Retriever,
        llm: LLM | str | None = None,
        response_mode: ResponseMode = "compact",
        streaming: bool = False,
        node_postprocessors: Sequence[Postprocessor] = (),
        embed_model: Embedding | None = None,
        **options: Unpack[Options],
    ) -> "RetrieverQueryEngine":
        """An engine with a synthesizer of these arguments, as `get_response_synthesizer`'s."""
        synthesizer = get_response_synthesizer(streaming, response_mode, llm, **options)
        return cls(retriever, synthesizer, node_postprocessors, embed_model)

    def query(self, query: str) -> Response | StreamingResponse:
        """Answer `query`: a StreamingResponse, once the last model call has started, where the
        synthesizer streams; else a whole Response.

        Raises ValueError for an empty question, NotImplementedError where the model cannot
        stream, ModelError and StoreError.
        """
        return respond(self.events(query), self.response_synthesizer.streaming)

    async def aquery(self, query: str) -> Response | AsyncStreamingResponse:
        """`query` without holding up the event loop. Cancelling it stops the model."""
        return await arespond(self.events(query), self.response_synthesizer.streaming)

    def events(self, query: str) -> Events:
        """The answer to `query` as it is made, for an interface that shows all of it."""
        return answer(
            query,
            self.retriever,
            self.response_synthesizer,
            node_postprocessors=self.node_postprocessors,
            embed_model=self.embed_model,
        )
