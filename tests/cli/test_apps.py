"""`sojourn apps …` and `sojourn users …`."""

import json

from tests.cli.kit import Shell


def test_get_and_list_show_how_many_sessions_an_app_has(shell: Shell) -> None:
    shell.run("sessions", "create", "a")
    shell.run("sessions", "create", "b")
    shell.run("sessions", "end", "b")
    found = shell.json("apps", "get")
    assert (found["app"], found["status"]) == (shell.app, "ACTIVE")
    assert (found["active_sessions"], found["session_count"]) == (1, 2)
    assert shell.json("apps", "get", shell.app)["feed_id"] == found["feed_id"]
    shell.run("apps", "update", "-l", f"mark={shell.app}")
    listed = shell.lines("apps", "list", "-l", f"mark={shell.app}")
    assert [one["app"] for one in listed] == [shell.app]
    assert listed[0]["labels"] == {"mark": shell.app}
    table = shell.table("apps", "list", "-l", f"mark={shell.app}")
    assert shell.app in table
    assert "ACTIVE" in table
    assert "active sessions" in shell.table("apps", "get")
    assert "APP_NOT_FOUND" in shell.refusal("apps", "get", "never")


def test_apps_need_no_app_but_one_of_them_must_be_named(shell: Shell) -> None:
    assert shell.run("--app=", "apps", "list").exit_code == 0
    assert "Which app?" in shell.refusal("--app=", "apps", "get", status=2)


def test_a_policy_is_shown_and_changed_rule_by_rule(shell: Shell) -> None:
    done = shell.json(
        *("apps", "policy", "--default-idle-timeout", "30m", "--max-active-sessions", "2"),
        *("--session-quota-action", "end-oldest-idle", "--no-auto-create"),
        *("--threshold", "error_rate_above=0.5,min_requests=10,action=end"),
    )
    assert done["default_idle_timeout_seconds"] == 1800
    assert done["max_active_sessions"] == 2
    assert done["session_quota_action"] == "END_OLDEST_IDLE"
    assert done["auto_create"] is False
    assert done["thresholds"] == [
        {
            "action": "END",
            "error_rate_above": 0.5,
            "min_requests": 10,
            "error_count_above": None,
        }
    ]
    assert shell.json("apps", "policy") == done
    changed = shell.json("apps", "policy", "--max-active-sessions", "3", "--unset", "auto-create")
    assert changed == done | {"max_active_sessions": 3, "auto_create": None}
    table = shell.table("apps", "policy")
    assert "30 min" in table
    assert shell.json("sessions", "create", "s")["idle_timeout_seconds"] == 1800


def test_a_policy_goes_from_app_to_app_as_json(shell: Shell, tmp_path) -> None:
    said = shell.run("apps", "policy", "--retention", "never", "--overflow-action", "drop-oldest")
    file = tmp_path / "policy.json"
    file.write_text(said.stdout, encoding="utf-8")
    other = f"{shell.app}-2"
    assert shell.json("apps", "policy", other, "--json", f"@{file}") == json.loads(said.stdout)
    assert shell.json("apps", "policy", other)["retention_seconds"] == 0
    assert shell.json("apps", "policy", other, "--json", "{}")["retention_seconds"] is None
    assert "default_idle_timeout_seconds" in shell.refusal(
        "apps", "policy", "--json", '{"idle": 5}', status=2
    )
    assert "exclude" in shell.refusal("apps", "policy", "--json", "{}", "--require-turn", status=2)
    assert "threshold" in shell.refusal("apps", "policy", "--threshold", "rate=5", status=2)
    holds = shell.json("apps", "policy", other, "--effective")
    assert (holds["default_idle_timeout_seconds"], holds["retention_seconds"]) == (3_600, 604_800)
    assert (holds["auto_create"], holds["max_active_sessions"]) == (True, None)
    assert "only shows" in shell.refusal(
        "apps", "policy", "--effective", "--require-turn", status=2
    )


def test_an_app_in_use_is_deleted_by_force_only_and_says_who_uses_it(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "--user", "ann")
    said = shell.refusal("apps", "delete", "--yes")
    assert "APP_HAS_SESSIONS" in said
    assert "ann/s-1" in said
    assert "--force" in said
    done = shell.json("apps", "delete", "--yes", "--force")
    assert (done["status"], done["sessions_deleted"]) == ("DELETED", 1)
    assert "APP_DELETED" in shell.refusal("sessions", "create", "s-1")
    shell.run("apps", "update", "--allow-again")
    shell.run("sessions", "create", "s-1")


def test_what_cannot_be_undone_wants_a_yes_where_nobody_can_be_asked(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1", "--user", "ann")
    for command in (
        ("apps", "delete", "--force"),
        ("apps", "drain"),
        ("apps", "cleanup", "-l", "k=v"),
        ("users", "erase", "ann"),
        ("sessions", "delete-all", "--all"),
    ):
        assert "--yes" in shell.refusal(*command, status=2)
    assert shell.json("sessions", "count")["count"] == 1


def test_a_drain_waits_for_the_last_session(shell: Shell) -> None:
    shell.run("sessions", "create", "s-1")
    begun = shell.json("apps", "drain", "--yes", "--timeout", "1h")
    assert begun["status"] == "DRAINING"
    found = shell.json("apps", "get")
    assert found["drain_deadline"]
    assert found["blockers"]["count"] == 1
    assert "waits for" in shell.table("apps", "get")
    shell.run("sessions", "end", "s-1")
    assert shell.json("apps", "drain", "--yes", "--wait")["status"] == "DELETED"


def test_cleanup_keeps_the_newest_deployments_of_an_agent(shell: Shell) -> None:
    names = [f"{shell.app}-{number}" for number in range(3)]
    for name in names:
        shell.run("apps", "update", name, "-l", f"agent={shell.app}")
    shell.run("sessions", "create", "s", app=names[0])
    chosen = ("apps", "cleanup", "--label", f"agent={shell.app}", "--keep", "1")
    would = shell.json(*chosen, "--dry-run")
    assert (would["apps"], would["refused"]) == ([names[1]], [names[0]])
    planned = shell.table(*chosen, "--dry-run")
    assert f"would be deleted: {names[1]}." in planned
    assert f"left alone: {names[0]}." in planned
    left = shell.run(*chosen, "--yes", status=1)
    assert names[0] in left.stderr
    assert json.loads(left.stdout)["apps"] == [names[1]]
    done = shell.json(*chosen, "--yes", "--mode", "force")
    assert done["apps"] == [names[0]]
    listed = shell.lines("apps", "list", "-l", f"agent={shell.app}")
    assert [one["app"] for one in listed] == [names[2]]
    assert "No app is deleted" in shell.table(*chosen, "--yes")
