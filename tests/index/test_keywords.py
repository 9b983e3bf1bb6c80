"""The index of words: what is found by them, in many languages, and by how much."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from rag.errors import StoreError
from rag.index import keywords
from rag.index.embedding import Embedded
from rag.index.keywords import KeywordIndex
from rag.types import Node


@pytest.fixture
def index() -> KeywordIndex:
    return KeywordIndex(None)


def nodes(*texts: str, id_: str = "d", headings: tuple[str, ...] = ()) -> list[Node]:
    return [Node(text, id_, n, n * 99, headings=headings) for n, text in enumerate(texts)]


def put(index: KeywordIndex, *texts: str, id_: str = "d", version: str = "1") -> int:
    pending = index.put(id_, {"id_": id_}, nodes(*texts, id_=id_))
    index.finish(pending.key, f"{id_}:{version}")
    return pending.first


def found(index: KeywordIndex, question: str, *documents: str) -> list[str]:
    numbers = list(index.search(question, 10, documents or None))
    texts = {passage.number: passage.node.text for passage in index.passages(numbers)}
    return [texts[number] for number in numbers]


def test_rare_words_count_more_and_the_best_come_first(index: KeywordIndex) -> None:
    put(index, "the rhine flows", "the elbe flows", "a river flows", "it rains")
    assert found(index, "flows rhine")[0] == "the rhine flows"
    assert len(found(index, "flows rhine")) == 3
    scores = list(index.search("flows rhine", 10).values())
    assert scores == sorted(scores, reverse=True)
    assert min(scores) >= 0
    assert len(index.search("flows", 2)) == 2
    assert found(index, "nowhere") == []
    assert found(index, "?!") == []


def test_headings_are_searched_and_count_more(index: KeywordIndex) -> None:
    below = index.put("a", {}, nodes("it is long", id_="a", headings=("Rhine",)))
    index.finish(below.key, "a:1")
    put(index, "the rhine and more of it", id_="b")
    put(index, *(f"filler {n}" for n in range(9)), id_="c")
    assert found(index, "rhine") == ["it is long", "the rhine and more of it"]


def test_exact_terms_numbers_names_and_codes_are_found(index: KeywordIndex) -> None:
    texts = ["Error E-4012 means no paper.", "Error E-4013: 2.5 mm too wide.", "Call f_open(x).",
             "Ask Mr Çelik.", "v1.10.2 came out", "It costs 1,299 EUR."]  # fmt: skip
    put(index, *texts)
    for question, text in zip(
        ("E-4012", "what is 2.5 mm", "f_open", "Celik", "1.10.2", "1,299"), texts, strict=True
    ):
        assert found(index, question)[0] == text


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("北京故宫建于明朝永乐年间。", "故宫是什么时候修建的?"),
        ("東京駅から成田空港までは特急で約五十三分かかります。", "成田空港まで何分かかる?"),
        ("กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย", "เมืองหลวงของไทยคืออะไร"),
        ("Das Gerät hat eine Garantie von zwei Jahren.", "Wie lange gilt die GARANTIE?"),
        ("Die Straße ist gesperrt.", "Welche Strasse?"),
        ("नदी उत्तर की ओर बहती है।", "नदी कहाँ बहती है?"),
        ("سعر الكتاب عشرة دنانير", "كم سعر الكتاب؟"),
        ("Le café est fermé.", "cafe"),
    ],
)
def test_other_languages_are_found(index: KeywordIndex, text: str, question: str) -> None:
    put(
        index, "Something else.", "別の文章です。", "别的东西。", "อย่างอื่น", text, "कुछ और", "شيء آخر"
    )
    assert found(index, question)[0] == text


def test_a_word_is_found_within_a_longer_one_where_it_is_rare(index: KeywordIndex) -> None:
    texts = [
        "Die Krankenversicherungsbeiträge trägt der Arbeitgeber.",
        "In den Sommerferien bleiben die Stadtbüchereien geschlossen.",
        "Mehrere Häuser sind alt.",
    ]
    put(index, *texts)
    assert found(index, "Wer zahlt den Beitrag?")[0] == texts[0]
    assert found(index, "Wann hat die Bücherei zu?")[0] == texts[1]
    assert found(index, "Versicherung") == texts[:1]
    assert found(index, "ferie hat") == texts[1:2]
    assert found(index, "feri") == []  # too short
    put(index, *(f"Ein Beitrag zu {n}." for n in range(20)), id_="known")
    assert texts[0] not in found(index, "Wer zahlt den Beitrag?")


def test_only_some_documents_are_searched(index: KeywordIndex) -> None:
    for id_ in "abc":
        put(index, f"rhine {id_}", id_=id_)
    assert sorted(found(index, "rhine", "a", "c")) == ["rhine a", "rhine c"]
    assert found(index, "rhine", "never there") == []
    assert index.search("rhine", 9, []) == {}


def test_very_many_documents_can_be_chosen(index: KeywordIndex) -> None:
    for n in range(450):
        put(index, f"rhine {n}", id_=str(n))
    chosen = [str(n) for n in range(449)]
    assert len(index.search("rhine", 999, chosen)) == 449
    assert found(index, "449", *chosen) == []


def test_a_pending_document_is_found_unless_an_older_version_is_there(index: KeywordIndex) -> None:
    put(index, "rhine old", id_="a")
    newer = index.put("a", {}, nodes("rhine new", id_="a"))
    other = index.put("b", {}, nodes("rhine other", id_="b"))
    assert sorted(found(index, "rhine")) == ["rhine old", "rhine other"]
    assert found(index, "rhine", "a") == ["rhine old"]
    index.finish(newer.key, "a:2")
    assert found(index, "rhine", "a") == ["rhine new"]
    assert set(index.records()) == {"a:2"}
    index.remove([other.key])
    assert found(index, "rhine") == ["rhine new"]


def test_vectors_and_signs_come_back(index: KeywordIndex) -> None:
    first = put(index, "one", "two")
    tokens = np.array([[1, -1, 0.5, -0.5], [-1, -1, -1, 1]], np.float32)
    vector = np.array([0.5, 0.5, 0.5, -0.5], np.float32)
    index.embed(first, [Embedded(vector, tokens), Embedded(vector, tokens[:0])])
    one, two = index.passages([first, first + 1])
    assert one.vector is not None
    assert one.vector.tolist() == vector.tolist()
    assert one.tokens is not None
    assert np.unpackbits(one.tokens, axis=1, count=4).tolist() == [[1, 0, 1, 0], [0, 0, 0, 1]]
    assert two.tokens is None
    numbers, vectors = index.vectors(["d"])
    assert (numbers, vectors.shape) == ([first, first + 1], (2, 4))
    assert (index.count(["d"]), index.count(["never there"]), index.count()) == (2, 0, 2)
    assert index.vectors(["never there"])[0] == []


def test_common_words_order_what_the_rare_ones_find(
    index: KeywordIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"common {'other ' * (n % 5)}" for n in range(40)]
    first = put(index, *texts, "rare other", "rare common", "common")
    every = index.search("rare common other", 50)
    monkeypatch.setattr(keywords, "SCORED", 3)
    few = index.search("rare common other", 50)
    assert few == {number: every[number] for number in few}
    assert set(few) == {first + 40, first + 41}


def test_numbers_of_removed_passages_find_nothing(index: KeywordIndex) -> None:
    first = put(index, "one")
    index.remove(["d:1", "never there"])
    assert index.passages([first]) == []
    assert index.numbers(["d:1"]) == {}
    assert index.search("one", 9) == {}


# On disk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("harm", ["damaged", "of another format"])
def test_a_file_that_cannot_be_used_is_made_anew(folder: Path, harm: str) -> None:
    put(KeywordIndex(folder), "one")
    assert found(KeywordIndex(folder), "one") == ["one"]
    if harm == "damaged":
        for file in folder.iterdir():
            file.write_bytes(b"no database at all" * 999)
    else:
        db = sqlite3.connect(folder / keywords.FILE)
        db.execute("PRAGMA user_version = 99")
        db.close()
    index = KeywordIndex(folder)
    assert found(index, "one") == []
    put(index, "two")
    assert found(index, "two") == ["two"]


def test_a_write_that_fails_is_told_and_undone(
    index: KeywordIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(index, "one")
    index._db.execute("CREATE TRIGGER no BEFORE INSERT ON passages BEGIN"
                      " SELECT RAISE(ABORT, 'database or disk is full'); END")  # fmt: skip
    with pytest.raises(StoreError, match=r"disk is full.*Is the disk full"):
        put(index, "two", id_="e")
    assert set(index.records()) == {"d:1"}
    assert found(index, "two") == []
    assert found(index, "one") == ["one"]
