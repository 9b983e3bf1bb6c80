"""What may stand in the HTML of the page, and texts that try to get something else in."""

from html.parser import HTMLParser
from urllib.parse import urlsplit

from bs4 import BeautifulSoup

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
    "{name}",
]
EVERYWHERE = {"class", "dir", "title", "aria-label", "role"}
PLAIN = (
    *("b", "blockquote", "br", "code", "em", "figure", "h1", "h2", "h3", "h4", "h5", "h6"),
    *("header", "hr", "li", "p", "pre", "s", "section", "small", "strong", "summary"),
    *("table", "tbody", "thead", "tr"),
)
ASKS = {"data-on", "data-do", "data-key", "data-edits", "data-ok", "data-cancel"}
TAGS: dict[str, set[str]] = {
    **{tag: set() for tag in PLAIN},
    "a": {"href", "target", "rel"},
    "button": {"type", "aria-pressed", "aria-current", "disabled", *ASKS},
    "details": {"open"},
    "div": {"data-view", "tabindex"},
    "img": {"src", "width", "height", "alt"},
    "mark": {"data-cite"},
    "blockquote": {"data-cite"},
    "ol": {"start"},
    "option": {"value", "selected"},
    "select": ASKS,
    "span": {"data-cite", "aria-hidden", "data-empty", "hidden", "style"},
    "td": {"style"},
    "th": {"style"},
    "ul": {"start"},
}
"""Every element that may come out, with the attributes it may have beside `EVERYWHERE`."""
EMPTY = {"br", "hr", "img"}


class Checking(HTMLParser):
    """Raises where something else comes out than is allowed, or is not closed in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS, tag
        for name, value in attrs:
            assert name in TAGS[tag] | EVERYWHERE, (tag, name)
            if name == "style" and tag in ("td", "th"):
                assert value in ("text-align:left", "text-align:center", "text-align:right")
            if name == "href":
                assert urlsplit(value or "").scheme in ("http", "https", "mailto")
            if name == "src":
                assert (value or "").startswith("data:image/webp;base64,")
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in EMPTY:
            assert self.open.pop() == tag

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(f"a declaration: {decl}")

    def handle_pi(self, data: str) -> None:
        raise AssertionError(f"an instruction: {data}")


def safe(markup: str) -> BeautifulSoup:
    """`markup`, in which every element and attribute is one of ours, and closed."""
    checking = Checking()
    checking.feed(markup)
    checking.close()
    assert checking.open == []
    return BeautifulSoup(markup, "html.parser")
