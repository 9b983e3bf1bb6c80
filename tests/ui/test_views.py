"""A passage in its place: which page, what of it, the text around it, and what is not there."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from rag.documents.pages import Box
from rag.index import ingestion
from rag.index.embedding import HashEmbedding
from rag.index.ingestion import Ingested, Searchable, ingest_file
from rag.index.originals import Originals
from rag.index.store import ChromaStore
from rag.types import Node
from rag.ui import views
from rag.ui.views import (
    CHANGED,
    GONE,
    HERE,
    NO_PAGES,
    NOT_FOUND,
    Drawing,
    PageView,
    Place,
    TextView,
    draw,
    locate,
)
from tests.documents.makers import pdf

View = PageView | TextView


class Shelf:
    """An index with its originals, and a look into it."""

    def __init__(self, folder: Path, store: ChromaStore):
        self.folder = folder
        self.store = store
        self.originals = Originals(folder / "originals")

    def steps(self, name: str, data: bytes) -> Any:
        file = self.folder / "new" / name
        file.parent.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_bytes(data)
        return ingest_file(
            file,
            name,
            self.store,
            HashEmbedding(),
            max_bytes=10**7,
            read_timeout=60,
            originals=self.originals,
        )

    def add(self, name: str, data: bytes) -> list[Node]:
        *_, event = self.steps(name, data)
        assert isinstance(event, Ingested), event
        return self.store.nodes(event.document_id)

    def look(self, node: Node, marked: str = "", place: Place = HERE) -> View:
        begin = node.text.index(marked)
        end = begin + len(marked) if marked else len(node.text)
        found = locate(node, begin, end, place, [(self.store, self.originals.of)])
        return draw(found) if isinstance(found, Drawing) else found


@pytest.fixture
def shelf(tmp_path: Path, store: ChromaStore) -> Shelf:
    return Shelf(tmp_path, store)


PAGES = (
    "Rivers of Europe\nThe Rhine flows north. See below.\nThe Danube flows east, see below,",
    "past Vienna and on to the sea.\nSee below. The Po ends here.",
    "Hills of Europe\nNothing flows here.",
)


def joined(nodes: Sequence[Node]) -> Node:
    """Passages that follow one another, as an answer is made of them."""
    first, *rest = nodes
    text = first.text + "".join(node.before + node.text for node in rest)
    return Node(text, first.document_id, first.ordinal, first.start, first.file_name, first.page)


def on_line(box: Box, number: int) -> bool:
    """Whether it is around the line of this number on a page of `makers.pdf`."""
    baseline = (842 - 700 + 20 * number) / 842
    return box.top < baseline - 0.004 and baseline <= box.bottom < baseline + 0.01


def test_the_page_with_the_sentence_on_it(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    view = shelf.look(node, "The Rhine flows north.")
    assert isinstance(view, PageView)
    assert (view.page, view.pages, view.home, view.note) == (1, 3, 1, "")
    assert view.marked == "The Rhine flows north."
    (box,) = view.picture.boxes
    assert on_line(box, 1)
    assert box.left == pytest.approx(72 / 595, abs=0.01)
    assert box.right < 0.4


def test_without_a_sentence_the_passage_is_marked(shelf: Shelf) -> None:
    view = shelf.look(shelf.add("a.pdf", pdf(*PAGES))[0])
    assert isinstance(view, PageView)
    assert [on_line(box, n) for n, box in enumerate(view.picture.boxes)] == [True] * 3


def test_the_pages_before_and_after(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    for page, shown in ((2, 2), (3, 3), (99, 3)):
        view = shelf.look(node, "The Rhine flows north.", Place(page=page))
        assert isinstance(view, PageView)
        assert (view.page, view.home, view.picture.boxes, view.note) == (shown, 1, (), "")


def test_a_sentence_that_runs_over_to_the_next_page(shelf: Shelf) -> None:
    node = joined(shelf.add("a.pdf", pdf(*PAGES))[:2])
    sentence = node.text[node.text.index("The Danube") : node.text.index(" sea.") + 5]
    first = shelf.look(node, sentence)
    second = shelf.look(node, sentence, Place(page=2))
    assert isinstance(first, PageView)
    assert isinstance(second, PageView)
    assert (first.page, second.page, second.home) == (1, 2, 1)
    assert [on_line(box, 2) for box in first.picture.boxes] == [True]
    assert [on_line(box, 0) for box in second.picture.boxes] == [True]
    third = shelf.look(node, sentence, Place(page=3))
    assert isinstance(third, PageView)
    assert third.picture.boxes == ()


@pytest.mark.parametrize(("number", "page", "line"), [(0, 1, 1), (1, 2, 1)])
def test_what_is_repeated_on_other_pages(shelf: Shelf, number: int, page: int, line: int) -> None:
    node = joined(shelf.add("a.pdf", pdf(*PAGES))[:2])
    begin = [n for n in range(len(node.text)) if node.text.startswith("See below.", n)][number]
    found = locate(node, begin, begin + 10, HERE, [(shelf.store, shelf.originals.of)])
    assert isinstance(found, Drawing)
    assert (found.page, found.text) == (page, "See below.")
    view = draw(found)
    assert isinstance(view, PageView)
    assert [on_line(box, line) for box in view.picture.boxes] == [True]


def test_a_page_of_many_passages(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same words again and again: the place in the document tells which are meant."""
    monkeypatch.setattr(views, "WINDOW", 2)
    monkeypatch.setattr(ingestion, "split", small_passages(ingestion.split))  # some ten words each
    lines = [f"Line {n} says the same as all the others do." for n in range(30)]
    nodes = shelf.add("a.pdf", pdf("Cover", "\n".join(lines), "End"))
    assert len(nodes) > 12
    for number in (3, 17, 29):
        (node,) = [each for each in nodes if f"Line {number} says" in each.text]
        begin = node.text.index("says", node.text.index(f"Line {number} "))
        found = locate(node, begin, begin + 4, HERE, [(shelf.store, shelf.originals.of)])
        assert isinstance(found, Drawing)
        view = draw(found)
        assert isinstance(view, PageView)
        assert (view.page, [on_line(box, number) for box in view.picture.boxes]) == (2, [True])


