"""Model servers that die, stall, or send anything: what a person sees, and that it goes on."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rag.answering.prompts import NO_TEXT
from rag.config import Config
from rag.errors import ProviderError
from rag.index.embedding import HashEmbedding
from rag.llms.openai import OpenAI, list_models
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.conversations import Answer
from rag.ui.sessions import Session
from tests.faults.model_server import ANSWER, ENDLESS, SENDS, Process
from tests.ui.conftest import asks
from tests.ui.pages import Page, eventually, leaves

UNREADABLE = "The model server sent something that cannot be read"
UNREACHABLE = "The model server cannot be reached, or is something else. Check OPENAI_BASE_URL"
BROKEN_OFF = "The model server broke off before there was an answer. Try again, or choose another"
LATE = "The model server does not answer in time. Try again, or choose another model."
FAILED = "The model server ended the answer with an error. Try again later."
NO_ANSWER = "The model server's answer holds nothing that can be read. Check OPENAI_BASE_URL."
TOO_MUCH = "The model server sends more than an answer can be. Check OPENAI_BASE_URL."

Ask = Callable[..., Page]


@pytest.fixture(scope="module")
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.kill()


@pytest.fixture
def server(process: Process) -> Iterator[Process]:
    yield process
    if process.has_died:
        process.start()


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory, process: Process) -> Iterator[Backend]:
    config = Config(
        model="openai:well",
        embed_model="hash",
        data_dir=tmp_path_factory.mktemp("data"),
        openai_base_url=process.url,
        openai_api_key="well",
    )
    backend = Backend(config, HashEmbedding())
    backend.start()
    backend.samples.result()
    yield backend
    backend.close()
    backend.samples.result().close()


@pytest.fixture
def offer(backend: Backend, server: Process) -> Callable[..., str]:
    """Puts a model of the server into the picker; its name there."""

    def offer_(model: str, **options: Any) -> str:
        name = f"openai:{model}"
        backend.catalog.put(name, OpenAI(model, server.url, "well", **options))
        return name

    return offer_


_browsers = iter(range(1, 1000))


@pytest.fixture
def page(backend: Backend, server: Process) -> Iterator[Page]:
    """A browser of its own. Whatever happened, it asks on and is answered, and nothing is left."""
    page = Page(Chat(backend), asks(next(_browsers)))
    yield page
    before = [turn.question for turn in page.conversation.turns]
    assert page.ask("And now?", model="openai:well").text == ANSWER
    assert page.questions == [*before, "And now?"]
    eventually(lambda: server.counts()[0] == 0)
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("answer ")])
    assert not page.conversation.lock.locked()


def kept(page: Page) -> Answer:
    """The last answer as it is on the disk."""
    conversation = Session(page.session.folder).conversation(page.key)
    assert conversation
    return conversation.turns[-1].answers[-1]


def ends(page: Page, text: str, finish_reason: str, error: str = "") -> None:
    """What is shown and what is kept of the last answer."""
    shown = {kind: markup.text for kind, markup in leaves(page.parts[-1:])}
    answer = kept(page)
    assert page.said == answer.text == text
    assert shown.get("error", "") == answer.error
    assert answer.error.startswith(error)
    assert bool(answer.error) == bool(error)
    assert answer.finish_reason == finish_reason
    assert ("cut off" in shown["facts"]) == (finish_reason == "truncated")


@pytest.mark.parametrize(
    ("when", "text", "finish_reason", "error"),
    [
        ("silent", "", "error", UNREACHABLE),
        ("silent after the head", "", "error", UNREACHABLE),
        ("silent after an empty event", "", "error", UNREACHABLE),
        ("silent in the middle", "It is", "truncated", ""),
        ("silent after the end", ANSWER, "stop", ""),
    ],
)
def test_it_is_killed(
    page: Page,
    server: Process,
    offer: Callable[..., str],
    when: str,
    text: str,
    finish_reason: str,
    error: str,
) -> None:
    reading = page.asks("Is it so?", offer(when))
    eventually(lambda: server.counts()[0] == 1)
    if text:
        eventually(lambda: page.said == text)
    server.kill()
    reading.end()
    ends(page, text, finish_reason, error)
    page.ask("Is it there?", model=offer(when))
    ends(page, "", "error", UNREACHABLE)
    server.start()


def test_it_is_back_before_it_is_missed(
    page: Page, server: Process, offer: Callable[..., str]
) -> None:
    """Nothing had come of the answer, so it is asked again."""
    reading = page.asks("Is it so?", offer("silent"))
    eventually(lambda: server.counts()[0] == 1)
    server.kill()
    server.start()
    eventually(lambda: server.counts()[0] == 1)
    page.stop()
    reading.end()
    assert kept(page).finish_reason == "stopped"


def test_it_is_killed_while_nothing_is_asked(
    page: Page, server: Process, offer: Callable[..., str]
) -> None:
    """The connection that is kept for the next question is not used for it."""
    model = offer("well", max_retries=0)
    for _ in range(2):
        assert page.ask("Is it so?", model=model).text == ANSWER
        server.kill()
        server.start()


@pytest.mark.parametrize(
    ("when", "text"),
    [
        ("silent", ""),
        ("silent after the head", ""),
        ("silent after an empty event", ""),
        ("silent in the middle", "It is"),
    ],
)
def test_it_stalls(
    page: Page, server: Process, offer: Callable[..., str], when: str, text: str
) -> None:
    _, before = server.counts()
    page.ask("Is it so?", model=offer(when, timeout=0.4))
    ends(page, text, "error", LATE)
    assert server.counts()[1] == before + 1  # waiting once is enough


SENT = [
    ("nothing", "", "error", UNREACHABLE),
    ("a greeting", "", "error", UNREACHABLE),
    ("noise", "", "error", UNREACHABLE),
    ("half a head", "", "error", UNREACHABLE),
    ("a page", "", "error", NO_ANSWER),
    ("a page as events", "", "error", NO_ANSWER),
    ("a page elsewhere", "", "error", NO_ANSWER),
    ("an error as JSON", "", "error", FAILED),
    ("an error as text", "", "error", FAILED),
    ("an answer without an error", ANSWER, "stop", ""),
    ("no answer", "", "error", BROKEN_OFF),
    ("half an event", "It is", "truncated", ""),
    ("half an event as a whole", "It is", "error", UNREADABLE),
    ("an error as an event", "It is", "error", FAILED),
    ("an error as text in an event", "It is", "error", FAILED),
    ("a number as content", "It is", "error", UNREADABLE),
    ("an object as content", "It is", "error", UNREADABLE),
    ("a list as an event", "It is", "error", UNREADABLE),
    ("a tool instead of a text", NO_TEXT, "stop", ""),
    ("Latin-1", "It is", "error", UNREADABLE),
    ("UTF-16", "", "error", UNREADABLE),
    ("less than its length", "It is", "truncated", ""),
    ("a chunk without a length", "", "error", UNREACHABLE),
    ("a second chunk without a length", "It is", "truncated", ""),
    ("less than the length of a chunk", "It is", "truncated", ""),
    ("no gzip", "", "error", UNREACHABLE),
    ("an endless head", "", "error", UNREACHABLE),
    ("an endless line", "It is", "error", TOO_MUCH),
    ("an endless event", "It is", "error", TOO_MUCH),
    ("endless JSON", "", "error", TOO_MUCH),
    ("an endless error", "", "error", TOO_MUCH),
]


@pytest.mark.parametrize(("what", "text", "finish_reason", "error"), SENT)
def test_it_sends(
    page: Page,
    offer: Callable[..., str],
    what: str,
    text: str,
    finish_reason: str,
    error: str,
) -> None:
    page.ask("Is it so?", model=offer(what, max_retries=0))
    ends(page, text, finish_reason, error)


def test_all_that_it_can_send_is_tried() -> None:
    tried = {what for what, *_ in SENT}
    others = {"well", "an endless answer", "an endless list of models"}
    silent = {name for name in SENDS if name.startswith("silent")}
    assert tried == (SENDS.keys() | ENDLESS.keys()) - others - silent


def test_an_answer_that_does_not_end_is_cut(page: Page, offer: Callable[..., str]) -> None:
    answer = page.ask("Is it so?", model=offer("an endless answer"))
    assert answer.text.startswith("It is so so so")
    assert answer.finish_reason == "length"
    assert "cut short" in page.text("facts")


@pytest.mark.parametrize("key", ["a page", "a trickle", "an endless list of models"])
def test_a_list_of_models_that_is_none(server: Process, key: str) -> None:
    with pytest.raises(ProviderError):
        list_models(server.url, key, timeout=0.4)
    eventually(lambda: server.counts()[0] == 0)
    assert list_models(server.url, "well") == ["well"]
