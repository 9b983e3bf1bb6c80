"""The language of the page: which one, and that each has every text."""

import ast
import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from string import Formatter

import pytest

from rag.answering.events import ENDINGS, STATUSES
from rag.answering.prompts import OURS
from rag.config import Config
from rag.ui import backend, form, language, library, page, rendering, viewer, views
from rag.ui.language import MARKS, english, said, speaking, translations

ROOT = Path(language.__file__).parents[2]
SOURCES = {file: ast.parse(file.read_text("utf-8")) for file in (ROOT / "rag").rglob("*.py")}
CODES = ["de", "es", "fr", "ja", "zh"]
SAME = {
    *("OK", "Conversations", "Question", "Sources", "Style", "1 page", "{number} pages"),
    *("page {page}", "{name}, page {page}", "Source {number}", "score {score}"),
}
"""Texts that can be the same in another language."""


def constants(node: ast.AST) -> Iterator[str]:
    """The texts in a piece of a program, without parts of texts and names of values."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    if not isinstance(node, ast.Subscript):
        for child in ast.iter_child_nodes(node):
            if not (isinstance(node, ast.JoinedStr) and isinstance(child, ast.Constant)):
                yield from constants(child)


def called(tree: ast.AST) -> Iterator[str]:
    """What is handed to `say` or `TEXTS`, and every text with a name in braces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("say", "TEXTS"):
            for argument in node.args:
                yield from constants(argument)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".failed"):
            yield from constants(node)
    yield from (text for text in constants(tree) if re.search(r"\{[a-z]+\}", text))


def shown(config: Config) -> set[str]:
    """Every text that has to be translated."""
    parts = backend.Backend(config)
    texts = {
        *STATUSES,
        *ENDINGS.values(),
        *OURS,
        *viewer.WAYS.values(),
        *(label for label, _ in (*library.SCOPES, *form.STYLES)),
        *rendering.SUMS.values(),
        *(views.GONE, views.CHANGED, views.NO_PAGES, views.NOT_FOUND),
        *(backend.NONE_CHOSEN, backend.GONE),
        *(part.name for part in parts._searching),
        *("fetching", "reading", "splitting", "storing"),  # what `Progress` can say
        *(page.FORGET, page.LOST),
    }
    for file, tree in SOURCES.items():
        if file.parent.name == "ui":
            texts.update(called(tree))
    return texts - {""}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(data_dir=tmp_path, rerank_model="any")


class TestSpeaking:
    @pytest.mark.parametrize(
        ("accepted", "code"),
        [
            ("", "en"),
            ("*", "en"),
            ("de", "de"),
            ("DE-at", "de"),
            ("de-DE,de;q=0.9,en;q=0.8", "de"),
            ("en-GB,en;q=0.9,de;q=0.8", "en"),
            ("en;q=0.5, fr;q=0.7", "fr"),
            ("fr; q=0.3 , ja ; q=0.4", "ja"),
            ("zh-CN,zh;q=0.9", "zh"),
            ("zh-TW", "zh"),
            ("zh-Hant-HK", "zh"),
            ("es-419", "es"),
            ("de;q=0, es;q=0.1", "es"),
            # Gradio shows its own texts in the first language alone.
            ("pt-BR,pt;q=0.9,es;q=0.8", "en"),
            ("it,de;q=0.9", "en"),
            ("de;q=x", "en"),
            ("de;level=1", "en"),
            (",;,-,=", "en"),
            ("../de", "en"),
            ("x" * 10_000, "en"),
        ],
    )
    def test_the_language_that_is_wanted_most(self, accepted: str, code: str) -> None:
        assert speaking(accepted)[0] == code

    def test_each_speaks_its_own(self) -> None:
        said = {code: speaking(code)[1]("Settings") for code in ["en", *CODES]}
        assert len(set(said.values())) > len(CODES) - 1
        assert said["en"] == "Settings"
        assert said["de"] == "Einstellungen"

    @pytest.mark.parametrize("code", ["en", "de"])
    def test_what_has_no_translation_is_english(self, code: str) -> None:
        _, say = speaking(code)
        assert say("No such {thing}, {name}", thing="text", name="x") == "No such text, x"
        assert say("{in braces} that mean nothing") == "{in braces} that mean nothing"


class TestFilling:
    @pytest.mark.parametrize(
        ("code", "number", "decimal"),
        [
            ("en", "1,234,567", "1,234.50"),
            ("de", "1.234.567", "1.234,50"),
            ("es", "1\u202f234\u202f567", "1\u202f234,50"),
            ("fr", "1\u202f234\u202f567", "1\u202f234,50"),
            ("ja", "1,234,567", "1,234.50"),
            ("zh", "1,234,567", "1,234.50"),
        ],
    )
    def test_numbers(self, code: str, number: str, decimal: str) -> None:
        _, say = speaking(code)
        assert say("{number}", number=1234567) == number
        assert say("{number}", number=Decimal("1234.50")) == decimal
        assert say("{number}", number="1234.5") == "1234.5"

    @pytest.mark.parametrize(
        "name", ["report.pdf", "Bericht für Zürich.pdf", "报告.pdf", "{x}", ""]
    )
    def test_a_name_stays_as_it_is(self, name: str) -> None:
        assert english("{name} is ready.", name=name) == f"{name} is ready."

    @pytest.mark.parametrize("name", ["דוח.pdf", "تقرير 2.pdf", "evil\u202efdp.exe"])
    def test_a_name_from_right_to_left_does_not_turn_the_rest(self, name: str) -> None:
        assert english("{name} is ready.", name=name) == f"\u2068{name}\u2069 is ready."


def test_labels_of_a_list() -> None:
    choices = [("usual", "usual"), ("no such label", "x")]
    assert said(choices, speaking("de")[1]) == [("üblich", "usual"), ("no such label", "x")]


class TestTranslations:
    def test_the_languages(self) -> None:
        assert list(translations()) == CODES
        assert set(MARKS) <= set(CODES)

    @pytest.mark.parametrize("code", CODES)
    def test_every_text_has_one(self, code: str, config: Config) -> None:
        assert sorted(shown(config) - set(translations()[code])) == []

    @pytest.mark.parametrize("code", CODES)
    def test_every_one_has_a_text(self, code: str) -> None:
        """Texts of errors come from anywhere; some are shown with a capital."""
        used = {text for tree in SOURCES.values() for text in constants(tree)}
        used |= {text[:1].upper() + text[1:] for text in used}
        assert sorted(set(translations()[code]) - used) == []

    @pytest.mark.parametrize("code", CODES)
    def test_names_in_braces_are_the_same(self, code: str) -> None:
        def names(text: str) -> list[tuple[str, str | None]]:
            parsed = Formatter().parse(text)
            return sorted((name, rest) for _, name, rest, _ in parsed if name is not None)

        for text, translation in translations()[code].items():
            assert names(translation) == names(text), text

    @pytest.mark.parametrize("code", CODES)
    def test_each_is_translated(self, code: str) -> None:
        for text, translation in translations()[code].items():
            assert translation.strip() == translation != "", text
            words = re.sub(r"\{\w+\}", "", text)
            if re.search(r"[a-z]", words) and text not in SAME:
                assert translation != text
            if text[-1] in ".?…" and text[-2:] != "s.":
                assert translation[-1] in ".?…。？", text

    def test_all_are_in_the_same_order(self) -> None:
        files = [json.loads(file.read_text("utf-8")) for file in language.FOLDER.glob("*.json")]
        assert len({tuple(file) for file in files}) == 1
