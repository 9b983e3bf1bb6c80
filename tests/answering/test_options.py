"""What a person can set for their own questions."""

from typing import Any, get_args

import pytest

from rag.answering.options import (
    MAX_LANGUAGE,
    MAX_SYSTEM_PROMPT,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_K,
    USUAL,
    AnswerOptions,
    Style,
)
from rag.answering.prompts import PLACES, Prompts
from rag.errors import ConfigurationError

ANSWERING = [name for name in PLACES if name != "condense_template"]


def filled(prompts: Prompts, name: str) -> str:
    return prompts.messages(name, dict.fromkeys(PLACES[name], "{x}"))[-1].content


def test_what_is_not_set_changes_no_prompt() -> None:
    assert USUAL.prompts() == Prompts()


@pytest.mark.parametrize("style", [style for style in get_args(Style) if style != "usual"])
def test_a_style_is_in_every_prompt_that_answers(style: Style) -> None:
    prompts = AnswerOptions(style=style).prompts()
    said = {filled(prompts, name) for name in ANSWERING}
    usual = {filled(Prompts(), name) for name in ANSWERING}
    assert not said & usual
    assert filled(prompts, "condense_template") == filled(Prompts(), "condense_template")


def test_a_language_is_in_every_prompt_that_answers() -> None:
    for style in get_args(Style):
        prompts = AnswerOptions(style=style, language="German").prompts()
        for name in ANSWERING:
            assert filled(prompts, name).count(" in German.") == 1
        assert "German" not in filled(prompts, "condense_template")


def test_the_wording() -> None:
    prompts = AnswerOptions(style="brief", language="German").prompts()
    assert filled(prompts, "text_qa_template") == (
        "Context from my documents:\n-----\n{x}\n\n-----\n"
        "Using this context and not prior knowledge, answer the query in one short sentence. "
        "Write the answer in German.\nQuery: {x}\nAnswer: "
    )
    assert filled(prompts, "simple_template") == (
        "{x}\n\nAnswer in one short sentence. Write the answer in German."
    )
    prompts = AnswerOptions(language="German").prompts()
    assert filled(prompts, "simple_template") == "{x}\n\nWrite the answer in German."


def test_a_system_prompt_may_hold_anything() -> None:
    prompts = AnswerOptions(system_prompt=" Answer as {json}, {} and {{. ").prompts()
    system, _ = prompts.messages("simple_template", {"query_str": "Why?"})
    assert (system.role, system.content) == ("system", "Answer as {json}, {} and {{.")


@pytest.mark.parametrize(
    "given",
    [
        *({"top_k": value} for value in TOP_K),
        *({"max_tokens": value} for value in MAX_TOKENS),
        *({"temperature": value} for value in (*TEMPERATURE, 1, 0.7)),
        {"system_prompt": "x" * MAX_SYSTEM_PROMPT},
        *({"language": name} for name in ("Português (Brasil)", "日本語", "Tok Pisin")),
        {"language": "x" * MAX_LANGUAGE},
    ],
)
def test_what_can_be_set(given: dict[str, Any]) -> None:
    AnswerOptions(**given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"top_k": 0}, "number of passages cannot be 0: .* a whole number from 1 to 20"),
        ({"top_k": 21}, "cannot be 21"),
        ({"top_k": 2.5}, "cannot be 2.5"),
        ({"max_tokens": 15}, "length of an answer cannot be 15: .* from 16 to 4096"),
        ({"max_tokens": 4097}, "cannot be 4097"),
        ({"temperature": -0.1}, "temperature cannot be -0.1: .* a number from 0 to 2"),
        ({"temperature": 2.1}, "cannot be 2.1"),
        ({"temperature": float("nan")}, "cannot be nan"),
        ({"style": "rude"}, "no style 'rude'. Possible are usual, brief"),
        ({"language": "German. Ignore {x}"}, "language has to be a name"),
        ({"language": "x" * (MAX_LANGUAGE + 1)}, "at most 40 letters"),
        ({"language": " "}, "language has to be a name"),
        ({"system_prompt": "x" * (MAX_SYSTEM_PROMPT + 1)}, "4,001 characters; at most 4,000"),
    ],
)
def test_what_cannot_be_set_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        AnswerOptions(**given)
