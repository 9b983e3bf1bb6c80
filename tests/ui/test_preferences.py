"""What a person has set is kept within its limits, and damage costs only itself."""

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.answering.options import AnswerOptions
from rag.ui.preferences import LONGEST_PROMPT, MOST_PASSAGES, Preferences, encode, read

SET = Preferences("openai:gpt", AnswerOptions(5, 100, 0.5, "brief", "German", "Be kind.\nAlways."))


@pytest.mark.parametrize("preferences", [Preferences(), SET])
def test_what_is_kept_is_read(tmp_path: Path, preferences: Preferences) -> None:
    file = tmp_path / "preferences.json"
    file.write_text(encode(preferences), "utf-8")
    assert read(file) == preferences.bounded() == preferences


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


@given(
    st.builds(
        Preferences,
        st.text(),
        st.builds(
            AnswerOptions,
            st.none() | st.integers(),
            st.none() | st.integers(),
            st.none() | st.floats(),
            st.sampled_from(["usual", "rude"]),
            st.text(),
            st.text(),
        ),
    )
)
def test_everything_is_brought_within_its_limits(preferences: Preferences) -> None:
    bounded = preferences.bounded()
    options = bounded.options
    assert options.top_k is None or 1 <= options.top_k <= MOST_PASSAGES
    assert options.max_tokens is None or options.max_tokens >= 1
    assert options.temperature is None or 0 <= options.temperature <= 2
    assert options.style == "usual"
    assert "\n" not in options.language
    assert len(options.system_prompt) <= LONGEST_PROMPT
    assert bounded.bounded() == bounded
    encode(bounded).encode()


def test_what_was_written_outside_the_limits_is_read_within_them(tmp_path: Path) -> None:
    file = tmp_path / "preferences.json"
    file.write_text('{"options": {"top_k": 100000, "temperature": -1}}')
    assert read(file).options == AnswerOptions(top_k=MOST_PASSAGES, temperature=0.0)
