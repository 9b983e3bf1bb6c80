"""The response modes: which calls are made with which texts, and what is told on the way."""

import asyncio
import re
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.answering import prompts
from rag.answering.budget import JOINT, LEAST, MESSAGE_TOKENS, TEMPLATE_TOKENS
from rag.answering.events import (
    Begun,
    Event,
    Finished,
    LeftOut,
    Sources,
    Status,
    Timings,
)
from rag.answering.prompts import Prompts
from rag.answering.response import AsyncStreamingResponse, Response, StreamingResponse
from rag.answering.synthesis import SEPARATOR, ResponseSynthesizer
from rag.config import ResponseMode
from rag.errors import ConfigurationError, ContextWindowError, ProviderError
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion, NodeWithScore, Reasoning, Usage
from tests.answering.conftest import Says, dialogue, hit, hits, of, statuses, text_of

MODES = get_args(ResponseMode)
CALLING = [mode for mode in MODES if mode not in ("no_text", "context_only")]
"""The modes that call a model."""
SHORT = Prompts(
    text_qa_template="QA {context_str} | {query_str}",
    refine_template="REFINE {existing_answer} | {context_msg} | {query_str}",
    summary_template="SUMMARY {context_str} | {query_str}",
    simple_template="SIMPLE {query_str}",
)
AROUND = MESSAGE_TOKENS + TEMPLATE_TOKENS
ANSWER = 20
"""Tokens kept for an answer: what `Says` has."""


def window(room: int, texts: str = "QA | why?") -> int:
    """A window that leaves `room` tokens beside a call of `texts`."""
    return AROUND + ANSWER + len(texts.split()) + room


def synthesizer(llm: Any, mode: Any = "compact", **options: Any) -> ResponseSynthesizer:
    return ResponseSynthesizer(llm, mode, **{"prompts": SHORT, **options})


def run(
    llm: Any,
    mode: Any = "compact",
    nodes: Sequence[NodeWithScore] = (),
    history: Sequence[ChatMessage] = (),
    standalone: str = "",
    **options: Any,
) -> list[Event]:
    made = synthesizer(llm, mode, **options)
    return list(made.events("why?", nodes, history, standalone=standalone))


def kinds(events: Sequence[Event]) -> list[str]:
    """The kinds of events in their order, without timings, repetitions and empty texts."""
    result: list[str] = []
    for event in events:
        name = type(event).__name__
        if event != "" and name != "Timings" and result[-1:] != [name]:
            result.append(name)
    return result


# What holds in every mode


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("room", [20, 5000])
def test_every_answer_is_sources_beginning_text_and_end(mode: ResponseMode, room: int) -> None:
    nodes = hits("one " * 15, "two " * 15, "three " * 15)
    llm = Says(["Word", " by", " word."], context_window=window(room))
    events = run(llm, mode, nodes)
    named = [event for event in events if not isinstance(event, Timings) and event != ""]
    assert kinds(named)[0] in ("Sources", "Status")
    assert len(of(Sources, events)) == len(of(Begun, events)) == len(of(Finished, events)) == 1
    assert named.index(of(Sources, events)[0]) < named.index(of(Begun, events)[0])
    texts = [n for n, event in enumerate(named) if isinstance(event, str)]
    assert all(n > named.index(of(Begun, events)[0]) for n in texts)
    assert isinstance(named[-1], Finished)
    assert bool(texts) == (mode != "no_text")
    assert llm.open == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("nodes", [(), (hit(" \n"), hit(""))])
def test_12_without_passages_there_is_a_text_and_no_call(
    mode: ResponseMode, nodes: Sequence[NodeWithScore]
) -> None:
    llm = Says()
    events = list(synthesizer(llm, mode).events("why?", nodes, nothing="Nothing."))
    if mode == "generation":
        assert text_of(events) == "An answer."
        assert llm.prompts == ["SIMPLE why?"]
    else:
        text = [] if mode in ("no_text", "context_only") else ["Nothing."]
        assert events == [Sources(()), Begun(), *text, Finished("stop")]
        assert llm.calls == []


