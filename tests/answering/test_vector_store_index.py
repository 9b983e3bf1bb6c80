"""Documents in, engines out: `VectorStoreIndex` in memory and in a folder."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rag.answering.chat_engine import ChatEngine
from rag.answering.defaults import Settings
from rag.answering.postprocessing import SimilarityPostprocessor
from rag.answering.query_engine import RetrieverQueryEngine
from rag.answering.vector_store_index import VectorStoreIndex
from rag.errors import ConfigurationError, EmbeddingMismatchError, StoreError
from rag.index.embedding import Embedded, HashEmbedding
from rag.types import Document
from tests.answering.conftest import Says, dialogue

SKY = Document("The sky is blue.", {"file_name": "sky.md", "author": "Rayleigh"})
SNOW = Document("Snow is white.", {"file_name": "snow.md"})


class Counting(HashEmbedding):
    """Counts the texts it embeds."""

    def __init__(self) -> None:
        self.texts = 0

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.texts += len(texts)
        return super().embed(texts)


class Other(HashEmbedding):
    name = "other"


@pytest.fixture
def embedding() -> Iterator[Counting]:
    """The default of this process, while a test runs."""
    embedding = Counting()
    Settings.embed_model = embedding
    yield embedding
    Settings.embed_model = None


@pytest.fixture
def index(embedding: Counting) -> Iterator[VectorStoreIndex]:
    index = VectorStoreIndex.from_documents([SKY, SNOW])
    yield index
    index.close()


def names(index: VectorStoreIndex, question: str = "What is blue?", top_k: int = 9) -> list[str]:
    return [hit.node.file_name for hit in index.as_retriever(top_k).retrieve(question)]


def test_documents_are_found(index: VectorStoreIndex) -> None:
    (hit,) = index.as_retriever(similarity_top_k=1).retrieve("Why is the sky blue?")
    assert hit.text == "The sky is blue."
    assert hit.metadata["author"] == "Rayleigh"
    assert [document.name for document in index.documents] == ["snow.md", "sky.md"]


def test_two_passages_are_found_where_no_number_is_given(index: VectorStoreIndex) -> None:
    index.insert(Document("Grass is green."))
    assert len(index.as_retriever().retrieve("is")) == 2


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_number_of_passages_below_one_is_refused(index: VectorStoreIndex, top_k: int) -> None:
    for make in (index.as_retriever, index.as_query_engine, index.as_chat_engine):
        options = {} if make == index.as_retriever else {"llm": Says()}
        with pytest.raises(ValueError, match=rf"similarity_top_k is {top_k}; it has to be 1"):
            make(similarity_top_k=top_k, **options)


def test_documents_go_in_and_out(index: VectorStoreIndex) -> None:
    grass = Document("Grass is green.", {"file_name": "grass.md"})
    index.insert(grass)
    assert set(names(index)) == {"sky.md", "snow.md", "grass.md"}
    index.delete(grass.id_)
    index.delete("never there")
    assert set(names(index)) == {"sky.md", "snow.md"}


def test_a_document_that_is_there_is_not_embedded_again(
    index: VectorStoreIndex, embedding: Counting
) -> None:
    before = embedding.texts
    index.insert(SKY)
    index.insert(Document(SKY.text, {"file_name": "copy.md"}))
    assert embedding.texts == before
    assert len(index.documents) == 2


def test_a_document_with_the_same_id_replaces_the_one_before_it(index: VectorStoreIndex) -> None:
    index.insert(Document("Roses are red.", id_="flower"))
    index.insert(Document("Violets are blue. " * 99, id_="flower"))
    index.insert(Document("Tulips are yellow.", id_="flower"))
    found = index.as_retriever(99).retrieve("Violets and roses")
    assert sorted(hit.text for hit in found) == [
        *("Snow is white.", "The sky is blue.", "Tulips are yellow.")
    ]
    assert len(index.documents) == 3


def test_a_document_with_the_same_id_and_text_replaces_the_metadata(
    index: VectorStoreIndex, embedding: Counting
) -> None:
    index.delete(SKY.id_)
    index.delete(SNOW.id_)
    for version in (1, 2):
        index.insert(Document("Roses are red.", {"version": version}, "flower"))
    before = embedding.texts
    index.insert(Document("Roses are red.", {"version": 2}, "flower"))
    assert embedding.texts == before
    (hit,) = index.as_retriever().retrieve("Roses")
    assert hit.metadata == {"version": 2}


def test_metadata_that_cannot_be_kept_as_it_is_costs_no_document(index: VectorStoreIndex) -> None:
    index.insert(Document("Roses are red.", id_="flower"))
    index.insert(Document("Violets are blue.", {(1,): 2}, "flower"))
    (hit,) = (hit for hit in index.as_retriever(9).retrieve("Violets") if "Violets" in hit.text)
    assert hit.metadata == {"(1,)": "2"}
    assert len(index.documents) == 3


def test_a_closed_index_says_so(index: VectorStoreIndex) -> None:
    engine = index.as_query_engine(llm=Says(["Blue."]))
    index.close()
    for use in (lambda: engine.query("sky?"), lambda: index.insert(SNOW), lambda: index.documents):
        with pytest.raises(StoreError, match="This index was closed"):
            use()


def test_what_is_inserted_is_found_by_engines_made_before(index: VectorStoreIndex) -> None:
    retriever = index.as_retriever(1)
    index.insert(Document("Grass is green.", {"file_name": "grass.md"}))
    assert retriever.retrieve("grass green")[0].node.file_name == "grass.md"


def test_indexes_in_memory_do_not_see_each_other(embedding: Counting) -> None:
    one, two = VectorStoreIndex.from_documents([SKY]), VectorStoreIndex.from_documents([SNOW])
    assert (names(one), names(two)) == (["sky.md"], ["snow.md"])
    one.close()
    assert names(two) == ["snow.md"]
    two.close()


def test_an_engine_outlives_the_name_of_its_index(embedding: Counting) -> None:
    engine = VectorStoreIndex.from_documents([SKY]).as_query_engine(llm=Says(["Blue."]))
    gc.collect()
    assert [hit.text for hit in engine.query("why?").source_nodes] == ["The sky is blue."]


def test_an_index_without_documents(embedding: Counting) -> None:
    index = VectorStoreIndex.from_documents([])
    assert (names(index), index.documents) == ([], [])
    index.insert(SKY)
    assert names(index) == ["sky.md"]


def test_documents_may_come_one_by_one(embedding: Counting) -> None:
    assert set(names(VectorStoreIndex.from_documents(iter([SKY, SNOW])))) == {"sky.md", "snow.md"}


@pytest.mark.parametrize("show", [True, False])
def test_progress_is_shown_when_asked_for(
    embedding: Counting, show: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    VectorStoreIndex.from_documents(iter([SKY, SNOW]), show_progress=show)
    captured = capsys.readouterr()
    assert ("2/2" in captured.err) == show
    assert captured.out == ""


# In a folder


@pytest.mark.parametrize("kind", [str, Path])
def test_it_is_there_again_on_the_next_start(
    embedding: Counting, tmp_path: Path, kind: type
) -> None:
    folder = kind(tmp_path / "new" / "index")
    first = VectorStoreIndex.from_documents([SKY], storage_dir=folder)
    first.close()
    embedded = embedding.texts
    again = VectorStoreIndex.from_documents([SKY], storage_dir=folder)
    assert embedding.texts == embedded
    again.insert(SNOW)
    again.close()
    last = VectorStoreIndex(storage_dir=folder)
    assert set(names(last)) == {"sky.md", "snow.md"}
    (hit,) = last.as_retriever(1).retrieve("sky blue")
    assert dict(hit.metadata) == dict(SKY.metadata)
    last.close()


def test_the_home_sign_is_expanded(
    embedding: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    VectorStoreIndex.from_documents([SKY], storage_dir="~/index").close()
    assert (tmp_path / "index").is_dir()


def test_another_embedding_model_is_refused(embedding: Counting, tmp_path: Path) -> None:
    VectorStoreIndex.from_documents([SKY], storage_dir=tmp_path).close()
    with pytest.raises(EmbeddingMismatchError, match="hash, but other is set"):
        VectorStoreIndex(embed_model=Other(), storage_dir=tmp_path)


def test_a_folder_that_cannot_be_opened(embedding: Counting, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot be opened: .*storage_dir in Python"):
        VectorStoreIndex(storage_dir=tmp_path / "file")


def test_an_embedding_model_can_be_given() -> None:
    index = VectorStoreIndex.from_documents([SKY], embed_model=Other())
    assert index.embed_model.name == "other"
    assert names(index) == ["sky.md"]


# Engines


def test_a_query_engine_has_what_it_is_given(index: VectorStoreIndex) -> None:
    llm = Says(["Blue."])
    engine = index.as_query_engine(
        streaming=True,
        similarity_top_k=1,
        llm=llm,
        response_mode="accumulate",
        node_postprocessors=[SimilarityPostprocessor(-1)],
        max_tokens=9,
        text_qa_template="{context_str}|{query_str}",
    )
    assert isinstance(engine, RetrieverQueryEngine)
    assert str(engine.query("sky blue")) == "Response 1: Blue."
    assert llm.prompts == ["The sky is blue.|sky blue"]
    assert llm.limits == [9]
    assert len(engine.node_postprocessors) == 1


def test_a_query_engine_does_not_stream_unless_told(index: VectorStoreIndex) -> None:
    assert not index.as_query_engine(llm=Says()).response_synthesizer.streaming


def test_a_chat_engine_has_what_it_is_given(index: VectorStoreIndex) -> None:
    llm = Says(["Blue."])
    before = dialogue("a?", "A.")
    engine = index.as_chat_engine(
        llm,
        1,
        "accumulate",
        [SimilarityPostprocessor(-1)],
        before,
        max_tokens=9,
        condense_template="{chat_history}|{question}",
    )
    assert isinstance(engine, ChatEngine)
    assert str(engine.chat("sky blue")) == "Response 1: Blue."
    assert llm.prompts[0] == "user: a?\nassistant: A.|sky blue"
    assert len(engine.chat_history) == 4
    assert len(engine.node_postprocessors) == 1


def test_22_each_chat_engine_is_a_conversation_of_its_own(index: VectorStoreIndex) -> None:
    one, two = index.as_chat_engine(Says()), index.as_chat_engine(Says())
    one.chat("Hello?")
    assert (len(one.chat_history), two.chat_history) == (2, [])


def test_a_mode_that_does_not_exist_is_refused_when_the_engine_is_made(
    index: VectorStoreIndex,
) -> None:
    with pytest.raises(ConfigurationError, match="no response mode"):
        index.as_query_engine(llm=Says(), response_mode="best")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no response mode"):
        index.as_chat_engine(Says(), response_mode="best")  # type: ignore[arg-type]
