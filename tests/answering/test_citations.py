"""Citations: what bears out a sentence, and that the answer does not wait for it."""

import re
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from rag.answering import citations, prompts
from rag.answering.citations import Checker, attributed, claims
from rag.answering.engine import answer
from rag.answering.events import Begun, Event, Events, Finished, Sources
from rag.answering.synthesis import ResponseSynthesizer
from rag.config import DEFAULT_EMBED_MODEL
from rag.index.embedding import Embedded, HashEmbedding
from rag.index.embedding_huggingface import HuggingFaceEmbedding
from rag.types import Citation, NodeWithScore
from tests.answering.conftest import GUARD, Finds, Says, hit, of, text_of

RHINE = (
    "The Rhine rises in the Alps. It flows north to the sea. Its mouth, which is wide, is in "
    "Holland. In 1847 Rollo built a bridge of stone there."
)
QUESTION = "Where does the Rhine rise?"


class Alike(HashEmbedding):
    """A model for which words of one group are one."""

    name = DEFAULT_EMBED_MODEL

    def __init__(self, **groups: str):
        self.groups = {word: name for name, words in groups.items() for word in words.split()}
        self.texts: list[str] = []

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.texts += texts
        return super().embed([re.sub(r"\w+", self._one, text.lower()) for text in texts])

    def _one(self, word: re.Match[str]) -> str:
        return self.groups.get(word[0], word[0])


def checked(
    sentence: str,
    *found: NodeWithScore | str,
    embedding: HashEmbedding | None = None,
    others: Sequence[NodeWithScore] = (),
    question: str = QUESTION,
    hinted: Sequence[int] = (),
) -> Citation:
    given = Finds(*(found or (RHINE,))).found
    checker = Checker(question, embedding or HashEmbedding(), given, others)
    citation = checker.check(sentence, 0, hinted)
    assert citation
    return citation


def place(citation: Citation) -> str:
    assert citation.node
    return citation.node.text[citation.node_start : citation.node_end]


# What is no claim


@pytest.mark.parametrize(
    "sentence",
    [
        *("Where does it rise?", "Here are the steps:", "Yes.", "No", "It is.", "**Okay!**"),
        *("Sure, here is the answer.", "Of course! I can help with that.", "Thank you!"),
        *("I don't know.", "I’m sorry, but I cannot answer that.", "I hope this helps!"),
        "Let me know if you have any other questions about the Rhine.",
        "The provided context does not mention the length of the Rhine.",
        "There is no information about this in the documents, it isn't mentioned.",
    ],
)
def test_what_claims_nothing(sentence: str) -> None:
    assert not claims(sentence)


@pytest.mark.parametrize(
    "sentence", ["Lisbon.", "1847", "The Rhine rises in the Alps.", "No dogs bark.", "北京。"]
)
def test_what_claims_something(sentence: str) -> None:
    assert claims(sentence)


# What bears a sentence out


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("The Rhine rises in the Alps.", "The Rhine rises in the Alps."),
        ("The Rhine is rising in the Alps", "The Rhine rises in the Alps."),
        ("Its mouth is in Holland.", "Its mouth, which is wide, is in Holland."),
        ("In 1847 a stone bridge was built.", "In 1847 Rollo built a bridge of stone there."),
        (
            "The Rhine rises in the Alps and flows north to the sea.",
            "The Rhine rises in the Alps. It flows north to the sea.",
        ),
    ],
)
def test_a_sentence_is_borne_out(sentence: str, found: str) -> None:
    citation = checked(sentence)
    assert citation.support == "supported"
    assert place(citation) == found
    assert (citation.start, citation.end) == (0, len(sentence))
    assert citation.score > 0.7


@pytest.mark.parametrize("sentence", ["Cats sleep all day.", "Lisbon.", "The Elbe was frozen."])
def test_a_sentence_is_not_borne_out(sentence: str) -> None:
    citation = checked(sentence)
    assert (citation.support, citation.node) == ("none", None)
    assert citation.score < 0.7


@pytest.mark.parametrize(
    ("sentence", "missing"),
    [
        ("In 1848 Rollo built a bridge of stone there.", ("1848",)),
        ("In 1847 Charles built a bridge of stone there.", ("Charles",)),
        ("In March 1847 Rollo built a bridge of stone there.", ("March",)),
    ],
)
def test_numbers_dates_and_names_have_to_be_in_the_passage(
    sentence: str, missing: tuple[str, ...]
) -> None:
    citation = checked(sentence)
    assert (citation.support, citation.missing) == ("partly", missing)
    assert place(citation) == "In 1847 Rollo built a bridge of stone there."


def test_they_may_be_in_its_headings_or_its_file_s_name() -> None:
    below = hit("It flows north to the sea.", headings=("Rhine 1847",), file_name="Rollo.md")
    assert checked("The Rhine flows north to the sea.", below).support == "supported"
    assert checked("In 1847 Rollo: it flows north to the sea.", below).support == "supported"


