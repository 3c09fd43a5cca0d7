"""`sojourn sessions …`."""

import uuid

from tests.cli.kit import Shell


def test_create_prints_the_new_session(shell: Shell) -> None:
    created = shell.json(
        *("sessions", "create", "s-1", "--user", "u-1"),
        *("-l", "tier=gold", "-l", "note=a=b", "--idle-timeout", "1h30m", "--max-lifetime", "7d"),
    )
    assert created["app"] == shell.app
    assert (created["user"], created["session_id"]) == ("u-1", "s-1")
    assert uuid.UUID(created["uid"]).version == 7
    assert created["status"] == "ACTIVE"
    assert created["labels"] == {"tier": "gold", "note": "a=b"}
    assert created["idle_timeout_seconds"] == 5400
    assert created["max_lifetime_seconds"] == 7 * 86_400
    assert created["revision"] == 1


def test_create_without_an_id_lets_the_server_make_one(shell: Shell) -> None:
    created = shell.json("sessions", "create")
    assert created["session_id"]
    assert shell.json("sessions", "get", created["session_id"])["uid"] == created["uid"]


def test_json_texts_come_back_letter_by_letter(shell: Shell, tmp_path) -> None:
    file = tmp_path / "state.json"
    file.write_text('{"big": 12345678901234567890, "list": [1,\n 2.50]}', encoding="utf-8")
    shell.run(
        *("sessions", "create", "s-1", "--metadata", '{"price": 1.00, "e": 1E2}'),
        *("--state", f"@{file}", "--app-state", '{"shared": "ß"}'),
    )
    line = shell.run("sessions", "get", "s-1").stdout
    assert '"metadata": {"e": 1E2, "price": 1.00}' in line
    assert '"state": {"big": 12345678901234567890, "list": [1,  2.50]}' in line
    assert '"app_state": {"version": 1, "values": {"shared": "ß"}}' in line


def test_if_exists_says_what_happens_to_a_taken_id(shell: Shell) -> None:
    first = shell.json("sessions", "create", "s-1")
    assert "SESSION_EXISTS" in shell.refusal("sessions", "create", "s-1")
    same = shell.json("sessions", "create", "s-1", "--if-exists", "return-existing")
    assert same["uid"] == first["uid"]
    shell.run("sessions", "end", "s-1")
    other = shell.json("sessions", "create", "s-1", "--if-exists", "replace-ended")
    assert other["uid"] != first["uid"]


def test_get_works_by_id_and_by_uid_and_brings_messages_along(shell: Shell) -> None:
    created = shell.json("sessions", "create", "s-1", "--user", "u-1")
    for text in ("a", "b", "c"):
        shell.run("messages", "append", "s-1", text, "--user", "u-1")
    found = shell.json("sessions", "get", "--uid", created["uid"], "--last-messages", "2")
    assert [one["content"] for one in found["messages"]] == ["b", "c"]
    assert shell.json("sessions", "get", "s-1", "--user", "u-1")["uid"] == created["uid"]
    table = shell.table("sessions", "get", "s-1", "--user", "u-1", "--last-messages", "1")
    assert created["uid"] in table
    assert "CONTENT" in table


def test_list_shows_active_sessions_unless_told_otherwise(shell: Shell) -> None:
    for name, status in (("a", ""), ("b", "completed"), ("c", "failed"), ("d", "expired")):
        shell.run("sessions", "create", name)
        if status:
            shell.run("sessions", "end", name, "--status", status)

    def listed(*options: str) -> list[str]:
        return [one["session_id"] for one in shell.lines("sessions", "list", *options)]

    assert listed() == ["a"]
    assert listed("--all") == listed("--status", "any") == ["a", "b", "c", "d"]
    assert listed("--status", "completed", "--status", "failed") == ["b", "c"]
    assert listed("--all", "--newest-first", "--limit", "2") == ["d", "c"]


def test_list_selects_by_labels_user_and_prefix(shell: Shell) -> None:
    shell.run("sessions", "create", "x-1", "--user", "u", "-l", "tier=gold")
    shell.run("sessions", "create", "x-2", "-l", "tier=silver", "-l", "eu=yes")
    shell.run("sessions", "create", "y-1")

    def listed(*options: str) -> list[str]:
        return [one["session_id"] for one in shell.lines("sessions", "list", *options)]

    assert listed("-l", "tier=gold") == ["x-1"]
    assert listed("-l", "tier=gold|silver") == ["x-1", "x-2"]
    assert listed("-l", "tier", "-l", "!eu") == ["x-1"]
    assert listed("-l", "tier!=gold") == ["x-2", "y-1"]
    assert listed("--user", "u") == ["x-1"]
    assert listed("--user", "") == ["x-2", "y-1"]
    assert listed("--prefix", "x-") == ["x-1", "x-2"]
    assert listed("--order", "id", "--newest-first") == ["y-1", "x-2", "x-1"]
    assert listed("--older-than", "1h") == listed("--idle-longer-than", "1h") == []
    assert listed("--busy") == []
    assert len(listed("--not-busy")) == 3


def test_list_goes_on_over_pages_and_streams_lines(shell: Shell) -> None:
    for number in range(7):
        shell.run("sessions", "create", f"s-{number}")
    assert len(shell.lines("sessions", "list", "--limit", "5")) == 5
    full = shell.lines("sessions", "list", "--full")
    assert len(full) == 7
    assert all(one["metadata"] == {} for one in full)


