"""What a model is told, and how much of it fits."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.errors import ContextWindowError
from rag.llms.protocol import LLM
from rag.types import ChatMessage, NodeWithScore

TEMPLATE = (
    "Context from my documents:\n-----\n{passages}-----\n"
    "Using this context and not prior knowledge, answer the query in a full sentence.\n"
    "Query: {question}\nAnswer: "
)
"""Of eleven wordings the one with which the default model answers best (docs/decisions.md)."""
NO_HITS = "There is nothing to search here yet. Add a document and ask again."
"""The answer where no passage was found; no model is called for it."""
NO_TEXT = "The model gave no answer. Ask in other words, or choose another model."
"""The answer where the model ended without a word."""

MESSAGE_TOKENS = 8
"""Tokens that a chat template adds to each message, or a little less."""
TEMPLATE_TOKENS = 48
"""Tokens that it may add once: many begin with a system message of their own."""


@dataclass(frozen=True)
class Prompt:
    """The messages for a model, and those of the passages that went into them."""

    messages: list[ChatMessage]
    nodes: list[NodeWithScore]


def build(
    llm: LLM,
    question: str,
    nodes: Sequence[NodeWithScore],
    history: Sequence[ChatMessage] = (),
    *,
    max_tokens: int,
) -> Prompt:
    """Lay out the prompt so that it and an answer of `max_tokens` fit the model's window.

    The question always goes in. Passages come next, the best first; then of the history as
    much as fits, cut from its oldest end. A small model gets the best passage and no history.
    Raises ContextWindowError when not even the question and the best passage fit.
    """
    if llm.is_small:
        nodes, history = nodes[:1], ()
    room = llm.context_window - max_tokens - TEMPLATE_TOKENS
    room -= llm.count_tokens(_user_text(question, [])) + MESSAGE_TOKENS
    if room < 0:
        raise ContextWindowError(
            f"The question is too long for {llm.model_name}, which reads "
            f"{llm.context_window} tokens with {max_tokens} kept for the answer. Shorten it."
        )
    chosen: list[NodeWithScore] = []
    for node in nodes:
        room -= llm.count_tokens(_passage(node))
        if room < 0:
            break
        chosen.append(node)
    if nodes and not chosen:
        raise ContextWindowError(
            f"No passage fits beside the question into the {llm.context_window} tokens of "
            f"{llm.model_name}. Shorten the question, or choose a model with a larger window."
        )
    kept: list[ChatMessage] = []
    for message in reversed(history):
        room -= llm.count_tokens(message.content) + MESSAGE_TOKENS
        if room < 0:
            break
        kept.insert(0, message)
    if kept and kept[0].role == "assistant":  # its question was cut off
        kept.pop(0)
    return Prompt([*kept, ChatMessage("user", _user_text(question, chosen))], chosen)


def _user_text(question: str, nodes: Sequence[NodeWithScore]) -> str:
    """Passages before the question: a small model answers what it read last."""
    return TEMPLATE.format(passages="".join(map(_passage, nodes)), question=question)


def _passage(hit: NodeWithScore) -> str:
    """A passage below its heading: its subject often stands only there.

    A heading that is a question is left out; a small model repeats it instead of answering.
    """
    heading = [title for title in hit.node.headings[-1:] if not title.endswith("?")]
    return "\n".join((*heading, hit.node.text)) + "\n\n"
