"""The panel beside the answer: what was clicked, in its place, and only what is one's own."""

from collections.abc import Callable
from dataclasses import replace

import gradio as gr
import pytest
from bs4 import BeautifulSoup

from rag.llms.scripted import ScriptedLLM
from rag.types import Citation
from rag.ui.backend import Backend
from rag.ui.chat import Chat
from rag.ui.conversations import Answer
from rag.ui.panel import Panel
from tests.ui.markup import HOSTILE, safe
from tests.ui.pages import Page, event


@pytest.fixture
def page(backend: Backend, llm: ScriptedLLM, request_of: Callable[..., gr.Request]) -> Page:
    """On which something was answered from the sample."""
    llm.script = "The sample speaks of walnuts. Elephants are grey animals."
    page = Page(Chat(backend), request_of(1))
    page.ask("What of walnuts?")
    return page


@pytest.fixture
def answer(page: Page) -> Answer:
    return page.conversation.turns[0].answers[0]


def opened(page: Page, do: str, key: str, request: gr.Request | None = None) -> BeautifulSoup:
    """What is shown when a button is pressed."""
    return safe(Panel(page.chat.backend).open(event(do, key), request or page.request))


def test_a_source(page: Page, answer: Answer) -> None:
    (key,) = page.do("source")
    soup = opened(page, "source", key)
    assert soup.b.text == "sample.txt"
    assert soup.find(class_="number").text == "1"
    assert soup.mark.text == "The sample speaks of walnuts."
    assert soup.div["data-view"] == f"source:{key}"


def test_a_sentence_in_its_place(page: Page, answer: Answer) -> None:
    supported, none = answer.citations
    assert supported.node
    assert none.node is None
    key, _ = page.marks
    soup = opened(page, "cite", key)
    assert soup.mark.text == "The sample speaks of walnuts."
    assert soup.mark["data-cite"] == key == f"{answer.key}:0"
    assert soup.find(class_="number").text == "1"


def test_a_sentence_that_nothing_bears_out(page: Page) -> None:
    _, key = page.marks
    soup = opened(page, "cite", key)
    assert soup.b.text == "not found in your documents"
    assert soup.blockquote.text == "Elephants are grey animals."
    assert soup.find(attrs={"data-do": "close"})


def test_its_own_buttons_show_more_of_it(page: Page) -> None:
    (key,) = page.do("source")
    soup = opened(page, "view", f"source:{key} 0 5 5 0")
    assert soup.mark.text == "The sample speaks of walnuts."
    assert soup.div["data-view"] == f"source:{key} 0 5 5 0"


def test_a_passage_of_a_document_that_is_gone(page: Page, backend: Backend) -> None:
    store = backend.samples.result()
    for document in store.documents():
        store.delete(document.id_)
    soup = opened(page, "source", page.do("source")[0])
    assert soup.mark.text == "The sample speaks of walnuts."
    assert "not there any more" in soup.find(class_="viewer-note").text


def test_closing_it(page: Page) -> None:
    assert str(opened(page, "close", "")) == ""


@pytest.mark.parametrize("do", ["source", "cite", "view", "what", ""])
def test_what_is_not_there_shows_nothing(page: Page, answer: Answer, do: str) -> None:
    keys = ("", ":", "x:0", f"{answer.key}", f"{answer.key}:x", f"{answer.key}:99", "../x:0")
    for key in (*keys, f"{answer.key}:-1", f"{answer.key}:²", f"{answer.key}:{'9' * 5000}"):
        assert str(opened(page, do, key)) == ""


def test_another_browser_sees_nothing(page: Page, request_of: Callable[..., gr.Request]) -> None:
    for do, keys in (("source", page.do("source")), ("cite", page.marks)):
        assert keys
        for key in keys:
            assert str(opened(page, do, key, request_of(2))) == ""


@pytest.mark.parametrize("hostile", HOSTILE)
def test_the_sentence_is_text(page: Page, answer: Answer, hostile: str) -> None:
    answer.text, answer.citations = hostile, (Citation(0, len(hostile), "none"),)
    assert opened(page, "cite", f"{answer.key}:0").blockquote.text == hostile


def test_what_a_passage_does_not_say_is_said(page: Page, answer: Answer) -> None:
    supported, none = answer.citations
    answer.citations = (replace(supported, support="partly", missing=("1848", "Ann")), none)
    soup = opened(page, "cite", f"{answer.key}:0")
    assert soup.find(class_="viewer-note").text == "Partly: it does not say 1848, Ann"
    assert soup.mark.text == "The sample speaks of walnuts."
