"""The filters of streamed text, for every way of cutting the text into pieces."""

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.llms.filters import OPENINGS, ReasoningTags, SourceMarkers, StopSequences, open_tag
from rag.types import Reasoning

cuts = st.lists(st.integers(0, 200), max_size=12)
stop_lists = st.lists(
    st.sampled_from(["aab", "ab", "aaab", "ba", "b\n", "\n\n", "User:", "🙂", ""])
    | st.text("ab", max_size=4),
    max_size=3,
)
stop_texts = st.lists(
    st.sampled_from(["a", "b", "aa", "ab", "\n", "Us", "User", ":", "user:", "🙂", "x"]),
    max_size=12,
).map("".join)
tag_texts = st.lists(
    st.sampled_from(
        [
            *("<think>", "</think>", "<thinking>", "</thinking>", "<THINK>", "</Think>"),
            *("<Reasoning>", "</reasoning>", "<thought>", "</thought>", "<think >", "< think>"),
            *("<", "<<", ">", "/", "</", "<thi", "</thin", "nk>", "ing>", "<thinK>", "</thinK>"),
            *(" ", "\n\n", "\u00a0", "a", "Answer.", "İ", "🙂"),
        ]
    ),
    max_size=14,
).map("".join)


def cut(text: str, places: list[int]) -> list[str]:
    """`text` in pieces, of which some may be empty."""
    ends = sorted(min(place, len(text)) for place in places)
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


def common(texts: Sequence[str]) -> str:
    """What all `texts` begin with."""
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*texts, strict=False))
    return "".join(letters[0] for letters in same)


def before_stop(text: str, stop: list[str]) -> str:
    return text[: min([text.index(s) for s in stop if s and s in text], default=len(text))]


def taken_apart(text: str) -> tuple[str, str]:
    """The reasoning and the answer of the whole text."""
    reasoning = ""
    block = r"\s*(?ai:<(think|thinking|reasoning|thought)>)(.*?)(?:(?ai:</\1>)\s*|\Z)"
    while match := re.match(block, text, re.DOTALL):
        reasoning += match[2]
        text = text[match.end() :]
    return reasoning, text


def reading(pieces: list[str | Reasoning]) -> tuple[str, str]:
    """The reasoning and the answer in `pieces`, which come in this order and are not empty."""
    kinds = [isinstance(piece, str) for piece in pieces]
    assert kinds == sorted(kinds)
    texts = [piece if isinstance(piece, str) else piece.text for piece in pieces]
    assert all(texts)
    thought = len(kinds) - sum(kinds)
    return "".join(texts[:thought]), "".join(texts[thought:])


@settings(max_examples=300, deadline=None)
@given(stop_texts, stop_lists, cuts)
def test_25_stop_sequences_for_every_way_of_cutting(
    text: str, stop: list[str], places: list[int]
) -> None:
    stops = StopSequences(stop)
    passed = [stops.feed(piece) for piece in cut(text, places)]
    assert "".join([*passed, stops.flush()]) == before_stop(text, stop)
    assert stops.stopped == any(s in text for s in stop if s)
    assert stops.feed("more") + stops.flush() == "" or not stops.stopped


@settings(max_examples=300, deadline=None)
@given(stop_texts, stop_lists, cuts)
def test_stop_sequences_hold_nothing_back_that_is_decided(
    text: str, stop: list[str], places: list[int]
) -> None:
    """What has passed is what is common to all that may still come."""
    stops = StopSequences(stop)
    passed = "".join(stops.feed(piece) for piece in cut(text, places))
    ends = ["", "\0", *(s[begin:] for s in stop for begin in range(len(s)))]
    possible = [before_stop(text + end, stop) for end in ends]
    assert passed == common(possible)
    if stops.stopped:
        assert len(set(possible)) == 1


@pytest.mark.parametrize("stop", [[], [""], ["", ""]])
def test_without_stop_sequences_all_passes_at_once(stop: list[str]) -> None:
    stops = StopSequences(stop)
    assert [stops.feed(piece) for piece in ["a", "", " b\n"]] == ["a", "", " b\n"]
    assert stops.flush() == ""
    assert not stops.stopped


