"""The login of the running page."""

import json
from collections.abc import Iterator

import httpx
import pytest
from gradio_client import Client

from rag import passwords
from rag.llms.scripted import ScriptedLLM
from rag.ui.boundary import API, OPEN
from tests.browser.conftest import App, scripted_app
from tests.strangers.conftest import Visit
from tests.strangers.people import Person


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "COST", 16)
        app = scripted_app(
            tmp_path_factory.mktemp("data"),
            {"scripted": ScriptedLLM("The answer.")},
            auth=(("ann", "plum"), ("bob", "pear")),
        )
    yield app
    app.stop()


def logs_in(person: Person, user: str, password: str, **headers: str) -> httpx.Response:
    form = {"username": user, "password": password}
    return person.http.post("/login", data=form, headers=headers)


def test_without_it_there_is_nothing(app: App, visit: Visit) -> None:
    eve = visit()
    assert "auth_required" in eve.http.get("/").text
    assert "components" in eve.http.get("/").text
    assert "My documents" not in eve.http.get("/").text
    assert eve.http.get("/config").status_code == 401
    for route in ("info", "queue/data?session_hash=x", f"heartbeat/{eve.tab}", "upload_progress"):
        assert eve.http.get(API + route).status_code == 401, route
    for route in ("queue/join", "cancel", "reset", "call/ask", "upload", "component_server"):
        assert eve.http.post(API + route, json={"data": []}).status_code == 401, route
    for route in OPEN:  # what is there all the same tells nothing
        assert "scripted" not in eve.http.get(API + route).text


@pytest.mark.parametrize("cookie", ["x", "ann", ""])
def test_a_made_up_login_is_none(cookie: str, app: App, visit: Visit) -> None:
    eve = visit()
    for name in ("access-token-", "access-token-unsecure-"):
        eve.http.cookies.set(name + app.page.app.cookie_id, cookie)
    assert eve.http.get("/config").status_code == 401


def test_with_it_the_page_is_there(visit: Visit) -> None:
    ann = visit()
    assert logs_in(ann, "ann", "pear").status_code == 400
    assert logs_in(ann, "ann", "plum").json() == {"success": True}
    ann.add("ann.txt", "Ann has vermilion plums.")
    assert "ann.txt" in ann.shelf()


def test_another_login_in_the_same_browser_is_someone_else(visit: Visit) -> None:
    ann = visit()
    logs_in(ann, "ann", "plum")
    ann.add("ann.txt", "Ann has vermilion plums.")
    cookie = ann.token
    tab = ann.tab
    logs_in(ann, "bob", "pear")
    assert ann.token == cookie
    ann.tab = "anothertab"
    assert "ann.txt" not in ann.shelf()
    ann.tab = tab
    assert ann.join(ann.number("notes", "click"), []).status_code == 403


def test_the_same_login_in_another_browser_has_its_own(visit: Visit) -> None:
    """A link is shown to many with one password."""
    first, second = visit(), visit()
    logs_in(first, "bob", "pear")
    logs_in(second, "bob", "pear")
    first.add("first.txt", "The first has quinces.")
    assert "first.txt" not in second.shelf()


def test_logging_out_ends_this_browser_s_login_alone(app: App, visit: Visit) -> None:
    first, second = visit(), visit()
    for person in (first, second):
        logs_in(person, "bob", "pear")
    kept = dict(first.http.cookies)
    first.http.get("/logout")
    assert first.http.get("/config").status_code == 401
    assert second.http.get("/config").status_code == 200
    for name, value in kept.items():  # who has noted them down is out too
        first.http.cookies.set(name, value)
    assert first.http.get("/config").status_code == 401


def test_the_page_has_a_way_out(app: App) -> None:
    (button,) = [b for b in app.page.blocks.values() if getattr(b, "elem_id", "") == "logout"]
    assert button.visible
    assert button.link == "logout"


def test_tries_are_limited_and_by_the_proxy_s_word_for_the_address(visit: Visit) -> None:
    eve = visit()
    for number in range(20):
        told = {"x-forwarded-for": f"203.0.113.{number}, 198.51.100.7"}  # the first is made up
        assert logs_in(eve, "ann", str(number), **told).status_code == 400
    told = {"x-forwarded-for": "203.0.113.77, 198.51.100.7"}
    assert logs_in(eve, "bob", "pear", **told).status_code == 400
    assert logs_in(eve, "bob", "pear", **{"x-forwarded-for": "198.51.100.8"}).status_code == 200


def test_a_password_is_not_as_long_as_a_book(visit: Visit) -> None:
    assert logs_in(visit(), "ann", "x" * 2_000_000).status_code == 413


def test_a_program_logs_in_too(app: App) -> None:
    client = Client(app.address, auth=("bob", "pear"), verbose=False)
    assert client.config["title"] == "Rivulet"
    assert client.predict(api_name="/list") == {"documents": []}
    with pytest.raises(Exception, match=r"(?i)auth|login|credential"):
        Client(app.address, verbose=False)


def test_no_password_is_kept_or_told(app: App, visit: Visit) -> None:
    ann = visit()
    logs_in(ann, "bob", "pear", **{"x-forwarded-for": "198.51.100.9"})
    told = json.dumps(ann.http.get("/config").json()) + ann.http.get("/").text
    for secret in ("plum", '"pear"', "scrypt$"):
        assert secret not in told
