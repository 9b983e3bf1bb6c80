"""Passages: along headings and pages, never too long, never losing or moving a word."""

import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from rag.documents import splitting
from rag.documents.splitting import PASSAGE_TOKENS, STRETCH, split
from rag.types import Document, Node


def words(text: str) -> int:
    return len(re.findall(r"\w+", text))


def tokenizer() -> Tokenizer:
    """A real tokenizer without weights: every word and every mark is one (unknown) token."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def squeezed(text: str) -> str:
    return "".join(text.split())


def check(document: Document, nodes: list[Node]) -> None:
    """What holds for every document."""
    assert [node.ordinal for node in nodes] == list(range(len(nodes)))
    for node in nodes:
        assert document.text[node.start : node.end] == node.text
        assert node.text.strip()
        assert (node.document_id, node.file_name) == (document.id_, document.name)
        assert node.page == document.page_at(node.start)
        label = {"page_label": str(node.page)} if node.page else {}
        assert node.metadata == {**document.metadata, **label}
    for node, following in pairwise(nodes):
        assert node.end <= following.start


def test_a_text_without_a_break_is_split_in_time_that_grows_with_it() -> None:
    """Given whole, these would take a quarter of an hour each."""
    for text in ("日本" * 200_000, "a" * 400_000, '{"a":[1,' * 50_000):
        document = Document(text, plain=text.startswith("{"))
        nodes = split(document, tokenizer())
        check(document, nodes)
        assert "".join(node.text for node in nodes) == text
        assert max(len(node.text) for node in nodes) <= STRETCH


def test_a_long_section_is_cut_at_a_paragraph() -> None:
    paragraph = "The river flows. " * 20
    text = "# Rivers\n\n" + "\n\n".join([paragraph] * 200)
    nodes = split(Document(text), words)
    assert {node.headings for node in nodes} == {("Rivers",)}
    assert {node.text[:9] for node in nodes} == {"The river"}


PIECES = st.sampled_from(
    [
        *("# One\n", "## Two\n", "### Three ###\n", "#hashtag\n", "####### seven\n", "#\n"),
        *("```\n", "```py\n", "~~~\n", "````\n", "```a``` b\n", "    # indented\n"),
        *("word ", "Two sentences. Here! ", "\n", "\n\n", "\r\n", "\t", "- item\n", "| a | b |\n"),
        *("ein längeres Wort", "日本語の文章。", "🙂", "\u2028", "\x0b", "<b>x</b>", "> quoted\n"),
        *("a" * 50, "1. one\n", "---\n", "Title\n=====\n", "[link](http://x/y)", "\u00a0"),
    ]
)
# Control characters do not come through loading.
WORDS = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=8)
TEXTS = st.lists(PIECES | WORDS, max_size=40).map("".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 12), st.booleans())
def test_every_passage_is_a_stretch_of_the_text_and_fits(
    text: str, limit: int, real_tokenizer: bool
) -> None:
    document = Document(text, {"file_name": "x.md"})
    counter = tokenizer() if real_tokenizer else words
    nodes = split(document, counter, limit)
    check(document, nodes)
    for node in nodes:
        length = words(node.text) if counter is words else len(counter.encode(node.text).ids)
        assert length <= limit


@settings(max_examples=100, deadline=None)
@given(TEXTS, st.integers(1, 12))
def test_nothing_but_headings_and_fences_is_left_out(text: str, limit: int) -> None:
    document = Document(text)
    nodes = split(document, words, limit)
    end = 0
    for start, following in [*((n.start, n.end) for n in nodes), (len(text), len(text))]:
        for line in text[end:start].splitlines():
            assert not line.strip() or re.match(r"#{1,6}[ \t]|\s*(```|~~~)", line), repr(line)
        end = following


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 12))
def test_pages_keep_all_their_text_and_no_passage_spans_two(pages: list[str], limit: int) -> None:
    starts, text = [], ""
    for page in pages:
        starts.append(len(text))
        text += page + "\n\n"
    document = Document(text, page_starts=tuple(starts))
    nodes = split(document, words, limit)
    check(document, nodes)
    for node in nodes:
        assert document.page_at(node.end - 1) == node.page
        assert node.headings == ()
    for number, page in enumerate(pages, 1):
        found = "".join(node.text for node in nodes if node.page == number)
        assert squeezed(found) == squeezed(page)


def test_headings_are_the_path_to_the_passage() -> None:
    text = """intro

