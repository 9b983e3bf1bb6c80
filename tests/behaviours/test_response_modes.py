"""Behaviours 15 to 19: what is asked of the model, in how many calls, and what fits its window."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag import ChatMessage, Response, StreamingResponse, VectorStoreIndex
from rag.config import ResponseMode
from rag.errors import ContextWindowError
from rag.llms.huggingface import HuggingFaceLLM
from rag.types import Node, NodeWithScore
from tests.behaviours.parts import (
    FORMS,
    KINDS,
    PIECES,
    PLAIN,
    QUESTION,
    Model,
    answered,
    context_in,
    count_words,
    engine_of,
    fitting,
    index_of,
    indexed,
    passage_of,
    within,
)

MODES = get_args(ResponseMode)
JOINT = "\n\n"


@pytest.fixture(scope="module")
def three() -> VectorStoreIndex:
    return index_of(3)


@pytest.fixture(scope="module")
def four() -> VectorStoreIndex:
    return index_of(4)


def contexts(llm: Model) -> list[str]:
    return [context_in(call) for call in llm.calls]


def ranked(number: int) -> list[str]:
    return [passage_of(rank) for rank in range(number)]


# 15


@FORMS
@KINDS
def test_15_texts_that_fit_are_one_call_joined_by_a_blank_line(
    three: VectorStoreIndex, kind: str, form: str
) -> None:
    llm = Model(PIECES)
    got = answered(engine_of(three, llm, kind, **PLAIN), form=form)
    (call,) = llm.calls
    assert call.prompt == f"FIRST {QUESTION} FROM [{JOINT.join(ranked(3))}]"
    assert [hit.text for hit in got.response.source_nodes] == ranked(3)
    assert got.text == "".join(PIECES)


def test_15_compact_is_the_default(four: VectorStoreIndex) -> None:
    for options in ({}, {"response_mode": "compact"}):
        llm = Model("one", "two", context_window=fitting(2))
        answered(engine_of(four, llm, **PLAIN, **options))
        assert [call.prompt.split()[0] for call in llm.calls] == ["FIRST", "BETTER"]


def test_15_a_tight_window_splits_them_in_the_order_of_their_rank(four: VectorStoreIndex) -> None:
    llm = Model("one", "two", "three", context_window=fitting(2))
    got = answered(engine_of(four, llm, **PLAIN))
    texts = ranked(4)
    assert contexts(llm) == ["\n\n".join(texts[:2]), "\n\n".join(texts[2:])]
    assert llm.calls[0].prompt.startswith(f"FIRST {QUESTION} FROM ")
    assert llm.calls[1].prompt.startswith(f"BETTER <one> TO {QUESTION} BY ")
    assert got.text == "two"


@pytest.mark.parametrize("room", range(100, 330, 23))
def test_15_a_text_that_is_split_stays_in_order(three: VectorStoreIndex, room: int) -> None:
    """Nothing is left out, nothing comes twice, whatever the window is."""
    llm = Model("a", context_window=room)
    got = answered(engine_of(three, llm, **PLAIN))
    assert got.error is None
    assert len(llm.calls) > 1
    assert " ".join(contexts(llm)).split() == " ".join(ranked(3)).split()


def test_15_sentences_of_a_split_text_stay_in_order() -> None:
    sentences = [f"Walnut number {n} stands at the {n}th bend of the road." for n in range(12)]
    llm = Model("a", context_window=140)
    answered(engine_of(indexed([" ".join(sentences)]), llm, **PLAIN))
    assert len(llm.calls) > 2
    assert " ".join(contexts(llm)) == " ".join(sentences)


# 16


@FORMS
@KINDS
def test_16_three_chunks_are_three_calls_the_last_with_the_refine_prompt(
    three: VectorStoreIndex, kind: str, form: str
) -> None:
    llm = Model("one", "two", PIECES, "never")
    engine = engine_of(three, llm, kind, response_mode="refine", **PLAIN)
    got = answered(engine, form=form)
    texts = ranked(3)
    assert [call.prompt for call in llm.calls] == [
        f"FIRST {QUESTION} FROM [{texts[0]}]",
        f"BETTER <one> TO {QUESTION} BY [{texts[1]}]",
        f"BETTER <two> TO {QUESTION} BY [{texts[2]}]",
    ]
    assert got.pieces == PIECES


def test_16_with_the_prompts_as_they_are(three: VectorStoreIndex) -> None:
    llm = Model("one answer", "two answers", "three")
    answered(engine_of(three, llm, response_mode="refine"))
    prompts = [call.prompt for call in llm.calls]
    assert len(prompts) == 3
    for prompt, text in zip(prompts, ranked(3), strict=True):
        assert text in prompt
        assert QUESTION in prompt
    assert "one answer" in prompts[1]
    assert "two answers" in prompts[2]


def test_16_custom_prompts_may_be_callables(three: VectorStoreIndex) -> None:
    def refine(*, query_str: str, existing_answer: str, context_msg: str) -> str:
        return f"MINE {query_str} {existing_answer} {context_msg}"

    llm = Model("one", "two", "three")
    answered(engine_of(three, llm, response_mode="refine", refine_template=refine))
    assert llm.calls[2].prompt == f"MINE {QUESTION} two {passage_of(2)}"


# 17


@FORMS
@KINDS
def test_17_two_packed_chunks_are_two_calls_and_one_that_streams(
    four: VectorStoreIndex, kind: str, form: str
) -> None:
    llm = Model("left", "right", PIECES, "never", context_window=fitting(2))
    engine = engine_of(four, llm, kind, response_mode="tree_summarize", **PLAIN)
    got = answered(engine, form=form)
    texts = ranked(4)
    assert [call.prompt for call in llm.calls] == [
        f"SUM {QUESTION} OF [{texts[0]}\n\n{texts[1]}]",
        f"SUM {QUESTION} OF [{texts[2]}\n\n{texts[3]}]",
        f"SUM {QUESTION} OF [left\n\nright]",
    ]
    assert got.pieces == PIECES


def test_17_the_first_two_are_over_before_the_stream(four: VectorStoreIndex) -> None:
    llm = Model("left", "right", PIECES, context_window=fitting(2))
    response = engine_of(four, llm, response_mode="tree_summarize", **PLAIN).query(QUESTION)
    assert [call.ended for call in llm.calls] == [True, True, False]
    assert llm.calls[2].given == []
    assert next(response.response_gen) == PIECES[0]


def test_17_one_packed_chunk_is_one_call(four: VectorStoreIndex) -> None:
    llm = Model(PIECES)
    got = answered(engine_of(four, llm, response_mode="tree_summarize", **PLAIN))
    assert contexts(llm) == ["\n\n".join(ranked(4))]
    assert got.pieces == PIECES


@FORMS
@pytest.mark.parametrize("window", [1, 16, 60, 80])
def test_17_a_window_too_small_for_the_prompt_is_a_clear_error(
    four: VectorStoreIndex, form: str, window: int
) -> None:
    llm = Model("a", context_window=window)
    got = answered(engine_of(four, llm, response_mode="tree_summarize", **PLAIN), form=form)
    assert type(got.error) is ContextWindowError
    assert got.response is None
    assert f"{window} tokens" in str(got.error)
    assert llm.model_name in str(got.error)
    assert "window" in str(got.error)
    assert len(llm.calls) == 0


def test_17_the_references_300_tokens(four: VectorStoreIndex) -> None:
    llm = Model("word " * 200, context_window=300, max_tokens=256)
    got = answered(engine_of(four, llm, response_mode="tree_summarize"))
    assert type(got.error) is ContextWindowError


def test_17_answers_that_do_not_get_shorter_end_in_a_clear_error(four: VectorStoreIndex) -> None:
    llm = Model("word " * 200, context_window=fitting(2), max_tokens=16)
    got = within(lambda: answered(engine_of(four, llm, response_mode="tree_summarize", **PLAIN)))
    assert type(got.error) is ContextWindowError
    assert f"{fitting(2)} tokens" in str(got.error)
    assert len(llm.calls) < 20


@pytest.mark.parametrize("answer", ["ok", "word " * 12, "word " * 60])
def test_17_whatever_the_window_it_ends(four: VectorStoreIndex, answer: str) -> None:
    for window in range(1, 700, 29):
        llm = Model(answer, context_window=window)
        engine = engine_of(four, llm, response_mode="tree_summarize", **PLAIN)
        got = within(lambda engine=engine: answered(engine))
        assert got.error is None or type(got.error) is ContextWindowError
        assert got.error or got.text == answer


# 18


@KINDS
def test_18_simple_summarize_is_one_call_on_truncated_text(
    four: VectorStoreIndex, kind: str
) -> None:
    llm = Model(PIECES, context_window=260)
    engine = engine_of(four, llm, kind, response_mode="simple_summarize", **PLAIN)
    got = answered(engine)
    (context,) = contexts(llm)
    whole = "\n\n".join(ranked(4))
    assert whole.startswith(context)
    assert passage_of(0) in context  # the best of it
    assert 100 <= count_words(context) < 400
    assert got.pieces == PIECES


def test_18_simple_summarize_truncates_a_single_text() -> None:
    llm = Model(PIECES, context_window=130)
    got = answered(engine_of(index_of(1), llm, response_mode="simple_summarize", **PLAIN))
    (context,) = contexts(llm)
    assert passage_of(0).startswith(context)
    assert 10 < count_words(context) < 100
    assert got.pieces == PIECES


def test_18_simple_summarize_with_room_takes_all(four: VectorStoreIndex) -> None:
    llm = Model(PIECES)
    answered(engine_of(four, llm, response_mode="simple_summarize", **PLAIN))
    assert contexts(llm) == ["\n\n".join(ranked(4))]


@FORMS
@KINDS
@pytest.mark.parametrize("number", [0, 3])
def test_18_generation_asks_the_model_without_context(kind: str, form: str, number: int) -> None:
    llm = Model(PIECES)
    engine = engine_of(index_of(number), llm, kind, response_mode="generation", **PLAIN)
    got = answered(engine, form=form)
    (call,) = llm.calls
    assert call.prompt == f"PLAIN {QUESTION}"
    assert got.pieces == PIECES
    assert got.response.source_nodes == []


def test_18_generation_is_called_also_when_all_nodes_are_removed(three: VectorStoreIndex) -> None:
    llm = Model(PIECES)
    engine = engine_of(
        three, llm, response_mode="generation", node_postprocessors=[lambda nodes, query: []]
    )
    assert answered(engine).pieces == PIECES


@FORMS
@KINDS
@pytest.mark.parametrize("mode", ["no_text", "context_only"])
def test_18_no_model_is_called(three: VectorStoreIndex, kind: str, form: str, mode: str) -> None:
    llm = Model("never")
    got = answered(engine_of(three, llm, kind, response_mode=mode), form=form)
    assert got.error is None
    assert llm.calls == []
    assert [hit.text for hit in got.response.source_nodes] == ranked(3)
    assert got.text == "".join(got.pieces)
    if mode == "no_text":
        assert got.text == ""
    else:
        assert got.text == "\n\n".join(ranked(3))
    assert got.response.finish_reason == "stop"


@FORMS
@KINDS
@pytest.mark.parametrize(
    ("mode", "window", "read"),
    [
        ("accumulate", 4096, [[0], [1], [2]]),
        ("compact_accumulate", fitting(2), [[0, 1], [2]]),
        ("compact_accumulate", 4096, [[0, 1, 2]]),
    ],
)
def test_18_each_answer_in_turn_streams(
    three: VectorStoreIndex, kind: str, form: str, mode: str, window: int, read: list[list[int]]
) -> None:
    answers = [[f"a{n} ", f"b{n} ", f"c{n}"] for n in range(len(read))]
    llm = Model(*answers, "never", context_window=window)
    engine = engine_of(three, llm, kind, response_mode=mode, **PLAIN)
    got = answered(engine, form=form)
    assert [call.prompt for call in llm.calls] == [
        f"FIRST {QUESTION} FROM [{JOINT.join(map(passage_of, ranks))}]" for ranks in read
    ]
    told = [piece for answer in answers for piece in answer]
    assert [piece for piece in got.pieces if piece in told] == told  # as they were produced
    places = [got.text.index("".join(answer)) for answer in answers]
    assert places == sorted(places)
    assert got.text == "".join(got.pieces)


def test_18_the_answers_stream_one_after_another(three: VectorStoreIndex) -> None:
    answers = [[f"a{n} ", f"b{n} "] for n in range(3)]
    llm = Model(*answers)
    response = engine_of(three, llm, response_mode="accumulate", **PLAIN).query(QUESTION)
    assert [(call.ended, call.given) for call in llm.calls] == [(False, [])]
    for piece in response.response_gen:
        if piece.startswith(("a", "b")):
            number = int(piece[1])
            assert [call.ended for call in llm.calls] == [True] * number + [False]
            assert llm.calls[-1].given[-1] == piece
    assert [call.ended for call in llm.calls] == [True] * 3


@pytest.mark.parametrize("mode", MODES)
def test_18_in_every_mode_it_streams_and_it_does_not(three: VectorStoreIndex, mode: Any) -> None:
    streamed = answered(engine_of(three, Model("a ", "b"), response_mode=mode))
    assert isinstance(streamed.response, StreamingResponse)
    engine = three.as_query_engine(similarity_top_k=10, llm=Model("a ", "b"), response_mode=mode)
    whole = engine.query(QUESTION)
    assert type(whole) is Response
    assert str(whole) == streamed.text


# 19


class Strict(Model):
    """A model like a server's: it refuses what does not fit, counted as it counts itself."""

    message_tokens = 6
    template_tokens = 40
    """What a chat template adds to each message, and once."""
    largest = 0

    def stream(self, messages: Sequence[ChatMessage], **options: Any) -> Any:
        limit = options.get("max_tokens") or self.max_tokens
        used = self.template_tokens + sum(
            self.count_tokens(message.content) + self.message_tokens for message in messages
        )
        assert used + limit <= self.context_window, "the prompt exceeds the window"
        self.largest = max(self.largest, used + limit)
        return super().stream(messages, **options)


