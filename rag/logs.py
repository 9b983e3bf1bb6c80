"""The log: one line for each event, in text or JSON, without keys, passwords and people's texts.

Of an error that is not ours only the kind and the place are written, unless RAG_LOG_TEXT asks for
more: its message may hold what a person or a document said. Knows nothing of what is logged.
"""

import json
import logging
import traceback
from datetime import UTC, datetime

from rag.config import Config
from rag.errors import RivuletError

NOISY = ("httpx", "httpx2", "chromadb", "mcp", "sse_starlette")
"""Libraries of which only warnings are of interest."""
SERVERS = ("uvicorn", "uvicorn.error", "uvicorn.access")
"""They bring handlers of their own."""
SHORT = 4
"""Characters below which a password is not looked for: it would be found in any word."""


def set_up(config: Config) -> None:
    """Have all that is logged written to the standard error, as the settings have it."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(config))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def adopt_servers() -> None:
    """Have the web server log as all others do; it has to be running."""
    for name in SERVERS:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True


class Formatter(logging.Formatter):
    """A record -> its line; a traceback follows in text, and is a part of the object in JSON."""

    def __init__(self, config: Config):
        super().__init__()
        self._as_json, self._texts = config.log == "json", config.log_text
        self._secrets = sorted(secrets_of(config), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        message = self._without_secrets(record.getMessage())
        error = record.exc_info[1] if record.exc_info else None
        trace = self._without_secrets(self._traced(error)) if error else ""
        if not self._as_json:
            # One line each: what a file is called must not look like another event.
            line = f"{record.levelname} {message}".translate(_SIGNS)
            return f"{line}\n{trace}" if trace else line
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        if trace:
            event["trace"] = trace
        return json.dumps(event)

    def _traced(self, error: BaseException | None) -> str:
        """Where an error comes from, and those that it comes from."""
        parts: list[str] = []
        seen: set[int] = set()
        while error and id(error) not in seen:
            seen.add(id(error))
            ours = self._texts or isinstance(error, RivuletError | OSError)
            kind = f"{type(error).__module__}.{type(error).__qualname__}"
            said = f": {error}" if ours else ""
            parts.insert(0, "".join(traceback.format_tb(error.__traceback__)) + kind + said)
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n\n".join(parts)

    def _without_secrets(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def secrets_of(config: Config) -> set[str]:
    """What nobody may read."""
    known = {config.openai_api_key, config.chroma_token, *(word for _, word in config.auth)}
    return {secret for secret in known if secret and len(secret) >= SHORT}


_SIGNS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))}
