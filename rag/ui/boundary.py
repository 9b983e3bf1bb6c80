"""What of Gradio's own routes can be reached, and by whom.

Gradio knows tabs, events and uploads by names that whoever knows them can use, and has routes that
the page does not need. Here a name belongs to the person who used it first, or who was given it;
to anyone else it is not there. Everything is known for as long as it is used, and no longer.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette._utils import get_route_path
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rag.ui.disk import Disk
from rag.ui.identity import COOKIE, person, token_of, username
from rag.ui.login import ADDRESS

logger = logging.getLogger(__name__)

API = "/gradio_api/"
READ = {
    *("info", "theme.css", "startup-events", "login_check", "user", "app_id"),
    *("queue/data", "upload_progress"),
}
"""What the page and the clients read below `API`; besides what belongs to someone."""
OPEN = {"theme.css", "startup-events", "login_check", "user", "app_id"}
"""What is there before the login."""
POSTED = {"queue/join", "cancel", "reset", "upload"}
CLOSED = ("/monitoring", "/openapi.json", "/file", "/proxy")
"""What is outside of `API`, and of no use to the page."""
ASSISTANTS = "/mcp"
"""Where assistants come in, which has a limit of its own."""
MAX_BODY = 1_000_000
"""Bytes of a request that is no upload: a question, an edit, a comment."""
MAX_KNOWN = 50_000
"""Names of a kind that are known at once, the least recently used given up first."""
DEEPEST = 32
"""How deep values may be in one another in a request: files are three or four deep."""


class Known:
    """Whose each of many names is."""

    def __init__(self) -> None:
        self._owners: OrderedDict[str, set[str]] = OrderedDict()

    def give(self, name: str, owner: str) -> None:
        """Gradio keeps a file that two have uploaded only once: it is then theirs both."""
        self._owners.setdefault(name, set()).add(owner)
        self._owners.move_to_end(name)
        while len(self._owners) > MAX_KNOWN:
            self._owners.popitem(last=False)

    def claim(self, name: str, owner: str) -> bool:
        """Whether it is theirs; what is nobody's yet becomes so."""
        if name not in self._owners:
            self.give(name, owner)
        return self.has(name, owner)

    def has(self, name: str, owner: str) -> bool:
        owners = self._owners.get(name)
        if owners:
            self._owners.move_to_end(name)
        return bool(owners) and owner in (owners or ())


