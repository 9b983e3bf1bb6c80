"""Where a Chroma server is, and how it is spoken to."""

from dataclasses import dataclass, field
from typing import Any

import chromadb
import httpx2
from chromadb.config import DEFAULT_DATABASE, DEFAULT_TENANT, Settings

from rag.config import Config

CONNECT_WITHIN = 5.0
"""Seconds to wait for a server to be there at all."""
ANSWER_WITHIN = 60.0
"""Seconds in which a server has to answer a request; Chroma's client would wait for ever."""


@dataclass(frozen=True)
class ChromaServer:
    """Where a Chroma server is, or Chroma Cloud."""

    url: str
    token: str | None = field(default=None, repr=False)
    tenant: str = DEFAULT_TENANT
    database: str = DEFAULT_DATABASE

    @classmethod
    def of(cls, config: Config) -> "ChromaServer | None":
        """The server of the settings (CHROMA_URL and its like); None where none is set."""
        if not config.chroma_url:
            return None
        tenant = config.chroma_tenant or DEFAULT_TENANT
        database = config.chroma_database or DEFAULT_DATABASE
        return cls(config.chroma_url, config.chroma_token, tenant, database)

    def connect(self) -> Any:
        """A client. Raises what Chroma and the HTTP client raise where there is no server."""
        # To connect, to read, to write, to wait for a free connection.
        within = (min(CONNECT_WITHIN, ANSWER_WITHIN), *3 * (ANSWER_WITHIN,))
        # Chroma's client asks at once, before it can be told how long to wait.
        self._heartbeat(within)
        headers, secure = self._headers, self._is_secure
        client: Any = chromadb.HttpClient(
            self.url,
            ssl=secure,
            headers=headers,
            settings=Settings(anonymized_telemetry=False, chroma_server_ssl_verify=secure),
            tenant=self.tenant,
            database=self.database,
        )
        client._server._session.timeout = within
        return client

    def is_there(self) -> bool:
        """Whether it answers, within `CONNECT_WITHIN` seconds."""
        try:
            return self._heartbeat(
                (CONNECT_WITHIN, CONNECT_WITHIN, CONNECT_WITHIN, CONNECT_WITHIN)
            ).is_success
        except httpx2.HTTPError:
            return False

    def _heartbeat(self, within: tuple[float, float, float, float]) -> httpx2.Response:
        address = f"{self.url}/api/v2/heartbeat"
        headers, secure = self._headers, self._is_secure
        return httpx2.get(address, headers=headers, timeout=within, verify=secure)

    @property
    def _is_secure(self) -> bool:
        return self.url.startswith("https:")  # certificates take a tenth of a second to read

    @property
    def _headers(self) -> dict[str, str]:
        if not self.token:
            return {}
        # Chroma Cloud wants the first, a proxy before a server mostly the second.
        return {"x-chroma-token": self.token, "Authorization": f"Bearer {self.token}"}
