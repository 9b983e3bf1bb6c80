"""The real app, and a real Chromium that looks at it."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from rag.config import DEFAULT_MODEL, Config
from rag.index.embedding import Embedding, HashEmbedding
from rag.llms.huggingface import HuggingFaceLLM
from rag.llms.protocol import LLM
from rag.llms.scripted import Script, ScriptedLLM
from rag.ui.backend import Backend
from rag.ui.page import build, launch, uploads_dir
from rag.ui.programs import Programs
from tests.ports import free_port

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
PATIENCE = 120_000
"""Milliseconds after which a page that does not come to its end is given up."""
expect.set_options(timeout=30_000)  # a machine may have other things to do

FONT = "Helvetica", 14
LEFT = 72
LINES = (
    {
        720: "The lighthouse of Farholm was built in 1847.",
        690: "Its lamp is lit every evening at six.",
        660: "The keeper writes the weather into a blue book.",
        630: "The keeper paints the whole tower white every 9 years.",
    },
    {
        720: "The harbour of Farholm has 32 berths for boats.",
        690: "A berth costs 14 euros a night.",
        660: "Dogs are welcome on the northern pier.",
    },
)
"""The document of the tests: for each page the text of its lines by their height, in points from
the foot of the page."""

Screenshot = Callable[[Page, str], None]
NewPage = Callable[..., Page]
Says = Callable[..., ScriptedLLM]


class App:
    """A running app, which can be stopped and started again with the same data. `models` are
    offered as if they were loaded already."""

    def __init__(
        self,
        config: Config,
        embedding: Embedding | None = None,
        models: Mapping[str, LLM] | None = None,
    ):
        self.config, self.embedding, self.models = config, embedding, models or {}
        self.backend: Backend
        self.page: gr.Blocks
        self.start()

    def start(self) -> None:
        self.backend = Backend(self.config, self.embedding)
        for name, llm in self.models.items():
            self.backend.catalog.put(name, llm)
        self.programs = Programs(self.backend)
        self.page = build(self.programs)
        self.address = launch(self.page, self.config, "127.0.0.1", programs=self.programs)
        self.backend.start()
        if self.embedding:
            self.backend.samples.result()

    def stop(self) -> None:
        self.backend.close()
        if self.backend.samples.ready:
            self.backend.samples.result().close()
        self.page.close(verbose=False)

    @property
    def llm(self) -> HuggingFaceLLM:
        llm = self.backend.catalog.prepare(DEFAULT_MODEL).result()
        assert isinstance(llm, HuggingFaceLLM)
        return llm


def scripted_app(
    data_dir: Path,
    models: Mapping[str, LLM],
    embedding: Embedding | None = None,
    **settings: Any,
) -> App:
    """An app without a real model, the first of `models` the one that is chosen: where the text or
    its pace is what matters."""
    config = Config(
        model=next(iter(models)),
        embed_model="hash",
        data_dir=data_dir,
        port=free_port(),
        **settings,
    )
    return App(config, embedding or HashEmbedding(), models)


@pytest.fixture(scope="package")
def real_app(
    tmp_path_factory: pytest.TempPathFactory, smollm_path: Path, minilm_path: Path, models_dir: Path
) -> Iterator[App]:
    """The app as a person starts it, with empty data and the weights that are here already."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "models").symlink_to(models_dir.resolve(), target_is_directory=True)
    app = App(Config(data_dir=data_dir, port=free_port(), max_file_mb=1))
    yield app
    app.stop()


@pytest.fixture
def app(real_app: App) -> App:
    """The app that pages are opened of; modules whose tests need no real model have their own."""
    return real_app


@pytest.fixture
def new_context(app: App, chromium: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """A browser of its own, of any size and language; fails on any script error."""
    # Gradio reads this for each upload, and each app of this process has set it.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads_dir(app.config))
    contexts: list[BrowserContext] = []
    errors: list[str] = []
    foreign: list[str] = []

    def open_context(width: int = 1280, height: int = 800, **options: Any) -> BrowserContext:
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        context.on("weberror", lambda error: errors.append(str(error.error)))
        context.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((app.address, "data:", "blob:"))
                else foreign.append(request.url)
            ),
        )
        return context

    yield open_context
    for context in contexts:
        context.close()
    assert errors == []
    assert foreign == []  # nothing is loaded from anywhere else


@pytest.fixture
def new_tab(app: App) -> Callable[..., Page]:
    """Opens the app in a tab of a browser."""

    def open_tab(context: BrowserContext, query: str = "") -> Page:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(app.address + query)
        page.wait_for_selector("#documents .documents")
        return page

    return open_tab


@pytest.fixture
def new_page(
    new_context: Callable[..., BrowserContext], new_tab: Callable[..., Page]
) -> Callable[..., Page]:
    """Opens the app in a browser of its own, of any size and language."""

    def open_page(width: int = 1280, height: int = 800, query: str = "", **options: Any) -> Page:
        return new_tab(new_context(width, height, **options), query)

    return open_page


@pytest.fixture
def page(new_page: NewPage) -> Page:
    return new_page()


@pytest.fixture
def screenshot() -> Screenshot:
    """Keeps a picture of the page, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)

    def take(page: Page, name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return take


@pytest.fixture(scope="session")
def harbour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A PDF of two pages, whose lines are where `LINES` says."""
    file = tmp_path_factory.mktemp("documents") / "harbour.pdf"
    canvas = Canvas(str(file), pagesize=A4)
    for lines in LINES:
        canvas.setFont(*FONT)
        for y, text in lines.items():
            canvas.drawString(LEFT, y, text)
        canvas.showPage()
    canvas.save()
    return file


@pytest.fixture(scope="package")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app of two models that say what a test has them say."""
    data_dir = tmp_path_factory.mktemp("scripted")
    models = {"scripted": ScriptedLLM(), DEFAULT_MODEL: ScriptedLLM("The other answer.")}
    app = scripted_app(data_dir, models)
    yield app
    app.stop()


@pytest.fixture
def says(app: App) -> Iterator[Says]:
    """Sets what the model says, how fast, and after what it fails."""

    def say(script: Script, *, model: str = "scripted", **pace: Any) -> ScriptedLLM:
        llm = app.models[model]
        assert isinstance(llm, ScriptedLLM)
        fresh = ScriptedLLM(script, **pace)
        vars(llm).update(vars(fresh))
        return llm

    yield say
    say("The answer.")
