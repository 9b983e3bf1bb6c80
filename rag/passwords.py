"""Passwords as hashes from which nobody reads them: scrypt, of the standard library.

A line of a file of them is `user:scrypt$COST$BLOCK$TIMES$SALT$HASH`. Knows nothing of logging in.
"""

import base64
import binascii
import hashlib
import hmac
import os
from pathlib import Path

from rag.errors import ConfigurationError

COST, BLOCK, TIMES = 2**15, 8, 3
"""As OWASP recommends: 32 MB, and some 0.2 s."""
MOST = 2**20
"""Cost beyond which a line is refused: computing it would take gigabytes."""


def hashed(password: str) -> str:
    """What is kept of a password."""
    salt = os.urandom(16)
    parts = (_written(salt), _written(_scrypt(password, salt, COST, BLOCK, TIMES)))
    return "$".join(("scrypt", str(COST), str(BLOCK), str(TIMES), *parts))


def matches(kept: str, password: str) -> bool:
    """Whether it is the password of which this was kept; takes as long where it is not."""
    cost, block, times, salt, wanted = _parsed(kept)
    return hmac.compare_digest(_scrypt(password, salt, cost, block, times), wanted)


def read_file(path: Path) -> dict[str, str]:
    """User names and what is kept of their passwords. Raises ConfigurationError, which shows
    nothing of the file."""
    found: dict[str, str] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigurationError(f"The passwords in {path} cannot be read: {reason}.") from None
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            user, _, kept = line.strip().partition(":")
            try:
                _parsed(kept)
            except ValueError:
                user = ""
            if not user:
                raise ConfigurationError(
                    f"Line {number} of {path} is not user:scrypt$..., as `python -m rag password` "
                    f"makes it."
                )
            found[user] = kept
    if not found:
        raise ConfigurationError(
            f"In {path} there is no user. Make a line by python -m rag password."
        )
    return found


def _scrypt(password: str, salt: bytes, cost: int, block: int, times: int) -> bytes:
    room = 256 * cost * block * times
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=times, maxmem=room)


def _parsed(kept: str) -> tuple[int, int, int, bytes, bytes]:
    """Raises ValueError."""
    name, *numbers, salt, wanted = kept.split("$")
    cost, block, times = (int(number) for number in numbers)
    if name != "scrypt" or not 1 < cost <= MOST or cost & (cost - 1) or not 0 < block * times <= 64:
        raise ValueError("this is no hash of ours")
    try:
        return cost, block, times, _read(salt), _read(wanted)
    except binascii.Error as error:
        raise ValueError("this is no hash of ours") from error


def _written(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _read(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
