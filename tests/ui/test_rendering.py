"""The list of documents as the page shows it, whatever its documents are called."""

import re
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

from rag.errors import RivuletError
from rag.index.ingestion import Progress
from rag.index.store import StoredDocument
from rag.preparation import Preparation
from rag.ui import rendering
from rag.ui.jobs import Event, Job, Note
from rag.ui.language import english, speaking

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
OURS = {"button", "details", "h3", "li", "p", "span", "summary", "ul"}


def safe(markup: str) -> BeautifulSoup:
    """`markup`, in which every element and attribute is one of ours."""
    soup = BeautifulSoup(markup, "html.parser")
    for element in soup.find_all(True):
        assert element.name in OURS
        assert not [name for name in element.attrs if name.startswith("on") or name == "href"]
    return soup


def stored(name: str, pages: int = 0, passages: int = 1, id_: str = "d1") -> StoredDocument:
    return StoredDocument(id_, name, pages, passages, 10, 0.0, "")


def job(name: str, *events: Event) -> Job:
    """One that waits, or has got as far as its events tell."""
    made = Job(Path("incoming", f"key of {name}"), name)
    for event in events:
        made.steps = (e for e in events)
        made.told(event)
    return made


class TestLibrary:
    @staticmethod
    def rows(soup: BeautifulSoup, label: str) -> list[tuple[str, str]]:
        return [
            (li.find(class_="name").text, li.find(class_="state").text)
            for li in soup.find("ul", attrs={"aria-label": label}).find_all("li")
        ]

    def test_without_documents(self) -> None:
        soup = safe(rendering.library([], [], ["s.md"], [], english))
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
                english,
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
        soup = safe(rendering.library(own, samples, ["s.md"], [job("new.pdf")], english))
        buttons = soup.find_all("button")
        assert [button["data-key"] for button in buttons] == ["key of new.pdf", "one", "two"]
        assert [button["data-do"] for button in buttons] == ["cancel", "remove", "remove"]
        assert [button["aria-label"] for button in buttons] == [
            "Cancel new.pdf",
            "Remove a.pdf",
            "Remove b.pdf",
        ]

    def test_a_problem_is_told_instead(self) -> None:
        soup = safe(rendering.library([], [], [], [], english, "Set <RAG_EMBED_MODEL>"))
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
                english,
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
        soup = safe(rendering.notes([Note("good", "a is ready."), Note("bad", hostile)], english))
        good, bad = soup.find_all(class_="note")
        assert (good["role"], good["class"]) == ("status", ["note", "good"])
        assert (bad["role"], bad["class"]) == ("alert", ["note", "bad"])
        assert bad.text == hostile
        assert rendering.notes([], english) == ""
        assert soup.find("button")["aria-label"] == "Dismiss these messages"

    def test_many_notes_of_a_kind_are_summed_up(self) -> None:
        said = [Note("good", f"{n} is ready.") for n in range(200)] + [Note("bad", "x: <b>no</b>")]
        soup = safe(rendering.notes(said, english))
        (many,) = soup.find_all("details")
        assert many.summary.text == "200 files are ready."
        assert len(many.find_all("p")) == 200
        assert soup.find(role="alert").text == "x: <b>no</b>"

    def test_the_state_of_what_is_on_its_way(self, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0
        monkeypatch.setattr("time.monotonic", lambda: now)
        told = job("a.zip", Progress("a.zip", "reading"))

        def state() -> str:
            (row,) = self.rows(safe(rendering.library([], [], [], [told], english)), "My documents")
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

    def test_in_another_language(self) -> None:
        _, say = speaking("de")
        own = [stored("a.pdf", 1, 1), stored("b.md", 0, 1234)]
        told = job("new.pdf", Progress("new.pdf", "embedding", 32, 1090))
        soup = safe(rendering.library(own, [stored("s.md")], ["s.md", "t.md"], [told], say))
        assert self.rows(soup, "Meine Dokumente") == [
            ("new.pdf", "durchsuchbar, 32 von 1.090 Textstellen eingebettet"),
            ("a.pdf", "fertig, 1 Seite, 1 Textstelle"),
            ("b.md", "fertig, 1.234 Textstellen"),
        ]
        assert self.rows(soup, "Beispieldokumente") == [
            ("s.md", "1 Textstelle"),
            ("t.md", "wartet auf das Suchmodell"),
        ]
        labels = [button["aria-label"] for button in soup.find_all("button")]
        assert labels == ["new.pdf abbrechen", "a.pdf entfernen", "b.md entfernen"]

    def test_a_name_has_its_own_direction_and_turns_no_sentence(self) -> None:
        name = "דוח.pdf"
        soup = safe(rendering.library([stored(name)], [], [], [], english))
        assert soup.find(class_="name")["dir"] == "auto"
        assert soup.find("button")["aria-label"] == f"Remove \u2068{name}\u2069"
        note = Note("good", "{name} is ready.", {"name": name})
        (shown,) = safe(rendering.notes([note], english)).find_all(class_="note")
        assert shown.text == f"\u2068{name}\u2069 is ready."
        assert not shown.get("dir")  # it would take that of the name, isolated or not


class TestPreparing:
    def test_how_far_it_is(self) -> None:
        preparation = Preparation("the search model", lambda _: None)
        preparation.done = 0.426
        assert rendering.preparing(preparation, english) == "Preparing the search model, 43 %"
        shown = rendering.preparing(preparation, speaking("de")[1])
        assert shown == "Das Suchmodell wird vorbereitet, 43\u00a0%"

    def test_why_it_failed(self) -> None:
        preparation = Preparation("m", lambda _: None)
        preparation.error = RivuletError("No weights. Check the connection.")
        shown = rendering.preparing(preparation, english)
        assert shown == "No weights. Check the connection."


def test_the_markup_is_well_formed() -> None:
    """Every element that is opened is closed, in order."""
    own = [stored("a.pdf", 1)]
    for code in ("en", "fr"):
        _, say = speaking(code)
        for markup in (
            rendering.library(own, own, ["s.md"], [job("x"), job("y")], say, "z"),
            rendering.notes([Note("bad", "x")] * 9, say),
        ):
            open_: list[str] = []
            for closing, name in re.findall(r"<(/?)(\w+)", markup):
                if closing:
                    assert open_.pop() == name
                else:
                    open_.append(name)
            assert open_ == []