def test_12_the_text_for_nothing_is_that_of_an_empty_library() -> None:
    assert text_of(run(Says())) == prompts.NOTHING_FOUND


@pytest.mark.parametrize("mode", CALLING)
@pytest.mark.parametrize("ends", [Completion("length", Usage(9, 2)), Completion("truncated")])
def test_how_the_last_call_ended_is_told(mode: ResponseMode, ends: Completion) -> None:
    *_, last = run(Says(["a", ends]), mode, hits("one"))
    assert last == Finished(ends.finish_reason, ends.usage)


@pytest.mark.parametrize("mode", CALLING)
def test_the_limit_goes_into_every_call(mode: ResponseMode) -> None:
    llm = Says(["a"], context_window=window(20))
    run(llm, mode, hits("one " * 15, "two " * 15), max_tokens=ANSWER)
    assert set(llm.limits) == {ANSWER}
    llm = Says(["a"])
    run(llm, mode, hits("one " * 15, "two " * 15))
    assert set(llm.limits) == {None}


@pytest.mark.parametrize("mode", CALLING)
def test_a_system_prompt_begins_every_call(mode: ResponseMode) -> None:
    llm = Says(["a"], context_window=window(30))
    told = Prompts(system_prompt="Be brief.")
    nodes = hits("one " * 15, "two " * 15)
    llm.context_window = 170
    run(llm, mode, nodes, dialogue("a?", "A."), prompts=told)
    assert all(messages[0] == ChatMessage("system", "Be brief.") for messages in llm.calls)
    assert all(m.role != "system" for messages in llm.calls for m in messages[1:])


@pytest.mark.parametrize("mode", CALLING)
def test_07_an_error_comes_after_the_text_before_it(mode: ResponseMode) -> None:
    llm = Says(["one", " two", ProviderError("gone")])
    events: list[Event] = []
    with pytest.raises(ProviderError, match="gone"):
        events.extend(synthesizer(llm, mode).events("why?", hits("one")))
    assert text_of(events).endswith("one two")
    assert of(Finished, events) == []


@pytest.mark.parametrize("mode", CALLING)
@pytest.mark.parametrize("steps", range(1, 12))
def test_10_closing_at_any_event_leaves_no_call_open(mode: ResponseMode, steps: int) -> None:
    llm = Says(["a", "b", "c"], context_window=window(20))
    events = synthesizer(llm, mode).events("why?", hits("one " * 15, "two " * 15))
    for _ in range(steps):
        next(events, None)
    events.close()
    assert llm.open == 0


@settings(max_examples=100, deadline=None)
@given(
    mode=st.sampled_from(CALLING),
    room=st.integers(0, 80),
    sizes=st.lists(st.integers(1, 50), max_size=6),
    answer=st.integers(0, ANSWER),
    earlier=st.integers(0, 3),
)
def test_19_no_call_of_any_mode_exceeds_the_window(
    mode: ResponseMode, room: int, sizes: list[int], answer: int, earlier: int
) -> None:
    llm = Says(["word "] * answer, context_window=window(room))
    history = dialogue(*["so it goes"] * 2 * earlier)
    nodes = hits(*(f"w{n} " * size for n, size in enumerate(sizes)))
    try:
        run(llm, mode, nodes, history)
    except ContextWindowError:
        # `refine` needs room beside the answer so far, and a tree room for two of its answers.
        assert room < LEAST + 2 * ANSWER + 5
    for messages in llm.calls:
        tokens = sum(len(m.content.split()) + MESSAGE_TOKENS for m in messages)
        assert tokens + TEMPLATE_TOKENS + ANSWER <= llm.context_window


@pytest.mark.parametrize("mode", ["", "Compact", "tree", None])
def test_a_mode_that_does_not_exist_names_those_that_do(mode: Any) -> None:
    with pytest.raises(ConfigurationError, match="no response mode") as caught:
        ResponseSynthesizer(Says(), mode)
    assert all(name in str(caught.value) for name in MODES)


# compact and refine


