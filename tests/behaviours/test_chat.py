"""Behaviours 20 to 23: conversations."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rag import (
    ChatMessage,
    Document,
    Response,
    ScriptedLLM,
    StreamingResponse,
    VectorStoreIndex,
    get_response_synthesizer,
)
from rag.answering.chat_engine import ChatEngine
from rag.answering.events import SearchedFor
from rag.answering.query_engine import RetrieverQueryEngine
from rag.llms.protocol import TextStream
from rag.types import Completion
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.library import Library
from tests.behaviours.parts import (
    DONE,
    FORMS,
    GUARD,
    PIECES,
    PLAIN,
    QUESTION,
    Boom,
    Model,
    Recording,
    answered,
    astarted,
    at_the_same_time,
    await_for,
    count_words,
    engine_of,
    event,
    index_of,
    indexed,
    says,
    sends,
    soon,
    started,
)
from tests.ui.conftest import asks, upload
from tests.ui.pages import Page, eventually

upload = upload


@pytest.fixture(scope="module")
def index() -> VectorStoreIndex:
    return index_of(1)


def chat_of(index: VectorStoreIndex, llm: Any, **options: Any) -> tuple[ChatEngine, list[str]]:
    """A conversation, and the questions that are searched for in it."""
    engine = engine_of(index, llm, "chat", **{**PLAIN, **options})
    engine.retriever = retriever = Recording(engine.retriever)
    return engine, retriever.asked


def turns(engine: ChatEngine) -> list[tuple[str, str, str | None]]:
    return [(turn.role, turn.content, turn.finish_reason) for turn in engine.chat_history]


# 20


@FORMS
def test_20_a_first_turn_is_not_condensed(index: VectorStoreIndex, form: str) -> None:
    llm = Model(PIECES)
    engine, asked = chat_of(index, llm)
    got = answered(engine, "What of it?", form)
    assert [call.prompt.split()[0] for call in llm.calls] == ["FIRST"]
    assert asked == ["What of it?"]
    assert got.response.searched_for in ("", "What of it?")
    assert got.text == "".join(PIECES)


@FORMS
def test_20_a_later_turn_is_condensed_by_a_call_that_does_not_stream(
    index: VectorStoreIndex, form: str
) -> None:
    llm = Model("It is a nut.", ["What of ", "the walnut tree?"], PIECES)
    engine, asked = chat_of(index, llm)
    assert answered(engine, "What is a walnut?", form).text == "It is a nut."
    got = answered(engine, "And its tree?", form)
    condensing, answering = llm.calls[1:]
    assert condensing.prompt == (
        "CONDENSE (user: What is a walnut?\nassistant: It is a nut.) AND And its tree?"
    )
    assert condensing.ended
    assert got.pieces == PIECES  # and nothing of the condensing call
    assert asked == ["What is a walnut?", "What of the walnut tree?"]
    assert got.response.searched_for == "What of the walnut tree?"
    assert got.response.get_response().searched_for if form == "sync" else True
    assert "And its tree?" in answering.prompt or "What of the walnut tree?" in answering.prompt


def test_20_the_condensing_call_is_over_when_the_stream_begins(index: VectorStoreIndex) -> None:
    llm = Model("It is a nut.", ["What of ", "the tree?"], PIECES)
    engine, asked = chat_of(index, llm)
    str(started(engine))
    response = started(engine)
    assert [(call.ended, call.given) for call in llm.calls[1:]] == [
        (True, ["What of ", "the tree?"]),
        (False, []),
    ]
    assert response.searched_for == "What of the tree?"  # before the first token
    assert asked[1:] == ["What of the tree?"]


def test_20_the_searched_question_is_among_the_events(index: VectorStoreIndex) -> None:
    llm = Model("It is a nut.", "What of the tree?", PIECES)
    engine, _ = chat_of(index, llm)
    str(started(engine))
    told = list(engine.events("And the tree?"))
    assert [e.question for e in told if isinstance(e, SearchedFor)] == ["What of the tree?"]


def test_20_without_streaming_too(index: VectorStoreIndex) -> None:
    llm = Model("It is a nut.", "What of the tree?", "It grows.")
    engine, asked = chat_of(index, llm)
    engine.chat("What is a walnut?")
    response = engine.chat("And the tree?")
    assert (str(response), response.searched_for) == ("It grows.", "What of the tree?")
    assert asked == ["What is a walnut?", "What of the tree?"]


def test_20_an_empty_condensed_question_is_the_question_itself(index: VectorStoreIndex) -> None:
    for nothing in ("", " \n", "<think>Hm.</think>", '""'):
        llm = Model("It is a nut.", nothing, PIECES)
        engine, asked = chat_of(index, llm)
        str(started(engine, "What is a walnut?"))
        assert answered(engine, "And the tree?").text == "".join(PIECES)
        assert asked == ["What is a walnut?", "And the tree?"]


def test_20_a_conversation_that_was_begun_anew_has_a_first_turn(index: VectorStoreIndex) -> None:
    llm = Model("It is a nut.")
    engine, asked = chat_of(index, llm)
    str(started(engine, "One?"))
    engine.reset()
    str(started(engine, "Two?"))
    assert asked == ["One?", "Two?"]
    assert len(llm.calls) == 2


def test_20_a_conversation_that_is_taken_up_has_none(index: VectorStoreIndex) -> None:
    earlier = [ChatMessage("user", "One?"), ChatMessage("assistant", "Yes.")]
    llm = Model("Two of one?", PIECES)
    engine, asked = chat_of(index, llm, chat_history=earlier)
    str(started(engine, "Two?"))
    assert asked == ["Two of one?"]
    assert len(earlier) == 2  # the list that was given is not changed


@FORMS
def test_20_what_a_follow_up_to_a_small_model_searches_for_can_be_seen(
    index: VectorStoreIndex, form: str
) -> None:
    """Such a model cannot condense: it is done without it."""
    llm = Model(PIECES)
    llm.is_small = True
    engine, asked = chat_of(index, llm)
    assert answered(engine, "What is a walnut?", form).response.searched_for == ""
    got = answered(engine, "And its tree?", form)
    assert asked[0] == "What is a walnut?"
    assert "And its tree?" in asked[1]
    assert "walnut" in asked[1]
    assert got.response.searched_for == asked[1]
    assert got.pieces == PIECES


def test_20_the_page_shows_the_question_that_was_searched_for(backend: Backend) -> None:
    llm = Model("It is a nut.", "What of the walnut <b>tree</b>?", "It grows.")
    backend.catalog.put("stepwise", llm)
    page = Page(Chat(backend), asks(1))
    page.ask("What is a walnut?", model="stepwise")
    assert page.text("searched") == ""
    page.ask("And the tree?", model="stepwise")
    assert "searched for: What of the walnut <b>tree</b>?" in page.text("searched")


# 21


@FORMS
def test_21_after_a_stream_the_history_holds_both_turns(index: VectorStoreIndex, form: str) -> None:
    engine, _ = chat_of(index, Model("Nut.", "Condensed?", PIECES))
    answered(engine, "One?", form)
    assert turns(engine) == [("user", "One?", None), ("assistant", "Nut.", "stop")]
    answered(engine, "Two?", form)
    assert turns(engine)[2:] == [
        ("user", "Two?", None),  # as it was asked
        ("assistant", "".join(PIECES), "stop"),
    ]
    assert len(turns(engine)) == 4


def test_21_without_streaming_too(index: VectorStoreIndex) -> None:
    engine, _ = chat_of(index, Model("Nut."))
    engine.chat("One?")
    asyncio.run(engine.achat("Two?"))
    assert [turn[0] for turn in turns(engine)] == ["user", "assistant"] * 2
    assert {turn[2] for turn in turns(engine)} == {None, "stop"}


@FORMS
@pytest.mark.parametrize("count", [0, 1, 3])
def test_21_after_an_error_the_partial_answer_marked(
    index: VectorStoreIndex, form: str, count: int
) -> None:
    engine, _ = chat_of(index, Model([*PIECES[:count], Boom("oh")]))
    got = answered(engine, "One?", form)
    assert isinstance(got.error, Boom)
    partial = "".join(PIECES[:count])
    assert turns(engine) == [("user", "One?", None), ("assistant", partial, "error")]


def test_21_after_an_error_without_streaming(index: VectorStoreIndex) -> None:
    for chat in (ChatEngine.chat, lambda *args: asyncio.run(ChatEngine.achat(*args))):
        engine, _ = chat_of(index, Model(["Nu", Boom("oh")]))
        with pytest.raises(Boom):
            chat(engine, "One?")
        assert turns(engine) == [("user", "One?", None), ("assistant", "Nu", "error")]


@pytest.mark.parametrize("where", ["retrieval", "condensing", "refining"])
def test_21_after_an_error_before_the_stream(where: str) -> None:
    earlier = [ChatMessage("user", "One?"), ChatMessage("assistant", "Yes.")]
    llm = Model(*{"condensing": [[Boom("oh")]], "refining": ["Two?", [Boom("oh")]]}.get(where, []))
    engine, _ = chat_of(index_of(2), llm, response_mode="refine", chat_history=earlier)
    if where == "retrieval":
        llm.answers = [["Two?"]]

        class Failing:
            def retrieve(self, query: str) -> Any:
                raise Boom("oh")

        engine.retriever = Failing()
    with pytest.raises(Boom):
        started(engine, "Two?")
    assert turns(engine)[2:] == [("user", "Two?", None), ("assistant", "", "error")]


@pytest.mark.parametrize("how", ["close", "generator", "drop"])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_21_after_a_stop_the_partial_answer_marked(
    index: VectorStoreIndex, how: str, count: int
) -> None:
    engine, _ = chat_of(index, Model(PIECES))
    response = started(engine, "One?")
    for _ in range(count):
        next(response.response_gen)
    if how == "close":
        response.close()
    elif how == "generator":
        response.response_gen.close()
    del response
    partial = "".join(PIECES[:count])
    assert turns(engine) == [("user", "One?", None), ("assistant", partial, "stopped")]


@pytest.mark.parametrize("how", ["close", "generator", "break", "cancel"])
def test_21_after_a_stop_the_partial_answer_marked_async(index: VectorStoreIndex, how: str) -> None:
    gate = threading.Event()
    llm = Model([*PIECES[:2], gate])
    engine, _ = chat_of(index, llm)
    seen: list[str] = []

    async def read(response: Any) -> None:
        async for piece in response.async_response_gen():
            seen.append(piece)
            if how == "break" and len(seen) == 2:
                break

    async def run() -> None:
        response = await astarted(engine, "One?")
        if how == "cancel":
            task = asyncio.create_task(read(response))
            try:
                assert await await_for(lambda: len(seen) == 2)
                task.cancel()
                assert await await_for(lambda: turns(engine), 10), "no turn in the history"
            finally:
                gate.set()
            with pytest.raises(asyncio.CancelledError):
                await soon(task)
        elif how == "break":
            await read(response)
            del response
            assert await await_for(lambda: turns(engine))
        else:
            stream = response.async_response_gen()
            for _ in range(2):
                seen.append(await anext(stream))
            await (response.close() if how == "close" else stream.aclose())

    try:
        asyncio.run(run())
    finally:
        gate.set()
    assert seen == PIECES[:2]
    assert turns(engine) == [
        ("user", "One?", None),
        ("assistant", "".join(PIECES[:2]), "stopped"),
    ]


def test_21_other_endings_are_marked_too(index: VectorStoreIndex) -> None:
    for reason in ("length", "truncated"):
        engine, _ = chat_of(index, Model(["Nu", Completion(reason)]))
        answered(engine, "One?")
        assert turns(engine) == [("user", "One?", None), ("assistant", "Nu", reason)]


@pytest.mark.parametrize("ending", ["error", "stop"])
def test_21_the_conversation_goes_on_from_a_partial_answer(
    index: VectorStoreIndex, ending: str
) -> None:
    first = ["Half", " an", *([Boom("oh")] if ending == "error" else [" answer"])]
    llm = Model(first, "Condensed?", "Whole.")
    engine, _ = chat_of(index, llm)
    if ending == "error":
        answered(engine, "One?")
    else:
        response = started(engine, "One?")
        next(response.response_gen), next(response.response_gen)
        response.close()
    assert answered(engine, "Two?").text == "Whole."
    assert [turn[0] for turn in turns(engine)] == ["user", "assistant"] * 2
    assert "Half an" in llm.calls[1].prompt  # what was said is known to the next turn
    roles = [message.role for message in llm.calls[-1].messages]
    assert roles == ["user", "assistant", "user"]


def test_21_a_new_message_ends_the_answer_before_it(index: VectorStoreIndex) -> None:
    llm = Model(PIECES, "Condensed?", "Two.")
    engine, _ = chat_of(index, llm)
    first = started(engine, "One?")
    next(first.response_gen)
    second = started(engine, "Two?")
    assert llm.calls[0].closed
    assert str(second) == "Two."
    assert turns(engine) == [
        ("user", "One?", None),
        ("assistant", PIECES[0], "stopped"),
        ("user", "Two?", None),
        ("assistant", "Two.", "stop"),
    ]


def test_21_reasoning_is_no_part_of_the_history(index: VectorStoreIndex) -> None:
    llm = Model(["<think>Secret.</think>", "Nut."], "Condensed?", "Two.")
    engine, _ = chat_of(index, llm)
    answered(engine, "One?")
    answered(engine, "Two?")
    assert turns(engine)[1] == ("assistant", "Nut.", "stop")
    assert not any("Secret" in call.prompt for call in llm.calls)


def test_21_a_cut_connection(index: VectorStoreIndex, server: Any) -> None:
    from rag import OpenAI

    server.behaviours += [
        sends(event("Nu"), then="cut"),
        says("Condensed?"),
        sends(event("Ha"), b'data: {"error": {"message": "oh"}}\n\n', DONE),
    ]
    engine, _ = chat_of(index, OpenAI("m", server.url, "key", max_retries=0))
    answered(engine, "One?")
    answered(engine, "Two?")
    assert turns(engine) == [
        ("user", "One?", None),
        ("assistant", "Nu", "truncated"),
        ("user", "Two?", None),
        ("assistant", "Ha", "error"),
    ]


def test_21_on_the_page_too(backend: Backend) -> None:
    backend.catalog.put("fails", Model(["Half", Boom("oh")]))
    page = Page(Chat(backend), asks(1))
    page.ask("One?", model="fails")
    gate = threading.Event()
    backend.catalog.put("slow", Model("Condensed?", ["Half", gate]))
    reading = page.asks("Two?", "slow")
    eventually(lambda: page.questions == ["One?", "Two?"] and page.said == "Half")
    page.stop()
    reading.end()
    gate.set()
    kept = [
        (turn.question, answer.text, answer.finish_reason)
        for turn in page.conversation.turns
        for answer in turn.answers
    ]
    assert kept == [("One?", "Half", "error"), ("Two?", "Half", "stopped")]


# 22


class Parrot:
    """Says all that it was told, word by word: whatever reaches a model comes out of it."""

    is_streaming = True
    is_small = False
    model_name = "parrot"
    context_window = 100_000
    max_tokens = 64

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def stream(self, messages: Sequence[ChatMessage], **_: Any) -> TextStream:
        told = " ".join(message.content for message in messages)
        self.prompts.append(told)
        yield ""
        for word in told.split():
            yield f"{word} "
        return Completion("stop")

    def count_tokens(self, text: str) -> int:
        return count_words(text)


MARKERS = ("AARDVARK", "ZEPPELIN")


def notes(marker: str) -> list[Document]:
    """Documents in which every sentence has the marker."""
    return [
        Document(
            f"The secret number {n} of the walnut is {marker}{n}, says {marker}.",
            {"file_name": f"{marker}{n}.txt", "owner": marker},
        )
        for n in range(3)
    ]


def other(marker: str) -> str:
    return MARKERS[1 - MARKERS.index(marker)]


@pytest.mark.parametrize(
    "modes", [("compact", "compact"), ("compact", "refine"), ("tree_summarize", "accumulate")]
)
def test_22_two_conversations_at_the_same_time(modes: tuple[str, str]) -> None:
    """Documents of their own; the same model."""
    llm = Parrot()
    both = threading.Barrier(2, timeout=GUARD)

    def converse(marker: str, mode: str) -> Callable[[], tuple[Any, list[Any]]]:
        engine = engine_of(
            indexed(notes(marker)),
            llm,
            "chat",
            response_mode=mode,
            system_prompt=f"You are {marker}.",
        )

        def run() -> tuple[Any, list[Any]]:
            answers = []
            for turn in range(4):
                response = started(engine, f"Walnut question {turn} of {marker}?")
                for number, _ in enumerate(response.response_gen):
                    if number < 10:
                        both.wait()  # piece by piece in turn: both are being written
                answers.append(response)
            return engine, answers

        return run

    results = at_the_same_time(*map(converse, MARKERS, modes))
    for marker, (engine, answers) in zip(MARKERS, results, strict=True):
        assert len(engine.chat_history) == 8
        seen = [turn.content for turn in engine.chat_history]
        for response in answers:
            seen += [str(response), response.searched_for, response.get_formatted_sources()]
            seen += [str(response.metadata), str(response.source_nodes)]
            assert len(response.source_nodes) == 3
        assert marker in " ".join(seen)
        assert other(marker) not in " ".join(seen)
    assert len(llm.prompts) >= 14
    for prompt in llm.prompts:
        assert (MARKERS[0] in prompt) != (MARKERS[1] in prompt)


def test_22_the_same_index_and_the_same_model_with_other_settings() -> None:
    """Histories and settings are each one's own, also where all else is shared."""
    llm = Parrot()
    index = index_of(3)
    both = threading.Barrier(2, timeout=GUARD)
    options: list[dict[str, Any]] = [
        {"response_mode": "refine", "max_tokens": 7},
        {"response_mode": "accumulate", "max_tokens": 9},
    ]

    def converse(number: int) -> Callable[[], Any]:
        marker = MARKERS[number]
        templates = {name: f"{marker} {text}" for name, text in PLAIN.items()}
        engine = engine_of(index, llm, "chat", **options[number], **templates)

        def run() -> Any:
            calls = []
            for turn in range(3):
                response = started(engine, f"Walnut {turn} for {marker}?")
                for piece, _ in enumerate(response.response_gen):
                    if piece < 10:
                        both.wait()
                calls.append(str(response))
            return engine, calls

        return run

    results = at_the_same_time(*map(converse, range(2)))
    for marker, (engine, answers) in zip(MARKERS, results, strict=True):
        told = " ".join([*answers, *(turn.content for turn in engine.chat_history)])
        assert marker in told
        assert other(marker) not in told
    refined, accumulated = (answers for _, answers in results)
    assert all("BETTER" in answer for answer in refined)
    assert all("BETTER" not in answer for answer in accumulated)
    assert accumulated[0].count("Response ") == 3
    for prompt in llm.prompts:
        assert (MARKERS[0] in prompt) != (MARKERS[1] in prompt)


