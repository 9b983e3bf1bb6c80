"""The examples on the specification's page as they stand there, on the real local model.

Only the import is changed, and the dots are filled in.
"""

from pathlib import Path

import pytest

from rag import RetrieverQueryEngine, ScriptedLLM, VectorStoreIndex, get_response_synthesizer
from rag.answering.response import StreamingResponse

pytestmark = pytest.mark.slow

ESSAY = (
    "Growing up, the author spent most of his time repairing old radios and writing short stories."
    "\n\nLater the author studied chemistry in Ghent and worked in a dye works.\n"
)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, smollm_path: Path) -> VectorStoreIndex:
    """Made as DESIGN's opening example does."""
    from rag import SimpleDirectoryReader

    folder = tmp_path_factory.mktemp("data")
    (folder / "essay.md").write_text(ESSAY)
    documents = SimpleDirectoryReader(str(folder)).load_data()
    return VectorStoreIndex.from_documents(documents)


def test_the_high_level_example(
    index: VectorStoreIndex, capsys: pytest.CaptureFixture[str]
) -> None:
    query_engine = index.as_query_engine(streaming=True, similarity_top_k=1)
    streaming_response = query_engine.query(
        "What did the author do growing up?",
    )
    assert isinstance(streaming_response, StreamingResponse)
    streaming_response.print_response_stream()
    printed = capsys.readouterr().out
    assert "radios" in printed
    assert streaming_response.finish_reason == "stop"


def test_the_generator(index: VectorStoreIndex) -> None:
    query_engine = index.as_query_engine(streaming=True, similarity_top_k=1)
    streaming_response = query_engine.query(
        "What did the author do growing up?",
    )
    pieces = []
    for text in streaming_response.response_gen:
        # do something with text as they arrive.
        pieces.append(text)
    assert len(pieces) > 3
    assert "".join(pieces) == str(streaming_response)
    assert "radios" in str(streaming_response)


def test_the_low_level_example(index: VectorStoreIndex) -> None:
    synth = get_response_synthesizer(streaming=True)
    query_engine = RetrieverQueryEngine(
        response_synthesizer=synth, retriever=index.as_retriever(similarity_top_k=1)
    )
    streaming_response = query_engine.query("Where did the author study?")
    assert isinstance(streaming_response, StreamingResponse)
    assert "Ghent" in str(streaming_response)


def test_a_model_that_cannot_stream(index: VectorStoreIndex) -> None:
    """If streaming is not supported by the LLM you choose a NotImplementedError will be raised."""
    llm = ScriptedLLM()
    llm.is_streaming = False
    query_engine = index.as_query_engine(streaming=True, similarity_top_k=1, llm=llm)
    with pytest.raises(NotImplementedError):
        query_engine.query("What did the author do growing up?")
