"""A conversation: its history after every way of ending, and who may read at the same time."""

import asyncio
import gc
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from rag.answering import prompts
from rag.answering.chat_engine import ChatEngine
from rag.answering.events import SearchedFor
from rag.answering.response import AsyncStreamingResponse, Response, StreamingResponse
from rag.answering.synthesis import ResponseSynthesizer
from rag.errors import ProviderError, RivuletError
from rag.types import ChatMessage, Completion
from tests.answering.conftest import GUARD, Finds, Says, dialogue, of

PIECES = ["The", " sky", " is", " blue."]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def guarded() -> Any:
        return await asyncio.wait_for(coroutine, GUARD)

    return asyncio.run(guarded())


def chat(llm: Any, *texts: str, history: list[ChatMessage] | None = None) -> ChatEngine:
    return ChatEngine(
        Finds(*(texts or ("one",))), ResponseSynthesizer(llm), chat_history=history or ()
    )


def said(engine: ChatEngine) -> list[tuple[str, str, str | None]]:
    return [(turn.role, turn.content, turn.finish_reason) for turn in engine.chat_history]


def turn(question: str, answer: str, how: str = "stop") -> list[tuple[str, str, str | None]]:
    return [("user", question, None), ("assistant", answer, how)]


# The four forms


def test_chat_gives_the_whole_answer() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    response = engine.chat("why?")
    assert isinstance(response, Response)
    assert (str(response), response.finish_reason) == ("The sky is blue.", "stop")
    assert [hit.text for hit in response.source_nodes] == ["one"]
    assert said(engine) == turn("why?", "The sky is blue.")


def test_stream_chat_streams() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    response = engine.stream_chat("why?")
    assert isinstance(response, StreamingResponse)
    assert (llm.open, llm.steps) == (1, 0)
    assert [hit.text for hit in response.source_nodes] == ["one"]
    assert list(response.response_gen) == PIECES
    assert said(engine) == turn("why?", "The sky is blue.")


def test_async_forms_give_the_same() -> None:
    async def main() -> None:
        engine = chat(Says(PIECES))
        whole = await engine.achat("why?")
        assert isinstance(whole, Response)
        assert str(whole) == "The sky is blue."
        response = await engine.astream_chat("and so?")
        assert isinstance(response, AsyncStreamingResponse)
        assert [text async for text in response.async_response_gen()] == PIECES
        assert said(engine) == [
            *turn("why?", "The sky is blue."),
            *turn("and so?", "The sky is blue."),
        ]

    run(main())


def test_a_model_that_cannot_stream_can_chat() -> None:
    llm: Any = Says(PIECES)
    llm.is_streaming = False
    engine = chat(llm)
    with pytest.raises(NotImplementedError, match="says cannot stream"):
        engine.stream_chat("why?")
    assert engine.chat_history == []
    assert str(engine.chat("why?")) == "The sky is blue."


def test_the_synthesizer_s_own_streaming_does_not_matter() -> None:
    for streaming in (True, False):
        engine = ChatEngine(Finds("one"), ResponseSynthesizer(Says(PIECES), streaming=streaming))
        assert isinstance(engine.chat("why?"), Response)
        assert str(engine.stream_chat("so?")) == "The sky is blue."


# The history


def test_21_the_history_holds_both_turns_once_the_stream_has_ended() -> None:
    engine = chat(Says(PIECES))
    response = engine.stream_chat("why?")
    for piece in PIECES:
        assert engine.chat_history == []
        assert next(response.response_gen) == piece
    assert next(response.response_gen, None) is None
    assert said(engine) == turn("why?", "The sky is blue.")


@pytest.mark.parametrize("read", [0, 1, 3])
@pytest.mark.parametrize("how", ["close", "generator", "drop"])
def test_21_after_a_stop_it_holds_the_partial_answer(read: int, how: str) -> None:
    gc.disable()
    try:
        engine = chat(Says(PIECES))
        response = engine.stream_chat("why?")
        for _ in range(read):
            next(response.response_gen)
        if how == "generator" and read:
            response.response_gen.close()
        elif how == "drop":
            del response
        else:
            response.close()
        assert said(engine) == turn("why?", "".join(PIECES[:read]), "stopped")
    finally:
        gc.enable()


