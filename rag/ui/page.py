"""The page: its layout, and which handler answers which event."""

import asyncio
import html
import json
import os
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Route

from rag.config import Config
from rag.errors import ConfigurationError
from rag.llms.catalog import label
from rag.ui import rendering
from rag.ui.api import Api
from rag.ui.assistants import Assistants
from rag.ui.boundary import ASSISTANTS, Boundary
from rag.ui.chat import Asking
from rag.ui.conversations import Scope
from rag.ui.disk import Disk
from rag.ui.form import TEXTS, Form
from rag.ui.guarding import guarded
from rag.ui.health import Health
from rag.ui.identity import Identity
from rag.ui.jobs import Job
from rag.ui.language import Say, said, translations
from rag.ui.library import SCOPES, Library
from rag.ui.login import Login
from rag.ui.panel import Panel
from rag.ui.programs import Programs
from rag.ui.sessions import Session

HERE = Path(__file__).parent
STYLES = HERE / "style.css", HERE / "viewer.css"
CONTROLS = (HERE / "controls.js").read_text("utf-8")
CONVERSATION = CONTROLS + (HERE / "conversation.js").read_text("utf-8")
SCRIPTS = [(HERE / name).read_text("utf-8") for name in ("page.js", "connection.js")]
DOWNLOAD = (HERE / "download.js").read_text("utf-8")
LOST = (
    "The connection to Rivulet is lost. What you typed is kept; the page comes back by itself as "
    "soon as it can."
)
FORGET = (
    "Remove all documents and conversations of this browser from the disk? This cannot be undone."
)
MAX_EVENTS = 1_000
"""Events that Gradio handles at the same time, and as many that it keeps waiting; each page that
looks on is one."""
MAX_TABS = 500
"""Tabs that Gradio remembers, the ones seen last."""
KEEP_UPLOADS = 600
"""Seconds after which an uploaded file is deleted, taken in or not."""


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