def test_22_one_that_streams_and_one_that_does_not() -> None:
    """On one synthesizer, as the reference's flag is on one engine."""
    index = index_of(2)
    synthesizer = get_response_synthesizer(llm=Parrot(), streaming=False)
    retriever = index.as_retriever()
    both = threading.Barrier(3, timeout=GUARD)

    def streams() -> list[Any]:
        engine = ChatEngine(retriever, synthesizer)
        kept = []
        for _ in range(5):
            both.wait()
            kept.append(engine.stream_chat(QUESTION))
            both.wait()
            list(kept[-1].response_gen)
        return kept

    def chats() -> list[Any]:
        engine = ChatEngine(retriever, synthesizer)
        kept = []
        for _ in range(5):
            both.wait()
            kept.append(engine.chat(QUESTION))
            both.wait()
        return kept

    def queries() -> list[Any]:
        engine = RetrieverQueryEngine(retriever, synthesizer)
        kept = []
        for _ in range(5):
            both.wait()
            kept.append(engine.query(QUESTION))
            both.wait()
        return kept

    streamed, whole, queried = at_the_same_time(streams, chats, queries)
    assert {type(response) for response in streamed} == {StreamingResponse}
    assert {type(response) for response in [*whole, *queried]} == {Response}
    assert synthesizer.streaming is False


