"""The benchmark of retrieval by hashed words, without LlamaIndex."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import citations, retrieval
from rag.answering.defaults import Settings
from rag.evaluation.files import Entry, Question
from rag.index.embedding import HashEmbedding

ENTRIES = [
    Entry("rhine", "The Rhine", "It flows north."),
    Entry("elbe", "The Elbe", "It flows past Hamburg, and on."),
    Entry("cat", "Cats", 'They say "meow".'),
]


@pytest.fixture(autouse=True)
def hashed() -> Iterator[None]:
    Settings.embed_model = HashEmbedding()
    yield
    Settings.embed_model = None


def asked(*texts: str) -> list[Question]:
    return [Question(text, text, {"rhine": 1.0}, ()) for text in texts]


def test_vectors_alone_rank_all_entries() -> None:
    (first, second) = retrieval.vectors_alone(ENTRIES, asked("the rhine flows north", "cats say"))
    assert first == ["rhine", "elbe", "cat"]
    assert second[0] == "cat"


def test_bm25_alone_ranks_those_with_a_word_of_the_question() -> None:
    questions = asked('"Hamburg" AND (flows) NOT x*', "CATS", "?!", "nothing")
    assert retrieval.bm25_alone(ENTRIES, questions) == [["elbe", "rhine"], ["cat"], [], []]


def test_rankings_are_fused_by_their_ranks() -> None:
    """a: 1/61 + 1/63, b: 1/62 + 1/61, c: 1/63, d: 1/62."""
    assert retrieval.fused(["a", "b", "c"], ["b", "d", "a"]) == ["b", "a", "d", "c"]
    assert retrieval.fused([], ["x"]) == ["x"]


def test_the_table_has_a_row_for_all_that_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("squad", "cranfield"):
        (tmp_path / name).mkdir()
        entries = [{"id": e.id_, "title": e.title, "text": e.text} for e in ENTRIES]
        questions = [
            {"id": "1", "question": "Where does the Rhine flow north?", "passages": ["rhine"]},
            {"id": "2", "question": "Who sings?", "passages": []},
        ]
        for file, lines in (("corpus", entries), ("questions", questions)):
            text = "".join(json.dumps(line) + "\n" for line in lines)
            (tmp_path / name / f"{file}.jsonl").write_text(text)
    retrieval.main(["--data", str(tmp_path), "--no-peer"])
    machine, _, *table = capsys.readouterr().out.splitlines()
    assert "torch 2" in machine
    assert table[0].startswith("|  | SQuAD recall@1 | SQuAD recall@5 |")
    names = [row.split(" | ")[0] for row in table[2:]]
    assert names == [
        *("| vectors alone", "| BM25 alone", "| reciprocal-rank fusion of both"),
        *("| Rivulet, keyword", "| Rivulet, dense", "| Rivulet, hybrid"),
    ]
    assert all(row.endswith("| 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |") for row in table[2:])


# Citations


def test_questions_are_turned_into_statements() -> None:
    assert (
        citations.statement("Who was the Norse leader?", "Rollo") == "Rollo was the Norse leader."
    )
    assert citations.statement("What is the capital?", "Lisbon.") == "The capital is Lisbon."
    assert citations.statement("When did it fall?", "1847") == "It fall in 1847."
    assert citations.statement("How so?", "x") == ""


def test_the_sentences_of_answers_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {
        "Rhine/0": "The river was bridged by Rollo in 1847. Barges are common, and Karl liked 12.",
        "Rhine/1": "Castles stand above the vineyards along the banks of this valley.",
        "Cats/0": "The kitten sleeps under a warm blanket beside Anna in 1902. It likes Ben.",
        "Cats/1": "Whiskers help an animal to find its way in darkness.",
    }
    entries = [{"id": id_, "title": id_[:-2], "text": text} for id_, text in texts.items()]
    questions = [
        {
            "id": str(n),
            "question": question,
            "passages": [id_],
            "answers": [text],
        }
        for n, (question, id_, text) in enumerate(
            [
                ("Who was the river bridged by?", "Rhine/0", "Rollo"),
                ("Who was the kitten beside?", "Cats/0", "Anna"),
            ]
        )
    ]
    (tmp_path / "squad").mkdir()
    for file, lines in (("corpus", entries), ("questions", questions)):
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / "squad" / f"{file}.jsonl").write_text(text)
    citations.main(["--data", str(tmp_path)])
    out = capsys.readouterr().out
    assert out.count("| gold | 1 | 1.000 | 0.000 | 0.000 |") == 2
    assert out.count("| number | 1 | 0.000 | 1.000 | 0.000 |") == 2
