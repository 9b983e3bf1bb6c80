"""Who comes in by `/mcp`: what is read of a request before it is answered.

The door itself is opened by a real client in tests/strangers/test_mcp.py.
"""

import base64

import pytest

from rag.ui.assistants import _basic


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("header", "pair"),
    [
        (f"Basic {coded('ann:plum')}", ("ann", "plum")),
        (f"basic {coded('änn:plüm: 1')}", ("änn", "plüm: 1")),
        (f"Basic {coded(':')}", ("", "")),
        (f"Basic {coded('ann')}", None),
        (f"Bearer {coded('ann:plum')}", None),
        ("Basic ann:plum", None),
        ("Basic /w==", None),
        ("Basic é", None),
        ("Basic", None),
        ("", None),
    ],
)
def test_name_and_password_of_a_header(header: str, pair: tuple[str, str] | None) -> None:
    assert _basic(header) == pair
