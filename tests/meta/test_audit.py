"""The audit of locked packages: a known weakness fails, and silence is said aloud."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tools import audit

GOOD = {"name": "grpcio", "version": "1.80.0", "vulns": []}
WEAK = {
    "name": "pyjwt",
    "version": "2.0.0",
    "vulns": [{"id": "CVE-2022-29217", "fix_versions": ["2.4.0"], "aliases": []}],
}
UNKNOWN = {"name": "ours", "skip_reason": "Dependency not found"}


def answering(monkeypatch: pytest.MonkeyPatch, *packages: dict[str, Any] | str) -> None:
    """Let the index answer this for every lock; a text: that instead of JSON."""
    text = packages[0] if isinstance(packages[0], str) else json.dumps({"dependencies": packages})

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        assert "--require-hashes" in command
        return subprocess.CompletedProcess(command, 1, str(text), "")

    monkeypatch.setattr(subprocess, "run", run)


def test_a_known_weakness_fails_and_is_named_once(monkeypatch, capsys):
    answering(monkeypatch, GOOD, WEAK, UNKNOWN)
    assert audit.main() == 1
    told = capsys.readouterr().out
    assert told.count("pyjwt 2.0.0: CVE-2022-29217 (fixed in 2.4.0)") == 1
    assert "2 packages audited, 1 unknown" in told


def test_where_nothing_is_known_all_is_well(monkeypatch, capsys):
    answering(monkeypatch, GOOD)
    assert audit.main() == 0
    assert "NOT AUDITED" not in capsys.readouterr().out


@pytest.mark.parametrize("answer", [UNKNOWN, "no JSON", ""])
def test_where_nobody_can_be_asked_that_is_said(monkeypatch, capsys, answer):
    answering(monkeypatch, answer)
    assert audit.main() == 0
    assert capsys.readouterr().out.count("NOT AUDITED") == len(audit.LOCKS)


def test_who_takes_too_long_is_not_waited_for(monkeypatch, capsys):
    def run(command: list[str], timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    assert audit.main() == 0
    assert "NOT AUDITED" in capsys.readouterr().out
