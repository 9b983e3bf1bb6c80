"""The page as a person uses it, in a real browser, answered by the real local model."""

import time
from collections.abc import Callable
from pathlib import Path

import docx
import pytest
from playwright.sync_api import Page, expect
from reportlab.pdfgen.canvas import Canvas

from tests.browser.conftest import PATIENCE, App

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Screenshot = Callable[[Page, str], None]
NewPage = Callable[..., Page]


def ask(page: Page, question: str) -> None:
    page.locator("#box textarea").fill(question)
    page.keyboard.press("Enter")


def wait_for_answers(page: Page, count: int) -> None:
    expect(page.locator("#chat .facts")).to_have_count(count, timeout=PATIENCE)


def answer(page: Page) -> str:
    """The text of the first answer, without its facts."""
    return page.locator("#chat .bot.message").first.inner_text()


def upload(page: Page, *files: Path) -> None:
    page.locator("#drop input[type=file]").set_input_files(list(files))


def documents(page: Page) -> list[str]:
    return page.locator("[aria-label='My documents'] .name").all_inner_texts()


def test_suggested_question_grows_in_steps_and_ends_with_sources(
    page: Page, screenshot: Screenshot
) -> None:
    screenshot(page, "empty")
    page.get_by_text("Where do my documents stay?").click()
    seen: list[str] = []
    until = time.monotonic() + PATIENCE / 1000
    while not page.locator("#chat .facts").count() and time.monotonic() < until:
        text = page.locator("#chat .bot.message").all_inner_texts()
        if text and (not seen or seen[-1] != text[0]):
            seen.append(text[0])
            if len(seen) == 8:
                screenshot(page, "streaming")
    wait_for_answers(page, 1)
    screenshot(page, "answered")
    final = answer(page)
    growing = [text for text in seen if text and final.startswith(text)]
    assert len(growing) >= 3
    assert growing == sorted(growing, key=len)
    assert "data folder" in final  # true, and from the sample documents
    source = page.locator("#sources .source").first
    assert "privacy-and-sharing.html" in source.inner_text()
    assert "Where do my documents stay?" in source.inner_text()
    facts = page.locator("#chat .facts").inner_text()
    assert "SmolLM2-135M-Instruct" in facts
    assert "first token" in facts
    assert "tokens/s" in facts


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
    upload(page, file)
    page.wait_for_selector("#notes .note.good")
    assert documents(page) == [file.name]
    ask(page, f"Who built the lighthouse of Port {suffix.upper()}?")
    source = page.locator("#sources .source").first
    expect(source).to_contain_text(file.name)
    expect(source).to_contain_text("Ingrid Halvorsen")
    if suffix == "pdf":
        expect(source).to_contain_text("page 2")
    wait_for_answers(page, 1)