# A
in A
## B ##
in B
### C
in C
## D
in D
# E
in E
"""
    nodes = split(Document(text), words)
    assert [(node.text, node.headings) for node in nodes] == [
        ("intro", ()),
        ("in A", ("A",)),
        ("in B", ("A", "B")),
        ("in C", ("A", "B", "C")),
        ("in D", ("A", "D")),
        ("in E", ("E",)),
    ]


def test_a_level_that_was_skipped_is_not_invented() -> None:
    nodes = split(Document("# A\n### C\nx\n## B\ny"), words)
    assert [node.headings for node in nodes] == [("A", "C"), ("A", "B")]


@pytest.mark.parametrize(
    "code",
    [
        "```\n# no heading\n```",
        "```py\n# no heading\n```",
        "~~~\n# no heading\n~~~",
        "````md\n```\n# no heading\n```\n````",
        "~~~\n```\n# no heading\n~~~",
        "```\n```py\n# no heading\n```",
    ],
)
def test_a_comment_in_a_code_block_is_no_heading(code: str) -> None:
    nodes = split(Document(f"# A\n{code}\n# B\nafter"), words)
    assert [node.headings for node in nodes] == [("A",), ("B",)]
    assert nodes[0].text == code


def test_code_within_a_line_opens_no_block() -> None:
    nodes = split(Document("# A\n```x``` is code\n# B\nafter"), words)
    assert [node.headings for node in nodes] == [("A",), ("B",)]


def test_a_block_that_is_never_closed_reaches_to_the_end() -> None:
    (node,) = split(Document("# A\n```\n# x\n# y"), words)
    assert (node.text, node.headings) == ("```\n# x\n# y", ("A",))


def test_windows_line_ends() -> None:
    nodes = split(Document("# A\r\nx\r\n## B ##\r\ny\r\n"), words)
    assert [(node.text, node.headings) for node in nodes] == [("x", ("A",)), ("y", ("A", "B"))]


def test_a_hash_on_a_page_is_text() -> None:
    document = Document("# 1 in the charts\n\n# 2 too", page_starts=(0, 19))
    nodes = split(document, words)
    assert [(node.text, node.page) for node in nodes] == [("# 1 in the charts", 1), ("# 2 too", 2)]


def test_paragraphs_go_together_as_long_as_they_fit() -> None:
    one, two, three = "a " * 40 + "a.", "b " * 40 + "b.", "c " * 100 + "c."
    nodes = split(Document(f"{one}\n\n{two}\n\n{three}"), words, 100)
    assert [node.text[0] for node in nodes] == ["a", "c", "c"]
    assert nodes[0].text == f"{one}\n\n{two}"


def test_long_text_is_cut_between_sentences() -> None:
    text = " ".join(f"Sentence number {n} has exactly seven words." for n in range(90))
    nodes = split(Document(text), words)
    assert len(nodes) > 2
    assert all(node.text.endswith("words.") for node in nodes)
    assert all(PASSAGE_TOKENS / 2 < words(node.text) <= PASSAGE_TOKENS for node in nodes[:-1])


def test_an_empty_document_has_no_passages() -> None:
    assert split(Document(""), words) == []
    assert split(Document("  \n\n "), words) == []
    assert split(Document("", page_starts=(0, 0)), words) == []


@pytest.mark.parametrize("text", ["# Only a heading", "text\n# A\n## Last words\n"])
def test_a_heading_with_nothing_below_it_can_still_be_found(text: str) -> None:
    document = Document(text)
    nodes = split(document, words)
    check(document, nodes)
    assert "# " + text.split("# ")[-1].strip() in nodes[-1].text


def test_passages_carry_the_metadata_of_their_document() -> None:
    document = Document("one\n\ntwo", {"file_name": "x.pdf", "author": "y"}, page_starts=(0, 5))
    one, two = split(document, words)
    assert one.metadata == {"file_name": "x.pdf", "author": "y", "page_label": "1"}
    assert two.metadata == {"file_name": "x.pdf", "author": "y", "page_label": "2"}
    assert document.metadata == {"file_name": "x.pdf", "author": "y"}


def test_passages_without_pages_have_no_label_of_one() -> None:
    (node,) = split(Document("text", {"tags": ["a"]}), words)
    assert node.metadata == {"tags": ["a"]}


def test_counting_by_words_splits_as_the_tokenizer_does() -> None:
    vocabulary = ["[UNK]", "[CLS]", "river", "##s", "flow", "##ing", ".", ",", "长", "江", "-", "e"]
    pieces = models.WordPiece({piece: n for n, piece in enumerate(vocabulary)}, unk_token="[UNK]")
    tokenizer = Tokenizer(pieces)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[CLS]"])
    text = "Rivers flowing,\u00a0é-river.\n\nThe 长江 flows. [CLS] rivers " * 40
    document = Document(text, plain=True)

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    assert split(document, tokenizer, 20) == split(document, count, 20)


def test_what_stands_before_a_passage_joins_it_to_the_one_before() -> None:
    text = "  First.\n\n# A\n\n" + "\n\n".join(f"Word{n} " * 150 for n in range(4)) + "\n## B\nx\n"
    nodes = split(Document(text), words)
    assert len(nodes) > 4
    assert "".join(node.before + node.text for node in nodes) == text[: nodes[-1].end]


@pytest.mark.parametrize(("heading", "limit"), [(1, 12), (5, 9), (9, 5), (30, 4)])
def test_a_passage_is_so_short_that_the_model_reads_it_below_its_headings(
    heading: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splitting, "LEAST_TOKENS", 4)
    text = "# " + "head " * heading + "\n\n" + "word " * 200
    nodes = split(Document(text), words, 12, window=14)
    assert max(words(node.text) for node in nodes) == limit
    assert words("".join(node.text + " " for node in nodes)) == 200