def test_15_texts_that_fit_are_one_call_joined_by_a_blank_line() -> None:
    llm = Says()
    events = run(llm, "compact", hits("one", "two", "three"))
    assert llm.prompts == [f"QA one{JOINT}two{JOINT}three | why?"]
    assert statuses(events) == ["Reading 3 passages", "Writing"]
    assert text_of(events) == "An answer."
    assert of(Sources, events) == [Sources(tuple(hits("one", "two", "three")))]


def test_15_a_tight_window_splits_them_in_the_order_of_their_rank() -> None:
    llm = Says(["first"], ["second"], ["third"], context_window=window(19))
    sentences = [f"Sentence {n} has five words." for n in range(7)]
    first, second = " ".join(sentences[:3]), " ".join(sentences[3:6])
    events = run(llm, "compact", hits(f"{first} {second} {sentences[6]}", "x", "y"))
    assert llm.prompts == [
        f"QA {first} | why?",
        f"REFINE first | {second} | why?",
        f"REFINE second | {sentences[6]}{JOINT}x{JOINT}y | why?",
    ]
    assert statuses(events) == [
        *("Reading passages 1 of 3", "Reading passages 1 of 3", "Reading passages 1 of 3"),
        "Writing",
    ]
    assert text_of(events) == "third"


def test_16_refine_is_a_call_for_each_passage_and_the_last_streams() -> None:
    llm = Says(["first"], ["second"], ["third", " answer"])
    events = run(llm, "refine", hits("one", "two", "three"))
    assert llm.prompts == [
        "QA one | why?",
        "REFINE first | two | why?",
        "REFINE second | three | why?",
    ]
    reading = [f"Reading passages {n} of 3" for n in (1, 2, 3)]
    assert statuses(events) == [*reading, "Writing"]
    assert [event for event in events if isinstance(event, str) and event] == ["third", " answer"]
    assert kinds(events) == ["Sources", "Status", "Begun", "Status", "str", "Finished"]


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize"])
def test_03_all_calls_but_the_last_are_finished_before_the_answer_begins(
    mode: ResponseMode,
) -> None:
    llm = Says(["a", "b"], context_window=window(25))
    events = synthesizer(llm, mode).events("why?", hits("one " * 20, "two " * 20))
    for event in events:
        if isinstance(event, Begun):
            break
        assert event == "" or not isinstance(event, str)
    calls = 3 if mode == "tree_summarize" else 2
    assert (len(llm.calls), llm.steps, llm.open) == (calls, 2 * (calls - 1), 1)


def test_16_the_usage_of_all_calls_is_summed() -> None:
    llm = Says(
        ["a", Completion("stop", Usage(1, 10))],
        ["b", Completion("stop", Usage(2, 20))],
        ["c", Completion("stop", Usage(4, 40))],
    )
    *_, last = run(llm, "refine", hits("one", "two", "three"))
    assert last == Finished("stop", Usage(7, 70))


@pytest.mark.parametrize(("ends", "whole"), [("truncated", "truncated"), ("length", "stop")])
def test_09_a_call_in_between_that_was_cut_off_marks_the_answer(ends: Any, whole: str) -> None:
    llm = Says(["a", Completion(ends)], ["b"])
    *_, last = run(llm, "refine", hits("one", "two"))
    assert last == Finished(whole)


def test_reasoning_of_a_call_in_between_is_not_told_and_not_refined() -> None:
    llm = Says(["<think>Hm.</think>first"], [Reasoning("So."), "<think>Then.", "</think>second"])
    events = run(llm, "refine", hits("one", "two"))
    assert llm.prompts[1] == "REFINE first | two | why?"
    assert of(Reasoning, events) == [Reasoning("So."), Reasoning("Then.")]
    assert text_of(events) == "second"


@pytest.mark.parametrize("blank", [[], [" \n"], ["<think>Hm.</think>"]])
def test_13_a_first_call_without_a_word_is_not_refined(blank: list[str]) -> None:
    llm = Says(blank, ["answer"])
    events = run(llm, "refine", hits("one", "two"))
    assert llm.prompts == ["QA one | why?", "QA two | why?"]
    assert text_of(events) == "answer"


