"""What `query` returns: read once, printed twice, stopped anywhere, dropped and left behind."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from rag.answering.engine import answer
from rag.answering.events import (
    Begun,
    Events,
    Finished,
    LeftOut,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.answering.response import (
    AsyncStreamingResponse,
    Response,
    StreamingResponse,
    numbered,
    shorten_text,
)
from rag.answering.synthesis import ResponseSynthesizer
from rag.errors import ProviderError
from rag.index.embedding import HashEmbedding
from rag.types import Citation, Completion, FinishReason, NodeWithScore, Reasoning, Usage
from tests.answering.conftest import GUARD, Finds, Says, hit, hits

PIECES = ["The", " sky", " is", " blue", ".\n"]
TEXT = "".join(PIECES)


def events_of(llm: Any, *texts: str) -> Events:
    return answer("why?", Finds(*(texts or ("one", "two"))), ResponseSynthesizer(llm))


def begin(llm: Any) -> StreamingResponse:
    return StreamingResponse.begin(events_of(llm))


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def guarded() -> Any:
        return await asyncio.wait_for(coroutine, GUARD)

    return asyncio.run(guarded())


class Silent:
    """Events of a model that begins, says `said`, and then nothing until it is closed."""

    def __init__(self, *said: str):
        self.said = said
        self.closed = threading.Event()
        self.beats = 0

    def events(self) -> Events:
        try:
            yield Sources(tuple(hits("one")))
            yield Begun()
            yield from self.said
            until = time.monotonic() + GUARD
            while time.monotonic() < until:
                time.sleep(0.01)
                self.beats += 1
                yield ""
            raise AssertionError("nobody closed it")
        finally:
            self.closed.set()


def threads() -> int:
    return sum(thread.name.startswith("response") for thread in threading.enumerate())


def soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + GUARD
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


# A whole response


def test_a_response_takes_what_events_tell() -> None:
    nodes = tuple(hits("one", "two"))

    def events() -> Events:
        yield Status("Searching")
        yield SearchedFor("why so?")
        yield Sources(nodes, ())
        yield LeftOut(messages=2)
        yield Status("Reading")
        yield Begun()
        yield Reasoning("Hm,")
        yield Reasoning(" well.")
        yield Timings(1.0)
        yield "Be"
        yield ""
        yield "cause."
        yield Timings(1.0, 2.0, 3.0)
        yield Finished("length", Usage(5, 6))

    response = Response.of(events())
    assert (str(response), response.response) == ("Because.", "Because.")
    assert response.source_nodes == list(nodes)
    assert response.searched_for == "why so?"
    assert response.left_out == LeftOut(messages=2)
    assert response.status == "Reading"
    assert response.reasoning == "Hm, well."
    assert response.timings == Timings(1.0, 2.0, 3.0)
    assert (response.finish_reason, response.usage) == ("length", Usage(5, 6))


def test_19_all_that_was_left_out_is_recorded() -> None:
    response = Response()
    response.take(LeftOut(characters=100))
    response.take(LeftOut(messages=4))
    assert response.left_out == LeftOut(messages=4, characters=100)


def test_the_metadata_is_that_of_each_source() -> None:
    nodes = [hit("a", ordinal=0, metadata={"author": "x"}), hit("b", ordinal=1)]
    response = Response(source_nodes=nodes)
    assert response.metadata == {"d:0": {"author": "x"}, "d:1": {}}
    response.metadata["d:0"]["author"] = "y"
    assert response.metadata["d:0"]["author"] == "x"


def test_06_the_sources_name_place_score_and_the_start_of_the_text() -> None:
    nodes = [hit("word " * 50, page=3, score=0.123), hit("two\n\nlines", headings=("A", "B"))]
    shown = Response(source_nodes=nodes).get_formatted_sources()
    first, second = shown.split("\n\n")
    assert first.startswith("> Source (a.md, page 3, 0.12): word word")
    assert first.endswith(" …")
    assert len(first.split("): ")[1]) <= 100
    assert second == "> Source (a.md, A › B, 0.50): two lines"
    assert Response().get_formatted_sources() == ""
    unscored = NodeWithScore(nodes[1].node)
    assert Response(source_nodes=[unscored]).get_formatted_sources() == (
        "> Source (a.md, A › B): two lines"
    )


@pytest.mark.parametrize("length", [1, 2, 3, 5, 9, 10, 100])
@pytest.mark.parametrize("text", ["日本語の文章です。" * 30, "x" * 300, "a b c " * 60, "", "a"])
def test_06_the_start_of_a_text_is_shown_in_any_language_and_length(text: str, length: int) -> None:
    shown = shorten_text(text, length)
    assert len(shown) <= length
    start = shown.removesuffix("…").strip()
    assert text.startswith(start)
    assert bool(start) == bool(text if length > 2 or len(text) == 1 else "")


# A stream


def test_01_every_piece_arrives_as_it_was_made() -> None:
    response = begin(Says(PIECES))
    assert list(response.response_gen) == PIECES


def test_02_the_model_has_begun_when_the_response_is_there() -> None:
    llm = Says(PIECES)
    response = begin(llm)
    assert (len(llm.calls), llm.open, llm.steps) == (1, 1, 0)
    response.close()


def test_04_sources_and_metadata_are_there_before_the_first_token() -> None:
    llm = Says(PIECES)
    response = begin(llm)
    assert [node.text for node in response.source_nodes] == ["one", "two"]
    assert response.metadata == {"d:0": {}, "d:2": {}}
    assert "> Source (a.md, 1.00): one" in response.get_formatted_sources()
    assert (response.finish_reason, response.usage) == (None, None)
    assert response.timings.retrieval is not None
    assert llm.steps == 0
    response.close()


def test_empty_texts_are_not_handed_on() -> None:
    assert list(begin(Says(["", "a", "", "", "b", ""])).response_gen) == ["a", "b"]


def test_05_after_the_stream_the_text_is_kept() -> None:
    response = begin(Says([*PIECES, Completion("stop", Usage(8, 5))]))
    assert "".join(response.response_gen) == TEXT
    assert str(response) == str(response.get_response()) == TEXT
    whole = response.get_response()
    assert isinstance(whole, Response)
    assert (whole.finish_reason, whole.usage) == ("stop", Usage(8, 5))
    assert (response.finish_reason, response.usage) == ("stop", Usage(8, 5))
    assert response.timings.tokens_per_second
    assert list(response.response_gen) == []


@pytest.mark.parametrize("read", range(len(PIECES) + 1))
def test_05_what_is_left_is_read_when_the_text_is_asked_for(read: int) -> None:
    response = begin(Says(PIECES))
    assert [next(response.response_gen) for _ in range(read)] == PIECES[:read]
    assert str(response) == TEXT


def test_the_one_generator_can_be_asked_for_again() -> None:
    response = begin(Says(PIECES))
    assert next(response.response_gen) == "The"
    assert next(iter(response.response_gen)) == " sky"
    assert response.response_gen is response.response_gen
    response.close()


@pytest.mark.parametrize("read", [0, 2, len(PIECES)])
def test_06_printing_shows_what_had_come_and_what_comes_and_again_what_was_kept(
    read: int, capsys: pytest.CaptureFixture[str]
) -> None:
    response = begin(Says(PIECES))
    for _ in range(read):
        next(response.response_gen)
    response.print_response_stream()
    assert capsys.readouterr().out == TEXT
    response.print_response_stream()
    assert capsys.readouterr().out == TEXT


def test_06_each_piece_is_printed_and_flushed_as_it_arrives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed: list[tuple[str, bool, int]] = []
    llm = Says(PIECES)

    def note(text: object, *, end: str, flush: bool) -> None:
        assert end == ""
        printed.append((str(text), flush, llm.steps))

    monkeypatch.setattr("builtins.print", note)
    begin(llm).print_response_stream()
    assert [(text, flush) for text, flush, _ in printed if text] == [(p, True) for p in PIECES]
    assert [steps for text, _, steps in printed if text] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_07_an_error_after_some_pieces_leaves_exactly_them(count: int) -> None:
    response = begin(Says([*PIECES[:count], ProviderError("gone")]))
    assert [next(response.response_gen) for _ in range(count)] == PIECES[:count]
    assert response.finish_reason is None
    with pytest.raises(ProviderError, match="gone"):
        next(response.response_gen)
    assert str(response) == str(response.get_response()) == "".join(PIECES[:count])
    assert response.finish_reason == "error"


@pytest.mark.parametrize("ask", [str, StreamingResponse.get_response])
def test_07_an_error_is_raised_by_whatever_reads_first(ask: Callable[..., Any]) -> None:
    response = begin(Says(["The", ProviderError("gone")]))
    with pytest.raises(ProviderError, match="gone"):
        ask(response)
    assert str(response) == "The"
    assert response.finish_reason == "error"


def test_07_an_error_while_printing_leaves_what_was_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    response = begin(Says(["The", " sky", ProviderError("gone")]))
    with pytest.raises(ProviderError, match="gone"):
        response.print_response_stream()
    assert capsys.readouterr().out == "The sky"


def test_an_error_before_the_model_begins_is_raised_at_once() -> None:
    closed = []

    def events() -> Events:
        try:
            yield Status("Searching")
            raise ProviderError("gone")
        finally:
            closed.append(True)

    with pytest.raises(ProviderError, match="gone"):
        StreamingResponse.begin(events())
    assert closed == [True]


@pytest.mark.parametrize("ends", ["stop", "length", "truncated"])
def test_09_how_it_ended_is_told(ends: FinishReason) -> None:
    response = begin(Says(["The", Completion(ends)]))
    assert response.finish_reason is None
    assert str(response) == "The"
    assert response.finish_reason == ends


@pytest.mark.parametrize("read", [0, 1, 3])
def test_10_closing_stops_the_model_and_keeps_what_came(read: int) -> None:
    llm = Says(PIECES)
    response = begin(llm)
    for _ in range(read):
        next(response.response_gen)
    response.close()
    assert (llm.open, llm.steps) == (0, read)
    assert str(response) == "".join(PIECES[:read])
    assert response.finish_reason == "stopped"
    assert list(response.response_gen) == []
    response.close()
    assert response.finish_reason == "stopped"


@pytest.mark.parametrize("read", [1, 3])
def test_10_closing_the_generator_is_closing_the_response(read: int) -> None:
    llm = Says(PIECES)
    response = begin(llm)
    for _ in range(read):
        next(response.response_gen)
    response.response_gen.close()
    assert (llm.open, response.finish_reason) == (0, "stopped")
    assert str(response) == "".join(PIECES[:read])


def test_10_closing_a_generator_nobody_has_read_and_then_the_response() -> None:
    llm = Says(PIECES)
    response = begin(llm)
    response.response_gen.close()  # a generator that never ran does nothing
    response.close()
    assert (llm.open, response.finish_reason) == (0, "stopped")


@pytest.mark.parametrize("end", ["stop", "length"])
def test_closing_after_the_end_changes_nothing(end: FinishReason) -> None:
    response = begin(Says([*PIECES, Completion(end)]))
    text = str(response)
    response.close()
    assert (str(response), response.finish_reason) == (text, end)


def test_closing_after_an_error_changes_nothing() -> None:
    response = begin(Says(["The", ProviderError("gone")]))
    with pytest.raises(ProviderError):
        str(response)
    response.close()
    assert response.finish_reason == "error"


def test_10_an_exception_of_the_reader_stops_the_model() -> None:
    llm = Says(PIECES)
    response = begin(llm)

    def read() -> None:
        for _ in response.response_gen:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read()
    response.close()
    assert (llm.open, str(response), response.finish_reason) == (0, "The", "stopped")


def test_10_an_interrupt_inside_of_the_model_is_a_stop() -> None:
    def events() -> Events:
        yield Begun()
        yield "The"
        raise KeyboardInterrupt

    response = StreamingResponse.begin(events())
    with pytest.raises(KeyboardInterrupt):
        str(response)
    assert (str(response), response.finish_reason) == ("The", "stopped")


@pytest.mark.parametrize("read", [0, 1, 3])
def test_10_dropping_the_response_stops_the_model_at_once(read: int) -> None:
    gc.disable()
    try:
        llm = Says(PIECES)
        response = begin(llm)
        for _ in range(read):
            next(response.response_gen)
        assert llm.open == 1
        del response
        assert llm.open == 0
    finally:
        gc.enable()


def test_the_generator_goes_on_without_its_response() -> None:
    llm = Says(PIECES)
    texts = begin(llm).response_gen
    assert list(texts) == PIECES


def test_10_dropping_a_loop_in_the_middle_stops_the_model() -> None:
    llm = Says(PIECES)

    def read() -> str:
        for piece in begin(llm).response_gen:
            return piece
        return ""

    assert read() == "The"
    assert llm.open == 0


def test_10_another_thread_can_close_a_response_that_is_being_read() -> None:
    silent = Silent("The")
    response = StreamingResponse.begin(silent.events())
    seen: list[str] = []
    reading = threading.Thread(target=lambda: seen.extend(response.response_gen))
    reading.start()
    assert soon(lambda: silent.beats > 2)
    response.close()
    reading.join(2)
    assert not reading.is_alive()
    assert silent.closed.is_set()
    assert (seen, str(response), response.finish_reason) == (["The"], "The", "stopped")


def test_reasoning_is_beside_the_text() -> None:
    response = begin(Says(["<think>Hm.</think>The", " sky"]))
    assert list(response.response_gen) == ["The", " sky"]
    assert response.reasoning == "Hm."


def test_12_a_fallback_text_is_a_stream_of_one_item() -> None:
    events = answer("why?", Finds(), ResponseSynthesizer(Says()))
    response = StreamingResponse.begin(events)
    (text,) = response.response_gen
    assert text
    assert (response.source_nodes, response.metadata) == ([], {})
    assert response.finish_reason == "stop"


# Asynchronous


def abegin(llm: Any) -> Coroutine[Any, Any, AsyncStreamingResponse]:
    return AsyncStreamingResponse.begin(events_of(llm))


async def all_of(response: AsyncStreamingResponse) -> list[str]:
    return [text async for text in response.async_response_gen()]


def test_01_async_every_piece_arrives_as_it_was_made() -> None:
    async def main() -> None:
        llm = Says([*PIECES, Completion("stop", Usage(8, 5))])
        response = await abegin(llm)
        assert (llm.open, llm.steps) == (1, 0)
        assert [node.text for node in response.source_nodes] == ["one", "two"]
        assert await all_of(response) == PIECES
        assert str(response) == str(await response.get_response()) == TEXT
        assert (response.finish_reason, response.usage) == ("stop", Usage(8, 5))
        assert response.timings.tokens_per_second
        assert await all_of(response) == []

    run(main())
    assert soon(lambda: threads() == 0)


def test_05_async_what_is_left_is_read_when_the_text_is_asked_for() -> None:
    async def main() -> None:
        response = await abegin(Says(PIECES))
        texts = response.async_response_gen()
        assert await anext(texts) == "The"
        assert str(response) == "The"
        assert str(await response.get_response()) == TEXT
        assert [text async for text in texts] == []

    run(main())


def test_06_async_printing_shows_what_had_come_first(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        response = await abegin(Says(PIECES))
        texts = response.async_response_gen()
        assert await anext(texts) == "The"
        for _ in range(2):
            await response.print_response_stream()
            assert capsys.readouterr().out == TEXT

    run(main())


@pytest.mark.parametrize("count", [0, 1, 3])
def test_07_async_an_error_after_some_pieces_leaves_exactly_them(count: int) -> None:
    async def main() -> None:
        response = await abegin(Says([*PIECES[:count], ProviderError("gone")]))
        seen: list[str] = []

        async def read() -> None:
            async for text in response.async_response_gen():
                seen.append(text)

        with pytest.raises(ProviderError, match="gone"):
            await read()
        assert seen == PIECES[:count]
        assert str(response) == "".join(seen)
        assert response.finish_reason == "error"
        assert str(await response.get_response()) == "".join(seen)

    run(main())
    assert soon(lambda: threads() == 0)


def test_async_an_error_before_the_model_begins_is_raised_at_once() -> None:
    def events() -> Events:
        yield Status("Searching")
        raise ProviderError("gone")

    async def main() -> None:
        with pytest.raises(ProviderError, match="gone"):
            await AsyncStreamingResponse.begin(events())

    run(main())
    assert soon(lambda: threads() == 0)


@pytest.mark.parametrize("read", [0, 1, 3])
def test_10_async_closing_stops_the_model_and_keeps_what_came(read: int) -> None:
    async def main() -> None:
        llm = Says(PIECES)
        response = await abegin(llm)
        texts = response.async_response_gen()
        for _ in range(read):
            await anext(texts)
        await response.close()
        assert (llm.open, llm.steps) == (0, read)
        assert response.finish_reason == "stopped"
        assert str(response) == "".join(PIECES[:read])
        assert [text async for text in texts] == []
        await response.close()
        assert str(await response.get_response()) == "".join(PIECES[:read])

    run(main())
    assert soon(lambda: threads() == 0)


def test_10_closing_the_async_generator_stops_the_model() -> None:
    async def main() -> None:
        llm = Says(PIECES)
        response = await abegin(llm)
        texts = response.async_response_gen()
        assert await anext(texts) == "The"
        await texts.aclose()
        assert (llm.open, response.finish_reason, str(response)) == (0, "stopped", "The")

    run(main())


def test_10_leaving_an_async_loop_stops_the_model() -> None:
    async def main() -> None:
        llm = Says(PIECES)
        response = await abegin(llm)
        async for _ in response.async_response_gen():
            break
        for _ in range(100):
            if not llm.open:
                break
            await asyncio.sleep(0.01)
        assert (llm.open, response.finish_reason, str(response)) == (0, "stopped", "The")

    run(main())


@pytest.mark.parametrize("said", [(), ("The",)])
def test_10_cancelling_a_reader_ends_a_silent_model_at_once(said: tuple[str, ...]) -> None:
    async def main() -> None:
        silent = Silent(*said)
        response = await AsyncStreamingResponse.begin(silent.events())
        reading = asyncio.create_task(all_of(response))
        await asyncio.sleep(0.1)
        assert not reading.done()
        began = time.monotonic()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert time.monotonic() - began < 2
        assert silent.closed.is_set()
        assert (str(response), response.finish_reason) == ("".join(said), "stopped")

    run(main())
    assert soon(lambda: threads() == 0)


def test_10_closing_beside_a_reader_ends_a_silent_model_at_once() -> None:
    async def main() -> None:
        silent = Silent("The")
        response = await AsyncStreamingResponse.begin(silent.events())
        reading = asyncio.create_task(all_of(response))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await response.close()
        assert time.monotonic() - began < 2
        assert silent.closed.is_set()
        assert await reading == ["The"]
        assert response.finish_reason == "stopped"

    run(main())


def test_closing_from_several_tasks_at_once_is_no_error() -> None:
    async def main() -> None:
        for _ in range(20):
            response = await abegin(Says(PIECES))
            readers = [asyncio.create_task(all_of(response)) for _ in range(2)]
            await asyncio.sleep(0)
            await asyncio.gather(*readers, *(response.close() for _ in range(3)))
            assert response.finish_reason in ("stop", "stopped")

    run(main())


def test_several_tasks_that_want_the_whole_answer_get_it() -> None:
    async def main() -> None:
        response = await abegin(Says(PIECES))
        whole = await asyncio.gather(*(response.get_response() for _ in range(3)))
        assert [str(one) for one in whole] == [TEXT] * 3

    run(main())


def test_10_cancelling_before_the_model_begins_stops_the_work() -> None:
    closed = threading.Event()

    def events() -> Events:
        try:
            until = time.monotonic() + GUARD
            while time.monotonic() < until:
                time.sleep(0.01)
                yield ""
        finally:
            closed.set()

    async def main() -> None:
        beginning = asyncio.create_task(AsyncStreamingResponse.begin(events()))
        await asyncio.sleep(0.05)
        beginning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await beginning
        assert closed.is_set()

    run(main())
    assert soon(lambda: threads() == 0)


def test_10_dropping_an_async_response_stops_the_model() -> None:
    async def main() -> None:
        llm = Says(PIECES)
        response = await abegin(llm)
        assert llm.open == 1
        del response
        for _ in range(100):
            if not llm.open:
                return
            await asyncio.sleep(0.01)
        pytest.fail("it goes on")

    run(main())
    assert soon(lambda: threads() == 0)


def test_14_the_event_loop_goes_on_while_the_model_works() -> None:
    def events() -> Events:
        yield Begun()
        for piece in PIECES:
            time.sleep(0.1)
            yield piece
        yield Finished("stop")

    async def main() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        ticking = asyncio.create_task(tick())
        response = await AsyncStreamingResponse.begin(events())
        assert await all_of(response) == PIECES
        ticking.cancel()
        return ticks

    assert run(main()) > 15


def test_many_responses_at_once_do_not_wait_for_each_other() -> None:
    """Each has a thread of its own: the loop's pool would be used up by silent models."""
    together = threading.Barrier(40, timeout=GUARD)

    def events() -> Generator[Any, None, None]:
        yield Begun()
        together.wait()
        yield "done"
        yield Finished("stop")

    async def one() -> str:
        response = await AsyncStreamingResponse.begin(events())
        return str(await response.get_response())

    async def main() -> list[str]:
        return await asyncio.gather(*(one() for _ in range(40)))

    assert run(main()) == ["done"] * 40
    assert soon(lambda: threads() == 0)