TEXTS = st.lists(
    st.text(st.sampled_from("ab 漢🙂.\n"), min_size=1, max_size=400).filter(str.strip),
    min_size=1,
    max_size=4,
)
COUNTS = st.sampled_from([count_words, len, lambda text: len(text.encode())])


class Found:
    """A retriever that finds what it was given."""

    def __init__(self, texts: Sequence[str]):
        self.nodes = [
            NodeWithScore(Node(text, str(rank), 0, 0), 1 - rank / 10)
            for rank, text in enumerate(texts)
        ]

    def retrieve(self, query: str) -> list[NodeWithScore]:
        return self.nodes


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    texts=TEXTS,
    question=st.text(st.sampled_from("ab 漢?"), min_size=1, max_size=80).filter(str.strip),
    answer=st.text(st.sampled_from("ab 漢"), min_size=1, max_size=60),
    window=st.integers(60, 1500),
    limit=st.integers(1, 120),
    turns=st.integers(0, 6),
    count=COUNTS,
    mode=st.sampled_from(MODES),
)
def test_19_no_prompt_exceeds_the_window(
    three: VectorStoreIndex,
    texts: list[str],
    question: str,
    answer: str,
    window: int,
    limit: int,
    turns: int,
    count: Any,
    mode: Any,
) -> None:
    history = [
        ChatMessage(role, f"{role} {number} " + "ab " * 9 * number)  # type: ignore[arg-type]
        for number in range(turns)
        for role in ("user", "assistant")
    ]
    llm = Strict(answer, context_window=window, max_tokens=limit, count_tokens=count)
    engine = three.as_chat_engine(llm, response_mode=mode, chat_history=history)
    engine.retriever = Found(texts)
    with suppress(ContextWindowError):
        for piece in engine.stream_chat(question).response_gen:
            assert isinstance(piece, str)


