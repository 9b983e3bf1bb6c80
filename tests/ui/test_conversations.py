"""Conversations are written wholly and read as they were, or found damaged."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.events import Timings
from rag.answering.options import AnswerOptions
from rag.types import Citation, Node, NodeWithScore, Usage
from rag.ui.conversations import (
    LONGEST_NAME,
    Answer,
    Conversation,
    Entry,
    Turn,
    as_name,
    decode,
    decode_head,
    encode,
)

NODE = Node("The sky is blue. 🙂", "d", 3, 17, "a.md", 2, ("Nature", "The sky"), {"pages": 3})
OTHER = Node("Grass is green.", "e", 0, 0, "b.md")
FULL = Turn(
    "Why? 🙂",
    [
        Answer(
            "m",
            "Because <b>.\n\n    code",
            (NodeWithScore(NODE, 0.75),),
            (NodeWithScore(OTHER, None),),
            (
                Citation(0, 12, "partly", NODE, 4, 9, 0.5, ("1848",)),
                Citation(13, 20, "none"),
            ),
            "It may be that",
            "Why is the sky blue?",
            "length",
            "oh no",
            Usage(5, 7),
            Timings(0.1, 0.2, 30.0),
            ("And at night?",),
            -1,
        ),
        Answer("n", "Light."),
    ],
    "chosen",
    ("d", "e"),
    AnswerOptions(5, 100, 0.5, "brief", "German", "Be kind."),
)

texts = st.text(st.characters(codec="utf-8"))
offsets = st.integers(0, 10_000)
nodes = st.builds(
    Node,
    texts,
    texts,
    offsets,
    offsets,
    texts,
    st.none() | offsets,
    st.lists(texts).map(tuple),
    st.dictionaries(texts, texts | st.integers(0, 99) | st.booleans() | st.none(), max_size=3),
    texts,
)
hits = st.builds(NodeWithScore, nodes, st.none() | st.floats(-1, 1))
citations = st.builds(
    Citation,
    offsets,
    offsets,
    st.sampled_from(["supported", "partly", "none"]),
    st.none() | nodes,
    offsets,
    offsets,
    st.floats(0, 1),
    st.lists(texts, max_size=2).map(tuple),
)
answers = st.builds(
    Answer,
    texts,
    texts,
    sources=st.lists(hits, max_size=3).map(tuple),
    citations=st.lists(citations, max_size=3).map(tuple),
    finish_reason=st.sampled_from(["stop", "length", "stopped", "error"]),
    suggestions=st.lists(texts, max_size=2).map(tuple),
)
conversations = st.builds(
    Conversation,
    texts,
    st.lists(st.builds(Turn, texts, st.lists(answers, max_size=2)), max_size=3),
    st.floats(0, 1e10),
)


@given(conversations)
def test_what_is_written_is_read_as_it_was(conversation: Conversation) -> None:
    written = encode(conversation)
    read = decode(conversation.key, written)
    assert read.turns == conversation.turns
    assert (read.key, read.title, read.changed) == (
        conversation.key,
        conversation.title,
        conversation.changed,
    )
    assert decode_head(read.key, written.split("\n")[0] + "\n") == conversation.entry


def test_everything_of_an_answer_is_kept() -> None:
    (turn,) = decode("k", encode(Conversation(turns=[FULL]))).turns
    assert turn.answers[0] == FULL.answers[0]
    assert hash(turn.answers[0].citations[0].node) == hash(NODE)


def test_a_file_is_one_object_of_plain_json_in_two_lines() -> None:
    written = encode(Conversation("Sky", [FULL], 5, "k"))
    assert len(written.splitlines()) == 2
    kept = json.loads(written)
    assert (kept["name"], kept["title"], kept["changed"]) == ("Sky", "Sky", 5)
    assert kept["turns"][0]["question"] == "Why? 🙂"
    assert kept["passages"][0]["headings"] == ["Nature", "The sky"]


def test_a_passage_is_written_once() -> None:
    written = encode(Conversation(turns=[FULL, FULL]))
    assert written.count("The sky is blue.") == 1
    first, second = decode("k", written).turns
    assert first.answers[0].sources[0].node is first.answers[0].citations[0].node
    assert first.answers[0].sources[0].node is second.answers[0].sources[0].node


def test_an_answer_that_was_not_ended_is_truncated() -> None:
    (turn,) = decode("k", encode(Conversation(turns=[FULL]))).turns
    assert [answer.finish_reason for answer in turn.answers] == ["length", "truncated"]
    assert turn.answers[1].text == "Light."


def test_what_no_encoding_can_write_is_replaced() -> None:
    turn = Turn("\ud800", [Answer("m", "a\udfffb", finish_reason="stop")])
    written = encode(Conversation(turns=[turn]))
    written.encode()
    assert decode("k", written).turns[0].answers[0].text == "a\ufffdb"


def test_a_value_that_json_does_not_know_is_no_obstacle() -> None:
    node = Node("x", "d", 0, 0, metadata={"made": complex(1, 2)})
    answer = Answer(sources=(NodeWithScore(node),))
    (turn,) = decode("k", encode(Conversation(turns=[Turn("?", [answer])]))).turns
    assert turn.answers[0].sources[0].metadata == {"made": "(1+2j)"}


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(encode(Conversation("t", [FULL], 5.0, "k"))), **values})


@pytest.mark.parametrize(
    "damage",
    [
        "",
        '{"name": "Wh',
        encode(Conversation("t", [FULL]))[:-30],
        "null",
        "7",
        "[1]",
        "{}",
        "[" * 100_000,
        changed(turns=7),
        changed(turns=[7]),
        changed(turns=[{"question": "Why?"}]),
        changed(turns=[{"question": 7, "answers": []}]),
        changed(passages=[]),
        changed(passages=[{"text": "a secret"}]),
        changed(title=7),
        changed(changed="soon"),
    ],
)
def test_damage_is_told_without_quoting_it(damage: str) -> None:
    with pytest.raises(ValueError) as told:  # noqa: PT011
        decode("k", damage)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    "line",
    ["", "\n", "{", "null", "7", '{"name": "a"', '{"name": 1, "changed": 1', "[" * 100_000, "}"],
)
def test_a_damaged_first_line_is_told(line: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode_head("k", line)


def test_it_is_named_after_its_first_question() -> None:
    conversation = Conversation()
    assert conversation.name == ""
    conversation.turns.append(Turn("  Why is\n the sky blue? "))
    assert conversation.name == "Why is the sky blue?"
    conversation.title = "Sky"
    assert conversation.entry == Entry(conversation.key, "Sky", conversation.changed)


@given(st.text())
def test_a_name_is_one_bounded_line(text: str) -> None:
    name = as_name(text)
    assert len(name) <= LONGEST_NAME
    assert len(name.splitlines()) <= 1
    assert name == name.strip()
    name.encode()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("नमस्ते می‌خواهم 👩‍🌾", "नमस्ते می‌خواهم 👩‍🌾"),
        ("a\x00b\x1b[31mc\u2028d", "a b [31mc d"),
        ("safe\u202egpj.exe", "safe gpj.exe"),
        ("\ud800", "\ufffd"),
        (" \t\n", ""),
        ("x" * 81, "x" * 79 + "…"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert as_name(text) == name


def test_two_never_have_the_same_key() -> None:
    assert len({Conversation().key for _ in range(100)}) == 100
    assert len({turn.key for turn in (Turn("a"), Turn("a"))}) == 2
