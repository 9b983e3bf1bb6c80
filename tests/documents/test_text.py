"""Text in whatever encoding, and the formats that are text: code, JSON, notebooks."""

import pytest

from rag.errors import DocumentError, EmptyDocumentError, UnsupportedFileError
from tests.documents.conftest import Read
from tests.documents.makers import code_cell, notebook

# Text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize(
    "text",
    [
        "L'été dernier, nous avons visité le château de Versailles où vécut Louis XIV.",
        "Café crème à la française – naïve “quotes” 50 €",
        "Überprüfung der Größe",
        "El niño comió piñas.",
        "Café",
    ],
)
def test_text_in_its_encodings(read: Read, encoding: str, text: str) -> None:
    assert read("a.txt", text.encode(encoding)).text == text


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("latin-1", "São Paulo é a maior cidade do Brasil. Não há praias."),
        ("utf-16-be", "\ufeffNaïve"),
        ("cp1251", "Привет, как дела? Это обычный русский текст о погоде."),
        ("cp1250", "Příliš žluťoučký kůň úpěl ďábelské ódy."),
        ("shift_jis", "これは日本語の文章です。検索できますか。"),
    ],
)
def test_text_in_other_encodings(read: Read, encoding: str, text: str) -> None:
    assert read("a.txt", text.encode(encoding)).text == text.removeprefix("\ufeff")


def test_line_ends_become_uniform_and_control_characters_blank(read: Read) -> None:
    assert read("a.txt", b"one\r\ntwo\rthree\x07\x1b[0m").text == "one\ntwo\nthree  [0m"


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8,
        b"PK\x03\x04" + bytes(200),
        b"MZ\0text",
        bytes(range(1, 256)) * 9,
    ],
    ids=["image", "archive", "program", "noise"],
)
def test_a_binary_named_txt(read: Read, data: bytes) -> None:
    with pytest.raises(UnsupportedFileError, match=r"^data\.txt: its content is not text\."):
        read("data.txt", data)


def test_a_text_with_broken_bytes_keeps_its_encoding(read: Read) -> None:
    data = "Grüße aus Köln, Größe über alles".encode()
    broken = data[:2] + b"\xff" + data[2:]
    assert read("a.txt", broken).text == "Gr\ufffdüße aus Köln, Größe über alles"


def test_what_nobody_can_see_is_gone(read: Read) -> None:
    hidden = "pass\u200bword \u202egnp.exe\u202c so\u00adft \U000e0041\u2066x\u2069\ufeff"
    assert read("a.txt", hidden.encode()).text == "password gnp.exe soft x"


def test_joiners_stay(read: Read) -> None:
    text = "می\u200cخواهم 👩\u200d🚒"
    assert read("a.txt", text.encode()).text == text


@pytest.mark.parametrize("suffix", [".md", ".markdown", ".MD"])
def test_markdown_stays_as_it_is(read: Read, suffix: str) -> None:
    text = "# Title\n\n```py\n# no *heading*\n    indented\n```\n\n| a | b |\n"
    assert read(f"notes{suffix}", text.encode()).text == text


# Code and JSON


@pytest.mark.parametrize("name", ["a.py", "a.rs", "deep/a.yaml", "a.svg", "a.log"])
def test_code_stays_as_it_is_and_is_no_markdown(read: Read, name: str) -> None:
    document = read(name, b"# comment\r\ndef f():\r\n\treturn 1\r\n")
    assert document.text == "# comment\ndef f():\n\treturn 1\n"
    assert document.plain


def test_json_stays_as_it_is(read: Read) -> None:
    text = '{\n  "b": 1.10,\n  "a": [1, 2],\n  "a": "twice"\n}'
    document = read("a.json", text.encode())
    assert (document.text, document.plain) == (text, True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r'{"a": "Gr\u00fc\u00dfe"}', '{\n "a": "Grüße"\n}'),
        ("[" + "1," * 2000 + "2]", "[\n" + " 1,\n" * 2000 + " 2\n]"),
    ],
    ids=["escapes", "one line"],
)
def test_json_that_nobody_could_read_is_laid_out(read: Read, text: str, shown: str) -> None:
    assert read("a.json", text.encode()).text == shown


@pytest.mark.parametrize(
    "text", [r'{"a": "\u00fc"', "[" * 5000, "9" * 5000], ids=["cut", "deep", "large number"]
)
def test_json_that_is_none_is_text(read: Read, text: str) -> None:
    assert read("a.json", text.encode()).text == text


# Notebooks


def test_a_notebook_has_its_text_its_code_and_its_outputs(read: Read) -> None:
    cells = (
        {"cell_type": "markdown", "source": "# Rivers\nThey flow."},
        code_cell(
            "# no heading\nprint(1)",
            {"output_type": "stream", "name": "stdout", "text": "\x1b[31m1\x1b[0m\n"},
            {"output_type": "execute_result", "execution_count": 1, "data": {"text/plain": "2"}},
            {
                "output_type": "display_data",
                "data": {"text/html": "<table><tr><th>River</th></tr><tr><td>Rhine</td></table>"},
            },
            {"output_type": "display_data", "data": {"image/png": "iVBORw0KGgo="}},
            {"output_type": "error", "ename": "ValueError", "evalue": "dry", "traceback": []},
        ),
        code_cell("'''```'''"),
    )
    document = read("rivers.ipynb", notebook(*cells))
    assert [line for line in document.text.splitlines() if line] == [
        *("# Rivers", "They flow.", "###### Cell 2"),
        *("```python", "# no heading", "print(1)", "```"),
        *("```", "1", "```", "```", "2", "```", "| River |", "| --- |", "| Rhine |"),
        *("```", "ValueError: dry", "```"),
        *("###### Cell 3", "````python", "'''```'''", "````"),
    ]
    assert not document.plain


def test_a_notebook_of_an_old_format(read: Read) -> None:
    old = (
        b'{"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [{"cells": '
        b'[{"cell_type": "markdown", "source": ["They flow."], "metadata": {}}], "metadata": {}}]}'
    )
    assert read("old.ipynb", old).text == "They flow."


@pytest.mark.parametrize(
    "data",
    [b"text", b"{", b"[]", b"1", b"{}", b'{"nbformat": 4}', b'{"nbformat": 4, "cells": [1]}'],
)
def test_a_notebook_that_is_none(read: Read, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"^a\.ipynb: (it is named|the notebook is|no text)"):
        read("a.ipynb", data)


def test_a_notebook_without_text(read: Read) -> None:
    with pytest.raises(EmptyDocumentError, match=r"^a\.ipynb: no text was found"):
        read("a.ipynb", notebook({"cell_type": "markdown", "source": " "}))
