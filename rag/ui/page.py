"""The page: its layout, and which handler answers which event."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware

from rag.config import Config
from rag.documents.loading import FORMATS
from rag.errors import ConfigurationError
from rag.ui import rendering
from rag.ui.backend import Backend
from rag.ui.chat import IDLE_BOX, Chat
from rag.ui.identity import Identity
from rag.ui.jobs import Job
from rag.ui.library import SCOPES, Library

STYLE = Path(__file__).with_name("style.css")
QUESTIONS = (
    "Where do my documents stay?",
    "How does streaming work?",
    "How do I share Rivulet with other people?",
    "Which models can I use?",
)
WELCOME = """<h2>Ask your documents</h2>
<p>Add files to the list on the left, or by the paper clip below, and ask about them. The answer
is written as you watch, with the passages it comes from. With the local model nothing leaves
this computer.</p>
<p>Or ask the sample documents:</p>"""
FORGET = (
    "Remove all documents and the conversation of this browser from the disk? "
    "This cannot be undone."
)
# The buttons in the list of documents and at the notes are plain HTML; pressing one becomes an
# event that says what to do with what. The list is made anew while files are on their way: a
# button may be another one when it is let go, and the one that had the focus gets it back.
ON_LIST = """
const button = event => event.target.closest?.('button[data-do]');
const same = (one, other) => one && other && one.dataset.do === other.dataset.do
  && one.dataset.key === other.dataset.key;
const press = pressed => {
  pressed.disabled = true;
  trigger('click', {do: pressed.dataset.do, key: pressed.dataset.key});
};
let down = null, focused = null;
element.addEventListener('pointerdown', event => { down = event.button ? null : button(event); });
element.addEventListener('pointerup', event => {
  if (same(down, button(event))) press(button(event));
});
element.addEventListener('click', event => {
  if (!event.detail && button(event)) press(button(event));
});
document.addEventListener('focusin', event => {
  focused = element.contains(event.target) ? button(event) : null;
});
document.addEventListener('pointerdown', () => { focused = null; });
new MutationObserver(() => {
  if (!focused || focused.isConnected) return;
  [...element.querySelectorAll('button')].find(other => same(focused, other))?.focus();
}).observe(element, {childList: true, subtree: true});
"""
# Where the list would cover the conversation, it is opened only when asked for.
# An answer can be clicked for its sources; here by the keyboard too.
ON_OPEN = """() => {
  if (window.innerWidth <= 900) document.querySelector('#left.open .toggle-button')?.click();
  const answers = '#chat .bot .selectable';
  new MutationObserver(() => {
    for (const answer of document.querySelectorAll(answers + ':not([tabindex])')) {
      answer.tabIndex = 0;
      answer.title = 'Show the sources of this answer';
    }
  }).observe(document.body, {childList: true, subtree: true});
  document.addEventListener('keydown', event => {
    if (event.key === 'Enter' && event.target.matches(answers)) event.target.click();
  });
}"""
KEEP_UPLOADS = 600
"""Seconds after which an uploaded file is deleted, taken in or not."""
ANSWERS_AT_ONCE = 16


def theme() -> gr.themes.Base:
    """One accent colour on quiet greys, and the fonts that the system has."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]
    base = gr.themes.Base(
        primary_hue="teal", neutral_hue="slate", font=sans, font_mono=mono, radius_size="md"
    )
    # Gradio's own grey is too faint to read (WCAG AA asks for a contrast of 4.5).
    return base.set(
        body_text_color_subdued="*neutral_600", body_text_color_subdued_dark="*neutral_400"
    )


