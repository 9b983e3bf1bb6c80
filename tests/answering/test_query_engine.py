"""A question -> its answer, under LlamaIndex's names."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from rag.answering.defaults import Settings
from rag.answering.prompts import NOTHING_FOUND, NOTHING_LEFT
from rag.answering.query_engine import RetrieverQueryEngine, get_response_synthesizer
from rag.answering.response import AsyncStreamingResponse, Response, StreamingResponse
from rag.errors import ConfigurationError, ProviderError
from rag.llms.scripted import ScriptedLLM
from rag.types import Completion, Usage
from tests.answering.conftest import GUARD, Finds, Says

REPLY = ["The", " sky", Completion("stop", Usage(9, 2))]


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def guarded() -> Any:
        return await asyncio.wait_for(coroutine, GUARD)

    return asyncio.run(guarded())


def engine(llm: Any, *texts: str, streaming: bool = True, **options: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(
        Finds(*(texts or ("one", "two"))), llm, streaming=streaming, **options
    )


@pytest.fixture
def default_llm() -> Iterator[Says]:
    llm = Says(["default"])
    Settings.llm = llm
    yield llm
    Settings.llm = None


def test_a_streaming_engine_gives_a_stream() -> None:
    llm = Says(REPLY)
    response = engine(llm).query("why?")
    assert isinstance(response, StreamingResponse)
    assert (llm.open, llm.steps) == (1, 0)
    assert list(response.response_gen) == ["The", " sky"]
    assert response.usage == Usage(9, 2)


def test_another_engine_gives_the_whole_answer() -> None:
    llm = Says(REPLY)
    response = engine(llm, streaming=False).query("why?")
    assert isinstance(response, Response)
    assert str(response) == "The sky"
    assert (response.finish_reason, response.usage) == ("stop", Usage(9, 2))
    assert [hit.text for hit in response.source_nodes] == ["one", "two"]
    assert llm.open == 0


def test_async_forms_give_the_same() -> None:
    async def main() -> None:
        response = await engine(Says(REPLY)).aquery("why?")
        assert isinstance(response, AsyncStreamingResponse)
        assert [text async for text in response.async_response_gen()] == ["The", " sky"]
        whole = await engine(Says(REPLY), streaming=False).aquery("why?")
        assert isinstance(whole, Response)
        assert (str(whole), whole.finish_reason) == ("The sky", "stop")

    run(main())


def test_12_without_hits_a_streaming_engine_still_gives_a_stream() -> None:
    empty = RetrieverQueryEngine.from_args(Finds(), Says(), streaming=True)
    response = empty.query("why?")
    assert isinstance(response, StreamingResponse)
    assert list(response.response_gen) == [NOTHING_FOUND]
    left = engine(Says(), node_postprocessors=[lambda nodes, query: []]).query("why?")
    assert isinstance(left, StreamingResponse)
    assert list(left.response_gen) == [NOTHING_LEFT]

    async def main() -> None:
        response = await empty.aquery("why?")
        assert isinstance(response, AsyncStreamingResponse)
        assert str(await response.get_response()) == NOTHING_FOUND

    run(main())


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(streaming: bool, question: str) -> None:
    llm = Says()
    with pytest.raises(ValueError, match="empty"):
        engine(llm, streaming=streaming).query(question)
    with pytest.raises(ValueError, match="empty"):
        run(engine(llm, streaming=streaming).aquery(question))
    assert llm.calls == []


def test_11_a_model_that_cannot_stream_answers_in_one_piece() -> None:
    llm: Any = Says(REPLY)
    llm.is_streaming = False
    with pytest.raises(NotImplementedError, match="says cannot stream"):
        engine(llm).query("why?")
    with pytest.raises(NotImplementedError, match="says cannot stream"):
        run(engine(llm).aquery("why?"))
    assert llm.calls == []
    assert str(engine(llm, streaming=False).query("why?")) == "The sky"


def test_an_error_of_the_model_is_raised() -> None:
    broken = Says(["The", ProviderError("gone")])
    with pytest.raises(ProviderError, match="gone"):
        engine(broken, streaming=False).query("why?")
    with pytest.raises(ProviderError, match="gone"):
        run(engine(broken, streaming=False).aquery("why?"))
    assert str(engine(broken).query("why?").source_nodes[0].text) == "one"


@pytest.mark.parametrize("streaming", [True, False])
def test_10_cancelling_a_query_stops_the_model(streaming: bool) -> None:
    llm = ScriptedLLM("word " * 500, tokens_per_second=50, first_token=0.3 if streaming else 0)

    async def main() -> None:
        asking = asyncio.create_task(engine(llm, streaming=streaming, max_tokens=500).aquery("?"))
        # A stream has begun as soon as the call has: it is cancelled in its condensing.
        while not llm.calls:
            await asyncio.sleep(0.01)
        if streaming:
            response = await asking
            reading = asyncio.create_task(response.get_response())
        else:
            response, reading = None, asking
        await asyncio.sleep(0.15)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        steps = llm.steps
        await asyncio.sleep(0.15)
        assert llm.steps == steps < 50

    run(main())


def test_14_queries_at_the_same_time_do_not_mix() -> None:
    llm = ScriptedLLM(lambda messages: messages[-1].content.split("Query: ")[1].split("\n")[0])

    async def main() -> list[str]:
        shared = engine(llm)
        responses = await asyncio.gather(*(shared.aquery(f"number {n} ?") for n in range(10)))
        return [str(await response.get_response()) for response in responses]

    assert run(main()) == [f"number {n} ?" for n in range(10)]


def test_22_an_engine_can_be_shared_between_threads() -> None:
    llm = ScriptedLLM(lambda messages: messages[-1].content.split("Query: ")[1].split("\n")[0])
    shared = engine(llm)
    answers: dict[int, str] = {}

    def ask(n: int) -> None:
        answers[n] = str(shared.query(f"number {n} ?"))

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(GUARD)
    assert answers == {n: f"number {n} ?" for n in range(10)}


def test_each_query_stands_by_itself() -> None:
    llm = Says(REPLY)
    asked = engine(llm, streaming=False)
    for _ in range(2):
        asked.query("why?")
    assert [len(messages) for messages in llm.calls] == [1, 1]


# How an engine is put together


def test_options_reach_the_synthesizer() -> None:
    llm = Says(["a"])
    asked = engine(
        llm,
        response_mode="refine",
        text_qa_template="FIRST {context_str} {query_str}",
        refine_template=lambda query_str, existing_answer, context_msg: f"THEN {context_msg}",
        system_prompt="Be brief.",
        max_tokens=9,
    )
    str(asked.query("why?"))
    assert llm.prompts == ["FIRST one why?", "THEN two"]
    assert {messages[0].content for messages in llm.calls} == {"Be brief."}
    assert llm.limits == [9, 9]


def test_an_engine_is_made_of_a_retriever_and_a_synthesizer() -> None:
    llm = Says(REPLY)
    made = get_response_synthesizer(streaming=True, response_mode="accumulate", llm=llm)
    assert (made.llm, made.streaming, made.response_mode) == (llm, True, "accumulate")
    asked = RetrieverQueryEngine(retriever=Finds("one"), response_synthesizer=made)
    assert str(asked.query("why?")) == "Response 1: The sky"


def test_post_processors_are_kept_as_they_were_given() -> None:
    given = [lambda nodes, query: nodes[:1]]
    asked = RetrieverQueryEngine(Finds("one", "two"), get_response_synthesizer(llm=Says()), given)
    given.clear()
    assert [hit.text for hit in asked.query("why?").source_nodes] == ["one"]


def test_without_a_model_the_default_is_used(default_llm: Says) -> None:
    assert get_response_synthesizer().llm is default_llm
    assert str(RetrieverQueryEngine(Finds("one")).query("why?")) == "default"
    assert str(RetrieverQueryEngine.from_args(Finds("one")).query("why?")) == "default"


def test_what_cannot_be_is_refused_when_the_engine_is_made() -> None:
    with pytest.raises(ConfigurationError, match="no response mode 'best'"):
        engine(Says(), response_mode="best")
    with pytest.raises(ConfigurationError, match="text_qa_template has to have the places"):
        engine(Says(), text_qa_template="{question}")
    with pytest.raises(TypeError, match="qa_template"):
        engine(Says(), qa_template="{query_str}")


def test_an_option_that_does_not_exist_is_told_with_those_that_do() -> None:
    with pytest.raises(TypeError, match="no option chat_mode, verbose") as caught:
        engine(Says(), chat_mode="context", verbose=True)
    assert "max_tokens" in str(caught.value)
    assert "text_qa_template" in str(caught.value)


def test_a_model_can_be_given_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a-key")
    made = get_response_synthesizer(llm="openai:some-model", max_tokens=5)
    assert made.llm.model_name == "some-model"
