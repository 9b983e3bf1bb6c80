"""A conversation as the tree of parts that the page is given."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from bs4 import BeautifulSoup
from gradio.utils import diff

from rag.answering.events import READING, SEARCHING, Status, Timings
from rag.answering.prompts import NOTHING_LEFT
from rag.answering.sentences import GrowingSentences
from rag.errors import RivuletError
from rag.preparation import Preparation
from rag.types import Citation, FinishReason, Node, NodeWithScore, Support
from rag.ui import turns
from rag.ui.blocks import Block
from rag.ui.conversations import Answer, Conversation, Entry, Turn
from rag.ui.jobs import Job
from rag.ui.language import english
from rag.ui.line import Waiting
from rag.ui.turns import QUESTIONS, Doing, Shown, button, conversations, edited, mark, parts
from tests.ui.markup import HOSTILE, safe
from tests.ui.pages import leaves, opened, said

SHOWN = Shown(english, [("Small", "owner/small"), ("gpt", "openai:gpt")])
NODE = Node("The sky is blue.", "d", 0, 0, "a.pdf", 3)


def hit(text: str = "The sky is blue.", name: str = "a.pdf", **place: Any) -> NodeWithScore:
    return NodeWithScore(Node(text, "d", 0, 0, name, **place), 0.756)


def tree(*shown: Turn, **more: Any) -> list[dict[str, Any]]:
    made = opened(parts(Conversation(turns=list(shown)), more.pop("shown", SHOWN), **more))
    for _, markup in leaves(made):
        safe(str(markup))
    return made


def found(made: Sequence[dict[str, Any]], kind: str) -> BeautifulSoup:
    """The only part of a kind."""
    (markup,) = [markup for each, markup in leaves(made) if each == kind]
    return markup


def kinds(answer: Answer, **more: Any) -> list[str]:
    """Of the parts of an answer."""
    return [kind for kind, _ in leaves(tree(Turn("a?", [answer]), **more))][1:]


def done(text: str = "A.", **more: Any) -> Answer:
    return Answer("m", text, **{"finish_reason": "stop", **more})


class TestTree:
    def test_an_empty_conversation_welcomes(self) -> None:
        (welcome,) = tree()
        soup = safe(welcome["h"])
        asked = soup.find_all(attrs={"data-do": "suggested"})
        assert [each["data-key"] for each in asked] == list(QUESTIONS)
        assert {each["data-on"] for each in asked} == {"ask"}

    def test_a_turn_is_a_question_and_its_answers(self) -> None:
        first, second = Turn("a?", [done("A.")]), Turn("b?", [done("B."), done("C.")])
        made = tree(first, second)
        assert [part["k"] for part in made] == [first.key, second.key]
        question, answers = made[1]["n"]
        assert BeautifulSoup(question["h"], "html.parser").h3.text == "b?"
        assert [each["k"] for each in answers["n"]] == [each.key for each in second.answers]
        assert "several" in answers["c"]
        assert "several" not in made[0]["n"][1]["c"]
        assert said(made) == "C."

    def test_a_turn_that_others_follow_is_made_once_until_it_changes(self) -> None:
        first = Turn("a?", [done("A.")])
        turns, shown = [first, Turn("b?", [done("B.")])], Shown(english)
        conversation = Conversation(turns=turns)
        assert parts(conversation, shown)[0] is parts(conversation, shown)[0]
        made = tree(*turns, shown=shown)
        first.answers[0].rating = 1
        assert tree(*turns, shown=shown) == tree(*turns, shown=Shown(english)) != made
        first.answers.append(Answer("m", "C"))
        writing = {"writing": first.answers[1]}
        assert said(tree(*turns, shown=shown, **writing)[:1]) == "C"
        first.answers[1].text = "C."
        assert said(tree(*turns, shown=shown, **writing)[:1]) == "C."

    def test_keys_are_unique_among_neighbours(self) -> None:
        def check(made: Sequence[dict[str, Any]]) -> None:
            assert len({part["k"] for part in made}) == len(made)
            for part in made:
                assert ("h" in part) != ("n" in part)
                check(part.get("n", ()))

        answer = done("One.\n\nTwo.\n\nThree.", reasoning="r", searched_for="s", error="e")
        answer.sources, answer.suggestions = (hit(),), ("x?",)
        check(tree(Turn("a?", [answer, done()]), Turn("a?", [Answer()])))

    def test_growing_text_changes_only_the_last_paragraph(self) -> None:
        answer = Answer("m", "One.\n\nTwo")
        turn = Turn("a?", [answer])
        before = tree(turn, writing=answer)
        answer.text += " three."
        after = tree(turn, writing=answer)
        (one, two), (one_again, two_again) = (
            before[0]["n"][1]["n"][0]["n"],
            after[0]["n"][1]["n"][0]["n"],
        )
        assert one == one_again
        assert two != two_again
        assert two["k"] == two_again["k"]

    def test_only_the_answer_that_is_written_is_marked(self) -> None:
        first, second = done(), Answer("m")
        made = tree(Turn("a?", [first]), Turn("b?", [second]), writing=second, doing=Status("x"))
        classes = [turn["n"][1]["n"][0]["c"] for turn in made]
        assert classes == ["answer", "answer writing"]
        assert found(made, "status").find(role="status").text == "x"

    def test_what_is_finished_is_made_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made: list[str] = []
        blocks = turns.blocks

        def counting(text: str, *arguments: Any) -> list[Block]:
            made.append(text)
            return blocks(text, *arguments)

        monkeypatch.setattr(turns, "blocks", counting)
        finished, growing = Turn("a?", [done("A.")]), Answer("m", "G")
        shown = Shown(english)
        for _ in range(3):
            tree(finished, Turn("b?", [growing]), shown=shown)
        assert made == ["A.", "G", "G", "G"]

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_whatever_is_in_it_is_text(self, hostile: str) -> None:
        answer = Answer(
            hostile,
            f"{hostile}\n\n- {hostile}",
            (hit(hostile, hostile, headings=(hostile,)),),
            (hit(hostile, hostile),),
            (Citation(0, len(hostile), "partly", hit(hostile, hostile).node, missing=(hostile,)),),
            hostile,
            hostile,
            "error",
            hostile,
            suggestions=(hostile,),
            rating=-1,
            key="k",
        )
        turn = Turn(hostile, [answer, done()])
        shown = Shown(english, [(hostile, hostile)])
        made = tree(turn, shown=shown)
        assert found(made, "question").h3.text == hostile
        assert hostile in found(made, "reasoning").text
        assert found(made, "searched").find(class_="editable").text == hostile
        assert found(made, "error").text == hostile
        assert found(made, "suggestions").button["data-key"] == hostile
        sources = found(made, "sources")
        assert [b.text for b in sources.find_all("b")] == [hostile] * 2
        options = [o for o in found_all(made, "option") if o["value"] == hostile]
        assert [option.text for option in options] == [hostile] * 2
        growing = tree(Turn("a?", [answer]), writing=answer, doing=Job(Path("x"), hostile))
        assert hostile in found(growing, "status").text


def found_all(made: Sequence[dict[str, Any]], tag: str) -> list[Any]:
    return [each for _, markup in leaves(made) for each in markup.find_all(tag)]


class TestAnswer:
    def test_one_that_has_not_begun(self) -> None:
        assert kinds(Answer("m")) == []

    def test_while_it_is_written_there_is_nothing_to_press(self) -> None:
        answer = Answer("m", "A", (hit(),), reasoning="r", searched_for="s")
        assert kinds(answer) == ["searched", "reasoning", "said"]

    def test_all_of_a_finished_one(self) -> None:
        answer = done(sources=(hit(),), error="e", suggestions=("b?",), searched_for="s")
        assert kinds(answer) == [
            *("searched", "said", "error", "sources", "facts", "actions", "suggestions")
        ]

    def test_facts(self) -> None:
        answer = done(sources=(hit(), hit()), timings=Timings(1, 0.42, 23))
        shown = found(tree(Turn("a?", [answer])), "facts").text
        assert shown == "m · first token 0.4 s · 23 tokens/s · 2 passages"

    @pytest.mark.parametrize(
        ("reason", "says"),
        [
            ("stopped", "stopped"),
            ("length", "cut short: it was too long, or repeated itself"),
            ("truncated", "cut off: the connection or the program ended"),
        ],
    )
    def test_how_it_ended(self, reason: FinishReason, says: str) -> None:
        answer = done(finish_reason=reason)
        assert found(tree(Turn("a?", [answer])), "facts").text == f"m · {says}"

    def test_reasoning_is_open_until_the_answer_begins(self) -> None:
        def reasoning(answer: Answer) -> Any:
            return found(tree(Turn("a?", [answer])), "reasoning").details

        thinking = reasoning(Answer("m", reasoning=" One.\n\nTwo.\n"))
        assert thinking.has_attr("open")
        assert thinking.div.text == "One.\n\nTwo."
        assert not reasoning(Answer("m", "A", reasoning="One.")).has_attr("open")
        assert not reasoning(Answer("m", reasoning="x", finish_reason="stopped")).has_attr("open")

    def test_names_where_there_are_several(self) -> None:
        made = tree(Turn("a?", [Answer("owner/one"), Answer("openai:two")]))
        assert [markup.text for kind, markup in leaves(made) if kind == "name"] == ["one", "two"]

    @pytest.mark.parametrize(
        ("doing", "says"),
        [
            (Status(SEARCHING), "Searching"),
            (Status(READING, 2, 4), "Reading passages 2 of 4"),
            (Status(READING, 0, 4), "Reading passages: 4"),
            (Job(Path("x"), "a.pdf"), "Reading a.pdf"),
            (Waiting(3, None), "Number 3 in the line"),
            (Waiting(3, 40), "Number 3 in the line, some 40 s"),
            (Preparation("the search model", lambda _: 1), "Preparing the search model, 0 %"),
        ],
    )
    def test_what_is_being_done(self, doing: Doing, says: str) -> None:
        answer = Answer("m")
        made = tree(Turn("a?", [answer]), writing=answer, doing=doing)
        assert found(made, "status").find(role="status").text == says

    def test_what_could_not_be_prepared(self) -> None:
        failed: Preparation[int] = Preparation("the search model", lambda _: 1)
        failed.error = RivuletError("No <weights>.")
        answer = Answer("m")
        made = tree(Turn("a?", [answer]), writing=answer, doing=failed)
        assert found(made, "status").find(role="status").text == "No <weights>."


class TestSources:
    def test_each_is_a_button_that_names_it(self) -> None:
        answer = done(sources=(hit(page=3), hit(name="b.md", headings=("Nature", "The sky"))))
        soup = found(tree(Turn("a?", [answer])), "sources")
        first, second = soup.find_all("button")
        assert (first.b.text, first.small.text) == ("a.pdf", "page 3")
        assert (second.b.text, second.small.text) == ("b.md", "Nature › The sky")
        assert [each.find(class_="number").text for each in (first, second)] == ["1", "2"]
        assert [each["data-key"] for each in (first, second)] == [
            f"{answer.key}:0",
            f"{answer.key}:1",
        ]
        assert {each["data-do"] for each in (first, second)} == {"source"}
        assert first["aria-label"] == "Show source 1: a.pdf, page 3"

    def test_those_that_were_found_but_not_read_come_after(self) -> None:
        answer = done(sources=(hit(),), others=(hit(name="b"), hit(name="c")))
        soup = found(tree(Turn("a?", [answer])), "sources")
        assert soup.details.summary.text == "Also found"
        assert not soup.details.has_attr("open")
        numbers = [each.text for each in soup.details.find_all(class_="number")]
        assert numbers == ["2", "3"]
        assert soup.details.find_all("button")[1]["data-key"] == f"{answer.key}:2"

    def test_where_nothing_bore_on_the_question_the_nearest_are_shown(self) -> None:
        answer = done(NOTHING_LEFT, others=(hit(),))
        made = tree(Turn("a?", [answer]))
        assert found(made, "sources").details.summary.text == "The nearest passages"
        assert found(made, "sources").details.has_attr("open")
        assert found(made, "facts").text == "no model was asked"


TITLE = "Source 1: a.pdf, page 3"


class TestMarks:
    @pytest.mark.parametrize(
        ("support", "missing", "more"),
        [
            ("supported", (), ""),
            ("partly", ("1999", "Ann\nLee"), "Partly: it does not say 1999, Ann Lee"),
        ],
    )
    def test_the_number_of_the_passage(
        self, support: Support, missing: tuple[str, ...], more: str
    ) -> None:
        citation = Citation(0, 5, support, NODE, missing=missing)
        answer = done(sources=(NodeWithScore(NODE),))
        assert mark(citation, answer, english) == ((support, "1", TITLE), more)

    def test_one_that_nothing_bears_out(self) -> None:
        title, more = mark(Citation(0, 5, "none"), done(), english)
        assert (title, more) == (("none", "?", "not found in your documents"), "")

    def test_a_passage_that_is_not_among_them(self) -> None:
        (_, sign, title), _ = mark(Citation(0, 5, "supported", NODE), done(), english)
        assert (sign, title) == ("·", "Source ·: a.pdf, page 3")

    def test_those_of_a_block_stand_beside_it(self) -> None:
        answer = done("One. Two.\n\n- *Three* is odd.", sources=(NodeWithScore(NODE),))
        answer.citations = (
            Citation(0, 4, "supported", NODE),
            Citation(5, 9, "none"),
            Citation(13, 28, "partly", NODE, missing=("odd", "3")),
        )
        (turn,) = tree(Turn("a?", [answer]))
        shown = turn["n"][1]["n"][0]
        assert shown["t"] == [
            ("supported", "1", TITLE),
            ("none", "?", "not found in your documents"),
            ("partly", "1", TITLE),
        ]
        assert [(part["h"], part["m"]) for part in shown["n"] if part["c"] == "said"] == [
            ("<p>One. Two.", "0 0 4 0\n1 5 9 1"),
            (
                "<ul>\n<li><em>Three</em> is odd.",
                "2 1 14 2 Partly: it does not say odd, 3",
            ),
        ]


ENVELOPE = 330
"""Bytes that Gradio puts around what is sent of a state."""


class TestSent:
    """What is sent of an answer that grows: what differs, as Gradio finds it."""

    @pytest.mark.parametrize(
        ("support", "most"), [("supported", 2.8), ("partly", 3.5), ("none", 2.8)]
    )
    def test_of_an_answer_with_marks_few_bytes_a_character(
        self, support: Support, most: float
    ) -> None:
        """As many come at a time as at 500 tokens a second; each sentence has 55 characters."""
        sentence = "The river carries what it is given down to the wide sea."
        text = "\n\n".join([" ".join([sentence] * 5)] * 30)
        answer = Answer("m", sources=(NodeWithScore(NODE),))
        node = None if support == "none" else NODE
        missing = ("1999", "Ann Lee") if support == "partly" else ()
        spans = GrowingSentences().feed(text)
        turn, before, sent = Turn("a?", [answer]), None, 0
        for end in range(0, len(text) + 460, 460):
            answer.text = text[:end]
            answer.citations = tuple(  # each is found a bit later
                Citation(begin, to, support, node, missing=missing)
                for begin, to in spans
                if to < end - 100
            )
            now = tree(turn, writing=answer)
            sent += len(orjson.dumps(diff(before, now))) + ENVELOPE
            before = now
        assert len(answer.citations) > 100
        assert sent / len(text) < most

    def test_a_mark_that_comes_is_all_that_is_sent(self) -> None:
        answer = Answer("m", "One. Two. Three", sources=(NodeWithScore(NODE),))
        answer.citations = (Citation(0, 4, "supported", NODE),)
        turn = Turn("a?", [answer])
        before = tree(turn, writing=answer)
        answer.citations += (Citation(5, 9, "supported", NODE),)
        block = [0, "n", 1, "n", 0, "n", 0]
        assert diff(before, tree(turn, writing=answer)) == [
            ["append", [*block, "m"], "\n1 5 9 0"],
        ]


class TestActions:
    def buttons(self, *answers: Answer, **more: Any) -> dict[str, Any]:
        made = tree(Turn("a?", list(answers)), shown=Shown(english, SHOWN.models, **more))
        markup = [markup for kind, markup in leaves(made) if kind == "actions"][-1]
        return {each["data-do"]: each for each in markup.find_all(attrs={"data-do": True})}

    def test_each_names_turn_and_answer(self) -> None:
        answer = done()
        turn = Turn("a?", [answer])
        soup = found(tree(turn), "actions")
        for each in soup.find_all(attrs={"data-do": True}):
            assert each["data-key"].startswith(f"{turn.key}:{answer.key}")
        question = found(tree(turn), "question")
        assert [each["data-do"] for each in question.find_all("button")] == ["edit", "undo"]
        assert question.button["data-key"] == turn.key

    def test_what_can_be_done(self) -> None:
        assert list(self.buttons(done())) == ["copy", "retry", "compare", "rate"]
        assert list(self.buttons(done(), feedback=False)) == ["copy", "retry", "compare"]
        assert "choose" in self.buttons(done(), done())

    def test_models_to_compare_with(self) -> None:
        options = self.buttons(done())["compare"].find_all("option")
        assert [(each["value"], each.text) for each in options][1:] == [
            ("owner/small", "Small"),
            ("openai:gpt", "gpt"),
            ("…", "another model…"),
        ]
        options = self.buttons(done(), any_model=False)["compare"].find_all("option")
        assert [each["value"] for each in options] == ["", "owner/small", "openai:gpt"]

    @pytest.mark.parametrize(("rating", "pressed"), [(0, []), (1, ["👍"]), (-1, ["👎"])])
    def test_the_rating_is_shown(self, rating: int, pressed: list[str]) -> None:
        soup = found(tree(Turn("a?", [done(rating=rating)])), "actions")
        assert [each.text for each in soup.find_all(attrs={"aria-pressed": "true"})] == pressed
        assert bool(soup.find(attrs={"data-do": "comment"})) == bool(rating)

    def test_a_button_and_what_changes_a_text(self) -> None:
        shown = button("<b>", "do", 'k"', title='"t"', edits=edited('"n"', english), pressed=False)
        made = safe(shown).button
        assert (made.text, made["data-key"], made["title"]) == ("<b>", 'k"', '"t"')
        assert (made["data-edits"], made["data-ok"], made["data-cancel"]) == ('"n"', "OK", "Cancel")
        assert made["aria-pressed"] == "false"
        assert (made["class"], made["data-on"]) == (["text"], "click")


class TestConversations:
    def test_one_line_each(self) -> None:
        entries = [Entry("k1", "One?", 2.0), Entry("k2", "Two?", 1.0)]
        soup = safe(conversations(entries, "k2", english))
        rows = soup.find_all("li")
        assert [row.find(class_="name").text for row in rows] == ["One?", "Two?"]
        assert [row.button["aria-current"] for row in rows] == ["false", "true"]
        assert rows[1]["class"] == ["current"]
        for row, key in zip(rows, ("k1", "k2"), strict=True):
            controls = row.find_all(attrs={"data-do": True})
            assert [each["data-do"] for each in controls] == ["show", "rename", "save", "delete"]
            assert {each["data-key"] for each in controls} == {key}
        assert [each["value"] for each in rows[0].find_all("option")] == ["", "md", "json"]

    def test_none(self) -> None:
        soup = safe(conversations([], "", english))
        assert soup.find_all("li") == []
        assert soup.button["data-do"] == "new"

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_names_are_text(self, hostile: str) -> None:
        soup = safe(conversations([Entry(hostile, hostile, 1.0)], hostile, english))
        name = soup.find(class_="name")
        assert (name.text, name["title"], name["data-key"]) == (hostile,) * 3
        assert soup.find(attrs={"data-do": "delete"})["aria-label"] == f"Delete {hostile}"
