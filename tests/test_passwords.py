"""Passwords as they are kept."""

from pathlib import Path

import pytest

from rag import passwords
from rag.errors import ConfigurationError
from rag.passwords import hashed, matches, read_file


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 16)


@pytest.mark.parametrize("password", ["secret", "", "ä€𝄞", "a:b$c,d", "x" * 5_000])
def test_a_password_matches_its_own_hash_alone(password: str) -> None:
    kept = hashed(password)
    assert matches(kept, password)
    assert not matches(kept, password + "x")
    assert password not in kept or not password
    assert hashed(password) != kept  # so that nobody sees who has the same


def test_the_cost_is_kept_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = hashed("secret")
    monkeypatch.setattr(passwords, "COST", 64)
    assert matches(kept, "secret")


def test_a_file_of_them(tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(
        f"# who may come in\n\nann:{hashed('plum')}\nbob: {hashed('pear')}\n".replace(": ", ":")
    )
    users = read_file(file)
    assert list(users) == ["ann", "bob"]
    assert matches(users["bob"], "pear")


@pytest.mark.parametrize(
    "line",
    [
        "ann:plum",
        "ann",
        ":scrypt$16$8$1$AAAA$AAAA",
        "ann:scrypt$16$8$1$AAAA",
        "ann:scrypt$15$8$1$AAAA$AAAA",
        "ann:scrypt$1073741824$8$1$AAAA$AAAA",
        "ann:scrypt$16$1000$8$AAAA$AAAA",
        "ann:scrypt$16$8$1$?$AAAA",
        "ann:md5$16$8$1$AAAA$AAAA",
        "ann:scrypt$x$8$1$AAAA$AAAA",
    ],
)
def test_a_line_that_is_none_is_named_and_not_shown(line: str, tmp_path: Path) -> None:
    file = tmp_path / "users"
    file.write_text(f"bob:{hashed('pear')}\n{line}\n")
    with pytest.raises(ConfigurationError, match=r"^Line 2 of .*python -m rag password") as raised:
        read_file(file)
    assert "plum" not in str(raised.value)


@pytest.mark.parametrize("content", [None, b"", b"# nobody\n", b"\xff\xfe\xff"])
def test_a_file_without_users_is_said(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "users"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="users"):
        read_file(file)