def test_22_one_query_engine_for_many_readers() -> None:
    """Answers read at the same time from one engine do not mix."""
    engine = engine_of(index_of(1), Parrot())
    both = threading.Barrier(4, timeout=GUARD)

    def ask(number: int) -> Callable[[], str]:
        def run() -> str:
            response = engine.query(f"Walnut for reader{number}?")
            for piece, _ in enumerate(response.response_gen):
                if piece < 20:
                    both.wait()
            return str(response)

        return run

    for number, text in enumerate(at_the_same_time(*map(ask, range(4)))):
        assert [n for n in range(4) if f"reader{n}" in text] == [number]


@FORMS
def test_22_a_stop_in_one_conversation_does_not_stop_another(form: str) -> None:
    llm = Model(PIECES)
    index = index_of(1)
    one, two = (engine_of(index, llm, "chat") for _ in range(2))
    first = started(one)
    next(first.response_gen)
    got = answered(two, form=form)
    first.close()
    assert got.pieces == PIECES
    assert turns(one)[1][2] == "stopped"
    assert turns(two)[1] == ("assistant", "".join(PIECES), "stop")


def test_22_two_pages_at_the_same_time(
    backend: Backend, upload: Callable[[str, str | bytes], str]
) -> None:
    """Two browsers, each with a document and a model of its own."""
    chat, library = Chat(backend), Library(backend)
    pages = {marker: Page(chat, asks(n)) for n, marker in enumerate(MARKERS, start=1)}
    llms = {marker: Parrot() for marker in MARKERS}
    for marker, llm in llms.items():
        backend.catalog.put(marker, llm)
    both = threading.Barrier(2, timeout=GUARD)

    def visit(marker: str) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            page = pages[marker]
            text = "\n\n".join(document.text for document in notes(marker))
            shown: list[Any] = list(library.upload([upload(f"{marker}.txt", text)], page.request))
            eventually(lambda: not page.session.jobs)  # it goes in behind the page
            for turn in range(3):
                both.wait()  # both ask at once
                question = f"Walnut question {turn} of {marker}?"
                shown += page.asks(question, marker, "mine" if turn < 2 else "all").end()
            return shown

        return run

    lock = threading.Lock()
    put = upload

    def upload(name: str, content: str | bytes) -> str:
        with lock:
            return put(name, content)

    shown = at_the_same_time(*map(visit, MARKERS))
    for marker, views in zip(MARKERS, shown, strict=True):
        page = pages[marker]
        turns = page.conversation.turns
        answers = [answer for turn in turns for answer in turn.answers]
        assert [answer.finish_reason for answer in answers] == ["stop"] * 3
        assert all(answer.model == marker for answer in answers)
        assert all(marker in str(answer.sources) for answer in answers)
        for seen in (str(views), str(turns), " ".join(llms[marker].prompts)):
            assert marker in seen
            assert other(marker) not in seen
        assert len(backend.sessions.documents(page.session)) == 1
    # What a third one sees is neither.
    third = Page(chat, asks(3))
    third.ask("Walnut?", model=MARKERS[0], scope="all")
    assert "The sample speaks of walnuts" in third.said
    assert MARKERS[0] + "0" not in str(third.parts)
    assert MARKERS[1] not in str(third.parts)
    assert len(third.conversation.turns) == 1


