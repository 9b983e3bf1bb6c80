"""What holds for the options of every provider, and the estimate of tokens."""

import random
import re
import string
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.errors import ConfigurationError
from rag.llms.huggingface import HuggingFaceLLM
from rag.llms.langchain import LangChainLLM
from rag.llms.openai import OpenAI
from rag.llms.protocol import estimate_tokens
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


# The estimate of tokens

PROSE = (
    "The boiler in the basement of the town hall was serviced in March; the next service is due in "
    "the autumn. The building department is responsible for it, and also decides on insulation. "
    "During the inspection all rooms have to be accessible, so please leave your keys at the desk."
)
COUNTED = {
    PROSE: 57,
    "Der Kessel im Keller des Rathauses wurde im März gewartet; zuständig ist das Bauamt.": 32,
    "La chaudière de l’hôtel de ville a été révisée ; la prochaine révision est prévue.": 35,
    "La caldera del ayuntamiento fue revisada en marzo. ¿Dónde nació usted? Mañana.": 33,
    "Kocioł w piwnicy ratusza został sprawdzony; następny przegląd zaplanowano na jesień.": 43,
    "Ketel uap di ruang bawah tanah balai kota diperbaiki pada bulan Maret.": 28,
    "Nồi hơi trong tầng hầm của tòa thị chính đã được bảo dưỡng vào tháng ba.": 59,
    "Котёл в подвале ратуши был проверен в марте. Где вы родились?": 48,
    "Ο λέβητας στο υπόγειο του δημαρχείου συντηρήθηκε τον Μάρτιο.": 51,
    "تمت صيانة الغلاية في قبو مبنى البلدية في مارس.": 41,
    "הדוד במרתף בית העירייה טופל במרץ.": 36,
    "नगर भवन के तहखाने में बॉयलर की मार्च में मरम्मत की गई।": 59,
    "หม้อไอน้ำในชั้นใต้ดินได้รับการบำรุงรักษาในเดือนมีนาคม": 99,
    "市政厅地下室的锅炉已于三月进行了检修。您在哪里出生？": 49,
    "市役所の地下にあるボイラーは三月に点検されました。": 41,
    "시청 지하실의 보일러는 3월에 점검되었습니다.": 55,
    "def f(x, *args):\n    return [i**2 for i in x if i != y]\n\n\n    @property\n": 27,
    "if(e[n]!==t[n>>2])return!1;getElementsByClassName(parseJSONFromURL||isNaN)": 33,
    "| Q1 | 1,204.50 | 17 % | - |\n| --- | :---: | ---: | --- |\n|1|2|3|4|5|6|7|8|9|10|": 57,
    "  12    7.25   -1  104\n 118   17.50   12    9\n": 38,
    "0.123 45.678 901.234 567.890 2024-03-01T12:05:00Z": 49,
    "1234567890" * 20: 200,
    "{}[]();:" * 6: 30,
    "https://www.example-7.co.uk/a/b_c/9f86d081?utm_source=x&id=104#sec-2": 43,
    "a.kowalczyk@mail-host.org; 550e8400-e29b-41d4-a716-446655440000": 52,
    "aGVsbG8gd29ybGQhIFRoaXMgaXMgYmFzZTY0IHdpdGggbm90aGluZyBpbiBpdC4xMjM0NTY3OA==": 61,
    "xqzvkjwpbn lmtrgh QZXKJ NATO HTTPS kWh pH mRNA XMLHttpRequest": 25,
    "🙂🎉🚀👨‍👩‍👧‍👦🇩🇪❤️👍🏽🫠🦜": 48,
    "∀ε>0 ∃δ>0: |x−a|<δ ⇒ ∫₀^∞ e^{−x²}dx = √π/2 “quoted” — § 12 … ½ €5": 55,
    "a \t b\t\tc\r\n\r\n   d      e\n\n\n \n": 14,
    "H e l l o  t h e r e . . . . . . . ________ ========": 23,
}
"""What SmolLM2's tokenizer counts."""


@pytest.mark.parametrize(("text", "counted"), COUNTED.items())
def test_19_the_estimate_is_not_less_than_what_is_counted(text: str, counted: int) -> None:
    assert estimate_tokens(text) >= counted


def test_the_estimate_of_prose_is_about_twice_what_is_counted() -> None:
    assert estimate_tokens(PROSE) <= 2.1 * COUNTED[PROSE]


@pytest.mark.parametrize(
    ("text", "estimate"),
    [
        ("", 1),
        ("the cat", 3),
        ("strengths", 8),  # s t ren g t h s
        ("The Boiler", 5),
        ("2024", 5),
        ("a 1", 4),
        ("    x", 3),
        ("     1", 4),
        ("\t\n", 3),
        ("(a, b)", 6),
        ("é", 3),
        ("漢", 4),
        ("🙂", 5),
        ("\ud800", 4),
    ],
)
def test_what_the_estimate_counts(text: str, estimate: int) -> None:
    assert estimate_tokens(text) == estimate


def test_the_estimate_is_quick() -> None:
    begin = time.perf_counter()
    estimate_tokens(PROSE * 400)
    estimate_tokens(" " * 100_000 + "a" * 100_000 + "-" * 100_000)
    assert time.perf_counter() - begin < 1  # some 0.03 s


@pytest.mark.slow
def test_what_is_counted(smollm: HuggingFaceLLM) -> None:
    assert {text: smollm.count_tokens(text) for text in COUNTED} == COUNTED


NO_LETTERS = st.text(
    st.characters(codec="utf-8").filter(lambda char: not (char.isascii() and char.isalpha()))
)
WORDS = st.sampled_from(sorted(set(re.findall(r"[A-Za-z]+", PROSE))))
SPACE = st.text(" \t\n\r", min_size=1, max_size=12)
SIGNS = st.text(string.punctuation + string.digits + " ", min_size=1, max_size=12)


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(parts=st.lists(WORDS | SPACE | SIGNS | NO_LETTERS | st.sampled_from(list(COUNTED))))
def test_19_nor_less_than_what_the_tokenizer_counts_in_any_mixture(
    smollm: HuggingFaceLLM, parts: list[str]
) -> None:
    text = "".join(parts)
    assert estimate_tokens(text) >= smollm.count_tokens(text)


@pytest.mark.slow
@pytest.mark.parametrize("letters", [string.ascii_lowercase, string.ascii_letters, "ACGT"])
@pytest.mark.parametrize("space", ["", "    "])
@pytest.mark.parametrize("seed", range(20))
def test_19_nor_in_letters_that_are_no_words(
    smollm: HuggingFaceLLM, letters: str, space: str, seed: int
) -> None:
    text = "".join(random.Random(seed).choices(letters + space, k=400))
    assert estimate_tokens(text) >= smollm.count_tokens(text)
