"""Words as they are indexed and asked for, in languages with and without spaces."""

import pytest

from rag.index.words import spaced, terms_of


@pytest.mark.parametrize(
    ("text", "indexed"),
    [
        ("Straße ＡＢＣ ﬁne", "strasse abc fine"),
        ("北京故宫", " 北京 京故 故宫 "),
        ("我 ok", " 我  ok"),
        ("カナとkana", " カナ ナと kana"),
        ("ไทย", " ไทย "),
        ("เมืองไทย", " เมื มือ ือง องไ งไท ไทย "),
        ("", ""),
    ],
)
def test_text_is_in_one_form_and_has_spaces(text: str, indexed: str) -> None:
    assert spaced(text) == indexed


@pytest.mark.parametrize(
    ("question", "terms"),
    [
        ("Where does the Rhine flow?", ['"rhine"', '"flow"']),
        ("What is it?", ['"what"', '"is"', '"it"']),
        ("the error E-4012 in foo_bar", ['"error"', '"e"', '"4012"', '"foo"', '"bar"']),
        ('say "x" AND NEAR(y) OR *', ['"say"', '"x"', '"near"', '"y"']),
        ("rhine Rhine RHINE", ['"rhine"']),
        ("故宫是", ['"故宫"', '"宫是"']),
        ("?!", []),
        ("", []),
    ],
)
def test_a_question_asks_for_any_of_its_words(question: str, terms: list[str]) -> None:
    asked = terms_of(question)
    assert [term for term in asked if " " not in term] == terms


def test_what_is_written_in_one_piece_is_a_phrase_besides() -> None:
    assert '"e 4012"' in terms_of("What is E-4012?")
    assert '"2 5"' in terms_of("version 2.5")
    assert '"don t"' in terms_of("I don't")
