"""Rows S1-01 to S1-12: the life of a session, as users of a context engine know it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sojourn import AsyncClient, EndCause, NewMessage, SessionRef, Status, View, errors
from tests.acceptance.kit import Place


async def test_s1_01_each_user_has_a_history_of_their_own(client: AsyncClient) -> None:
    """Two users of one agent, even under the same session id, never see each other's messages."""
    for user in ("ann", "bob"):
        await client.sessions.create("chat", user=user)
        await client.messages.append("chat", NewMessage("user", f"I am {user}"), user=user)
    for user in ("ann", "bob"):
        seen = [one.content async for one in client.messages.list("chat", user=user)]
        assert seen == [f"I am {user}"]
    with pytest.raises(errors.SessionNotFoundError):
        await client.sessions.get("chat", user="eve")
    hers = await client.sessions.get("chat", user="ann")
    with pytest.raises(errors.UidMismatchError):
        await client.messages.append(
            SessionRef(client.app, "bob", "chat", hers.uid), NewMessage("user", "hi")
        )


async def test_s1_02_four_statuses_and_why(client: AsyncClient) -> None:
    """Active, completed, failed and expired are told apart, and what ended a session is kept."""
    for name in ("open", "done", "broken"):
        await client.sessions.create(name)
    await client.sessions.create("idle", idle_timeout=0.05)
    await client.sessions.end("done", reason="order shipped", result={"order": 7})
    await client.sessions.end("broken", status=Status.FAILED, reason="model unavailable")
    await asyncio.sleep(0.06)
    found = {name: await client.sessions.get(name) for name in ("open", "done", "broken", "idle")}
    assert {name: one.status.value for name, one in found.items()} == {
        "open": "ACTIVE",
        "done": "COMPLETED",
        "broken": "FAILED",
        "idle": "EXPIRED",
    }
    assert found["open"].end_cause is None
    assert found["done"].end_cause is EndCause.REQUEST
    assert (found["done"].end_reason, found["done"].end_result) == ("order shipped", {"order": 7})
    assert found["broken"].end_reason == "model unavailable"
    assert found["idle"].end_cause is EndCause.IDLE
    assert found["idle"].end_time is not None


async def test_s1_03_the_server_says_when_it_is_ready(place: Place, client: AsyncClient) -> None:
    """Instead of an initialise call of each program, the server tells whether it serves."""
    async with grpc.aio.insecure_channel(place.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "sojourn.write"):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await client.sessions.create("first")).is_active


async def test_s1_04_the_first_request_creates_the_session(client: AsyncClient) -> None:
    """A request may just name its session: it is created if it is not there, else used on."""
    for number in range(6):
        async with (await client.attach("user-123", user="u")).turn() as turn:
            await turn.append("user", f"Request {number}")
    session = await client.sessions.get("user-123", user="u", last_messages=10)
    assert session.metrics.request_count == 6
    assert [one.content for one in session.messages] == [f"Request {n}" for n in range(6)]
    first = await client.messages.append(
        "another", NewMessage("user", "Hello"), create_if_missing=True
    )
    second = await client.messages.append(
        "another", NewMessage("user", "Hello?"), create_if_missing=True
    )
    assert (first.created, second.created) == (True, False)
    assert first.session.uid == second.session.uid


async def test_s1_05_id_user_and_metadata_are_kept(client: AsyncClient) -> None:
    """What is said of a session at its creation is stored on it, and read back as it was."""
    metadata = {"source": "web", "device": "mobile", "ip_address": "192.168.1.1", "retries": 3}
    created = await client.sessions.create("user-123", user="user-456", metadata=metadata)
    assert (created.session_id, created.user) == ("user-123", "user-456")
    read = await client.sessions.get("user-123", user="user-456")
    assert dict(read.metadata) == metadata
    assert (read.uid, read.metrics.request_count) == (created.uid, 0)


async def test_s1_06_metadata_is_optional(client: AsyncClient) -> None:
    """A session needs nothing but an id, and not even that."""
    named = await client.sessions.create("user-123", user="user-456")
    unnamed = await client.sessions.create()
    assert dict((await client.sessions.get(named)).metadata) == {}
    assert unnamed.session_id
    assert (await client.sessions.get(unnamed.session_id)).uid == unnamed.uid