def test_22_stopping_in_one_browser_does_not_stop_the_other(backend: Backend) -> None:
    gate = threading.Event()
    backend.catalog.put("slow", Model(["Half", gate, " more"]))
    chat = Chat(backend)
    one, two = Page(chat, asks(1)), Page(chat, asks(2))
    reading = one.asks("Walnut?", "slow")
    eventually(lambda: one.said == "Half")
    two.stop()
    two.click("new").end()
    two.click("delete", one.key).end()
    gate.set()
    reading.end()
    (answer,) = one.conversation.turns[0].answers
    assert (answer.text, answer.finish_reason) == ("Half more", "stop")


def test_22_what_is_scripted_is_not_shared() -> None:
    """The tests' own model keeps what it was asked: by itself, not for all."""
    one, two = ScriptedLLM(), ScriptedLLM()
    answered(engine_of(index_of(1), one))
    assert (len(one.calls), len(two.calls)) == (1, 0)


# 23


def conversation(number: int, words: int = 30) -> list[ChatMessage]:
    return [
        ChatMessage(role, f"{role}{n}x " + "word " * words)  # type: ignore[arg-type]
        for n in range(number)
        for role in ("user", "assistant")
    ]


def kept_in(llm: Model, history: list[ChatMessage]) -> list[ChatMessage]:
    return [message for message in llm.calls[-1].messages if message in history]


