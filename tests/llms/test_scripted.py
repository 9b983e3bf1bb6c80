"""The scripted model keeps the protocol, so that what is tested with it is tested."""

from typing import Any

import pytest

from rag.errors import ProviderError
from rag.llms.protocol import LLM
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion, Usage

ASKED = [ChatMessage("user", "How many words are here?")]


def read(llm: LLM, **options: Any) -> tuple[list[str], Completion]:
    pieces = []
    stream = llm.stream(ASKED, **options)
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as end:
            return pieces, end.value


@pytest.mark.parametrize(
    "script", ["one two three", " leading", "trailing \n", "a\n\n    code()\n", "", "字 漢字\t🙂 x"]
)
def test_the_pieces_are_the_script(script: str) -> None:
    pieces, completion = read(ScriptedLLM(script))
    assert pieces[0] == ""
    assert "".join(pieces) == script
    assert completion == Completion("stop", Usage(5, len(script.split())))


def test_each_word_is_a_piece() -> None:
    pieces, _ = read(ScriptedLLM("one two  three\n"))
    assert [piece for piece in pieces if piece] == ["one", " two", "  three\n"]


def test_the_script_can_depend_on_the_messages() -> None:
    llm = ScriptedLLM(lambda messages: messages[-1].content.upper())
    pieces, _ = read(llm)
    assert "".join(pieces) == "HOW MANY WORDS ARE HERE?"
    assert llm.calls == [ASKED]


def test_the_length_limit() -> None:
    llm = ScriptedLLM("one two three")
    pieces, completion = read(llm, max_tokens=2)
    assert "".join(pieces) == "one two"
    assert completion == Completion("length", Usage(5, 2))
    assert llm.steps == 2


def test_its_own_length_limit_holds_where_a_call_sets_none() -> None:
    pieces, completion = read(ScriptedLLM("one two three", max_tokens=2))
    assert "".join(pieces) == "one two"
    assert completion.finish_reason == "length"
    assert read(ScriptedLLM("one two"), max_tokens=2)[1].finish_reason == "stop"


def test_it_ends_before_a_stop_sequence() -> None:
    llm = ScriptedLLM("one two three four five six")
    pieces, completion = read(llm, stop=["e fo"], temperature=0.5)
    assert "".join(pieces) == "one two thre"
    assert completion == Completion("stop", Usage(5, 4))
    assert llm.options == [{"max_tokens": None, "temperature": 0.5, "stop": ["e fo"]}]
    pieces, _ = read(llm, stop=["six seven"])
    assert "".join(pieces) == llm.script


def test_a_text_is_one_stop_sequence() -> None:
    pieces, _ = read(ScriptedLLM("NEEDED END not"), stop="END")
    assert "".join(pieces) == "NEEDED "


def test_reasoning_tags_stay_in_the_text() -> None:
    assert "".join(read(ScriptedLLM("<think>Well.</think> Yes."))[0]) == "<think>Well.</think> Yes."


@pytest.mark.parametrize("after", [0, 2, 3, 5])
def test_an_error_comes_after_the_words_before_it(after: int) -> None:
    llm = ScriptedLLM("one two three", error=ProviderError("gone"), error_after=after)
    pieces: list[str] = []
    with pytest.raises(ProviderError, match="gone"):
        pieces.extend(llm.stream(ASKED, max_tokens=10))
    assert "".join(pieces).split() == ["one", "two", "three"][:after]


def test_a_slow_model_can_be_stopped_between_two_words() -> None:
    llm = ScriptedLLM("one two three", tokens_per_second=0.05, first_token=0)
    stream = llm.stream(ASKED, max_tokens=10)
    assert [next(stream) for _ in range(4)] == ["", "one", "", ""]
    stream.close()
    assert llm.steps == 1


def test_the_first_token_can_be_late() -> None:
    llm = ScriptedLLM("one", first_token=0.25)
    pieces, _ = read(llm)
    assert pieces.index("one") > 1
    assert set(pieces) == {"", "one"}


def test_nothing_happens_before_it_is_read() -> None:
    llm = ScriptedLLM("one")
    llm.stream(ASKED, max_tokens=10).close()
    assert llm.calls == []
