"""What belongs to one browser, and to no other."""

import dataclasses
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from rag.answering.events import Timings
from rag.errors import EmbeddingMismatchError, RivuletError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Ingested, ingest
from rag.index.store import ChromaStore
from rag.types import Document, Node, NodeWithScore, Usage
from rag.ui import sessions as module
from rag.ui.jobs import Job, Note
from rag.ui.sessions import Session, Sessions, Turn

EMBEDDING = HashEmbedding()
HIT = NodeWithScore(Node("The sky is blue.", "d", 3, 17, "a.md", 2, ("Nature", "The sky")), 0.75)
FULL = Turn(
    "Why? 🙂",
    "m",
    "Because <b>.\n\n    code",
    (HIT,),
    (HIT, HIT),
    "length",
    "oh no",
    Usage(5, 7),
    Timings(0.1, 0.2, 30.0),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


@pytest.fixture
def sessions(folder: Path) -> Iterator[Sessions]:
    made = Sessions(folder, EMBEDDING.name)
    yield made
    if made._stores:
        made.close()


def put(sessions: Sessions, session: Session, text: str, name: str = "a.txt") -> str:
    """Add a document; its id."""
    with sessions.store(session) as store:
        *_, last = ingest(Document(text, {"file_name": name}), store, EMBEDDING)
    assert isinstance(last, Ingested)
    return last.document_id


def search(sessions: Sessions, session: Session, question: str) -> list[str]:
    with sessions.store(session) as store:
        return [hit.node.text for hit in store.query(EMBEDDING.embed_query(question).vector, 5)]


def holding(folder: Path, text: str) -> list[Path]:
    """The files below `folder` in which `text` stands, in one way or another of writing it."""
    ways = [text.encode(), text.encode("utf-16-le"), text.lower().encode()]
    return [
        file
        for file in folder.rglob("*")
        if file.is_file() and any(way in file.read_bytes() for way in ways)
    ]


def test_the_same_browser_gets_the_same_session(sessions: Sessions) -> None:
    assert sessions.get("one") is sessions.get("one")
    assert sessions.get("one") is not sessions.get("two")


def test_the_folder_does_not_tell_the_identity(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("../../a secret")
    assert session.folder.parent == folder
    assert "secret" not in session.folder.name


def test_looking_makes_nothing(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("one")
    assert not sessions.has_documents(session)
    assert sessions.documents(session) == []
    sessions.remove_document(session, "none")
    assert not folder.exists()


def test_two_browsers_see_nothing_of_each_other(sessions: Sessions, folder: Path) -> None:
    one, two = sessions.get("one"), sessions.get("two")
    put(sessions, one, "The apple is red.", "apple.txt")
    put(sessions, two, "The banana is yellow.", "banana.txt")
    one.turns.append(Turn("About apples?"))
    one.stop.set()
    one.jobs.append(Job(folder / "x", "x"))
    one.notes.append(Note("good", "x is ready."))
    assert [document.name for document in sessions.documents(one)] == ["apple.txt"]
    assert [document.name for document in sessions.documents(two)] == ["banana.txt"]
    assert search(sessions, one, "banana yellow") == ["The apple is red."]
    assert search(sessions, two, "apple red") == ["The banana is yellow."]
    assert two.turns == []
    assert not two.stop.is_set()
    assert two.jobs == []
    assert two.notes == []


def test_everything_is_there_after_a_restart(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("one")
    put(sessions, session, "The apple is red.", "apple.txt")
    session.turns = [FULL, Turn("Next?", answer="Yes.", finish_reason="stop")]
    session.save()
    sessions.close()
    again = Sessions(folder, EMBEDDING.name)
    assert again.get("one").turns == session.turns
    assert search(again, again.get("one"), "apple") == ["The apple is red."]
    assert again.get("two").turns == []
    again.close()


def test_an_answer_that_was_being_written_is_truncated_after_a_restart(folder: Path) -> None:
    session = Session(folder / "x")
    session.turns = [Turn("Why?", answer="Because")]
    session.save()
    (turn,) = Session(folder / "x").turns
    assert turn.finish_reason == "truncated"
    assert turn.answer == "Because"


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b'[{"question": "Wh',
        b"\xff\xfe\x00",
        b"null",
        b"7",
        b'{"turns": []}',
        b"[1]",
        b'["text"]',
        b"[[]]",
        b'[{"question": "Why?"}]',
        b'[{"sources": [1], "others": [], "usage": null, "timings": {}}]',
        b'[{"sources": [], "others": [], "usage": null, "timings": {}, "of a later version": 1}]',
    ],
)
def test_a_damaged_conversation_is_kept_aside(
    folder: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "x").mkdir(parents=True)
    kept = folder / "x" / "conversation.json"
    kept.write_bytes(damage)
    with caplog.at_level(logging.ERROR):
        session = Session(folder / "x")
    assert session.turns == []
    assert (folder / "x" / "conversation.damaged.json").read_bytes() == damage
    assert not kept.exists()
    assert "cannot be read" in caplog.text
    session.turns.append(FULL)
    session.save()
    assert Session(folder / "x").turns == [FULL]


def test_a_conversation_is_written_wholly_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(folder / "x")
    session.turns = [FULL]
    session.save()

    def half(self: Path, text: str, *_: str) -> int:
        with self.open("w") as file:
            file.write(text[:20])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        session.turns = [FULL, FULL]
        with pytest.raises(OSError, match="No space"):
            session.save()
    assert Session(folder / "x").turns == [FULL]


def test_forgetting_leaves_no_byte(sessions: Sessions, folder: Path) -> None:
    session, other = sessions.get("one"), sessions.get("two")
    put(sessions, session, "The zanzibarquince is red.")
    put(sessions, other, "Something else.")
    session.turns = [Turn("What about the zanzibarquince?", finish_reason="stop")]
    session.save()
    assert holding(folder, "zanzibarquince")  # what is looked for can be found
    sessions.forget(session)
    assert holding(folder, "zanzibarquince") == []
    assert not session.folder.exists()
    assert session.turns == []
    assert session.stop.is_set()
    new = sessions.get("one")
    assert new is not session
    assert sessions.documents(new) == []
    assert search(sessions, other, "else") == ["Something else."]


def test_after_forgetting_one_can_begin_again(sessions: Sessions) -> None:
    put(sessions, sessions.get("one"), "The apple is red.")
    sessions.forget(sessions.get("one"))
    session = sessions.get("one")
    put(sessions, session, "The banana is yellow.")
    assert search(sessions, session, "apple") == ["The banana is yellow."]


def test_forgetting_waits_for_the_running_answer(sessions: Sessions) -> None:
    session = sessions.get("one")
    session.turns = [Turn("Why?")]
    session.save()
    session.lock.acquire()
    forgetting = threading.Thread(target=sessions.forget, args=(session,))
    forgetting.start()
    assert session.stop.wait(10)
    session.save()  # the answer that was stopped
    session.lock.release()
    forgetting.join(10)
    assert not session.folder.exists()


def test_what_comes_in_while_it_is_forgotten_is_not_kept(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("one")
    document = Document("The zanzibarquince is red.", {"file_name": "a.txt"})
    with sessions.store(session) as store:
        steps = ingest(document, store, EMBEDDING)
        next(steps)
        sessions.forget(session)
        with suppress(Exception):  # of Chroma's kinds, as its index is closed
            list(steps)
    with pytest.raises(RivuletError), sessions.store(session):
        pass
    assert holding(folder, "zanzibarquince") == []
    assert not sessions.has_documents(sessions.get("one"))


def test_a_question_that_was_waiting_leaves_nothing_either(sessions: Sessions) -> None:
    session = sessions.get("one")
    sessions.forget(session)
    session.turns.append(Turn("Why?"))
    session.save()
    assert not session.folder.exists()
    assert sessions.get("one").turns == []


def test_removing_one_document_keeps_the_others(sessions: Sessions) -> None:
    session = sessions.get("one")
    first = put(sessions, session, "The apple is red.", "apple.txt")
    put(sessions, session, "The banana is yellow.", "banana.txt")
    sessions.remove_document(session, first)
    assert search(sessions, session, "apple") == ["The banana is yellow."]


def test_removing_the_last_document_leaves_no_byte(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("one")
    ids = [put(sessions, session, f"The zanzibarquince {n} is red.") for n in range(2)]
    for id_ in ids:
        assert holding(folder, "zanzibarquince")
        sessions.remove_document(session, id_)
    assert holding(folder, "zanzibarquince") == []
    assert not sessions.has_documents(session)
    put(sessions, session, "The banana is yellow.")
    assert search(sessions, session, "apple") == ["The banana is yellow."]


def test_the_index_that_a_file_is_going_into_is_not_removed(sessions: Sessions) -> None:
    session = sessions.get("one")
    id_ = put(sessions, session, "The apple is red.")
    with sessions.store(session):
        sessions.remove_document(session, id_)
        assert sessions.has_documents(session)
    assert sessions.documents(session) == []


def test_another_embedding_model_is_told(folder: Path, sessions: Sessions) -> None:
    put(sessions, sessions.get("one"), "The apple is red.")
    sessions.close()
    other = Sessions(folder, "another")
    with pytest.raises(EmbeddingMismatchError, match="hash"):
        other.documents(other.get("one"))
    other.forget(other.get("one"))  # as the message says
    assert other.documents(other.get("one")) == []
    other.close()


def test_only_so_many_indexes_are_open(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_STORES", 2)
    names = [f"browser {n}" for n in range(8)]
    for name in names[:2]:
        put(sessions, sessions.get(name), f"This is of {name}.")
    threads = threading.active_count()
    for name in names[2:]:
        put(sessions, sessions.get(name), f"This is of {name}.")
    for name in names * 2:
        assert search(sessions, sessions.get(name), "of") == [f"This is of {name}."]
    assert len(sessions._stores) == 2
    # One index more may have its threads for a moment, but they do not add up.
    assert threading.active_count() <= threads + 6


def test_the_index_closed_is_the_one_used_longest_ago(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_STORES", 2)
    opened: list[ChromaStore] = []
    for name in ("one", "two", "one", "three", "one"):
        with sessions.store(sessions.get(name)) as store:
            opened.append(store)
    first, _, second, _, third = opened
    assert first is second is third


def test_an_index_in_use_is_not_closed(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_STORES", 1)
    one = sessions.get("one")
    put(sessions, one, "The apple is red.")
    with sessions.store(one) as store:
        for name in ("two", "three"):
            put(sessions, sessions.get(name), "Something else.")
        assert store.documents()  # it would raise
        with sessions.store(one) as same:
            assert same is store
        put(sessions, sessions.get("two"), "Something more.")
        assert store.documents()
    put(sessions, sessions.get("three"), "Something more.")
    assert one.folder.name not in sessions._stores
    assert search(sessions, one, "apple") == ["The apple is red."]


def test_many_at_once(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Indexes are opened and closed below those who use them, and nobody notices."""
    monkeypatch.setattr(module, "OPEN_STORES", 2)
    problems: list[Exception] = []

    def use(name: str) -> None:
        try:
            for n in range(4):
                session = sessions.get(name)
                id_ = put(sessions, session, f"Text {n} of {name}.")
                assert search(sessions, session, "of") == [f"Text {n} of {name}."]
                sessions.remove_document(session, id_)
        except Exception as error:
            problems.append(error)

    threads = [threading.Thread(target=use, args=(f"browser {n}",)) for n in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []


def test_closing_stops_the_answers(sessions: Sessions) -> None:
    session = sessions.get("one")
    put(sessions, session, "The apple is red.")
    sessions.close()
    assert session.stop.is_set()
    assert sessions._stores == {}


def test_a_kept_conversation_is_plain_json(folder: Path) -> None:
    session = Session(folder / "x")
    session.turns = [FULL]
    session.save()
    (kept,) = json.loads((folder / "x" / "conversation.json").read_text("utf-8"))
    assert kept["question"] == "Why? 🙂"
    assert kept["sources"][0]["node"]["headings"] == ["Nature", "The sky"]


def test_how_a_passage_was_found_is_kept(folder: Path) -> None:
    hit = dataclasses.replace(HIT, found_by=("meaning", "words"))
    Session(folder, [Turn("Why?", sources=(hit,))]).save()
    assert Session(folder).turns[0].sources == (hit,)
    kept = json.loads((folder / "conversation.json").read_text("utf-8"))
    del kept[0]["sources"][0]["found_by"]  # of an older version
    (folder / "conversation.json").write_text(json.dumps(kept), "utf-8")
    assert Session(folder).turns[0].sources == (HIT,)


def test_originals_that_a_crash_left_go_when_the_index_is_opened(
    sessions: Sessions, folder: Path
) -> None:
    session = sessions.get("one")
    put(sessions, session, "The sky is blue.")
    (record,) = sessions.documents(session)
    originals = session.folder / "originals"
    (originals / "tmp").mkdir(parents=True)
    kept = originals / f"{record.id_}-{record.text_hash}.pdf"
    for file in (kept, originals / f"{record.id_}-newer.pdf", originals / "tmp" / "a.pdf"):
        file.write_bytes(b"%PDF-")
    assert len(sessions.documents(session)) == 1
    assert len(list(originals.iterdir())) == 3  # one of them may be on its way in
    sessions.close()
    again = Sessions(folder, EMBEDDING.name)
    assert len(again.documents(again.get("one"))) == 1
    assert list(originals.iterdir()) == [kept]
    again.remove_document(again.get("one"), record.id_)
    assert not originals.exists()
    again.close()
