"""One call of a model as events: its text, its reasoning, how it ended, what it cost."""

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from rag.answering import prompts
from rag.answering.budget import left_beside
from rag.answering.calls import Calls, Part, both
from rag.answering.events import READING, TOGETHER, Begun, Event, Timings
from rag.errors import ContextWindowError, ProviderError
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion, Prefill, Queued, Reasoning, Usage
from tests.answering.conftest import Piece, Says, of, statuses, text_of

ASKED = [ChatMessage("user", "Why is it blue?")]


def collected(calls: Calls, messages: Sequence[ChatMessage] = ASKED) -> tuple[list[Event], str]:
    """The events of a call that does not stream, and its text."""
    events: list[Event] = []
    call: Generator[Event, None, str] = calls.collect(messages)
    while True:
        try:
            events.append(next(call))
        except StopIteration as end:
            return events, end.value


# A call that streams


def test_01_the_pieces_come_as_they_were_made() -> None:
    pieces = ("\n", "  a", " ", "", "\n\n    b", "\n")
    events = list(Calls(Says(pieces), None).write(ASKED))
    assert text_of(events) == "".join(pieces)
    assert [event for event in events if event and isinstance(event, str)] == [
        *("\n  a", " ", "\n\n    b", "\n")
    ]


def test_the_call_has_begun_before_any_text() -> None:
    llm = Says(["", "", "a", "b"])
    events = Calls(llm, None).write(ASKED)
    assert next(events) == Begun()
    assert (llm.open, llm.steps) == (1, 0)
    assert of(Begun, events) == []


def test_only_the_first_of_several_calls_begins_the_answer() -> None:
    calls = Calls(Says(), None)
    assert of(Begun, calls.write(ASKED)) == [Begun()]
    assert of(Begun, calls.write(ASKED)) == []


def test_silence_is_passed_on_so_that_the_reader_can_stop() -> None:
    events = list(Calls(Says(["", "", "a", "", "b"]), None).write(ASKED))
    assert [event for event in events if isinstance(event, str)] == ["", "", "", "a", "", "b"]


def test_reasoning_comes_beside_the_text() -> None:
    llm = Says([Reasoning("Let"), Reasoning(" me see."), "", "Blue", " light."])
    events = list(Calls(llm, None).write(ASKED))
    assert of(Reasoning, events) == [Reasoning("Let"), Reasoning(" me see.")]
    assert text_of(events) == "Blue light."


def test_reasoning_in_tags_is_taken_out_of_the_text() -> None:
    llm = Says(["<th", "ink>So", " it is", ".</thi", "nk>\n\n", "Blue", " light."])
    events = list(Calls(llm, None).write(ASKED))
    assert "".join(event.text for event in of(Reasoning, events)) == "So it is."
    assert text_of(events) == "Blue light."


@pytest.mark.parametrize("pieces", [(), ("", ""), (" ",), ("\n", "\n\n"), ("<think>", "</think>")])
def test_13_an_answer_without_a_word_gives_the_fallback_text(pieces: tuple[str, ...]) -> None:
    calls = Calls(Says(pieces), None)
    assert text_of(calls.write(ASKED)) == prompts.NO_TEXT
    assert calls.finish_reason == "stop"


@pytest.mark.parametrize(
    "reply", [[Reasoning("Hm, well.")], ["<think>Hm, well."], ["<think>Hm", ", well.</think> \n"]]
)
@pytest.mark.parametrize(
    ("ends", "says"), [("stop", prompts.NO_TEXT), ("length", prompts.ONLY_REASONING)]
)
def test_13_reasoning_alone_gives_a_text_that_tells_why(
    reply: list[Piece], ends: str, says: str
) -> None:
    calls = Calls(Says([*reply, Completion(ends)]), None)  # type: ignore[arg-type]
    events = list(calls.write(ASKED))
    assert text_of(events) == says
    assert "".join(event.text for event in of(Reasoning, events)) == "Hm, well."
    assert calls.finish_reason == ends


@pytest.mark.parametrize("pieces", [(), (" \n",)])
def test_13_a_blank_answer_at_the_limit_is_not_taken_for_reasoning(pieces: tuple[str, ...]) -> None:
    calls = Calls(Says([*pieces, Completion("length")]), None)
    assert text_of(calls.write(ASKED)) == prompts.NO_TEXT


def test_13_another_text_can_stand_where_the_model_writes_none() -> None:
    assert text_of(Calls(Says([" "]), None).write(ASKED, otherwise="Before.")) == "Before."
    assert text_of(Calls(Says(["a"]), None).write(ASKED, otherwise="Before.")) == "a"