@pytest.mark.parametrize("mode", ["compact", "tree_summarize", "simple_summarize"])
def test_19_the_models_own_count_is_what_counts(three: VectorStoreIndex, mode: str) -> None:
    """Two models with the same window, one of which needs five times the tokens."""
    plain = Strict("ok", context_window=300)
    costly = Strict("ok", context_window=300, count_tokens=lambda text: 5 * count_words(text))
    for llm in (plain, costly):
        got = answered(engine_of(three, llm, response_mode=mode, **PLAIN))
        assert got.error is None
        assert llm.largest > 200  # and the window is made use of
    assert len(contexts(plain)[0]) > 2 * len(contexts(costly)[0])


def test_19_room_is_kept_for_the_answer(three: VectorStoreIndex) -> None:
    """A call's own limit, not the model's, says how much."""
    read = []
    for limit in (16, 200):
        llm = Strict("ok", context_window=400, max_tokens=50)
        engine = engine_of(three, llm, response_mode="simple_summarize", max_tokens=limit, **PLAIN)
        assert answered(engine).error is None
        (call,) = llm.calls
        assert call.max_tokens == limit
        read.append(count_words(context_in(call)))
    assert 150 < read[0] - read[1] < 215


@FORMS
def test_19_the_text_that_was_left_out_is_recorded(four: VectorStoreIndex, form: str) -> None:
    llm = Model(PIECES, context_window=260)
    got = answered(engine_of(four, llm, response_mode="simple_summarize", **PLAIN), form=form)
    given = sum(map(len, "".join(context_in(llm.calls[0]).split())))
    whole = sum(len("".join(text.split())) for text in ranked(4))
    missing = got.response.left_out.characters
    assert missing > 0
    # Spaces at the cut and blank lines between passages may count or not.
    assert whole - given <= missing <= sum(map(len, ranked(4))) - given


