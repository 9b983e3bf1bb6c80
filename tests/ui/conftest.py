"""The parts behind the page with a scripted model, and what the handlers are called with."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from starlette.requests import Request

from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.llms.scripted import ScriptedLLM
from rag.ui import backend as module
from rag.ui import writing
from rag.ui.backend import Backend
from rag.ui.identity import COOKIE

MODEL = "scripted"


@pytest.fixture
def llm() -> ScriptedLLM:
    return ScriptedLLM("The answer is in the passage.")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(model=MODEL, embed_model="hash", data_dir=tmp_path / "data")


def ship(folder: Path) -> Path:
    folder.mkdir()
    (folder / "sample.txt").write_text("The sample speaks of walnuts.")
    return folder


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One sample document instead of those that ship."""
    monkeypatch.setattr(module, "SAMPLES", ship(tmp_path / "shipped"))
    return module.SAMPLES


@pytest.fixture
def unstarted(config: Config, samples: Path, llm: ScriptedLLM) -> Iterator[Backend]:
    """A backend that prepares nothing yet but its model."""
    backend = Backend(config, embedding=HashEmbedding())
    backend.catalog.put(MODEL, llm)
    yield backend
    backend.close()
    if backend.samples.ready:
        backend.samples.result().close()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index of the sample document, as a first start leaves it."""
    folder = tmp_path_factory.mktemp("prepared")
    shipped = folder / "shipped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SAMPLES", ship(shipped))
        backend = Backend(Config(model=MODEL, embed_model="hash", data_dir=folder), HashEmbedding())
        backend.embedding.start()
        backend.samples.start()
        backend.samples.result().close()
        backend.close()
    return folder / "samples"


@pytest.fixture
def backend(unstarted: Backend, prepared: Path) -> Backend:
    """A backend that is ready. It finds its samples read: that takes a process for each test."""
    shutil.copytree(prepared, unstarted.config.data_dir / "samples")
    unstarted.start()
    for part in unstarted.waiting_for(MODEL):
        part.result()
    return unstarted


def asks(
    number: int = 1, username: str | None = None, language: str = "", tab: str = "tab"
) -> gr.Request:
    """A request of a tab of one of several browsers, as Gradio hands it to a handler."""
    headers = {"cookie": f"{COOKIE}={number:043d}", "accept-language": language}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "headers": raw, "path": "/"}
    return gr.Request(Request(scope), username=username, session_hash=tab)


@pytest.fixture
def request_of() -> Callable[..., gr.Request]:
    return asks


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Puts a file where Gradio would put it: in a folder of its own."""
    folder = tmp_path / "uploads"

    def put(name: str, content: str | bytes) -> str:
        own = folder / str(len(list(folder.glob("*")))) if folder.exists() else folder / "0"
        own.mkdir(parents=True)
        file = own / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(file)

    return put


@pytest.fixture
def suggested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The further questions that are found: none, unless a test puts some in."""
    found: list[str] = []

    def suggest(*_: Any) -> Iterator[str]:
        yield ""
        yield from found

    monkeypatch.setattr(writing, "suggest", suggest)
    return found