@pytest.mark.parametrize(
    "ends", [Completion("length", Usage(10, 5)), Completion("truncated"), Completion("stop")]
)
def test_how_the_model_ended_is_told(ends: Completion) -> None:
    calls = Calls(Says(["a", " b", ends]), None)
    list(calls.write(ASKED))
    assert (calls.finish_reason, calls.usage) == (ends.finish_reason, ends.usage)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_07_an_error_comes_after_the_text_before_it(count: int) -> None:
    llm = Says([*["x"] * count, ProviderError("gone")])
    events: list[Event] = []
    with pytest.raises(ProviderError, match="gone"):
        events.extend(Calls(llm, None).write(ASKED))
    assert text_of(events) == "x" * count
    assert llm.open == 0


@pytest.mark.parametrize("held", ["<", "  <thi"])
def test_07_no_text_is_lost_that_might_have_become_a_reasoning_tag(held: str) -> None:
    llm = Says([held, ProviderError("gone")])
    events: list[Event] = []
    with pytest.raises(ProviderError, match="gone"):
        events.extend(Calls(llm, None).write(ASKED))
    assert text_of(events) == held


def test_10_closing_ends_the_call_at_once() -> None:
    llm = Says(["a"] * 50)
    events = Calls(llm, None).write(ASKED)
    while next(events) != "a":
        pass
    assert llm.open == 1
    events.close()
    assert (llm.open, llm.steps) == (0, 1)


def test_the_time_to_the_first_token_is_told_before_it() -> None:
    events = list(Calls(Says(["", "a", " b", " c"]), None).write(ASKED))
    first = of(Timings, events[: events.index("a")])[-1]
    assert first.first_token is not None
    assert first.tokens_per_second is None
    last = of(Timings, events)[-1]
    assert last.first_token == first.first_token
    assert last.tokens_per_second > 0


def test_the_first_token_of_several_calls_is_that_of_the_first() -> None:
    calls = Calls(ScriptedLLM("one two", first_token=0.05), None)
    first, second = (of(Timings, calls.write(ASKED)) for _ in range(2))
    assert {told.first_token for told in (*first, *second)} == {first[0].first_token}


def test_one_token_has_no_speed() -> None:
    (told,) = of(Timings, Calls(Says(["a"]), None).write(ASKED))
    assert told.tokens_per_second is None


def test_reasoning_counts_into_the_speed_and_not_as_the_first_token() -> None:
    llm = Says([Reasoning("hm")] * 3 + ["a"])  # type: ignore[list-item]
    events = list(Calls(llm, None).write(ASKED))
    assert events.index(of(Timings, events)[0]) > events.index(Reasoning("hm"))
    assert of(Timings, events)[-1].tokens_per_second


# A call that does not stream


def test_03_a_collected_call_gives_its_text_at_its_end() -> None:
    events, text = collected(Calls(Says([" Why", " is it ", "blue?\n"]), None))
    assert text == " Why is it blue?\n"
    assert set(events) == {""}


def test_reasoning_is_no_part_of_what_is_collected() -> None:
    llm = Says(["<think>Well.</think>Blue", Reasoning("hm"), " sky"])
    events, text = collected(Calls(llm, None))
    assert text == "Blue sky"
    assert set(events) == {""}


def test_a_collected_call_can_be_stopped() -> None:
    llm = Says(["a"] * 50)
    call = Calls(llm, None).collect(ASKED)
    for _ in range(4):
        next(call)
    call.close()
    assert llm.open == 0
    assert llm.steps <= 4


def test_an_error_of_a_collected_call_is_raised() -> None:
    with pytest.raises(ProviderError, match="gone"):
        collected(Calls(Says(["a", ProviderError("gone")]), None))


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        ("length", "stop", "stop"),  # nothing to the reader
        ("truncated", "stop", "truncated"),
        ("truncated", "length", "truncated"),
        ("stop", "length", "length"),
        ("stop", "truncated", "truncated"),
    ],
)
def test_09_how_several_calls_ended_together(first: str, second: str, whole: str) -> None:
    calls = Calls(Says(["a", Completion(first)], ["b", Completion(second)]), None)  # type: ignore[arg-type]
    collected(calls)
    list(calls.write(ASKED))
    assert calls.finish_reason == whole


def test_the_usage_of_all_calls_is_summed() -> None:
    llm = Says(["a", Completion("stop", Usage(10, 1))], ["b", Completion("stop", Usage(200, 30))])
    calls = Calls(llm, None)
    collected(calls)
    list(calls.write(ASKED))
    assert calls.usage == Usage(210, 31)