def build(backend: Backend) -> gr.Blocks:
    """The whole page over `backend`, ready to be launched."""
    chat, library = Chat(backend), Library(backend)
    # Read when components are made: uploads wait in our folder.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads_dir(backend.config))
    page: gr.Blocks
    with gr.Blocks(
        title="Rivulet",
        analytics_enabled=False,
        fill_height=True,
        delete_cache=(60, KEEP_UPLOADS),
    ) as page:
        with gr.Sidebar(width=320, elem_id="left"):
            gr.HTML('<h1>Rivulet</h1><p class="hint">Ask your documents.</p>')
            gr.HTML("<h2>My documents</h2>")
            files = gr.File(
                label=f"Drop files here, or click: {', '.join(FORMATS)}",
                file_count="multiple",
                show_label=False,
                height=150,
                elem_id="drop",
            )
            address = gr.Textbox(
                label="Add a web page",
                show_label=False,
                placeholder="Add a web page: https://...",
                max_lines=1,
                container=False,
                elem_id="address",
            )
            notes = gr.HTML(elem_id="notes", js_on_load=ON_LIST)
            documents = gr.HTML(elem_id="documents", js_on_load=ON_LIST)
            forget = gr.Button("Forget everything", size="sm", elem_id="forget")
            confirmed = gr.Checkbox(visible=False)
        with gr.Row(elem_id="main", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="middle"):
                chatbot = gr.Chatbot(
                    elem_id="chat",
                    show_label=False,
                    label="Conversation",
                    placeholder=WELCOME,
                    examples=[{"text": question} for question in QUESTIONS],
                    editable="user",
                    buttons=["copy"],
                    layout="bubble",
                    group_consecutive_messages=False,
                    allow_tags=False,
                    latex_delimiters=[],
                    height="100%",
                    container=False,
                )
                preparing = gr.HTML(elem_id="preparing")
                box = gr.MultimodalTextbox(
                    elem_id="box",
                    label="Question",
                    show_label=False,
                    placeholder="Ask your documents",
                    file_count="multiple",
                    sources=["upload"],
                    lines=1,
                    max_lines=8,
                    max_plain_text_length=100_000,
                    autofocus=True,
                    submit_btn=True,
                    stop_btn=False,
                )
                with gr.Row(elem_id="choices"):
                    model = gr.Dropdown(
                        backend.catalog.choices(),
                        value=backend.config.model,
                        label="Model",
                        allow_custom_value=backend.config.any_model,
                        filterable=True,
                        elem_id="model",
                    )
                    scope = gr.Dropdown(SCOPES, value="samples", label="Search in", elem_id="scope")
            with gr.Column(scale=2, min_width=280, elem_id="right"):
                gr.HTML("<h2>Sources</h2>")
                sources = gr.HTML(rendering.sources(None), elem_id="sources")
        timer = gr.Timer(0.7)
        refreshing = gr.Timer(0.7)
        seen = gr.State(0)

        view = [chatbot, box, sources]
        shelf = [documents, notes, scope, refreshing]

        def ask(
            value: dict[str, Any], model: str, scope: str, request: gr.Request
        ) -> Iterator[tuple[Any, ...]]:
            """Files in the question box are queued; the question waits for their words."""
            files: list[Job] = []
            if value["files"]:
                session = library.session(request)
                files = library.take(session, value["files"])
                value = {**value, "files": []}
                shown = library.shelf(session, gr.update(value="mine"))
                yield gr.skip(), gr.update(value=value), gr.skip(), *shown
                scope = "mine"
            for update in chat.ask(value, model, scope, request, files):
                yield *update, *_nothing(4)

        def load(request: gr.Request) -> tuple[Any, ...]:
            """What this browser had when it was here last."""
            backend.refresh_models()
            session = library.session(request)
            mine = backend.sessions.has_documents(session)
            return (
                *chat.view(session, box=IDLE_BOX),
                *library.shelf(session, gr.update(value="mine" if mine else "samples")),
                session.arrived,
            )

        def tick(request: gr.Request) -> tuple[Any, ...]:
            """While models are prepared: how far they are, and what the list of them is."""
            status = backend.status()
            return (
                rendering.preparing(status),
                library.show(library.session(request)),
                gr.update(choices=backend.catalog.choices()),
                gr.Timer(active=bool(status)),
            )

        def forget_all(confirmed: bool, request: gr.Request) -> tuple[Any, ...]:
            if not confirmed:
                return _nothing(8)
            library.forget(request)
            return load(request)

        def on(trigger: Any, fn: Callable[..., Any], **options: Any) -> Any:
            return trigger(fn, show_progress="hidden", api_visibility="private", **options)

        asking = {"concurrency_limit": ANSWERS_AT_ONCE, "concurrency_id": "ask"}
        quick = {"concurrency_limit": None}

        on(page.load, load, outputs=[*view, *shelf, seen], **quick)
        on(timer.tick, tick, outputs=[preparing, documents, model, timer], **quick)
        on(box.submit, ask, inputs=[box, model, scope], outputs=[*view, *shelf], **asking)
        on(chatbot.example_select, chat.suggested, inputs=model, outputs=view, **asking)
        for trigger, handler in (
            (chatbot.retry, chat.retry),
            (chatbot.edit, chat.edit),
        ):
            on(trigger, handler, inputs=[model, scope], outputs=view, **asking)
        on(box.stop, chat.stop, **quick)
        on(chatbot.undo, chat.undo, outputs=view, **quick)
        on(chatbot.clear, chat.clear, outputs=view, **quick)
        on(chatbot.select, chat.select, outputs=sources, **quick)
        on(refreshing.tick, library.tick, inputs=seen, outputs=[*shelf, seen], **quick)
        on(files.upload, library.upload, inputs=files, outputs=shelf, **quick)
        # The list shows what came in; the drop zone is for the next files.
        on(files.upload, lambda: None, outputs=files, **quick)
        on(address.submit, library.add_page, inputs=address, outputs=shelf, **quick)
        on(address.submit, lambda: "", outputs=address, **quick)
        for buttons in (documents, notes):
            on(buttons.click, library.press, outputs=shelf, **quick)
        on(
            forget.click,
            forget_all,
            inputs=confirmed,
            outputs=[*view, *shelf, seen],
            js=f"() => confirm({json.dumps(FORGET)})",
            **quick,
        )
    return page


