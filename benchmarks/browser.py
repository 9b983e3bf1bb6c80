"""How fast an answer is in the browser, and how much is sent for it, beside plain Gradio.

    python -m benchmarks.browser [--tokens 2000] [--speed 500] [--runs 5]

Both pages are fed by the same scripted model, which says when it is done; a headless Chromium says
when its page shows the end, and counts the bytes it was sent. Plain Gradio is a `ChatInterface`
whose function yields the answer so far, as its guide has it.
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks import free_port, record, spread
from benchmarks.retrieval import machine
from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.llms.scripted import ScriptedLLM
from rag.ui.backend import Backend
from rag.ui.page import build, launch
from rag.ui.programs import Programs

ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--no-first-run"),
)
WORDS = (
    *("the", "river", "carries", "what", "it", "is", "given", "down"),
    *("to", "sea", "and", "keeps"),
)
END = "endoftheanswer"


def text(tokens: int, kind: str) -> str:
    """An answer of so many words: "paragraphs", "one paragraph", or "code"."""
    words = [WORDS[n * n % len(WORDS)] for n in range(tokens - 1)]
    lines = [" ".join(words[n : n + 12]) for n in range(0, len(words), 12)]
    if kind == "one paragraph":
        return " ".join([*(f"{line.capitalize()}." for line in lines), END])
    if kind == "code":
        return "```python\n" + "\n".join(f"    {line}" for line in lines) + f"\n```\n\n{END}"
    sentences = [f"{line.capitalize()}." for line in lines]
    blocks = [" ".join(sentences[n : n + 5]) for n in range(0, len(lines), 5)]
    return "\n\n".join(blocks) + f"\n\n{END}"


class Timed(ScriptedLLM):
    """Notes when its first text began and when that was done."""

    begun = ended = 0.0

    def stream(self, *arguments: Any, **options: Any) -> Any:
        self.begun = self.begun or time.monotonic()
        try:
            return (yield from super().stream(*arguments, **options))
        finally:
            self.ended = self.ended or time.monotonic()


@contextmanager
def rivulet(llm: Timed) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            model="scripted",
            embed_model="hash",
            data_dir=Path(folder),
            port=free_port(),
            max_new_tokens=llm.max_tokens,
        )
        backend = Backend(config, embedding=HashEmbedding())
        backend.catalog.put("scripted", llm)
        page = build(Programs(backend))
        address = launch(page, config, "127.0.0.1")
        backend.start()
        backend.samples.result()
        yield address
        backend.close()
        page.close(verbose=False)


@contextmanager
def plain(llm: Timed) -> Iterator[str]:
    def answer(_message: str, _history: list[Any]) -> Iterator[str]:
        said = ""
        for piece in llm.stream([], max_tokens=llm.max_tokens):
            said += piece if isinstance(piece, str) else ""
            yield said

    page = gr.ChatInterface(answer, analytics_enabled=False)
    _, address, _ = page.launch(
        server_port=free_port(), prevent_thread_lock=True, quiet=True, ssr_mode=False
    )
    yield address
    page.close(verbose=False)


def ask(page: Page) -> None:
    page.locator("textarea").first.fill("How does streaming work?")
    page.keyboard.press("Enter")


def measure(browser: Browser, address: str, llm: Timed, length: int) -> tuple[float, float, float]:
    """Times the model's own time until the browser shows the end; bytes for each character; the
    browser's milliseconds of work for each token."""
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.set_default_timeout(180_000)
    page.goto(address)
    page.wait_for_selector("textarea")
    page.wait_for_timeout(1500)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Performance.enable")
    received = 0

    def count(event: dict[str, Any]) -> None:
        nonlocal received
        received += event["dataLength"]

    session.on("Network.dataReceived", count)

    def busy() -> float:
        metrics = session.send("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    before = busy()
    ask(page)
    page.wait_for_function(f"document.body.innerText.includes('{END}')")
    shown = time.monotonic()
    page.wait_for_timeout(1000)
    work = busy() - before
    page.context.close()
    return (
        (shown - llm.begun) / (llm.ended - llm.begun),
        received / length,
        1000 * work / llm.steps,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast an answer is in the browser.")
    parser.add_argument("--tokens", type=int, default=2000)
    parser.add_argument("--speed", type=float, default=500, help="tokens a second")
    parser.add_argument("--runs", type=int, default=5)
    asked = parser.parse_args()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    pages: dict[str, Callable[[Timed], Any]] = {"plain Gradio": plain, "Rivulet": rivulet}
    lines = [
        f"{machine()} Gradio {gr.__version__}. {asked.tokens:,} tokens at {asked.speed:.0f} a "
        f"second, medians of {asked.runs} runs (least to most).",
        "",
        "| answer | page | times the model's | bytes per character | ms of browser per token |",
        "| --- | --- | --- | --- | --- |",
    ]
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or playwright.chromium.executable_path
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS))
        for kind in ("paragraphs", "one paragraph", "code"):
            said = text(asked.tokens, kind)
            found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in pages}
            for _ in range(asked.runs):
                for name, serve in pages.items():
                    llm = Timed(
                        said,
                        tokens_per_second=asked.speed,
                        max_tokens=4 * asked.tokens,
                        context_window=1_000_000,
                    )
                    with serve(llm) as address:
                        found[name].append(measure(browser, address, llm, len(said)))
            for name, rows in found.items():
                cells = " | ".join(map(spread, zip(*rows, strict=True)))
                lines.append(f"| {kind} | {name} | {cells} |")
        browser.close()
    record("browser", "\n".join(lines), asked.runs)


if __name__ == "__main__":
    main()
