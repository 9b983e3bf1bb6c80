"""The parts behind the page, and how they are prepared."""

import dataclasses
import gc
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from rag.config import Config
from rag.errors import ModelUnavailableError, RivuletError, StoreError
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import Ingested, ingest
from rag.index.store import ChromaStore
from rag.types import Document, Node
from rag.ui.backend import Backend
from rag.ui.sessions import Session
from rag.ui.views import GONE, PageView, TextView
from tests.documents.makers import pdf
from tests.ui.conftest import MODEL


def put(backend: Backend, session: Session, text: str, name: str = "own.txt") -> None:
    with backend.sessions.store(session) as store:
        list(ingest(Document(text, {"file_name": name}), store, HashEmbedding()))


def found(backend: Backend, session: Session, scope: str) -> set[str]:
    return {hit.node.file_name for hit in backend.retrieve(session, scope, "walnuts apples")}


def test_making_it_touches_no_disk_and_starts_nothing(config: Config, samples: Path) -> None:
    threads = threading.active_count()
    Backend(config, HashEmbedding())
    assert not config.data_dir.exists()
    assert threading.active_count() == threads


def test_once_ready_there_is_nothing_to_say(backend: Backend) -> None:
    assert backend.pending() is None
    assert [document.name for document in backend.sample_documents()] == ["sample.txt"]


def test_what_is_waited_for_is_pending(unstarted: Backend) -> None:
    pending = unstarted.pending()
    assert pending
    assert "Preparing" in pending.status
    assert unstarted.sample_documents() == []


def test_what_is_there_once_all_is_prepared_is_not_looked_through_for_garbage(
    unstarted: Backend,
) -> None:
    settling = threading.Thread(target=unstarted.settle)
    settling.start()
    try:
        settling.join(0.2)
        assert gc.get_freeze_count() == 0
        unstarted.start()
        settling.join(30)
        assert gc.get_freeze_count() > 10_000
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    ("scope", "expected"),
    [("mine", {"own.txt"}), ("samples", {"sample.txt"}), ("all", {"own.txt", "sample.txt"})],
)
def test_what_is_searched(backend: Backend, scope: str, expected: set[str]) -> None:
    session = backend.sessions.get("one")
    put(backend, session, "Apples are red.")
    assert found(backend, session, scope) == expected


@pytest.mark.parametrize(("scope", "expected"), [("mine", set()), ("all", {"sample.txt"})])
def test_what_is_searched_without_documents(
    backend: Backend, scope: str, expected: set[str]
) -> None:
    session = backend.sessions.get("one")
    assert found(backend, session, scope) == expected
    assert not session.folder.exists()


def test_the_best_passages_of_all_indexes(backend: Backend) -> None:
    session = backend.sessions.get("one")
    for n in range(backend.config.top_k + 2):
        put(backend, session, f"Text {n} on apples.")
    hits = backend.retrieve(session, "all", "The sample speaks of walnuts")
    assert len(hits) == backend.config.top_k
    assert hits[0].node.file_name == "sample.txt"
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_samples_of_an_older_version_are_taken_out(backend: Backend, samples: Path) -> None:
    backend.samples.result().close()
    (samples / "sample.txt").write_text("The newer sample speaks of hazelnuts.")
    (samples / "notes.bin").write_bytes(b"is not read")
    later = Backend(backend.config, HashEmbedding())
    later.embedding.start()
    (document,) = later.samples.start().result().documents()
    assert document.name == "sample.txt"
    (hit,) = later.retrieve(later.sessions.get("one"), "samples", "nuts")
    assert "hazelnuts" in hit.node.text
    later.samples.result().close()


def test_samples_in_another_format_are_made_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.samples.result().close()
    monkeypatch.setattr("rag.index.store.FORMAT", 99)
    later = Backend(backend.config, embedding=HashEmbedding())
    later.embedding.start()
    (document,) = later.samples.start().result().documents()
    assert document.name == "sample.txt"
    later.samples.result().close()


