"""What is taken along says what the page said, citations included."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag.answering.events import Timings
from rag.answering.options import AnswerOptions
from rag.answering.prompts import NOTHING_LEFT
from rag.types import Citation, Node, NodeWithScore, Usage
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.exports import FORMAT, LONGEST_FILE_NAME, file_name, to_json, to_markdown

SKY = Node("The sky is blue. It was\nbluer once.", "d", 0, 5, "sky_*.pdf", 2, ("Nature", "Sky"))
GRASS = Node("Grass is green.", "e", 0, 0, "grass.md", None, ("Plants", "Green <things>"))
SEA = Node("The sea is deep.", "f", 0, 0, "sea.txt")
TEXT = "The sky is blue. It was bluer in 1848. Nobody knows why."
ANSWER = Answer(
    "SmolLM2",
    TEXT,
    (NodeWithScore(GRASS, 0.7), NodeWithScore(SKY, 0.6)),
    (NodeWithScore(SEA, None),),
    (
        Citation(0, 16, "supported", SKY, 0, 16, 0.9),
        Citation(17, 38, "partly", SKY, 17, 35, 0.8, ("1848",)),
        Citation(39, 56, "none"),
    ),
    "First I think.",
    "Why is the sky blue?",
    "stop",
    usage=Usage(10, 20),
    timings=Timings(0.1, 0.44, 23.1),
    suggestions=("And the sea?",),
    rating=1,
)


def conversation(*turns: Turn) -> Conversation:
    return Conversation(turns=list(turns), changed=1.7e9)


def exported(answer: Answer) -> str:
    return to_markdown(conversation(Turn("Why?", [answer])))


def described(answer: Answer) -> dict[str, object]:
    (turn,) = json.loads(to_json(conversation(Turn("Why?", [answer]))))["turns"]
    (said,) = turn["answers"]
    assert isinstance(said, dict)
    return said


def test_a_conversation_as_markdown() -> None:
    assert (
        exported(ANSWER)
        == """\
# Why?

Last changed 2023-11-14 22:13 UTC.

## Why?

Searched for: Why is the sky blue?

The sky is blue. [2] It was bluer in 1848. [2, partly: 1848 is not in it] Nobody knows why. \
[not found in your documents]

**Sources**

- [1] grass.md, Plants › Green &lt;things\\>
- [2] sky\\_\\*.pdf, page 2 (Nature › Sky)
  - “The sky is blue.”
  - “It was bluer once.”