@pytest.mark.parametrize("count", [0, 2])
def test_21_after_an_error_it_holds_the_partial_answer(count: int) -> None:
    engine = chat(Says([*PIECES[:count], ProviderError("gone")]))
    response = engine.stream_chat("why?")
    with pytest.raises(ProviderError, match="gone"):
        str(response)
    assert said(engine) == turn("why?", "".join(PIECES[:count]), "error")


def test_21_after_an_error_the_whole_answer_was_asked_for_it_holds_the_partial_one() -> None:
    engine = chat(Says([*PIECES[:2], ProviderError("gone")]))
    with pytest.raises(ProviderError, match="gone"):
        engine.chat("why?")
    assert said(engine) == turn("why?", "The sky", "error")


def test_21_an_interrupted_answer_is_a_stopped_one() -> None:
    engine = chat(Says(PIECES))
    events = engine.events("why?")
    while next(events) != "The":
        pass
    with pytest.raises(KeyboardInterrupt):
        events.throw(KeyboardInterrupt)
    assert said(engine) == turn("why?", "The", "stopped")


@pytest.mark.parametrize("ends", ["length", "truncated"])
def test_09_how_an_answer_ended_stands_in_the_history(ends: Any) -> None:
    engine = chat(Says(["The", Completion(ends)]))
    engine.chat("why?")
    assert said(engine) == turn("why?", "The", ends)


def test_21_an_error_of_the_search_leaves_a_turn_without_an_answer() -> None:
    class Broken(Finds):
        def retrieve(self, query: str) -> Any:
            raise ProviderError("no index")

    engine = ChatEngine(Broken(), ResponseSynthesizer(Says(PIECES)))
    with pytest.raises(ProviderError, match="no index"):
        engine.chat("why?")
    assert said(engine) == turn("why?", "", "error")


@pytest.mark.parametrize("message", ["", " \n"])
def test_a_message_that_cannot_be_asked_is_no_turn(message: str) -> None:
    engine = chat(Says(PIECES))
    with pytest.raises(ValueError, match="empty"):
        engine.stream_chat(message)
    assert engine.chat_history == []


def test_21_reasoning_is_no_part_of_the_history() -> None:
    llm = Says(["<think>Hm.", " Well.</think>", "The sky."])
    engine = chat(llm)
    assert engine.chat("why?").reasoning == "Hm. Well."
    assert said(engine) == turn("why?", "The sky.")
    engine.chat("so?")
    assert not any("Hm" in message.content for messages in llm.calls for message in messages)


def test_earlier_turns_go_before_the_question() -> None:
    llm = Says(["The sky."], ["condensed?"], ["So it is."])
    engine = chat(llm)
    engine.chat("why?")
    engine.chat("so?")
    assert [(m.role, m.content) for m in llm.calls[2][:-1]] == [
        ("user", "why?"),
        ("assistant", "The sky."),
    ]


def test_a_stopped_answer_is_part_of_what_was_said() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    response = engine.stream_chat("why?")
    next(response.response_gen)
    response.close()
    engine.chat("so?")
    assert [message.content for message in llm.calls[-1][:-1]] == ["why?", "The"]


@pytest.mark.parametrize("blank", [[], [ProviderError("gone")]])
def test_a_turn_without_an_answer_is_not_told_to_the_model(blank: list[Any]) -> None:
    llm = Says(blank, PIECES)
    engine = chat(llm)
    response = engine.stream_chat("why?")
    response.close()
    assert said(engine) == turn("why?", "", "stopped")
    assert str(engine.chat("so?")) == "The sky is blue."
    assert [len(messages) for messages in llm.calls] == [1, 1]  # nothing to condense either


def test_a_conversation_can_begin_with_what_was_said_elsewhere() -> None:
    before = dialogue("a?", "A.")
    llm = Says(["why so?"], PIECES)
    engine = chat(llm, history=before)
    engine.chat("why?")
    assert llm.calls[1][:-1] == before
    assert len(engine.chat_history) == 4
    assert len(before) == 2


def test_reset_begins_anew() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    engine.chat("why?")
    engine.reset()
    assert engine.chat_history == []
    engine.chat("so?")
    assert [len(messages) for messages in llm.calls] == [1, 1]
    assert said(engine) == turn("so?", "The sky is blue.")