def build(programs: Programs) -> gr.Blocks:
    """The whole page, and what programs may do with it, ready to be launched."""
    chat, backend = programs.chat, programs.backend
    library, panel_of, config = Library(backend), Panel(backend), backend.config
    # Read when components are made: uploads wait in our folder. And when the queue is made: after
    # each event Gradio would put the last 10,000 of them into a table, for a page that is closed.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads_dir(config))
    os.environ["GRADIO_ANALYTICS_MAX_EVENTS"] = "1"
    os.environ["GRADIO_ANALYTICS_CACHE_FREQUENCY"] = str(10**9)
    # Gradio imports it twice for each state of a growing answer. Where it is not there, that is a
    # walk through all folders of packages each time; now it is known.
    if not find_spec("matplotlib"):
        sys.modules["matplotlib"] = None  # type: ignore[assignment]
    page: gr.Blocks
    with gr.Blocks(
        title="Rivulet",
        analytics_enabled=False,
        fill_height=True,
        delete_cache=(60, KEEP_UPLOADS),
    ) as page:
        with gr.Sidebar(width=320, elem_id="left"):
            gr.HTML("<h1>Rivulet</h1>")
            conversations = gr.HTML(elem_id="conversations", js_on_load=CONTROLS)
            heading = gr.HTML()
            files = gr.File(
                label=TEXTS("Drop files here, or click"),
                file_count="multiple",
                show_label=False,
                height=150,
                elem_id="drop",
            )
            address = gr.Textbox(
                label=TEXTS("Add a web page"),
                show_label=False,
                placeholder=TEXTS("Add a web page: https://..."),
                max_lines=1,
                container=False,
                elem_id="address",
            )
            notes = gr.HTML(elem_id="notes", js_on_load=CONTROLS)
            documents = gr.HTML(elem_id="documents", js_on_load=CONTROLS)
            forget = gr.Button(TEXTS("Forget everything"), size="sm", elem_id="forget")
            confirmed = gr.Checkbox(visible=False)
            gr.Button(
                TEXTS("Log out"),
                size="sm",
                link="logout",
                link_target="_self",
                visible=config.wants_login,
                elem_id="logout",
            )
        with gr.Row(elem_id="main", equal_height=False):
            with gr.Column(scale=5, min_width=320, elem_id="middle"):
                conversation = gr.HTML(elem_id="chat", html_template="", js_on_load=CONVERSATION)
                preparing = gr.HTML(elem_id="preparing")
                box = gr.MultimodalTextbox(
                    elem_id="box",
                    label=TEXTS("Question"),
                    show_label=False,
                    placeholder=str(TEXTS("Ask your documents")),
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
                        value=config.model,
                        label=TEXTS("Model"),
                        show_label=False,
                        container=False,
                        allow_custom_value=not config.strangers,
                        filterable=True,
                        elem_id="model",
                    )
                    scope = gr.Dropdown(
                        SCOPES,
                        value="samples",
                        label=TEXTS("Search in"),
                        show_label=False,
                        container=False,
                        elem_id="scope",
                    )
                chosen = gr.Dropdown(
                    [],
                    multiselect=True,
                    visible=False,
                    label=TEXTS("Documents to search"),
                    show_label=False,
                    container=False,
                    elem_id="chosen",
                )
                form = Form(backend)
            with gr.Column(scale=4, min_width=280, elem_id="right"):
                panel = gr.HTML(elem_id="panel", js_on_load=CONTROLS)
        download = gr.HTML(elem_id="download", html_template="", js_on_load=DOWNLOAD)
        timer = gr.Timer(0.7)
        refreshing = gr.Timer(0.7)
        seen = gr.State(0)
        # Unlike other outputs it costs nothing where it stays as it is.
        brought = gr.State(0)

        beside = [box, conversations]
        view = [conversation, *beside]
        shelf = [documents, notes, scope, refreshing]
        asking = [model, scope, chosen]

        async def ask(
            value: dict[str, Any], model: str, scope: Scope, chosen: list[str], request: gr.Request
        ) -> tuple[Any, ...]:
            """Files in the question box are queued; the question waits for their words."""
            files: list[Job] = []
            came = gr.skip()
            if value["files"]:
                session = library.look(request).session
                # Elsewhere: all streams of the page would wait for the disk.
                files = await asyncio.to_thread(library.take, session, value["files"])
                scope, came = "mine", session.batches
            asking = Asking(model, scope, tuple(chosen))
            box, listed = await chat.ask(value, asking, request, files)
            if files and "value" not in box:  # the question was not taken, but they were
                box = gr.update(value={**value, "files": []})
            return box, listed, came

        def show_brought(request: gr.Request) -> tuple[Any, ...]:
            """The list of documents, when files have come with a question."""
            return library.shelf(library.look(request), gr.update(value="mine"))

        async def press(
            model: str,
            scope: Scope,
            chosen: list[str],
            event: gr.EventData,
            request: gr.Request,
        ) -> Any:
            return await chat.press(event, Asking(model, scope, tuple(chosen)), request)

        async def expect(
            value: dict[str, Any], model: str, scope: Scope, chosen: list[str], request: gr.Request
        ) -> None:
            await chat.expect(value, Asking(model, scope, tuple(chosen)), request)

        def load(request: gr.Request) -> tuple[Any, ...]:
            """What this browser had when it was here last."""
            backend.refresh_models()
            look = chat.look(request)
            session, say = look.session, look.say
            mine = backend.sessions.has_documents(session)
            return (
                *chat.load(request),
                *library.shelf(look, _scopes("mine" if mine else "samples", say)),
                session.arrived,
                f"<h2>{html.escape(say('My documents'))}</h2>",
                gr.update(
                    choices=_models(session), value=session.preferences.model or config.model
                ),
                *form.shown(session, say),
            )

        def tick(request: gr.Request) -> tuple[Any, ...]:
            """While models are prepared: how far they are, and what the list of them is."""
            pending, look = backend.pending(), chat.look(request)
            shown = html.escape(rendering.preparing(pending, look.say)) if pending else ""
            return (
                f'<p class="preparing" role="status">{shown}</p>',
                library.show(look),
                gr.update(choices=_models(look.session)),
                gr.Timer(active=bool(pending)),
            )

        def _models(session: Session) -> list[tuple[str, str]]:
            """Those of the catalog, and one that was typed."""
            choices = backend.catalog.choices()
            kept = session.preferences.model
            if kept and not config.strangers and kept not in [name for _, name in choices]:
                choices.append((label(kept), kept))
            return choices

        def choose(scope: Scope, chosen: list[str], request: gr.Request) -> Any:
            """The documents that can be chosen, where that is what is searched."""
            if scope != "chosen":
                return gr.update(visible=False)
            choices = library.choices(library.look(request).session)
            there = [key for key in chosen if key in [key for _, key in choices]]
            return gr.update(choices=choices, value=there, visible=True)

        def forget_all(confirmed: bool, request: gr.Request) -> tuple[Any, ...]:
            if not confirmed:
                return _nothing(len(loaded) + 1)
            library.forget(request)
            return *load(request), ""

        def on(trigger: Any, fn: Callable[..., Any], **settings: Any) -> Any:
            settings = {"api_visibility": "private", "show_progress": "hidden", **settings}
            return trigger(guarded(fn, config.strangers), **settings)

        # What is pressed while the last press is still being followed counts as well.
        multiple = {"trigger_mode": "multiple"}
        ticking = {"concurrency_limit": None}
        quick = {**ticking, **multiple}
        loaded = [*view, *shelf, seen, heading, model, *form.fields]

        Api(programs).build(on)  # first: the page's own have other names then
        shows = [
            on(page.load, load, outputs=loaded, **quick),
            on(box.submit, ask, inputs=[box, *asking], outputs=[*beside, brought], **quick),
            on(conversation.ask, press, inputs=asking, outputs=beside, **quick),
            on(conversation.click, chat.do, outputs=view, **quick),
            on(conversations.click, chat.do, outputs=view, **quick),
            on(
                forget.click,
                forget_all,
                inputs=confirmed,
                outputs=[*loaded, panel],
                js=_confirming(FORGET),
                **quick,
            ),
        ]
        for done in shows:
            on(done.then, chat.follow, outputs=conversation, postprocess=False, **quick)
        on(brought.change, show_brought, outputs=shelf, **quick)
        on(conversation.settled, chat.settle, outputs=beside, **quick)
        on(timer.tick, tick, outputs=[preparing, documents, model, timer], **ticking)
        on(box.input, expect, inputs=[box, *asking], trigger_mode="always_last", **ticking)
        on(box.stop, chat.stop, **quick)
        on(conversations.save, chat.export, outputs=download, **quick)
        on(conversation.open, panel_of.open, outputs=panel, **quick)
        on(panel.click, panel_of.open, outputs=panel, **quick)
        on(refreshing.tick, library.tick, inputs=seen, outputs=[*shelf, seen], **ticking)
        on(files.upload, library.upload, inputs=files, outputs=shelf, **quick)
        # The list shows what came in; the drop zone is for the next files.
        on(files.upload, lambda: None, outputs=files, **quick)
        on(address.submit, library.add_page, inputs=address, outputs=shelf, **quick)
        on(address.submit, lambda: "", outputs=address, **quick)
        for buttons in (documents, notes):
            on(buttons.click, library.press, outputs=shelf, **quick)
        on(scope.change, choose, inputs=[scope, chosen], outputs=chosen, **quick)
        form.wire(on)
    return page


