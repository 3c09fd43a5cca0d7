"""Rows S0-05 to S0-08, S0-10, S0-12, S0-18, S0-19, S0-21 and S0-23 to S0-25: deployments."""

from __future__ import annotations

import json

import pytest

from sojourn import (
    AppStatus,
    AsyncClient,
    ChangeCause,
    DeleteMode,
    NewMessage,
    NewSession,
    Policy,
    SessionFilter,
    Status,
    errors,
)
from tests.acceptance.kit import eventually
from tests.cli.kit import Shell


async def deployed(client: AsyncClient, *names: str, agent: str) -> None:
    """Make apps with a session each, labelled as deployments of an agent, oldest first."""
    for name in names:
        await client.apps.update(name, labels={"agent": agent})
        await client.sessions.create("s", user="mick", app=name)


async def test_s0_05_a_deletion_that_is_refused(client: AsyncClient) -> None:
    """A deployment with live sessions is not deleted, and the refusal counts and names them."""
    await client.sessions.create_many([NewSession(f"s-{n}", user="mick") for n in range(3)])
    await client.sessions.create("over")
    await client.sessions.end("over")
    with pytest.raises(errors.AppHasSessionsError) as refused:
        await client.apps.delete()
    assert refused.value.count == 3
    assert {one.session_id for one in refused.value.first_keys} == {"s-0", "s-1", "s-2"}
    assert "3" in str(refused.value)
    assert (await client.apps.get()).active_sessions == 3
    assert (await client.sessions.get("over")).status is Status.COMPLETED


async def test_s0_06_sessions_are_ended_first(client: AsyncClient) -> None:
    """One call ends all active sessions, however many, and then the deployment can be deleted."""
    await client.sessions.create_many([NewSession(user=f"u-{n % 7}") for n in range(150)])
    ended = await client.sessions.end_many(all=True, reason="deployment is deleted")
    assert ended.count == 150
    assert await client.sessions.list().count() == 0
    deleted = await client.apps.delete()
    assert (deleted.status, deleted.sessions_deleted) == (AppStatus.DELETED, 150)
    with pytest.raises(errors.AppDeletedError):
        await client.sessions.create("straggler")


async def test_s0_07_drained_instead_of_retried(client: AsyncClient, shell: Shell) -> None:
    """One command lets a deployment run dry: nothing new begins, what there is ends in peace."""
    await deployed(client, client.app, f"{client.app}-new", agent="bq_agent_mick")
    begun = await client.turns.begin("busy", holder="pod-1", create_if_missing=True)
    cleanup = ("apps", "cleanup", "-l", "agent=bq_agent_mick", "--keep", "1", "--yes")
    shell.run(*cleanup, "--mode", "drain")
    draining = await client.apps.get()
    assert draining.status is AppStatus.DRAINING
    assert draining.blockers is not None
    assert draining.blockers.holders == ("pod-1",)
    with pytest.raises(errors.AppDrainingError):
        await client.sessions.create("late")
    with pytest.raises(errors.AppDrainingError):
        await client.turns.begin("s", user="mick")
    await client.sessions.update("s", user="mick", idle_timeout=0.1)
    await client.messages.append("busy", NewMessage("assistant", "Here is your answer."))
    await client.turns.end(begun.turn_token)
    await client.sessions.end("busy")

    async def gone() -> bool:
        found = [one.app async for one in client.apps.list(labels={"agent": "bq_agent_mick"})]
        return found == [f"{client.app}-new"]

    await eventually(gone, "the drained deployment is deleted")
    kept = await client.apps.get(f"{client.app}-new")
    assert (kept.status, kept.active_sessions) == (AppStatus.ACTIVE, 1)


