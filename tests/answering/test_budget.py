"""What fits a model's window: no prompt is over it, and no text is lost on the way."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.answering.budget import (
    JOINT,
    LEAST,
    MESSAGE_TOKENS,
    TEMPLATE_TOKENS,
    Passages,
    left_beside,
    newest,
)
from rag.errors import ContextWindowError
from rag.llms.protocol import estimate_tokens
from rag.types import ChatMessage
from tests.answering.conftest import Says, dialogue

AROUND = MESSAGE_TOKENS + TEMPLATE_TOKENS
"""Tokens of the window that a call of one message takes besides its text."""

Count = Callable[[str], int]


def words(text: str) -> int:
    return len(text.split())


def rough(text: str) -> int:
    """Not additive: the whole can have more tokens than its parts, or fewer."""
    return len(text.split()) + text.count("a b") * 3 - text.count("\n\n")


def model(window: int, count: Count = words) -> Any:
    llm = Says(context_window=window)
    llm.count_tokens = count  # type: ignore[method-assign]
    return llm


def plain(context: str) -> list[ChatMessage]:
    return [ChatMessage("user", f"Context: {context} Query: why?")]


def twice(context: str) -> list[ChatMessage]:
    """A template that counts its context twice."""
    return [ChatMessage("system", context), ChatMessage("user", f"{context} Why?")]


def squeezed(*texts: str) -> str:
    return "".join("".join(texts).split())


def all_of(
    passages: Passages,
    llm: Any,
    render: Callable[[str], list[ChatMessage]] = plain,
    max_tokens: int = 10,
    pack: bool = True,
) -> list[str]:
    taken = []
    while passages:
        taken.append(passages.take(llm, render, max_tokens, pack=pack))
        assert len(taken) < 5000
    return taken


PIECES = st.sampled_from(
    [
        *("a", "b", "c", " ", "\n", "\n\n", ". ", "Sentence here. ", "word ", "\t", "\u2028"),
        *("日本語の文章。", "🙂", "👨‍👩‍👧‍👦", "e\u0301", "x" * 40, "- item\n", "\r\n", "# One\n"),
    ]
)
TEXT = st.lists(PIECES | st.text(max_size=5), max_size=60).map("".join).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXT, min_size=1, max_size=6),
    room=st.integers(LEAST, 120),
    pack=st.booleans(),
    count=st.sampled_from([words, estimate_tokens, rough, len]),
    render=st.sampled_from([plain, twice]),
)
def test_19_no_prompt_exceeds_the_window_and_nothing_is_lost_or_moved(
    texts: list[str], room: int, pack: bool, count: Count, render: Any
) -> None:
    llm = model(0, count)
    llm.context_window = room - left_beside(llm, render(""), 10)
    assert left_beside(llm, render(""), 10) == room
    passages = Passages(texts)
    taken, numbers = [], [0]
    while passages:
        before = passages.characters
        taken.append(passages.take(llm, render, 10, pack=pack))
        assert left_beside(llm, render(taken[-1]), 10) >= 0
        assert taken[-1].strip()
        assert passages.characters < before
        numbers.append(passages.number)
    assert squeezed(*taken) == squeezed(*texts)
    assert all(before <= after for before, after in pairwise(numbers))
    assert numbers[-1] == passages.total == len(texts)
    if not pack:
        assert len(taken) >= len(texts)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=6), st.booleans())
def test_texts_that_fit_are_not_touched(texts: list[str], pack: bool) -> None:
    taken = all_of(Passages(texts), model(100_000), pack=pack)
    assert taken == ([JOINT.join(texts)] if pack else texts)


@pytest.mark.parametrize("room", range(-3, LEAST))
def test_a_window_that_leaves_next_to_nothing_is_a_clear_error(room: int) -> None:
    llm = model(AROUND + 3 + 10 + room)
    passages = Passages(["word " * 100])
    with pytest.raises(ContextWindowError, match=f"in the {llm.context_window} tokens that says"):
        passages.take(llm, plain, 10)
    assert passages.number == 0
    assert passages.characters == 500


def test_a_small_text_fits_where_a_piece_of_a_large_one_would_say_nothing() -> None:
    llm = model(AROUND + 3 + 10 + 2)
    assert Passages(["two words"]).take(llm, plain, 10) == "two words"


@pytest.mark.parametrize("count", [lambda text: 0 if text in ("", plain("")[0].content) else 999])
def test_a_text_of_which_no_piece_fits_is_a_clear_error_too(count: Count) -> None:
    with pytest.raises(ContextWindowError, match="leaves no room"):
        Passages(["word " * 40]).take(model(200, count), plain, 10)


def test_a_template_that_multiplies_its_context_is_a_clear_error() -> None:
    def often(context: str) -> list[ChatMessage]:
        return [ChatMessage("user", f"{context} " * 40)]

    with pytest.raises(ContextWindowError, match="leaves no room"):
        Passages(["word " * 99]).take(model(AROUND + 10 + LEAST + 4), often, 10)


def test_as_many_as_fit_go_together_in_the_order_of_their_rank() -> None:
    llm = model(AROUND + 3 + 10 + 20)
    passages = Passages(["a " * 9 + "a", "b " * 9 + "b", "c", "d " * 18 + "d", "e"])
    taken = all_of(passages, llm)
    assert [set(text.split()) for text in taken] == [{"a", "b"}, {"c", "d"}, {"e"}]


def test_a_text_is_cut_between_its_paragraphs_and_its_rest_comes_next() -> None:
    llm = model(AROUND + 3 + 10 + 20)
    passages = Passages([f"{'one ' * 15}end.\n\n{'two ' * 15}end.", "last"])
    first = passages.take(llm, plain, 10)
    assert first == "one " * 15 + "end."
    assert (passages.number, passages.total) == (1, 2)
    assert passages.take(llm, plain, 10) == f"{'two ' * 15}end.{JOINT}last"
    assert passages.number == 2
    assert not passages


def test_a_text_is_cut_between_its_sentences() -> None:
    llm = model(AROUND + 3 + 10 + 20)
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(6))
    taken = all_of(Passages([text]), llm)
    assert len(taken) == 3
    assert all(piece.endswith("words.") for piece in taken)


def test_without_packing_each_text_is_a_call() -> None:
    passages = Passages(["a", "b", "c"])
    taken = []
    while passages:
        taken.append((passages.take(model(1000), plain, 10, pack=False), passages.number))
    assert taken == [("a", 1), ("b", 2), ("c", 3)]


def test_nothing_is_taken_of_nothing() -> None:
    passages = Passages([])
    assert not passages
    assert passages.take(model(1000), plain, 10) == ""
    assert (passages.number, passages.total, passages.characters) == (0, 0, 0)


def test_what_is_left_counts_messages_the_template_and_the_answer() -> None:
    messages = [ChatMessage("system", "one two"), ChatMessage("user", "three")]
    left = left_beside(model(200), messages, 30)
    assert left == 200 - 30 - TEMPLATE_TOKENS - 2 * MESSAGE_TOKENS - 3


# The conversation


@pytest.mark.parametrize("room", range(0, 60))
def test_23_a_history_is_cut_from_its_oldest_end(room: int) -> None:
    history = dialogue("a?", "A A.", "b?", "B.", "c c?", "C.")
    kept = newest(history, model(0), room)
    assert kept == history[len(history) - len(kept) :]
    assert len(kept) % 2 == 0
    assert sum(words(message.content) + MESSAGE_TOKENS for message in kept) <= room
    if len(kept) < 6:  # no more would have fitted
        more = history[len(history) - len(kept) - 2 :]
        assert sum(words(message.content) + MESSAGE_TOKENS for message in more) > room


def test_23_the_newest_messages_stay_also_when_an_older_one_is_large() -> None:
    history = dialogue("a?", "word " * 500, "b?", "B.")
    assert newest(history, model(0), 60) == history[2:]
    assert newest(dialogue("a?", "word " * 500), model(0), 60) == []
    assert newest([], model(0), 60) == []


# The real model


@pytest.mark.slow
@pytest.mark.parametrize("window", [200, 450, 900])
def test_19_prompts_of_the_real_model_with_its_chat_template_fit(
    smollm: Any, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smollm, "context_window", window)
    paragraph = "Die Größe (naïve) of 1,024 tokens: f(x) = {x**2}; 日本語の文章。 🙂👨‍👩‍👧‍👦 end.\n"
    texts = [paragraph * 12, "Short one.", "x" * 3000, " \t indented\n\n\n" * 50]

    def render(context: str) -> list[ChatMessage]:
        return [
            *dialogue("Wie groß ist es?", "Ziemlich groß. 🙂"),
            ChatMessage("user", f"Context:\n{context}\n\nQuery: Wie groß?\nAnswer: "),
        ]

    passages = Passages(texts)
    taken = []
    while passages:
        taken.append(passages.take(smollm, render, 40))
        ids = smollm._tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in render(taken[-1])],
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        assert len(ids) + 40 <= window
    assert squeezed(*taken) == squeezed(*texts)
