"""`sojourn users …` and `sojourn audit`."""

import json

from tests.cli.kit import Shell


def test_a_user_is_erased_with_a_receipt(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "--user", "ann", "--user-state", '{"lang": "de"}')
    shell.run("messages", "append", "s-1", "hello", "--user", "ann")
    receipt = shell.json("users", "erase", "ann", "--yes")
    assert (receipt["user"], receipt["sessions"], receipt["messages"]) == ("ann", 1, 1)
    assert shell.json("sessions", "count", "--status", "any")["count"] == 0
    [entry] = shell.lines("audit", "--cause", "user-erased")
    assert entry["erased"]["sessions"] == 1
    assert "ann" not in json.dumps(entry)
    assert "0 session(s)" in shell.table("users", "erase", "ann", "--yes")


def test_the_audit_shows_what_was_done_and_by_whom(shell: Shell) -> None:
    created = shell.json("sessions", "create", "s-1", "--user", "ann", "--actor", "ops")
    shell.run("sessions", "reset", "s-1", "--user", "ann", "--actor", "ops")
    entries = shell.lines("audit", "--uid", created["uid"], "--since", "1h")
    assert entries[0]["cause"] == "RESET"
    assert entries[0]["actor"] == "ops"
    assert entries[0]["session"]["session_id"] == "s-1"
    assert shell.lines("audit", "--user", "ann", "--session", "s-1", "--by", "ops") == entries
    assert [one["cause"] for one in shell.lines("audit", "--cause", "reset")] == ["RESET"]
    assert not shell.lines("audit", "--by", "nobody")
    assert shell.lines("audit", "--limit", "1") == shell.lines("audit")[:1]
    assert not shell.lines("audit", "--until", "2020-01-01T00:00:00Z")
    assert "ann/s-1" in shell.table("audit")
    assert "2h ago" in shell.refusal("audit", "--since", "yesterday", status=2)
