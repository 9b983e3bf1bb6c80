"""Who is asking, through a real application."""

from http.cookies import SimpleCookie

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

from rag.ui.identity import COOKIE, POLICY, Identity, identity, token_of


async def who(request: Request) -> Response:
    return JSONResponse(identity(gr.Request(request, session_hash="tab1")))


async def fails(request: Request) -> Response:
    return PlainTextResponse("no", status_code=500, headers={"Set-Cookie": "other=1; Path=/"})


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


@pytest.fixture
def client() -> TestClient:
    app = Starlette(
        routes=[
            Route("/", who),
            Route("/who", who),
            Route("/fails", fails),
            WebSocketRoute("/socket", socket),
        ],
        middleware=[Middleware(Identity)],
    )
    return TestClient(app)


def cookie(response: Response) -> str | None:
    """The cookie that a response sets, as it stands in the header."""
    return next(
        (v for v in response.headers.get_list("set-cookie") if v.startswith(COOKIE + "=")), None
    )


def test_the_page_gives_out_an_identity(client: TestClient) -> None:
    given = cookie(client.get("/"))
    assert given is not None
    (morsel,) = SimpleCookie(given).values()
    assert token_of(morsel.value)
    assert morsel["httponly"]
    assert morsel["samesite"] == "Lax"
    assert morsel["path"] == "/"
    assert int(morsel["max-age"]) > 30 * 24 * 3600
    assert not morsel["secure"]


def test_no_two_are_the_same(client: TestClient) -> None:
    given = set()
    for _ in range(20):
        client.cookies.clear()
        given.add(cookie(client.get("/")))
    assert len(given) == 20


def test_behind_https_it_is_kept_in_a_frame_too(client: TestClient) -> None:
    given = cookie(client.get("/", headers={"x-forwarded-proto": "https, http"}))
    assert given is not None
    assert {"HttpOnly", "SameSite=None", "Secure", "Partitioned"} <= set(given.split("; "))
    over_https = cookie(TestClient(client.app, base_url="https://testserver").get("/"))
    assert over_https is not None
    assert "; Secure; Partitioned" in over_https


@pytest.mark.parametrize("path", ["/", "/team/rivulet", "/team/rivulet/"])
def test_behind_a_path_it_is_kept_for_that_path(path: str) -> None:
    """Whether the proxy takes the path off or leaves it."""
    app = Starlette(
        routes=[Route("/", who), Route("/team/rivulet", who), Route("/team/rivulet/", who)],
        middleware=[Middleware(Identity, root_path="/team/rivulet")],
    )
    given = cookie(TestClient(app).get(path))
    assert given is not None
    assert "; Path=/team/rivulet; " in given


@pytest.mark.parametrize("path", ["/who", "/fails", "/nothing-here"])
def test_other_requests_give_out_none(client: TestClient, path: str) -> None:
    assert cookie(client.get(path)) is None


def test_a_valid_one_is_kept_and_its_year_begins_again(client: TestClient) -> None:
    given = cookie(client.get("/"))
    mine = client.get("/who").json()
    again = client.get("/")
    assert cookie(again) == given
    assert again.json() == mine
    assert client.cookies[COOKIE] in mine


@pytest.mark.parametrize(
    "forged", ["", "x", "a" * 42, "a" * 44, "a" * 42 + "/", "../../" + "a" * 37, "ä" * 43]
)
def test_a_forged_one_is_replaced(client: TestClient, forged: str) -> None:
    headers = {"cookie": f"{COOKIE}={forged}".encode("latin-1")}
    given = cookie(client.get("/", headers=headers))
    assert given is not None
    assert f"{COOKIE}={forged};" not in given
    assert client.get("/who", headers=headers).json().endswith("tab tab1")


@pytest.mark.parametrize(
    "others",
    [
        "a(b=1; ",
        "a/b=1; ",
        '{"json": [1, 2]}; ',
        "=; ",
        ";;; ",
        'x="unclosed; ',
        "ü=ö; ",
        "a[]=1; ",
    ],
)
def test_other_cookies_of_the_host_do_no_harm(client: TestClient, others: str) -> None:
    """Cookies are shared by all programs of a host, whatever their port."""
    token = "t" * 43
    headers = {"cookie": f"{others}{COOKIE}={token}".encode("latin-1")}
    answer = client.get("/", headers=headers)
    assert answer.json() == f"\n{token}"
    assert str(cookie(answer)).startswith(f"{COOKIE}={token}; ")


@pytest.mark.parametrize("path", ["/", "/who", "/fails", "/nothing-here"])
def test_every_answer_has_the_policy(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"


def test_the_policy_lets_nothing_load_from_elsewhere() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules["default-src"] == "'self'"
    assert rules["object-src"] == "'none'"
    for name, sources in rules.items():
        assert not {"*", "http:", "https:"} & set(sources.split()), name
        assert "//" not in sources


def test_cookies_of_the_application_are_kept(client: TestClient) -> None:
    assert "other=1; Path=/" in client.get("/fails").headers.get_list("set-cookie")


def test_websockets_pass(client: TestClient) -> None:
    with client.websocket_connect("/socket") as websocket:
        assert websocket.receive_text() == "hello"


def asks(token: str | None, username: str | None = None, tab: str = "tab1") -> gr.Request:
    headers = [(b"cookie", f"{COOKIE}={token}".encode())] if token else []
    scope = {"type": "http", "headers": headers, "path": "/"}
    return gr.Request(Request(scope), username=username, session_hash=tab)


def test_whoever_logs_in_is_someone_else_in_the_same_browser() -> None:
    token = "t" * 43
    people = [identity(asks(token, name)) for name in (None, "ann", "bob")]
    assert len(set(people)) == 3
    assert identity(asks(token, "ann", tab="tab2")) == people[1]


def test_the_same_login_in_another_browser_is_someone_else() -> None:
    assert identity(asks("t" * 43, "ann")) != identity(asks("u" * 43, "ann"))


def test_a_login_cannot_be_made_up_from_a_cookie() -> None:
    assert identity(asks(None, None, tab="x")) != identity(asks(None, None, tab="y"))
    forged = identity(asks("ann\n" + "t" * 39))
    assert forged == "\ntab tab1"


def test_without_a_cookie_it_is_the_tabs_own() -> None:
    assert identity(asks(None, tab="tab1")) != identity(asks(None, tab="tab2"))
