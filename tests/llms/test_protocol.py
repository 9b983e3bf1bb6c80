"""What holds for the options of every provider, and the estimate of tokens."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rag.errors import ConfigurationError
from rag.llms.huggingface import HuggingFaceLLM
from rag.llms.langchain import LangChainLLM
from rag.llms.openai import OpenAI
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage

ASKED = [ChatMessage("user", "Why is the sky blue?")]


def unloaded(**_: Any) -> HuggingFaceLLM:
    """What is checked before the model is asked needs none."""
    llm = HuggingFaceLLM.__new__(HuggingFaceLLM)
    llm.max_tokens = 9
    return llm


def langchain(**options: Any) -> LangChainLLM:
    from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel

    return LangChainLLM(ParrotFakeChatModel(), **options)


def openai(**options: Any) -> OpenAI:
    return OpenAI("m", "http://127.0.0.1:9/v1", **options)


@pytest.mark.parametrize("make", [unloaded, langchain, openai, ScriptedLLM])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_tokens": 0}, "max_tokens cannot be 0: give at least 1"),
        ({"max_tokens": -3}, "max_tokens cannot be -3"),
        ({"temperature": -0.5}, "temperature cannot be -0.5: give 0 or more"),
        ({"temperature": float("nan")}, "temperature cannot be nan"),
    ],
)
def test_options_that_no_model_takes_are_refused_before_it_is_asked(
    make: Callable[..., Any], options: dict[str, Any], says: str
) -> None:
    threads = threading.active_count()
    stream = make().stream(ASKED, **options)
    with pytest.raises(ConfigurationError, match=says) as caught:
        next(stream)
    assert "or leave it out" in str(caught.value)
    assert threading.active_count() == threads


@pytest.mark.parametrize(
    ("make", "options"),
    [
        (HuggingFaceLLM, {"max_new_tokens": 0}),
        (langchain, {"max_tokens": 0}),
        (openai, {"max_tokens": -1}),
        (openai, {"temperature": -1}),
        (ScriptedLLM, {"max_tokens": 0}),
    ],
)
def test_they_are_refused_for_all_calls_too(
    make: Callable[..., Any], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match="or leave it out"):
        make(**options)
