"""The blocks of docs/api.md run, in their order, and print what stands below them."""

import contextlib
import io
import re
from concurrent.futures import ThreadPoolExecutor
from difflib import SequenceMatcher
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n```text\n(.*?)```", PAGE, re.S)
SIMILAR = 0.8
"""How like the printed text has to be: another processor rounds differently, and with it now and
then a word of the model is another."""


def test_every_block_shows_its_output() -> None:
    assert len(BLOCKS) == PAGE.count("```python\n") >= 10
    assert all(shown.strip() for _, shown in BLOCKS)


@pytest.mark.slow
def test_the_blocks_print_what_stands_below_them(
    monkeypatch: pytest.MonkeyPatch, smollm_path: Path, minilm_path: Path
) -> None:
    from rag import Settings

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Settings, "_llm", Settings.llm)  # one block sets another
    names: dict[str, object] = {}
    # Playwright's browser, once started, keeps an event loop in this thread; a block runs one too.
    thread = ThreadPoolExecutor(1)
    for code, shown in BLOCKS:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            thread.submit(exec, compile(code, "docs/api.md", "exec"), names).result()
        printed = out.getvalue().strip()
        like = SequenceMatcher(None, printed, shown.strip(), autojunk=False).ratio()
        assert like > SIMILAR, f"{code}\nprinted:\n{printed}\nnot:\n{shown}"


def test_the_readme_has_the_first_block() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    section = readme.partition("## Use it from Python")[2].partition("\n## ")[0]
    code, shown = BLOCKS[0]
    assert f"```python\n{code}```" in section
    assert shown.strip() in section
