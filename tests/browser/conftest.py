"""The real app with the real models, and a real Chromium that looks at it."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from rag.config import DEFAULT_MODEL, Config
from rag.llms.huggingface import HuggingFaceLLM
from rag.ui.backend import Backend
from rag.ui.page import build, launch

SCREENSHOTS = Path(__file__).parents[1] / "screenshots"
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE = 120_000
"""Milliseconds after which a page that does not come to its end is given up."""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class App:
    """One running app."""

    address: str
    backend: Backend
    page: gr.Blocks

    @property
    def llm(self) -> HuggingFaceLLM:
        llm = self.backend.catalog.prepare(DEFAULT_MODEL).result()
        assert isinstance(llm, HuggingFaceLLM)
        return llm


@pytest.fixture(scope="session")
def app(
    tmp_path_factory: pytest.TempPathFactory, smollm_path: Path, minilm_path: Path, models_dir: Path
) -> Iterator[App]:
    """The app as a person starts it, with empty data and the weights that are here already."""
    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "models").symlink_to(models_dir.resolve(), target_is_directory=True)
    config = Config(data_dir=data_dir, port=free_port(), max_file_mb=1)
    backend = Backend(config)
    page = build(backend)
    address = launch(page, config, "127.0.0.1")
    backend.start()
    yield App(address, backend, page)
    backend.close()
    page.close(verbose=False)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """An installed Chromium, else Playwright's own; without either a skip, in CI a failure."""
    installed = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        path = installed or playwright.chromium.executable_path
        if not Path(path).exists():
            message = "There is no browser: install chromium, or run `playwright install chromium`."
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def new_page(app: App, chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens the app in a browser session of its own, of any size; fails on any script error."""
    contexts: list[BrowserContext] = []
    errors: list[str] = []
    foreign: list[str] = []

    def open_page(width: int = 1280, height: int = 800, query: str = "") -> Page:
        context = chromium.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((app.address, "data:", "blob:"))
                else foreign.append(request.url)
            ),
        )
        page.goto(app.address + query)
        page.wait_for_selector("#documents .documents")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    assert foreign == []  # nothing is loaded from anywhere else


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.fixture
def screenshot() -> Callable[[Page, str], None]:
    """Keeps a picture of the page, to be looked at."""
    SCREENSHOTS.mkdir(exist_ok=True)

    def take(page: Page, name: str) -> None:
        page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")

    return take