def small_passages(split: Callable[..., list[Node]]) -> Callable[..., list[Node]]:
    def smaller(document: Any, tokenizer: Tokenizer, window: int) -> list[Node]:
        return split(document, lambda text: len(text.split()), 12)

    return smaller


def test_words_that_are_not_on_the_page_are_told(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    found = locate(node, 0, 6, HERE, [(shelf.store, shelf.originals.of)])
    assert isinstance(found, Drawing)
    found.file.unlink()
    found.file.write_bytes(pdf("Quite another text"))
    view = draw(found)
    assert isinstance(view, PageView)
    assert (view.picture.boxes, view.note) == ((), NOT_FOUND)


def test_a_page_that_cannot_be_drawn_is_shown_as_text(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    found = locate(node, 0, 6, HERE, [(shelf.store, shelf.originals.of)])
    assert isinstance(found, Drawing)
    found.file.unlink()
    found.file.write_bytes(b"%PDF- damaged")
    view = draw(found)
    assert isinstance(view, TextView)
    assert view.note.startswith("The page cannot be shown: it is damaged")
    assert (view.marked, view.page) == ("Rivers", 0)
    assert "The Rhine" in view.after


def test_a_page_as_text(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[1]
    view = shelf.look(node, "The Po ends here.", Place(as_text=True))
    assert isinstance(view, TextView)
    assert (view.page, view.note, view.marked) == (2, "", "The Po ends here.")
    assert view.before.startswith("Rivers of Europe")
    assert view.after.strip().startswith("Hills of Europe")


def test_where_the_file_is_not_kept_the_text_is_shown(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    shelf.originals.sweep(())
    view = shelf.look(node, "The Rhine flows north.")
    assert isinstance(view, TextView)
    assert (view.note, view.page, view.marked) == (NO_PAGES, 0, "The Rhine flows north.")


def test_while_a_document_is_embedded_its_pages_are_there(shelf: Shelf) -> None:
    events = shelf.steps("a.pdf", pdf(*PAGES))
    event = next(event for event in events if isinstance(event, Searchable))
    node = shelf.store.nodes(event.document_id)[0]
    assert shelf.store.document(event.document_id) is None
    assert isinstance(shelf.look(node), PageView)
    events.close()
    view = shelf.look(node)
    assert isinstance(view, TextView)
    assert view.note == GONE


# Text

PART = "## Part {0}\n\nParagraph {0} tells of river{0}. It flows.\n\n"
LONG = "".join(PART.format(n) for n in range(60))


def test_the_text_around_a_passage(shelf: Shelf) -> None:
    node = shelf.add("a.md", LONG.encode())[30]
    view = shelf.look(node, "It flows.")
    assert isinstance(view, TextView)
    assert view.before + view.marked + view.after == LONG[
        LONG.index("Paragraph 29") : LONG.index("## Part 32")
    ].strip()  # fmt: skip
    assert view.before.endswith("Paragraph 30 tells of river30. ")
    assert (view.has_earlier, view.has_later, view.note, view.page) == (True, True, "", 0)


def test_more_of_it_up_to_its_ends(shelf: Shelf) -> None:
    node = shelf.add("a.md", LONG.encode())[30]
    wide = shelf.look(node, "It flows.", Place(earlier=5, later=0))
    assert isinstance(wide, TextView)
    assert wide.before.startswith("Paragraph 25 tells")
    assert wide.after == ""
    whole = shelf.look(node, "It flows.", Place(earlier=10**6, later=10**6))
    assert isinstance(whole, TextView)
    text = whole.before + whole.marked + whole.after
    assert text == LONG.removeprefix("## Part 0\n\n").strip()
    assert (whole.has_earlier, whole.has_later) == (False, False)


def test_passages_that_were_joined(shelf: Shelf) -> None:
    nodes = shelf.add("a.md", LONG.encode())
    view = shelf.look(joined(nodes[3:50]), place=Place(earlier=0, later=0))
    assert isinstance(view, TextView)
    assert view.marked == LONG[LONG.index("Paragraph 3 ") : LONG.index("## Part 50")].strip()
    assert (view.before, view.after) == ("", "")


def test_a_part_of_a_passage(shelf: Shelf) -> None:
    """As what is left of one when its best sentence is chosen."""
    whole = shelf.add("a.md", LONG.encode())[7]
    start = whole.text.index("It flows.")
    part = Node("It flows.", whole.document_id, whole.ordinal, whole.start + start, "a.md")
    view = shelf.look(part, "flows", Place(earlier=0, later=0))
    assert view == TextView(
        "Paragraph 7 tells of river7. It ", "flows", ".", Place(0, 0, 0), True, True
    )


# What is not there


def test_a_document_that_was_removed(shelf: Shelf) -> None:
    node = shelf.add("a.pdf", pdf(*PAGES))[0]
    shelf.store.delete(node.document_id)
    view = shelf.look(node, "The Rhine flows north.")
    assert isinstance(view, TextView)
    assert (view.note, view.marked) == (GONE, "The Rhine flows north.")
    assert view.before + view.marked + view.after == node.text
    assert (view.has_earlier, view.has_later, view.page) == (False, False, 0)


@pytest.mark.parametrize("name", ["a.pdf", "a.md"])
def test_a_document_that_was_replaced(shelf: Shelf, name: str) -> None:
    def content(text: str) -> bytes:
        return pdf(text) if name == "a.pdf" else text.encode()

    node = shelf.add(name, content("The Rhine flows north."))[0]
    shelf.add(name, content("The Rhine flowed north."))
    view = shelf.look(node, "Rhine")
    assert view == TextView("The ", "Rhine", " flows north.", note=CHANGED)


def test_of_two_documents_of_the_same_name_the_one_with_the_passage(
    shelf: Shelf, tmp_path: Path
) -> None:
    own = ChromaStore(None, HashEmbedding.name)
    other = Shelf(tmp_path / "other", own)
    other.folder.mkdir()
    other.add("a.md", b"Quite another text.")
    node = shelf.add("a.md", b"The Rhine flows north.")[0]
    shelves = [(each.store, each.originals.of) for each in (other, shelf)]
    view = locate(node, 4, 9, HERE, shelves)
    assert view == TextView("The ", "Rhine", " flows north.")
    own.close()
