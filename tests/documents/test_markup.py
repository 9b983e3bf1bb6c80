"""HTML keeps its structure and its words, and nothing else."""

import time
from contextlib import suppress

import pytest

from rag.documents.markup import load_html
from rag.errors import DocumentError, EmptyDocumentError
from tests.documents.conftest import Read


def test_html_keeps_structure_and_words_and_drops_the_rest(read: Read) -> None:
    html = b"""<!doctype html><html><head><title>Tab</title><style>p { color: red }</style>
      <link rel="stylesheet" href="https://tracker.example/x.css"></head><body>
      <h1>Rivers</h1><script>alert('boo')</script><noscript>Enable it</noscript>
      <p>See <a href="https://example.org/">the map</a>.<img src="x.png" alt="PICTURE"></p>
      <ul><li>Rhine</li><li>Elbe</li></ul>
      <table><tr><th>River</th></tr><tr><td>Rhine</td></tr></table></body></html>"""
    document = read("page.html", html)
    lines = [line for line in document.text.splitlines() if line]
    assert lines[:4] == ["# Rivers", "See the map.", "* Rhine", "* Elbe"]
    assert "| Rhine |" in lines
    for gone in ("http", "alert", "Enable", "PICTURE", "color", "Tab", "<"):
        assert gone not in document.text


def test_html_nested_too_deeply_to_be_read(read: Read) -> None:
    with pytest.raises(DocumentError, match=r"^deep\.html: .*nested"):
        read("deep.html", b"<div>" * 20_000 + b"text")


def test_html_of_only_a_script_is_empty(read: Read) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^app\.htm: "):
        read("app.htm", b"<body><script>run()</script></body>")


def test_html_in_the_encoding_it_declares(read: Read) -> None:
    text = "Příliš žluťoučký kůň úpěl ďábelské ódy"
    html = f'<meta charset="iso-8859-2"><p>{text}</p>'.encode("iso-8859-2")
    assert read("czech.html", html).text == text


def test_html_is_told_by_its_content(read: Read) -> None:
    data = b" <!DOCTYPE HTML>\n<html><h1>Rivers</h1><!-- not this --><p>flow</html>"
    for name in ("page.txt", "page.md", "page", "page.php3"):
        assert read(name, data).text == "# Rivers\n\nflow"
    code = b"<!doctype html><h1>{{ title }}</h1>"
    assert read("page.vue", code).text == code.decode()


NAV = """<nav><ul><li><a href="/">Home</a></li><li><a href="/s">Sport pages</a></li></ul></nav>"""
COOKIES = """<div class="cookieBanner" role="dialog"><p>We and our 412 partners value your privacy.
  We store cookies on your device.</p><button>Accept all</button></div>"""
FOOTER = """<footer><p>© The River Paper. <a href="/i">Imprint</a></p></footer>"""
TEXT = "Every spring the snow of the Alps melts into it, and the gauge at Kaub rises. " * 3
STORY = f"""<h1>Low water</h1><p>By Ada Moll</p><p>{TEXT}</p><h2>In 2018</h2>
  <ul><li>Barges were half empty.</li></ul>
  <table><tr><th>Year</th><th>Level</th></tr><tr><td>2018</td><td>25 cm</td></tr></table>
  <aside>A note of the article.</aside><blockquote>Never so low.<footer>A lock keeper</footer>
  </blockquote>"""
FLAT = STORY.replace("aside>", "div>")
NOISE = ("Home", "Sport", "cookies", "Accept", "River Paper", "Imprint", "Most read", "hotels")


@pytest.mark.parametrize(
    "page",
    [
        f"{COOKIES}<header>Logo {NAV}</header><article><header>{STORY}</header></article>"
        f"<aside><h3>Most read</h3><p>Ten best hotels</p></aside>{FOOTER}",
        f"{COOKIES}{NAV}<main>{STORY}</main><div><h3>Most read</h3><p>Ten best hotels</p></div>"
        f"{FOOTER}",
        f"{NAV}<div role='main'><div class='sidebar'>Most read: hotels</div>{STORY}</div>{FOOTER}",
        f"<div class='top-nav'>Home, Sport</div><div class='page has-sidebar'><div>{FLAT}</div>"
        f"<div id='right_sidebar'>Most read: hotels</div></div><div id='footer'>Imprint</div>",
        f"{NAV}<div hidden>Imprint</div><div style='display: none'>hotels</div>{FLAT}{FOOTER}",
        f"<form>{NAV}<h1>Low water</h1><main>{STORY.split('</h1>')[1]}</main>{FOOTER}</form>",
    ],
)
def test_the_main_text_of_a_page(page: str, read: Read) -> None:
    text = read("page.html", f"<html><body class='with-sidebar'>{page}".encode()).text
    lines = [line for line in text.splitlines() if line]
    assert "# Low water" in lines
    assert lines.index("# Low water") < lines.index("## In 2018") < lines.index("| 2018 | 25 cm |")
    for kept in ("By Ada Moll", "* Barges were half empty.", "A note", "A lock keeper"):
        assert kept in text
    for gone in NOISE:
        assert gone not in text


