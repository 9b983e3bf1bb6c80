"""Markdown of a model as HTML that does nothing, and where its checked sentences are in it."""

import time
from collections.abc import Sequence

import pytest
from bs4 import BeautifulSoup
from hypothesis import given, settings
from hypothesis import strategies as st

from rag.answering.sentences import GrowingSentences
from rag.types import Citation
from rag.ui.blocks import BEGIN, END, blocks, left_open
from tests.ui.markup import HOSTILE, safe


def shown(text: str, citations: Sequence[Citation] = ()) -> BeautifulSoup:
    """All blocks, each of which is whole in itself, and has the sentences that are said to be in
    it."""
    made = blocks(text, citations)
    for block in made:
        units = len(safe(block.html).text.encode("utf-16-le")) // 2
        assert all(0 <= each.start <= each.end <= units for each in block.sentences)
    return BeautifulSoup("".join(block.html for block in made), "html.parser")


def marked(text: str, citations: Sequence[Citation]) -> list[tuple[int, str]]:
    """The numbers of citations, with what of the blocks' text they stand at, in units of UTF-16."""
    found = []
    for block in blocks(text, citations):
        units = safe(block.html).text.encode("utf-16-le")
        for each in block.sentences:
            of = units[2 * each.start : 2 * each.end].decode("utf-16-le")
            found.append((each.number, of))
    return found


def cited(text: str) -> list[Citation]:
    """A citation for each sentence, as they are found while the answer grows."""
    growing = GrowingSentences()
    spans = growing.feed(text) + growing.flush()
    return [Citation(begin, end, "none") for begin, end in spans]


PIECES = (
    *("`", "```\n", "*", "_", "[", "](", ")", "<", ">", "- ", "# ", "|", "\n", "\n\n", "~~", "  "),
    *("http://a.b/", "javascript:", "&lt;", "\\", "word. ", "!", BEGIN, END, "\ue000"),
)


class TestBlocks:
    def test_each_block_stands_alone(self) -> None:
        text = (
            "One\ntwo.\n\n- a\n- b\n\n```py\nx < 1\n```\n\n| a | b |\n|---|--:|\n| 1 | 2 |\n\n> q"
        )
        names = [BeautifulSoup(block.html, "html.parser").find().name for block in blocks(text)]
        assert names == ["p", "ul", "pre", "table", "blockquote"]

    def test_growing_text_changes_only_the_last(self) -> None:
        text = "First.\n\n- a\n- b\n\nLast one."
        whole = blocks(text)
        for end in range(len(text)):
            grown = blocks(text[:end])
            assert grown[:-1] == whole[: max(len(grown) - 1, 0)]

    def test_lines_are_kept(self) -> None:
        assert str(shown("a\nb")) == "<p>a<br/>\nb</p>\n"

    def test_emphasis_code_tables_and_headings(self) -> None:
        soup = shown("# A *b* **c** ~~d~~ `e<f>`\n\n| x |\n|:-:|\n| y |")
        assert [soup.find(tag).text for tag in ("em", "strong", "s", "code")] == [
            *("b", "c", "d", "e<f>")
        ]
        assert soup.h1.text == "A b c d e<f>"
        assert soup.td["style"] == "text-align:center"

    @pytest.mark.parametrize("text", ["", " ", "\n\n"])
    def test_nothing(self, text: str) -> None:
        assert blocks(text) == []

    def test_much_of_it_is_fast_enough_to_stream(self) -> None:
        begun = time.monotonic()
        empty = "```\n" + "\n" * 30_000 + "x"
        for text in (
            "`" * 9000,
            "*a " * 3000,
            "[" * 3000,
            "> " * 300,
            "<" * 9000,
            "![" * 3000,
            empty,
        ):
            for block in blocks(text):
                left_open(block.html)
        assert time.monotonic() - begun < 10

    anchor = '<a href="http://b.c" target="_blank" rel="noopener noreferrer nofollow">'

    @pytest.mark.parametrize(
        ("text", "left"),
        [
            ("One **two**", "<p>One <strong>two"),
            ("- a\n  - b", "<ul>\n<li>a\n<ul>\n<li>b"),
            ("```\nx\n\n", "<pre><code>x"),
            ("<http://b.c>", f"<p>{anchor}http://b.c</a>"),
            ("---", "<hr />"),
        ],
    )
    def test_one_that_grows_ends_without_tags(self, text: str, left: str) -> None:
        """But for that of a link, which what comes after it is no part of."""
        (block,) = blocks(text)
        assert left_open(block.html) == left


