"""What a model is told, and how much of it fits."""

import pytest

from rag.answering.prompts import build
from rag.errors import ContextWindowError
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Node, NodeWithScore


def hit(text: str, *headings: str) -> NodeWithScore:
    return NodeWithScore(Node(text, "d", 0, 0, "a.txt", headings=headings), 0.5)


def dialogue(*pairs: tuple[str, str]) -> list[ChatMessage]:
    return [
        message
        for question, answer in pairs
        for message in (ChatMessage("user", question), ChatMessage("assistant", answer))
    ]


def size(llm: ScriptedLLM, messages: list[ChatMessage]) -> int:
    return sum(llm.count_tokens(message.content) for message in messages)


HITS = [hit("The sky is blue."), hit("Grass is green."), hit("Snow is white.")]


def test_one_message_with_the_passages_before_the_question() -> None:
    prompt = build(ScriptedLLM(), "Why is it blue?", HITS, max_tokens=10)
    (message,) = prompt.messages
    assert message.role == "user"
    places = [message.content.index(text) for text in ("sky", "Grass", "Snow", "Why is it blue?")]
    assert places == sorted(places)
    assert prompt.nodes == HITS


def test_a_passage_stands_below_its_innermost_heading() -> None:
    prompt = build(ScriptedLLM(), "Why?", [hit("It is blue.", "Nature", "The sky")], max_tokens=10)
    assert "The sky\nIt is blue.\n\n" in prompt.messages[0].content
    assert "Nature" not in prompt.messages[0].content


def test_braces_in_a_text_are_text() -> None:
    prompt = build(ScriptedLLM(), "What is {passages}?", [hit("{question} {0} {}")], max_tokens=10)
    assert "What is {passages}?" in prompt.messages[0].content
    assert "{question} {0} {}" in prompt.messages[0].content


def test_the_history_comes_first() -> None:
    history = dialogue(("a?", "A."), ("b?", "B."))
    prompt = build(ScriptedLLM(), "c?", HITS, history, max_tokens=10)
    assert prompt.messages[:-1] == history
    assert "c?" in prompt.messages[-1].content


def test_a_small_model_gets_the_best_passage_alone() -> None:
    llm = ScriptedLLM()
    llm.is_small = True
    prompt = build(llm, "c?", HITS, dialogue(("a?", "A.")), max_tokens=10)
    assert prompt.nodes == HITS[:1]
    assert len(prompt.messages) == 1
    assert "Grass" not in prompt.messages[0].content


@pytest.mark.parametrize("window", range(120, 400, 7))
def test_prompt_and_answer_never_exceed_the_window(window: int) -> None:
    llm = ScriptedLLM(context_window=window)
    hits = [hit("word " * 40) for _ in range(5)]
    history = dialogue(*[("question " * 10, "answer " * 10)] * 3)
    try:
        prompt = build(llm, "Why is that so?", hits, history, max_tokens=30)
    except ContextWindowError:
        assert window < 200
    else:
        assert size(llm, prompt.messages) + 30 <= window
        assert prompt.nodes == hits[: len(prompt.nodes)]
        kept = prompt.messages[:-1]
        assert kept == history[len(history) - len(kept) :]  # the newest
        assert not kept or kept[0].role == "user"
        assert not kept or len(prompt.nodes) == len(hits)  # passages come before the history


def test_what_does_not_fit_is_left_out_from_the_end() -> None:
    hits = [hit("word " * 40) for _ in range(5)]
    prompt = build(ScriptedLLM(context_window=250), "Why?", hits, max_tokens=30)
    assert 1 <= len(prompt.nodes) < 5
    assert prompt.messages[0].content.count("word") == 40 * len(prompt.nodes)


def test_a_question_longer_than_the_window() -> None:
    llm = ScriptedLLM(context_window=200, model_name="tiny")
    with pytest.raises(ContextWindowError, match="too long for tiny") as caught:
        build(llm, "word " * 200, HITS, max_tokens=30)
    assert "Shorten it" in str(caught.value)


def test_a_passage_longer_than_the_window() -> None:
    llm = ScriptedLLM(context_window=200, model_name="tiny")
    with pytest.raises(ContextWindowError, match="No passage fits") as caught:
        build(llm, "Why?", [hit("word " * 200)], max_tokens=30)
    assert "larger window" in str(caught.value)


def test_a_heading_is_given_unless_it_is_a_question() -> None:
    """A small model repeats a question that stands above the passage."""
    for headings, given in {
        ("Guide", "Prices"): True,
        ("Guide", "What does it cost?"): False,
    }.items():
        node = Node("Ten euros.", "d", 0, 0, "f.md", None, headings)
        prompt = build(ScriptedLLM(), "How much?", [NodeWithScore(node, 0.5)], max_tokens=9)
        assert (f"{headings[-1]}\nTen euros." in prompt.messages[-1].content) is given
