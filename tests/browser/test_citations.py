"""From a sentence of an answer to the line that bears it out: marks, and the panel they open."""

import base64
import io
import re
from pathlib import Path
from zipfile import ZipFile

import docx
import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Page, expect
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase.pdfmetrics import stringWidth

from rag.documents.pages import render
from tests.browser.conftest import FONT, LEFT, LINES, App, NewPage, Says, Screenshot
from tests.browser.steps import answer, ask, mark, panel, sources, upload_and_wait, wait_for_answers

pytestmark = pytest.mark.browser

TRUE = f"{LINES[1][690]} {LINES[0][660]}"
QUESTION = "What does a berth cost at Farholm, and what does the keeper write?"


@pytest.fixture
def app(scripted: App) -> App:
    return scripted


@pytest.fixture
def page(new_page: NewPage, harbour: Path) -> Page:
    """With the document of the tests."""
    page = new_page()
    upload_and_wait(page, harbour)
    return page


def picture(page: Page) -> Image.Image:
    """What is seen of the page of the document in the panel."""
    return Image.open(io.BytesIO(page.locator("#panel .sheet").screenshot())).convert("RGB")


def marked_area(page: Page) -> tuple[float, ...]:
    """What of the sheet differs from itself without marks, in fractions of its sides."""
    page.wait_for_function("document.querySelector('#panel .sheet img').complete")
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    with_marks = picture(page)
    style = page.add_style_tag(content=".sheet .spot { visibility: hidden; }")
    without = picture(page)
    style.evaluate("style => style.remove()")
    difference = ImageChops.difference(with_marks, without).getchannel("B")
    box = difference.point(lambda level: 255 * (level > 100)).getbbox()  # letters may shift a bit
    assert box, "nothing is marked"
    width, height = with_marks.size
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def assert_marked(page: Page, harbour: Path, number: int, y: int) -> None:
    """Page `number` is shown as it is printed, and the line at `y` is marked on it, no other."""
    expect(page.locator("#panel .sheet img")).to_have_attribute(
        "alt", f"Page {number} of {harbour.name}"
    )
    shown = page.locator("#panel .sheet img").get_attribute("src") or ""
    assert base64.b64decode(shown.partition(",")[2]) == render(harbour, number).data
    left, top, right, bottom = marked_area(page)
    width, height = A4
    end = LEFT + stringWidth(LINES[number - 1][y], *FONT)
    assert left == pytest.approx(LEFT / width, abs=0.01)
    assert right == pytest.approx(end / width, abs=0.01)
    baseline = 1 - y / height
    assert baseline - FONT[1] / height < top + 0.004
    assert top < baseline < bottom < baseline + FONT[1] / height


def test_marks_appear_while_the_text_grows_and_open_the_right_line_of_the_right_page(
    page: Page, harbour: Path, says: Says, screenshot: Screenshot
) -> None:
    says(f"{TRUE} And so on{', and on' * 60}.", tokens_per_second=8)
    ask(page, QUESTION)
    mark(page, 0).wait_for()
    assert "keeper" not in answer(page) or not answer(page).endswith(".")
    mark(page, 0).click()
    expect(panel(page)).to_be_visible()
    assert page.locator("#chat .writing").count() == 1  # it still grows
    assert_marked(page, harbour, 2, 690)
    expect(page.locator("#panel .spot")).to_be_in_viewport()
    mark(page, 1).click()
    expect(page.locator("#panel .sheet img")).to_have_attribute("alt", re.compile("Page 1"))
    assert page.locator("#chat .writing").count() == 1
    assert_marked(page, harbour, 1, 660)
    screenshot(page, "growing-with-marks")
    page.locator("#box .stop-button").click()
    wait_for_answers(page, 1)
    assert "stopped" in page.locator("#chat .facts").inner_text()
    expect(mark(page, 1)).to_be_visible()


def test_a_changed_number_shows(page: Page, says: Says, screenshot: Screenshot) -> None:
    says("The keeper paints the whole tower white every 7 years. A berth costs 14 euros a night.")
    ask(page, "When is the tower painted, and what does a berth cost?")
    wait_for_answers(page, 1)
    expect(page.locator("#chat button.cite.partly")).to_have_count(1)
    expect(page.locator("#chat button.cite.partly")).to_have_attribute(
        "aria-label", re.compile("harbour.pdf, page 1.*it does not say 7")
    )
    expect(page.locator("#chat button.cite.supported")).to_have_count(1)
    mark(page, 0).click()
    expect(page.locator("#panel .viewer-quote")).to_contain_text("every 9 years")
    screenshot(page, "changed-number")


def test_what_no_document_says_is_marked_so_and_the_panel_says_what_that_means(
    page: Page, says: Says
) -> None:
    says("Whales sing in the distant ocean.")
    ask(page, "What does a berth cost?")
    wait_for_answers(page, 1)
    expect(mark(page, 0)).to_have_text("?")
    mark(page, 0).click()
    expect(panel(page)).to_contain_text("Whales sing in the distant ocean.")
    expect(panel(page)).to_contain_text("No passage that was found for this question says so")


