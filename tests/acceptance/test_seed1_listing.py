"""Rows S1-16 to S1-28: finding sessions, cleaning up, and ids."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import pytest

from sojourn import AsyncClient, EndCause, ExpireCause, NewMessage, NewSession, Status, errors
from tests.acceptance.kit import Place, until


async def test_s1_16_all_sessions(client: AsyncClient) -> None:
    """All sessions of the app come, of every status, however many there are."""
    await client.sessions.create_many([NewSession(f"s-{n:03}") for n in range(120)])
    await client.sessions.end("s-007")
    everything = [one.session_id async for one in client.sessions.list(status="any")]
    assert everything == [f"s-{n:03}" for n in range(120)]


async def test_s1_17_of_one_user(client: AsyncClient) -> None:
    """A user's sessions are listed without those of others, also of one whose name begins alike."""
    for user in ("user-456", "user-4567", ""):
        for name in ("a", "b"):
            await client.sessions.create(name, user=user)
    hers = [one async for one in client.sessions.list(user="user-456")]
    assert [(one.user, one.session_id) for one in hers] == [("user-456", "a"), ("user-456", "b")]
    assert [one.user async for one in client.sessions.list(user="")] == ["", ""]
    assert await client.sessions.list(user="nobody").to_list() == []


async def test_s1_18_by_status(client: AsyncClient) -> None:
    """Sessions of one status or of several can be asked for, in any case of letters."""
    for name in ("a", "b", "c"):
        await client.sessions.create(name)
    await client.sessions.end("b")
    await client.sessions.end("c", status=Status.FAILED)

    async def ids(status: object) -> list[str]:
        return [one.session_id async for one in client.sessions.list(status=status)]  # type: ignore[arg-type]

    assert await ids("active") == ["a"]
    assert await ids(Status.COMPLETED) == ["b"]
    assert await ids([Status.COMPLETED, Status.FAILED]) == ["b", "c"]
    assert await ids("expired") == []


async def test_s1_19_count_without_reading(client: AsyncClient) -> None:
    """How many sessions are active is one question, and no list has to be fetched for it."""
    await client.sessions.create_many([NewSession(user=f"u-{n % 3}") for n in range(60)])
    assert await client.sessions.list(status="active").count() == 60
    assert await client.sessions.list(status="active", user="u-1").count() == 20
    [first] = (await client.sessions.list(user="u-1").page(1, limit=1)).items
    await client.sessions.end(first)
    assert await client.sessions.list(status="active").count() == 59
    assert await client.sessions.list(status="completed").count() == 1


async def test_s1_22_a_clean_up_that_runs_by_itself(place: Place, client: AsyncClient) -> None:
    """Idle sessions end without anybody calling a clean-up, and the log says when."""
    async with client.sessions.watch() as watch:
        await client.sessions.create("kept", idle_timeout=3600)
        await client.sessions.create("idle", idle_timeout=0.1)
        changes = watch.changes()
        causes = [(await anext(changes)).cause.value for _ in range(3)]
    assert causes == ["CREATED", "CREATED", "EXPIRED"]
    idle = await client.sessions.get("idle")
    assert (idle.status, idle.end_cause) == (Status.EXPIRED, EndCause.IDLE)
    assert (await client.sessions.get("kept")).is_active
    # The server's own job has done it: no call found the expiry.
    until(lambda: place.metrics()["sojourn_expiry_settled_total"] >= 1, "the job has settled it")


@pytest.mark.parametrize("user", ["456", "ann@example.org", "auth0|12", "Jörg", "名前"])
async def test_s1_25_ids_of_users(client: AsyncClient, user: str) -> None:
    """A session can be named after its user, whatever their ids are made of."""
    created = await client.sessions.create(f"user-{user}", user=user)
    assert created.session_id == f"user-{user}"
    assert (await client.sessions.get(f"user-{user}", user=user)).uid == created.uid


async def test_s1_26_ids_of_users_and_devices(client: AsyncClient) -> None:
    """Each device of a user has a session of its own under a name that says so."""
    for device in ("phone", "device-789"):
        await client.messages.append(
            f"user-456-device-{device}",
            NewMessage("user", f"from {device}"),
            user="user-456",
            create_if_missing=True,
        )
    sessions = [one.session_id async for one in client.sessions.list(user="user-456")]
    assert sessions == ["user-456-device-phone", "user-456-device-device-789"]
    history = client.messages.list("user-456-device-phone", user="user-456")
    assert [one.content async for one in history] == ["from phone"]


async def test_s1_27_ids_of_users_and_applications(client: AsyncClient) -> None:
    """One user's sessions in two applications are apart, by their names or by the app itself."""
    for application in ("web-app", "mobile/2.0"):
        await client.sessions.create(f"user-456-app-{application}", user="user-456")
    assert await client.sessions.list(user="user-456").count() == 2
    elsewhere = client.with_options(app=f"{client.app}-mobile")
    assert await elsewhere.sessions.list(user="user-456").count() == 0
    await elsewhere.sessions.create("user-456", user="user-456")
    assert await elsewhere.sessions.list(user="user-456").count() == 1
    assert await client.sessions.list(user="user-456").count() == 2


async def test_s1_28_one_off_sessions(client: AsyncClient) -> None:
    """A one-off session with a random id ends after its use, or by itself if that is forgotten."""
    name = f"temp-{uuid.uuid4()}"
    async with client.session(name) as session:
        await session.append("user", "One-time question")
    assert (await client.sessions.get(name)).status is Status.COMPLETED
    forgotten = await client.sessions.create(f"temp-{uuid.uuid4()}", max_lifetime=0.1)
    assert forgotten.expire_cause is ExpireCause.LIFETIME
    assert forgotten.expire_time == forgotten.create_time + timedelta(seconds=0.1)
    await asyncio.sleep(0.12)
    late = await client.sessions.get(forgotten)
    assert (late.status, late.end_cause) == (Status.EXPIRED, EndCause.LIFETIME)
    with pytest.raises(errors.SessionEndedError):
        await client.sessions.touch(forgotten)
