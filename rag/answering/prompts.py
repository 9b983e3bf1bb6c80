"""What a model is told, and how much of it fits."""

from collections.abc import Sequence
from dataclasses import dataclass

from rag.errors import ContextWindowError
from rag.llms.protocol import LLM
from rag.types import ChatMessage, NodeWithScore

SYSTEM = (
    "You answer questions from passages of the user's documents. Use only what the passages "
    "say. Answer in one to three full sentences. If the passages do not hold the answer, say "
    "that you did not find it."
)
NO_HITS = "There is nothing to search here yet. Add a document and ask again."
"""The answer where no passage was found; no model is called for it."""
NO_TEXT = "The model gave no answer. Ask in other words, or choose another model."
"""The answer where the model ended without a word."""

MESSAGE_TOKENS = 8
"""Tokens that a chat template adds to each message, or a little less."""


@dataclass(frozen=True)
class Prompt:
    """The messages for a model, and the passages that found room in them."""

    messages: list[ChatMessage]
    nodes: list[NodeWithScore]
    left_out: int


def build(
    llm: LLM,
    question: str,
    nodes: Sequence[NodeWithScore],
    history: Sequence[ChatMessage] = (),
    *,
    max_tokens: int,
    system: str = SYSTEM,
) -> Prompt:
    """Lay out the prompt so that it and an answer of `max_tokens` fit the model's window.

    The question always goes in. Passages come next, the best first; then of the history as
    much as fits, cut from its oldest end. Raises ContextWindowError when not even the question
    and a part of the best passage fit.
    """
    room = llm.context_window - max_tokens
    for message in (system, _user_text(question, [])):
        room -= llm.count_tokens(message) + MESSAGE_TOKENS
    if room < 0:
        raise ContextWindowError(
            f"The question is too long for {llm.model_name}, which reads "
            f"{llm.context_window} tokens with {max_tokens} kept for the answer. Shorten it."
        )
    chosen: list[NodeWithScore] = []
    for node in nodes:
        cost = llm.count_tokens(_passage(len(nodes), node))
        if cost > room:
            break
        chosen.append(node)
        room -= cost
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
    messages = [
        ChatMessage("system", system),
        *kept,
        ChatMessage("user", _user_text(question, chosen)),
    ]
    return Prompt(messages, chosen, len(nodes) - len(chosen))


def _user_text(question: str, nodes: Sequence[NodeWithScore]) -> str:
    passages = "".join(_passage(number, node) for number, node in enumerate(nodes, start=1))
    return f"Passages:\n\n{passages}Question: {question}"


def _passage(number: int, hit: NodeWithScore) -> str:
    """Headings are given too: the subject of a passage often stands only there."""
    heading = f"{hit.node.headings[-1]}\n" if hit.node.headings else ""
    return f"[{number}] {heading}{hit.node.text}\n\n"