class RefusedError(Exception):
    """A request that is not let through, and what is answered."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


NOT_THERE = "There is nothing here."
NOT_YOURS = "This belongs to someone else, or is not there any more. Load the page again."


class Boundary:
    """ASGI middleware behind `Identity`, in front of Gradio."""

    def __init__(self, app: ASGIApp, disk: Disk, uploads_dir: Path):
        self.app = app
        self.disk = disk
        self.uploads_dir = uploads_dir
        """Where Gradio writes what is uploaded."""
        self._uploading = 0
        self.tabs = Known()
        self.events = Known()
        self.uploads = Known()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        who = person(request)
        try:
            receive, send = await self._checked(request, who, receive, send)
        except RefusedError as no:
            # As Gradio and its clients name the reason.
            answer = JSONResponse({"detail": no.reason, "error": no.reason}, no.status)
            await answer(scope, receive, send)
            return
        if get_route_path(scope).rstrip("/") == f"{API}upload":
            await self._upload_is_kept(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def _upload_is_kept(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Where it cannot be, that is said; half of it does not stay."""
        self._uploading += 1
        try:
            await self.app(scope, receive, send)
        except OSError as error:
            logger.error("What was uploaded cannot be kept in %s: %s", self.uploads_dir, error)
            reason = (
                f"The file could not be kept: {error.strerror or error}. See that the disk has "
                f"room and can be written to, and add it again."
            )
            await JSONResponse({"detail": reason, "error": reason}, 507)(scope, receive, send)
        finally:
            self._uploading -= 1
            if not self._uploading:  # or it may be another one's
                # Not in a thread: the next upload may begin at any moment that is waited for.
                _drop_halves(self.uploads_dir)

    async def _checked(
        self, request: HTTPConnection, who: str, receive: Receive, send: Send
    ) -> tuple[Receive, Send]:
        """How the request goes on, where it may. Raises RefusedError."""
        path = get_route_path(request.scope)  # as the routes see it, without the proxy's prefix
        query = parse_qs(request.scope["query_string"].decode("latin-1"))
        _no_other_site(request)
        # A "deep link" shows what another tab has shown, or whatever file someone has uploaded.
        if path.startswith(CLOSED) or "deep_link" in query:
            raise RefusedError(404, NOT_THERE)
        if path.rstrip("/") == "/logout":
            _log_out(request)
        if not path.startswith(API):
            ADDRESS.set((request.scope["client"] or ("",))[0])
            if request.scope["method"] == "POST" and path.rstrip("/") != ASSISTANTS:  # the login
                receive = _again(await _read(receive), receive)
            return receive, send
        name = path.removeprefix(API)
        wants_login = getattr(request.app, "auth", None) is not None
        if wants_login and name not in OPEN and username(request) is None:
            raise RefusedError(401, "Log in first.")
        if request.scope["method"] == "POST":
            return await self._posted(name.rstrip("/"), request, who, receive, send)
        for tab in query.get("session_hash", ()):
            self._tab(tab, who)
        kind, _, rest = name.partition("/")
        if kind == "heartbeat":
            self._tab(rest, who)
        elif kind == "call":
            self._event(rest.rpartition("/")[2], who)
        elif name.startswith("file="):
            if not token_of(request.cookies.get(COOKIE)):  # those who have none are one
                raise RefusedError(403, NOT_YOURS)
            self._upload(name.removeprefix("file="), who)
        elif name.rstrip("/") not in READ:
            raise RefusedError(404, NOT_THERE)
        return receive, send

    async def _posted(
        self, name: str, request: HTTPConnection, who: str, receive: Receive, send: Send
    ) -> tuple[Receive, Send]:
        if name not in POSTED and not name.startswith("call/"):
            raise RefusedError(404, NOT_THERE)
        if name == "upload":
            await asyncio.to_thread(self._room, request)
            return receive, _telling(send, lambda found: self._uploaded(found, who))
        body = await _read(receive)
        try:
            sent = json.loads(body)
        except (ValueError, RecursionError):
            raise RefusedError(400, "This is not JSON.") from None
        if not isinstance(sent, dict):
            raise RefusedError(400, "This is not a JSON object.")
        if (tab := sent.get("session_hash")) is not None:
            self._tab(tab, who)
        if (event := sent.get("event_id")) is not None:
            self._event(event, who)
        for file in _paths(sent):
            self._upload(file, who)
        return _again(body, receive), _telling(send, lambda found: self._joined(found, who))

    def _tab(self, tab: object, who: str) -> None:
        if not isinstance(tab, str) or len(tab) > 100 or not self.tabs.claim(tab, who):
            raise RefusedError(403, NOT_YOURS)

    def _event(self, event: object, who: str) -> None:
        if not isinstance(event, str) or not self.events.has(event, who):
            raise RefusedError(403, NOT_YOURS)

    def _upload(self, file: object, who: str) -> None:
        if not isinstance(file, str) or not self.uploads.has(file, who):
            raise RefusedError(403, NOT_YOURS)

    def _room(self, request: HTTPConnection) -> None:
        """Whether there is room for what is about to be uploaded."""
        length = request.headers.get("content-length", "")
        if not length.isdecimal():
            raise RefusedError(411, "The length of an upload has to be said before.")
        if reason := self.disk.refuses(int(length)):
            raise RefusedError(413, reason)

    def _uploaded(self, found: object, who: str) -> None:
        for file in found if isinstance(found, list) else ():
            self.uploads.give(str(file), who)

    def _joined(self, found: object, who: str) -> None:
        if isinstance(found, dict) and isinstance(event := found.get("event_id"), str):
            self.events.give(event, who)
            # Gradio calls the tab of a program that names none after the event.
            self.tabs.give(event, who)


def _drop_halves(folder: Path) -> None:
    """Remove what Gradio has begun to write of uploads: what is whole has a folder of its own."""
    for file in folder.glob("*"):
        if file.is_file():
            with suppress(OSError):
                file.unlink()


def _no_other_site(request: HTTPConnection) -> None:
    """A page of another site may lead here, and have this page in a frame, but not use it.

    Browsers say this where they also send our cookies to such a page.
    """
    told, scope = request.headers, request.scope
    leads_here = told.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
    if told.get("sec-fetch-site") in ("cross-site", "same-site"):
        if leads_here and get_route_path(scope) in ("", "/"):
            return
        raise RefusedError(403, "Another site may not use this page.")


def _log_out(request: HTTPConnection) -> None:
    """End this browser's login. Gradio would end that of all who have the same user name, and over
    plain HTTP only forget it in the browser."""
    app = request.app
    for cookie in (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}"):
        app.tokens.pop(request.cookies.get(cookie), None)
    request.scope["query_string"] = b"all_session=false"


def _paths(value: object, depth: int = 0) -> Iterator[object]:
    """The paths of all files in a request. Raises RefusedError where some could be hidden."""
    if depth > DEEPEST:
        raise RefusedError(400, "This is too deep.")
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        yield from (found for each in value.values() for found in _paths(each, depth + 1))
    elif isinstance(value, list):
        yield from (found for each in value for found in _paths(each, depth + 1))


async def _read(receive: Receive) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "The request was not whole.")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > MAX_BODY:
            raise RefusedError(413, f"A request may have {MAX_BODY:,} bytes. Shorten the text.")
        parts.append(part)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read, then what comes after it."""
    first = True

    async def replayed() -> Message:
        nonlocal first
        if first:
            first = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed


def _telling(send: Send, tell: Any) -> Send:
    """`send`, that tells of the JSON of an answer before its end is sent: by then whoever asked may
    already ask on."""
    parts: list[bytes] = []
    good = False

    async def told(message: Message) -> None:
        nonlocal good
        if message["type"] == "http.response.start":
            good = message["status"] < 300
        elif good and message["type"] == "http.response.body":
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                tell(json.loads(b"".join(parts)))
        await send(message)

    return told
