"""`/health`: whether the program is ready, for who watches it. It needs no login, and tells nothing
of whoever uses the page."""

import os
import threading
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from rag.preparation import Preparation
from rag.ui.backend import Backend

FRESH = 10.0
"""Seconds for which what was seen of the index is told again: anybody may ask, as often as they
like."""


class Health:
    """Answers 200 with `status` "starting" or "ready", or 503 with "failed", and each part's state.

    A page that is starting can be used: its questions wait. What has failed may come again: a
    model is tried again by the next question, a Chroma server when it is back.
    """

    def __init__(self, backend: Backend):
        self._backend = backend
        self._looking = threading.Lock()
        self._seen = -FRESH
        """When the index was looked at last."""
        self._usable = True

    def answer(self, _: Request) -> Response:
        backend = self._backend
        states = {
            "model": _state(backend.catalog.prepare(backend.config.model, again=False)),
            "search": _state(backend.embedding),
            "samples": _state(backend.samples),
            "index": "ready" if self._index_can_be_used() else "failed",
        }
        if backend.reranking:
            states["reranking"] = _state(backend.reranking)
        worst = next((s for s in ("failed", "starting") if s in states.values()), "ready")
        status = 503 if worst == "failed" else 200
        return JSONResponse({"status": worst, "parts": states}, status)

    def _index_can_be_used(self) -> bool:
        if time.monotonic() - self._seen > FRESH and self._looking.acquire(blocking=False):
            try:
                self._usable, self._seen = self._look(), time.monotonic()
            finally:
                self._looking.release()
        return self._usable

    def _look(self) -> bool:
        server = self._backend.server
        if server:
            return server.is_there()
        return os.access(self._backend.config.data_dir, os.W_OK)


def _state(part: Preparation[Any]) -> str:
    if part.error:
        return "failed"
    return "ready" if part.ready else "starting"