def test_stop_ends_the_model_and_keeps_the_text(
    app: App, page: Page, screenshot: Screenshot
) -> None:
    # What the model is asked to write is far longer than what it gets to.
    ask(page, "List everything that is said here about streaming, in many long sentences.")
    page.wait_for_function(
        "document.querySelector('#chat .bot.message')?.innerText.length > 10"
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


def test_retry_edit_undo_and_clear(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "heron.md"
    file.write_text(
        "# Heron\n\n## Budget\n\nThe budget of Heron is 48,200 euros.\n\n"
        "## Team\n\nThe team of Heron sits in Lisbon.\n",
        "utf-8",
    )
    upload(page, file)
    page.wait_for_selector("#notes .note.good")
    ask(page, "What is the budget of Heron?")
    wait_for_answers(page, 1)
    assert "48,200" in answer(page)

    page.get_by_label("Edit").first.click()
    page.locator("#chat textarea").fill("Where does the team of Heron sit?")
    page.get_by_label("Submit").first.click()
    expect(page.locator("#chat .bot.message").first).to_contain_text("Lisbon")
    wait_for_answers(page, 1)

    page.get_by_label("Retry").first.click()
    expect(page.locator("#chat .facts")).to_have_count(0)
    wait_for_answers(page, 1)
    assert "Lisbon" in answer(page)

    page.get_by_label("Undo").first.click()
    expect(page.locator("#chat .message")).to_have_count(0)
    assert page.locator("#box textarea").input_value() == "Where does the team of Heron sit?"

    page.keyboard.press("Enter")
    page.locator("#box textarea").focus()
    page.keyboard.press("Enter")
    wait_for_answers(page, 1)
    page.get_by_label("Clear").first.click()
    expect(page.locator("#chat .message")).to_have_count(0)
    page.reload()
    page.wait_for_selector("#documents .documents")
    expect(page.locator("#chat .message")).to_have_count(0)


def test_two_browsers_do_not_see_each_other(new_page: NewPage, tmp_path: Path) -> None:
    file = tmp_path / "secret.txt"
    file.write_text("The password of the safe is marmalade.", "utf-8")
    one, other = new_page(), new_page()
    upload(one, file)
    one.wait_for_selector("#notes .note.good")
    ask(one, "What is the password of the safe?")
    wait_for_answers(one, 1)
    assert "marmalade" in one.locator("#sources").inner_text()

    other.reload()
    other.wait_for_selector("#documents .documents")
    assert documents(other) == []
    expect(other.locator("#chat .message")).to_have_count(0)
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
    assert "leeks" in page.locator("#sources .source").first.inner_text()


def test_reload_keeps_documents_and_conversation_and_forget_removes_both(
    app: App, page: Page, tmp_path: Path
) -> None:
    file = tmp_path / "garden.txt"
    file.write_text("The garden has nineteen apricot trees.", "utf-8")
    upload(page, file)
    page.wait_for_selector("#notes .note.good")
    ask(page, "How many apricot trees has the garden?")
    wait_for_answers(page, 1)
    before = answer(page)
    page.reload()
    wait_for_answers(page, 1)
    assert answer(page) == before
    assert documents(page) == ["garden.txt"]
    assert "apricot" in page.locator("#sources").inner_text()

    assert _mentions(app.backend.config.data_dir, b"nineteen apricot")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Forget everything").click()
    expect(page.locator("#chat .message")).to_have_count(0)
    expect(page.locator("[aria-label='My documents']")).to_have_count(0)
    assert _mentions(app.backend.config.data_dir, b"nineteen apricot") == []
    page.reload()
    page.wait_for_selector("#documents .documents")
    expect(page.locator("#chat .message")).to_have_count(0)


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
    expect(page.locator("[aria-label='My documents']")).to_have_count(0)
    page.wait_for_timeout(1000)
    assert page.locator("#notes").inner_text().strip() == ""
    assert documents(page) == []
    assert _mentions(app.backend.config.data_dir, b"Zebrafinch number") == []


def test_sources_of_an_earlier_answer_by_keyboard(page: Page, tmp_path: Path) -> None:
    for name, text in {"a.txt": "Anna plays the oboe.", "b.txt": "Boris plays chess."}.items():
        (tmp_path / name).write_text(text, "utf-8")
    upload(page, tmp_path / "a.txt", tmp_path / "b.txt")
    expect(page.locator("#notes .note.good")).to_have_count(2, timeout=PATIENCE)
    ask(page, "What does Anna play?")
    wait_for_answers(page, 1)
    ask(page, "What does Boris play?")
    wait_for_answers(page, 2)
    expect(page.locator("#sources .source").first).to_contain_text("b.txt")
    page.locator("#chat .bot .selectable").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#sources .source").first).to_contain_text("a.txt")
    expect(page.locator("#sources")).to_contain_text("What does Anna play?")


def test_removing_a_document_takes_it_out_of_the_search(page: Page, tmp_path: Path) -> None:
    for name, text in {"a.txt": "Anna plays the oboe.", "b.txt": "Boris plays chess."}.items():
        (tmp_path / name).write_text(text, "utf-8")
    upload(page, tmp_path / "a.txt", tmp_path / "b.txt")
    expect(page.locator("#notes .note.good")).to_have_count(2, timeout=PATIENCE)
    page.get_by_role("button", name="Remove a.txt").click()
    expect(page.locator("[aria-label='My documents'] .name")).to_have_count(1)
    ask(page, "What does Anna play?")
    expect(page.locator("#sources .source")).to_have_count(1)
    expect(page.locator("#sources .source")).to_contain_text("b.txt")
    wait_for_answers(page, 1)


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
    for _ in range(40):
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
    page.locator("#chat .user.message").wait_for()
    wait_for_answers(page, 1)


def test_nothing_jumps_while_the_text_arrives(page: Page) -> None:
    """Question, beginning of the answer, box and sources stay where they are until its end."""
    page.get_by_text("Where do my documents stay?").click()
    page.wait_for_selector("#chat .status")
    page.wait_for_timeout(300)
    places = set()
    while not page.locator("#chat .facts").count():
        places.add(
            page.evaluate(
                "() => ['#chat .user.message', '#chat .bot.message', '#box', '#right'].map("
                "s => Math.round(document.querySelector(s).getBoundingClientRect().top)).join()"
            )
        )
    assert len(places) == 1