def _nothing(count: int) -> tuple[Any, ...]:
    return (gr.skip(),) * count


def uploads_dir(config: Config) -> Path:
    """Where uploaded files wait: for each running program a folder of its own."""
    return config.data_dir / "uploads" / str(config.port)


def launch(
    page: gr.Blocks, config: Config, host: str, *, share: bool = False, open_browser: bool = False
) -> str:
    """Serve the page at `host` and return its local address; the caller's thread goes on.

    Raises ConfigurationError when the port is taken. A share link that cannot be had is said,
    and the page is served locally all the same.
    """
    try:
        _, local_url, share_url = page.queue(max_size=100).launch(
            server_name=host,
            server_port=config.port,
            share=share,
            auth=list(config.auth) or None,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            quiet=True,
            show_error=True,
            footer_links=[],
            run_history=False,
            strict_cors=True,
            ssr_mode=False,
            # Over this Gradio refuses the whole batch, so the real limit is left to ingestion.
            max_file_size=10 * config.max_file_mb * 1_000_000,
            auth_message="Rivulet: ask your documents.",
            theme=theme(),
            css_paths=STYLE,
            js=ON_OPEN,
            app_kwargs={"middleware": [Middleware(Identity)]},
        )
    except OSError as error:
        raise ConfigurationError(
            f"Port {config.port} on {host} cannot be used. Choose another by --port."
        ) from error
    # Left by a run that was cut off. The port is ours now, and so is this folder.
    shutil.rmtree(uploads_dir(config), ignore_errors=True)
    print(f"Rivulet is at {local_url}", flush=True)
    if share_url:
        print(f"Anyone with the login can reach it at {share_url}", flush=True)
    elif share:
        print(
            "The public link cannot be had: Gradio's tunnel could not be fetched or reached. "
            "Rivulet goes on at the local address.",
            flush=True,
        )
    return str(local_url)