def test_samples_are_embedded_once(backend: Backend) -> None:
    backend.samples.result().close()

    class Counting(HashEmbedding):
        embedded = 0

        def embed(self, texts: Sequence[str]) -> list[Embedded]:
            self.embedded += len(texts)
            return super().embed(texts)

    embedding = Counting()
    later = Backend(backend.config, embedding)
    later.embedding.start()
    later.samples.start().result().close()
    assert embedding.embedded == 0


def test_a_model_that_cannot_be_had_is_told_and_not_tried_again_by_looking(
    config: Config, samples: Path, tmp_path: Path
) -> None:
    missing = str(tmp_path / "no-model")
    backend = Backend(dataclasses.replace(config, model=missing), HashEmbedding())
    backend.start()
    *_, model = backend.waiting_for(missing)
    with pytest.raises(ModelUnavailableError):
        model.result()
    backend.samples.result()
    first = backend.catalog.prepare(missing, again=False)
    for _ in range(3):
        pending = backend.pending()
        assert pending
        assert "no folder" in pending.status
    assert backend.catalog.prepare(missing, again=False) is first
    backend.samples.result().close()


def test_a_search_model_that_cannot_be_had_is_told(config: Config, samples: Path) -> None:
    missing = str(config.data_dir / "no-model")
    backend = Backend(dataclasses.replace(config, embed_model=missing))
    backend.embedding.start()
    backend.samples.start()
    with pytest.raises(ModelUnavailableError):
        backend.samples.result()
    with pytest.raises(RivuletError, match="no folder"):
        backend.retrieve(backend.sessions.get("one"), "mine", "Why?")
    assert backend.sample_documents() == []


# A passage in its place


def take_in(backend: Backend, session: Session, name: str, data: bytes) -> Node:
    """The first passage of a file, once that is in."""
    file = backend.config.data_dir.parent / name
    file.unlink(missing_ok=True)  # what is kept of an earlier one may be the same file
    file.write_bytes(data)
    (ingested,) = (
        event for event in backend._take_in(session, file, name, "") if isinstance(event, Ingested)
    )
    with backend.sessions.store(session) as store:
        return store.nodes(ingested.document_id)[0]


def test_a_page_of_ones_own(backend: Backend) -> None:
    session = backend.sessions.get("one")
    node = take_in(backend, session, "own.pdf", pdf("First line", "Second page"))
    view = backend.view(session, node, 0, 5)
    assert isinstance(view, PageView)
    assert (view.page, view.pages, len(view.picture.boxes), view.marked) == (1, 2, 1, "First")


def test_a_page_of_a_sample(unstarted: Backend, samples: Path) -> None:
    (samples / "shipped.pdf").write_bytes(pdf("The sample has pages"))
    backend = Backend(unstarted.config, HashEmbedding())
    backend.embedding.start()
    backend.samples.start()
    store = backend.samples.result()
    record = next(each for each in store.documents() if each.name == "shipped.pdf")
    session = backend.sessions.get("one")
    view = backend.view(session, store.nodes(record.id_)[0])
    assert isinstance(view, PageView)
    assert not session.folder.exists()
    backend.close()
    store.close()


def test_the_text_of_a_sample(backend: Backend) -> None:
    session = backend.sessions.get("one")
    (hit,) = backend.retrieve(session, "samples", "walnuts")
    view = backend.view(session, hit.node, 21, 28)
    assert view == TextView("The sample speaks of ", "walnuts", ".")


@pytest.mark.parametrize("name", ["own.pdf", "own.txt"])
def test_what_is_anothers_cannot_be_opened(backend: Backend, name: str) -> None:
    data = pdf("Of one alone") if name == "own.pdf" else b"Of one alone"
    node = take_in(backend, backend.sessions.get("one"), name, data)
    other = backend.sessions.get("two")
    guessed = dataclasses.replace(node, text="x")
    view = backend.view(other, guessed)
    assert view == TextView("", "x", "", note=GONE)
    take_in(backend, other, "else.txt", b"Something else")
    assert backend.view(other, guessed) == view


