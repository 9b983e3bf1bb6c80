"""The one path from a question to its answer."""

from collections.abc import Sequence

import pytest

from rag.answering import prompts
from rag.answering.engine import answer
from rag.answering.events import Event, Events, Finished, Sources, Status, Timings
from rag.errors import ContextWindowError, ProviderError, StoreError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.llms.protocol import TextStream
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion, Document, Usage

TEXTS = {
    "sky.txt": "The sky is blue because of Rayleigh scattering.",
    "grass.txt": "Grass is green because of chlorophyll.",
    "snow.txt": "Snow is white because it scatters all light.",
}


class Watched(VectorIndexRetriever):
    """Counts the searches."""

    searches = 0

    def retrieve(self, query: str) -> list:
        self.searches += 1
        return super().retrieve(query)


@pytest.fixture
def empty(store: ChromaStore, hash_embedding: HashEmbedding) -> Watched:
    return Watched([store], hash_embedding, similarity_top_k=3)


@pytest.fixture
def retriever(store: ChromaStore, hash_embedding: HashEmbedding, empty: Watched) -> Watched:
    """Over an index with three documents."""
    for name, text in TEXTS.items():
        for _ in ingest(Document(text, {"file_name": name}), store, hash_embedding):
            pass
    return empty


def text_of(events: Sequence[Event]) -> str:
    return "".join(event for event in events if isinstance(event, str))


def kinds(events: Sequence[Event]) -> list[type]:
    """The kinds of events in their order, repetitions and empty texts left out."""
    result: list[type] = []
    for event in events:
        if event != "" and (not result or result[-1] is not type(event)):
            result.append(type(event))
    return result


def without_timings(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if not isinstance(event, Timings)]


def ask(retriever: Watched, llm: ScriptedLLM, history: Sequence[ChatMessage] = ()) -> Events:
    return answer("Why is the sky blue?", retriever, llm, history, max_tokens=50)


class Says:
    """A model that writes given pieces, as they are."""

    model_name = "says"
    context_window = 4096
    is_streaming = True
    is_small = False

    def __init__(self, *pieces: str, ends: Completion | None = None):
        self.pieces, self.ends = pieces, ends or Completion("stop")

    def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
        yield ""
        yield from self.pieces
        return self.ends

    def count_tokens(self, text: str) -> int:
        return len(text.split())


def test_the_order_of_events(retriever: Watched) -> None:
    events = list(ask(retriever, ScriptedLLM("Because of scattering.")))
    assert kinds(without_timings(events)) == [Status, Sources, Status, str, Finished]
    assert text_of(events) == "Because of scattering."
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "stop"
    assert finished.usage
    assert finished.usage.completion_tokens == 3


def test_the_sources_are_those_the_model_was_given(retriever: Watched) -> None:
    llm = ScriptedLLM()
    (sources,) = (event for event in ask(retriever, llm) if isinstance(event, Sources))
    assert sources.nodes[0].node.file_name == "sky.txt"
    assert {hit.node.text for hit in sources.nodes} == set(TEXTS.values())
    assert sources.others == ()
    ((message,),) = llm.calls
    assert all(hit.node.text in message.content for hit in sources.nodes)


def test_the_sources_come_before_the_model_is_called(retriever: Watched) -> None:
    llm = ScriptedLLM()
    for event in ask(retriever, llm):
        if isinstance(event, Sources):
            assert llm.calls == []
            break
    else:
        pytest.fail("no sources")


def test_a_small_model_gets_one_passage_and_the_others_are_told(retriever: Watched) -> None:
    llm = ScriptedLLM()
    llm.is_small = True
    (sources,) = (event for event in ask(retriever, llm) if isinstance(event, Sources))
    assert [hit.node.file_name for hit in sources.nodes] == ["sky.txt"]
    assert sorted(hit.node.file_name for hit in sources.others) == ["grass.txt", "snow.txt"]
    assert "chlorophyll" not in llm.calls[0][0].content


def test_the_history_is_given(retriever: Watched) -> None:
    llm = ScriptedLLM()
    history = [ChatMessage("user", "Hello"), ChatMessage("assistant", "Hello to you.")]
    list(ask(retriever, llm, history))
    assert llm.calls[0][:2] == history


