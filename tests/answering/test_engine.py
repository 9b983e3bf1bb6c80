"""The one path from a question to its answer."""

from collections.abc import Sequence
from typing import Any

import pytest

from rag.answering import prompts
from rag.answering.engine import RERANKED, answer, answer_as_set, searched
from rag.answering.events import (
    Begun,
    Event,
    Events,
    Finished,
    LeftOut,
    SearchedFor,
    Sources,
    Status,
    Timings,
)
from rag.answering.options import AnswerOptions
from rag.answering.postprocessing import SimilarityPostprocessor
from rag.answering.synthesis import ResponseSynthesizer
from rag.config import Config, ResponseMode
from rag.errors import ContextWindowError, ProviderError, StoreError
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import ingest
from rag.index.retrieval import VectorIndexRetriever
from rag.index.store import ChromaStore
from rag.llms.scripted import ScriptedLLM
from rag.types import ChatMessage, Completion, Document, NodeWithScore, Reasoning, Usage
from tests.answering.conftest import Finds, Says, dialogue, of, statuses, text_of

QUESTION = "Why is the sky blue?"
TEXTS = {
    "sky.txt": "The sky is blue because of Rayleigh scattering.",
    "grass.txt": "Grass is green because of chlorophyll.",
    "snow.txt": "Snow is white because it scatters all light.",
}
BEFORE = dialogue("What is Rayleigh scattering?", "Light is scattered by air.")


@pytest.fixture
def retriever(store: ChromaStore, hash_embedding: HashEmbedding) -> VectorIndexRetriever:
    """Over an index with three documents."""
    for name, text in TEXTS.items():
        for _ in ingest(Document(text, {"file_name": name}), store, hash_embedding):
            pass
    return VectorIndexRetriever([store], hash_embedding, similarity_top_k=3)


def kinds(events: Sequence[Event]) -> list[type]:
    """The kinds of events in their order, without timings, repetitions and empty texts."""
    result: list[type] = []
    for event in events:
        if event != "" and not isinstance(event, Timings) and result[-1:] != [type(event)]:
            result.append(type(event))
    return result


def ask(
    retriever: Any,
    llm: Any,
    history: Sequence[ChatMessage] = (),
    *postprocessors: Any,
    streaming: bool = True,
    **options: Any,
) -> Events:
    synthesizer = ResponseSynthesizer(llm, **{"streaming": streaming, **options})
    return answer(QUESTION, retriever, synthesizer, history, postprocessors)


def test_the_order_of_events(retriever: VectorIndexRetriever) -> None:
    events = list(ask(retriever, ScriptedLLM("Because of scattering.")))
    assert kinds(events) == [Status, Sources, Status, Begun, Status, str, Finished]
    assert statuses(events) == ["Searching", "Reading 3 passages", "Writing"]
    assert text_of(events) == "Because of scattering."
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.finish_reason == "stop"
    assert finished.usage
    assert finished.usage.completion_tokens == 3


