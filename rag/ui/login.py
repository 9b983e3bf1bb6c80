"""Who may log in, and how often someone may try. Knows nothing of gradio.

Behind a proxy on the same computer the address is the one that the proxy names last: the web server
believes no other.
"""

import asyncio
import hmac
import ipaddress
import json
import logging
import secrets
import time
from collections import OrderedDict
from contextvars import ContextVar

from rag import passwords
from rag.config import Config

logger = logging.getLogger(__name__)

ADDRESS: ContextVar[str] = ContextVar("address", default="")
"""Where the request comes from that is being answered."""
FREE = 5
"""Wrong passwords after which each further try has to wait twice as long."""
LONGEST = {"address": 900.0, "user": 60.0}
"""Seconds that a try has to wait at most; for a name less, so that nobody can lock a user out."""
FORGIVEN = 3600.0
"""Seconds without a wrong password after which the earlier ones do not count."""
MAX_KNOWN = 10_000
"""Addresses and names whose wrong passwords are counted, the oldest given up first."""
MAX_PASSWORD = 1_000

Key = tuple[str, str]
"""What is counted by: ("address", ...) or ("user", ...)."""


class Attempts:
    """Wrong passwords, by who has given them."""

    def __init__(self) -> None:
        self._wrong: OrderedDict[Key, tuple[int, float]] = OrderedDict()
        """How many, and when the last one."""

    def wait(self, key: Key) -> float:
        """Seconds for which there must be no further try."""
        wrong, last = self._wrong.get(key, (0, 0.0))
        if wrong < FREE:
            return 0.0
        pause = min(2.0 ** min(wrong - FREE, 30), LONGEST[key[0]])
        return max(0.0, last + pause - time.monotonic())

    def failed(self, key: Key) -> None:
        now = time.monotonic()
        wrong, last = self._wrong.pop(key, (0, now))
        self._wrong[key] = (1 if now - last > FORGIVEN else wrong + 1), now
        while len(self._wrong) > MAX_KNOWN:
            self._wrong.popitem(last=False)

    def succeeded(self, key: Key) -> None:
        self._wrong.pop(key, None)


class Login:
    """The users, and the check that Gradio calls."""

    def __init__(self, users: dict[str, str]):
        """`users`: what is kept of the password of each."""
        self._users = users
        self._nobody = passwords.hashed(secrets.token_urlsafe())
        self._attempts = Attempts()
        self._welcome: OrderedDict[Key, None] = OrderedDict()
        """The addresses from which a user has logged in: nobody else's tries keep them out."""
        self._turn = asyncio.Lock()
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        """Names with their right passwords, as nobody without the key can try them."""

    @classmethod
    def of(cls, config: Config) -> "Login | None":
        """The login of these settings; None where there is none. Raises ConfigurationError."""
        users = passwords.read_file(config.auth_file) if config.auth_file else {}
        users |= {user: passwords.hashed(password) for user, password in config.auth}
        return cls(users) if users else None

    async def check(self, user: str, password: str) -> bool:
        """Whether they may come in. Of a name that nobody has it takes as long to say so."""
        address = _network(ADDRESS.get())
        keys = [("address", address)]
        if user in self._users and (address, user) not in self._welcome:
            keys.append(("user", user))
        if wait := max(map(self._attempts.wait, keys)):
            logger.warning("A login from %s was refused: to wait %.0f s", address, wait)
            return False
        for key in keys:  # before it is known: many at the same time would be free
            self._attempts.failed(key)
        kept = self._users.get(user, self._nobody)
        async with self._turn:  # so that it takes one core at most
            right = await asyncio.to_thread(passwords.matches, kept, password[:MAX_PASSWORD])
        if not (right and user in self._users):
            logger.warning("A login from %s failed", address)
            return False
        for key in keys:
            self._attempts.succeeded(key)
        self._welcome[address, user] = None
        while len(self._welcome) > MAX_KNOWN:
            self._welcome.popitem(last=False)
        return True

    async def check_each(self, user: str, password: str) -> bool:
        """As `check`, for who sends both with each request: what was right once is known again
        without that its hash is computed."""
        told = json.dumps([user, password]).encode()
        known = hmac.digest(self._key, told, "sha256")
        if known not in self._right:
            if not await self.check(user, password):
                return False
            self._right[known] = None
            while len(self._right) > MAX_KNOWN:
                self._right.popitem(last=False)
        return True


def _network(address: str) -> str:
    """What stands for one who asks: of IPv6, where each has billions, the network."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if found.version == 6 and not found.ipv4_mapped:
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
