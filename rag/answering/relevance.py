"""No hit is an answer: whether anything that was found bears on the question at all."""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rag.config import DEFAULT_EMBED_MODEL
from rag.index.embedding import Embedding
from rag.index.words import STOP, spaced
from rag.types import NodeWithScore

CUTOFFS = {DEFAULT_EMBED_MODEL: 0.3}
"""Scores of hybrid retrieval below which nothing bears on a question, by embedding model. Scores of
another model mean something else; without a measurement nothing is refused."""
GENERAL = 0.4
"""Cosine from which on a question is like one of those below."""
_GENERAL = (
    "What is this document about?",
    "Summarize the document.",
    "Could you sum this up for me?",
    "Give me the gist.",
    "TL;DR",
    "What are the key takeaways?",
    "What are the main topics of these documents?",
    "Explain this to me in simple words.",
    "What does the author say?",
    "Who wrote this?",
    "What is the conclusion?",
    "What can you tell me about this file?",
    "List the most important facts.",
    "Is there anything surprising in it?",
    "What did I upload?",
    "Tell me more.",
    "What is the purpose of this text?",
    "How many pages does the document have?",
    "What is the first chapter about?",
    "Translate this text.",
    "Compare the documents.",
    "What can you do?",
    "What should I know?",
    "Is this important?",
    "Ask me a question about it.",
    "Hello",
    "Good morning",
    "Thank you",
    "ok",
    "yes",
    "continue",
    "Hallo",
    "Danke",
    "Bonjour",
    "Merci",
    "Hola",
    "Gracias",
    "Wovon handelt dieses Dokument?",
    "Fasse den Text kurz zusammen.",
    "Was steht in der Datei?",
    "Was sind die wichtigsten Punkte?",
    "De quoi parle ce document ?",
    "Résume ce texte.",
    "Quels sont les points principaux ?",
    "¿De qué trata este documento?",
    "Resume el texto.",
)
"""Questions about the documents as a whole, and small talk: no passage is near to them, and yet
they are not to be refused."""


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", spaced(text))


class RelevancePostprocessor:
    """Keeps all passages, or none where even the best has a score below `cutoff`.

    Questions about the documents as a whole are let through. `cutoff` is the one measured for
    `embed_model` when None; where there is none, or it is 0, everything is kept. Passages without a
    score are kept too.
    """

    def __init__(self, embed_model: Embedding, cutoff: float | None = None):
        self.embed_model = embed_model
        self.cutoff = CUTOFFS.get(embed_model.name, 0.0) if cutoff is None else cutoff

    def __call__(self, nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:
        bears = any(hit.score is None or hit.score >= self.cutoff for hit in nodes)
        return nodes if bears or self._is_there(query, nodes) or self._is_general(query) else []

    @staticmethod
    def _is_there(query: str, nodes: Sequence[NodeWithScore]) -> bool:
        """Whether a passage has all words of `query`, as it has a number that was asked for."""
        asked = set(_words(query)) - STOP
        return any(asked <= set(_words(hit.node.embedded_text)) for hit in nodes)

    def _is_general(self, query: str) -> bool:
        letters = "".join(filter(str.isalpha, query))
        if letters and not re.search("[A-Za-z]", letters):  # models with a cut-off know English
            return True
        vector = self.embed_model.embed_query(query).vector
        return bool((_general(self.embed_model) @ vector).max() >= GENERAL)


@lru_cache(maxsize=2)
def _general(embed_model: Embedding) -> NDArray[np.float32]:
    """Kept by model: each question has a post-processor of its own."""
    return np.array([each.vector for each in embed_model.embed(_GENERAL)])
