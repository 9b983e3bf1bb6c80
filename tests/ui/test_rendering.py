"""Turns, sources and documents as the page shows them, whatever they are made of."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from markdown_it import MarkdownIt

from rag.answering.events import Timings
from rag.answering.prompts import NOTHING_LEFT
from rag.index.ingestion import Progress
from rag.index.store import StoredDocument
from rag.types import FinishReason, Node, NodeWithScore, Usage
from rag.ui import rendering
from rag.ui.jobs import Event, Job, Note
from rag.ui.rendering import as_text
from rag.ui.sessions import Turn

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    '" onmouseover="alert(1)" x="',
    "</li></ul><iframe src=http://evil.example></iframe>",
    '<a href="javascript:alert(1)">x</a>',
    "<style>*{display:none}</style>",
    "<!-- -->",
    "&lt;script&gt;",
]
OURS = {
    *("b", "blockquote", "br", "button", "details", "h3", "li", "ol", "p", "small", "span"),
    *("summary", "ul"),
}


def safe(markup: str) -> BeautifulSoup:
    """`markup`, in which every element and attribute is one of ours."""
    soup = BeautifulSoup(markup, "html.parser")
    for element in soup.find_all(True):
        assert element.name in OURS
        assert not [name for name in element.attrs if name.startswith("on") or name == "href"]
    return soup


def shown(markdown: str) -> BeautifulSoup:
    """What a browser would get for the text of a message, if nobody cleaned it."""
    return BeautifulSoup(MarkdownIt("commonmark", {"html": True}).render(markdown), "html.parser")


def hit(text: str = "The sky is blue.", name: str = "a.pdf", **place: object) -> NodeWithScore:
    return NodeWithScore(Node(text, "d", 0, 0, name, **place), 0.756)  # type: ignore[arg-type]


def stored(name: str, pages: int = 0, passages: int = 1, id_: str = "d1") -> StoredDocument:
    return StoredDocument(id_, name, pages, passages, 10, 0.0, "")


def job(name: str, *events: Event) -> Job:
    """One that waits, or has got as far as its events tell."""
    made = Job(Path("incoming", f"key of {name}"), name)
    for event in events:
        made.steps = (e for e in events)
        made.told(event)
    return made


def parts(turn: Turn, status: str = "") -> list[str]:
    """The parts of the answer to `turn`."""
    _, answer = rendering.messages([turn], status)
    assert answer["role"] == "assistant"
    return [part["text"] for part in answer["content"]]


class TestMessages:
    def test_a_turn_is_a_question_and_an_answer(self) -> None:
        shown = rendering.messages([Turn("a?", answer="A."), Turn("b?", answer="B.")])
        assert [message["role"] for message in shown] == ["user", "assistant"] * 2
        assert [message["content"][0]["text"] for message in shown] == ["a?", "A.", "b?", "B."]
        assert rendering.messages([]) == []

    def test_the_status_stands_in_for_the_last_text(self) -> None:
        turns = [Turn("a?", answer="A.", finish_reason="stop"), Turn("b?")]
        shown = rendering.messages(turns, "Reading <2> passages")
        assert "Reading" not in str(shown[1])
        (part,) = shown[3]["content"]
        assert safe(part["text"]).find(role="status").text == "Reading <2> passages"

    def test_a_status_stands_below_what_has_come(self) -> None:
        answer, status = parts(Turn("a?", answer="A"), "Reading")
        assert answer == "A"
        assert safe(status).find(role="status").text == "Reading"

    def test_an_answer_that_has_not_begun_has_no_part(self) -> None:
        assert parts(Turn("a?")) == []

    def test_an_error_stands_below_what_came_before_it(self) -> None:
        text, error, facts = parts(Turn("a?", "m", "Half", error="Oh", finish_reason="error"))
        assert text == "Half"
        assert safe(error).find(role="alert").text == "Oh"
        assert safe(facts).find(class_="facts").text == "m"

    def test_what_was_searched_for_stands_above(self) -> None:
        searched, answer = parts(Turn("and it?", answer="A", searched_for="How <big> is it?"))
        assert safe(searched).find(class_="facts").text == "searched for: How <big> is it?"
        assert answer == "A"

    def test_reasoning_is_open_until_the_answer_begins(self) -> None:
        (thinking,) = parts(Turn("a?", reasoning="One.\n\nTwo.\n"))
        details = safe(thinking).find("details")
        assert details.has_attr("open")
        assert details.get_text("|") == "Thinking|One.|Two."
        assert "\n" not in thinking  # Markdown would end the element there
        folded, _ = parts(Turn("a?", answer="A", reasoning="One."))
        assert not safe(folded).find("details").has_attr("open")
        folded, *_ = parts(Turn("a?", "m", reasoning="One.", finish_reason="stopped"))
        assert not safe(folded).find("details").has_attr("open")

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_reasoning_and_the_searched_question_are_text(self, hostile: str) -> None:
        searched, thinking = parts(Turn("a?", reasoning=hostile, searched_for=hostile))
        assert safe(searched).text == f"searched for: {hostile}"
        names = {element.name for element in safe(thinking).find_all(True)}
        assert names <= {"details", "summary", "br"}

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_errors_and_statuses_are_text(self, hostile: str) -> None:
        (status,) = parts(Turn("a?"), hostile)
        assert safe(status).text == hostile
        error, facts = parts(Turn("a?", model=hostile, error=hostile, finish_reason="error"))
        assert safe(error).text == hostile
        assert safe(facts).text == hostile

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_questions_and_answers_are_text(self, hostile: str) -> None:
        question, answer = rendering.messages([Turn(hostile, answer=f"So:\n\n{hostile}")])
        for message in (question, answer):
            (part,) = message["content"]
            assert {element.name for element in shown(part["text"]).find_all(True)} <= {"p"}


class TestFacts:
    @staticmethod
    def facts(turn: Turn) -> str:
        return safe(parts(turn)[-1]).find(class_="facts").text

    def test_all_of_them(self) -> None:
        turn = Turn(
            "a?", "m", "A.", (hit(), hit()), (hit(),), "stop", "", Usage(5, 7), Timings(1, 0.42, 23)
        )
        assert self.facts(turn) == "m · first token 0.4 s · 23 tokens/s · 2 passages"

    def test_only_what_is_known(self) -> None:
        assert self.facts(Turn("a?", "m", "A.", (hit(),), finish_reason="stop")) == "m · 1 passage"
        assert parts(Turn("a?", "", "A.", finish_reason="stop")) == ["A."]

    def test_none_while_it_is_written(self) -> None:
        assert parts(Turn("a?", "m", "A.", (hit(),))) == ["A."]

    @pytest.mark.parametrize(
        ("reason", "says"),
        [
            ("stopped", "stopped"),
            ("length", "cut short: it was too long, or repeated itself"),
            ("truncated", "cut off: the connection or the program ended"),
        ],
    )
    def test_how_it_ended(self, reason: FinishReason, says: str) -> None:
        assert self.facts(Turn("a?", "m", "A.", finish_reason=reason)) == f"m · {says}"

    @pytest.mark.parametrize("reason", ["stop", "error"])
    def test_an_end_that_needs_no_word(self, reason: FinishReason) -> None:
        assert self.facts(Turn("a?", "m", "A.", finish_reason=reason)) == "m"


CODE = """Look:

