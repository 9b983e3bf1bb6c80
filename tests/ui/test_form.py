"""The settings of a session: shown, kept, taken back."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from rag.answering.options import AnswerOptions
from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.ui.backend import Backend
from rag.ui.form import LANGUAGES, Form
from rag.ui.language import english
from rag.ui.preferences import Preferences
from rag.ui.sessions import Session

SET = AnswerOptions(5, 128, 0.5, "brief", "German", "Be kind.")


@pytest.fixture
def me(request_of: Callable[..., gr.Request]) -> gr.Request:
    return request_of(1)


@pytest.fixture
def form(unstarted: Backend) -> Form:
    with gr.Blocks(analytics_enabled=False):
        return Form(unstarted)


def session_of(form: Form) -> Session:
    return form.backend.sessions.get(f"\n{1:043d}")


def values(shown: tuple[Any, ...]) -> list[Any]:
    return [each["value"] if isinstance(each, dict) else each for each in shown]


def test_at_first_all_is_as_the_program_has_it(form: Form) -> None:
    config = form.backend.config
    assert values(form.shown(session_of(form), english)) == [
        *(config.top_k, config.max_new_tokens, 0, "usual", "", "")
    ]
    assert len(form.fields) == 6


def test_what_is_set_is_kept_and_shown(form: Form, me: gr.Request) -> None:
    form.keep(5, 128, 0.5, "brief", "German", "Be kind.", me)
    session = session_of(form)
    assert session.preferences.options == SET
    assert Session(session.folder).preferences.options == SET
    assert values(form.shown(session, english)) == [5, 128, 0.5, "brief", "German", "Be kind."]


def test_what_is_as_the_program_has_it_is_left_to_that(form: Form, me: gr.Request) -> None:
    config = form.backend.config
    form.keep(config.top_k, config.max_new_tokens, 0, "usual", None, "", me)
    assert session_of(form).preferences.options == AnswerOptions()


def test_the_model_stays_as_it_is(form: Form, me: gr.Request) -> None:
    session_of(form).prefer(Preferences("m"))
    form.keep(5, 128, 0.5, "brief", "German", "Be kind.", me)
    assert session_of(form).preferences == Preferences("m", SET)
    form.reset(me)
    assert session_of(form).preferences == Preferences("m")


def test_taken_back(form: Form, me: gr.Request) -> None:
    session_of(form).prefer(Preferences("", SET))
    config = form.backend.config
    assert values(form.reset(me))[:3] == [config.top_k, config.max_new_tokens, 0]
    assert Session(session_of(form).folder).preferences == Preferences()


@pytest.mark.parametrize(
    "fields",
    [
        (0, 128, 0.5, "brief", "", ""),
        (5, 10**9, 0.5, "brief", "", ""),
        (5, 128, 9.0, "brief", "", ""),
        (5, 128, 0.5, "rude", "", ""),
        (5, 128, 0.5, None, "", ""),
        (5, 128, 0.5, "brief", "Ignore all. Say", ""),
        (5, 128, 0.5, "brief", "", "x" * 5000),
    ],
)
def test_what_cannot_be_set_is_told_and_changes_nothing(
    form: Form, me: gr.Request, fields: tuple[Any, ...]
) -> None:
    session_of(form).prefer(Preferences("", SET))
    with pytest.warns(UserWarning, match=r"cannot be|no style|has to be|characters"):
        form.keep(*fields, me)
    assert session_of(form).preferences.options == SET


def test_a_full_disk_is_told_and_they_hold_all_the_same(
    form: Form, me: gr.Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, *_: Any) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.warns(UserWarning, match=r"^It could not be saved: No space left on device.$"):
        form.keep(5, 128, 0.5, "brief", "German", "Be kind.", me)
    assert session_of(form).preferences.options == SET


def test_other_languages_than_those_that_are_offered(form: Form, me: gr.Request) -> None:
    form.keep(5, 128, 0.5, "brief", "Klingon", "", me)
    assert session_of(form).preferences.options.language == "Klingon"
    *_, languages, _ = form.shown(session_of(form), english)
    assert languages["choices"] == [("as the question", ""), *((name, name) for name in LANGUAGES)]


@pytest.mark.parametrize(("top_k", "tokens"), [(50, 10_000), (1, 1)])
def test_whatever_the_program_is_set_to_can_be_left_as_it_is(
    config: Config, samples: Path, top_k: int, tokens: int
) -> None:
    """Gradio refuses what is outside of a slider."""
    config = dataclasses.replace(config, top_k=top_k, max_new_tokens=tokens)
    backend = Backend(config, HashEmbedding())
    with gr.Blocks(analytics_enabled=False):
        form = Form(backend)
    shown = values(form.shown(backend.sessions.get("one"), english))
    for slider, value in zip(form.fields[:3], shown, strict=False):
        assert slider.preprocess(value) == value
