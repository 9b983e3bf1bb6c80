"""What programs may do, by the clients that people have for it."""

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from gradio_client import Client, handle_file

from rag.llms.scripted import ScriptedLLM
from rag.ui.identity import COOKIE
from tests.browser.conftest import App, scripted_app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    llm = ScriptedLLM("The plums are vermilion. That is all.", tokens_per_second=20)
    settings = {"max_session_answers": 1, "mcp": False}
    app = scripted_app(tmp_path_factory.mktemp("data"), {"scripted": llm}, **settings)
    yield app
    app.stop()


def come(app: App, **options: object) -> Client:
    return Client(app.address, verbose=False, analytics_enabled=False, **options)  # type: ignore[arg-type]


@pytest.fixture
def plums(tmp_path: Path) -> Path:
    file = tmp_path / "plums.txt"
    file.write_text("Ann's plums are of the colour vermilion.")
    return file


def test_what_is_public_is_this_and_nothing_else(app: App) -> None:
    endpoints = come(app).view_api(return_format="dict")
    assert set(endpoints["named_endpoints"]) == {"/ask", "/add", "/list", "/remove"}
    assert endpoints["unnamed_endpoints"] == {}
    documented = (Path(__file__).parents[2] / "docs" / "http.md").read_text("utf-8")
    for name in endpoints["named_endpoints"]:
        assert f"`{name[1:]}`" in documented


def test_a_document_is_added_asked_about_listed_and_removed(app: App, plums: Path) -> None:
    client = come(app)
    added = client.predict(handle_file(plums), "", api_name="/add")
    assert added["notes"] == ["plums.txt is ready."]
    (document,) = client.predict(api_name="/list")["documents"]
    assert document["name"] == "plums.txt"
    answer, more = client.predict("Which colour?", "mine", api_name="/ask")
    assert answer == "The plums are vermilion. That is all."
    assert more["ended"] == "stop"
    assert "vermilion" in more["sources"][0]["text"]
    assert client.predict(document["id"], api_name="/remove") == {"documents": []}
    with pytest.raises(Exception, match="There is no such document"):
        client.predict(document["id"], api_name="/remove")


def test_an_answer_streams(app: App) -> None:
    job = come(app).submit("Which colour?", "none", api_name="/ask")
    told = [text for text, _ in job]
    assert len(told) > 2
    for shorter, longer in pairwise(told):
        assert longer.startswith(shorter)
    assert told[-1] == "The plums are vermilion. That is all."


def test_in_the_line_a_program_is_told_where_it_stands(app: App) -> None:
    limits = app.programs.chat.limits
    config = limits.config
    limits.config = dataclasses.replace(config, max_answers=1, max_waiting=1)
    place = limits.line.join("somebody else", 1, 1)
    assert place
    try:
        job = come(app).submit("Which colour?", "none", api_name="/ask")
        told = next(more["waiting"] for _, more in job if more)
        assert told["number"] == 1
        assert set(told) == {"number", "seconds"}
        with pytest.raises(Exception, match="1 questions wait already"):
            come(app).predict("Which colour?", "none", api_name="/ask")
        place.leave()
        assert job.result(timeout=30)[0] == "The plums are vermilion. That is all."
    finally:
        place.leave()
        limits.config = config


def test_two_programs_are_two_people(app: App, plums: Path) -> None:
    ann, bob = come(app), come(app)
    assert ann.cookies[COOKIE] != bob.cookies[COOKIE]
    (document,) = ann.predict(handle_file(plums), "", api_name="/add")["documents"]
    assert bob.predict(api_name="/list") == {"documents": []}
    with pytest.raises(Exception, match="no such document"):
        bob.predict(document["id"], api_name="/remove")
    bob.session_hash = ann.session_hash
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        bob.predict(api_name="/list")
    assert len(ann.predict(api_name="/list")["documents"]) == 1


def test_who_has_a_cookie_comes_back_to_their_things(app: App, plums: Path) -> None:
    ann = come(app)
    ann.predict(handle_file(plums), "", api_name="/add")
    again = come(app, httpx_kwargs={"cookies": {COOKIE: ann.cookies[COOKIE]}})
    assert len(again.predict(api_name="/list")["documents"]) == 1


def test_another_s_answer_is_not_cancelled(app: App) -> None:
    ann, bob = come(app), come(app)
    job = ann.submit("Which colour?", "none", api_name="/ask")
    with httpx.Client(base_url=app.address, cookies=bob.cookies) as http:
        body = {"session_hash": ann.session_hash, "fn_index": 0, "event_id": "x"}
        assert http.post("gradio_api/cancel", json=body).status_code == 403
        route = f"gradio_api/queue/data?session_hash={ann.session_hash}"
        assert http.get(route).status_code == 403
    assert job.result(timeout=30)[0] == "The plums are vermilion. That is all."


def test_with_plain_http(app: App) -> None:
    """As docs/http.md shows it with curl."""
    with httpx.Client(base_url=app.address, timeout=30) as http:
        http.get("config")
        asked = http.post("gradio_api/call/ask", json={"data": ["Which colour?", "none"]})
        event = asked.json()["event_id"]
        told = http.get(f"gradio_api/call/ask/{event}").text
        assert "event: generating" in told
        assert "That is all." in told.split("event: complete")[1]
        stranger = httpx.get(f"{app.address}gradio_api/call/ask/{event}")
        assert stranger.status_code == 403


@pytest.mark.parametrize(
    ("question", "reason"),
    [("", "The question is empty"), ("x" * 9_000, "more than 8,000 characters")],
)
def test_what_cannot_be_asked_is_said(question: str, reason: str, app: App) -> None:
    with pytest.raises(Exception, match=reason):
        come(app).predict(question, "none", api_name="/ask")


def test_what_cannot_be_added_is_said(app: App) -> None:
    with pytest.raises(Exception, match="There is nothing to add"):
        come(app).predict(None, "", api_name="/add")


def test_no_file_of_the_computer_is_added(app: App) -> None:
    client = come(app)
    for path in ("/etc/hostname", "http://127.0.0.1:1/x"):
        body = {
            "data": [{"path": path, "meta": {"_type": "gradio.FileData"}}, ""],
            "session_hash": client.session_hash,
        }
        with httpx.Client(base_url=app.address, cookies=client.cookies) as http:
            assert http.post("gradio_api/call/add", json=body).status_code == 403


def test_assistants_have_no_door_where_it_is_switched_off(app: App) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    told = {"accept": "application/json, text/event-stream"}
    for path in ("mcp", "mcp/"):
        assert httpx.post(app.address + path, json=ping, headers=told).status_code == 404
