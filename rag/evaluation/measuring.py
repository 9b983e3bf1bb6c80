"""Questions put to an index, and what came of them as figures."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

from rag.answering.engine import Postprocessor, answer_as_set, searched
from rag.answering.events import Sources
from rag.answering.vector_store_index import VectorStoreIndex
from rag.config import Config, RetrieverMode
from rag.errors import StoreError
from rag.evaluation.files import Entry, Question
from rag.evaluation.metrics import DEPTH, contains, mean, retrieval_figures
from rag.index.retrieval import Retriever
from rag.llms.protocol import LLM
from rag.types import counted
from rag.weights import Report

DEEPEST = 1_000
"""Passages that are looked through for DEPTH different entries: long ones take many places."""


def put_in(index: VectorStoreIndex, entries: Sequence[Entry], report: Report) -> None:
    """Take the corpus into `index`, each entry as a document under its id.

    Raises StoreError where there are others in it, which would be found as well.
    """
    others = {document.id_ for document in index.documents} - {entry.id_ for entry in entries}
    if others:
        raise StoreError(
            f"The index holds {counted(len(others), 'document')} that the corpus has not. Choose "
            f"another folder (--storage-dir)."
        )
    for number, entry in enumerate(entries):
        report(f"Embedding {counted(len(entries), 'document')}", number / len(entries))
        index.insert(entry.document)


def rank(retriever_of: Callable[[int], Retriever], question: str) -> list[str]:
    """The ids of the first DEPTH documents that are found, each ranked by its best passage.

    `retriever_of(n)` finds n passages.
    """
    top_k, before = DEPTH, -1
    while True:
        hits = retriever_of(top_k).retrieve(question)
        ranking = list(dict.fromkeys(hit.node.document_id for hit in hits))
        if len(ranking) >= DEPTH or len(hits) <= before or top_k >= DEEPEST:
            return ranking[:DEPTH]
        top_k, before = 2 * top_k, len(hits)


def measure_retrieval(
    index: VectorStoreIndex, questions: Sequence[Question], mode: RetrieverMode, report: Report
) -> dict[str, float]:
    """The means over the questions of which it is known what should be found; {} without any."""
    asked = [question for question in questions if question.is_searchable]
    figures = []
    for number, question in enumerate(asked):
        report(f"Searching for {counted(len(asked), 'question')}", number / len(asked))
        ranking = rank(lambda top_k: index.as_retriever(top_k, mode), question.text)
        figures.append(retrieval_figures(ranking, question.grades))
    return mean(figures)


def measure_answers(
    index: VectorStoreIndex,
    questions: Sequence[Question],
    mode: RetrieverMode,
    llm: LLM,
    config: Config,
    report: Report,
    rerank: Postprocessor | None = None,
) -> dict[str, float]:
    """`contains`, over the questions with known answers; and where there are questions without an
    answer, `refused` of these and `refused_wrongly` of the others.

    A question is refused when no model is called for it. Answers are made as on the page.
    """
    retriever = index.as_retriever(searched(config), mode)
    if mode != "hybrid":  # other scores, for which no cut-off was measured
        config = replace(config, relevance_cutoff=0.0)
    right: list[bool] = []
    refused: dict[bool, list[bool]] = {True: [], False: []}
    for number, question in enumerate(questions):
        report(f"Answering {counted(len(questions), 'question')}", number / len(questions))
        text, given = "", False
        events = answer_as_set(question.text, retriever, llm, config, index.embed_model, rerank)
        with closing(events):
            for event in events:
                if isinstance(event, str):
                    text += event
                elif isinstance(event, Sources):
                    given = bool(event.nodes) or config.response_mode == "generation"
        if question.answers:
            right.append(contains(text, question.answers))
        refused[question.is_answerable].append(not given)
    shares = {"contains": right}
    if refused[False]:
        shares |= {"refused": refused[False], "refused_wrongly": refused[True]}
    return {name: sum(share) / len(share) for name, share in shares.items() if share}
