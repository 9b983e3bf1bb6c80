"""What a corpus and its questions may look like, and what is said where they do not."""

import json
from pathlib import Path
from typing import Any

import pytest

from rag.documents.splitting import split
from rag.errors import DocumentError
from rag.evaluation.files import Entry, Question, read_corpus, read_questions
from rag.index.embedding import HashEmbedding

ENTRY = {"id": "a", "title": "Rivers", "text": "The Rhine flows north."}
QUESTION = {"id": "q", "question": "Where does it flow?", "answers": ["north"], "passages": ["a"]}


def lines(path: Path, *items: Any) -> Path:
    """A file with one line for each of `items`, JSON but where it is a text already."""
    texts = [item if isinstance(item, str) else json.dumps(item) for item in items]
    path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return path


def test_entries_and_questions_are_read(tmp_path: Path) -> None:
    assert read_corpus(lines(tmp_path / "c", ENTRY)) == [
        Entry("a", "Rivers", "The Rhine flows north.")
    ]
    graded = {"id": "g", "question": "Where?", "relevance": {"a": 3, "b": 0}}
    neither = {"id": "n", "question": "Why?", "answers": [], "passages": []}
    read = read_questions(lines(tmp_path / "q", QUESTION, graded, neither), {"a", "b"})
    assert read == [
        Question("q", "Where does it flow?", {"a": 1.0}, ("north",)),
        Question("g", "Where?", {"a": 3.0, "b": 0.0}, ()),
        Question("n", "Why?", {}, ()),
    ]
    assert [question.is_searchable for question in read] == [True, True, False]
    assert [question.is_answerable for question in read] == [True, True, False]


def test_what_is_known_of_an_answer_may_be_less(tmp_path: Path) -> None:
    only_text = {"id": "t", "question": "Why?", "answers": ["so"], "passages": []}
    only_place = {"id": "p", "question": "Why?", "passages": ["a"]}
    ungraded = {"id": "u", "question": "Why?", "relevance": {"a": 0}}
    read = read_questions(lines(tmp_path / "q", only_text, only_place, ungraded), {"a"})
    assert [question.is_searchable for question in read] == [False, True, False]
    assert [question.is_answerable for question in read] == [True, True, False]


def test_other_programs_files_are_read(tmp_path: Path) -> None:
    """A byte order mark, blank lines, Windows' line ends, ids that are numbers, no title, more."""
    path = tmp_path / "c"
    path.write_bytes(b'\xef\xbb\xbf{"id": 1, "text": "x", "url": "y"}\r\n\r\n{"id":"2","text":"z"}')
    assert read_corpus(path) == [Entry("1", "", "x"), Entry("2", "", "z")]
    asked = lines(tmp_path / "q", {"id": 7, "question": "x?", "passages": [1, "2"]})
    assert read_questions(asked, {"1", "2"})[0].grades == {"1": 1.0, "2": 1.0}


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    corpus = read_corpus(lines(tmp_path / "c", '{"id": "a\\ud800", "text": "b\\udfff"}'))
    assert corpus == [Entry("a\ufffd", "", "b\ufffd")]
    assert corpus[0].document.id_ == corpus[0].id_


def test_the_title_stands_above_the_text_as_a_heading() -> None:
    document = Entry("a", " Rivers\nof Europe ", "The Rhine flows north.").document
    (node,) = split(document, HashEmbedding().tokenizer)
    assert (node.text, node.headings) == ("The Rhine flows north.", ("Rivers of Europe",))
    assert (node.file_name, node.document_id) == ("Rivers of Europe", "a")
    document = Entry("a/1", "", "The Rhine flows north.").document
    (node,) = split(document, HashEmbedding().tokenizer)
    assert (node.text, node.headings, node.file_name) == ("The Rhine flows north.", (), "a/1")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: this is not JSON: "),
        ("[1]", "line 2: this is not a JSON object"),
        ("7", "line 2: this is not a JSON object"),
        ("[" * 100_000, "line 2: this is JSON that cannot be read"),
        ('{"id": ' + "9" * 5000 + "}", "line 2: this is JSON that cannot be read"),
        ({"title": "t", "text": "x"}, 'line 2: "id" is missing'),
        ({"id": "b", "title": "t"}, 'line 2: "text" is missing'),
        ({"id": "b", "text": 3}, 'line 2: "text" has to be a text'),
        ({"id": "b", "text": " \n"}, 'line 2: "text" is empty'),
        ({"id": "b", "title": None, "text": "x"}, 'line 2: "title" has to be a text'),
        ({"id": "", "text": "x"}, "line 2: an id has to be a text or a whole number"),
        ({"id": True, "text": "x"}, "line 2: an id has to be a text or a whole number"),
        ({"id": 1.5, "text": "x"}, "line 2: an id has to be a text or a whole number"),
        (ENTRY, "line 2: the id 'a' was there before"),
    ],
)
def test_a_line_of_the_corpus_that_cannot_be_used_is_named(
    tmp_path: Path, line: Any, says: str
) -> None:
    path = lines(tmp_path / "corpus.jsonl", ENTRY, line)
    with pytest.raises(DocumentError) as raised:
        read_corpus(path)
    assert str(raised.value).startswith(f"{path}: {says}")
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": ""}, '"question" is empty'),
        ({"question": 1}, '"question" has to be a text'),
        ({"passages": ["a", "b"]}, "there is no 'b' in the corpus"),
        ({"passages": "a"}, '"passages" has to be a list'),
        ({"passages": [["a"]]}, "an id has to be a text or a whole number"),
        ({"answers": "north"}, '"answers" has to be a list'),
        ({"answers": [1]}, '"answers" has to be texts'),
        ({"answers": [""]}, '"answers" has to be texts'),
        ({"relevance": {"b": 1}}, "there is no 'b' in the corpus"),
        ({"relevance": ["a"]}, '"relevance" has to be numbers from 0 to 100'),
        ({"relevance": {"a": -1}}, '"relevance" has to be numbers from 0 to 100'),
        ({"relevance": {"a": 101}}, '"relevance" has to be numbers from 0 to 100'),
        ({"relevance": {"a": float("nan")}}, '"relevance" has to be numbers from 0 to 100'),
        ({"relevance": {"a": True}}, '"relevance" has to be numbers from 0 to 100'),
        ({"id": "first"}, "the id 'first' was there before"),
    ],
)
def test_a_question_that_cannot_be_used_is_named(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    path = lines(tmp_path / "q", {**QUESTION, "id": "first"}, "", {**QUESTION, **change})
    with pytest.raises(DocumentError) as raised:
        read_questions(path, {"a"})
    assert str(raised.value).startswith(f"{path}: line 3: {says}")


def test_fields_that_are_missing_are_named(tmp_path: Path) -> None:
    for field, says in (("id", '"id"'), ("question", '"question"'), ("passages", '"passages" or')):
        fields = {name: value for name, value in QUESTION.items() if name != field}
        with pytest.raises(DocumentError, match=f"line 1: {says}.* is missing"):
            read_questions(lines(tmp_path / "q", fields), {"a"})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n\n")
    (tmp_path / "latin").write_bytes(b'{"id": "\xe4", "text": "x"}\n')
    for name, says in (
        ("missing", "it cannot be read: No such file or directory."),
        (".", "it cannot be read: Is a directory."),
        ("empty", "the file is empty."),
        ("latin", "it is not UTF-8."),
    ):
        with pytest.raises(DocumentError) as raised:
            read_corpus(tmp_path / name)
        assert str(raised.value) == f"{tmp_path / name}: {says}"
