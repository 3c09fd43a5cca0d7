"""`sojourn sessions end-all` and its like, `messages replace`, `export`, `import`, `info`."""

import json

from tests.cli.kit import Shell


def test_selected_sessions_end_or_go_and_the_newest_stay(shell: Shell) -> None:
    for number in range(4):
        shell.run("sessions", "create", f"s-{number}", "--user", "ann", "-l", "k=v")
    shell.run("sessions", "create", "other")
    assert "--all" in shell.refusal("sessions", "end-all", status=2)
    assert "--all" in shell.refusal("sessions", "delete-all", "--keep", "1", "--yes", status=2)
    would = shell.json("sessions", "end-all", "--user", "ann", "--keep", "2", "--dry-run")
    assert (would["count"], would["dry_run"]) == (2, True)
    done = shell.json("sessions", "end-all", "--user", "ann", "--keep", "2", "--as", "failed")
    assert [one["session_id"] for one in done["first_keys"]] == ["s-1", "s-0"]
    assert shell.json("sessions", "count")["count"] == 3
    assert shell.json("sessions", "count", "--status", "failed")["count"] == 2
    assert "5" in shell.table("sessions", "count", "--status", "any")
    idle = shell.json("sessions", "end-all", "--all", "--idle-longer-than", "1h", "--not-busy")
    assert idle["count"] == 0
    gone = shell.json("sessions", "delete-all", "-l", "k=v", "--status", "failed", "--yes")
    assert (gone["count"], gone["scrubbed"]) == (2, True)
    assert "3 session(s) are deleted" in shell.table("sessions", "delete-all", "--all", "--yes")


def test_sums_are_printed_by_group(shell: Shell) -> None:
    for name, team in (("a", "red"), ("b", "red"), ("c", "blue")):
        shell.run("sessions", "create", name, "--user", f"u-{name}", "-l", f"team={team}")
    metrics = ("--requests", "4", "--errors", "1", "--processing-time", "6s", "--count", "tokens=9")
    shell.run("sessions", "update", "a", "--user", "u-a", *metrics)
    [blue, red] = shell.lines("sessions", "aggregate", "--by-label", "team")
    assert (blue["group"], blue["session_count"]) == ("blue", 1)
    assert red["metrics"]["counters"] == {"tokens": 9}
    assert (red["error_rate"], red["mean_processing_time_seconds"]) == (0.25, 1.5)
    by_status = shell.lines("sessions", "aggregate", "--by", "status")
    assert [one["group"] for one in by_status] == ["ACTIVE"]
    [whole] = shell.lines("sessions", "aggregate", "--user", "u-a")
    assert whole["session_count"] == 1
    assert "25.0%" in shell.table("sessions", "aggregate", "--by", "user")
    assert "exclude" in shell.refusal(
        "sessions", "aggregate", "--by", "user", "--by-label", "team", status=2
    )


def test_a_session_is_forked_by_id_and_by_uid(shell: Shell) -> None:
    created = shell.json("sessions", "create", "s-1")
    for text in ("a", "b"):
        shell.run("messages", "append", "s-1", text)
    copy = shell.json("sessions", "fork", "s-1", "copy", "--through", "1")
    assert (copy["session_id"], copy["message_count"]) == ("copy", 1)
    assert copy["forked_from"] == {"uid": created["uid"], "through_sequence": 1}
    other = shell.json("sessions", "fork", "--uid", created["uid"], "other")
    assert (other["session_id"], other["message_count"]) == ("other", 2)


def test_a_reset_keeps_a_copy_if_told(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    shell.run("messages", "append", "s-1", "important")
    done = shell.json("sessions", "reset", "s-1", "--backup", "s-1-before")
    assert done["backup"]["session_id"] == "s-1-before"
    [kept] = shell.lines("messages", "list", "s-1-before")
    assert kept["content"] == "important"


def test_messages_are_replaced_as_they_are_listed(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    for text in ("a", "b", "c"):
        shell.run("messages", "append", "s-1", text)
    summary = json.dumps({"role": "system", "content": "in short"})
    done = shell.json("messages", "replace", "s-1", "--keep-through", "1", stdin=summary)
    assert (done["messages_removed"], done["sequences"]) == (2, [4])
    assert [one["content"] for one in shell.lines("messages", "list", "s-1")] == ["a", "in short"]


def test_an_app_goes_into_a_file_and_out_again(shell: Shell, tmp_path) -> None:
    shell.run("sessions", "create", "s-1", "--user", "ann", "--state", '{"n": 1.00}')
    shell.run("messages", "append", "s-1", "hello", "--user", "ann")
    file = tmp_path / "app.jsonl"
    done = shell.json("export", str(file))
    assert (done["sessions"], done["messages"]) == (1, 1)
    piped = shell.run("export", "-").stdout_bytes
    assert piped == file.read_bytes()
    other = f"{shell.app}-copy"
    taken = json.loads(shell.run("import", str(file), app=other).stdout)
    assert (taken["app"], taken["sessions"], taken["messages"]) == (other, 1, 1)
    assert (
        '"state": {"n": 1.00}'
        in shell.run("sessions", "get", "s-1", "--user=ann", app=other).stdout
    )
    again = shell.run("import", "-", "--on-existing", "skip", app=other, stdin=piped)
    assert json.loads(again.stdout)["skipped"] == 1
    assert "SESSION_EXISTS" in shell.refusal("import", str(file))


def test_a_file_that_is_not_whole_is_a_mistake_unless_it_may_be_so(shell: Shell, tmp_path) -> None:
    shell.run("sessions", "create", "s-1")
    file = tmp_path / "app.jsonl"
    shell.run("export", str(file))
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))
    assert "not whole" in shell.refusal("import", str(file), status=2)
    other = f"{shell.app}-copy"
    assert (
        "1 session(s)"
        in shell.run("import", str(file), "--partial", "--output=table", app=other).stdout
    )


def test_the_server_says_what_it_is_and_where_it_keeps_no_backups(shell: Shell) -> None:
    assert shell.json("info")["store"] == "sqlite"
    assert "schema version" in shell.table("info")
    assert "BACKUPS_OFF" in shell.refusal("backup", "monday.db")
    assert shell.refusal("backup", "../x", status=2)
