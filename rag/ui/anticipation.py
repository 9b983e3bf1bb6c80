"""While a question is being typed, what it will be answered from is searched for and read.

So only its last words are left to be read when it is asked. It goes the very way of the question,
with a model that reads instead of writing. Questions that are asked come first: while any answer is
being written nothing is read ahead, and a model drops what it reads ahead when it is asked.
Knows nothing of gradio.
"""

import logging
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from rag.answering.engine import answer_as_set
from rag.answering.events import Sources
from rag.llms.protocol import LLM, TextStream
from rag.types import ChatMessage, Completion
from rag.ui.backend import Backend
from rag.ui.conversations import Conversation, Turn
from rag.ui.sessions import Session
from rag.ui.writing import Searching, history

logger = logging.getLogger(__name__)

FEWEST = 2
"""Words from which on something is searched for."""


class Anticipation:
    """Reads ahead, over the backend it shares: for one person at a time."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self._one = threading.Lock()

    def expect(
        self, session: Session, conversation: Conversation, turn: Turn, model: str
    ) -> tuple[str, ...]:
        """Read what `turn` would be answered from, if it were asked of `model` as it stands.

        Returns the passages, by their identities; none where nothing is read: the model is
        elsewhere, or not loaded, or there is something else to do.
        """
        if len(turn.question.split()) < FEWEST or not self._one.acquire(blocking=False):
            return ()
        try:
            parts = self.backend.waiting_for(model, turn.scope)
            if not all(part.ready for part in parts):
                return ()
            llm: LLM = parts[-1].result()
            if not hasattr(llm, "read_ahead"):
                return ()
            return self._read(session, conversation, turn, _Reader(llm))
        except Exception as error:  # nobody has asked yet: who does is told
            logger.info("Nothing could be read ahead: %s", error)
            return ()
        finally:
            self._one.release()

    def _read(
        self, session: Session, conversation: Conversation, turn: Turn, llm: "_Reader"
    ) -> tuple[str, ...]:
        backend = self.backend
        searching = None if turn.scope == "none" else Searching(backend, session, turn)
        events = answer_as_set(
            turn.question,
            searching,
            llm,
            backend.config,
            backend.embedding.result() if searching else None,
            backend.rerank if searching else None,
            history(conversation.turns),
            turn.options,
            # Condensing takes a call of a model that is not small, for half a question.
            "" if llm.is_small else turn.question,
        )
        read: tuple[str, ...] = ()
        with closing(events):
            for event in events:
                if isinstance(event, Sources):
                    read = tuple(hit.node.id_ for hit in event.nodes)
        return read


class _Reader:
    """A language model that reads what it is asked, and writes nothing."""

    is_streaming = True

    def __init__(self, llm: LLM):
        self._llm: Any = llm
        self.model_name = llm.model_name
        self.context_window = llm.context_window
        self.max_tokens = llm.max_tokens
        self.is_small = llm.is_small
        self.count_tokens = llm.count_tokens

    def stream(self, messages: Sequence[ChatMessage], **_: Any) -> TextStream:
        yield ""
        self._llm.read_ahead(messages)
        return Completion("stopped")