def test_reset_stops_an_answer_that_is_being_written() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    response = engine.stream_chat("why?")
    next(response.response_gen)
    engine.reset()
    assert llm.open == 0
    assert engine.chat_history == []
    assert list(response.response_gen) == []
    assert response.finish_reason == "stopped"
    assert engine.chat_history == []


def test_22_two_conversations_do_not_see_each_other() -> None:
    llm = Says(PIECES)
    synthesizer = ResponseSynthesizer(llm)
    one, two = (ChatEngine(Finds("one"), synthesizer) for _ in range(2))
    first, second = one.stream_chat("a?"), two.stream_chat("b?")
    assert next(first.response_gen) == next(second.response_gen) == "The"
    assert str(first) == str(second)
    assert said(one) == turn("a?", "The sky is blue.")
    assert said(two) == turn("b?", "The sky is blue.")


# Condensing


def test_20_only_later_messages_are_condensed_and_what_is_searched_for_is_told() -> None:
    llm = Says(["The sky."], ["Why is the sky so?"], ["So."], ["Why is the sky high?"], ["High."])
    engine = chat(llm)
    found = engine.retriever
    assert isinstance(found, Finds)
    assert engine.chat("why?").searched_for == ""
    response = engine.stream_chat("so?")
    assert response.searched_for == "Why is the sky so?"
    assert str(response) == "So."
    assert engine.chat("high?").searched_for == "Why is the sky high?"
    assert found.asked == ["why?", "Why is the sky so?", "Why is the sky high?"]
    assert [message.content for message in engine.chat_history[::2]] == ["why?", "so?", "high?"]
    assert "assistant: So." in llm.calls[3][0].content


def test_20_where_the_model_says_nothing_the_message_itself_is_searched_for() -> None:
    llm = Says(["The sky."], [" \n"], ["So."])
    engine = chat(llm)
    engine.chat("why?")
    assert of(SearchedFor, engine.events("so?")) == []
    assert engine.retriever.asked == ["why?", "so?"]  # type: ignore[attr-defined]


def test_21_an_error_while_condensing_is_a_turn_without_an_answer() -> None:
    engine = chat(Says(["The sky."], ["So", ProviderError("gone")]))
    engine.chat("why?")
    with pytest.raises(ProviderError, match="gone"):
        engine.stream_chat("so?")
    assert said(engine)[2:] == turn("so?", "", "error")


# One after another


@pytest.mark.parametrize("read", [0, 2])
def test_a_new_message_stops_the_answer_before_it(read: int) -> None:
    llm = Says(PIECES, ["condensed?"], ["Then."])
    engine = chat(llm)
    first = engine.stream_chat("why?")
    for _ in range(read):
        next(first.response_gen)
    second = engine.stream_chat("so?")
    assert llm.open == 1
    assert said(engine) == turn("why?", "".join(PIECES[:read]), "stopped")
    assert list(first.response_gen) == []
    assert (str(first), first.finish_reason) == ("".join(PIECES[:read]), "stopped")
    assert list(second.response_gen)
    assert len(engine.chat_history) == 4


def test_a_new_message_in_the_middle_of_a_loop_ends_it() -> None:
    engine = chat(Says(PIECES))
    seen = []
    for piece in engine.stream_chat("why?").response_gen:
        seen.append(piece)
        if len(seen) == 2:
            str(engine.stream_chat("so?"))
    assert seen == PIECES[:2]
    assert [message.finish_reason for message in engine.chat_history[1::2]] == ["stopped", "stop"]


def test_a_message_that_cannot_be_asked_still_stops_the_answer_before_it() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    first = engine.stream_chat("why?")
    next(first.response_gen)
    with pytest.raises(ValueError, match="empty"):
        engine.stream_chat(" ")
    assert llm.open == 0
    assert said(engine) == turn("why?", "The", "stopped")


