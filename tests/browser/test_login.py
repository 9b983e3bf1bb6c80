"""Logging in and out, as a person does."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from rag import passwords
from rag.llms.scripted import ScriptedLLM
from tests.browser.conftest import App, scripted_app

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", 16)
        models = {"scripted": ScriptedLLM()}
        app = scripted_app(tmp_path_factory.mktemp("data"), models, auth=(("ann", "plum"),))
    yield app
    app.stop()


def test_in_and_out(app: App, new_context: Callable[..., BrowserContext]) -> None:
    page = new_context().new_page()
    page.goto(app.address)
    for password, comes_in in (("pear", False), ("plum", True)):
        page.locator("input").first.fill("ann")
        page.locator("input[type=password]").fill(password)
        page.get_by_role("button", name="Login").click()
        if not comes_in:
            expect(page.get_by_text("Incorrect")).to_be_visible()
    page.wait_for_selector("#documents .documents")
    page.get_by_text("Log out").click()
    expect(page.locator("input[type=password]")).to_be_visible()
    page.goto(app.address)
    expect(page.locator("input[type=password]")).to_be_visible()
