"""Ports for the servers that the tests start."""

import secrets
import socket

RANGE = range(20_000, 32_000)
"""Below those that systems give to connections on their way out, which could take one that was free
a moment ago."""


def free_port() -> int:
    """One on which nobody listens, drawn so that tests which run at the same time do not meet."""
    while True:
        port = secrets.choice(RANGE)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