def _confirming(question: str) -> str:
    """A script that asks this in the language of the page."""
    return f"() => confirm({_said_there(question)})"


def _said_there(text: str) -> str:
    """An expression of a script: `text` in the language of the page."""
    said = {code: known.get(text, text) for code, known in translations().items()}
    return f"({json.dumps(said)}[document.documentElement.lang] ?? {json.dumps(text)})"


def _scripts() -> str:
    """What runs once in each page."""
    calls = "".join(f"({script.rstrip()})();" for script in SCRIPTS)
    languages = json.dumps(sorted(translations()))
    return f"() => {{{calls}}}".replace("LANGUAGES", languages).replace("LOST", _said_there(LOST))


def _scopes(value: str, say: Say) -> Any:
    return gr.update(choices=said(SCOPES, say), value=value)


def _nothing(count: int) -> tuple[Any, ...]:
    return (gr.skip(),) * count


def uploads_dir(config: Config) -> Path:
    """Where uploaded files wait: for each running program a folder of its own."""
    return config.data_dir / "uploads" / str(config.port)


def launch(
    page: gr.Blocks,
    config: Config,
    host: str,
    *,
    share: bool = False,
    open_browser: bool = False,
    health: Health | None = None,
    programs: Programs | None = None,
) -> str:
    """Serve the page at `host` and return its local address; the caller's thread goes on.
    `health` answers at /health, `programs` at /mcp as well where that is set.

    Raises ConfigurationError when the port is taken. A share link that cannot be had is said,
    and the page is served locally all the same.
    """
    login = Login.of(config)
    routes = [Route("/health", health.answer)] if health else []
    if programs and config.mcp:
        door = Assistants(programs, login, uploads_dir(config))
        routes += [Route(path, door) for path in (ASSISTANTS, f"{ASSISTANTS}/")]
    try:
        _, local_url, share_url = page.queue(max_size=MAX_EVENTS).launch(
            server_name=host,
            server_port=config.port,
            share=share,
            auth=login.check if login else None,
            inbrowser=open_browser,
            prevent_thread_lock=True,
            max_threads=MAX_EVENTS,
            quiet=True,
            show_error=False,
            footer_links=[],
            run_history=False,
            strict_cors=True,
            ssr_mode=False,
            # Gradio would ask itself for the page, and give up where that takes three seconds.
            _frontend=False,
            # Over this Gradio refuses the whole batch, so the real limit is left to ingestion.
            max_file_size=10 * config.max_file_mb * 1_000_000,
            auth_message=(
                "Rivulet: ask your documents. After several wrong passwords each further try has "
                "to wait, even one with the right password."
            ),
            theme=theme(),
            css_paths=list(STYLES),
            js=_scripts(),
            i18n=TEXTS,
            root_path=config.root_path or None,
            # What Gradio keeps of a tab, 0.2 MB for an hour after it is gone; without it a tab that
            # is still there loses nothing.
            state_session_capacity=MAX_TABS,
            app_kwargs={
                "middleware": [
                    Middleware(Identity, root_path=config.root_path),
                    Middleware(Boundary, disk=Disk.of(config), uploads_dir=uploads_dir(config)),
                ],
                "routes": routes,
            },
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
