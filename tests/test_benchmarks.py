"""The benchmarks by hashed words, without LlamaIndex."""

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import benchmarks
from benchmarks import ROUNDS, citations, load, load_app, record, retrieval
from benchmarks.load_app import code_word
from benchmarks.load_clients import Asker, Page, Plan
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


# Load


@pytest.fixture
def asker() -> Asker:
    return Asker(Plan("", 1.0, 40, 30.0, 0.1), Page({"components": [], "dependencies": []}), "ann")


def test_an_answer_is_whole_cut_or_another_s(asker: Asker) -> None:
    whole = asker.expected(1)
    assert code_word("ann", 1) in whole
    assert len(whole.split()) == 40
    asker.check(whole, 1)
    assert not asker.found.wrong
    asker.check(whole.rpartition(" ")[0], 1)
    asker.check(asker.expected(2), 1)
    asker.check(whole.replace("ann", "bob"), 1)
    assert asker.found.did == {"cut": 1, "mixed up": 2}
    asker.stopped.add(1)
    asker.check(whole[:20], 1)
    assert asker.found.did["cut"] == 1


def test_the_model_says_what_the_passages_say() -> None:
    asked = load_app.question("ann", 1)
    found = f"{load_app.document('ann')}\n{load_app.document('bob')}\n{asked}"
    assert load_app.script(found, 40) == load_app.answer("ann", 1, code_word("ann", 1), 40)
    assert "is unknown." in load_app.script(f"{load_app.document('bob')}\n{asked}", 40)


def test_what_a_process_holds() -> None:
    process = load.Process(os.getpid())
    before = process.state()
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert process.state().connections == before.connections
        with socket.create_connection(server.getsockname()):
            assert process.state().connections == before.connections + 1
    after = process.state()
    assert after.connections == before.connections
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert process.state().threads == after.threads + 1
    over.set()
    thread.join()
    assert after.memory > 10
    assert after.processor >= before.processor > 0


def test_memory_grows_by_what_it_gains_in_a_minute() -> None:
    watch = load.Watch(load.Process(os.getpid()))
    grown = [500.0, 900.0, 1000.0, 1001.0, 1002.0]
    watch.states = [load.State(30.0 * n, mb, 1, 0, 0.0) for n, mb in enumerate(grown)]
    assert watch.slope(60) == pytest.approx(2.0)


@pytest.mark.slow
def test_all_clients_get_their_answers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "load --hash --clients 3 --programs 1 --chaos 0.4 --seconds 5 --tokens 20"
    monkeypatch.setattr(
        sys, "argv", [*arguments.split(), "--speed", "100", "--pause", "0.1", "--settle", "20"]
    )
    load.main()
    rows = dict(line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[4:])
    assert [rows[kind] for kind in load.KINDS] == ["0", "0", "0"]
    assert int(rows["questions answered"].split()[0]) > 2
    before, _, after = rows["connections: the same"].split(", ")
    assert after == before


RECORDED = ("first_token", "decoding", "decoding --same", "concurrency", "browser", "start")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of RESULTS.md, which is written to instead."""
    copy = tmp_path / "RESULTS.md"
    copy.write_text(benchmarks.RESULTS.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(benchmarks, "RESULTS", copy)
    return copy


@pytest.mark.parametrize("name", RECORDED)
def test_what_is_measured_is_written_down_in_its_place(
    results: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    before = results.read_text("utf-8")
    record(name, "an earlier one\n", ROUNDS)
    record(name, "a later one\n", ROUNDS)
    after = results.read_text("utf-8")
    assert f"<!-- {name} -->\n\na later one\n\n<!-- end -->\n" in after
    assert "an earlier one" not in after
    begin = before.index(f"<!-- {name} -->")
    assert after.startswith(before[:begin])
    assert after.endswith(before[before.index("<!-- end -->", begin) :])
    assert "a later one" in capsys.readouterr().out


def test_too_few_rounds_are_only_printed(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = results.read_text("utf-8")
    record("start", "| 7 |", ROUNDS - 1)
    assert results.read_text("utf-8") == before
    assert capsys.readouterr().out == "| 7 |\n"


def test_where_there_is_no_place_for_it_that_is_said(results: Path) -> None:
    before = results.read_text("utf-8")
    with pytest.raises(ValueError, match="no place for other"):
        record("other", "| 7 |")
    assert results.read_text("utf-8") == before
