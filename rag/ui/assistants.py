"""`/mcp`: the door by which assistants come to the tools that they may call. As docs/mcp.md has it.

Who may come in is who may open the page: where that has a login, name and password come with each
request. What is behind it is loaded for the first one that comes. Knows nothing of the protocol.
"""

import asyncio
import base64
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from rag.ui.boundary import RefusedError
from rag.ui.login import Login
from rag.ui.programs import Programs

if TYPE_CHECKING:
    from rag.ui.tools import Tools

MAX_BODY = 4_000_000
"""Bytes of a request. It is held in memory, several times over; larger files come by the page."""
INVALID = -32600
"""JSON-RPC's number for a request that cannot be one."""
ASK_LOGIN = {"WWW-Authenticate": 'Basic realm="Rivulet", charset="UTF-8"'}


class Assistants:
    """An ASGI app."""

    def __init__(self, programs: Programs, login: Login | None, uploads: Path):
        self.login = login
        self._parts = programs, uploads
        self._tools: Tools | None = None
        self._loading = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            if request.headers.get("origin") is not None:
                # No page in a browser has anything to do here, be it of this host: its name may
                # have been made to lead here.
                raise RefusedError(403, "A page in a browser may not use this.")
            user = await self._user(request)
            if request.method not in ("POST", "DELETE"):
                raise RefusedError(405, "There is nothing to be read here, only to be asked.")
            length = request.headers.get("content-length", "")
            if length.isdecimal() and int(length) > MAX_BODY:
                text = f"A request may have {MAX_BODY:,} bytes. Add larger files on the page."
                raise RefusedError(413, text)
            tools = await self._loaded()
            await tools.answer(scope, receive, send, user)
        except RefusedError as no:
            error = {"code": INVALID, "message": no.reason}
            headers = {401: ASK_LOGIN, 405: {"Allow": "POST, DELETE"}}.get(no.status)
            body = {"jsonrpc": "2.0", "id": None, "error": error}
            await JSONResponse(body, no.status, headers)(scope, receive, send)

    async def _user(self, request: Request) -> str:
        """Who has logged in; "" where the page has no login. Raises RefusedError."""
        if not self.login:
            return ""
        pair = _basic(request.headers.get("authorization", ""))
        if not pair:
            raise RefusedError(401, "Log in: send name and password as HTTP Basic has it.")
        if not await self.login.check_each(*pair):
            text = "Wrong name or password. After several of these each further try has to wait."
            raise RefusedError(401, text)
        return pair[0]

    async def _loaded(self) -> "Tools":
        async with self._loading:
            if not self._tools:
                self._tools = await asyncio.to_thread(_load, *self._parts)
        return self._tools


def _load(programs: Programs, uploads: Path) -> "Tools":
    from rag.ui.tools import Tools

    return Tools(programs, uploads)


def _basic(header: str) -> tuple[str, str] | None:
    """Name and password in a header (RFC 7617)."""
    scheme, _, coded = header.partition(" ")
    try:
        user, colon, password = base64.b64decode(coded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (user, password) if scheme.lower() == "basic" and colon else None