async def test_s0_08_the_newest_are_kept(client: AsyncClient) -> None:
    """A clean-up spares the newest N, of sessions as of deployments, and a dry run only tells."""
    for number in range(6):
        await client.sessions.create(f"s-{number}")
    would = await client.sessions.end_many(all=True, keep_newest=2, dry_run=True)
    assert would.count == 4
    assert await client.sessions.list().count() == 6
    assert (await client.sessions.end_many(all=True, keep_newest=2)).count == 4
    assert [one.session_id async for one in client.sessions.list()] == ["s-4", "s-5"]
    names = [f"{client.app}-v{n}" for n in range(3)]
    await deployed(client, *names, agent=client.app)
    labels = {"agent": client.app}
    told = await client.apps.delete_many(labels, keep_newest=1, mode=DeleteMode.FORCE, dry_run=True)
    assert set(told.apps) == set(names[:2])
    assert await client.apps.list(labels=labels).count() == 3
    done = await client.apps.delete_many(labels, keep_newest=1, mode=DeleteMode.FORCE)
    assert set(done.apps) == set(names[:2])
    assert [one.app async for one in client.apps.list(labels=labels)] == [names[2]]


async def test_s0_10_when_it_could_succeed(client: AsyncClient) -> None:
    """A refused deletion says when the last session will have expired, and then it succeeds."""
    await client.sessions.create("s", idle_timeout=60)
    last = await client.sessions.create("last", idle_timeout=90)
    await client.sessions.end("s")
    with pytest.raises(errors.AppHasSessionsError) as refused:
        await client.apps.delete()
    assert refused.value.earliest_success_time == last.expire_time
    await client.sessions.update("last", idle_timeout=0.1)

    async def expired() -> bool:
        return await client.sessions.list().count() == 0

    await eventually(expired, "the last session has expired")
    assert (await client.apps.delete()).status is AppStatus.DELETED
    other = client.with_options(app=f"{client.app}-never")
    await other.sessions.create("s", idle_timeout=0)
    with pytest.raises(errors.AppHasSessionsError) as never:
        await other.apps.delete()
    assert never.value.earliest_success_time is None


async def test_s0_12_a_forced_deletion(client: AsyncClient, shell: Shell) -> None:
    """A forced deletion succeeds at once, live sessions, turns and children or not."""
    root = await client.attach("root")
    await client.turns.begin("root", holder="pod-1")
    await client.sessions.create("child", parent=root.info)
    shell.refusal("apps", "delete", client.app, "--yes")
    shell.run("apps", "delete", client.app, "--force", "--yes")
    with pytest.raises(errors.SessionNotFoundError):
        await client.sessions.get("root")
    with pytest.raises(errors.AppDeletedError):
        await client.messages.append("root", NewMessage("user", "x"), create_if_missing=True)
    await client.apps.update(allow_again=True)
    assert (await client.sessions.create("root")).message_count == 0


async def test_s0_18_creation_can_be_prevented(client: AsyncClient) -> None:
    """An agent's queries can be kept from creating sessions, or anybody from creating any."""
    await client.apps.update(policy=Policy(auto_create=False))
    with pytest.raises(errors.AutoCreateRefusedError):
        await client.messages.append("s", NewMessage("user", "Hi"), create_if_missing=True)
    with pytest.raises(errors.AutoCreateRefusedError):
        await client.turns.begin("s", create_if_missing=True)
    await client.sessions.create("s")
    await client.messages.append("s", NewMessage("user", "Hi"), create_if_missing=True)
    await client.sessions.end("s")
    await client.apps.update(policy=Policy(max_active_sessions=0))
    with pytest.raises(errors.QuotaExceededError) as refused:
        await client.sessions.create("another")
    assert refused.value.metadata == {"quota": "max_active_sessions", "limit": "0"}
    assert await client.sessions.list().count() == 0