def test_of_a_passage_that_was_cut_the_whole_counts() -> None:
    whole = hit(RHINE)
    cut = hit("Its mouth, which is wide, is in Holland.", start=RHINE.index("Its mouth"))
    citation = checked("The wide mouth of the Rhine is in Holland.", cut, others=[whole])
    assert (citation.support, citation.node) == ("supported", cut.node)
    assert checked("The wide mouth of the Rhine is in Holland.", cut).missing == ("Rhine",)
    elsewhere = checked("The Rhine rises in the Alps.", cut, others=[whole])
    assert (elsewhere.support, elsewhere.node) == ("supported", whole.node)


@pytest.mark.parametrize(
    ("sentence", "missing"),
    [
        ("In 1848 Rollo built a bridge of stone there.", ("1848",)),
        ("In 1847 Karl built a bridge of stone there.", ("Karl",)),
        ("In 1847 Rollo, son of Karl, built a bridge of stone.", ()),
    ],
)
def test_a_fact_of_another_sentence_counts_where_more_comes_from_there(
    sentence: str, missing: tuple[str, ...]
) -> None:
    text = (
        "In 1847 Rollo built a bridge of stone there. Years before, in 1848, was the son of Karl."
    )
    apart = text.replace(" Years", " The sea was calm. The wind was cold. Years")
    assert checked(sentence, apart).missing == missing


def test_a_passage_that_the_model_was_not_given_counts_too() -> None:
    other = hit("The Elbe flows past Hamburg.", document_id="e")
    citation = checked("The Elbe flows past Hamburg.", RHINE, others=[other])
    assert (citation.support, citation.node) == ("supported", other.node)


def test_of_equals_the_first_is_taken_or_the_one_that_the_model_named() -> None:
    found = [hit("It flows north.", document_id=name) for name in "abc"]
    assert checked("It flows north.", *found).node == found[0].node
    assert checked("It flows north.", *found, hinted=[3]).node == found[2].node
    assert checked("It flows north.", *found, hinted=[9]).node == found[0].node
    assert checked("Cats sleep.", *found, hinted=[1]).support == "none"


def test_a_few_words_are_read_with_their_question() -> None:
    two = hit("Holland is flat. The Rhine has its mouth in Holland.")
    citation = checked("Holland.", two, question="Where does the Rhine have its mouth?")
    assert citation.support == "supported"
    assert place(citation) == "The Rhine has its mouth in Holland."
    assert checked("In 1847.", RHINE, question="When was it built?").support == "supported"
    assert checked("In 1848.", RHINE, question="When was the bridge built?").support != "supported"


def test_what_is_in_another_language_is_not_told_to_be_missing() -> None:
    german = "Der Rhein fließt nach Norden bis zum Meer."
    assert Checker(QUESTION, HashEmbedding(), Finds(RHINE).found).check(german, 0) is None
    assert checked(german, german).support == "supported"
    assert checked("Die Katzen schlafen den ganzen Tag lang.", german).support == "none"
    checker = Checker(QUESTION, HashEmbedding(), Finds(german).found)
    assert checker.check("The Rhine flows to the north and into the sea.", 0) is None


def test_the_embedding_decides_where_words_do_not() -> None:
    sentence = "Rushing north, one reaches a sea."
    assert checked(sentence, embedding=Alike()).support == "none"
    embedding = Alike(flows="flows rushing", it="it one", to="to reaches", the="the a")
    assert checked(sentence, embedding=embedding).support == "supported"
    assert embedding.texts[0] == sentence
    assert len(embedding.texts) == 2


@pytest.mark.parametrize("sentence", ["It flows north to the sea.", "Cats sleep all day."])
def test_the_embedding_is_not_asked_where_words_decide(sentence: str) -> None:
    embedding = Alike()
    checked(sentence, embedding=embedding)
    assert embedding.texts == []


def test_a_passage_s_sentence_is_embedded_once_in_an_answer() -> None:
    embedding = Alike()
    checker = Checker(QUESTION, embedding, Finds(RHINE).found)
    checker.check("It flows north into the ocean.", 0)
    before = len(embedding.texts)
    checker.check("It flows north into an ocean.", 40)
    assert len(embedding.texts) == before + 1


# Beside the stream


SAYS = ["The Rhine rises", " in the Alps [2].", " Cats sleep.", " It flows north", " to the sea."]
PLAIN = "The Rhine rises in the Alps. Cats sleep. It flows north to the sea."


class Waits(Alike):
    """Embeds nothing before `go`."""

    def __init__(self) -> None:
        super().__init__(sea="sea ocean")
        self.go, self.asked = threading.Event(), threading.Event()

    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        self.asked.set()
        assert self.go.wait(GUARD)
        return super().embed(texts)


class Breaks(Alike):
    def embed(self, texts: Sequence[str]) -> list[Embedded]:
        raise RuntimeError("no memory")


def ask(llm: Any, embedding: HashEmbedding | None = None, **options: Any) -> Events:
    synthesizer = ResponseSynthesizer(llm, streaming=True, **options)
    return answer(QUESTION, Finds(RHINE), synthesizer, (), (), embedding or HashEmbedding())


def threads() -> int:
    return sum(thread.name.startswith("citations") for thread in threading.enumerate())