```python
if a < b and a<c:
    print("<b>")
```

~~~
<script>
~~~

Then `a<b` and ``<i>`` there.
"""


class TestText:
    def test_code_is_left_as_it_is(self) -> None:
        assert as_text(CODE) == CODE

    @pytest.mark.parametrize("end", range(0, len(CODE), 3))
    def test_code_is_left_as_it_is_while_it_grows(self, end: int) -> None:
        begun = as_text(CODE[:end])
        assert begun == CODE[:end] or "`" in CODE[:end].splitlines()[-1]

    @pytest.mark.parametrize("text", ["a < b", "1<2", "<3", "x <= y", "a -> b", "!x", "wow!", ""])
    def test_what_is_no_tag_is_left_as_it_is(self, text: str) -> None:
        assert as_text(text) == text

    @pytest.mark.parametrize(
        "text",
        [
            "![x](http://evil.example/x.png)",
            "![x][r]\n\n[r]: http://evil.example/x.png",
            "!![x](http://evil.example/x.png)",
            "[![x](http://evil.example/x.png)](http://evil.example)",
            "> ![x](http://evil.example/x.png)",
        ],
    )
    def test_a_picture_becomes_a_link(self, text: str) -> None:
        assert shown(text).find("img")  # it would be one
        assert not shown(as_text(text)).find("img")

    @pytest.mark.parametrize(
        "text",
        [
            "<{}>",
            "a <{}> b",
            "\\`<{}>\\`",
            "```a`b\n<{}>",
            "```\nx\n```python\ny\n```\n<{}>",
            "```\nx\n```\n<{}>",
            "~~~\n```\n~~~\n<{}>",
            "````\n```\n````\n<{}>",
            "``a`<{}>",
            "`a\n\n<{}>\n\nb`",
            "- a\n  <{}>",
            "> <{}>",
            "# <{}>",
            "|a|\n|-|\n|<{}>|",
        ],
    )
    @pytest.mark.parametrize("tag", ["img src=x onerror=alert(1)", "b onclick=alert(1)", "/p"])
    def test_a_tag_is_shown_and_not_obeyed(self, text: str, tag: str) -> None:
        soup = shown(as_text(text.format(tag)))
        assert not soup.find(["img", "b"])
        assert tag in soup.text.replace("&lt;", "<")

    def test_much_of_it_is_fast_enough_to_stream(self) -> None:
        """No backtracking that grows with the square: this would take hours."""
        for text in ("`" * 50_000, "` `` " * 10_000, "```\n" * 20_000, "<" * 50_000, "![" * 50_000):
            assert len(as_text(text)) >= len(text) / 2


class TestSources:
    def test_before_there_are_any(self) -> None:
        for turn in (None, Turn("a?")):
            assert safe(rendering.sources(turn)).find(class_="hint")

    def test_each_with_file_place_and_score(self) -> None:
        turn = Turn(
            "a?", sources=(hit(page=3), hit("Why <b>?", "b.md", headings=("Nature", "The sky")))
        )
        first, second = safe(rendering.sources(turn)).find_all("li")
        assert first.find("b").text == "a.pdf"
        assert first.find("small").text == "page 3"
        assert first.find(class_="score").text == "0.76"
        assert first.find("details").has_attr("open")
        assert not second.find("details").has_attr("open")
        assert second.find("small").text == "Nature › The sky"
        assert second.find("blockquote").text == "Why <b>?"
        assert [li.find(class_="number").text for li in (first, second)] == ["1", "2"]

    def test_one_without_a_score(self) -> None:
        turn = Turn("a?", sources=(NodeWithScore(hit().node),))
        (source,) = safe(rendering.sources(turn)).find_all("li")
        assert not source.find(class_="score")
        assert source.find("blockquote").text == hit().text

    def test_those_that_were_found_but_not_read_come_after(self) -> None:
        soup = safe(rendering.sources(Turn("a?", sources=(hit(),), others=(hit(), hit()))))
        first, second = soup.find_all("ol")
        assert len(first.find_all("li")) == 1
        assert second["start"] == "2"
        assert [li.find(class_="number").text for li in second.find_all("li")] == ["2", "3"]
        assert soup.find("h3").text == "Also found"
        assert "Also found" not in rendering.sources(Turn("a?", sources=(hit(),)))

    def test_where_nothing_bore_on_the_question_the_nearest_are_shown(self) -> None:
        turn = Turn("a?", "m", NOTHING_LEFT, others=(hit(), hit()), finish_reason="stop")
        soup = safe(rendering.sources(turn))
        assert soup.find("h3").text == "The nearest passages"
        assert [li.find(class_="number").text for li in soup.find_all("li")] == ["1", "2"]
        assert list(rendering._facts(turn)) == ["no model was asked"]

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_passages_names_and_headings_are_text(self, hostile: str) -> None:
        turn = Turn("a?", sources=(hit(hostile, hostile, headings=(hostile,)),))
        soup = safe(rendering.sources(turn))
        assert soup.find("blockquote").text == hostile
        assert soup.find("b").text == hostile
        assert soup.find("small").text == hostile

    def test_the_lines_of_a_passage_are_kept(self) -> None:
        text = "def f():\n    return 1 < 2\n\nend"
        soup = safe(rendering.sources(Turn("a?", sources=(hit(text),))))
        assert soup.find("blockquote").text == text


class TestLibrary:
    @staticmethod
    def rows(soup: BeautifulSoup, label: str) -> list[tuple[str, str]]:
        return [
            (li.find(class_="name").text, li.find(class_="state").text)
            for li in soup.find("ul", attrs={"aria-label": label}).find_all("li")
        ]

    def test_without_documents(self) -> None:
        soup = safe(rendering.library([], [], ["s.md"], []))
        assert "None yet" in soup.find(class_="hint").text
        assert self.rows(soup, "Sample documents") == [("s.md", "waiting for the search model")]
        assert not soup.find("button")

    def test_the_state_of_each(self) -> None:
        soup = safe(
            rendering.library(
                [stored("a.pdf", 1, 1), stored("b.md", 0, 1234), stored("c.pdf", 12, 5)],
                [stored("s.md", 0, 4)],
                ["s.md", "t.md"],
                [job("new.pdf", Progress("new.pdf", "embedding", 32, 1090)), job("next.pdf")],
            )
        )
        assert self.rows(soup, "My documents") == [
            ("new.pdf", "searchable, 32 of 1,090 passages embedded"),
            ("next.pdf", "waiting"),
            ("a.pdf", "ready, 1 page, 1 passage"),
            ("b.md", "ready, 1,234 passages"),
            ("c.pdf", "ready, 12 pages, 5 passages"),
        ]
        assert self.rows(soup, "Sample documents") == [
            ("s.md", "4 passages"),
            ("t.md", "waiting for the search model"),
        ]

    def test_ones_own_can_be_removed(self) -> None:
        own = [stored("a.pdf", id_="one"), stored("b.pdf", id_="two")]
        samples = [stored("s.md", id_="sample")]
        soup = safe(rendering.library(own, samples, ["s.md"], [job("new.pdf")]))
        buttons = soup.find_all("button")
        assert [button["data-key"] for button in buttons] == ["key of new.pdf", "one", "two"]
        assert [button["data-do"] for button in buttons] == ["cancel", "remove", "remove"]
        assert [button["aria-label"] for button in buttons] == [
            "Cancel new.pdf",
            "Remove a.pdf",
            "Remove b.pdf",
        ]

    def test_a_problem_is_told_instead(self) -> None:
        soup = safe(rendering.library([], [], [], [], "Set <RAG_EMBED_MODEL>"))
        assert soup.find(role="alert").text == "Set <RAG_EMBED_MODEL>"
        assert "None yet" not in soup.text

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_names_and_steps_are_text(self, hostile: str) -> None:
        left = job(hostile)
        left.interrupted = True
        soup = safe(
            rendering.library(
                [stored(hostile, id_=hostile)],
                [stored(hostile)],
                [hostile],
                [job(hostile, Progress(hostile, hostile)), left],
                hostile,
            )
        )
        assert [span.text for span in soup.find_all(class_="name")] == [hostile] * 4
        cancel, again, discard, remove = soup.find_all("button")
        assert cancel["aria-label"] == f"Cancel {hostile}"
        assert again["aria-label"] == f"Add {hostile} again"
        assert discard["aria-label"] == f"Remove {hostile}"
        assert (remove["data-key"], remove["aria-label"]) == (hostile, f"Remove {hostile}")
        assert soup.find(role="alert").text == hostile

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_notes_are_text(self, hostile: str) -> None:
        soup = safe(rendering.notes([Note("good", "a is ready."), Note("bad", hostile)]))
        good, bad = soup.find_all(class_="note")
        assert (good["role"], good["class"]) == ("status", ["note", "good"])
        assert (bad["role"], bad["class"]) == ("alert", ["note", "bad"])
        assert bad.text == hostile
        assert rendering.notes([]) == ""
        assert soup.find("button")["aria-label"] == "Dismiss these messages"

    def test_many_notes_of_a_kind_are_summed_up(self) -> None:
        said = [Note("good", f"{n} is ready.") for n in range(200)] + [Note("bad", "x: <b>no</b>")]
        soup = safe(rendering.notes(said))
        (many,) = soup.find_all("details")
        assert many.summary.text == "200 files are ready."
        assert len(many.find_all("p")) == 200
        assert soup.find(role="alert").text == "x: <b>no</b>"

    def test_the_state_of_what_is_on_its_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        told = job("a.zip", Progress("a.zip", "reading"))

        def state() -> str:
            (row,) = self.rows(safe(rendering.library([], [], [], [told])), "My documents")
            return row[1]

        assert state() == "reading"
        for done, said in (
            (0, "b.md: searchable, 0 of 900 passages embedded"),
            (32, "b.md: searchable, 32 of 900 passages embedded, 32 a second, 27 s left"),
            (33, "b.md: searchable, 33 of 900 passages embedded, 16 a second, 53 s left"),
            (34, "b.md: searchable, 34 of 900 passages embedded, 11 a second, 76 s left"),
            (35, "b.md: searchable, 35 of 900 passages embedded, 9 a second, 99 s left"),
            (36, "b.md: searchable, 36 of 900 passages embedded, 7 a second, 2 min left"),
        ):
            told.told(Progress("a.zip/b.md", "embedding", done, 900))
            assert state() == said
            now += 1
        told.told(Progress("a.zip/b.md", "storing", 900, 900))
        assert state() == "b.md: storing"
        told.cancelled = True
        assert state() == "cancelling"

    @pytest.mark.parametrize("hostile", HOSTILE)
    def test_what_is_prepared_is_text(self, hostile: str) -> None:
        assert safe(rendering.preparing(hostile)).find(role="status").text == hostile
        assert rendering.preparing("") == ""


def test_the_markup_is_well_formed() -> None:
    """Every element that is opened is closed, in order."""
    turn = Turn("a?", "m", "A.", (hit(page=1),), (hit(),), "stop", "oh", None, Timings(1, 1, 1))
    own = [stored("a.pdf", 1)]
    for markup in (
        *parts(turn),
        rendering.sources(turn),
        rendering.library(own, own, ["s.md"], [job("x"), job("y")], "z"),
        rendering.notes([Note("bad", "x")] * 9),
    ):
        open_: list[str] = []
        for closing, name in re.findall(r"<(/?)(\w+)", markup):
            if closing:
                assert open_.pop() == name
            else:
                open_.append(name)
        assert open_ == []