def test_stop_sequences_letter_by_letter() -> None:
    stops = StopSequences(["aab"])
    assert [stops.feed(letter) for letter in "aaabc"] == ["", "", "a", "", ""]
    assert stops.stopped


def test_a_stop_sequence_within_the_beginning_of_another_waits_for_it() -> None:
    for last, text in (("d", ""), ("x", "a")):
        stops = StopSequences(["abcd", "bc"])
        assert (stops.feed("abc"), stops.stopped) == ("", False)
        assert (stops.feed(last), stops.stopped) == (text, True)
    stops = StopSequences(["abcd", "bc"])
    assert (stops.feed("abc"), stops.flush(), stops.stopped) == ("", "a", True)


def test_what_stop_sequences_hold_does_not_grow() -> None:
    stops = StopSequences(["aab"])
    for _ in range(1000):
        stops.feed("aaaaaaaa")
        assert len(stops._held) == 2


@settings(max_examples=300, deadline=None)
@given(tag_texts, cuts)
def test_reasoning_tags_for_every_way_of_cutting(text: str, places: list[int]) -> None:
    tags = ReasoningTags()
    pieces = [piece for part in cut(text, places) for piece in tags.feed(part)]
    assert reading([*pieces, *tags.flush()]) == taken_apart(text)


@settings(max_examples=300, deadline=None)
@given(tag_texts, cuts)
def test_reasoning_tags_hold_nothing_back_that_is_decided(text: str, places: list[int]) -> None:
    tags = ReasoningTags()
    passed = reading([piece for part in cut(text, places) for piece in tags.feed(part)])
    marks = [*OPENINGS, *(f"</{tag[1:]}" for tag in OPENINGS)]
    ends = [
        "",
        "\0",
        "\0\0",
        *(mark[begin:] + "\0" for mark in marks for begin in range(len(mark))),
    ]
    possible = [taken_apart(text + end) for end in ends]
    assert passed == tuple(map(common, zip(*possible, strict=True)))


@settings(max_examples=300, deadline=None)
@given(st.text("<thinkg>/ab \n"), cuts)
def test_an_answer_without_blocks_is_kept_as_it_is(text: str, places: list[int]) -> None:
    tags = ReasoningTags()
    pieces = [piece for part in cut("a" + text, places) for piece in tags.feed(part)]
    assert reading(pieces) == ("", "a" + text)
    assert tags.flush() == []


@pytest.mark.parametrize("name", ["think", "thinking", "reasoning", "thought", "THINK", "Thought"])
def test_reasoning_is_taken_apart_from_the_answer(name: str) -> None:
    tags = ReasoningTags()
    assert tags.feed(f"\n<{name}>\nWell <b></{name}>\n\nYes.") == [Reasoning("\nWell <b>"), "Yes."]
    assert tags.feed(f"<{name}>") == [f"<{name}>"]


def test_an_answer_that_may_still_be_a_tag_is_held_back() -> None:
    tags = ReasoningTags()
    assert [tags.feed(piece) for piece in ["<th", "ough", "ts", "> <think>"]] == [
        [],
        [],
        ["<thoughts"],
        ["> <think>"],
    ]


def test_blocks_one_after_another_are_all_reasoning() -> None:
    tags = ReasoningTags()
    text = "<think>a</thinking></think> <thought></thought>\n<reasoning>b"
    assert tags.feed(text) == [Reasoning("a</thinking>"), Reasoning("b")]
    assert tags.feed("</reason") == []
    assert tags.flush() == [Reasoning("</reason")]


@pytest.mark.parametrize("text", ["</think>Yes", "  Yes", "\n", " <thin", "<"])
def test_what_is_no_block_is_the_answer(text: str) -> None:
    tags = ReasoningTags()
    assert reading([*tags.feed(text), *tags.flush()]) == ("", text)
    assert tags.flush() == []