async def test_s0_19_who_holds_it(client: AsyncClient) -> None:
    """Who still queries a deployment after hours: the refusal names callers, holders and times."""
    forgotten = client.with_options(actor="nightly-report")
    begun = await forgotten.turns.begin("report", holder="pod-9", create_if_missing=True)
    with pytest.raises(errors.AppHasSessionsError) as refused:
        await client.apps.delete()
    assert refused.value.holders == ("pod-9",)
    assert refused.value.last_actor == "nightly-report"
    assert refused.value.latest_activity_time == begun.session.activity_time
    [held] = await client.sessions.list(filter=SessionFilter(has_turn=True)).to_list()
    assert held.session_id == "report"


async def test_s0_21_a_quota_per_user(client: AsyncClient) -> None:
    """Nobody has more than two active sessions; ending one makes room, others are not affected."""
    await client.apps.update(policy=Policy(max_active_sessions_per_user=2))
    for name in ("a", "b"):
        await client.sessions.create(name, user="mick")
    with pytest.raises(errors.QuotaExceededError) as refused:
        await client.sessions.create("c", user="mick")
    assert refused.value.metadata == {"quota": "max_active_sessions_per_user", "limit": "2"}
    await client.sessions.create("a", user="ann")
    await client.sessions.end("a", user="mick")
    await client.sessions.create("c", user="mick")
    assert await client.sessions.list(user="mick").count() == 2


async def test_s0_23_deployments_with_live_sessions(client: AsyncClient, shell: Shell) -> None:
    """All deployments of an agent are listed with how many sessions each has, live and in all."""
    names = [f"{client.app}-v{n}" for n in range(2)]
    await deployed(client, *names, agent=client.app)
    await client.sessions.create("t", app=names[0])
    await client.sessions.end("t", app=names[0])
    found = [one async for one in client.apps.list(labels={"agent": client.app})]
    assert [(one.app, one.active_sessions, one.session_count) for one in found] == [
        (names[0], 1, 2),
        (names[1], 1, 1),
    ]
    lines = shell.lines("apps", "list", "-l", f"agent={client.app}")
    assert [(one["app"], one["active_sessions"]) for one in lines] == [
        (names[0], 1),
        (names[1], 1),
    ]
    assert names[1] in shell.table("apps", "list")


async def test_s0_24_urgent_deletions_leave_a_trace(client: AsyncClient, shell: Shell) -> None:
    """Who forced a deletion, and when, can be read although the deployment is gone."""
    await client.sessions.create("s")
    operator = client.with_options(actor="olga")
    deleted = await operator.apps.delete(mode=DeleteMode.FORCE)
    entries = [one async for one in client.admin.audit()]
    [gone] = [one for one in entries if one.cause is ChangeCause.APP_DELETED]
    assert (gone.actor, gone.app, gone.revision) == ("olga", client.app, deleted.revision)
    [removed] = [one for one in entries if one.cause is ChangeCause.DELETED]
    assert removed.session is not None
    assert (removed.session.session_id, removed.actor) == ("s", "olga")
    lines = [(one["cause"], one["actor"]) for one in shell.lines("audit")]
    assert lines == [(one.cause.value, one.actor) for one in entries]


async def test_s0_25_three_scripts(client: AsyncClient, shell: Shell) -> None:
    """Cleaning up deployments, listing them, and managing their sessions is one command each."""
    names = [f"{client.app}-v{n}" for n in range(3)]
    await deployed(client, *names, agent=client.app)
    selected = ("-l", f"agent={client.app}")
    assert [one["app"] for one in shell.lines("apps", "list", *selected)] == names
    for name in names[:2]:
        assert "mick" in shell.run("sessions", "list", app=name).stdout
        ended = json.loads(shell.run("sessions", "end-all", "--all", app=name).stdout)
        assert ended["count"] == 1
    done = shell.run("apps", "cleanup", *selected, "--keep", "1", "--yes")
    assert [name in done.stdout for name in names] == [True, True, False]
    assert [one["app"] for one in shell.lines("apps", "list", *selected)] == [names[2]]
    assert shell.run("sessions", "list", app=names[2]).stdout