def test_19_nothing_left_out_is_recorded_as_nothing(four: VectorStoreIndex) -> None:
    for mode in MODES:
        got = answered(engine_of(four, Model(PIECES), response_mode=mode))
        assert (got.response.left_out.characters, got.response.left_out.messages) == (0, 0)


def long_history(turns: int = 6) -> list[ChatMessage]:
    return [
        ChatMessage(role, f"{role} {number} " + "word " * 40)  # type: ignore[arg-type]
        for number in range(turns)
        for role in ("user", "assistant")
    ]


@FORMS
@pytest.mark.parametrize("mode", ["compact", "tree_summarize", "simple_summarize", "generation"])
def test_19_the_turns_that_were_left_out_are_recorded(form: str, mode: str) -> None:
    history = long_history()
    llm = Model("condensed?", PIECES, context_window=400)
    if mode == "generation":
        llm.answers = [PIECES]
    engine = engine_of(index_of(1), llm, "chat", chat_history=history, response_mode=mode)
    got = answered(engine, form=form)
    kept = [message for message in llm.calls[-1].messages if message in history]
    assert 0 < len(kept) < len(history)
    assert got.response.left_out.messages == len(history) - len(kept)


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_19_turns_left_out_of_an_answer_in_several_calls_are_recorded(mode: str) -> None:
    history = long_history(2)
    llm = Model("condensed?", "part", context_window=fitting(1))
    engine = engine_of(index_of(3), llm, "chat", chat_history=history, response_mode=mode, **PLAIN)
    got = answered(engine)
    assert len(llm.calls) > 2
    kept = [message for message in llm.calls[-1].messages if message in history]
    assert got.response.left_out.messages == len(history) - len(kept)