@FORMS
def test_23_history_is_cut_from_its_oldest_end(index: VectorStoreIndex, form: str) -> None:
    history = conversation(8)
    llm = Model("Condensed?", PIECES, context_window=450)
    engine, _ = chat_of(index, llm, chat_history=history)
    assert answered(engine, "Walnut?", form).error is None
    kept = kept_in(llm, history)
    assert 0 < len(kept) < len(history)
    assert kept == history[-len(kept) :]
    assert kept[0].role == "user"
    asked = llm.calls[-1].messages
    assert asked[: len(kept)] == kept  # in their order, before the question
    assert asked[-1].role == "user"
    assert "Walnut?" in asked[-1].content


def test_23_whatever_the_window_the_newest_are_kept(index: VectorStoreIndex) -> None:
    history = conversation(6)
    numbers = []
    for window in range(250, 1000, 25):
        llm = Model("Condensed?", PIECES, context_window=window)
        engine, _ = chat_of(index, llm, chat_history=history)
        assert answered(engine, "Walnut?").error is None
        kept = kept_in(llm, history)
        assert kept == history[len(history) - len(kept) :]
        assert len(kept) % 2 == 0
        numbers.append(len(kept))
    assert numbers == sorted(numbers)  # a larger window keeps no less
    assert (numbers[0], numbers[-1]) == (0, 12)
    assert len(set(numbers)) == 7