def test_13_a_call_in_the_middle_without_a_word_keeps_the_answer_so_far() -> None:
    llm = Says(["first"], ["\n"], ["third"])
    run(llm, "refine", hits("one", "two", "three"))
    assert llm.prompts[2] == "REFINE first | three | why?"


@pytest.mark.parametrize("blank", [[], [" \n"], [Reasoning("Hm.")]])
def test_13_a_last_call_without_a_word_gives_the_answer_so_far(blank: list[Any]) -> None:
    llm = Says(["first answer"], blank)
    events = run(llm, "refine", hits("one", "two"))
    assert text_of(events) == "first answer"
    assert events[-1] == Finished("stop")


def test_13_only_blank_answers_give_the_fallback_text() -> None:
    assert text_of(run(Says([" "]), "refine", hits("one", "two"))) == prompts.NO_TEXT


def test_19_the_answer_so_far_takes_its_room() -> None:
    llm = Says(["so far so good"], ["better"], context_window=window(24))
    run(llm, "compact", hits("one " * 24, "two " * 24))
    first, second, third = llm.prompts
    assert first.count("one") == 24
    assert "REFINE so far so good | two two" in second
    assert second.count("two") + third.count("two") == 24


# tree_summarize


def test_17_one_windowful_is_one_call_that_streams() -> None:
    llm = Says()
    events = run(llm, "tree_summarize", hits("one", "two"))
    assert llm.prompts == [f"SUMMARY one{JOINT}two | why?"]
    assert statuses(events) == ["Reading 2 passages", "Writing"]


def test_17_two_windowfuls_are_two_calls_that_do_not_stream_and_one_that_does() -> None:
    llm = Says(["first"], ["second"], ["both", " together"], context_window=window(20))
    events = run(llm, "tree_summarize", hits("one " * 15, "two " * 15))
    assert llm.prompts == [
        f"SUMMARY {'one ' * 15} | why?",
        f"SUMMARY {'two ' * 15} | why?",
        f"SUMMARY first{JOINT}second | why?",
    ]
    assert statuses(events) == [
        *("Reading passages 1 of 2", "Reading passages 2 of 2", "Putting 2 answers together"),
        "Writing",
    ]
    assert [event for event in events if isinstance(event, str) and event] == ["both", " together"]


def test_17_answers_that_do_not_fit_together_are_summarized_again() -> None:
    llm = Says(["word"] + [" word"] * 7, context_window=window(20))
    events = run(llm, "tree_summarize", hits(*["one " * 18] * 5))
    # 5 windowfuls, 5 answers of 8 words: 3 windowfuls, then 2, then one.
    assert len(llm.calls) == 5 + 3 + 2 + 1
    assert statuses(events)[:5] == [f"Reading passages {n} of 5" for n in range(1, 6)]
    assert statuses(events)[-2] == "Putting 2 answers together"


def test_17_answers_that_never_fit_together_are_a_clear_error() -> None:
    llm = Says(["word "] * ANSWER, context_window=window(20))
    with pytest.raises(ContextWindowError, match="The answers from 3 parts") as caught:
        run(llm, "tree_summarize", hits(*["one " * 20] * 3))
    assert "Use fewer passages, or a model with a larger window" in str(caught.value)
    assert len(llm.calls) == 3


@pytest.mark.parametrize("mode", CALLING)
def test_17_a_window_too_small_for_the_prompt_is_a_clear_error(mode: ResponseMode) -> None:
    llm = Says(context_window=60)
    with pytest.raises(ContextWindowError):
        run(llm, mode, hits("one " * 50))
    assert llm.calls == []


@settings(max_examples=60, deadline=None)
@given(
    room=st.integers(LEAST, 60),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    answers=st.lists(st.integers(0, ANSWER), min_size=1, max_size=5),
)
def test_17_a_tree_ends(room: int, sizes: list[int], answers: list[int]) -> None:
    llm = Says(*([["word "] * size for size in answers]), context_window=window(room))
    try:
        events = run(llm, "tree_summarize", hits(*("one " * size for size in sizes)))
    except ContextWindowError:
        assert room < 2 * ANSWER
    else:
        assert text_of(events)


