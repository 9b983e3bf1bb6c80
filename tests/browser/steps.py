"""What a person does at the page, and what they see of it."""

from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page, expect

from rag.answering.suggestions import WRITE
from rag.llms.scripted import ScriptedLLM
from tests.browser.conftest import PATIENCE


def ask(page: Page, question: str) -> None:
    page.locator("#box textarea").fill(question)
    page.keyboard.press("Enter")


def wait_for_answers(page: Page, count: int) -> None:
    """Until so many answers are shown, all ended."""
    expect(page.locator("#chat .facts")).to_have_count(count, timeout=PATIENCE)
    expect(page.locator("#chat .writing")).to_have_count(0)


def answer(page: Page, number: int = 0) -> str:
    """The text of an answer, without its marks and facts."""
    return page.evaluate(
        """number => {
            const answer = document.querySelectorAll('#chat .answer')[number].cloneNode(true);
            answer.querySelectorAll('.cite').forEach(mark => mark.remove());
            const said = [...answer.querySelectorAll('.said')].map(part => part.textContent.trim());
            return said.join('\\n\\n');
        }""",
        number,
    )


def sources(page: Page, number: int = 0) -> Locator:
    """The sources under an answer."""
    return page.locator("#chat .answer").nth(number).locator("button.source")


def source_text(page: Page, number: int = 0) -> str:
    """What the panel shows of the first source of an answer."""
    sources(page, number).first.click()
    panel = page.locator("#panel .viewer")
    panel.wait_for()
    return panel.inner_text()


def panel(page: Page) -> Locator:
    return page.locator("#panel .viewer")


def upload(page: Page, *files: Path) -> None:
    page.locator("#drop input[type=file]").set_input_files(list(files))


def upload_and_wait(page: Page, *files: Path) -> None:
    upload(page, *files)
    expect(page.locator("#notes .note.good")).to_have_count(len(files), timeout=PATIENCE)


def documents(page: Page) -> list[str]:
    return page.locator("[aria-label='My documents'] .name").all_inner_texts()


def conversations(page: Page) -> list[str]:
    return page.locator("#conversations .name").all_inner_texts()


def mark(page: Page, number: int) -> Locator:
    """The mark behind a checked sentence."""
    return page.locator("#chat button.cite").nth(number)


def asked_of(llm: ScriptedLLM) -> list[tuple[str, dict[str, Any]]]:
    """What the model was told for each answer, and how it was set; not what it was asked to
    suggest."""
    told = ["\n".join(message.content for message in call) for call in llm.calls]
    wish = WRITE.rpartition("\n")[2]
    pairs = zip(told, llm.options, strict=True)
    return [(text, options) for text, options in pairs if wish not in text]
