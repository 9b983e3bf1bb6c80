"""What several tests need. The fast ones run on a scripted model and hashed embeddings."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from rag.config import DEFAULT_EMBED_MODEL, DEFAULT_MODEL, Config
from rag.index.embedding import HashEmbedding
from rag.index.store import ChromaStore
from rag.llms.huggingface import HuggingFaceLLM
from rag.weights import ensure

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@pytest.fixture
def hash_embedding() -> HashEmbedding:
    return HashEmbedding()


@pytest.fixture
def store(tmp_path: Path, hash_embedding: HashEmbedding) -> Iterator[ChromaStore]:
    """An empty index on disk."""
    store = ChromaStore(tmp_path / "chroma", hash_embedding.name)
    yield store
    store.close()


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """Where the app keeps its weights: fetched once on a machine, by the app or by the tests."""
    return Config.from_env().models_dir


@pytest.fixture(scope="session")
def smollm_path(models_dir: Path) -> Path:
    return ensure(DEFAULT_MODEL, models_dir, lambda doing, done: None)


@pytest.fixture(scope="session")
def minilm_path(models_dir: Path) -> Path:
    return ensure(DEFAULT_EMBED_MODEL, models_dir, lambda doing, done: None)


@pytest.fixture(scope="session")
def smollm(models_dir: Path) -> HuggingFaceLLM:
    """The real default model."""
    return HuggingFaceLLM(models_dir=models_dir)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """An installed Chromium, else Playwright's own; without either a skip, in CI a failure.

    Not for the whole session: while Playwright runs, no event loop can be begun in this thread.
    """
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
