"""Documents of people who mean harm, in a browser: nothing leaves, nothing runs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.conftest import App, NewPage, scripted_app
from tests.browser.steps import ask, sources, upload, wait_for_answers
from tests.documents.makers import archive
from tests.strangers.hostile import DOCUMENTS, EVIL, Parrot

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    config = {"relevance_cutoff": 0.0, "top_k": 20, "max_new_tokens": 4096}
    app = scripted_app(tmp_path_factory.mktemp("data"), {"scripted": Parrot()}, **config)
    yield app
    app.stop()


def test_nothing_leaves_and_nothing_runs(new_page: NewPage, tmp_path: Path) -> None:
    """`new_page` fails on any request to elsewhere, and on any script's error."""
    page: Page = new_page()
    dialogs: list[Dialog] = []
    opened: list[Page] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog), dialog.dismiss()))
    page.context.on("page", lambda other: opened.append(other))
    file = tmp_path / "all.zip"
    file.write_bytes(archive(dict(DOCUMENTS)))
    upload(page, file)
    expect(page.locator("#notes .note.good")).to_have_count(1, timeout=60_000)
    ask(page, "plum")
    wait_for_answers(page, 1)
    for number in range(4):
        sources(page).nth(number).click()
        expect(page.locator("#panel .viewer")).to_be_visible()
    for number, text in enumerate(
        ("\n\n".join(list(DOCUMENTS.values())[at::3]) for at in range(3)), 2
    ):
        ask(page, text[:3000])
        wait_for_answers(page, number)
    page.wait_for_timeout(500)
    assert "owned" not in page.title()
    assert dialogs == []
    assert opened == []
    assert page.url.startswith("http://127.0.0.1")
    loading = "() => [...document.querySelectorAll('[src],[data],iframe,object')].map(e => e.src)"
    assert not [address for address in page.evaluate(loading) if EVIL in str(address)]
    assert page.locator("#chat a[href*='evil.example']").count() > 0