def test_what_reasoning_tags_hold_does_not_grow() -> None:
    tags = ReasoningTags()
    tags.feed("<think>")
    for _ in range(1000):
        tags.feed("</thin</thin</thin")
        assert tags._held == "</thin"


@pytest.mark.parametrize(
    ("prompt", "tag"),
    [
        ("<|assistant|><think>\n", "<think>"),
        ("<THOUGHT>", "<thought>"),
        ("<think>\n\n</think>\n\n", ""),
        ("<|assistant|>\n", ""),
        ("think>", ""),
        ("", ""),
    ],
)
def test_the_tag_that_a_prompt_ends_with(prompt: str, tag: str) -> None:
    assert open_tag(prompt) == tag


def test_a_text_is_one_stop_sequence() -> None:
    stops = StopSequences("END")
    assert stops.feed("NEEDED END not") == "NEEDED "
    assert stops.stopped


# Markers of sources


def unmarked(*pieces: str) -> tuple[str, list[tuple[int, tuple[int, ...]]]]:
    markers = SourceMarkers()
    text = "".join([*map(markers.feed, pieces), markers.flush()])
    return text, markers.found


def tight(*pieces: str) -> tuple[str, list[tuple[str, tuple[int, ...]]]]:
    """Without spaces, of which one may be left before a marker; and the text before each marker."""
    text, found = unmarked(*pieces)
    return text.replace(" ", ""), [(text[:n].replace(" ", ""), numbers) for n, numbers in found]


@pytest.mark.parametrize(
    ("text", "passed", "found"),
    [
        ("It is [1]. Then", "It is. Then", [(5, (1,))]),
        ("It is.[1][2] Then", "It is. Then", [(6, (1,)), (6, (2,))]),
        ("It is [2, 3] so", "It is so", [(5, (2, 3))]),
        ("It is (Source 1).", "It is.", [(5, (1,))]),
        ("It is (see sources 1 and 2).", "It is.", [(5, (1, 2))]),
        ("It is [Passage 3; Passage 4].", "It is.", [(5, (3, 4))]),
        ("It is【1】.", "It is.", [(5, (1,))]),
        ("It is【4:0†source】.", "It is.", [(5, (4, 0))]),
        ("It is [^1].", "It is.", [(5, (1,))]),
        ("It is [1]", "It is", [(5, (1,))]),
        ("[1] It is", " It is", [(0, (1,))]),
        *(
            (text, text, [])
            for text in (
                "It is [1](https://example.org).",
                "So:\n[1]: https://example.org\n",
                "In [2019] (1) and (see below) [a] [x] [12",
                "Take `a[1]` and ``b`[1]`` here",
                "```\na[1]\n\nb[2]\n```\n",
                "~~~py\na [1]\n~~~\n",
                "(source: a book)",
                "a [link][ref] and  two  spaces ",
            )
        ),
        ("A ` alone\nis [1] no code", "A ` alone\nis no code", [(12, (1,))]),
        ("~~No~~ [1]", "~~No~~", [(6, (1,))]),
        ("```\na[1]\n```\nb [1]", "```\na[1]\n```\nb", [(14, (1,))]),
    ],
)
def test_markers_of_sources_are_taken_out(text: str, passed: str, found: Any) -> None:
    assert unmarked(text) == (passed, found)
    assert tight(*text) == tight(text)


@given(st.lists(st.text("[]()【】†1, `~\n:^a", max_size=9)))
def test_markers_do_not_depend_on_how_the_text_is_cut(pieces: list[str]) -> None:
    assert tight(*pieces) == tight("".join(pieces))


@given(st.lists(st.sampled_from(["[", "(", "source", "s ", "1", "]", ")", " and ", "see ", "2"])))
def test_nor_do_markers_with_words(pieces: list[str]) -> None:
    assert tight(*"".join(pieces)) == tight("".join(pieces))


def test_only_what_may_be_a_marker_is_held_back() -> None:
    markers = SourceMarkers()
    told = [
        markers.feed(piece) for piece in ("It", " is", " [", "a", "] (so", " it", " is) [1", "]")
    ]
    assert told == ["It", " is", "", " [a", "]", " (so it", " is)", ""]