def test_13_blank_answers_of_a_tree_are_left_out() -> None:
    llm = Says(["first"], [" \n"], ["third"], ["all"], context_window=window(20))
    events = run(llm, "tree_summarize", hits(*["one " * 15] * 3))
    assert llm.prompts[3] == f"SUMMARY first{JOINT}third | why?"
    assert text_of(events) == "all"


def test_13_a_tree_of_blank_answers_gives_the_fallback_text() -> None:
    llm = Says([" "], context_window=window(20))
    events = run(llm, "tree_summarize", hits(*["one " * 15] * 3))
    assert text_of(events) == prompts.NO_TEXT
    assert len(llm.calls) == 3
    assert len(of(Begun, events)) == 1


# simple_summarize


def test_18_simple_summarize_is_one_call_with_as_much_as_fits() -> None:
    llm = Says(context_window=window(20))
    nodes = hits("one " * 10, "two " * 10, "three " * 10)
    events = run(llm, "simple_summarize", nodes)
    assert llm.prompts == [f"QA {'one ' * 10}{JOINT}{'two ' * 10} | why?"]
    assert of(Sources, events) == [Sources(tuple(nodes[:2]))]
    assert of(LeftOut, events) == [LeftOut(characters=len("three " * 10))]
    assert statuses(events) == ["Reading 2 passages", "Writing"]


def test_18_simple_summarize_truncates_a_text_that_does_not_fit_by_itself() -> None:
    llm = Says(context_window=window(20))
    events = run(llm, "simple_summarize", hits("one " * 25, "two"))
    assert len(llm.calls) == 1
    assert llm.prompts[0].count("one") == 20
    assert len(of(Sources, events)[0].nodes) == 1
    (left_out,) = of(LeftOut, events)
    assert left_out.characters == len("one " * 5 + "two")


def test_18_simple_summarize_leaves_nothing_out_where_all_fits() -> None:
    events = run(Says(), "simple_summarize", hits("one", "two"))
    assert of(LeftOut, events) == []
    assert statuses(events) == ["Reading 2 passages", "Writing"]


# accumulate


def test_18_accumulate_answers_from_each_passage_and_streams_them_all() -> None:
    llm = Says(["first", " one"], ["second"], ["third"])
    events = run(llm, "accumulate", hits("one", "two", "three"))
    assert llm.prompts == ["QA one | why?", "QA two | why?", "QA three | why?"]
    assert text_of(events) == SEPARATOR.join(
        ["Response 1: first one", "Response 2: second", "Response 3: third"]
    )
    reading = [f"Reading passages {n} of 3" for n in (1, 2, 3)]
    assert statuses(events) == [status for each in reading for status in (each, "Writing")]
    pieces = [event for event in events if isinstance(event, str) and event]
    assert pieces[:3] == ["Response 1: ", "first", " one"]
    assert len(of(Begun, events)) == 1


def test_18_accumulate_gives_each_answer_before_the_next_call() -> None:
    llm = Says()
    seen = ""
    for event in synthesizer(llm, "accumulate").events("why?", hits("one", "two")):
        seen += event if isinstance(event, str) else ""
        if isinstance(event, Status) and str(event) == "Reading passages 2 of 2":
            assert seen == "Response 1: An answer."
            assert len(llm.calls) == 1
            break
    else:
        pytest.fail("no second passage")


def test_18_compact_accumulate_answers_from_each_windowful() -> None:
    llm = Says(["first"], ["second"], context_window=window(20))
    events = run(llm, "compact_accumulate", hits("one " * 9, "two " * 9, "three " * 9))
    assert len(llm.prompts) == 2
    assert f"{'one ' * 9}{JOINT}two" in llm.prompts[0]
    assert text_of(events) == f"Response 1: first{SEPARATOR}Response 2: second"
    assert statuses(events) == [
        *("Reading passages 1 of 3", "Writing", "Reading passages 3 of 3", "Writing")
    ]


