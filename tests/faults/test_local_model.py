"""The local model fails, or has no memory, while several are answered: each is told what is theirs,
the others go on, and so does the next question."""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rag.answering.options import AnswerOptions
from rag.config import Config
from rag.index.embedding import HashEmbedding
from rag.llms.batching import Batch
from rag.llms.huggingface import HuggingFaceLLM
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.conversations import Answer
from rag.ui.preferences import Preferences
from tests.ui.conftest import asks
from tests.ui.pages import Page, Reading, eventually

pytestmark = pytest.mark.slow

STORY = "Write a story about a fox."
LENGTH = 20


def opened(folder: Path, **models: HuggingFaceLLM) -> Backend:
    backend = Backend(Config(model=next(iter(models)), data_dir=folder), HashEmbedding())
    for name, llm in models.items():
        backend.catalog.put(name, llm)
        backend.catalog.prepare(name).result()
    return backend


def pages(backend: Backend, number: int, length: int = LENGTH) -> list[Page]:
    """Browsers of their own, whose answers have so many tokens at most."""
    chat = Chat(backend)
    found = [Page(chat, asks(each)) for each in range(1, number + 1)]
    for page in found:
        page.session.prefer(Preferences(options=AnswerOptions(max_tokens=length)))
    return found


def begins(page: Page, model: str, question: str = STORY) -> Reading:
    """An answer of which something has come."""
    before = len(page.conversation.turns)
    reading = page.asks(question, model, scope="none")
    eventually(lambda: len(page.conversation.turns) > before and last(page).text)
    return reading


def last(page: Page) -> Answer:
    return page.conversation.turns[-1].answers[-1]


def asked(page: Page, model: str, question: str) -> Answer:
    return page.ask(question, model=model, scope="none")


@pytest.fixture
def backend(tmp_path: Path, smollm: HuggingFaceLLM) -> Iterator[Backend]:
    backend = opened(tmp_path, local=smollm)
    yield backend
    backend.close()


def test_a_token_that_the_weights_do_not_have_costs_only_its_question(
    backend: Backend, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tokenizer that is not quite the model's: the failure is torch's own, in the forward pass
    that reads one prompt and writes the other answers."""
    alone, one, other, bad = pages(backend, 4)
    whole = asked(alone, "local", STORY).text
    tokenizer = copy.deepcopy(smollm._tokenizer)
    tokenizer.add_tokens(["zebrafinch"])
    monkeypatch.setattr(smollm, "_tokenizer", tokenizer)
    readings = [begins(page, "local") for page in (one, other)]
    failed = asked(bad, "local", "What is a zebrafinch?")
    assert (failed.text, failed.finish_reason) == ("", "error")
    assert "SmolLM2-135M-Instruct failed: index 49152 is out of bounds" in bad.text("error")
    assert "Ask again, or choose another." in bad.text("error")
    for page, reading in zip((one, other), readings, strict=True):
        reading.end()
        assert (last(page).text, last(page).finish_reason) == (whole, "length")
    assert asked(bad, "local", STORY).text == whole


def test_a_template_that_refuses_costs_only_its_question(
    backend: Backend, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, bad = pages(backend, 2)
    reading = begins(one, "local")
    with monkeypatch.context() as patch:
        refuses = copy.deepcopy(smollm._tokenizer)
        refuses.chat_template = "{{ raise_exception('There is no such role.') }}"
        patch.setattr(smollm, "_tokenizer", refuses)
        assert asked(bad, "local", STORY).finish_reason == "error"
    assert "failed: There is no such role. Ask again" in bad.text("error")
    reading.end()
    assert last(one).finish_reason == "length"
    assert asked(bad, "local", STORY).finish_reason == "length"


def test_where_the_batch_breaks_all_are_told_and_the_next_is_answered(
    backend: Backend, smollm: HuggingFaceLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, next_ = pages(backend, 3)
    go: Callable[[Batch], None] = Batch._go

    def breaks(batch: Batch) -> None:
        if len(batch._answers) > 1 and all(answer.is_writing for answer in batch._answers):
            raise IndexError("a bug")
        go(batch)

    with monkeypatch.context() as patch:
        patch.setattr(Batch, "_go", breaks)
        readings = [page.asks(STORY, "local", scope="none") for page in (one, other)]
        for page, reading in zip((one, other), readings, strict=True):
            reading.end()
            assert last(page).finish_reason == "error"
            assert "failed: a bug. Ask again" in page.text("error")
    assert asked(next_, "local", STORY).finish_reason == "length"
    assert asked(one, "local", STORY).finish_reason == "length"


MEMORY = """
import re, resource, sys
from pathlib import Path
from rag.llms.huggingface import HuggingFaceLLM
from tests.faults.test_local_model import STORY, asked, begins, last, opened, pages

folder, models_dir = map(Path, sys.argv[1:])
quick = HuggingFaceLLM(models_dir=models_dir)
plain = HuggingFaceLLM(models_dir=models_dir, generate_kwargs={"cache_implementation": "static"})
backend = opened(folder, quick=quick, plain=plain)
_, most = resource.getrlimit(resource.RLIMIT_AS)
for model in ("quick", "plain"):
    one, = pages(backend, 1)
    whole = asked(one, model, STORY).text
    size = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    # Room for a short answer, and not for the keys and values of a long one.
    resource.setrlimit(resource.RLIMIT_AS, (size + 120_000_000, most))
    reading = begins(one, model)
    two = pages(backend, 2, 4096)[1]
    failed = asked(two, model, "Tell everything.")
    assert (failed.text, failed.finish_reason) == ("", "error"), failed
    assert "ran out of memory. Ask again, ask for less, or choose a smaller" in two.text("error")
    reading.end()
    assert (last(one).text, last(one).finish_reason) == (whole, "length"), last(one)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    reading = begins(two, model, "Tell everything.")
    two.stop()
    reading.end()
    assert last(two).finish_reason == "stopped", last(two)
backend.close()
print("done")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no such limit there")
def test_where_memory_is_short_a_short_answer_goes_on_and_a_long_one_is_told(
    tmp_path: Path, models_dir: Path, smollm_path: Path
) -> None:
    """As short as a limit of the process's memory makes it: torch's allocator is what fails."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path), str(models_dir)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr
