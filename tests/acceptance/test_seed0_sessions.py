"""Rows S0-01 to S0-04, S0-09, S0-11, S0-13 to S0-17, S0-20 and S0-22: sessions one can get at."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

import sojourn
from sojourn import (
    AsyncClient,
    AsyncSessionHandle,
    EndCause,
    ExpireCause,
    NewMessage,
    SessionFilter,
    Status,
    errors,
)
from tests.acceptance.kit import GuardedPlace, Place, until
from tests.cli.kit import Shell


async def test_s0_01_context_is_kept(own: Place) -> None:
    """An agent remembers what was said and found out, between its calls and over a crash."""
    async with own.client("bq_agent_mick") as client:
        session = await client.attach("s", user="mick")
        async with session.turn() as turn:
            await turn.append("user", "Which table is it?")
            await turn.append("assistant", "orders")
        await session.update_state({"table": "orders", "rows": 3.0})
    own.server.kill()
    own.server.start()
    async with own.client("bq_agent_mick") as client:
        read = await client.sessions.get("s", user="mick", last_messages=20)
        assert [(one.role, one.content) for one in read.messages] == [
            ("user", "Which table is it?"),
            ("assistant", "orders"),
        ]
        assert read.state_json == {"table": '"orders"', "rows": "3.0"}
        assert read.metrics.request_count == 1


async def test_s0_02_created_by_the_first_query(client: AsyncClient) -> None:
    """Whatever a query begins with, an append, a turn or a read of its session, creates it."""
    appended = await client.messages.append("a", NewMessage("user", "Hi"), create_if_missing=True)
    begun = await client.turns.begin("b", create_if_missing=True)
    _, created = await client.sessions.get_or_create("c")
    assert (appended.created, begun.created, created) == (True, True, True)
    assert [one.session_id async for one in client.sessions.list()] == ["a", "b", "c"]
    with pytest.raises(errors.SessionNotFoundError):
        await client.messages.append("mistyped", NewMessage("user", "Hi"))


async def test_s0_03_created_active_expired(client: AsyncClient) -> None:
    """A session that was never used is told from one that was, and from one that expired."""
    session = await client.attach("s")
    assert (session.info.is_active, session.info.metrics.request_count) == (True, 0)
    async with session.turn():
        assert (await session.refresh()).turn is not None
    used = await session.refresh()
    assert (used.is_active, used.metrics.request_count) == (True, 1)
    in_use = [
        one.session_id
        async for one in client.sessions.list(filter=SessionFilter(request_count_above=0))
    ]
    assert in_use == ["s"]
    await session.update(idle_timeout=0.05)
    await asyncio.sleep(0.06)
    expired = await session.refresh()
    assert (expired.status, expired.end_cause) == (Status.EXPIRED, EndCause.IDLE)


async def test_s0_04_a_known_length_of_inactivity(client: AsyncClient) -> None:
    """How long a session may be idle is said by whoever creates it, and each use begins it anew."""
    session = await client.attach("s", idle_timeout=timedelta(minutes=30))
    assert session.info.idle_timeout == timedelta(minutes=30)
    first = session.info.expire_time
    await session.append("user", "Hi")
    second = session.info.expire_time
    touched = (await session.touch()).expire_time
    assert first is not None
    assert second is not None
    assert touched is not None
    assert first < second < touched
    assert touched == session.info.activity_time + timedelta(minutes=30)
    # To look is not to use.
    assert (await session.refresh()).expire_time == touched


async def test_s0_11_a_command_that_lists(client: AsyncClient, shell: Shell) -> None:
    """One command lists an agent's sessions, as a table for people and as lines for programs."""
    await client.sessions.create("s-1", user="mick")
    await client.sessions.create("s-2", user="ann")
    await client.sessions.end("s-2", user="ann")
    assert [one["session_id"] for one in shell.lines("sessions", "list")] == ["s-1"]
    everything = shell.lines("sessions", "list", "--all")
    assert [(one["session_id"], one["status"]) for one in everything] == [
        ("s-1", "ACTIVE"),
        ("s-2", "COMPLETED"),
    ]
    table = shell.table("sessions", "list", "--all")
    assert "mick" in table
    assert "s-2" in table


async def test_s0_13_a_public_api(client: AsyncClient) -> None:
    """Sessions are listed and ended by calls of the public contract, while they are in use, too."""
    await client.turns.begin("busy", create_if_missing=True)
    await client.sessions.create("quiet")
    async for session in client.sessions.list():
        await client.sessions.end(session, reason="maintenance")
    assert await client.sessions.list().count() == 0
    ended = await client.sessions.get("busy")
    assert (ended.status, ended.end_reason, ended.turn) == (
        Status.COMPLETED,
        "maintenance",
        None,
    )


async def test_s0_14_not_the_sessions_of_others(guarded: GuardedPlace) -> None:
    """A user's key opens that user's sessions; those of others are, to it, not there."""
    async with guarded.client_of("ann") as ann, guarded.client_of("bob") as bob:
        his = await bob.sessions.create("s0-14", user="bob", state={"pin": 4})
        await ann.sessions.create("s0-14", user="ann")
        for look in (
            lambda: ann.sessions.get("s0-14", user="bob"),
            lambda: ann.sessions.get(uid=his.uid),
            lambda: ann.sessions.end("s0-14", user="bob"),
            lambda: ann.messages.append("s0-14", NewMessage("user", "x"), user="bob"),
        ):
            with pytest.raises(errors.SessionNotFoundError):
                await look()
        with pytest.raises(errors.GrantMissingError):
            await ann.sessions.list().to_list()
        hers = [one.user async for one in ann.sessions.list(user="ann")]
        assert set(hers) == {"ann"}
        assert (await bob.sessions.get("s0-14", user="bob")).is_active
    async with guarded.client("support") as nobody:
        with pytest.raises(errors.CredentialMissingError):
            await nobody.sessions.get("s0-14", user="ann")


async def test_s0_15_cleaned_up_by_itself(place: Place, client: AsyncClient) -> None:
    """The server ends what is over by itself, and its metrics count it and show no backlog."""
    before = place.metrics()["sojourn_expiry_settled_total"]
    for number in range(5):
        await client.sessions.create(f"s-{number}", idle_timeout=0.05)
    until(
        lambda: place.metrics()["sojourn_expiry_settled_total"] >= before + 5,
        "the job has ended all five",
    )
    until(lambda: place.metrics()["sojourn_expiry_lag_seconds"] == 0, "nothing is overdue")
    assert await client.sessions.list(status="expired").count() == 5


async def test_s0_17_agent_code_ignores_sessions(client: AsyncClient) -> None:
    """A function of an agent has no line about sessions, and its requests are counted and timed."""

    @sojourn.tracked
    async def answer(session: AsyncSessionHandle, question: str) -> str:
        return f"{question}? Yes."

    for question in ("Is it blue", "Is it big"):
        reply = await answer(await client.attach("conversation", user="mick"), question)
        assert reply == f"{question}? Yes."
    read = await client.sessions.get("conversation", user="mick")
    assert read.metrics.request_count == 2


async def test_s0_20_how_long_it_lasts(client: AsyncClient) -> None:
    """Every read says when the session expires, by which rule, and how much time is left."""
    await client.sessions.create("idle", idle_timeout=60)
    await client.sessions.create("aged", idle_timeout=3600, max_lifetime=60)
    await client.sessions.create("never", idle_timeout=0)
    read = {name: await client.sessions.get(name) for name in ("idle", "aged", "never")}
    assert read["idle"].expire_cause is ExpireCause.IDLE
    assert read["aged"].expire_cause is ExpireCause.LIFETIME
    assert (read["never"].expire_time, read["never"].expire_cause) == (None, None)
    left = read["idle"].time_left
    assert left is not None
    assert timedelta(0) < left <= timedelta(seconds=60)
    for one in await client.sessions.list().to_list():
        assert one.expire_time == read[one.session_id].expire_time


async def test_s0_22_running_queries_are_seen(client: AsyncClient) -> None:
    """Before deleting an engine one sees which sessions are in use, by whom, and since when."""
    await client.sessions.create("quiet")
    await client.turns.begin("busy", holder="pod-1", create_if_missing=True)
    busy = SessionFilter(has_turn=True)
    [session] = await client.sessions.list(filter=busy).to_list()
    assert session.session_id == "busy"
    assert session.turn is not None
    assert session.turn.holder == "pod-1"
    assert session.turn.begin_time <= session.turn.lease_time
    quiet = await client.sessions.list(filter=SessionFilter(has_turn=False)).to_list()
    assert [one.session_id for one in quiet] == ["quiet"]