def test_13_a_blank_answer_among_others_has_its_place() -> None:
    llm = Says(["first"], [" "], ["third"])
    assert text_of(run(llm, "accumulate", hits("one", "two", "three"))) == SEPARATOR.join(
        ["Response 1: first", f"Response 2: {prompts.NO_TEXT}", "Response 3: third"]
    )


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [("length", "stop", "length"), ("truncated", "stop", "truncated"), ("stop", "stop", "stop")],
)
def test_18_an_answer_of_several_is_whole_when_all_of_them_are(
    first: Any, second: Any, whole: str
) -> None:
    llm = Says(["a", Completion(first)], ["b", Completion(second)])
    *_, last = run(llm, "accumulate", hits("one", "two"))
    assert last == Finished(whole)


# Modes without passages or model


def test_18_generation_asks_the_question_alone() -> None:
    llm = Says()
    events = run(llm, "generation", hits("one"))
    assert llm.prompts == ["SIMPLE why?"]
    assert of(Sources, events) == [Sources(())]
    assert statuses(events) == ["Reading the question", "Writing"]


def test_18_no_text_gives_the_passages_alone() -> None:
    llm, nodes = Says(), hits("one", "two")
    assert run(llm, "no_text", nodes) == [Sources(tuple(nodes)), Begun(), Finished("stop")]
    assert llm.calls == []


def test_18_context_only_gives_their_text() -> None:
    llm = Says()
    nodes = [hit("one", headings=("A",)), hit("two")]
    events = run(llm, "context_only", nodes)
    assert events == [
        *(Sources(tuple(nodes)), Begun(), f"A\none{JOINT}two", Finished("stop")),
    ]
    assert llm.calls == []


# The conversation

BEFORE = dialogue("a?", "A.", "b?", "B.")
ONE_CALL = ["compact", "refine", "tree_summarize", "simple_summarize", "generation"]
SEVERAL = ["compact", "refine", "tree_summarize", "accumulate", "compact_accumulate"]
"""Modes that make several calls for two passages in a tight window."""


@pytest.mark.parametrize("mode", ONE_CALL)
def test_the_history_goes_before_the_question_of_the_only_call(mode: ResponseMode) -> None:
    llm = Says()
    events = run(llm, mode, hits("one"), BEFORE, standalone="why is it so?")
    (messages,) = llm.calls
    assert messages[:-1] == BEFORE
    assert messages[-1].content.endswith("why?")  # with what was said before it, it is clear
    assert of(LeftOut, events) == []


def test_a_system_message_of_a_template_stands_before_the_history() -> None:
    def talk(context_str: str, query_str: str) -> list[ChatMessage]:
        return [ChatMessage("system", "Be brief."), ChatMessage("user", query_str)]

    llm = Says()
    run(llm, "compact", hits("one"), BEFORE, prompts=Prompts(text_qa_template=talk))
    assert [message.content for message in llm.calls[0]] == [
        *("Be brief.", "a?", "A.", "b?", "B.", "why?")
    ]


@pytest.mark.parametrize("mode", SEVERAL)
def test_19_several_calls_get_no_history_and_say_so(mode: ResponseMode) -> None:
    llm = Says(context_window=window(20))
    nodes = hits("one " * 15, "two " * 15)
    events = run(llm, mode, nodes, BEFORE, standalone="why so?")
    assert len(llm.calls) > 1
    assert all(len(messages) == 1 for messages in llm.calls)
    assert all(prompt.endswith("why so?") for prompt in llm.prompts)
    assert of(LeftOut, events) == [LeftOut(messages=4)]


@pytest.mark.parametrize("mode", ["accumulate", "compact_accumulate"])
def test_19_accumulated_answers_get_no_history_also_when_it_is_one(mode: ResponseMode) -> None:
    llm = Says()
    events = run(llm, mode, hits("one"), BEFORE, standalone="why so?")
    assert llm.prompts == ["QA one | why so?"]
    assert of(LeftOut, events) == [LeftOut(messages=4)]