# Citations


CITED = ["It flows north to the sea [1].", " In 1848 it flows north.", " Cats sleep."]
SEA = "In 1847 it flows north to the sea."
PRINTED = """> [1] "It flows north to the sea." a.md, 1.00
> [1] "In 1848 it flows north." partly: 1848 is not in it (a.md, 1.00)
> [-] "Cats sleep." not found in your documents"""


def cited() -> Events:
    llm = Says(CITED, CITED)
    return answer("why?", Finds(SEA), ResponseSynthesizer(llm), (), (), HashEmbedding())


def test_a_whole_response_has_its_citations() -> None:
    response = Response.of(cited())
    assert [each.support for each in response.citations] == ["supported", "partly", "none"]
    assert [response.response[each.start : each.end] for each in response.citations] == [
        *("It flows north to the sea.", "In 1848 it flows north.", "Cats sleep.")
    ]
    assert response.get_formatted_citations() == PRINTED
    assert response.get_formatted_citations(9).startswith('> [1] "It flow …" a.md')


def test_a_stream_has_the_citations_so_far() -> None:
    response = StreamingResponse.begin(cited())
    assert response.citations == []
    for _ in response.response_gen:
        pass
    assert response.get_formatted_citations() == PRINTED
    assert response.get_response().citations == response.citations


def test_an_asynchronous_stream_has_them_too() -> None:
    async def ask() -> str:
        response = await AsyncStreamingResponse.begin(cited())
        async for _ in response.async_response_gen():
            pass
        return response.get_formatted_citations()

    assert run(ask()) == PRINTED


def test_passages_are_numbered_as_they_are_cited() -> None:
    nodes = [hit("x", ordinal=n).node for n in (5, 2, 5)]
    citations = [Citation(0, 1, "none"), *(Citation(0, 1, "supported", node) for node in nodes)]
    assert numbered(citations) == {"d:5": 1, "d:2": 2}


def test_several_things_that_are_missing_are_named() -> None:
    citation = Citation(0, 5, "partly", hit("x").node, 0, 1, 0.8, ("1848", "Rollo"))
    printed = Response("In 18", citations=[citation]).get_formatted_citations()
    assert printed == '> [1] "In 18" partly: 1848, Rollo are not in it (a.md, 0.80)'
