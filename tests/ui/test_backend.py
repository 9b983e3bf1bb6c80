"""The parts behind the page, and how they are prepared."""

import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from rag.config import Config
from rag.errors import ModelUnavailableError, RivuletError
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import ingest
from rag.types import Document
from rag.ui.backend import Backend
from rag.ui.sessions import Session
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
    assert backend.status() == ""
    assert [document.name for document in backend.sample_documents()] == ["sample.txt"]


def test_the_status_tells_what_is_waited_for(unstarted: Backend) -> None:
    assert "Preparing" in unstarted.status()
    assert unstarted.sample_documents() == []


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
        assert "no folder" in backend.status()
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