def test_23_the_condensing_call_is_cut_from_the_same_end(index: VectorStoreIndex) -> None:
    history = conversation(8)
    llm = Model("Condensed?", PIECES, context_window=350)
    engine, _ = chat_of(index, llm, chat_history=history)
    answered(engine, "Walnut?")
    condensing = llm.calls[0].prompt
    told = [f"{m.content.split()[0]} " in condensing for m in history]
    assert any(told)
    assert not all(told)
    assert told == sorted(told)  # the newest of them
    assert "Walnut?" in condensing


def test_23_one_long_old_turn_does_not_push_out_the_new_ones(index: VectorStoreIndex) -> None:
    history = [*conversation(1, words=500), *conversation(4)[2:]]
    llm = Model("Condensed?", PIECES, context_window=500)
    engine, _ = chat_of(index, llm, chat_history=history)
    answered(engine, "Walnut?")
    assert kept_in(llm, history) == history[2:]


def test_23_turn_by_turn_the_last_exchange_is_always_there(index: VectorStoreIndex) -> None:
    """A conversation that grows beyond the window."""
    llm = Model("x", context_window=330)
    engine, _ = chat_of(index, llm)
    for number in range(12):
        llm.answers = [[f"answer{number}x " + "word " * 15]]
        assert answered(engine, f"Walnut question{number}x?").error is None
        told = "\n".join(message.content for message in llm.calls[-1].messages)
        assert f"question{number}x" in told
        if number:
            assert f"answer{number - 1}x" in told
    assert "question0x" not in told
    assert len(engine.chat_history) == 24  # what a person has said is not forgotten