def test_without_hits_no_model_is_called(empty: Watched) -> None:
    llm = ScriptedLLM()
    events = list(ask(empty, llm))
    assert without_timings(events)[1:] == [Sources(()), prompts.NO_HITS, Finished("stop")]
    assert llm.calls == []


def test_an_error_comes_after_the_text_before_it(retriever: Watched) -> None:
    llm = ScriptedLLM("one two three four", error=ProviderError("gone"), error_after=2)
    events: list[Event] = []
    with pytest.raises(ProviderError, match="gone"):
        events.extend(ask(retriever, llm))
    assert text_of(events) == "one two"


def test_an_error_of_the_retriever_is_raised(retriever: Watched) -> None:
    class Broken:
        def retrieve(self, query: str) -> list:
            raise StoreError("no index")

    llm = ScriptedLLM()
    with pytest.raises(StoreError, match="no index"):
        list(answer("Why?", Broken(), llm, max_tokens=5))
    assert llm.calls == []


def test_a_question_that_does_not_fit_is_an_error_before_the_model_is_called(
    retriever: Watched,
) -> None:
    llm = ScriptedLLM(context_window=60)
    with pytest.raises(ContextWindowError):
        list(ask(retriever, llm))
    assert llm.calls == []


def test_closing_stops_the_model(retriever: Watched) -> None:
    ended = []

    class Endless(ScriptedLLM):
        def stream(self, messages: Sequence[ChatMessage], *, max_tokens: int) -> TextStream:
            try:
                return (yield from super().stream(messages, max_tokens=max_tokens))
            finally:
                ended.append(self.steps)

    llm = Endless("word " * 40)
    events = ask(retriever, llm)
    assert next(event for event in events if isinstance(event, str) and event)
    assert ended == []
    events.close()
    assert ended == [1]
    assert llm.steps == 1


def test_a_model_that_cannot_stream_is_refused_before_the_search(retriever: Watched) -> None:
    llm = ScriptedLLM(model_name="mute")
    llm.is_streaming = False
    with pytest.raises(NotImplementedError, match="mute cannot stream") as caught:
        next(ask(retriever, llm))
    assert "RAG_MODEL" in str(caught.value)
    assert retriever.searches == 0


@pytest.mark.parametrize("pieces", [(), ("", ""), (" ",), ("\n", "\n\n")])
def test_an_answer_without_a_word_gives_the_fallback_text(
    retriever: Watched, pieces: tuple[str, ...]
) -> None:
    events = list(ask(retriever, Says(*pieces)))
    assert text_of(events).strip() == prompts.NO_TEXT
    assert isinstance(events[-1], Finished)


def test_white_space_is_kept(retriever: Watched) -> None:
    pieces = ("\n", "  a", " ", "\n\n    b", "\n")
    assert text_of(list(ask(retriever, Says(*pieces)))) == "".join(pieces)


@pytest.mark.parametrize(
    "ends", [Completion("length", Usage(10, 5)), Completion("truncated"), Completion("stop")]
)
def test_how_the_model_ended_is_told(retriever: Watched, ends: Completion) -> None:
    *_, last = ask(retriever, Says("a", " b", ends=ends))
    assert last == Finished(ends.finish_reason, ends.usage)


def test_silence_is_passed_on_so_that_the_reader_can_stop(retriever: Watched) -> None:
    events = list(ask(retriever, Says("", "", "a", "", "b")))
    assert [event for event in events if isinstance(event, str)] == ["", "", "", "a", "", "b"]


def test_timings(retriever: Watched) -> None:
    llm = ScriptedLLM("one two three four", first_token=0.2, tokens_per_second=40)
    events = list(ask(retriever, llm))
    (*_, timings) = (event for event in events if isinstance(event, Timings))
    assert timings.retrieval is not None
    assert timings.first_token is not None
    assert timings.tokens_per_second is not None
    assert 0 < timings.retrieval <= timings.first_token - 0.2
    assert 0 < timings.tokens_per_second < 60


def test_what_is_known_of_the_timings_comes_as_soon_as_it_is(retriever: Watched) -> None:
    events = ask(retriever, ScriptedLLM("one two"))
    before: list[Event] = []
    for event in events:
        if event == "one":
            break
        before.append(event)
    (*_, timings) = (event for event in before if isinstance(event, Timings))
    assert timings.first_token is not None
    assert timings.tokens_per_second is None
