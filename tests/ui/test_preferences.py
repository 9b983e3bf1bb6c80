"""What a person has set is kept, and damage costs only itself."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.options import AnswerOptions
from rag.ui.preferences import LONGEST_MODEL, Preferences, encode, read

SET = Preferences("openai:gpt", AnswerOptions(5, 100, 0.5, "brief", "German", "Be kind.\nAlways."))


@pytest.mark.parametrize("preferences", [Preferences(), SET])
def test_what_is_kept_is_read(tmp_path: Path, preferences: Preferences) -> None:
    file = tmp_path / "preferences.json"
    file.write_text(encode(preferences), "utf-8")
    assert read(file) == preferences


def test_nothing_is_set_where_nothing_is_kept(tmp_path: Path) -> None:
    assert read(tmp_path / "none.json") == Preferences()


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\xff",
        b"7",
        b"[]",
        b'{"model": 7}',
        b'{"options": {"top_k": "many"}}',
        b'{"options": {"style": "rude"}}',
        b'{"options": {"top_k": 100000}}',
    ],
)
def test_damage_means_the_usual_settings(
    tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "preferences.json"
    file.write_bytes(damage)
    with caplog.at_level(logging.ERROR):
        assert read(file) == Preferences()
    assert "cannot be read" in caplog.text


@given(st.text())
def test_any_name_of_a_model_can_be_written(model: str) -> None:
    preferences = Preferences(model)
    assert len(preferences.model) <= LONGEST_MODEL
    encode(preferences).encode()