def test_the_sources_are_those_the_model_was_given(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM()
    (sources,) = of(Sources, ask(retriever, llm))
    assert sources.nodes[0].node.file_name == "sky.txt"
    assert {hit.node.text for hit in sources.nodes} == set(TEXTS.values())
    assert sources.others == ()
    ((message,),) = llm.calls
    assert all(hit.node.text in message.content for hit in sources.nodes)


def test_04_the_sources_come_before_the_model_is_called(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM()
    for event in ask(retriever, llm):
        if isinstance(event, Sources):
            assert llm.calls == []
            break
    else:
        pytest.fail("no sources")


def test_what_a_post_processor_leaves_out_is_told_apart(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM()
    (sources,) = of(Sources, ask(retriever, llm, (), lambda nodes, _: nodes[:1]))
    assert [hit.node.file_name for hit in sources.nodes] == ["sky.txt"]
    assert sorted(hit.node.file_name for hit in sources.others) == ["grass.txt", "snow.txt"]
    assert "chlorophyll" not in llm.calls[0][0].content


@pytest.mark.parametrize(
    ("small", "mode", "passages"),
    [(True, "compact", 1), (True, "simple_summarize", 3), (False, "compact", 3)],
)
def test_the_settings_decide_how_it_is_answered(
    retriever: VectorIndexRetriever, small: bool, mode: Any, passages: int
) -> None:
    llm = Says(small=small)
    config = Config(response_mode=mode, max_new_tokens=9)
    (sources,) = of(Sources, answer_as_set(QUESTION, retriever, llm, config, HashEmbedding()))
    assert len(sources.nodes) == passages
    assert llm.limits == [9]


def test_what_did_not_fit_is_told_as_found_too() -> None:
    llm = Says(context_window=150)
    found = Finds("one " * 30, "two " * 30)
    (sources,) = of(Sources, ask(found, llm, response_mode="simple_summarize"))
    assert (list(sources.nodes), list(sources.others)) == (found.found[:1], found.found[1:])


def test_post_processors_are_applied_in_their_order() -> None:
    seen = []

    def first(nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:
        seen.append((len(nodes), query))
        return list(nodes)[::-1]

    def second(nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:
        seen.append((len(nodes), query))
        return list(nodes)[:2]

    llm = Says()
    (sources,) = of(Sources, ask(Finds("one", "two", "three"), llm, (), first, second))
    assert seen == [(3, QUESTION), (3, QUESTION)]
    assert [hit.text for hit in sources.nodes] == ["three", "two"]


# Nothing to answer from


def test_12_without_hits_no_model_is_called(
    store: ChromaStore, hash_embedding: HashEmbedding
) -> None:
    llm = ScriptedLLM()
    events = list(ask(VectorIndexRetriever([store], hash_embedding), llm))
    without_timings = [event for event in events if not isinstance(event, Timings)]
    assert without_timings[1:] == [
        *(Sources(()), Begun(), prompts.NOTHING_FOUND, Finished("stop")),
    ]
    assert llm.calls == []


def test_12_without_a_passage_that_is_left_no_model_is_called() -> None:
    llm, found = Says(), Finds("one", "two")
    events = list(ask(found, llm, (), SimilarityPostprocessor(2.0)))
    assert text_of(events) == prompts.NOTHING_LEFT
    assert of(Sources, events) == [Sources((), tuple(found.found))]
    assert llm.calls == []


@pytest.mark.parametrize("question", ["", " ", "\n\t "])
def test_a_question_without_a_word_is_refused_before_anything(question: str) -> None:
    llm, found = Says(), Finds("one")
    with pytest.raises(ValueError, match="The question is empty"):
        next(answer(question, found, ResponseSynthesizer(llm)))
    assert (llm.calls, found.asked) == ([], [])


# The conversation


def test_the_history_is_given(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM()
    list(ask(retriever, llm, BEFORE))
    assert llm.calls[-1][:2] == BEFORE


def test_20_a_first_question_is_not_condensed() -> None:
    llm, found = Says(), Finds("one")
    events = list(ask(found, llm))
    assert len(llm.calls) == 1
    assert found.asked == [QUESTION]
    assert of(SearchedFor, events) == []


def test_20_a_later_question_is_condensed_by_a_call_that_does_not_stream() -> None:
    llm = Says(["Why", " does air scatter blue light?"], ["Because."])
    found = Finds("one")
    seen: list[str] = []

    def watch(nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:
        seen.append(query)
        return nodes

    events = list(ask(found, llm, BEFORE, watch))
    assert text_of(events) == "Because."
    condensing, answering = llm.calls
    (asked,) = condensing
    assert "user: What is Rayleigh scattering?\nassistant: Light is scattered" in asked.content
    assert QUESTION in asked.content
    assert found.asked == seen == ["Why does air scatter blue light?"]
    assert of(SearchedFor, events) == [SearchedFor("Why does air scatter blue light?")]
    assert QUESTION in answering[-1].content  # its history makes it clear
    assert statuses(events) == [
        *("Reading the conversation", "Searching", "Reading 1 passage", "Writing")
    ]


def test_20_what_is_searched_for_is_told_before_the_search() -> None:
    found = Finds("one")
    for event in ask(found, Says(["Why so?"], ["x"]), BEFORE):
        if isinstance(event, SearchedFor):
            assert found.asked == []
            return
    pytest.fail("not told")


@pytest.mark.parametrize(
    ("says", "searched"),
    [
        (["  Why so? \n"], "Why so?"),
        (['"Why so?"'], "Why so?"),
        (["“Why so?”"], "Why so?"),
        (["Why so?\nThat is the question."], "Why so?"),
        (["<think>Hm.\nWell.</think>\nWhy so?"], "Why so?"),
        ([Reasoning("Hm."), "Why so?"], "Why so?"),
    ],
)
def test_20_a_condensed_question_is_one_line(says: list[Any], searched: str) -> None:
    found = Finds("one")
    list(ask(found, Says(says, ["x"]), BEFORE))
    assert found.asked == [searched]


@pytest.mark.parametrize("says", [[], [" \n "], ['""'], ["<think>Hm."], [QUESTION]])
def test_20_where_the_model_says_nothing_new_the_question_itself_is_searched_for(
    says: list[str],
) -> None:
    llm, found = Says(says, ["x"]), Finds("one")
    events = list(ask(found, llm, BEFORE))
    assert found.asked == [QUESTION]
    assert of(SearchedFor, events) == []
    assert len(llm.calls) == 2


def test_20_a_small_model_s_follow_up_is_searched_for_with_what_it_hangs_on() -> None:
    """It condenses badly: no call is made for it, and it answers what was asked."""
    llm, found = Says(small=True), Finds("one")
    synthesizer = ResponseSynthesizer(llm)
    events = list(answer("And why is it blue?", found, synthesizer, BEFORE))
    assert found.asked == ["And why is it blue? What is Rayleigh scattering?"]
    assert of(SearchedFor, events) == [SearchedFor(found.asked[0])]
    ((message,),) = llm.calls
    assert "And why is it blue?" in message.content
    assert "Rayleigh" not in message.content
    assert text_of(events) == "An answer."


def test_20_the_question_is_not_condensed_where_nothing_is_searched() -> None:
    llm, found = Says(), Finds("one")
    events = list(ask(found, llm, BEFORE, response_mode="generation"))
    assert llm.calls == [[*BEFORE, ChatMessage("user", QUESTION)]]
    assert found.asked == []
    assert statuses(events) == ["Reading the conversation", "Writing"]


def test_23_a_conversation_too_long_to_condense_is_cut_from_its_oldest_end() -> None:
    llm = Says(["Why so?"], ["x"], context_window=260)
    history = dialogue(*(f"turn{n} " + "word " * 30 for n in range(6)))
    events = list(ask(Finds("one"), llm, history))
    (told,) = llm.calls[0]
    assert "turn5" in told.content
    assert "turn4" in told.content
    assert "turn0" not in told.content
    (left_out,) = of(LeftOut, events)
    kept = llm.calls[1][:-1]
    assert kept == history[len(history) - len(kept) :]
    assert left_out.messages == len(history) - len(kept) > 0


def test_turns_without_an_answer_are_left_out_of_the_history() -> None:
    llm = Says(["Why so?"], ["x"])
    history = dialogue("a?", " \n", "b?", "B.", "c?", "")
    list(ask(Finds("one"), llm, history))
    assert llm.calls[1][:-1] == history[2:4]
    assert "a?" not in llm.calls[0][0].content
    assert "c?" not in llm.calls[0][0].content


def test_a_history_without_any_answer_is_none() -> None:
    llm, found = Says(), Finds("one")
    list(ask(found, llm, dialogue("a?", "", "b?", " ")))
    assert len(llm.calls) == 1
    assert len(llm.calls[0]) == 1


def test_the_usage_of_condensing_is_counted() -> None:
    llm = Says(["a", Completion("stop", Usage(1, 10))], ["b", Completion("stop", Usage(2, 20))])
    *_, last = ask(Finds("one"), llm, BEFORE)
    assert last == Finished("stop", Usage(3, 30))


def test_the_limit_of_an_answer_is_not_that_of_condensing() -> None:
    llm = Says()
    list(ask(Finds("one"), llm, BEFORE, max_tokens=7))
    assert llm.limits == [None, 7]


def test_the_templates_of_condensing_are_used() -> None:
    llm = Says()
    told = prompts.Prompts(condense_template="{question}<{chat_history}>", system_prompt="Brief.")
    list(ask(Finds("one"), llm, dialogue("a?", "A."), prompts=told))
    assert llm.calls[0] == [
        ChatMessage("system", "Brief."),
        ChatMessage("user", f"{QUESTION}<user: a?\nassistant: A.>"),
    ]


# Errors and stopping


def test_07_an_error_comes_after_the_text_before_it(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM("one two three four", error=ProviderError("gone"), error_after=2)
    events: list[Event] = []
    with pytest.raises(ProviderError, match="gone"):
        events.extend(ask(retriever, llm))
    assert text_of(events) == "one two"


def test_an_error_of_the_retriever_is_raised() -> None:
    class Broken:
        def retrieve(self, query: str) -> list[NodeWithScore]:
            raise StoreError("no index")

    llm = Says()
    with pytest.raises(StoreError, match="no index"):
        list(ask(Broken(), llm))
    assert llm.calls == []


def test_an_error_of_a_post_processor_is_raised() -> None:
    def broken(nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:
        raise KeyError("rank")

    llm = Says()
    with pytest.raises(KeyError, match="rank"):
        list(ask(Finds("one"), llm, (), broken))
    assert llm.calls == []


def test_19_a_question_that_does_not_fit_is_an_error_before_the_model_is_called(
    retriever: VectorIndexRetriever,
) -> None:
    llm = ScriptedLLM(context_window=60)
    with pytest.raises(ContextWindowError):
        list(ask(retriever, llm))
    assert llm.calls == []


def test_10_closing_stops_the_model() -> None:
    llm = Says(["word "] * 40)
    events = ask(Finds("one"), llm)
    assert next(event for event in events if isinstance(event, str) and event)
    assert llm.open == 1
    events.close()
    assert (llm.open, llm.steps) == (0, 1)


def test_10_closing_while_the_question_is_condensed_stops_the_model() -> None:
    llm, found = Says(["word "] * 40), Finds("one")
    events = ask(found, llm, BEFORE)
    while llm.steps < 2:
        assert next(events) is not None
    events.close()
    assert (llm.open, found.asked) == (0, [])


def test_11_a_model_that_cannot_stream_is_refused_before_the_search() -> None:
    llm: Any = ScriptedLLM(model_name="mute")
    llm.is_streaming = False
    found = Finds("one")
    with pytest.raises(NotImplementedError, match="mute cannot stream") as caught:
        next(ask(found, llm))
    assert "RAG_MODEL" in str(caught.value)
    assert "streaming=False" in str(caught.value)
    assert found.asked == []
    assert text_of(ask(found, llm, streaming=False)) == llm.script


# How it ended, and how long it took


@pytest.mark.parametrize(
    "ends", [Completion("length", Usage(10, 5)), Completion("truncated"), Completion("stop")]
)
def test_09_how_the_model_ended_is_told(ends: Completion) -> None:
    *_, last = ask(Finds("one"), Says(["a", " b", ends]))
    assert last == Finished(ends.finish_reason, ends.usage)


def test_timings(retriever: VectorIndexRetriever) -> None:
    llm = ScriptedLLM("one two three four", first_token=0.2, tokens_per_second=40)
    events = list(ask(retriever, llm))
    (*_, timings) = of(Timings, events)
    assert timings.retrieval is not None
    assert timings.first_token is not None
    assert timings.tokens_per_second is not None
    assert 0 < timings.retrieval <= timings.first_token - 0.2
    assert 0 < timings.tokens_per_second < 60


def test_the_first_token_is_counted_from_the_question_also_after_condensing() -> None:
    llm = ScriptedLLM("one two", first_token=0.1)
    (*_, timings) = of(Timings, ask(Finds("one"), llm, BEFORE))
    assert timings.retrieval >= 0.1
    assert timings.first_token >= timings.retrieval + 0.1


def test_what_is_known_of_the_timings_comes_as_soon_as_it_is() -> None:
    before: list[Event] = []
    for event in ask(Finds("one"), ScriptedLLM("one two")):
        if event == "one":
            break
        before.append(event)
    told = of(Timings, before)
    assert told[0].retrieval is not None
    assert told[0].first_token is None
    assert told[-1].retrieval == told[0].retrieval
    assert told[-1].first_token is not None
    assert told[-1].tokens_per_second is None


# What a chat template wants


def test_answers_that_were_ours_are_not_told_to_the_model() -> None:
    llm = Says(["Why so?"], ["x"])
    history = dialogue("a?", prompts.NO_TEXT, "b?", "B.", "c?", prompts.NOTHING_LEFT)
    list(ask(Finds("one"), llm, history))
    assert llm.calls[1][:-1] == history[2:4]


def test_questions_and_answers_are_told_in_turn() -> None:
    llm = Says(["Why so?"], ["x"])
    user, assistant = dialogue("b?", "B.")
    history = [ChatMessage("user", "lost?"), user, assistant, ChatMessage("user", "open?")]
    list(ask(Finds("one"), llm, history))
    assert llm.calls[1][:-1] == [user, assistant]


def test_there_is_one_message_of_the_system() -> None:
    llm = Says(["Why so?"], ["x"])
    history = [ChatMessage("system", "Be kind."), *dialogue("b?", "B.")]
    list(ask(Finds("one"), llm, history, prompts=prompts.Prompts(system_prompt="Be brief.")))
    for call in llm.calls:
        assert call[0] == ChatMessage("system", "Be brief.\n\nBe kind.")
        assert [message.role for message in call].count("system") == 1


def test_a_system_message_alone_is_no_conversation() -> None:
    llm = Says(["x"])
    list(ask(Finds("one"), llm, [ChatMessage("system", "Be kind.")]))
    assert [message.role for message in llm.calls[0]] == ["system", "user"]


@pytest.mark.parametrize(
    ("says", "searched"),
    [
        (["Sure! Here it is:\nWhy so?"], "Why so?"),
        (["Why", Completion("length")], QUESTION),
        (["Why", Completion("truncated")], QUESTION),
    ],
)
def test_20_a_condensed_question_is_whole(says: list[Any], searched: str) -> None:
    found = Finds("one")
    list(ask(found, Says(says, ["x"]), BEFORE))
    assert found.asked == [searched]


def test_20_nothing_is_condensed_where_no_turn_fits() -> None:
    llm, found = Says(["x"], context_window=300), Finds("one")
    list(ask(found, llm, dialogue("a?", "word " * 400)))
    assert found.asked == [QUESTION]
    assert len(llm.calls) == 1


def test_the_usage_of_finished_calls_is_told_before_the_next() -> None:
    llm = Says(["a", Completion("stop", Usage(1, 10))], ["b"], ["c"])
    events = ask(Finds("one", "two", "three"), llm, response_mode="accumulate")
    assert next(event for event in events if isinstance(event, Usage)) == Usage(1, 10)
    assert len(llm.calls) == 1
    events.close()


def test_a_post_processor_cannot_change_what_was_found() -> None:
    def empties(nodes: Any, query: str) -> Any:
        nodes.clear()
        return nodes

    events = list(ask(Finds("one"), Says(), (), empties))
    assert text_of(events) == prompts.NOTHING_LEFT


def test_where_nothing_bears_on_the_question_no_model_is_called(
    retriever: VectorIndexRetriever,
) -> None:
    llm = Says("Blue.")
    for cutoff, calls in ((1.0, 0), (None, 1), (0.0, 2)):
        config = Config(relevance_cutoff=cutoff)
        events = list(answer_as_set("Why is snow cold?", retriever, llm, config, HashEmbedding()))
        assert len(llm.calls) == calls
        (sources,) = of(Sources, events)
        if cutoff:
            assert text_of(events) == prompts.NOTHING_LEFT
            assert (len(sources.nodes), len(sources.others)) == (0, 3)  # the nearest are shown
        else:
            assert sources.nodes


def test_a_cross_encoder_comes_before_the_choice_of_the_best(
    retriever: VectorIndexRetriever,
) -> None:
    def reverse(nodes: Sequence[NodeWithScore], query: str) -> list[NodeWithScore]:
        assert query == QUESTION
        return list(nodes)[-1:]

    llm, config = Says("Blue.", small=True), Config(rerank_model="x")
    assert searched(config) == RERANKED
    assert searched(Config(top_k=4)) == 4
    (last,) = retriever.retrieve(QUESTION)[-1:]
    events = answer_as_set(QUESTION, retriever, llm, config, HashEmbedding(), reverse)
    (sources,) = of(Sources, events)
    assert [hit.text for hit in sources.nodes] == [last.text]


# What a person sets


def as_set(
    found: Any, llm: Says, *, config: Config | None = None, **given: Any
) -> tuple[list[Event], Says]:
    embedding = None if found is None else HashEmbedding()
    return list(answer_as_set(QUESTION, found, llm, config or Config(), embedding, **given)), llm


@pytest.mark.parametrize(
    "mode",
    ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate", "compact_accumulate"],
)
def test_what_is_set_acts_in_every_mode(mode: ResponseMode) -> None:
    options = AnswerOptions(None, 99, 0.5, "brief", "German", "You are a pirate.")
    found, config = Finds("one", "two"), Config(response_mode=mode)
    _, llm = as_set(found, Says(["An answer."]), config=config, options=options)
    assert set(llm.limits) == {99}
    assert set(llm.temperatures) == {0.5}
    for messages in llm.calls:
        assert messages[0] == ChatMessage("system", "You are a pirate.")
        assert "in one short sentence" in messages[-1].content
        assert " Write the answer in German." in messages[-1].content


def test_what_is_not_set_is_as_the_program_has_it() -> None:
    config = Config(max_new_tokens=77)
    _, llm = as_set(Finds("one"), Says(), config=config)
    assert (llm.limits, llm.temperatures) == ([77], [None])
    plain = Says()
    list(answer(QUESTION, Finds("one"), ResponseSynthesizer(plain, streaming=True)))
    (told,), (bare,) = llm.calls[0], plain.calls[0]
    assert told.content == bare.content.replace("one", prompts.fence("one"), 1)


def test_as_many_passages_as_are_asked_for_are_left_of_a_cross_encoder_s() -> None:
    config, found = Config(rerank_model="x"), Finds(*"abcdefgh")

    def as_it_is(nodes: Sequence[NodeWithScore], query: str) -> Sequence[NodeWithScore]:
        assert len(nodes) == 8
        return nodes

    for top_k, left in ((None, config.top_k), (1, 1), (6, 6)):
        options = AnswerOptions(top_k=top_k)
        events, _ = as_set(found, Says(), config=config, rerank=as_it_is, options=options)
        assert len(of(Sources, events)[0].nodes) == left
    assert searched(config, 6) == RERANKED
    assert (searched(Config(), 6), searched(Config(top_k=4))) == (6, 4)


def test_a_small_model_gets_the_best_sentence_of_as_many_passages_as_are_asked_for() -> None:
    found = Finds("One is this.", "Two is that.", "Nothing.", "Nought.", "Why the sky is blue.")
    for top_k, given in ((5, "Why the sky is blue."), (2, "One is this.")):
        options = AnswerOptions(top_k=top_k)
        events, _ = as_set(found, Says(small=True), options=options)
        ((hit,),) = (sources.nodes for sources in of(Sources, events))
        assert hit.text == given


# A question as a person put it to be searched for


@pytest.mark.parametrize("small", [True, False])
def test_an_edited_question_is_searched_for_and_asked(small: bool) -> None:
    found = Finds("one")
    events, llm = as_set(
        found, Says(small=small), history=BEFORE, search_for=" Why is grass green? "
    )
    assert found.asked == ["Why is grass green?"]
    assert of(SearchedFor, events) == [SearchedFor("Why is grass green?")]
    (messages,) = llm.calls  # nothing is condensed
    assert "Query: Why is grass green?" in messages[-1].content
    assert QUESTION not in messages[-1].content
    assert len(messages) == (1 if small else 3)


def test_it_is_told_also_where_it_is_the_question_itself() -> None:
    events, _ = as_set(Finds("one"), Says(), search_for=QUESTION)
    assert of(SearchedFor, events) == [SearchedFor(QUESTION)]


@pytest.mark.parametrize("blank", ["", "  "])
def test_where_nothing_is_edited_it_is_condensed(blank: str) -> None:
    found = Finds("one")
    as_set(found, Says(["Why so?"], ["x"]), history=BEFORE, search_for=blank)
    assert found.asked == ["Why so?"]


# Plain chat


@pytest.mark.parametrize("mode", ["compact", "tree_summarize", "no_text"])
def test_where_nothing_is_searched_the_model_is_asked_with_the_conversation(
    mode: ResponseMode,
) -> None:
    events, llm = as_set(None, Says(), config=Config(response_mode=mode), history=BEFORE)
    assert llm.calls == [[*BEFORE, ChatMessage("user", QUESTION)]]
    assert of(Sources, events) == [Sources(())]
    assert of(SearchedFor, events) == []
    assert text_of(events) == "An answer."
    assert statuses(events) == ["Reading the conversation", "Writing"]


def test_what_is_set_acts_in_plain_chat_too() -> None:
    options = AnswerOptions(None, 99, 0.5, "usual", "German", "You are a pirate.")
    _, llm = as_set(None, Says(), options=options)
    assert llm.calls == [
        [
            ChatMessage("system", "You are a pirate."),
            ChatMessage("user", f"{QUESTION}\n\nWrite the answer in German."),
        ]
    ]
    assert (llm.limits, llm.temperatures) == ([99], [0.5])