def test_19_text_and_turns_left_out_are_both_recorded() -> None:
    history = long_history()
    llm = Model("condensed?", PIECES, context_window=260)
    engine = engine_of(
        index_of(4), llm, "chat", chat_history=history, response_mode="simple_summarize", **PLAIN
    )
    got = answered(engine)
    assert context_in(llm.calls[-1]) != "\n\n".join(ranked(4))
    assert got.response.left_out.characters > 0
    assert got.response.left_out.messages > 0


def test_19_a_question_that_does_not_fit_is_a_clear_error(three: VectorStoreIndex) -> None:
    for mode in MODES[:-4]:
        llm = Model("never", context_window=200)
        got = answered(engine_of(three, llm, response_mode=mode), "walnut " * 200)
        assert type(got.error) is ContextWindowError
        assert "200 tokens" in str(got.error)
        assert llm.calls == []


@pytest.mark.slow
@pytest.mark.parametrize("text", ["The walnut stands by the road. ", "漢字とwalnutの木。🙂 "])
@pytest.mark.parametrize("mode", ["compact", "simple_summarize"])
def test_19_the_local_models_prompts_fit_its_window(
    smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch, text: str, mode: str
) -> None:
    """Counted where they arrive: where answers are computed."""
    lengths = []
    stream = smollm._batch.stream

    def spied(answer: Any) -> Any:
        lengths.append(len(answer.prompt))
        return stream(answer)

    monkeypatch.setattr(smollm._batch, "stream", spied)
    monkeypatch.setattr(smollm, "context_window", 256)
    engine = engine_of(index_of(1), smollm, response_mode=mode, max_tokens=4)
    engine.retriever = Found([f"{number}. " + text * 8 for number in range(3)])
    got = answered(engine)
    assert got.error is None
    assert all(length + 4 <= 256 for length in lengths)
    assert max(lengths) > 150  # and the window is made use of
    assert len(lengths) == 1 or mode == "compact"
    assert got.response.usage.prompt_tokens == sum(lengths)