@pytest.mark.parametrize("mode", ONE_CALL)
def test_23_what_does_not_fit_of_the_history_is_left_out_from_its_oldest_end(
    mode: ResponseMode,
) -> None:
    exchange = 2 * (MESSAGE_TOKENS + 1)
    llm = Says(context_window=window(exchange + 3, "SIMPLE one | why?"))
    events = run(llm, mode, hits("one"), BEFORE, standalone="why so?")
    assert llm.calls[0][:-1] == BEFORE[2:]
    assert llm.prompts[0].endswith("why?")
    assert of(LeftOut, events) == [LeftOut(messages=2)]


@pytest.mark.parametrize("mode", ONE_CALL)
def test_23_where_no_history_fits_the_question_stands_by_itself(mode: ResponseMode) -> None:
    llm = Says(context_window=window(10, "SIMPLE one | why?"))
    events = run(llm, mode, hits("one"), BEFORE, standalone="why so?")
    assert len(llm.calls[0]) == 1
    assert llm.prompts[0].endswith("why so?")
    assert of(LeftOut, events) == [LeftOut(messages=4)]


@pytest.mark.parametrize("mode", CALLING)
def test_a_small_model_gets_no_history(mode: ResponseMode) -> None:
    """It would repeat it; that is no matter of room, so nothing is said of it."""
    llm = Says(small=True)
    events = run(llm, mode, hits("one"), BEFORE, standalone="why so?")
    assert all(len(messages) == 1 for messages in llm.calls)
    assert llm.prompts[0].endswith("why so?")
    assert of(LeftOut, events) == []


def test_19_passages_come_before_the_history() -> None:
    """The room goes to passages first, then to the newest of what was said."""
    llm = Says(context_window=window(40))
    run(llm, "compact", hits("one " * 15, "two " * 15), BEFORE)
    assert len(llm.calls) == 1
    assert llm.prompts[0].count("two") == 15


@pytest.mark.parametrize("mode", MODES)
def test_braces_in_passages_and_answers_are_text(mode: ResponseMode) -> None:
    llm = Says(["{context_str} {0}"])
    events = run(llm, mode, hits("{query_str} {}", "{x}"))
    assert mode == "no_text" or re.search(r"\{", text_of(events))


def test_the_options_of_a_call_reach_the_model_in_every_call() -> None:
    llm = ScriptedLLM("One. Two. Three.")
    options: dict[str, Any] = {"max_tokens": 9, "temperature": 0.5, "stop": ["Two"]}
    synthesizer = ResponseSynthesizer(llm, "refine", streaming=True, **options)
    events = list(synthesizer.events("why?", hits("a", "b")))
    assert text_of(events) == "One. "
    assert llm.options == [options, options]


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"max_tokens": -3}, {"temperature": -0.1}])
def test_a_number_that_is_too_small_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(wrong))} is"):
        ResponseSynthesizer(ScriptedLLM(), **wrong)


def test_synthesize() -> None:
    llm = ScriptedLLM("One two.")
    response = ResponseSynthesizer(llm).synthesize("why?", hits("a"))
    assert (type(response), str(response)) == (Response, "One two.")
    streaming = ResponseSynthesizer(llm, streaming=True)
    response = streaming.synthesize("why?", nodes=hits("a"))
    assert isinstance(response, StreamingResponse)
    assert [hit.text for hit in response.source_nodes] == ["a"]
    assert str(response) == "One two."

    async def asks() -> str:
        response = await streaming.asynthesize("why?", hits("a"))
        assert isinstance(response, AsyncStreamingResponse)
        return "".join([text async for text in response.async_response_gen()])

    assert asyncio.run(asks()) == "One two."


def test_a_tree_whose_last_call_says_nothing_gives_the_answers_it_has() -> None:
    llm = Says(["first"], ["second"], [" "], context_window=window(6))
    events = run(llm, "tree_summarize", hits("one " * 5, "two " * 5))
    assert len(llm.calls) == 3
    assert text_of(events) == f"first{JOINT}second"