@pytest.mark.parametrize("first", [None, Usage(1, 2)])
@pytest.mark.parametrize("second", [None, Usage(30, 40)])
def test_what_is_known_of_two_usages(first: Usage | None, second: Usage | None) -> None:
    known = [usage for usage in (first, second) if usage]
    expected = Usage(
        sum(usage.prompt_tokens for usage in known), sum(usage.completion_tokens for usage in known)
    )
    assert both(first, second) == (expected if known else None)


# Limits


def test_the_limit_is_the_model_s_own_unless_one_is_set() -> None:
    llm = Says(max_tokens=33)
    assert Calls(llm, None).max_tokens == 33
    assert Calls(llm, 7).max_tokens == 7
    list(Calls(llm, None).write(ASKED))
    collected(Calls(llm, 7))
    assert llm.limits == [None, 7]


@pytest.mark.parametrize("limit", [None, 5])
def test_19_no_call_is_made_whose_prompt_does_not_fit(limit: int | None) -> None:
    llm = Says()
    calls = Calls(llm, limit)
    llm.context_window -= left_beside(llm, ASKED, calls.max_tokens)
    assert text_of(calls.write(ASKED)) == "An answer."
    llm.context_window -= 1
    for call in (calls.write, calls.collect):
        with pytest.raises(ContextWindowError, match="too long for says") as caught:
            list(call(ASKED))
        assert "Shorten it" in str(caught.value)
        assert "larger window" in str(caught.value)
    assert len(llm.calls) == 1


def test_a_model_may_just_yield_its_text() -> None:
    class Plain(Says):
        def stream(self, messages: Any, **options: Any) -> Any:
            yield "Hello"
            yield " there"

    calls = Calls(Plain(), None)
    assert text_of(list(calls.write(ASKED))) == "Hello there"
    assert (calls.finish_reason, calls.usage) == ("stop", None)


# What is being done


def test_when_it_thinks_and_when_it_writes_is_told_once() -> None:
    llm = Says([Reasoning("Hm."), Reasoning("So."), " ", "a", "b"])
    events = [event for event in Calls(llm, None).write(ASKED) if event != ""]
    assert statuses(events) == ["Thinking", "Writing"]
    assert events.index(Reasoning("Hm.")) == 2  # after Begun, and what it does
    assert statuses(Calls(Says([" "]), None).write(ASKED)) == []


def test_what_it_waits_for_is_told() -> None:
    llm = Says([Queued(2), Queued(1), Queued(0), "a"])
    told = [f"Waiting for {answers} before this one" for answers in ("2 answers", "1 answer")]
    assert statuses(Calls(llm, None).write(ASKED)) == [*told, "Writing"]
    assert statuses(Calls(llm, None).write(ASKED, part())) == [
        *told, "Reading 3 passages", "Writing"
    ]  # fmt: skip


def part(first: int = 1, total: int = 3, doing: str = READING) -> Part:
    """Three passages of four words."""
    text = "one one one one\n\ntwo two two two\n\nsix six six six"
    return Part(text, (15, 32, 49), first, total, total == 3, doing)


def reads(*done: int, of_all: int = 20) -> list[Piece]:
    return [*(Prefill(each, of_all) for each in done), "An answer."]


@pytest.mark.parametrize(
    ("read", "passages"),
    [
        ((0,), [1]),
        ((0, 5, 6), [1, 1, 2]),  # two words stand before the first passage
        ((9, 10, 13), [2, 3, 3]),
        ((14, 19), [3, 3]),  # and six after the last
    ],
)
def test_at_which_passage_it_is(read: tuple[int, ...], passages: list[int]) -> None:
    messages = [
        ChatMessage("user", f"So told:\n{part().context}\nHow many are there then, really?")
    ]
    told = statuses(Calls(Says(reads(*read)), None).write(messages, part()))
    assert told == [*(f"Reading passages {n} of 3" for n in passages), "Writing"]


def test_it_counts_from_the_first_passage_of_the_call() -> None:
    messages = [ChatMessage("system", "Be brief."), ChatMessage("user", part().context)]
    call = Calls(Says(reads(0, 10, 19)), None).write(messages, part(4, 6, TOGETHER))
    assert statuses(call)[:3] == [f"Putting answers together {n} of 6" for n in (4, 5, 6)]
    events, text = collected(Calls(Says(reads(0, 10)), None), messages)
    assert (statuses(events), text) == ([], "An answer.")  # where it is not told what is read


def test_a_prompt_that_does_not_hold_the_passages_is_no_error() -> None:
    messages = [ChatMessage("user", "Something else.")]
    told = statuses(Calls(Says(reads(0, 19)), None).write(messages, part()))
    assert told[-1] == "Writing"
