"""The one path from a question to its answer: retrieve, lay out the prompt, stream.

Knows nothing of who reads the events: the page, the terminal, or `StreamingResponse`.
"""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from rag.answering import prompts
from rag.answering.events import Events, Finished, Sources, Status, Timings
from rag.index.retrieval import Retriever
from rag.llms.protocol import LLM
from rag.types import ChatMessage, Completion, counted


def answer(
    question: str,
    retriever: Retriever,
    llm: LLM,
    history: Sequence[ChatMessage] = (),
    *,
    max_tokens: int,
) -> Events:
    """Answer `question` from what `retriever` finds, with `history` before it.

    Raises NotImplementedError before retrieval when the model cannot stream, and whatever
    retrieval and model raise; text that came before an error has been yielded.
    """
    if not llm.is_streaming:
        raise NotImplementedError(
            f"The model {llm.model_name} cannot stream. Choose another one by RAG_MODEL."
        )
    asked = time.monotonic()
    yield Status("Searching your documents")
    nodes = retriever.retrieve(question)
    timings = Timings(retrieval=time.monotonic() - asked)
    yield timings
    if not nodes:
        yield Sources(())
        yield prompts.NO_HITS
        yield Finished("stop")
        return
    prompt = prompts.build(llm, question, nodes, history, max_tokens=max_tokens)
    yield Sources(tuple(prompt.nodes), tuple(nodes[len(prompt.nodes) :]))
    yield Status(f"Reading {counted(len(prompt.nodes), 'passage')}")
    first = 0.0
    pieces = 0
    with closing(llm.stream(prompt.messages, max_tokens=max_tokens)) as stream:
        while True:
            try:
                piece = next(stream)
            except StopIteration as end:
                completion: Completion = end.value
                break
            if piece:
                pieces += 1
            if piece.strip() and not first:
                first = time.monotonic()
                timings = replace(timings, first_token=first - asked)
                yield timings
            yield piece
    writing = time.monotonic() - first
    usage = completion.usage
    tokens = usage.completion_tokens if usage else pieces
    if not first:
        yield prompts.NO_TEXT
    elif tokens > 1:
        yield replace(timings, tokens_per_second=(tokens - 1) / max(writing, 1e-6))
    yield Finished(completion.finish_reason, usage)