class TestHostile:
    @pytest.mark.parametrize("hostile", HOSTILE)
    @pytest.mark.parametrize(
        "around",
        [
            "{}",
            "a {} b",
            "- a\n  {}",
            "> {}",
            "# {}",
            "| a |\n|-|\n| {} |",
            "**{}**",
            "[{}](http://a.example)",
            "``a` {}",
            "```\nx\n```\n{}",
        ],
    )
    def test_a_tag_is_shown_and_not_obeyed(self, around: str, hostile: str) -> None:
        text = around.replace("{}", hostile)
        soup = shown(text, cited(text))
        assert not soup.find(["script", "img", "svg", "iframe", "style"])
        for address in soup.find_all(class_="address"):
            address.decompose()
        visible = hostile.replace("&lt;", "<").replace("&gt;", ">").replace("*{", "{")
        assert visible.replace("*", "") in soup.text.replace("*", "")

    @pytest.mark.parametrize(
        "href",
        [
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "java&#115;cript:alert(1)",
            "data:text/html,<script>alert(1)</script>",
            "vbscript:x",
            "file:///etc/passwd",
            "//evil.example",
            "/file=secret",
            "#settings",
        ],
    )
    @pytest.mark.parametrize("text", ["[x]({})", "<{}>", "![x]({})", "[x](<{}>)"])
    def test_only_addresses_of_the_web_are_links(self, text: str, href: str) -> None:
        assert not shown(text.replace("{}", href)).find("a")

    def test_a_link_shows_where_it_leads(self) -> None:
        soup = shown("[bank](https://evil.example/?q=a&b) and <https://plain.example/>")
        first, second = soup.find_all("a")
        assert first["href"] == "https://evil.example/?q=a&b"
        assert first["rel"] == ["noopener", "noreferrer", "nofollow"]
        assert soup.find(class_="address").text == "(https://evil.example/?q=a&b)"
        assert len(soup.find_all(class_="address")) == 1
        assert second.text == second["href"] == "https://plain.example/"

    @pytest.mark.parametrize(
        "text",
        [
            "![a cat](http://evil.example/x.png)",
            "[![a cat](http://evil.example/x.png)](http://other.example)",
            "> ![a cat](http://evil.example/x.png)",
            "![a cat][r]\n\n[r]: http://evil.example/x.png",
        ],
    )
    def test_a_picture_is_not_loaded(self, text: str) -> None:
        soup = shown(text)
        assert not soup.find("img")
        assert "a cat" in soup.text
        assert "http://evil.example/x.png" in soup.text

    def test_a_language_of_code_is_only_a_class(self) -> None:
        soup = shown('```"><script>x onload=y\ncode\n```')
        assert soup.code["class"]
        assert soup.code.text == "code\n"

    def test_signs_of_its_own_mark_nothing(self) -> None:
        text = f"a{BEGIN}\ue000b{END}\ue000c"
        assert marked(text, [Citation(0, 3, "none")]) == [(0, "a\ufffd\ue000")]
        assert marked("a &#xfdd0;\ue000 b", []) == []