MARKED = {
    "The **bold 💧 word** is *here*,\nand there.": "The bold 💧 word is here,\nand there.",
    "- Whales <b>sing</b> & dive": "Whales <b>sing</b> & dive",
    "- **They** are grey": "They are grey",
    "A [pier](https://a.example/) is [long](https://b.example/).": (
        "A pier (https://a.example/) is long (https://b.example/)."
    ),
    "It is called `pier`": "It is called pier",
    "It links [the `pier`](https://c.example/)": "It links the pier (https://c.example/)",
    "| a | b |\n|---|---|\n| c | d |": "",
    "Whales are loud. ": "Whales are loud.",
}
"""Parts of an answer, and of each the sentence that has a mark."""


def test_marks_stand_behind_whole_sentences_whatever_these_are_made_of(
    page: Page, says: Says, screenshot: Screenshot
) -> None:
    """The page puts them where the server says: into the text that the browser made of its HTML."""
    says("\n\n".join(MARKED), tokens_per_second=40)
    ask(page, QUESTION)
    wait_for_answers(page, 1)
    shown = page.evaluate(
        """() => [...document.querySelectorAll('#chat button.cite')].map(mark => {
            const parts = [...document.querySelectorAll('#chat .sentence')]
                .filter(part => part.dataset.cite === mark.dataset.key);
            return [
                parts.map(part => part.textContent).join(''),
                mark.dataset.key, mark.dataset.cite, mark.title, mark.ariaLabel, mark.textContent,
                mark.previousElementSibling.contains(parts.at(-1)),
                Boolean(mark.closest('a, code, .address')),
            ];
        })"""
    )
    key = page.locator("#chat .answer").get_attribute("data-k")
    title = "not found in your documents"
    assert shown == [
        [sentence, f"{key}:{number}", f"{key}:{number}", title, title, "?", True, False]
        for number, sentence in enumerate(filter(None, MARKED.values()))
    ]
    screenshot(page, "marks-of-all-kinds")


def background(page: Page, selector: str) -> str:
    page.wait_for_timeout(250)  # the light comes slowly
    return str(page.locator(selector).first.evaluate("of => getComputedStyle(of).backgroundColor"))


def test_mark_sentence_and_line_light_up_together(page: Page, says: Says) -> None:
    says(TRUE)
    ask(page, QUESTION)
    wait_for_answers(page, 1)
    sentence, spot = "#chat .sentence", "#panel .spot"
    dark = background(page, sentence)
    mark(page, 0).hover()
    assert background(page, sentence) != dark
    page.mouse.move(0, 0)
    assert background(page, sentence) == dark
    mark(page, 0).click()
    page.locator(spot).wait_for()
    page.mouse.move(0, 0)
    assert background(page, sentence) != dark  # what the panel shows stays lit
    calm = background(page, spot)
    page.locator(sentence).first.hover()
    assert background(page, spot) != calm
    page.locator(sentence).nth(1).hover()
    assert background(page, spot) == calm
    assert background(page, "#chat .sentence >> nth=1") != dark
    page.locator("#panel .spot").hover()
    assert background(page, sentence) != dark
    page.get_by_role("button", name="Close the source").click()
    expect(panel(page)).to_have_count(0)
    page.mouse.move(0, 0)
    assert background(page, sentence) == dark


def test_the_pages_are_turned(page: Page, says: Says) -> None:
    says(TRUE)
    ask(page, QUESTION)
    wait_for_answers(page, 1)
    mark(page, 0).click()
    shown = page.locator("#panel .sheet img")
    expect(shown).to_have_attribute("alt", "Page 2 of harbour.pdf")
    expect(page.get_by_role("button", name="Next page")).to_be_disabled()
    page.get_by_role("button", name="Previous page").click()
    expect(shown).to_have_attribute("alt", "Page 1 of harbour.pdf")
    expect(page.locator("#panel .spot")).to_have_count(0)
    expect(page.get_by_role("button", name="Previous page")).to_be_disabled()
    page.get_by_role("button", name="Back to the passage").click()
    expect(shown).to_have_attribute("alt", "Page 2 of harbour.pdf")
    expect(page.locator("#panel .spot")).to_have_count(1)
    page.get_by_role("button", name="Show as text").click()
    expect(page.locator("#panel mark")).to_have_text(LINES[1][690])
    page.get_by_role("button", name="Show the page").click()
    expect(shown).to_have_attribute("alt", "Page 2 of harbour.pdf")


def test_by_keyboard_alone(page: Page, says: Says) -> None:
    """Tab reaches the marks; Enter opens the panel, which has the focus; Escape gives it back."""
    says(TRUE)
    ask(page, QUESTION)
    wait_for_answers(page, 1)
    page.locator("#chat .actions button").first.focus()
    focused = "document.activeElement.matches('#chat button.cite')"
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate(focused):
            break
    assert page.evaluate(focused)
    page.keyboard.press("Tab")
    second = mark(page, 1).get_attribute("data-key")
    assert page.evaluate("document.activeElement.dataset.key") == second
    page.keyboard.press("Enter")
    page.locator("#panel .sheet").wait_for()
    page.wait_for_function("document.activeElement.closest('#panel')")
    page.keyboard.press("Escape")
    expect(panel(page)).to_have_count(0)
    page.wait_for_function("key => document.activeElement.dataset.key === key", arg=second)
    page.keyboard.press("Enter")
    page.locator("#panel .sheet").wait_for()
    page.wait_for_function("document.activeElement.closest('#panel')")
    page.keyboard.press("Enter")  # on the button that closes it
    expect(panel(page)).to_have_count(0)
    page.wait_for_function("key => document.activeElement.dataset.key === key", arg=second)


