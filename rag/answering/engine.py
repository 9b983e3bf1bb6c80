"""The one path from a question to its answer: condense, retrieve, post-process, synthesize.

Knows nothing of who reads the events: the page, the terminal, or `StreamingResponse`.
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

from rag.answering import follow_ups, prompts
from rag.answering.budget import left_beside, newest
from rag.answering.calls import Calls, both
from rag.answering.citations import attributed
from rag.answering.events import (
    CONVERSATION,
    SEARCHING,
    Event,
    Events,
    Finished,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.answering.options import USUAL, AnswerOptions
from rag.answering.postprocessing import First
from rag.answering.prompts import fenced
from rag.answering.relevance import RelevancePostprocessor
from rag.answering.sentences import PASSAGES, BestSentences
from rag.answering.synthesis import ResponseSynthesizer
from rag.config import Config
from rag.index.embedding import Embedding
from rag.index.retrieval import Retriever
from rag.llms.protocol import LLM
from rag.types import ChatMessage, NodeWithScore, Usage
from rag.weights import Report

Postprocessor = Callable[[Sequence[NodeWithScore], str], Sequence[NodeWithScore]]
"""Takes the passages that were found, and the question; returns those to answer from."""


RERANKED = 20
"""Passages that a cross-encoder puts in order."""


def load_rerank(config: Config, report: Report) -> Postprocessor | None:
    """The cross-encoder of the settings; None where none is set."""
    if not config.rerank_model:
        return None
    from rag.index.reranking_huggingface import SentenceTransformerRerank

    return SentenceTransformerRerank(
        config.rerank_model, RERANKED, models_dir=config.models_dir, report=report
    )


def usual_postprocessors(
    llm: LLM,
    config: Config,
    embed_model: Embedding,
    rerank: Postprocessor | None = None,
    top_k: int | None = None,
) -> list[Postprocessor]:
    """What stands between search and answer where nothing else is stated: whether anything bears on
    the question, a cross-encoder where one is set, and how many passages the model can use.

    `top_k` is how many a person asked for; None: as the settings have it.
    """
    chosen: list[Postprocessor] = [RelevancePostprocessor(embed_model, config.relevance_cutoff)]
    if rerank:
        chosen += [rerank, First(top_k or config.top_k)]
    if llm.is_small and config.response_mode == "compact":
        chosen.append(BestSentences(embed_model, top_k or PASSAGES))
    return chosen


def searched(config: Config, top_k: int | None = None) -> int:
    """How many passages are searched for, so that post-processing leaves `top_k` (of the settings
    when None)."""
    top_k = top_k or config.top_k
    return max(RERANKED, top_k) if config.rerank_model else top_k


def answer_as_set(
    question: str,
    retriever: Retriever | None,
    llm: LLM,
    config: Config,
    embed_model: Embedding | None,
    rerank: Postprocessor | None = None,
    history: Sequence[ChatMessage] = (),
    options: AnswerOptions = USUAL,
    search_for: str = "",
) -> Events:
    """`answer` as the settings have it, and what a person set on top: what the page does, and what
    `python -m rag eval` measures. Without a retriever, or what embeds for it, nothing is searched:
    the model is asked with the conversation alone."""
    searching = retriever is not None and embed_model is not None
    prompts = options.prompts(small=llm.is_small)
    synthesizer = ResponseSynthesizer(
        llm,
        config.response_mode if searching else "generation",
        streaming=True,
        prompts=prompts if llm.is_small else fenced(prompts),
        max_tokens=options.max_tokens or config.max_new_tokens,
        temperature=options.temperature,
    )
    postprocessors = (
        usual_postprocessors(llm, config, embed_model, rerank, options.top_k) if embed_model else ()
    )
    return answer(
        question, retriever, synthesizer, history, postprocessors, embed_model, search_for
    )


def answer(
    question: str,
    retriever: Retriever | None,
    synthesizer: ResponseSynthesizer,
    history: Sequence[ChatMessage] = (),
    node_postprocessors: Sequence[Postprocessor] = (),
    embed_model: Embedding | None = None,
    search_for: str = "",
) -> Events:
    """Answer `question` from what `retriever` finds, with `history` before it.

    With `embed_model` each sentence of it is checked: `Citation`. `search_for` is the question as
    a person put it to be searched for: it is not condensed, and takes the place of `question`.
    `retriever` may be None where the synthesizer needs no passages.
    Raises ValueError for a question without a word, NotImplementedError before retrieval where
    a stream is asked of a model that cannot, and whatever retrieval and model raise; text that
    came before an error has been yielded.
    """
    asked = time.monotonic()
    llm = synthesizer.llm
    if not question.strip():
        raise ValueError("The question is empty. Ask something.")
    if synthesizer.streaming and not llm.is_streaming:
        raise NotImplementedError(
            f"The model {llm.model_name} cannot stream. Set streaming=False, or choose another "
            f"model (RAG_MODEL)."
        )
    synthesizer, history = _told_before(synthesizer, history)
    calls = Calls(llm, None)  # the limit of an answer is not that of a question
    found: Sequence[NodeWithScore] = ()
    nodes: Sequence[NodeWithScore] = ()
    standalone = question
    if retriever is not None and not synthesizer.answers_without_passages:
        if search_for.strip():
            question = standalone = search_for.strip()
            yield SearchedFor(standalone)
        else:
            standalone = yield from _condense(question, history, synthesizer, calls)
            if standalone != question:
                yield SearchedFor(standalone)
        yield Status(SEARCHING)
        nodes = found = retriever.retrieve(standalone)
        for postprocess in node_postprocessors:
            nodes = postprocess(list(nodes), standalone)
    retrieval = time.monotonic() - asked
    yield Timings(retrieval)
    events = synthesizer.events(
        question,
        nodes,
        history,
        # Of questions that were put together a small model answers the last, which is the older.
        standalone=question if llm.is_small else standalone,
        nothing=prompts.NOTHING_LEFT if found else prompts.NOTHING_FOUND,
    )
    events = _completed(events, found, retrieval, calls.usage)
    if embed_model and synthesizer.writes_from_passages:
        events = attributed(standalone, events, embed_model)
    yield from events


def _completed(
    events: Events, found: Sequence[NodeWithScore], retrieval: float, usage: Usage | None
) -> Events:
    """A synthesizer's `events` with what is known besides: what else was `found`, the seconds that
    `retrieval` took, the `usage` of what was called for it."""
    for event in events:
        match event:
            case Sources(given):
                others = (hit for hit in found if not any(g.node.holds(hit.node) for g in given))
                yield Sources(given, tuple(others))
            case Timings(first_token=float(first)):
                yield replace(event, retrieval=retrieval, first_token=retrieval + first)
            case Usage():
                yield both(usage, event) or event
            case Finished(reason, used):
                yield Finished(reason, both(usage, used))
            case _:
                yield event


def _told_before(
    synthesizer: ResponseSynthesizer, history: Sequence[ChatMessage]
) -> tuple[ResponseSynthesizer, list[ChatMessage]]:
    """The conversation as chat templates want it: questions and answers in turn, and what the
    system says in one message, which is the synthesizer's.

    A question is left out that had no answer, or one that was ours and not the model's.
    """
    kept: list[ChatMessage] = []
    for message in history:
        if message.role == "user":
            if kept and kept[-1].role == "user":
                kept.pop()
            kept.append(message)
        elif message.role == "assistant" and kept and kept[-1].role == "user":
            if message.content.strip() and message.content not in prompts.OURS:
                kept.append(message)
            else:
                kept.pop()
    if kept and kept[-1].role == "user":
        kept.pop()
    told = [synthesizer.prompts.system_prompt]
    told += [message.content for message in history if message.role == "system"]
    system_prompt = "\n\n".join(filter(None, told))
    return replace(
        synthesizer, prompts=replace(synthesizer.prompts, system_prompt=system_prompt)
    ), kept


def _condense(
    question: str, history: Sequence[ChatMessage], synthesizer: ResponseSynthesizer, calls: Calls
) -> Generator[Event, None, str]:
    """`question` so that it can be searched for without what was said before it."""
    if not history:
        return question
    if synthesizer.llm.is_small:
        asked = [message.content for message in history if message.role == "user"]
        return follow_ups.standalone(question, asked)

    def messages(earlier: Sequence[ChatMessage]) -> list[ChatMessage]:
        told = "\n".join(f"{message.role}: {message.content}" for message in earlier)
        return synthesizer.prompts.messages(
            "condense_template", {"chat_history": told, "question": question}
        )

    yield Status(CONVERSATION)
    room = left_beside(synthesizer.llm, messages(()), calls.max_tokens)
    earlier = newest(history, synthesizer.llm, room)
    if not earlier:
        return question
    text = yield from calls.collect(messages(earlier))
    lines = [line for each in text.splitlines() if (line := each.strip("\"'“” "))]
    if not lines or calls.ended != "stop":
        return question
    # Some say first what they are about to do.
    return next((line for line in lines if line.endswith(("?", "？"))), lines[0])
