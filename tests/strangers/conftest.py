"""The real app with a scripted model, and people at it who are strangers to each other."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import pytest

from tests.browser.conftest import App, scripted_app
from tests.strangers.people import Person
from tests.ui.pages import Gated

Visit = Callable[..., Person]


@pytest.fixture(scope="module")
def gated() -> Gated:
    """A model that waits in the middle of its answer for a gate to be opened."""
    llm = Gated()
    llm.gate.set()
    return llm


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, gated: Gated) -> Iterator[App]:
    many = {"questions_per_minute": 10_000}
    app = scripted_app(tmp_path_factory.mktemp("data"), {"scripted": gated}, **many)
    yield app
    app.stop()


@pytest.fixture(scope="module")
def visit(app: App) -> Iterator[Visit]:
    """Someone who opens the page, with these cookies."""
    with ExitStack() as people:

        def come(cookies: Mapping[str, str] | None = None) -> Person:
            return people.enter_context(Person(app.page, app.address, cookies))

        yield come