def test_list_as_a_table_names_its_columns(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "--user", "u-1", "-l", "tier=gold")
    table = shell.table("sessions", "list")
    assert all(title in table for title in ("SESSION", "USER", "STATUS", "LABELS"))
    assert "tier=gold" in table
    done = shell.run("sessions", "list", "--status", "failed", "--output", "table")
    assert (done.stdout, done.stderr) == ("", "No session matches.\n")


def test_update_changes_everything_together(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "-l", "a=1", "-l", "b=2", "--state", '{"x": 1, "y": 2}')
    done = shell.json(
        *("sessions", "update", "s-1", "-l", "c=3", "--remove-label", "a"),
        *("--state", '{"z": null}', "--remove-state", "x", "--metadata", '{"k": [1]}'),
        *("--requests", "2", "--errors", "1", "--processing-time", "1500ms"),
        *("--count", "tokens=120", "--idle-timeout", "never"),
    )
    assert done["changed"] is True
    assert done["labels"] == {"b": "2", "c": "3"}
    assert done["metrics"] == {
        "request_count": 2,
        "error_count": 1,
        "processing_time_seconds": 1.5,
        "counters": {"tokens": 120},
    }
    assert done["expire_time"] is None
    found = shell.json("sessions", "get", "s-1")
    assert found["state"] == {"y": 2, "z": None}
    assert found["metadata"] == {"k": [1]}
    shell.run("sessions", "update", "s-1", "--replace-labels", "--replace-state", "-l", "only=1")
    found = shell.json("sessions", "get", "s-1")
    assert (found["labels"], found["state"]) == ({"only": "1"}, {})
    assert "was so already" in shell.table("sessions", "update", "s-1", "-l", "only=1")


def test_update_with_an_old_etag_is_refused(shell: Shell) -> None:
    old = shell.json("sessions", "create", "s-1")["etag"]
    shell.run("sessions", "update", "s-1", "--etag", old, "-l", "a=1")
    said = shell.refusal("sessions", "update", "s-1", "--etag", old, "-l", "a=2")
    assert said.startswith("sojourn: ETAG_MISMATCH: ")


def test_touch_renews_the_idle_deadline(shell: Shell) -> None:
    created = shell.json("sessions", "create", "s-1")
    touched = shell.json("sessions", "touch", "s-1")
    assert touched["expire_time"] > created["expire_time"]
    assert "may be idle until" in shell.table("sessions", "touch", "s-1")


def test_the_first_end_wins(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    done = shell.json("sessions", "end", "s-1", "--reason", "done", "--result", '{"n": 1.0}')
    assert (done["status"], done["changed"], done["end_cause"]) == ("COMPLETED", True, "REQUEST")
    assert shell.json("sessions", "end", "s-1")["changed"] is False
    assert "SESSION_ENDED" in shell.refusal("sessions", "end", "s-1", "--status", "failed")
    line = shell.run("sessions", "get", "s-1").stdout
    assert '"end_reason": "done", "end_result": {"n": 1.0}' in line
    assert shell.table("sessions", "end", "s-1") == "s-1 was already COMPLETED.\n"


def test_reset_clears_and_counts(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "--state", '{"x": 1}')
    shell.run("messages", "append", "s-1", "hello")
    done = shell.json("sessions", "reset", "s-1", "--scope", "history", "--reason", "again")
    assert (done["generation"], done["messages_cleared"], done["scrubbed"]) == (2, 1, True)
    assert shell.json("sessions", "get", "s-1")["state"] == {"x": 1}
    done = shell.json("sessions", "reset", "s-1", "--if-idle", "--generation", "2")
    assert (done["generation"], done["state_keys_cleared"]) == (3, 1)
    assert "GENERATION_CHANGED" in shell.refusal("sessions", "reset", "s-1", "--generation", "2")
    assert "s-1 is reset, generation 4" in shell.table("sessions", "reset", "s-1")


def test_delete_names_the_children_unless_forced(shell: Shell) -> None:
    parent = shell.json("sessions", "create", "parent")
    shell.run("sessions", "create", "child", "--parent", parent["uid"])
    said = shell.refusal("sessions", "delete", "parent", "-v")
    assert said.startswith("sojourn: HAS_CHILDREN: ")
    assert "child" in said
    ended = shell.json("sessions", "end", "parent", "--cascade")
    assert ended["descendants_ended"] == 1
    done = shell.json("sessions", "delete", "parent", "--force")
    assert (done["sessions_deleted"], done["scrubbed"]) == (2, True)
    assert "SESSION_NOT_FOUND" in shell.refusal("sessions", "get", "parent")


def test_delete_says_what_is_gone(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    shell.run("messages", "append", "s-1", "hello")
    assert shell.table("sessions", "delete", "s-1") == (
        "1 session(s) and 1 message(s) are deleted, gone from the store's files.\n"
    )


def test_request_id_makes_a_repeat_safe(shell: Shell) -> None:
    first = shell.json("sessions", "create", "--request-id", "r-1")
    again = shell.json("sessions", "create", "--request-id", "r-1")
    assert again["uid"] == first["uid"]
    assert "REQUEST_ID_REUSED" in shell.refusal("sessions", "create", "x", "--request-id", "r-1")
