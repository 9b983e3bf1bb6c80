"""What a model is told: templates as text and as functions, and what is wrong with one."""

from typing import Any

import pytest

from rag.answering import prompts
from rag.answering.prompts import PLACES, Prompts, passage
from rag.errors import ConfigurationError
from rag.types import ChatMessage
from tests.answering.conftest import hit


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def values(name: str) -> dict[str, str]:
    return {place: f"<{place}>" for place in PLACES[name]}


@pytest.mark.parametrize("name", PLACES)
def test_every_template_makes_one_message_with_all_it_is_filled_with(name: str) -> None:
    (message,) = Prompts().messages(name, values(name))
    assert message.role == "user"
    assert all(value in message.content for value in values(name).values())


def test_passages_stand_before_the_question() -> None:
    for name in ("text_qa_template", "summary_template"):
        (message,) = Prompts().messages(name, values(name))
        assert message.content.index("<context_str>") < message.content.index("<query_str>")


def test_every_template_can_be_replaced() -> None:
    texts = {name: "Mine: " + " ".join(f"{{{p}}}" for p in sorted(PLACES[name])) for name in PLACES}
    mine = Prompts(**texts)  # type: ignore[arg-type]
    for name in PLACES:
        expected = "Mine: " + " ".join(f"<{place}>" for place in sorted(PLACES[name]))
        assert mine.messages(name, values(name)) == [user(expected)]


def test_a_template_can_be_a_function_that_returns_text() -> None:
    def shout(*, context_str: str, query_str: str) -> str:
        return f"{query_str.upper()} {context_str}"

    mine = Prompts(text_qa_template=shout)
    given = {"context_str": "{c}", "query_str": "why"}
    assert mine.messages("text_qa_template", given) == [user("WHY {c}")]


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_template_can_be_a_function_that_returns_messages(kind: type) -> None:
    dialogue = [ChatMessage("system", "Be brief."), user("a?"), ChatMessage("assistant", "A")]

    def talk(**given: str) -> Any:
        return kind([*dialogue, user(given["query_str"])])

    mine = Prompts(simple_template=talk)
    made = mine.messages("simple_template", {"query_str": "b?"})
    assert made == [*dialogue, user("b?")]
    assert isinstance(made, list)


@pytest.mark.parametrize("template", ["{query_str}", lambda query_str: [user(query_str)]])
def test_a_system_prompt_comes_first(template: Any) -> None:
    mine = Prompts(simple_template=template, system_prompt="Speak {like} a pirate.")
    made = mine.messages("simple_template", {"query_str": "Why?"})
    assert made == [ChatMessage("system", "Speak {like} a pirate."), user("Why?")]


def test_braces_in_a_text_are_text() -> None:
    given = {"context_str": "{query_str} {0} {}", "query_str": "What is {context_str}?"}
    (message,) = Prompts().messages("text_qa_template", given)
    assert "{query_str} {0} {}" in message.content
    assert "What is {context_str}?" in message.content


def test_doubled_braces_in_a_template_are_braces() -> None:
    mine = Prompts(simple_template='Answer {query_str} as {{"answer": ...}}')
    (message,) = mine.messages("simple_template", {"query_str": "it"})
    assert message.content == 'Answer it as {"answer": ...}'


def test_a_place_can_stand_twice() -> None:
    mine = Prompts(simple_template="{query_str} {query_str}")
    assert mine.messages("simple_template", {"query_str": "a"}) == [user("a a")]


@pytest.mark.parametrize(
    ("name", "template"),
    [
        ("text_qa_template", "{context_str}"),
        ("text_qa_template", "no places"),
        ("text_qa_template", ""),
        ("text_qa_template", "{context_str} {query_str} {more}"),
        ("text_qa_template", "{context_str} {question}"),
        ("text_qa_template", "{} {query_str}"),
        ("text_qa_template", "{0} {1}"),
        ("text_qa_template", "{context_str.x} {query_str}"),
        ("text_qa_template", "{context_str[0]} {query_str}"),
        ("refine_template", "{context_str} {query_str} {existing_answer}"),
        ("summary_template", "{query_str}"),
        ("simple_template", "{context_str} {query_str}"),
        ("condense_template", "{chat_history} {query_str}"),
    ],
)
def test_a_template_with_wrong_places_names_the_right_ones(name: str, template: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name} has to have the places") as caught:
        Prompts(**{name: template})
    assert all(f"{{{place}}}" in str(caught.value) for place in PLACES[name])


@pytest.mark.parametrize("template", ["{query_str", "query_str}", "{query_str} {", "{query_str!}"])
def test_a_template_that_cannot_be_read_says_how_a_brace_is_written(template: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^simple_template cannot be read: .* {{ for "):
        Prompts(simple_template=template)


# Passages


def test_a_passage_stands_below_its_innermost_heading() -> None:
    assert passage(hit("It is blue.", headings=("Nature", "The sky"))) == "The sky\nIt is blue."
    assert passage(hit("It is blue.")) == "It is blue."


def test_a_heading_is_given_unless_it_is_a_question() -> None:
    """A small model repeats a question that stands above the passage."""
    for headings, given in {
        ("Guide", "Prices"): True,
        ("Guide", "What does it cost?"): False,
    }.items():
        text = passage(hit("Ten euros.", headings=headings))
        assert text == (f"{headings[-1]}\nTen euros." if given else "Ten euros.")


def test_every_text_for_an_answer_that_has_none_says_what_to_do() -> None:
    for text in (prompts.NOTHING_FOUND, prompts.NOTHING_LEFT, prompts.NO_TEXT):
        assert "sk in other words" in text or "ask again" in text
    assert "RAG_MAX_NEW_TOKENS" in prompts.ONLY_REASONING


def test_a_template_of_another_kind_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="refine_template is a int"):
        Prompts(refine_template=3)  # type: ignore[arg-type]