def test_a_document_that_is_gone(backend: Backend) -> None:
    session = backend.sessions.get("one")
    node = take_in(backend, session, "own.pdf", pdf("First line"))
    backend.sessions.remove_document(session, node.document_id)
    assert backend.view(session, node) == TextView("", "First line", "", note=GONE)
    assert not list(session.folder.rglob("*.pdf"))


def test_everything_forgotten(backend: Backend) -> None:
    session = backend.sessions.get("one")
    node = take_in(backend, session, "own.pdf", pdf("First line"))
    assert list(session.folder.rglob("*.pdf"))
    backend.sessions.forget(session)
    assert not session.folder.exists()
    view = backend.view(session, node)
    assert isinstance(view, TextView)
    assert view.marked == "First line"


def test_what_cannot_be_searched_for_is_told(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = backend.sessions.get("one")
    node = take_in(backend, session, "own.txt", b"First line")

    def fail(store: ChromaStore, document_id: str) -> None:
        raise StoreError("The index cannot be read.")

    monkeypatch.setattr(ChromaStore, "searchable", fail)
    view = backend.view(session, node)
    assert view == TextView("", "First line", "", note="The index cannot be read.")


def test_chosen_documents_are_searched_among_all(backend: Backend) -> None:
    session = backend.sessions.get("one")
    for text in ("Apples are red.", "Walnuts are brown."):
        put(backend, session, text, text)
    (sample,) = backend.sample_documents()
    with backend.sessions.store(session) as store:
        ids = {document.name: document.id_ for document in store.documents()}

    def hits(*documents: str) -> set[str]:
        found = backend.retrieve(session, "chosen", "walnuts apples", 9, documents)
        return {hit.node.document_id for hit in found}

    walnuts = ids["Walnuts are brown."]
    assert hits(walnuts) == {walnuts}
    assert hits(sample.id_) == {sample.id_}
    assert hits(sample.id_, *ids.values()) == {sample.id_, *ids.values()}
    assert hits("gone", walnuts) == {walnuts}


@pytest.mark.parametrize(
    ("documents", "told"), [(("gone",), "is here any more. Choose others"), ((), "is chosen")]
)
def test_where_no_chosen_document_is_there_it_is_told(
    backend: Backend, documents: Sequence[str], told: str
) -> None:
    with pytest.raises(RivuletError, match=told):
        backend.retrieve(backend.sessions.get("one"), "chosen", "Why?", documents=documents)


def test_nobody_s_documents_can_be_chosen_but_one_s_own(backend: Backend) -> None:
    other = backend.sessions.get("other")
    put(backend, other, "Apples are red.")
    with backend.sessions.store(other) as store:
        (document,) = store.documents()
    with pytest.raises(RivuletError, match="any more"):
        backend.retrieve(backend.sessions.get("one"), "chosen", "apples", documents=[document.id_])


def test_as_many_passages_as_are_asked_for(backend: Backend) -> None:
    session = backend.sessions.get("one")
    for n in range(9):
        put(backend, session, f"Text {n} on apples.")
    for top_k in (1, 7):
        assert len(backend.retrieve(session, "mine", "apples", top_k)) == top_k


def test_plain_chat_waits_for_the_model_alone(unstarted: Backend) -> None:
    assert unstarted.retrieve(unstarted.sessions.get("one"), "none", "Why?") == []
    model = unstarted.catalog.prepare(MODEL)
    assert list(unstarted.waiting_for(MODEL, "none")) == [model]
    assert list(unstarted.waiting_for(MODEL, "mine")) == [unstarted.embedding, model]
    everything = [unstarted.embedding, unstarted.samples, model]
    assert list(unstarted.waiting_for(MODEL)) == everything