async def test_s1_07_a_new_session_is_active(client: AsyncClient) -> None:
    """Whoever creates a session can use it at once, and everybody sees it as active."""
    session = await client.sessions.create("s")
    assert session.status is Status.ACTIVE
    assert session.status == "ACTIVE"
    assert session.is_active
    assert [one.session_id async for one in client.sessions.list(status="active")] == ["s"]


async def test_s1_08_end_as_completed(client: AsyncClient) -> None:
    """Ending is one call; from then on the session takes no more requests and stays readable."""
    await client.sessions.create("s")
    await client.messages.append("s", NewMessage("user", "Hello"))
    ended = await client.sessions.end("s", status=Status.COMPLETED)
    assert ended.session.status is Status.COMPLETED
    with pytest.raises(errors.SessionEndedError) as refused:
        await client.messages.append("s", NewMessage("user", "One more"))
    assert refused.value.metadata["status"] == "COMPLETED"
    read = await client.sessions.get("s", last_messages=10)
    assert [one.content for one in read.messages] == ["Hello"]


async def test_s1_09_end_as_failed_or_expired(client: AsyncClient) -> None:
    """Every final status can be given; a session cannot be ended as active."""
    for status in (Status.FAILED, Status.EXPIRED):
        await client.sessions.create(status.value)
        assert (await client.sessions.end(status.value, status=status)).session.status is status
    await client.sessions.create("s")
    with pytest.raises(errors.InvalidFieldError):
        await client.sessions.end("s", status=Status.ACTIVE)
    assert (await client.sessions.get("s")).is_active


async def test_s1_10_the_first_end_wins(client: AsyncClient) -> None:
    """Ended as expired and then as completed, a session stays expired, and the second is told."""
    await client.sessions.create("s")
    first = await client.sessions.end("s", status=Status.EXPIRED, reason="idle")
    with pytest.raises(errors.SessionEndedError) as refused:
        await client.sessions.end("s", status=Status.COMPLETED)
    assert refused.value.metadata["status"] == "EXPIRED"
    again = await client.sessions.end("s", status=Status.EXPIRED, reason="again")
    assert (first.changed, again.changed) == (True, False)
    assert (await client.sessions.get("s")).end_reason == "idle"


async def test_s1_11_read_a_session_with_its_metrics_or_none(client: AsyncClient) -> None:
    """Reading gives one typed object with status and metrics; an unknown id is told as such."""
    created = await client.sessions.create("user-123", user="user-456")
    async with (await client.attach("user-123", user="user-456")).turn():
        pass
    session = await client.sessions.get("user-123", user="user-456")
    assert (session.status, session.session_id, session.user) == (
        Status.ACTIVE,
        "user-123",
        "user-456",
    )
    assert (session.metrics.request_count, session.metrics.error_count) == (1, 0)
    assert session.metrics.processing_time > timedelta(0)
    assert session.create_time == created.create_time
    with pytest.raises(errors.SessionNotFoundError) as unknown:
        await client.sessions.get("nobody", user="user-456")
    assert unknown.value.metadata["session_id"] == "nobody"
    several = await client.sessions.get_many(["user-123", "nobody"], user="user-456")
    assert [one.session_id for one in several.sessions] == ["user-123"]
    assert [one.session_id for one in several.not_found] == ["nobody"]


async def test_s1_12_idle_for_too_long(client: AsyncClient) -> None:
    """The helper answers for any length of idleness, and agrees with what the server decides."""
    await client.sessions.create("s", idle_timeout=0)
    await asyncio.sleep(0.01)
    await client.sessions.touch("s")
    fresh = await client.sessions.get("s", view=View.BASIC)
    half_an_hour = timedelta(seconds=1800)
    just_before = fresh.activity_time + half_an_hour - timedelta(microseconds=1)
    assert not fresh.is_expired(max_idle=1800, now=just_before)
    assert fresh.is_expired(max_idle=1800, now=fresh.activity_time + half_an_hour)
    assert not fresh.is_expired(now=just_before + timedelta(days=9))
    short = (await client.sessions.update("s", idle_timeout=0.1)).session
    assert short.expire_time == short.activity_time + timedelta(seconds=0.1)
    assert short.is_expired(now=short.expire_time)
    await asyncio.sleep(0.12)
    assert short.is_expired()
    late = await client.sessions.get("s")
    assert late.status is Status.EXPIRED
    assert late.is_expired(max_idle=1800)
    with pytest.raises(errors.SessionEndedError):
        await client.messages.append("s", NewMessage("user", "too late"))