def test_a_page_of_a_manual(read: Read) -> None:
    html = f"""<title>listen</title><div class="sphinxsidebar"><h3>Contents</h3></div>
      <div class="related">index | next</div><div class="body" role="main">
      <h1>listen<a class="headerlink" href="#l">¶</a></h1><p>Opens a socket.</p>
      <pre><span>def</span> main():
    listen(8080)
</pre>
      <dl><dt><code>backlog</code></dt><dd>How many wait.</dd></dl>
      <ol><li><a href="c">close</a>, which ends it</li></ol></div>{FOOTER}"""
    document = read("page.html", html.encode())
    assert document.text == (
        "# listen\n\nOpens a socket.\n\n```\ndef main():\n    listen(8080)\n```\n\n"
        "`backlog`\n:   How many wait.\n\n1. close, which ends it"
    )
    assert document.metadata["title"] == "listen"


def test_questions_and_answers_stay_in_their_order(read: Read) -> None:
    answers = "".join(f"<article><p>Answer {number}: {TEXT}</p></article>" for number in range(3))
    html = f"{NAV}<h1>How?</h1><p>The question.</p>{answers}{FOOTER}"
    text = read("page.html", html.encode()).text
    found = [text.index(part) for part in ("# How?", "The question", "Answer 0", "Answer 2")]
    assert found == sorted(found)
    assert "Home" not in text


def test_an_index_keeps_all_its_entries(read: Read) -> None:
    cards = "".join(
        f"<article class='card'><h2><a href='/{number}'>Entry {number}</a></h2></article>"
        for number in range(20)
    )
    text = read("page.html", f"{NAV}<div class='grid'>{cards}</div>{FOOTER}".encode()).text
    assert text.splitlines()[::2] == [f"## Entry {number}" for number in range(20)]


def test_the_text_itself_may_be_named_like_what_is_around_it(read: Read) -> None:
    dishes = "".join(f"<div class='menu-item'>Dish {number}</div>" for number in range(20))
    text = read("menu.html", f"{NAV}<h1>Our dishes</h1>{dishes}{FOOTER}".encode()).text
    assert "Dish 0" in text
    assert "Dish 19" in text
    assert "Home" not in text


def test_japanese(read: Read) -> None:
    html = """<title>信濃川 - 百科</title><header><nav><a>ホーム</a></nav></header><div id="main">
      <h1>信濃川</h1><p>信濃川は、新潟県と長野県を流れる一級河川である。</p>
      <ul><li>千曲川</li></ul></div><div class="sidebar">人気</div><footer>著作権</footer>"""
    text = read("page.html", html.encode()).text
    assert text == "# 信濃川\n\n信濃川は、新潟県と長野県を流れる一級河川である。\n\n* 千曲川"


@pytest.mark.parametrize(
    "html",
    [
        f"{NAV}<p>Hi</p>{FOOTER}",
        f"<nav>{STORY}</nav>",
        f"<div role='dialog'><p>{TEXT}</p></div><p>x</p>",
        f"<main>Loading</main><div role='dialog'><p>{TEXT}</p></div>",
    ],
)
def test_where_next_to_nothing_is_the_main_text_all_of_it_is(html: str, read: Read) -> None:
    text = read("page.html", html.encode()).text
    assert ("Home" in text and "Imprint" in text) or "gauge at Kaub" in text


def test_a_page_that_says_no_body(read: Read) -> None:
    html = b"<!doctype html><title>Rivers</title><main><h1>Rhine</h1><p>It flows.</main>"
    assert read("page.html", html).text == "# Rhine\n\nIt flows."


@pytest.mark.parametrize(
    "open_tag", ["<div class=sidebar>", "<aside>", "<main>", "<section>", "<article hidden>"]
)
def test_the_time_does_not_grow_with_the_depth(open_tag: str) -> None:
    html = f"<body>{open_tag * 20_000}<h1>x</h1>".encode()
    began = time.monotonic()
    with suppress(RecursionError):
        load_html("deep.html", html)
    assert time.monotonic() - began < 20


def test_the_title_is_one_line_of_some_length(read: Read) -> None:
    html = f"<title> A\n&#8203;river {'x' * 10_000}</title><svg><title>Icon</title></svg><p>Text"
    document = read("page.html", html.encode())
    assert document.metadata["title"] == f"A river {'x' * 10_000}"[:200]
    assert document.text == "Text"
    assert "title" not in read("page.html", b"<svg><title>Icon</title></svg><p>Text").metadata
