"""What belongs to one browser, and to no other."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rag.answering.options import AnswerOptions
from rag.errors import EmbeddingMismatchError, RivuletError, StoreError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Ingested, ingest
from rag.index.store import ChromaStore
from rag.types import Document, Node, NodeWithScore
from rag.ui import sessions as module
from rag.ui.conversations import Answer, Conversation, Turn
from rag.ui.jobs import Job, Note
from rag.ui.preferences import Preferences
from rag.ui.sessions import Session, Sessions

EMBEDDING = HashEmbedding()
HIT = NodeWithScore(Node("The sky is blue.", "d", 3, 17, "a.md", 2, ("Nature", "The sky")), 0.75)


def turn(question: str = "Why? 🙂", text: str = "Because.") -> Turn:
    return Turn(question, [Answer("m", text, (HIT,), finish_reason="stop")])


def kept(session: Session, *turns: Turn) -> Conversation:
    """A conversation of these turns, on the disk."""
    conversation = session.begin()
    conversation.turns[:] = turns or [turn()]
    session.keep(conversation)
    return conversation


def files(session: Session) -> list[str]:
    return sorted(file.name for file in (session.folder / "conversations").glob("*"))


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
    about = kept(one, turn("About apples?"))
    one.stop_all()
    one.prefer(Preferences("another"))
    one.jobs.append(Job(folder / "x", "x"))
    one.notes.append(Note("good", "x is ready."))
    assert [document.name for document in sessions.documents(one)] == ["apple.txt"]
    assert [document.name for document in sessions.documents(two)] == ["banana.txt"]
    assert search(sessions, one, "banana yellow") == ["The apple is red."]
    assert search(sessions, two, "apple red") == ["The banana is yellow."]
    assert two.conversations == []
    assert two.conversation(about.key) is None
    assert not two.begin().stop.is_set()
    assert two.preferences == Preferences()
    assert two.jobs == []
    assert two.notes == []


def test_everything_is_there_after_a_restart(sessions: Sessions, folder: Path) -> None:
    session = sessions.get("one")
    put(sessions, session, "The apple is red.", "apple.txt")
    first = kept(session, turn(), turn("Next?"))
    second = kept(session, turn("Something else?"))
    session.rename(second.key, "Else")
    session.prefer(Preferences("m", AnswerOptions(top_k=7)))
    sessions.close()
    again = Sessions(folder, EMBEDDING.name)
    one = again.get("one")
    assert one.conversations == session.conversations == [second.entry, first.entry]
    assert [entry.name for entry in one.conversations] == ["Else", "Why? 🙂"]
    for conversation in (first, second):
        opened = one.conversation(conversation.key)
        assert opened
        assert opened.turns == conversation.turns
        assert opened.title == conversation.title
    assert one.preferences == session.preferences
    assert search(again, one, "apple") == ["The apple is red."]
    assert again.get("two").conversations == []
    again.close()


def test_a_new_conversation_is_the_same_one_until_it_is_used(folder: Path) -> None:
    session = Session(folder / "x")
    first = session.begin()
    assert session.begin() is first
    assert session.conversation(first.key) is first
    assert session.conversations == []
    assert not folder.exists()
    first.turns.append(turn())
    session.keep(first)
    assert session.begin() is not first
    assert session.conversations == [first.entry]


def test_one_that_is_about_to_be_used_is_not_given_again(folder: Path) -> None:
    session = Session(folder / "x")
    first = session.begin()
    with first.lock:  # its first question comes at this moment
        second = session.begin()
    assert second is not first
    first.turns.append(turn())
    session.keep(first)
    assert session.conversations == [first.entry]


def test_the_one_changed_last_comes_first(folder: Path) -> None:
    session = Session(folder / "x")
    first, second = kept(session), kept(session)
    assert session.conversations == [second.entry, first.entry]
    session.keep(first)
    assert session.conversations == [first.entry, second.entry]
    session.rename(second.key, "Renamed")
    assert session.conversations == [first.entry, second.entry]


def test_a_clock_that_is_set_back_changes_nothing_in_the_order(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    session = Session(folder)
    for name, when in (("one", now), ("two", now + 86_400), ("three", now - 3600), ("one", now)):
        monkeypatch.setattr(time, "time", lambda when=when: when)
        found = next((each for each in session.opened() if each.name == name), None)
        conversation = found or session.begin()
        conversation.turns = [Turn(name)]
        session.keep(conversation)
    for again in (session, Session(folder)):
        assert [each.name for each in again.conversations] == ["one", "three", "two"]
    assert session.shown("new tab").name == "one"


def test_only_the_conversation_that_has_changed_is_written(folder: Path) -> None:
    session = Session(folder / "x")
    first, second = kept(session), kept(session)
    before = session._file(first.key).stat()
    session.keep(second)
    after = session._file(first.key).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_the_list_is_there_without_reading_the_rest(folder: Path) -> None:
    one = kept(Session(folder / "x"))
    session = Session(folder / "x")
    assert session.conversations == [one.entry]
    assert session.opened() == []
    assert session.conversation(one.key) is session.conversation(one.key)
    assert len(session.opened()) == 1


def test_renaming(folder: Path) -> None:
    session = Session(folder / "x")
    conversation = kept(session)
    session.rename(conversation.key, "  The\n sky\x00 ")
    assert [entry.name for entry in Session(folder / "x").conversations] == ["The sky"]
    session.rename(conversation.key, " ")
    assert [entry.name for entry in Session(folder / "x").conversations] == ["Why? 🙂"]
    again = Session(folder / "x")  # one that is only listed yet
    again.rename(conversation.key, "Opened for it")
    assert [entry.name for entry in Session(folder / "x").conversations] == ["Opened for it"]


def test_one_without_turns_has_no_name_and_no_file(folder: Path) -> None:
    session = Session(folder / "x")
    conversation = kept(session)
    session.rename(conversation.key, "Sky")
    conversation.turns.clear()
    session.keep(conversation)
    assert files(session) == []
    assert session.conversations == []
    assert session.begin() is conversation
    assert conversation.title == ""
    session.rename(conversation.key, "Nothing")
    assert conversation.title == ""


@pytest.mark.parametrize("opened", [True, False])
def test_deleting(folder: Path, opened: bool) -> None:
    session = Session(folder / "x")
    gone, stays = kept(session), kept(session)
    if not opened:
        session = Session(folder / "x")
    session.delete(gone.key)
    session.delete(gone.key)
    assert session.conversations == [stays.entry]
    assert session.conversation(gone.key) is None
    assert files(session) == [f"{stays.key}.json"]
    assert Session(folder / "x").conversations == [stays.entry]


def test_deleting_ends_the_answer_that_is_being_written(folder: Path) -> None:
    session = Session(folder / "x")
    conversation = kept(session)
    ended = []

    def answer() -> None:
        with conversation.lock:
            begun.set()
            assert conversation.stop.wait(10)
            session.keep(conversation)  # as far as it came
            ended.append(True)

    begun = threading.Event()
    answering = threading.Thread(target=answer)
    answering.start()
    assert begun.wait(10)
    session.delete(conversation.key)
    assert ended
    assert files(session) == []
    assert session.conversations == Session(folder / "x").conversations == []
    answering.join(10)
    session.keep(conversation)  # of another tab that still has it
    session.rename(conversation.key, "Back")
    assert files(session) == []
    assert not conversation.lock.locked()


def test_an_answer_that_does_not_end_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    session = Session(folder / "x")
    conversation = kept(session)
    with conversation.lock:
        session.delete(conversation.key)
    assert files(session) == []


def test_a_conversation_that_cannot_be_removed_stays(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(folder / "x")
    conversation = kept(session)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refused)
        with pytest.raises(PermissionError):
            session.delete(conversation.key)
    assert session.conversations == [conversation.entry]
    assert not conversation.deleted


def test_forged_keys_get_nothing(sessions: Sessions, folder: Path) -> None:
    one, two = sessions.get("one"), sessions.get("two")
    theirs = kept(one)
    mine = kept(two)
    secret = folder / "secret.json"
    secret.write_text("{}")
    for key in (
        "../secret",
        "../../secret",
        f"../../{one.folder.name}/conversations/{theirs.key}",
        theirs.key,
        str(secret.with_suffix("")),
        "",
        ".",
        f"{mine.key}.json",
        f"{mine.key}\x00",
        "preferences",
        None,
        [mine.key],
        {"key": mine.key},
    ):
        assert two.conversation(key) is None
        two.rename(key, "Taken")
        two.delete(key)
    assert secret.exists()
    assert one.conversations == [theirs.entry]
    assert two.conversations == [mine.entry]
    assert Session(one.folder).conversations == [theirs.entry]


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    session = Session(folder / "x")
    conversation = kept(session)
    odd = session.folder / "conversations" / "notes of mine.json"
    odd.write_text("not a conversation")
    again = Session(folder / "x")
    assert again.conversations == [conversation.entry]
    assert again.conversation("notes of mine") is None
    assert odd.exists()
    assert again.notes == []


def test_an_answer_that_was_being_written_is_truncated_after_a_restart(folder: Path) -> None:
    conversation = kept(Session(folder / "x"), Turn("Why?", [Answer("m", "Because")]))
    opened = Session(folder / "x").conversation(conversation.key)
    assert opened
    (answer,) = opened.turns[0].answers
    assert (answer.finish_reason, answer.text) == ("truncated", "Because")


@pytest.mark.parametrize("whole", [b"", b"\xff\xfe\x00", b"null", b"[]", b'{"name": "Wh'])
def test_a_damaged_conversation_costs_only_itself(
    folder: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    session = Session(folder / "x")
    damaged, other = kept(session), kept(session)
    session._file(damaged.key).write_bytes(whole)
    with caplog.at_level(logging.ERROR):
        again = Session(folder / "x")
        assert again.conversations == [other.entry]
    assert "cannot be read" in caplog.text
    aside = f"{damaged.key}.damaged.json"
    assert (again.folder / "conversations" / aside).read_bytes() == whole
    (note,) = again.notes
    assert note.kind == "bad"
    assert aside in note.said()
    assert Session(folder / "x").notes == []  # told once
    assert Session(folder / "x").conversations == [other.entry]


def test_one_that_turns_out_damaged_when_it_is_opened(folder: Path) -> None:
    session = Session(folder / "x")
    damaged, other = kept(session), kept(session)
    file = session._file(damaged.key)
    file.write_bytes(file.read_bytes()[:-20])
    again = Session(folder / "x")
    assert len(again.conversations) == 2
    assert again.conversation(damaged.key) is None
    assert again.conversations == [other.entry]
    assert "“Why? 🙂”" in again.notes[0].said()
    assert files(again) == sorted([f"{damaged.key}.damaged.json", f"{other.key}.json"])


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may read everything")
def test_one_that_may_not_be_read_is_not_laid_aside(folder: Path) -> None:
    session = Session(folder / "x")
    conversation = kept(session)
    session._file(conversation.key).chmod(0)
    again = Session(folder / "x")
    assert again.conversations == []
    assert "Permission denied" in again.notes[0].said()
    session._file(conversation.key).chmod(0o600)
    assert Session(folder / "x").conversations == [conversation.entry]


@pytest.mark.parametrize("first", [True, False])
def test_killed_while_writing_leaves_the_old_one_or_the_new_one(folder: Path, first: bool) -> None:
    """What a killed process leaves is a half `.new` beside what was there."""
    session = Session(folder / "x")
    conversation = kept(session)
    file = session._file(conversation.key)
    file.with_suffix(".new").write_bytes(file.read_bytes()[:40])
    if first:
        file.unlink()
    again = Session(folder / "x")
    assert again.conversations == ([] if first else [conversation.entry])
    assert not file.with_suffix(".new").exists()
    assert again.notes == []


def test_a_conversation_is_written_wholly_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(folder / "x")
    conversation = kept(session)

    def half(self: Path, text: str, *_: str) -> int:
        with self.open("w") as file:
            file.write(text[:20])
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", half)
        conversation.turns.append(turn("Next?"))
        with pytest.raises(OSError, match="No space"):
            session.keep(conversation)
        with pytest.raises(OSError, match="No space"):
            session.prefer(Preferences("m"))
    assert files(session) == [f"{conversation.key}.json"]
    assert session.preferences == Preferences("m")
    again = Session(folder / "x")
    assert again.preferences == Preferences()
    opened = again.conversation(conversation.key)
    assert opened
    assert [each.question for each in opened.turns] == ["Why? 🙂"]


def test_keeping_renaming_and_deleting_at_once(folder: Path) -> None:
    """Nothing is lost of what stays, and nothing comes back of what is deleted."""
    session = Session(folder / "x")
    stays = [kept(session) for _ in range(4)]
    goes = [kept(session) for _ in range(4)]
    problems: list[BaseException] = []

    def guarded(work: object) -> None:
        try:
            assert callable(work)
            work()
        except BaseException as error:
            problems.append(error)

    def write(conversation: Conversation) -> None:
        for number in range(25):
            with conversation.lock:
                conversation.turns.append(turn(f"{number}?"))
                session.keep(conversation)
                assert len(session.conversations) >= 4

    works: list[object] = [lambda each=each: write(each) for each in (*stays, *goes)]
    works += [lambda each=each: session.delete(each.key) for each in goes]
    works += [lambda each=each: session.rename(each.key, "New") for each in (*stays, *goes)]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    again = Session(folder / "x")
    assert {entry.key for entry in again.conversations} == {each.key for each in stays}
    for each in stays:
        opened = again.conversation(each.key)
        assert opened
        assert len(opened.turns) == 26
        assert opened.title == "New"


def test_many_conversations_are_listed_quickly(folder: Path) -> None:
    session = Session(folder / "x")
    long = turn(text="Because. " * 11_000)
    for _ in range(500):
        kept(session, long)
    begun = time.monotonic()
    assert len(Session(folder / "x").conversations) == 500
    assert time.monotonic() - begun < 1  # 0.02 s; reading all of them takes longer


def test_preferences_are_kept_and_taken_back(folder: Path) -> None:
    session = Session(folder / "x")
    assert session.preferences == Preferences()
    session.prefer(Preferences("m", AnswerOptions(top_k=20)))
    assert Session(folder / "x").preferences == session.preferences
    session.prefer(Preferences())
    assert Session(folder / "x").preferences == Preferences()


def test_forgetting_leaves_no_byte(sessions: Sessions, folder: Path) -> None:
    session, other = sessions.get("one"), sessions.get("two")
    put(sessions, session, "The zanzibarquince is red.")
    put(sessions, other, "Something else.")
    conversations = [kept(session, turn("What about the zanzibarquince?")) for _ in range(2)]
    session.prefer(Preferences(options=AnswerOptions(system_prompt="Say zanzibarquince.")))
    assert holding(folder, "zanzibarquince")  # what is looked for can be found
    sessions.forget(session)
    assert holding(folder, "zanzibarquince") == []
    assert not session.folder.exists()
    assert session.conversations == []
    assert all(each.stop.is_set() and not each.turns for each in conversations)
    new = sessions.get("one")
    assert new is not session
    assert new.conversations == []
    assert new.preferences == Preferences()
    assert sessions.documents(new) == []
    assert search(sessions, other, "else") == ["Something else."]


def test_after_forgetting_one_can_begin_again(sessions: Sessions) -> None:
    put(sessions, sessions.get("one"), "The apple is red.")
    sessions.forget(sessions.get("one"))
    session = sessions.get("one")
    put(sessions, session, "The banana is yellow.")
    assert search(sessions, session, "apple") == ["The banana is yellow."]


def test_forgetting_waits_for_the_running_answers(sessions: Sessions) -> None:
    session = sessions.get("one")
    conversations = [kept(session) for _ in range(2)]
    for conversation in conversations:
        conversation.lock.acquire()
    forgetting = threading.Thread(target=sessions.forget, args=(session,))
    forgetting.start()
    for conversation in conversations:
        assert conversation.stop.wait(10)
        assert session.folder.exists()
        session.keep(conversation)  # the answer that was stopped
        conversation.lock.release()
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
    conversation = session.begin()
    sessions.forget(session)
    conversation.turns.append(turn())
    session.keep(conversation)
    session.rename(conversation.key, "Back")
    session.prefer(Preferences("m"))
    assert not session.folder.exists()
    assert sessions.get("one").conversations == []


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


def test_only_so_many_indexes_are_open(sessions: Sessions) -> None:
    sessions.most_open = 2
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


def test_the_index_closed_is_the_one_used_longest_ago(sessions: Sessions) -> None:
    sessions.most_open = 2
    opened: list[ChromaStore] = []
    for name in ("one", "two", "one", "three", "one"):
        with sessions.store(sessions.get(name)) as store:
            opened.append(store)
    first, _, second, _, third = opened
    assert first is second is third


def test_who_opens_an_index_keeps_nobody_else_waiting(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sessions.get("one"), sessions.get("two")
    for session in (one, two):
        put(sessions, session, "The apple is red.")
    sessions.close()
    opening, gate = threading.Event(), threading.Event()

    class Slow(ChromaStore):
        def __init__(self, folder: Path, *more: Any, **options: Any) -> None:
            if folder.parent == one.folder:
                opening.set()
                assert gate.wait(60)
            super().__init__(folder, *more, **options)

    monkeypatch.setattr(module, "ChromaStore", Slow)
    found: list[list[str]] = []
    ask = lambda: found.append(search(sessions, one, "apple"))  # noqa: E731
    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert opening.wait(60)
        assert search(sessions, sessions.get("two"), "apple") == ["The apple is red."]
        assert not found
    finally:
        gate.set()
        for thread in threads:
            thread.join(60)
    assert found == [["The apple is red."]] * 2
    assert len(sessions._stores) == 2  # opened once for both


def test_an_index_that_cannot_be_opened_is_in_nobody_s_use(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sessions.get("one")
    put(sessions, session, "The apple is red.")
    sessions.close()

    def fails(*_: object, **__: object) -> None:
        raise StoreError("No.")

    with monkeypatch.context() as patch:
        patch.setattr(module, "ChromaStore", fails)
        with pytest.raises(StoreError), sessions.store(session):
            pass
    assert not sessions._used[session.folder.name]
    assert search(sessions, session, "apple") == ["The apple is red."]


def test_an_index_is_not_opened_while_it_is_closed(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = sessions.get("one")
    put(sessions, session, "The apple is red.")
    closing, gate, done = threading.Event(), threading.Event(), list[str]()

    def close(store: ChromaStore) -> None:
        closing.set()
        assert gate.wait(60)
        real(store)
        done.append("closed")

    real = ChromaStore.close
    monkeypatch.setattr(ChromaStore, "close", close)
    monkeypatch.setattr(module, "UNUSED", -1.0)
    threads = [
        threading.Thread(target=sessions.close_unused),
        threading.Thread(target=lambda: done.extend(search(sessions, session, "apple"))),
    ]
    threads[0].start()
    assert closing.wait(60)
    threads[1].start()
    threads[1].join(0.3)
    gate.set()
    for thread in threads:
        thread.join(60)
    assert done == ["closed", "The apple is red."]


def test_an_index_that_nobody_uses_is_closed_after_a_while(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = sessions.get("one"), sessions.get("two")
    for session in (one, two):
        put(sessions, session, "The apple is red.")
    sessions.close_unused()
    assert len(sessions._stores) == 2
    monkeypatch.setattr(module, "UNUSED", -1.0)
    with sessions.store(one) as store:
        sessions.close_unused()
        assert list(sessions._stores) == [one.folder.name]
        assert store.documents()  # it would raise
    sessions.close_unused()
    assert not sessions._stores
    assert not sessions._left
    assert search(sessions, two, "apple") == ["The apple is red."]


def test_an_index_in_use_is_not_closed(sessions: Sessions) -> None:
    sessions.most_open = 1
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


def test_many_at_once(sessions: Sessions) -> None:
    """Indexes are opened and closed below those who use them, and nobody notices."""
    sessions.most_open = 2
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
    conversations = [kept(session) for _ in range(2)]
    sessions.close()
    assert all(conversation.stop.is_set() for conversation in conversations)
    assert sessions._stores == {}


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


class TestIdle:
    """Sessions that nobody has been in for a while."""

    @pytest.fixture
    def sessions(self, tmp_path: Path) -> Sessions:
        return Sessions(tmp_path / "sessions", "hash")

    def kept(self, sessions: Sessions, identity: str) -> Session:
        session = sessions.get(identity)
        conversation = session.begin()
        conversation.turns.append(Turn("Why?", [Answer("m", "So.", finish_reason="stop")]))
        session.keep(conversation)
        return session

    def age(self, session: Session, hours: float) -> None:
        then = time.time() - hours * 3600
        for path in (session.folder, *session.folder.iterdir()):
            os.utime(path, (then, then))
        session.visited = time.monotonic() - hours * 3600

    def test_what_they_stored_is_removed(self, sessions: Sessions) -> None:
        old, new = self.kept(sessions, "old"), self.kept(sessions, "new")
        self.age(old, 25)
        assert sessions.forget_idle(24) == 1
        assert not old.folder.exists()
        assert new.folder.exists()
        assert sessions.get("old") is not old
        assert sessions.get("new") is new

    def test_of_an_earlier_process_too(self, sessions: Sessions) -> None:
        self.age(self.kept(sessions, "old"), 25)
        later = Sessions(sessions.folder, "hash")
        assert later.forget_idle(26) == 0
        assert later.forget_idle(24) == 1

    def test_a_visit_keeps_it(self, sessions: Sessions) -> None:
        old = self.kept(sessions, "old")
        self.age(old, 25)
        old.noted = 0.0
        assert Sessions(sessions.folder, "hash").get("old").folder == old.folder
        sessions._sessions.clear()
        assert sessions.forget_idle(24) == 0

    def test_what_goes_on_goes_on(self, sessions: Sessions) -> None:
        old = self.kept(sessions, "old")
        self.age(old, 25)
        with old.opened()[0].lock:
            assert sessions.forget_idle(24) == 0
        assert sessions.forget_idle(24) == 1

    def test_a_clock_that_is_set_forgets_nobody(
        self, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.kept(sessions, "old")
        sessions._sessions.clear()
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + 365 * 24 * 3600)
        assert sessions.forget_idle(24) == 0

    def test_who_has_kept_nothing_is_not_in_memory(self, sessions: Sessions) -> None:
        for number in range(10):
            sessions.get(str(number)).visited -= 2 * 3600
        sessions.get("new")
        assert sessions.forget_idle(24) == 0
        assert len(sessions._sessions) == 1