def test_an_answer_of_which_nothing_was_read_does_not_hide_the_one_before_it() -> None:
    llm = Says(PIECES)
    engine = chat(llm)
    first = engine.stream_chat("why?")
    next(first.response_gen)
    engine.events("so?")  # dropped before it began
    str(engine.stream_chat("and?"))
    assert list(first.response_gen) == []
    assert said(engine)[:2] == turn("why?", "The", "stopped")
    assert len(engine.chat_history) == 4


class Slow(Says):
    """Writes only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def stream(self, messages: Any, **options: Any) -> Any:
        self.calls.append(list(messages))
        self.open += 1
        try:
            yield ""
            yield "The"
            until = time.monotonic() + GUARD
            while not self.go.wait(0.2):  # nearly all of the time somebody is reading
                assert time.monotonic() < until, "nobody closed it"
                yield ""
            yield " end."
            return Completion("stop")
        finally:
            self.open -= 1


def test_a_message_while_another_thread_reads_is_refused_as_often_as_it_comes() -> None:
    llm = Slow()
    engine = chat(llm)
    response = engine.stream_chat("why?")
    seen: list[str] = []
    reading = threading.Thread(target=lambda: seen.extend(response.response_gen))
    reading.start()
    while not seen:
        time.sleep(0.01)
    for _ in range(3):
        with pytest.raises(RivuletError, match="still being read by another thread"):
            engine.stream_chat("so?")
    assert len(llm.calls) == 1
    llm.go.set()
    reading.join(GUARD)
    assert seen == ["The", " end."]
    assert said(engine) == turn("why?", "The end.")
    assert str(engine.chat("so?")) == "The end."


def test_reset_while_another_thread_reads_is_refused() -> None:
    llm = Slow()
    engine = chat(llm, history=dialogue("a?", "A."))
    llm.is_small = True  # no condensing
    response = engine.stream_chat("Why is the sky blue?")
    reading = threading.Thread(target=lambda: str(response))
    reading.start()
    time.sleep(0.1)
    with pytest.raises(RivuletError, match="still being read"):
        engine.reset()
    assert len(engine.chat_history) == 2
    llm.go.set()
    reading.join(GUARD)
    assert len(engine.chat_history) == 4


# Asynchronous


def test_10_cancelling_a_chat_stops_the_model_and_keeps_what_came() -> None:
    llm = Slow()

    async def main() -> None:
        engine = chat(llm)
        chatting = asyncio.create_task(engine.achat("why?"))
        while not llm.calls:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        chatting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await chatting
        assert llm.open == 0
        assert said(engine) == turn("why?", "The", "stopped")

    run(main())


def test_10_closing_an_async_stream_keeps_what_came() -> None:
    async def main() -> None:
        llm = Says(PIECES)
        engine = chat(llm)
        response = await engine.astream_chat("why?")
        texts = response.async_response_gen()
        assert await anext(texts) == "The"
        await texts.aclose()
        assert llm.open == 0
        assert said(engine) == turn("why?", "The", "stopped")
        assert str(await engine.achat("so?")) == "The sky is blue."

    run(main())


def test_async_a_new_message_stops_the_answer_before_it() -> None:
    async def main() -> None:
        llm = Says(PIECES)
        engine = chat(llm)
        first = await engine.astream_chat("why?")
        texts = first.async_response_gen()
        assert await anext(texts) == "The"
        second = await engine.astream_chat("so?")
        assert [text async for text in texts] == []
        assert first.finish_reason == "stopped"
        assert str(await second.get_response()) == "The sky is blue."
        assert [m.finish_reason for m in engine.chat_history[1::2]] == ["stopped", "stop"]

    run(main())


# What the answer is made of


def test_post_processors_and_the_fallback_text_hold_in_a_conversation() -> None:
    engine = ChatEngine(
        Finds("one"), ResponseSynthesizer(Says(PIECES)), [lambda nodes, query: nodes[:0]]
    )
    response = engine.stream_chat("why?")
    assert list(response.response_gen) == [prompts.NOTHING_LEFT]
    assert said(engine) == turn("why?", prompts.NOTHING_LEFT)


def test_19_what_was_left_out_of_the_conversation_is_recorded() -> None:
    history = dialogue(*("word " * 40 for _ in range(6)))
    engine = chat(Says(["condensed?"], PIECES, context_window=240), history=history)
    response = engine.chat("why?")
    assert response.left_out.messages > 0
