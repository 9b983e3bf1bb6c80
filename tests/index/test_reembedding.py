"""An index is embedded again with another model, wholly or not at all."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rag.errors import EmbeddingMismatchError, StoreError
from rag.index import store as store_module
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.ingestion import ingest
from rag.index.reembedding import reembed
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.types import Document

LONG = "".join(f"## Part {n}\n\nParagraph {n} tells of river{n}.\n\n" for n in range(70))


class Other(HashEmbedding):
    """Another model: fewer dimensions."""

    name = "other"
    dimensions = 64


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with closing(ChromaStore(tmp_path / "index", "hash")) as store:
        for text, name in ((LONG, "long.md"), ("The Rhine flows north.", "rhine.md")):
            list(ingest(Document(text, {"file_name": name, "year": 2024}), store, HashEmbedding()))
    return tmp_path / "index"


def hits(folder: Path, model: HashEmbedding, question: str) -> list[tuple[str, object]]:
    with closing(ChromaStore(folder, model.name)) as store:
        found = VectorIndexRetriever([store], model, 3).retrieve(question)
        return [(hit.text, hit.metadata.get("year")) for hit in found]


def test_documents_and_passages_are_the_same_with_other_vectors(folder: Path) -> None:
    with closing(ChromaStore(folder, "hash")) as store:
        before = {record.id_: (record.name, record.added) for record in store.documents()}
    steps = list(reembed(folder, Other()))
    assert steps[0] == (0, 71)
    assert steps[-1] == (71, 71)
    assert hits(folder, Other(), "where does the rhine flow north")[0] == (
        "The Rhine flows north.",
        2024,
    )
    assert "river64" in hits(folder, Other(), "part 64 paragraph 64 tells of river64")[0][0]
    with closing(ChromaStore(folder, "other")) as store:
        assert {record.id_: (record.name, record.added) for record in store.documents()} == before
        assert store.query(np.ones(64, np.float32), 99)[70].node
    with pytest.raises(EmbeddingMismatchError):
        ChromaStore(folder, "hash")
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_one_of_this_model_is_left_as_it_is(folder: Path) -> None:
    assert list(reembed(folder, HashEmbedding())) == []
    assert hits(folder, HashEmbedding(), "rhine")[0][0] == "The Rhine flows north."


class Failing(Other):
    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("how", ["fails", "is stopped"])
def test_where_it_ends_before_the_old_index_is_left(folder: Path, how: str) -> None:
    if how == "fails":
        with pytest.raises(RuntimeError, match="out of memory"):
            list(reembed(folder, Failing()))
    else:
        steps = reembed(folder, Other())
        next(steps)
        next(steps)
        steps.close()
    assert hits(folder, HashEmbedding(), "rhine")[0][0] == "The Rhine flows north."
    assert [path.name for path in folder.parent.iterdir()] == ["index"]


def test_a_crash_between_the_renamings_is_mended(folder: Path) -> None:
    folder.rename(folder.with_name("index.old"))
    folder.with_name("index.new").mkdir()
    list(reembed(folder, Other()))
    assert hits(folder, Other(), "the rhine flows north")[0][0].startswith("The Rhine")


def test_one_that_is_open_elsewhere_is_not_touched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.index.test_store import other_process

    monkeypatch.setattr(store_module, "PATIENCE", 0.1)
    process = other_process(folder, "", "hash")
    assert process.stdout
    assert process.stdout.readline() == "open\n"
    with pytest.raises(StoreError, match="in use by process"):
        list(reembed(folder, Other()))
    process.communicate("\n", timeout=60)
