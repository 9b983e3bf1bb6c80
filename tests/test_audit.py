"""What CI tells of the known weaknesses of what is installed."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "audit.py"


@pytest.fixture
def audit() -> Any:
    spec = importlib.util.spec_from_file_location("audit", FILE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WEAK = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SOUND = {"name": "b", "version": "1", "vulns": []}
UNKNOWN = {"name": "c", "skip_reason": "not found"}


def test_a_weakness_fails_and_is_named(audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.tell([WEAK, SOUND, UNKNOWN]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "a 1: PYSEC-1, mended in 2",
        "Audited: 2 of 3 packages; of the others the registry tells nothing.",
    ]


def test_a_registry_that_does_not_tell_fails_nothing_and_is_said(
    audit: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.tell([SOUND, UNKNOWN]) == 0
    assert "1 of 2" in capsys.readouterr().out
    monkeypatch.setattr(audit, "ask", lambda _: (_ for _ in ()).throw(OSError("no way out")))
    assert audit.main() == 0
    assert capsys.readouterr().out == "Not audited: no way out\n"
