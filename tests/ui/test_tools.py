"""What the tools of an assistant take and give. They are called in tests/strangers/test_mcp.py."""

import pytest
from pydantic import ValidationError

from rag.errors import RivuletError
from rag.types import Citation, Node, NodeWithScore
from rag.ui.conversations import Answer
from rag.ui.tools import Document, Question, _answered, _content, _failed, _wrong


@pytest.mark.parametrize(
    ("given", "content"),
    [
        (Document(name="a.txt", text="plüm"), "plüm".encode()),
        (Document(name="a.txt", text="\ud800"), b"?"),
        (Document(name="a.pdf", base64="cGx1bQ=="), b"plum"),
        (Document(name="報告　書.pdf", base64=""), b""),
        (Document(address="https://example.org"), None),
    ],
)
def test_what_is_in_a_document(given: Document, content: bytes | None) -> None:
    assert _content(given) == content


@pytest.mark.parametrize(
    "given",
    [
        Document(),
        Document(name="a.txt"),
        Document(name="a.txt", text="x", base64="eA=="),
        Document(text="x", address="https://example.org"),
    ],
)
def test_one_way_is_given(given: Document) -> None:
    with pytest.raises(RivuletError, match="one of text, base64 and address"):
        _content(given)


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", ".", "..", "/", "a/b.txt", "../a.txt", "/etc/passwd", "a/", "a\\b.txt"),
        *("a\x00.txt", "a\n.txt", "\x1b[2J.txt", "\ud800.txt", "é" * 101),
    ],
)
def test_a_name_is_that_of_a_file_in_no_folder(name: str) -> None:
    with pytest.raises(RivuletError, match="Give the file a name"):
        _content(Document(name=name, text="x"))


@pytest.mark.parametrize("coded", ["%", "eA", "é", "eA==\n", "http://example.org"])
def test_base64_is_base64(coded: str) -> None:
    with pytest.raises(RivuletError, match="not base64"):
        _content(Document(name="a.pdf", base64=coded))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "question: Field required."),
        ({"question": 7}, "question: Input should be a valid string."),
        ({"question": "?", "model": "x"}, "model: Extra inputs are not permitted."),
        ({"question": "?", "x" * 999: 1}, "x" * 100 + ": Extra inputs are not permitted."),
    ],
)
def test_what_is_wrong_with_arguments(arguments: dict[str, object], line: str) -> None:
    with pytest.raises(ValidationError) as raised:
        Question.model_validate(arguments)
    assert _wrong(raised.value) == line


def test_an_error_is_one_line() -> None:
    assert _failed("It is\n  so.").content[0].text == "It is so."


def test_an_answer_with_what_it_rests_on() -> None:
    given, found, other = (
        Node(text, f"document {number}", 0, 0, f"{number}.txt")
        for number, text in enumerate(("Plums are red.", "Pears are blue.", "No fruit."))
    )
    answer = Answer(
        text="Plums are red. Pears are 7. Figs are so.",
        sources=(NodeWithScore(given, 1.0),),
        others=(NodeWithScore(other, 0.5), NodeWithScore(found, 0.5)),
        citations=(
            Citation(0, 14, "supported", given, 0, 14),
            Citation(15, 27, "partly", found, 0, 15, missing=("7",)),
            Citation(28, 40, "none"),
        ),
        finish_reason="stop",
    )
    told = _answered(answer)
    assert (told.answer, told.ended) == (answer.text, "stop")
    # One that is cited is listed, though the model was not given it; one that is not, is not.
    assert [source.text for source in told.sources] == ["Plums are red.", "Pears are blue."]
    assert [
        (each.text, each.support, each.source, each.quote, each.missing) for each in told.sentences
    ] == [
        ("Plums are red.", "supported", 1, "Plums are red.", []),
        ("Pears are 7.", "partly", 2, "Pears are blue.", ["7"]),
        ("Figs are so.", "none", None, "", []),
    ]