class TestSentences:
    def test_each_is_where_it_is_said_to_be(self) -> None:
        text = "The sky is blue. It is high.\n\n- Snow is *cold* and white."
        assert marked(text, cited(text)) == [
            (0, "The sky is blue."),
            (1, "It is high."),
            (2, "Snow is cold and white."),
        ]

    @pytest.mark.parametrize(
        ("text", "sentences"),
        [
            ("**Bold.** And so on.", ["Bold.", "And so on."]),
            ("_Slanted words._", ["Slanted words."]),
            ("*A* sentence. **Another** one.", ["A sentence.", "Another one."]),
            ('"Quoted." (In brackets.)', ['"Quoted."', "(In brackets.)"]),
            ("1. One is first.\n2. Two is next.", ["One is first.", "Two is next."]),
            ("- A point is made\n- and another", ["A point is made", "and another"]),
            ("# A title of it\n\nText stands below.", ["Text stands below."]),
            ("> It is quoted. Twice.", ["It is quoted.", "Twice."]),
            (
                "She is here:\n\n| Name | Age |\n|---|---|\n| Ann is here. | 7 |\n\nThat is it.",
                ["She is here:", "That is it."],
            ),
            (
                "Look at this:\n\n```\ncode. More code.\n```\n\nIt ends.",
                ["Look at this:", "It ends."],
            ),
            ("Call `f(x < 1)` here. And there.", ["Call f(x < 1) here.", "And there."]),
            ("Say `Wait. Please` here.", ["Say Wait.", "Please here."]),
            (
                "[A link](http://a.example/x). Then text.",
                ["A link (http://a.example/x).", "Then text."],
            ),
            (
                "See <http://a.example/x.html?q=1>. It is there.",
                ["See http://a.example/x.html?q=1.", "It is there."],
            ),
            ("Lines that\ngo on. And\non.", ["Lines that\ngo on.", "And\non."]),
            (
                "An &amp; entity &lt;b&gt; is. So \\*is\\* this.",
                ["An & entity <b> is.", "So *is* this."],
            ),
            ("A 💧 falls. Two 💧💧 fall.", ["A 💧 falls.", "Two 💧💧 fall."]),
            ("It's \"<b>\" & 'c'. So.", ["It's \"<b>\" & 'c'.", "So."]),
        ],
    )
    def test_whatever_is_around_and_in_them(self, text: str, sentences: list[str]) -> None:
        assert marked(text, cited(text)) == list(enumerate(sentences))
        assert str(shown(text, cited(text))) == str(shown(text))

    def test_one_that_runs_over_two_blocks_ends_in_the_second(self) -> None:
        assert marked("One\n\ntwo. Three.", [Citation(0, 9, "none")]) == [(0, "two.")]

    @pytest.mark.parametrize(
        ("start", "end"), [(-1, 3), (0, 99), (3, 3), (5, 2), (99, 100), (-5, -1)]
    )
    def test_one_that_is_not_in_the_text_is_left_out(self, start: int, end: int) -> None:
        citations = [Citation(start, end, "none")]
        assert marked("A sentence.", citations) == []
        assert shown("A sentence.", citations).text == "A sentence.\n"

    @pytest.mark.parametrize("end", [5, 12, 20, 30, 36])
    def test_one_that_ends_in_an_address_leaves_it_as_it_is(self, end: int) -> None:
        for text in ("See [it](http://a.example/b?c. d) now.", "See <http://a.example/b?c> and."):
            soup = shown(text, [Citation(0, end, "none")])
            plain = shown(text)
            if soup.a and plain.a:
                assert soup.a["href"] == plain.a["href"]
            assert "%EF%B7" not in str(soup)

    @pytest.mark.parametrize("start", range(0, 24, 2))
    def test_offsets_inside_of_code_do_not_break_it(self, start: int) -> None:
        text = "x\n\n```py\na = 1. # b\nc = 2.\n```\n\nAnd `d. e` f."
        for end in range(start + 1, len(text), 3):
            soup = shown(text, [Citation(start, end, "none")])
            assert "\ufdd0" not in str(soup)
            if start > 9 and end < 26:
                assert soup.pre.text == "a = 1. # b\nc = 2.\n"

    @given(st.data())
    @settings(max_examples=150, deadline=None)
    def test_any_text_with_any_citations(self, data: st.DataObject) -> None:
        pieces = st.sampled_from(PIECES)
        text = "".join(data.draw(st.lists(pieces | st.text(max_size=5), max_size=25)))
        offsets = st.tuples(st.integers(-2, len(text) + 2), st.integers(-2, len(text) + 2))
        spans = data.draw(st.lists(offsets, max_size=5))
        soup = shown(text, [Citation(start, end, "none") for start, end in spans])
        for sign in (BEGIN, END, "%EF%B7%90", "%EF%B7%91"):
            assert sign not in str(soup)

    @given(st.lists(st.text("abc AB.!?\n-*", max_size=9), max_size=12))
    @settings(max_examples=150, deadline=None)
    def test_no_word_is_lost(self, pieces: list[str]) -> None:
        text = "".join(pieces)
        letters = [letter for letter in text if letter.isalpha()]
        soup = shown(text, cited(text))
        assert [letter for letter in soup.text if letter.isalpha()] == letters
