"""Identity, places and labels of the values that travel along both ways."""

from pathlib import Path

import pytest

from rag.types import Document, Node, NodeWithScore, counted


def test_a_document_is_known_by_its_text() -> None:
    one, same, other = Document("a", {"file_name": "x"}), Document("a"), Document("b")
    assert one.id_ == same.id_ != other.id_
    assert Document("a", id_="given").id_ == "given"


LONE = "\ud800"
"""Half a character: Python keeps it in a text, nothing can encode it."""


def test_lone_surrogates_are_replaced_when_a_document_is_made() -> None:
    document = Document(f"a{LONE}b", {f"k{LONE}": f"v{LONE}", "n": 1}, page_starts=(0, 2))
    assert (document.text, document.page_starts) == ("a\ufffdb", (0, 2))
    assert document.metadata == {"k\ufffd": "v\ufffd", "n": 1}
    assert document.id_ == document.text_hash == Document("a\ufffdb").id_
    assert Document("a", id_=f"x{LONE}").id_ == "x\ufffd"
    assert Document("a", {"file_name": Path(f"x{LONE}.md")}).name == "x\ufffd.md"
    assert Document("aü🙂\n").text == "aü🙂\n"


def test_the_metadata_of_a_document_is_its_own() -> None:
    metadata = {"a": 1}
    document = Document("x", metadata)
    metadata["a"] = 2
    assert document.metadata == {"a": 1}


def test_a_document_without_a_file_is_named_by_its_identity() -> None:
    assert Document("a", {"file_name": "x.md"}).name == "x.md"
    assert Document("a", id_="0123456789").name == "01234567"


@pytest.mark.parametrize(("offset", "page"), [(0, 1), (9, 1), (10, 2), (11, 2), (12, 3), (1000, 3)])
def test_the_page_of_an_offset(offset: int, page: int) -> None:
    assert Document("text", page_starts=(0, 10, 12)).page_at(offset) == page


def test_without_pages_there_is_no_page() -> None:
    assert Document("text").page_at(0) is None


def test_a_node_knows_its_end_and_identity() -> None:
    node = Node("abc", "doc", 4, 10)
    assert (node.id_, node.end) == ("doc:4", 13)


@pytest.mark.parametrize(
    ("page", "headings", "label"),
    [
        (None, (), "f.md"),
        (3, (), "f.md, page 3"),
        (None, ("A", "B"), "f.md, A › B"),
        (3, ("A",), "f.md, page 3"),
    ],
)
def test_a_label_says_where_a_passage_stands(
    page: int | None, headings: tuple[str, ...], label: str
) -> None:
    assert Node("t", "d", 0, 0, "f.md", page, headings).label == label


def test_a_label_is_one_line_whatever_the_file_is_called() -> None:
    node = Node("t", "d", 0, 0, "two\nlines\u2028\x1b[31m.md", headings=("A\r\nB",))
    assert node.label == "two lines [31m.md, A B"
    assert node.file_name == "two\nlines\u2028\x1b[31m.md"


def test_llama_index_s_names_for_what_a_document_and_a_passage_have() -> None:
    document, node = Document("text", id_="d"), Node("passage", "d", 4, 10)
    assert (document.doc_id, document.get_content()) == ("d", "text")
    assert (node.node_id, node.ref_doc_id, node.get_content()) == ("d:4", "d", "passage")
    hit = NodeWithScore(node, 0.5)
    assert (hit.node_id, hit.get_content(), hit.get_score()) == ("d:4", "passage", 0.5)


def test_who_finds_a_passage_need_not_score_it() -> None:
    hit = NodeWithScore(Node("passage", "d", 0, 0))
    assert (hit.score, hit.get_score()) == (None, 0.0)


def test_a_passage_is_embedded_below_its_headings() -> None:
    assert Node("text", "d", 0, 0, headings=("A", "B")).embedded_text == "A\nB\ntext"
    assert Node("text", "d", 0, 0).embedded_text == "text"


def test_a_node_carries_the_metadata_of_its_document() -> None:
    node = Node("text", "d", 0, 0, metadata={"author": "x", "tags": ["a"]})
    assert NodeWithScore(node, 0.5).metadata == {"author": "x", "tags": ["a"]}
    assert NodeWithScore(node, 0.5).text == "text"
    assert Node("text", "d", 0, 0).metadata == {}


def test_a_node_can_be_counted_in_a_set_whatever_its_metadata() -> None:
    one = Node("text", "d", 0, 0, metadata={"tags": ["a"]})
    assert hash(one) == hash(Node("text", "d", 0, 0))
    assert len({one, Node("text", "d", 0, 0, metadata={"tags": ["a"]})}) == 1
    assert one != Node("text", "d", 0, 0)


def test_the_hash_of_a_text_is_its_own_whatever_the_identity() -> None:
    assert Document("a", id_="given").text_hash == Document("a").id_
    assert Document("a", id_="given").text_hash != Document("b", id_="given").text_hash


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0 passages"), (1, "1 passage"), (2, "2 passages"), (1234, "1,234 passages")],
)
def test_numbers_are_told_with_their_noun(number: int, shown: str) -> None:
    assert counted(number, "passage") == shown
