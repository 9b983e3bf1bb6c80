"""The settings of a session, as fields that are folded away."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from rag.answering.options import (
    MAX_SYSTEM_PROMPT,
    MAX_TOKENS,
    TEMPERATURE,
    TOP_K,
    AnswerOptions,
    Style,
)
from rag.errors import ConfigurationError
from rag.ui.backend import Backend
from rag.ui.chat import Look, look_of
from rag.ui.language import Say, said, translations
from rag.ui.sessions import Session

TEXTS = gr.I18n(**{code: dict(known) for code, known in translations().items()})
"""What Gradio shows by itself: an English text -> what the browser makes of it."""
STYLES = (
    ("usual", "usual"),
    ("brief", "brief"),
    ("detailed", "detailed"),
    ("as a list", "list"),
    ("in simple words", "simple"),
)
LANGUAGES = ("English", "Deutsch", "Español", "Français", "Italiano", "Português", "日本語", "中文")
"""Languages of an answer that are offered; any other can be typed."""


TOLD = (
    "Models below a billion parameters, such as the default one, are not told: they lose their way."
)


class Form:
    """The fields, and their handlers over the backend they share."""

    def __init__(self, backend: Backend):
        self.backend = backend
        config = backend.config
        # What the program is set to can be outside of what a person can set.
        passages = min(TOP_K[0], config.top_k), max(TOP_K[1], config.top_k)
        tokens = config.max_new_tokens
        length = min(MAX_TOKENS[0], tokens), max(MAX_TOKENS[1], tokens)
        with gr.Accordion(TEXTS("Settings"), open=False, elem_id="settings"):
            with gr.Row():
                self.fields: list[Any] = [
                    gr.Slider(*passages, config.top_k, step=1, label=TEXTS("Number of passages")),
                    gr.Slider(
                        *length,
                        tokens,
                        step=16,
                        label=TEXTS("Length of an answer, in tokens"),
                    ),
                    gr.Slider(*TEMPERATURE, 0, step=0.1, label=TEXTS("Temperature")),
                ]
            with gr.Row():
                self.fields += [
                    gr.Dropdown(STYLES, label=TEXTS("Style"), info=TEXTS(TOLD)),
                    gr.Dropdown(
                        ["", *LANGUAGES],
                        label=TEXTS("Language of the answer"),
                        info=TEXTS(TOLD),
                        allow_custom_value=True,
                    ),
                ]
            self.fields.append(
                gr.Textbox(label=TEXTS("System prompt"), lines=2, max_length=MAX_SYSTEM_PROMPT)
            )
            self.reset_button = gr.Button(TEXTS("Reset"), size="sm", elem_id="reset")

    def wire(self, on: Callable[..., Any]) -> None:
        """Have the fields kept when a person changes them. `on` is the page's."""
        # What is pasted into a text is no input to Gradio.
        for changed in (*(field.input for field in self.fields), self.fields[-1].blur):
            on(
                changed,
                self.keep,
                inputs=self.fields,
                concurrency_limit=None,
                trigger_mode="always_last",  # else letters that follow quickly are lost
            )
        on(self.reset_button.click, self.reset, outputs=self.fields, concurrency_limit=None)

    def shown(self, session: Session, say: Say) -> tuple[Any, ...]:
        """The settings of the session, as the fields show them."""
        kept, config = session.preferences.options, self.backend.config
        languages = [(say("as the question"), ""), *((name, name) for name in LANGUAGES)]
        return (
            kept.top_k or config.top_k,
            kept.max_tokens or config.max_new_tokens,
            kept.temperature or 0,
            gr.update(choices=said(STYLES, say), value=kept.style),
            gr.update(choices=languages, value=kept.language),
            kept.system_prompt,
        )

    def keep(
        self,
        top_k: float,
        length: float,
        temperature: float,
        style: Style,
        language: str | None,
        system_prompt: str,
        request: gr.Request,
    ) -> None:
        """Keep the settings; what is as the program has it is left to that."""
        config, look = self.backend.config, look_of(self.backend, request)
        try:
            options = AnswerOptions(
                None if top_k == config.top_k else int(top_k),
                None if length == config.max_new_tokens else int(length),
                temperature or None,
                style,
                language or "",
                system_prompt,
            )
        except ConfigurationError as error:
            gr.Warning(look.say(str(error)))
        else:
            self._prefer(look, options)

    def reset(self, request: gr.Request) -> tuple[Any, ...]:
        """All as the program has it."""
        look = look_of(self.backend, request)
        self._prefer(look, AnswerOptions())
        return self.shown(look.session, look.say)

    @staticmethod
    def _prefer(look: Look, options: AnswerOptions) -> None:
        """Keep them; where that cannot be, they hold until the program ends."""
        try:
            look.session.prefer(replace(look.session.preferences, options=options))
        except OSError as error:
            gr.Warning(look.say("It could not be saved: {reason}.", reason=error.strerror or error))
