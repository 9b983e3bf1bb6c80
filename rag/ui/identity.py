"""Who is asking: a random cookie for each browser, and headers that keep the page to itself."""

import re
import secrets
from typing import Any

import gradio as gr
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "rivulet"
YEAR = 365 * 24 * 3600
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)

# Whatever a document or a model puts into the text, the page loads nothing from elsewhere: a
# picture's address would carry what the text knows. Gradio's own page needs inline code.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'"
)


class Identity:
    """ASGI middleware: gives each browser a cookie, and each answer the page's policy.

    Behind a proxy that shows the page under a path, `root_path`, the cookie is kept for that path:
    what else is served at the host does not see it.
    """

    def __init__(self, app: ASGIApp, root_path: str = ""):
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        # Not by the standard library, which raises at the odd cookies of other programs.
        known = token_of(request.cookies.get(COOKIE))
        # Only the page itself gives out identities, and what programs read first in its place:
        # all other requests come after it. A proxy may have left the path as it was.
        begins = scope["path"].removeprefix(self.root_path) in ("", "/", "/config")
        # One that is known is given again: its year begins with each visit.
        given = (known or secrets.token_urlsafe(32)) if begins else None
        # Several proxies, several schemes: the first is the browser's.
        proto = request.headers.get("x-forwarded-proto", scope["scheme"])
        https = proto.split(",")[0].strip() == "https"

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer["Content-Security-Policy"] = POLICY
                answer["Referrer-Policy"] = "no-referrer"
                answer["X-Content-Type-Options"] = "nosniff"
                if given:
                    # In the frame of another site, as on a Space, only such a cookie is kept.
                    site = "SameSite=None; Secure; Partitioned" if https else "SameSite=Lax"
                    kept = f"Path={self.root_path or '/'}; Max-Age={YEAR}"
                    answer.append("Set-Cookie", f"{COOKIE}={given}; {kept}; HttpOnly; {site}")
            await send(message)

        await self.app(scope, receive, with_headers)


def token_of(value: Any) -> str | None:
    """The identity in the value of a cookie, when it is one of ours."""
    return value if isinstance(value, str) and _TOKEN.fullmatch(value) else None


def username(request: HTTPConnection) -> str | None:
    """Who is logged in, as Gradio has it."""
    app = request.app
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    found = next((value for name in names if (value := request.cookies.get(name))), None)
    return app.tokens.get(found) if found else None


def person(request: HTTPConnection) -> str:
    """Whose a request is, for what Gradio itself keeps: as `identity`, but those without a cookie
    are told apart by what they know alone."""
    return f"{username(request) or ''}\n{token_of(request.cookies.get(COOKIE)) or ''}"


def identity(request: gr.Request) -> str:
    """The identity behind a request: its cookie, and its login where there is one.

    Without a cookie (a program, or a browser that keeps none) it is the tab's own, until it
    is reloaded.
    """
    token = token_of(request.cookies.get(COOKIE)) or f"tab {request.session_hash}"
    return f"{request.username or ''}\n{token}"