SmolLM2 · first token 0.4 s · 23 tokens/s · 2 passages
"""
    )


def test_several_answers_stand_below_their_models() -> None:
    turn = Turn("Why?", [replace(ANSWER, model=name) for name in ("org/a_b", "openai:c")])
    text = to_markdown(conversation(turn))
    assert "\n### org/a\\_b\n" in text
    assert "\n### openai:c\n" in text
    assert text.count("**Sources**") == 2


def test_a_source_that_was_not_given_is_listed_where_it_is_cited() -> None:
    cited = replace(ANSWER, citations=(Citation(0, 16, "supported", SEA, 0, 16),))
    text = exported(cited)
    assert "blue. [3] It" in text
    assert "- [3] sea.txt\n  - “The sea is deep.”" in text
    assert "sea.txt" not in exported(ANSWER)


def test_a_passage_within_a_source_has_its_number() -> None:
    part = replace(SKY, text=SKY.text[17:], start=SKY.start + 17)
    text = exported(replace(ANSWER, citations=(Citation(0, 16, "supported", part, 0, 6),)))
    assert "blue. [2] It" in text
    assert "  - “It was”" in text


def test_a_passage_that_is_nowhere_is_named() -> None:
    text = exported(Answer(text=TEXT, citations=(Citation(0, 16, "supported", SEA, 0, 16),)))
    assert "blue. [sea.txt] It" in text


@pytest.mark.parametrize(
    ("missing", "mark"),
    [
        ((), "[2, partly]"),
        (("1848",), "[2, partly: 1848 is not in it]"),
        (("1848", "<b>"), "[2, partly: 1848, &lt;b\\> are not in it]"),
    ],
)
def test_what_a_source_lacks_is_said(missing: tuple[str, ...], mark: str) -> None:
    cited = Citation(0, 16, "partly", SKY, 0, 16, 0.5, missing)
    assert f"blue. {mark} It" in exported(replace(ANSWER, citations=(cited,)))


def test_code_survives_and_is_closed_where_it_was_cut_off() -> None:
    text = "Run:\n\n```python\nif a < b:\n    print('<b>')"
    shown = exported(replace(ANSWER, text=text, citations=(), finish_reason="truncated"))
    assert f"\n{text}\n```\n\n**Sources**" in shown
    assert "cut off: the connection or the program ended" in shown
    indented = "    code\n\nText."
    assert f"\n\n{indented}\n" in exported(Answer(text=indented))


def test_errors_and_endings_are_shown() -> None:
    text = exported(Answer("m", finish_reason="error", error="The server *refused*."))
    assert "**Error:** The server \\*refused\\*." in text
    assert "no model was asked" in exported(Answer("m", NOTHING_LEFT))


def test_nothing_in_it_loads_from_elsewhere() -> None:
    text = exported(
        replace(ANSWER, text="![a](http://x/?secret) <img src=http://x> Great!", citations=())
    )
    tokens = MarkdownIt().parse(text)
    inner = [child.type for token in tokens for child in token.children or ()]
    assert not {"image", "html_inline", "html_block"} & {*inner, *(t.type for t in tokens)}


def test_a_long_question_stands_below_its_heading() -> None:
    question = "What is this?\n\n```\n# no heading\n" + "x" * 100
    text = to_markdown(conversation(Turn(question)))
    assert "> What is this?\n>\n> ```\n> # no heading\n> xxx" in text
    assert text.endswith("x\n> ```\n")


@given(st.text(min_size=1), st.text(), st.text())
def test_whatever_is_asked_is_one_heading(question: str, title: str, file: str) -> None:
    answer = Answer(sources=(NodeWithScore(replace(SKY, file_name=file)),))
    turns = [Turn(question, [answer]), Turn(question, [answer])]
    whole = replace(conversation(*turns), title=title)
    tokens = MarkdownIt().parse(to_markdown(whole))
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h2"]
    json.loads(to_json(whole))


def test_an_empty_conversation() -> None:
    assert to_markdown(conversation()).startswith("# Conversation\n")
    assert json.loads(to_json(conversation()))["turns"] == []


def test_a_conversation_as_json() -> None:
    turn = Turn("Why?", [ANSWER], "chosen", ("d",), AnswerOptions(top_k=3))
    whole = json.loads(to_json(conversation(turn)))
    assert whole["format"] == FORMAT
    assert whole["title"] == "Why?"
    assert whole["changed"] == "2023-11-14T22:13:20+00:00"
    (kept,) = whole["turns"]
    assert (kept["question"], kept["scope"], kept["documents"]) == ("Why?", "chosen", ["d"])
    assert kept["options"]["top_k"] == 3
    (said,) = kept["answers"]
    assert said["text"] == TEXT
    assert said["finish_reason"] == "stop"
    assert said["usage"] == {"prompt_tokens": 10, "completion_tokens": 20}
    assert said["timings"]["first_token"] == 0.44
    assert said["rating"] == 1
    assert said["searched_for"] == "Why is the sky blue?"
    assert [(s["number"], s["file"], s["given"]) for s in said["sources"]] == [
        (1, "grass.md", True),
        (2, "sky_*.pdf", True),
        (3, "sea.txt", False),
    ]
    assert said["sources"][1]["headings"] == ["Nature", "Sky"]
    assert said["sources"][1]["text"] == SKY.text
    assert said["citations"] == [
        {
            "start": 0,
            "end": 16,
            "sentence": "The sky is blue.",
            "support": "supported",
            "source": 2,
            "quote": "The sky is blue.",
            "missing": [],
        },
        {
            "start": 17,
            "end": 38,
            "sentence": "It was bluer in 1848.",
            "support": "partly",
            "source": 2,
            "quote": "It was\nbluer once.",
            "missing": ["1848"],
        },
        {
            "start": 39,
            "end": 56,
            "sentence": "Nobody knows why.",
            "support": "none",
            "source": None,
            "quote": "",
            "missing": [],
        },
    ]


def test_what_no_encoding_can_write_is_replaced() -> None:
    answer = Answer(text="a\ud800", finish_reason="stop")
    assert "a\ufffd" in exported(answer).encode().decode()
    assert described(answer)["text"] == "a\ufffd"


@given(st.text())
def test_a_file_can_have_the_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    made = file_name(name, "md")
    assert made == Path(made).name
    assert len(made.encode()) <= LONGEST_FILE_NAME + len("_.md")
    assert not set(made) & set('<>:"/\\|?*\x00\n\r')
    (tmp_path_factory.getbasetemp() / made).write_text("x")


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("Why is the sky blue?", "Why is the sky blue.md"),
        ("Почему небо синее? 天空为什么是蓝色的?", "Почему небо синее 天空为什么是蓝色的.md"),
        ("../../etc/passwd", "etc passwd.md"),
        ("C:\\Windows\\x", "C Windows x.md"),
        ("..", "conversation.md"),
        ("", "conversation.md"),
        ("CON", "_CON.md"),
        ("nul.txt", "_nul.txt.md"),
        ("Console", "Console.md"),
        (".hidden", "hidden.md"),
        ("-rf", "rf.md"),
        ("e\u0301", "\u00e9.md"),
        ("😀" * 80, "😀" * 30 + ".md"),
    ],
)
def test_file_names(name: str, made: str) -> None:
    assert file_name(name, "md") == made
