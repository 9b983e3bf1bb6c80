"""The parts behind the page on a Chroma server, as two processes of the app have them."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rag.config import Config
from rag.errors import StoreError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.store import Glance
from rag.llms.scripted import ScriptedLLM
from rag.types import Document
from rag.ui import backend as backend_module
from rag.ui import sessions as module
from rag.ui.backend import Backend
from rag.upkeep.checking import Seen, check
from tests.integration.test_chroma_server import Running

pytestmark = pytest.mark.slow

ME = "a cookie"


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.kill()


@pytest.fixture
def app(
    running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Backend]]:
    """Makes a process of the app, with a data folder of its own."""
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "sample.txt").write_text("The sample speaks of walnuts.")
    monkeypatch.setattr(backend_module, "SAMPLES", shipped)
    monkeypatch.setattr(module, "FRESH", 0.0)
    backends = []

    def make(name: str) -> Backend:
        config = Config(
            model="scripted", embed_model=HashEmbedding().name, data_dir=tmp_path / name
        )
        backend = Backend(dataclasses.replace(config, chroma_url=running.at.url), HashEmbedding())
        backend.catalog.put("scripted", ScriptedLLM("Yes."))
        backends.append(backend)
        backend.start()
        backend.samples.wait()
        return backend

    yield make
    for backend in backends:
        backend.close()
        if backend.samples.ready:
            backend.samples.result().close()


def put(backend: Backend, text: str) -> str:
    document = Document(text, {"file_name": "own.txt"})
    with backend.sessions.store(backend.sessions.get(ME)) as store:
        list(ingest(document, store, HashEmbedding()))
    return document.id_


def found(backend: Backend, scope: str = "mine", who: str = ME) -> set[str]:
    return {
        hit.text for hit in backend.retrieve(backend.sessions.get(who), scope, "walnuts apples")
    }


def test_two_processes_have_the_same_documents(app: Callable[[str], Backend]) -> None:
    one, two = app("one"), app("two")
    assert [document.name for document in two.sample_documents()] == ["sample.txt"]
    assert found(two, "all") == {"The sample speaks of walnuts."}
    red = put(one, "Apples are red.")
    assert found(two) == {"Apples are red."}
    assert found(two, who="another cookie") == set()
    put(two, "Apples are green.")
    assert found(one) == {"Apples are red.", "Apples are green."}
    assert len(found(two, "all")) == 3
    two.sessions.remove_document(two.sessions.get(ME), red)
    assert found(one) == {"Apples are green."}
    one.sessions.forget(one.sessions.get(ME))
    session = two.sessions.get(ME)
    assert two.sessions.documents(session) == []
    assert found(two) == set()
    assert not two.sessions.has_documents(session)


def test_looking_makes_no_index(app: Callable[[str], Backend], running: Running) -> None:
    one = app("one")
    session = one.sessions.get(ME)
    assert not one.sessions.has_documents(session)
    assert one.sessions.documents(session) == []
    one.sessions.drop_empty(session)
    client = running.at.connect()
    names = {collection.name for collection in client.list_collections()}
    client.close()
    assert {name.partition("-")[2] for name in names} == {f"samples-{HashEmbedding().name}"}


def test_a_rejected_file_of_one_process_costs_the_other_nothing(
    app: Callable[[str], Backend],
) -> None:
    one, two = app("one"), app("two")
    session = one.sessions.get(ME)
    with two.sessions.store(two.sessions.get(ME)) as store:
        taking = ingest(Document("Apples."), store, HashEmbedding())
        next(taking)
        next(taking)
        with one.sessions.store(session):
            pass
        one.sessions.drop_empty(session)
        assert not (session.folder / "words").exists()
        list(taking)
    assert found(one) == found(two) == {"Apples."}


def test_a_server_is_asked_once_in_a_while(
    app: Callable[[str], Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = app("one")
    session = one.sessions.get(ME)
    monkeypatch.setattr(module, "FRESH", 60.0)
    asked = []
    has = Glance.has_documents
    monkeypatch.setattr(
        Glance, "has_documents", lambda self, name: asked.append(name) or has(self, name)
    )
    assert [one.sessions.has_documents(session) for _ in range(9)] == [False] * 9
    put(one, "Apples.")
    assert [one.sessions.has_documents(session) for _ in range(9)] == [True] * 9
    assert len(asked) == 2


def test_while_the_server_is_away_everything_says_so_and_nothing_is_lost(
    app: Callable[[str], Backend], running: Running
) -> None:
    one = app("one")
    put(one, "Apples are red.")
    running.kill()
    session = one.sessions.get(ME)
    assert one.sessions.has_documents(session)
    assert one.sample_documents() == []
    for use in (
        lambda: one.sessions.documents(session),
        lambda: found(one),
        lambda: found(one, "samples"),
        lambda: put(one, "Pears."),
        lambda: one.sessions.remove_document(session, "x"),
    ):
        with pytest.raises(StoreError, match=r"cannot be reached.*Start it again"):
            use()
    running.start()
    assert found(one, "all") == {"Apples are red.", "The sample speaks of walnuts."}


def test_forgetting_without_the_server_removes_the_rest_and_says_so(
    app: Callable[[str], Backend], running: Running
) -> None:
    one = app("one")
    put(one, "Apples are red.")
    session = one.sessions.get(ME)
    running.kill()
    with pytest.raises(StoreError, match="cannot be reached"):
        one.sessions.forget(session)
    assert not session.folder.exists()
    running.start()
    assert found(one) == {"Apples are red."}
    one.sessions.forget(one.sessions.get(ME))
    assert found(one) == set()


def test_what_is_on_the_server_is_looked_over_and_mended(app: Callable[[str], Backend]) -> None:
    one = app("one")
    put(one, "Apples are red.")
    session = one.sessions.get(ME)
    with one.sessions.store(session) as store:
        everything = store._passages.get(include=[])["ids"]
        store._passages.delete(everything)
    one.close()
    one.samples.result().close()
    seen = Seen()
    ((place, finding),) = check(one.config, seen)
    assert place == session.folder
    assert finding.mended
    assert "1 passage of own.txt had no vector; put in again" in finding.what
    assert (seen.sessions, seen.documents) == (1, 1)
    assert list(check(one.config, Seen())) == []
    assert found(app("two")) == {"Apples are red."}
