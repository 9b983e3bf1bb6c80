"""A conversation over documents, from Python, under LlamaIndex's names."""

import weakref
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from rag.answering.engine import Postprocessor, answer
from rag.answering.events import Events, Finished
from rag.answering.response import AsyncStreamingResponse, Response, StreamingResponse
from rag.answering.synthesis import ResponseSynthesizer
from rag.errors import RivuletError
from rag.index.embedding import Embedding
from rag.index.retrieval import Retriever
from rag.types import ChatMessage, FinishReason


class ChatEngine:
    """One conversation: each later question is condensed with what was said before it, searched
    for, and answered from the passages and the conversation. With `embed_model` each sentence of an
    answer is checked against the passages (`response.citations`).

    `chat_history` has both turns of an exchange once its stream has ended, in whichever way; an
    answer that is not whole has a `finish_reason` other than "stop". A new message stops an
    answer that is still being written. Raises what `answer` raises, and RivuletError where
    another thread is just reading that answer: each conversation needs an engine of its own.
    """

    def __init__(
        self,
        retriever: Retriever,
        response_synthesizer: ResponseSynthesizer,
        node_postprocessors: Sequence[Postprocessor] = (),
        chat_history: Sequence[ChatMessage] = (),
        embed_model: Embedding | None = None,
    ):
        self.retriever = retriever
        self.response_synthesizer = response_synthesizer
        self.node_postprocessors = tuple(node_postprocessors)
        self.chat_history = list(chat_history)
        self.embed_model = embed_model
        # Weak: a response that is dropped has to end its turn.
        self._running: weakref.ref[Events] | None = None

    def chat(self, message: str) -> Response:
        """The whole answer to `message`."""
        return Response.of(self.events(message, streaming=False))

    def stream_chat(self, message: str) -> StreamingResponse:
        """The answer to `message`, once the model call that writes it has started."""
        return StreamingResponse.begin(self.events(message, streaming=True))

    async def achat(self, message: str) -> Response:
        """`chat` without holding up the event loop. Cancelling it stops the model."""
        response = await AsyncStreamingResponse.begin(self.events(message, streaming=False))
        return await response.get_response()

    async def astream_chat(self, message: str) -> AsyncStreamingResponse:
        """`stream_chat` without holding up the event loop."""
        return await AsyncStreamingResponse.begin(self.events(message, streaming=True))

    def reset(self) -> None:
        """Begin the conversation anew; an answer that is still being written is stopped."""
        self._stop()
        self.chat_history.clear()

    def events(self, message: str, *, streaming: bool = True) -> Events:
        """The answer to `message` as it is made, for an interface that shows all of it."""
        own: list[weakref.ref[Events]] = []
        events = self._turn(message, streaming, own)
        own.append(weakref.ref(events))
        return events

    def _turn(self, message: str, streaming: bool, own: Sequence[weakref.ref[Events]]) -> Events:
        """The events of one turn, which `own` refers to; at its end the history has it."""
        self._stop()
        (self._running,) = own
        text, begun = "", False
        finish_reason: FinishReason = "stopped"
        events = answer(
            message,
            self.retriever,
            replace(self.response_synthesizer, streaming=streaming),
            tuple(self.chat_history),
            self.node_postprocessors,
            self.embed_model,
        )
        try:
            with closing(events):
                for event in events:
                    begun = True
                    if isinstance(event, str):
                        text += event
                    elif isinstance(event, Finished):
                        finish_reason = event.finish_reason
                    yield event
        except Exception:
            finish_reason = "error"
            raise
        finally:
            if begun:  # a message that cannot be asked is no turn
                self.chat_history.append(ChatMessage("user", message))
                self.chat_history.append(ChatMessage("assistant", text, finish_reason))

    def _stop(self) -> None:
        """End the turn that runs."""
        running = self._running() if self._running else None
        try:
            if running:
                running.close()
        except ValueError as error:  # it is being read at this moment
            raise RivuletError(
                "This conversation's last answer is still being read by another thread. Close it "
                "first, or use a chat engine for each conversation."
            ) from error
