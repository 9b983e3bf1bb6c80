"""Markdown that is shown does no harm, and marks go where they belong."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from rag.types import Citation
from rag.ui.markdown import as_text, closed, escaped, marked

MARK = "\ue000"
pieces = st.sampled_from(
    ["```", "~~~", "`", "``", "\n", "\n\n", "<b>", "<", "![a](b)", "!", "[1]", "\\", "a", " ", "#"]
)
markdown = st.lists(pieces, max_size=30).map("".join)


def at(*ends: int) -> list[Citation]:
    return [Citation(0, end, "supported") for end in ends]


@given(st.text(), st.lists(st.integers(-5, 100)))
def test_nothing_but_the_marks_is_new(text: str, ends: list[int]) -> None:
    text = text.replace(MARK, "").replace("`", "").replace("~", "")
    shown = marked(text, at(*ends), lambda _: MARK)
    assert shown.replace(MARK, "") == text
    assert shown.count(MARK) == len(ends)


@given(st.text(st.characters(exclude_characters=f"`~{MARK}")), st.data())
def test_each_mark_stands_behind_its_sentence(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), unique=True)))
    shown = marked(text, at(*reversed(ends)), lambda citation: f"{MARK}{citation.end}{MARK}")
    parts = shown.split(MARK)
    assert "".join(parts[0::2]) == text
    assert [int(end) for end in parts[1::2]] == ends
    assert [len("".join(parts[0 : 2 * n + 1 : 2])) for n in range(len(ends))] == ends


@given(markdown, st.lists(st.integers(0, 60)))
def test_with_code_only_line_ends_are_new(text: str, ends: list[int]) -> None:
    shown = marked(text, at(*ends), lambda _: MARK)
    assert shown.count(MARK) == len(ends)
    assert shown.replace(MARK, "").replace("\n", "") == text.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "end", "shown"),
    [
        ("One. Two.", 4, "One.^ Two."),
        ("One. Two.", 9, "One. Two.^"),
        ("Call `a.b` now.", 8, "Call `a.b`^ now."),
        ("Call `a.b`.", 10, "Call `a.b`^."),
        ("```\na. b\n```\nNext.", 6, "```\na. b\n```\n^\nNext."),
        ("```\na. b\n```", 12, "```\na. b\n```\n^"),
        ("Is:\n```\na\n```\n", 3, "Is:^\n```\na\n```\n"),
    ],
)
def test_marks_keep_out_of_code(text: str, end: int, shown: str) -> None:
    assert marked(text, at(end), lambda _: "^") == shown


def test_marks_at_one_place_keep_their_order() -> None:
    numbers = iter("12")
    assert marked("One.", at(4, 4), lambda _: next(numbers)) == "One.12"


def test_no_mark_is_no_change() -> None:
    assert marked("```\na\n```", at(5), lambda _: "") == "```\na\n```"


@given(markdown)
def test_what_comes_after_it_is_no_code(text: str) -> None:
    tokens = MarkdownIt().parse(f"{as_text(closed(text))}\n\nAFTERWARDS")
    assert all("AFTERWARDS" not in token.content for token in tokens if token.type == "fence")


@pytest.mark.parametrize("text", ["", "a", "```\na\n```", "~~~~\n```\n~~~~", "`a", "a ``` b"])
def test_what_is_closed_stays(text: str) -> None:
    assert closed(text) == text


@given(markdown)
def test_no_tag_and_no_picture_is_obeyed(text: str) -> None:
    tokens = MarkdownIt().parse(as_text(text))
    inner = [child for token in tokens for child in token.children or ()]
    kinds = {token.type for token in (*tokens, *inner)}
    assert not kinds & {"html_block", "html_inline", "image"}


@given(st.text(), st.text())
def test_what_is_escaped_reads_as_it_is(text: str, other: str) -> None:
    for shown in (escaped(text), as_text(escaped(text))):
        (_, inline, _) = MarkdownIt().parse(f"x{shown}x")
        read = "".join(child.content for child in inline.children or ())
        assert read == f"x{' '.join(text.split())}x".replace("\x00", "\ufffd")


def test_pairs_of_what_markdown_obeys_are_escaped() -> None:
    specials = "\\`*_[]<>#|~&!$"
    for one, two in pairwise(specials * 2):
        shown = escaped(f"{one}{two}a{one}{two}b;")
        (_, inline, _) = MarkdownIt().parse(f"x{shown}")
        read = "".join(child.content for child in inline.children or ())
        assert read == f"x{one}{two}a{one}{two}b;"
