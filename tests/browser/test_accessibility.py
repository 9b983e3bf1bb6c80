"""The page for those who hear it, read from right to left, or speak another language.

axe-core checks the main states; its rules find what can be found without a person.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from rag.ui.language import translations
from tests.browser.conftest import LINES, App, NewPage, Says, Screenshot
from tests.browser.steps import ask, mark, panel, upload_and_wait, wait_for_answers

pytestmark = pytest.mark.browser

AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
GRADIO: tuple[tuple[str, str], ...] = ()
"""Rules that Gradio's own parts break, and where: (rule, part of the element's HTML)."""
ANSWER = (
    f"{LINES[1][690]} The keeper paints the whole tower white every 7 years. "
    "Whales sing far out.\n\n"
    "| Boat | Berth |\n|---|---|\n| Anna | 3 |\n\n```\nlong = 'line'\n```\n\n- one\n- two\n\n"
    "[A link](https://example.com/) and `code`."
)


@pytest.fixture
def app(scripted: App) -> App:
    return scripted


def violations(page: Page) -> list[str]:
    """What axe finds that is serious or worse: each a line that says where."""
    page.wait_for_timeout(500)  # colours change slowly
    page.evaluate(AXE)
    found: dict[str, Any] = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{rule['id']}: {node['html'][:200]} ({node['failureSummary'][:300]})"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
        if not any(rule["id"] == id_ and part in node["html"] for id_, part in GRADIO)
    ]


STATES = {
    "light": {},
    "dark": {"query": "?__theme=dark"},
    "narrow": {"width": 400},
    "narrow-dark": {"width": 400, "query": "?__theme=dark"},
    "german": {"locale": "de-DE"},
}


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_serious(
    new_page: NewPage, says: Says, harbour: Path, screenshot: Screenshot, state: str
) -> None:
    page = new_page(**STATES[state])
    found = {"empty": violations(page)}
    page.locator("#box input[type=file]").set_input_files(harbour)
    page.wait_for_selector("#box .thumbnail-item")
    says(ANSWER, tokens_per_second=20, first_token=2)
    ask(page, "What does a berth cost, and when is the tower painted?")
    page.locator("#chat .status").wait_for()
    found["waiting"] = violations(page)
    mark(page, 0).wait_for()
    found["answering"] = violations(page)
    wait_for_answers(page, 1)
    found["answered"] = violations(page)
    mark(page, 0).click()
    page.locator("#panel .sheet").wait_for()
    found["page"] = violations(page)
    screenshot(page, f"axe-{state}-page")
    page.locator("#panel .viewer-turn button").last.click()
    page.locator("#panel mark").wait_for()
    found["text"] = violations(page)
    page.keyboard.press("Escape")
    expect(panel(page)).to_have_count(0)
    page.locator("#settings > button").click()
    found["settings"] = violations(page)
    screenshot(page, f"axe-{state}-settings")
    page.locator("#settings > button").click()
    if STATES[state].get("width"):
        page.locator("#left .toggle-button").click()
        found["drawer"] = violations(page)
    wrong = [f"{where}: {line}" for where, lines in found.items() for line in lines]
    assert not wrong, "\n".join(wrong)


def test_an_answer_is_heard_sentence_by_sentence(page: Page, says: Says) -> None:
    sentences = [f"This is sentence number {n}." for n in ("one", "two", "three", "four")]
    page.evaluate(
        """() => {
            window.heard = [];
            const region = document.querySelector('#chat .spoken');
            new MutationObserver(changes => {
                for (const change of changes)
                    for (const line of change.addedNodes) window.heard.push(line.textContent);
            }).observe(region, {childList: true});
        }"""
    )
    assert page.locator("#chat .spoken").get_attribute("aria-live") == "polite"
    says(" ".join(sentences), tokens_per_second=10)
    ask(page, "What is a token?")
    expect(page.locator("#chat .spoken")).to_have_text(sentences[0])
    assert page.locator("#chat .writing").count() == 1
    wait_for_answers(page, 1)
    expect(page.locator("#chat .spoken")).to_contain_text(sentences[3])
    assert page.evaluate("window.heard") == sentences
    page.reload()
    wait_for_answers(page, 1)
    expect(page.locator("#chat .spoken")).to_have_text("")  # it has been heard


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("كم ثمن المرسى؟", "ثمن المرسى أربعة عشر يورو في الليلة."),
        ("כמה עולה העגינה?", "העגינה עולה ארבעה עשר אירו ללילה."),
    ],
    ids=["arabic", "hebrew"],
)
def test_right_to_left(
    page: Page, says: Says, question: str, said: str, screenshot: Screenshot, tmp_path: Path
) -> None:
    (tmp_path / "rtl.txt").write_text(said, "utf-8")
    upload_and_wait(page, tmp_path / "rtl.txt")
    says(said)
    page.locator("#box textarea").fill(question)
    direction = "e => getComputedStyle(e).direction"
    assert page.locator("#box textarea").evaluate(direction) == "rtl"
    page.keyboard.press("Enter")
    wait_for_answers(page, 1)
    assert page.locator("#chat .asked").evaluate(direction) == "rtl"
    assert page.locator("#chat .said").first.evaluate(direction) == "rtl"
    assert page.locator("#conversations .name").evaluate(direction) == "rtl"
    mark(page, 0).click()
    assert page.locator("#panel .viewer-text").evaluate("e => e.matches(':dir(rtl)')")
    screenshot(page, "right-to-left")
    says("And this is English.")
    ask(page, "And now?")
    wait_for_answers(page, 2)
    assert page.locator("#chat .said").last.evaluate(direction) == "ltr"


def test_the_page_speaks_german_to_a_german_browser(
    new_page: NewPage, says: Says, screenshot: Screenshot
) -> None:
    german = translations()["de"]
    page = new_page(locale="de-DE")
    screenshot(page, "german-empty")
    placeholder = page.locator("#box textarea").get_attribute("placeholder")
    assert placeholder == german["Ask your documents"]
    page.locator("#settings > button").click()
    for text in ("Settings", "Number of passages", "Style", "System prompt", "New conversation"):
        expect(page.get_by_text(german[text]).first).to_be_visible()
    page.locator("#settings > button").click()
    says("Ja.")
    ask(page, "Was ist ein Token?")
    wait_for_answers(page, 1)
    expect(page.locator("#chat .facts")).to_contain_text(
        german["first token {seconds} s"].partition("{")[0].strip()
    )
    expect(page.get_by_role("button", name=german["Retry"])).to_be_visible()
    screenshot(page, "german-answered")
    unnamed = json.dumps(page.locator("#chat").inner_text())
    assert "Retry" not in unnamed