FACT = "The archive of Farholm keeps 512 maps."
FILLER = [f"Paragraph {n} tells at length of fog and of gulls over the quay." for n in range(80)]
TEXTS = [*FILLER[:50], FACT, *FILLER[50:]]


def _docx(path: Path) -> None:
    document = docx.Document()
    for text in TEXTS:
        document.add_paragraph(text)
    document.save(str(path))


MAKERS = {
    "md": lambda path: path.write_text("\n\n".join(TEXTS)),
    "docx": _docx,
    "html": lambda path: path.write_text("".join(f"<p>{text}</p>" for text in TEXTS)),
    "csv": lambda path: path.write_text(
        "\n".join(["n,text", *(f"{n},{t}" for n, t in enumerate(TEXTS))])
    ),
}


@pytest.mark.parametrize("suffix", MAKERS)
def test_a_document_without_pages_is_shown_as_text_at_the_sentence(
    new_page: NewPage, says: Says, tmp_path: Path, suffix: str
) -> None:
    file = tmp_path / f"archive.{suffix}"
    MAKERS[suffix](file)
    page = new_page(height=600)
    upload_and_wait(page, file)
    says(FACT)
    ask(page, "How many maps does the archive of Farholm keep?")
    wait_for_answers(page, 1)
    mark(page, 0).click()
    expect(page.locator("#panel mark")).to_contain_text("512")
    expect(page.locator("#panel mark")).to_be_in_viewport()
    expect(page.locator("#panel .viewer-text")).to_contain_text("Paragraph 49")
    top = "document.querySelector('#panel mark').getBoundingClientRect().top"
    earlier = page.get_by_role("button", name="Earlier text")
    while earlier.count():
        before = page.locator("#panel .viewer-text").inner_text()
        earlier.scroll_into_view_if_needed()
        place = page.evaluate(top)
        earlier.click()
        expect(page.locator("#panel .viewer-text")).not_to_have_text(before)
        assert page.evaluate(top) == pytest.approx(place, abs=2)  # what was read stays there
    expect(page.locator("#panel .viewer-text")).to_contain_text("Paragraph 0 ")


def test_what_looks_like_html_in_documents_and_their_names_is_text(
    new_page: NewPage, says: Says, tmp_path: Path
) -> None:
    """No script of it runs, and nothing is loaded: both would fail the test at its end."""
    page = new_page()
    bad = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    file = tmp_path / "notes.zip"  # of a single file Gradio changes the name
    with ZipFile(file, "w") as archive:
        name = "<b onmouseover=alert(3)>notes<img src=x onerror=alert(4)>.txt"
        archive.writestr(name, f"The {bad} moon of Farholm is made of granite.")
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    upload_and_wait(page, file)
    says(f"The {bad} moon of Farholm is made of granite.")
    ask(page, f"{bad} What is the moon of Farholm made of?")
    wait_for_answers(page, 1)
    expect(page.locator("#chat .asked")).to_contain_text(bad)
    assert bad in answer(page)
    expect(sources(page).first).to_contain_text("<b onmouseover=alert(3)>notes")
    title = re.compile(
        "Source 1: .*<b onmouseover=alert\\(3\\)>notes<img src=x onerror=alert\\(4\\)>"
    )
    expect(mark(page, 0)).to_have_attribute("title", title)
    expect(mark(page, 0)).to_have_attribute("aria-label", title)
    mark(page, 0).click()
    expect(panel(page)).to_contain_text("<script>alert(2)</script>")
    expect(panel(page)).to_contain_text("<b onmouseover=alert(3)>notes")
    page.wait_for_timeout(300)
    assert (
        page.locator("#chat img, #panel img, #documents img, #chat script, #chat b b").count() == 0
    )
    assert dialogs == []


def test_narrow_the_panel_is_a_sheet_over_the_conversation(
    new_page: NewPage, harbour: Path, says: Says, screenshot: Screenshot
) -> None:
    page = new_page(390, 844)
    page.locator("#box input[type=file]").set_input_files(harbour)
    page.wait_for_selector("#box .thumbnail-item")
    says(TRUE)
    ask(page, QUESTION)
    wait_for_answers(page, 1)
    mark(page, 0).click()
    expect(page.locator("#panel .spot")).to_be_in_viewport()
    box = page.locator("#right").bounding_box()
    assert box
    assert (box["x"], box["width"]) == (0, 390)
    assert box["y"] > 200  # the answer is still seen above it
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    screenshot(page, "narrow-panel")
    page.keyboard.press("Escape")
    expect(page.locator("#right")).to_be_hidden()
