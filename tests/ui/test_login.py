"""Who may log in, and how often someone may try."""

import asyncio
import hmac
import time
from pathlib import Path

import pytest

from rag import passwords
from rag.config import Config
from rag.ui import login as module
from rag.ui.login import ADDRESS, FREE, Attempts, Login
from tests.ui.pages import Clock


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 16)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    clock.now = 1_000.0
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def login(clock: Clock) -> Login:
    return Login({"ann": passwords.hashed("plum"), "bob": passwords.hashed("pear")})


def tries(login: Login, user: str, password: str, address: str = "10.0.0.1") -> bool:
    async def check() -> bool:
        ADDRESS.set(address)
        return await login.check(user, password)

    return asyncio.run(check())


def test_each_has_their_own_password(login: Login) -> None:
    assert tries(login, "ann", "plum")
    assert tries(login, "bob", "pear")
    for user, password in (
        ("ann", "pear"),
        ("ann", ""),
        ("", ""),
        ("nobody", "plum"),
        ("Ann", "plum"),
    ):
        assert not tries(login, user, password)


def test_of_an_address_each_further_try_waits_longer(login: Login, clock: Clock) -> None:
    for number in range(FREE):
        assert not tries(login, "nobody", str(number))
    assert not tries(login, "ann", "plum")  # the right one has to wait too
    waits = []
    for _ in range(12):
        began = clock.now
        while login._attempts.wait(("address", "10.0.0.1")):
            clock.now += 1
        waits.append(clock.now - began)
        tries(login, "nobody", "x")
    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 900
    assert tries(login, "ann", "plum", address="10.0.0.2")
    clock.now += 900
    assert tries(login, "ann", "plum")
    assert not tries(login, "ann", "x")
    assert tries(login, "ann", "plum")  # it is forgiven


def test_a_name_is_guarded_from_many_addresses(login: Login, clock: Clock) -> None:
    for number in range(FREE + 20):
        clock.now += 60
        assert not tries(login, "ann", str(number), address=f"10.0.1.{number}")
    assert not tries(login, "ann", "plum", address="10.0.2.1")
    assert tries(login, "bob", "pear", address="10.0.2.1")
    clock.now += 60  # at most: nobody locks her out for long
    assert tries(login, "ann", "plum", address="10.0.2.1")


def test_where_a_user_was_before_others_do_not_keep_them_out(login: Login) -> None:
    assert tries(login, "ann", "plum", address="10.0.0.9")
    for number in range(50):
        tries(login, "ann", str(number), address=f"10.0.1.{number}")
    assert not tries(login, "ann", "plum", address="10.0.0.1")
    assert tries(login, "ann", "plum", address="10.0.0.9")


def test_of_an_ipv6_network_it_is_counted_together(login: Login) -> None:
    for number in range(FREE):
        tries(login, "nobody", "x", address=f"2001:db8::{number}")
    assert not tries(login, "ann", "plum", address="2001:db8::ffff")
    assert tries(login, "ann", "plum", address="2001:db8:1::1")
    assert module._network("::ffff:10.0.0.1") == module._network("::ffff:10.0.0.1")
    assert module._network("not an address" * 100) == ("not an address" * 100)[:100]


def test_many_at_the_same_time_are_not_free(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    real = passwords.matches
    monkeypatch.setattr(passwords, "matches", lambda *of: asked.append(of) or real(*of))

    async def flood() -> None:
        ADDRESS.set("10.0.0.1")
        await asyncio.gather(*(login.check("ann", str(number)) for number in range(100)))

    asyncio.run(flood())
    assert len(asked) == FREE


def test_the_time_tells_nothing_of_who_there_is(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a name that nobody has the same is computed, and compared in constant time."""
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append(len(b)) or real(a, b))
    tries(login, "ann", "x")
    tries(login, "nobody", "x")
    assert compared == [64, 64]


def test_what_is_counted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KNOWN", 10)
    attempts = Attempts()
    for number in range(100):
        attempts.failed(("address", str(number)))
    assert len(attempts._wrong) == 10


def test_earlier_ones_are_forgiven(clock: Clock) -> None:
    attempts = Attempts()
    key = ("address", "x")
    for _ in range(FREE):
        attempts.failed(key)
    assert attempts.wait(key) > 0
    clock.now += module.FORGIVEN + 1
    attempts.failed(key)
    assert attempts.wait(key) == 0


def test_the_log_does_not_say_what_was_typed(
    login: Login, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(FREE + 2):
        tries(login, "typedname", "typedpassword")
    assert "10.0.0.1" in caplog.text
    assert "typed" not in caplog.text


def test_of_the_settings(tmp_path: Path) -> None:
    assert Login.of(Config()) is None
    file = tmp_path / "users"
    file.write_text(f"bob:{passwords.hashed('pear')}\n")
    both = Login.of(Config(auth=(("ann", "plum"),), auth_file=file))
    assert both
    assert tries(both, "ann", "plum")
    assert tries(both, "bob", "pear")
    assert "plum" not in repr(vars(both))


def test_who_sends_it_each_time_has_it_computed_once(
    login: Login, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def counting(kept: str, password: str) -> bool:
        computed.append(password)
        return matches(kept, password)

    matches = passwords.matches
    monkeypatch.setattr(passwords, "matches", counting)

    def each(user: str, password: str) -> bool:
        return asyncio.run(login.check_each(user, password))

    assert [each("ann", "plum") for _ in range(3)] == [True] * 3
    assert computed == ["plum"]
    assert [each("ann", "pear"), each("bob", "plum"), each("a", "nnplum")] == [False] * 3
    assert not each('ann", "plum', "")
    assert "plum" not in repr(vars(login))
    monkeypatch.setattr(module, "MAX_KNOWN", 1)
    assert each("bob", "pear")
    assert len(login._right) == 1


def test_a_password_takes_a_while_to_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 2**15)
    began = time.perf_counter()
    passwords.hashed("plum")
    assert time.perf_counter() - began > 0.02  # a guard against a cost that was forgotten