def soon(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + GUARD
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()


def supports(events: Sequence[Event]) -> list[tuple[str, str]]:
    text = text_of(events)
    return [(text[each.start : each.end], each.support) for each in of(Citation, events)]


def test_each_sentence_is_cited_in_its_order_before_the_end() -> None:
    events = list(ask(Says(SAYS)))
    assert text_of(events) == PLAIN
    assert supports(events) == [
        ("The Rhine rises in the Alps.", "supported"),
        ("Cats sleep.", "none"),
        ("It flows north to the sea.", "supported"),
    ]
    assert isinstance(events[-1], Finished)


@pytest.mark.parametrize("mode", ["refine", "tree_summarize", "simple_summarize", "accumulate"])
def test_all_modes_are_cited(mode: Any) -> None:
    events = list(ask(Says(SAYS), response_mode=mode))
    assert [support for _, support in supports(events)] == ["supported", "none", "supported"]


@pytest.mark.parametrize("mode", ["generation", "context_only", "no_text"])
def test_what_is_not_written_from_passages_is_not_cited(mode: Any) -> None:
    events = list(ask(Says(SAYS), response_mode=mode))
    assert of(Citation, events) == []
    assert ("[2]" in text_of(events)) == (mode == "generation")


def test_what_we_say_ourselves_is_not_cited() -> None:
    nothing = list(answer(QUESTION, Finds(), ResponseSynthesizer(Says()), (), (), HashEmbedding()))
    silent = list(ask(Says([])))
    assert text_of(nothing) == prompts.NOTHING_FOUND
    assert text_of(silent) == prompts.NO_TEXT
    assert of(Citation, nothing + silent) == []


def test_without_an_embedding_nothing_is_checked() -> None:
    synthesizer = ResponseSynthesizer(Says(SAYS))
    events = list(answer(QUESTION, Finds(RHINE), synthesizer))
    assert of(Citation, events) == []
    assert text_of(events) == "".join(SAYS)


NEAR = ["It flows north", " into the ocean.", " It flows north into the ocean.", " Cats", " sleep."]
"""What words alone do not decide."""


def test_no_text_waits_for_a_check() -> None:
    embedding = Waits()
    with closing(ask(Says(NEAR), embedding)) as events:
        passed: list[Event] = []
        while text_of(passed) != "".join(NEAR):
            passed.append(next(events))
        assert of(Citation, passed) == []
        assert embedding.asked.wait(GUARD)
        passed += [next(events) for _ in range(3)]  # nor is the reader held up at the end
        assert passed[-2:] == ["", ""]
        embedding.go.set()
        passed += events
    assert [support for _, support in supports(passed)] == ["supported", "supported", "none"]
    assert isinstance(passed[-1], Finished)
    assert soon(lambda: threads() == 0)


def test_the_end_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(citations, "PATIENCE", 0.05)
    embedding = Waits()
    events = list(ask(Says(["Cats sleep. ", *NEAR]), embedding))
    assert isinstance(events[-1], Finished)
    assert [support for _, support in supports(events)] == ["none"]
    embedding.go.set()
    assert soon(lambda: threads() == 0)


def test_an_answer_that_is_stopped_keeps_what_was_checked_and_leaves_no_thread() -> None:
    events = ask(Says([*SAYS, *[" Cats sleep."] * 400]))
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, Citation):
            break
    events.close()
    assert [support for _, support in supports(seen)] == ["supported"]
    assert soon(lambda: threads() == 0)


def test_a_failure_is_logged_and_the_answer_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    events = list(ask(Says(NEAR), Breaks()))
    assert text_of(events) == "".join(NEAR)
    assert of(Citation, events) == []
    assert isinstance(events[-1], Finished)
    assert [record.message for record in caplog.records] == [
        "The sentences of an answer cannot be checked"
    ]
    assert soon(lambda: threads() == 0)


def test_before_an_error_the_text_is_passed() -> None:
    events: list[Event] = []
    with pytest.raises(OSError, match="gone"):
        events.extend(ask(Says(["The Rhine [1", OSError("gone")])))
    assert text_of(events) == "The Rhine [1"
    assert soon(lambda: threads() == 0)


def test_events_without_passages_pass_as_they_are() -> None:
    def events() -> Events:
        yield from (Sources(()), Begun(), "So [1]. And", Finished("stop"))

    assert list(attributed("x", events(), HashEmbedding())) == list(events())


@pytest.mark.slow
def test_the_real_model_knows_other_words_for_the_same(minilm_path: Path) -> None:
    model = HuggingFaceEmbedding()
    given = Finds(RHINE, "The library was founded in 1902 by the physician Ada Berg.").found
    checker = Checker("Who started the library?", model, given)
    told = [
        checker.check(sentence, 0)
        for sentence in (
            "The doctor Ada Berg started the library in 1902.",
            "The doctor Ada Berg started the library in 1903.",
            "The river Rhine flows northward into the sea.",
            "The library has a large garden with old trees.",
        )
    ]
    assert [each.support for each in told if each] == ["supported", "partly", "supported", "none"]
    assert told[1]
    assert told[1].missing == ("1903",)
