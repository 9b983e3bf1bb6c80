"""The panel beside the answer: text and never HTML, buttons that say what they do."""

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from rag.documents.pages import Box, Picture
from rag.types import Node, NodeWithScore, Way
from rag.ui.language import english
from rag.ui.viewer import asked, source
from rag.ui.views import GONE, NO_PAGES, PageView, Place, TextView

PICTURE = Picture(b"webp", 1200, 1698, (Box(0.1, 0.2, 0.5, 0.225), Box(0.1, 0.225, 0.3, 0.25)))
PAGE = PageView(PICTURE, 3, 12, 3, "The Rhine\nflows north.")
TEXT = TextView("Before. ", "The Rhine flows.", " After.", has_earlier=True, has_later=True)
NODE = Node("The Rhine flows.", "d", 1, 9, "rivers.md", None, ("Rivers", "Lengths"))
HIT = NodeWithScore(NODE, 0.7132, ("meaning", "words"))
OF_PDF = replace(HIT, node=replace(NODE, file_name="report.pdf", page=3, headings=()))

Tag = tuple[str, dict[str, str | None], str]


class Tags(HTMLParser):
    """The elements of some HTML: name, attributes and the text in it."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[list[Any]] = []
        self.open: list[list[Any]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = [tag, dict(attrs), ""]
        self.found.append(element)
        if tag != "img":
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element[2] += data


def tags(text: str, name: str = "", **attributes: str) -> list[Tag]:
    parser = Tags(text)
    assert not parser.open
    wanted = {key.strip("_").replace("_", "-"): value for key, value in attributes.items()}
    return [
        (tag, attrs, inner)
        for tag, attrs, inner in parser.found
        if name in ("", tag) and all(attrs.get(key) == value for key, value in wanted.items())
    ]


def buttons(text: str) -> dict[str, tuple[str, str, bool]]:
    """What each button does, with what key, and whether it cannot be pressed, by its name."""
    return {
        str(attrs.get("aria-label") or inner): (
            str(attrs["data-do"]),
            str(attrs["data-key"]),
            "disabled" in attrs,
        )
        for _, attrs, inner in tags(text, "button")
    }


def test_a_page() -> None:
    shown = source(PAGE, OF_PDF, 2, key="k", cite="c7")
    ((_, image, _),) = tags(shown, "img")
    data = base64.b64encode(b"webp").decode()
    assert image["src"] == f"data:image/webp;base64,{data}"
    assert image["alt"] == "Page 3 of report.pdf"
    spots = tags(shown, class_="spot")
    assert [(attrs["data-cite"], attrs["style"]) for _, attrs, _ in spots] == [
        ("c7", "left:10.00%;top:20.00%;width:40.00%;height:2.50%"),
        ("c7", "left:10.00%;top:22.50%;width:20.00%;height:2.50%"),
    ]
    ((_, attrs, quote),) = tags(shown, "blockquote")
    assert (attrs["data-cite"], quote) == ("c7", "The Rhine flows north.")


def test_the_head_says_where_it_is_and_why_it_was_found() -> None:
    ((_, _, head),) = tags(source(TEXT, HIT, 2, key="k"), "header")
    for part in ("2", "rivers.md", "Rivers › Lengths", "its meaning and its words", "score 0.71"):
        assert part in head
    ((_, _, head),) = tags(source(PAGE, OF_PDF, 2, key="k"), "header")
    assert "page 3" in head


@pytest.mark.parametrize(
    ("found_by", "score", "said"),
    [
        (("meaning",), 0.5, "found by its meaning · score 0.50"),
        (("words",), None, "found by its words"),
        ((), 0.25, "score 0.25"),
        ((), -0.1, "score 0.00"),
        ((), None, ""),
    ],
)
def test_why(found_by: tuple[Way, ...], score: float | None, said: str) -> None:
    shown = source(TEXT, replace(HIT, found_by=found_by, score=score), 1, key="k")
    assert [text for _, _, text in tags(shown, "small")][-1] == said


def test_turning_pages() -> None:
    can = buttons(source(PAGE, OF_PDF, 2, key="a:1"))
    assert [asked(can[name][1]) for name in ("Previous page", "Next page", "Show as text")] == [
        ("a:1", Place(page=2)),
        ("a:1", Place(page=4)),
        ("a:1", Place(as_text=True)),
    ]
    assert {do for do, _, _ in can.values()} == {"view", "close"}
    assert "Back to the passage" not in can
    away = buttons(source(replace(PAGE, page=4), OF_PDF, 2, key="k"))
    assert asked(away["Back to the passage"][1]) == ("k", Place(page=3))


@pytest.mark.parametrize(("page", "first", "last"), [(1, True, False), (12, False, True)])
def test_the_first_and_the_last_page(page: int, first: bool, last: bool) -> None:
    can = buttons(source(replace(PAGE, page=page), OF_PDF, 2, key="k"))
    assert can["Previous page"][2] == first
    assert can["Next page"][2] == last


def test_text() -> None:
    shown = source(TEXT, HIT, 2, key="k", cite="c7")
    ((_, attrs, marked),) = tags(shown, "mark")
    assert (attrs["class"], attrs["data-cite"], marked) == ("spot", "c7", "The Rhine flows.")
    ((_, attrs, text),) = tags(shown, "div")
    assert text == "Before. The Rhine flows. After."
    assert (attrs["tabindex"], attrs["aria-label"]) == ("0", "Text of rivers.md")
    can = buttons(shown)
    assert asked(can["Earlier text"][1]) == ("k", Place(earlier=5))
    assert asked(can["Later text"][1]) == ("k", Place(later=5))
    assert set(can) == {"Earlier text", "Later text", "Close the source"}


def test_what_there_is_no_more_of() -> None:
    plain = source(TextView("", "All.", "", note=GONE), HIT, 2, key="k")
    assert set(buttons(plain)) == {"Close the source"}
    assert [text for _, _, text in tags(plain, role="status")] == [GONE]
    assert tags(source(TEXT, HIT, 2, key="k"), role="status") == []


def test_back_to_the_page() -> None:
    view = replace(TEXT, place=Place(page=4, as_text=True), page=4)
    can = buttons(source(view, OF_PDF, 2, key="k"))
    assert asked(can["Show the page"][1]) == ("k", Place(page=4))


def test_the_lines_of_a_pdf_are_joined_and_those_of_others_are_not() -> None:
    view = TextView("One\ntwo.\n\nNext\n", "is\nthis.", "")
    for hit, text in ((OF_PDF, "One two.\n\nNext is this."), (HIT, "One\ntwo.\n\nNext\nis\nthis.")):
        ((_, _, shown),) = tags(source(view, hit, 1, key="k"), "div")
        assert shown == text


@pytest.mark.parametrize(
    ("name", "code"), [("a.PY", True), ("a.json", True), ("a.md", False), ("a", False)]
)
def test_code_is_monospaced(name: str, code: bool) -> None:
    hit = replace(HIT, node=replace(NODE, file_name=name))
    ((_, attrs, _),) = tags(source(TEXT, hit, 1, key="k"), "div")
    assert ("code" in str(attrs["class"]).split()) == code


def test_every_text_of_ours_can_be_translated() -> None:
    said: list[str] = []

    def say(text: str, /, **values: object) -> str:
        said.append(text)
        shown = re.sub(r"(?<!\{)\b[a-zA-Z]+\b(?!\})", "<Wort>", text)
        return english(shown, **values)

    views = (
        (replace(PAGE, page=4), OF_PDF),
        (replace(TEXT, page=2, note=NO_PAGES), replace(HIT, node=replace(NODE, headings=()))),
    )
    for view, hit in views:
        shown = source(view, hit, 1, key="k", say=say)
        ours = re.sub(r"report\.pdf|rivers\.md|webp", "", " ".join(texts(shown)))
        for part in ("Before. ", "The Rhine flows.", " After.", "The Rhine flows north."):
            ours = ours.replace(part, "")
        assert set(re.findall(r"[^\W\d_]+", ours)) == {"Wort"}
    assert NO_PAGES in said
    assert not any(any(char.isdigit() for char in text) for text in said)


def texts(shown: str) -> Iterator[str]:
    """All that a person reads or hears."""
    yield Tags(shown).found[0][2]
    for _, attrs, _ in tags(shown):
        yield from (str(attrs[name]) for name in ("aria-label", "title", "alt") if name in attrs)


ELEMENTS = {
    "section",
    "header",
    "span",
    "b",
    "small",
    "button",
    "p",
    "figure",
    "img",
    "blockquote",
    "div",
    "mark",
}
ATTRIBUTES = {
    "dir",
    "class",
    "aria-label",
    "title",
    "type",
    "data-do",
    "data-key",
    "data-cite",
    "disabled",
    "role",
    "src",
    "width",
    "height",
    "alt",
    "style",
    "tabindex",
}


@given(some.text(), some.text(), some.text(), some.sampled_from([PAGE, TEXT]))
def test_whatever_stands_in_a_document_is_text(
    text: str, name: str, heading: str, view: PageView | TextView
) -> None:
    hostile = f'{text}<script>x</script><img src=x onerror=y>" onclick="z\' &lt;'
    if isinstance(view, PageView):
        view = replace(view, marked=hostile, note=hostile)
    else:
        view = TextView(hostile, hostile, hostile, note=hostile)
    node = replace(NODE, file_name=name + hostile, headings=(heading, hostile))
    shown = source(view, NodeWithScore(node, 0.5), 1, key=hostile, cite=hostile)
    assert {tag for tag, _, _ in tags(shown)} <= ELEMENTS
    assert {key for _, attrs, _ in tags(shown) for key in attrs} <= ATTRIBUTES
    ((_, _, head),) = tags(shown, "b")
    assert head == html.unescape(html.escape(name + hostile)).replace("\r\n", "\n")
    for _, attrs, _ in tags(shown, **{"data_do": "view"}):
        assert asked(str(attrs["data-key"]))[0] == hostile


@given(
    some.text(),
    some.integers(0, 99999),
    some.integers(0, 99999),
    some.integers(0, 99999),
    some.booleans(),
)
def test_a_key_comes_back_as_it_was(
    key: str, page: int, earlier: int, later: int, as_text: bool
) -> None:
    from rag.ui.viewer import _key

    place = Place(page, earlier, later, as_text)
    assert asked(_key(key, place)) == (key, place)


@pytest.mark.parametrize("key", ["", "k", "k 1 2 3", "k -1 1 1 0", "k 9999999 1 1 0", "k 1 1 1 2"])
def test_a_key_that_is_none_of_ours(key: str) -> None:
    assert asked(key) == (key, Place())
