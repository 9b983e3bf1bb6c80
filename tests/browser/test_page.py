"""The page as a person uses it, in a real browser, answered by the real local model."""

from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from playwright.sync_api import Page, expect
from reportlab.pdfgen.canvas import Canvas

from tests.browser.conftest import PATIENCE, App, NewPage, Screenshot
from tests.browser.steps import (
    answer,
    ask,
    conversations,
    documents,
    mark,
    panel,
    source_text,
    sources,
    upload,
    upload_and_wait,
    wait_for_answers,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WATCH = """() => {
    window.seen = [];
    new MutationObserver(() => {
        const answer = [...document.querySelectorAll('#chat .answer')].at(-1);
        const shown = answer?.querySelector('.said')?.cloneNode(true);
        shown?.querySelectorAll('.cite').forEach(mark => mark.remove());
        const text = shown?.textContent.trim();
        if (text && text !== seen.at(-1)) seen.push(text);
    }).observe(document.querySelector('#chat'), {childList: true, subtree: true});
}"""
"""Keeps each text of the last answer that was to be seen."""


def test_suggested_question_grows_in_steps_and_ends_with_sources(
    page: Page, screenshot: Screenshot
) -> None:
    screenshot(page, "empty")
    page.evaluate(WATCH)
    page.get_by_text("Where do my documents stay?").click()
    wait_for_answers(page, 1)
    screenshot(page, "answered")
    final = answer(page)
    seen = page.evaluate("() => seen")
    assert len(seen) >= 2  # it is short, and quoted: the model writes it in a few steps
    assert seen == sorted(seen, key=len)
    assert all(final.startswith(text) for text in seen)
    assert "data folder" in final  # true, and from the sample documents
    expect(sources(page).first).to_contain_text("privacy-and-sharing.html")
    expect(sources(page).first).to_contain_text("Where do my documents stay?")
    facts = page.locator("#chat .facts").inner_text()
    assert "SmolLM2-135M-Instruct" in facts
    assert "first token" in facts
    assert "tokens/s" in facts

    page.locator("#scope input").click()
    page.get_by_role("option", name="nothing: plain chat").click()
    ask(page, "Write a story about a river.")
    expect(page.locator("#chat .answer").nth(1).locator(".said").first).to_be_visible()
    page.evaluate("() => { seen.length = 0; }")
    page.wait_for_function("() => seen.length >= 3")


def test_from_any_sentence_to_the_marked_line_of_a_pdf_of_ones_own(
    page: Page, harbour: Path, screenshot: Screenshot
) -> None:
    """What a newcomer does: a PDF, a question, a click on the mark behind a sentence."""
    upload_and_wait(page, harbour)
    ask(page, "How often does the keeper paint the tower?")
    wait_for_answers(page, 1)
    assert "9 years" in answer(page)
    marks = page.locator("#chat button.cite")
    assert marks.count() == page.locator("#chat .sentence").count() >= 1
    for number in range(marks.count()):
        mark(page, number).click()
        expect(page.locator("#panel .sheet .spot").first).to_be_in_viewport()
        expect(page.locator("#panel .viewer-quote")).to_contain_text(
            "The keeper paints the whole tower white every 9 years."
        )
        page.keyboard.press("Escape")
        expect(panel(page)).to_have_count(0)
    mark(page, 0).click()
    panel(page).wait_for()
    screenshot(page, "newcomer")


def _pdf(path: Path, text: str) -> None:
    canvas = Canvas(str(path))
    canvas.drawString(72, 720, "This page is about something else: the weather was fine.")
    canvas.showPage()
    canvas.drawString(72, 720, text)
    canvas.save()


def _docx(path: Path, text: str) -> None:
    document = docx.Document()
    document.add_heading("Notes")
    document.add_paragraph(text)
    document.save(str(path))


MAKERS: dict[str, Callable[[Path, str], object]] = {
    "pdf": _pdf,
    "docx": _docx,
    "md": lambda path, text: path.write_text(f"# Notes\n\n{text}\n", "utf-8"),
    "html": lambda path, text: path.write_text(f"<h1>Notes</h1><p>{text}</p>", "utf-8"),
    "txt": lambda path, text: path.write_text(text, "utf-8"),
}


@pytest.mark.parametrize("suffix", MAKERS)
def test_upload_of_each_type_is_found_by_a_question_only_it_answers(
    page: Page, tmp_path: Path, suffix: str
) -> None:
    text = f"The lighthouse of Port {suffix.upper()} was built in 1847 by Ingrid Halvorsen."
    file = tmp_path / f"lighthouse.{suffix}"
    MAKERS[suffix](file, text)
    upload_and_wait(page, file)
    assert documents(page) == [file.name]
    ask(page, f"Who built the lighthouse of Port {suffix.upper()}?")
    wait_for_answers(page, 1)
    expect(sources(page).first).to_contain_text(file.name)
    cut = "name => name.scrollWidth > name.clientWidth"
    assert not sources(page).first.locator("b").evaluate(cut)  # there is room for all of it
    if suffix == "pdf":
        expect(sources(page).first).to_contain_text("page 2")
    assert "Ingrid Halvorsen" in source_text(page)


def test_stop_ends_the_model_and_keeps_the_text(
    app: App, page: Page, screenshot: Screenshot
) -> None:
    # What the model is asked to write is far longer than what it gets to.
    ask(page, "List everything that is said here about streaming, in many long sentences.")
    page.wait_for_function(
        "document.querySelector('#chat .said')?.innerText.length > 10"
        " && !document.querySelector('#chat .status')"
    )
    page.locator("#box .stop-button").click()
    wait_for_answers(page, 1)
    steps = app.llm.steps
    assert "stopped" in page.locator("#chat .facts").inner_text()
    assert answer(page).strip()
    screenshot(page, "stopped")
    page.wait_for_timeout(1500)
    assert app.llm.steps == steps  # it was ended before the page said so
    page.wait_for_selector("#box .submit-button")


def test_retry_edit_take_back_and_delete(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "heron.md"
    file.write_text(
        "# Heron\n\n## Budget\n\nThe budget of Heron is 48,200 euros.\n\n"
        "## Team\n\nThe team of Heron sits in Lisbon.\n",
        "utf-8",
    )
    upload_and_wait(page, file)
    ask(page, "What is the budget of Heron?")
    wait_for_answers(page, 1)
    assert "48,200" in answer(page)

    page.get_by_role("button", name="Edit", exact=True).click()
    page.get_by_role("textbox", name="Change the question").fill(
        "Where does the team of Heron sit?"
    )
    page.get_by_role("button", name="OK").click()
    expect(page.locator("#chat .asked")).to_have_text("Where does the team of Heron sit?")
    expect(page.locator("#chat .said").first).to_contain_text("Lisbon")
    wait_for_answers(page, 1)

    before = page.locator("#chat .answer").get_attribute("data-k")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(f"#chat .answer[data-k='{before}']")).to_have_count(0)
    wait_for_answers(page, 1)
    assert "Lisbon" in answer(page)

    page.get_by_role("button", name="Take this question back").click()
    expect(page.locator("#chat .turn")).to_have_count(0)
    expect(page.locator("#box textarea")).to_have_value("Where does the team of Heron sit?")
    assert conversations(page) == []

    page.locator("#box textarea").focus()
    page.keyboard.press("Enter")
    wait_for_answers(page, 1)
    page.get_by_role("button", name="Delete Where does the team of Heron sit?").click()
    expect(page.locator("#chat .turn")).to_have_count(0)
    page.reload()
    page.wait_for_selector("#chat .welcome")
    assert conversations(page) == []


def test_two_browsers_do_not_see_each_other(new_page: NewPage, tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("The password of the safe is marmalade.", "utf-8")
    one, other = new_page(), new_page()
    upload_and_wait(one, file)
    ask(one, "What is the password of the safe?")
    wait_for_answers(one, 1)
    assert "marmalade" in source_text(one)

    other.reload()
    other.wait_for_selector("#documents .documents")
    assert documents(other) == []
    expect(other.locator("#chat .turn")).to_have_count(0)
    ask(other, "What is the password of the safe?")
    wait_for_answers(other, 1)
    assert "marmalade" not in other.locator("body").inner_text()


def test_bad_files_get_their_reasons_and_the_others_go_in(
    page: Page, tmp_path: Path, screenshot: Screenshot
) -> None:
    contents = {
        "good.txt": b"The river is 12 km long.",
        "empty.txt": b"",
        "broken.pdf": b"%PDF-1.7 and nothing more",
        "not-a-word.docx": b"plain text",
        "large.txt": b"many words " * 100_000,
        "program.exe": b"MZ\x00\x01",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    upload(page, *(tmp_path / name for name in contents))
    expect(page.locator("#notes .note")).to_have_count(len(contents), timeout=PATIENCE)
    said = page.locator("#notes").inner_text()
    assert documents(page) == ["good.txt"]
    assert "good.txt is ready" in said
    assert "empty.txt: the file is empty" in said
    assert "broken.pdf: the PDF is damaged" in said
    assert "not-a-word.docx: it is named .docx" in said
    assert "large.txt: it has 1.1 MB; at most 1 MB" in said
    assert "program.exe: this type cannot be read" in said
    screenshot(page, "error")

    upload(page, tmp_path / "good.txt")
    expect(page.locator("#notes .note.same")).to_contain_text("is here already")
    assert documents(page) == ["good.txt"]


def test_a_question_with_a_file_in_the_box(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "menu.txt"
    file.write_text("Today's soup is made of leeks and potatoes.", "utf-8")
    page.locator("#box input[type=file]").set_input_files(file)
    page.wait_for_selector("#box .thumbnail-item")
    ask(page, "What is today's soup made of?")
    wait_for_answers(page, 1)
    assert documents(page) == ["menu.txt"]
    assert "leeks" in source_text(page)


def test_reload_keeps_documents_and_conversation_and_forget_removes_both(
    app: App, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "garden.txt"
    file.write_text("The garden has nineteen apricot trees.", "utf-8")
    upload_and_wait(page, file)
    ask(page, "How many apricot trees has the garden?")
    wait_for_answers(page, 1)
    before = answer(page)
    page.reload()
    wait_for_answers(page, 1)
    assert answer(page) == before
    assert documents(page) == ["garden.txt"]
    assert "apricot" in source_text(page)

    assert _mentions(app.backend.config.data_dir, b"nineteen apricot")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator("#chat .turn")).to_have_count(0)
    expect(page.locator("[aria-label='My documents']")).to_have_count(0)
    assert _mentions(app.backend.config.data_dir, b"nineteen apricot") == []
    page.reload()
    page.wait_for_selector("#documents .documents")
    expect(page.locator("#chat .turn")).to_have_count(0)


def _mentions(folder: Path, text: bytes) -> list[Path]:
    return [
        file
        for part in ("sessions", "uploads", "samples")
        for file in (folder / part).rglob("*")
        if file.is_file() and text in file.read_bytes()
    ]


def test_the_same_file_from_two_browsers_goes_into_both(new_page: NewPage, tmp_path: Path) -> None:
    """Gradio keeps it once for both: whoever is first must not take it from the other."""
    file = tmp_path / "shared.txt"
    file.write_text("The shared recipe needs saffron.", "utf-8")
    one, other = new_page(), new_page()
    other.locator("#box input[type=file]").set_input_files(file)
    other.wait_for_selector("#box .thumbnail-item")
    upload(one, file)
    one.wait_for_selector("#notes .note.good")
    ask(other, "What does the shared recipe need?")
    other.wait_for_selector("#notes .note.good")
    assert documents(one) == documents(other) == ["shared.txt"]
    wait_for_answers(other, 1)


def test_a_file_on_its_way_can_be_cancelled(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "long.txt"
    file.write_text("".join(f"Sentence number {n} of many.\n\n" for n in range(20_000)), "utf-8")
    upload(page, file)
    page.locator("[aria-label='My documents']").get_by_text("embedded").wait_for()
    page.get_by_role("button", name="Cancel long.txt").click()
    page.wait_for_selector("#notes .note.cancelled")
    assert "cancelled; nothing was added" in page.locator("#notes").inner_text()
    assert documents(page) == []


def test_forgetting_while_a_file_is_on_its_way_leaves_nothing(
    app: App, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "long.txt"
    file.write_text("".join(f"Zebrafinch number {n}.\n\n" for n in range(20_000)), "utf-8")
    upload(page, file)
    page.locator("[aria-label='My documents']").get_by_text("embedded").wait_for()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator("[aria-label='My documents']")).to_have_count(0, timeout=PATIENCE)
    page.wait_for_timeout(1000)
    assert page.locator("#notes").inner_text().strip() == ""
    assert documents(page) == []
    assert _mentions(app.backend.config.data_dir, b"Zebrafinch number") == []


def test_sources_of_an_earlier_answer_by_keyboard(page: Page, tmp_path: Path) -> None:
    for name, text in {"a.txt": "Anna plays the oboe.", "b.txt": "Boris plays chess."}.items():
        (tmp_path / name).write_text(text, "utf-8")
    upload_and_wait(page, tmp_path / "a.txt", tmp_path / "b.txt")
    ask(page, "What does Anna play?")
    wait_for_answers(page, 1)
    ask(page, "What does Boris play?")
    wait_for_answers(page, 2)
    for number, name, text in ((1, "b.txt", "Boris plays chess."), (0, "a.txt", "Anna plays")):
        expect(sources(page, number).first).to_contain_text(name)
        sources(page, number).first.focus()
        page.keyboard.press("Enter")
        expect(panel(page)).to_contain_text(text)


def test_removing_a_document_takes_it_out_of_the_search(page: Page, tmp_path: Path) -> None:
    for name, text in {"a.txt": "Anna plays the oboe.", "b.txt": "Boris plays chess."}.items():
        (tmp_path / name).write_text(text, "utf-8")
    upload_and_wait(page, tmp_path / "a.txt", tmp_path / "b.txt")
    page.get_by_role("button", name="Remove a.txt").click()
    expect(page.locator("[aria-label='My documents'] .name")).to_have_count(1)
    ask(page, "What does Anna play?")
    wait_for_answers(page, 1)
    expect(sources(page)).to_have_count(1)
    expect(sources(page)).to_contain_text("b.txt")


def test_narrow_and_dark(new_page: NewPage, screenshot: Screenshot) -> None:
    page = new_page(390, 844, "?__theme=dark")
    screenshot(page, "narrow-dark-empty")
    # The list of documents is a drawer, closed until it is asked for.
    assert not page.locator("#documents").is_visible() or (
        (page.locator("#left").bounding_box() or {"x": 0})["x"] < 0
    )
    page.get_by_text("Which models can I use?").click()
    wait_for_answers(page, 1)
    screenshot(page, "narrow-dark-answered")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#left .toggle-button").click()
    page.wait_for_timeout(500)
    screenshot(page, "narrow-dark-drawer")
    expect(page.get_by_role("button", name="Forget everything")).to_be_in_viewport()


def test_keyboard_alone_is_enough(page: Page) -> None:
    """The box has the focus; Tab reaches every control; a suggested question by Enter."""
    page.wait_for_function("document.activeElement?.tagName === 'TEXTAREA'")
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "() => { const e = document.activeElement;"
                " return (e.closest('#box, #model, #scope, #forget, #drop, #left') || e).id"
                " || e.getAttribute('aria-label') || e.innerText || e.tagName }"
            )
        )
    assert {"box", "model", "scope", "forget", "drop"} <= reached
    question = page.get_by_role("button", name="Which models can I use?")
    question.focus()
    page.keyboard.press("Enter")
    page.locator("#chat .asked").wait_for()
    wait_for_answers(page, 1)


def test_nothing_jumps_while_the_text_arrives(page: Page) -> None:
    """Question, beginning of the answer, box and panel stay where they are until its end."""
    page.get_by_text("Where do my documents stay?").click()
    page.wait_for_selector("#chat .status")
    page.wait_for_timeout(300)
    places = set()
    while not page.locator("#chat .facts").count():
        places.add(
            page.evaluate(
                "() => ['#chat .asked', '#chat .answer', '#box', '#right'].map("
                "s => Math.round(document.querySelector(s).getBoundingClientRect().top)).join()"
            )
        )
    assert len(places) == 1
