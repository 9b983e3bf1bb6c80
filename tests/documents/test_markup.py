"""HTML keeps its structure and its words, and nothing else."""

import pytest

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
