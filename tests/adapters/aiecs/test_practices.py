"""Every pattern of AIECS' "Session Management Best Practices" on `ContextSessions`, by behaviour.

Written anew after the document, with its calls and its order; the rows are those of the page of
acceptance. Where the document says "automatically", `context_engine.track(agent)` does it.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta
from typing import Any

import pytest

import sojourn
from sojourn.adapters.aiecs import ContextSession, ContextSessions

MAX_SESSIONS = 3


async def found(context_engine: ContextSessions, session_id: str) -> ContextSession:
    """A session that must be there."""
    session = await context_engine.get_session(session_id)
    assert session is not None
    return session


# --- life cycle -----------------------------------------------------------------------------------


async def test_s1_03_s1_04_s1_08_basic_life_cycle(
    context_engine: ContextSessions, agent: Any
) -> None:
    """The first request makes the session, more follow in it, and it is ended."""
    await agent.execute_task({"description": "Hello"}, {"session_id": "user-123"})
    for number in range(5):
        await agent.execute_task({"description": f"Request {number}"}, {"session_id": "user-123"})
    assert await context_engine.end_session("user-123", status="completed")
    session = await found(context_engine, "user-123")
    assert (session.status, session.request_count) == ("completed", 6)


async def test_s1_05_s1_06_explicit_creation(context_engine: ContextSessions, agent: Any) -> None:
    """With a user and metadata, which stay with the session; or without metadata."""
    web = {"source": "web", "device": "mobile", "ip_address": "192.168.1.1"}
    made = await context_engine.create_session(
        session_id="user-123", user_id="user-456", metadata=web
    )
    assert (made.session_id, made.user_id, made.metadata) == ("user-123", "user-456", web)
    await agent.execute_task({"description": "Hello"}, {"session_id": "user-123"})
    session = await found(context_engine, "user-123")
    assert (session.metadata, session.request_count, session.user_id) == (web, 1, "user-456")
    bare = await context_engine.create_session(session_id="bare", user_id="user-456")
    assert bare.metadata == {}


async def test_s1_07_s1_09_s1_10_s1_11_s1_12_status(
    context_engine: ContextSessions, agent: Any
) -> None:
    """Active, then expired; the end after that is no error and changes nothing."""
    session = await context_engine.create_session(session_id="user-123", user_id="user-456")
    assert session.status == "active"
    for number in range(3):
        await agent.execute_task({"description": f"Request {number}"}, {"session_id": "user-123"})
    session = await found(context_engine, "user-123")
    assert not session.is_expired(max_idle_seconds=1800)
    await asyncio.sleep(0.01)
    assert session.is_expired(max_idle_seconds=0.01)
    assert await context_engine.end_session("user-123", status="expired")
    assert await context_engine.end_session("user-123", status="completed")
    session = await found(context_engine, "user-123")
    assert session.status == "expired"
    assert session.is_expired(max_idle_seconds=1800)
    assert (session.request_count, session.error_count) == (3, 0)
    assert isinstance(session.total_processing_time, float)
    assert session.created_at <= session.last_activity
    assert await context_engine.get_session("nobody") is None
    assert not await context_engine.end_session("nobody")
    failed = await context_engine.create_session("other", "user-456")
    assert await context_engine.end_session(failed.session_id, status="failed")
    assert (await found(context_engine, "other")).status == "failed"
    for status in ("active", "gone", None):
        with pytest.raises(ValueError, match="completed, failed, expired"):
            await context_engine.end_session("other", status=status)  # type: ignore[arg-type]


# --- identification -------------------------------------------------------------------------------


async def test_s1_25_s1_26_s1_27_s1_28_s1_41_ids(
    context_engine: ContextSessions, agent: Any
) -> None:
    """Of a user, a device, an application, or for once: each a session, always the same one."""
    user_id = "user-456"
    once = f"temp-{uuid.uuid4()}"
    ids = [
        f"user-{user_id}",
        f"user-{user_id}-device-device-789",
        f"user-{user_id}-app-web-app",
        once,
    ]
    for session_id in ids * 2:
        await agent.execute_task({"description": "Hello"}, {"session_id": session_id})
    assert [one.session_id for one in await context_engine.list_sessions()] == ids
    assert {one.request_count for one in await context_engine.list_sessions()} == {2}
    await context_engine.end_session(once, status="completed")
    assert (await found(context_engine, once)).status == "completed"


# --- metrics --------------------------------------------------------------------------------------


async def test_s1_15_requests_are_tracked(context_engine: ContextSessions, agent: Any) -> None:
    for number in range(10):
        await agent.execute_task({"description": f"Request {number}"}, {"session_id": "user-123"})
    session = await found(context_engine, "user-123")
    assert (session.request_count, session.error_count) == (10, 0)
    assert session.total_processing_time >= 0
    # The agent itself is untouched; without a session nothing is counted.
    assert agent.agent_id == "agent-1"
    answer = await agent.execute_task({"description": "x"}, {})
    assert answer == {"output": "done: x", "session": None}
    assert len(await context_engine.list_sessions()) == 1


async def test_s1_13_s1_14_s1_31_s1_32_by_hand(context_engine: ContextSessions) -> None:
    """Requests, errors and seconds, each alone or together; never half, never lost."""
    await context_engine.create_session("user-123", "user-456")
    assert await context_engine.update_session(
        session_id="user-123", increment_requests=True, add_processing_time=1.5, mark_error=False
    )
    assert await context_engine.update_session(
        session_id="user-123", increment_requests=True, add_processing_time=0.1, mark_error=True
    )
    session = await found(context_engine, "user-123")
    assert (session.request_count, session.error_count) == (2, 1)
    assert session.total_processing_time == pytest.approx(1.6)
    assert session.error_count / session.request_count * 100 == 50
    assert await context_engine.update_session(session_id="user-123", mark_error=True)
    assert await context_engine.update_session("user-123", add_processing_time=-1)
    await asyncio.gather(
        *(context_engine.update_session("user-123", increment_requests=True) for _ in range(50))
    )
    session = await found(context_engine, "user-123")
    assert (session.request_count, session.error_count) == (52, 2)
    assert session.total_processing_time == pytest.approx(1.6)
    # Not there, or over: nothing is counted.
    assert not await context_engine.update_session("nobody", increment_requests=True)
    await context_engine.end_session("user-123")
    assert not await context_engine.update_session("user-123", increment_requests=True)
    assert not await context_engine.update_session("user-123")
    assert (await found(context_engine, "user-123")).request_count == 52


async def test_s1_17_s1_29_aggregation(context_engine: ContextSessions) -> None:
    """Sums over the sessions of a user, as the document adds them up."""
    for number in range(3):
        await context_engine.create_session(f"s{number}", "user-456")
        await context_engine.update_session(
            f"s{number}",
            increment_requests=True,
            add_processing_time=float(number),
            mark_error=number == 0,
        )
    await context_engine.create_session("else", "user-789")
    await context_engine.end_session("s2")
    sessions = await context_engine.list_sessions(user_id="user-456")
    assert [one.session_id for one in sessions] == ["s0", "s1", "s2"]
    assert sum(one.request_count for one in sessions) == 3
    assert sum(one.error_count for one in sessions) == 1
    assert sum(one.total_processing_time for one in sessions) == 3.0
    metrics = await context_engine.get_metrics()
    assert (metrics["total_sessions"], metrics["active_sessions"]) == (4, 3)
    assert metrics["total_requests"] == 3


async def test_s1_30_performance(context_engine: ContextSessions) -> None:
    await context_engine.create_session("user-123", "user-456")
    for duration in (0.25, 0.75):
        await context_engine.update_session(
            session_id="user-123", increment_requests=True, add_processing_time=duration
        )
    session = await found(context_engine, "user-123")
    assert session.total_processing_time / session.request_count == 0.5


# --- clean-up -------------------------------------------------------------------------------------


async def test_s1_20_s1_21_s1_22_s1_43_idle_sessions(
    context_engine: ContextSessions, client: sojourn.AsyncClient
) -> None:
    """A clean-up, also one that runs again and again, ends what is idle, and it is on record."""
    for number in range(3):
        await context_engine.create_session(f"s{number}", "user-456")
    assert await context_engine.cleanup_inactive_sessions(max_idle_seconds=1800) == 0
    assert await context_engine.cleanup_inactive_sessions() == 0
    await client.sessions.create("of-somebody-else")
    await asyncio.sleep(0.05)
    cleaned: list[int] = []
    enough = asyncio.Event()

    async def periodically() -> None:
        while True:
            await asyncio.sleep(0.001)
            cleaned.append(await context_engine.cleanup_inactive_sessions(max_idle_seconds=0.02))
            if len(cleaned) == 3:
                enough.set()

    task = asyncio.create_task(periodically())
    await asyncio.wait({task, asyncio.create_task(enough.wait())}, return_when="FIRST_COMPLETED")
    task.cancel()
    assert sum(cleaned) == 3
    assert {one.status for one in await context_engine.list_sessions()} == {"expired"}
    assert (await client.sessions.get("of-somebody-else")).is_active
    ends = [one for one in await client.admin.audit().to_list() if one.end_status is not None]
    assert {one.session.session_id for one in ends if one.session} == {"s0", "s1", "s2"}


async def test_s1_16_s1_23_too_many_errors(context_engine: ContextSessions) -> None:
    """The document's own loop over all sessions; ended ones in it are no error."""
    for number in range(4):
        await context_engine.create_session(f"s{number}", "user-456")
        for at in range(number + 1):
            await context_engine.update_session(
                f"s{number}", increment_requests=True, mark_error=at < 2
            )
    await context_engine.create_session("unused", "user-456")
    for _ in range(2):
        for session in await context_engine.list_sessions():
            if session.request_count > 0:
                error_rate = session.error_count / session.request_count
                if error_rate > 0.5:
                    await context_engine.end_session(session.session_id, status="failed")
    statuses = {one.session_id: one.status for one in await context_engine.list_sessions()}
    failed = {name for name, status in statuses.items() if status == "failed"}
    assert failed == {"s0", "s1", "s2"}


async def test_s1_24_by_age(context_engine: ContextSessions) -> None:
    """Times compare with `datetime.utcnow()`, as the document does it."""
    await context_engine.create_session("old", "user-456")
    now = datetime.fromisoformat((await context_engine.get_metrics())["timestamp"])
    assert now.tzinfo is None
    cutoff, cleaned_count = now + timedelta(days=1), 0
    for session in await context_engine.list_sessions():
        assert session.created_at > now - timedelta(days=7)
        if session.created_at < cutoff:
            await context_engine.end_session(session.session_id, status="expired")
            cleaned_count += 1
    assert cleaned_count == 1
    assert (await found(context_engine, "old")).status == "expired"


# --- errors ---------------------------------------------------------------------------------------


async def test_s1_33_errors_are_tracked(context_engine: ContextSessions, agent: Any) -> None:
    """The exception comes back as it was, and the session knows of it."""
    with pytest.raises(TimeoutError, match="did not answer"):
        await agent.execute_task({"description": "Fail"}, {"session_id": "user-123"})
    session = await found(context_engine, "user-123")
    assert (session.request_count, session.error_count, session.status) == (1, 1, "active")


async def test_s1_34_recovery(context_engine: ContextSessions, agent: Any) -> None:
    """Three tries, then the session has failed; each is counted, by hand as there."""
    await context_engine.create_session("user-123", "user-456")
    plain = agent._agent

    async def with_retries(max_retries: int) -> None:
        retry_count = 0
        while retry_count < max_retries:
            try:
                await plain.execute_task({"description": "Fail"}, {"session_id": "user-123"})
            except TimeoutError:
                retry_count += 1
                await context_engine.update_session(
                    session_id="user-123", increment_requests=True, mark_error=True
                )
                if retry_count >= max_retries:
                    await context_engine.end_session("user-123", status="failed")
                    raise

    with pytest.raises(TimeoutError):
        await with_retries(3)
    session = await found(context_engine, "user-123")
    assert (session.status, session.request_count, session.error_count) == ("failed", 3, 3)


async def test_s1_35_s1_36_health(context_engine: ContextSessions, agent: Any) -> None:
    """Warned above 30 % errors, ended above 50 %."""
    warnings = []
    for description in ("Fine", "Fine", "Fail", "Fail", "Fail"):
        try:
            await agent.execute_task({"description": description}, {"session_id": "user-123"})
        except TimeoutError:
            session = await found(context_engine, "user-123")
            error_rate = session.error_count / session.request_count
            if error_rate > 0.3:
                warnings.append(round(error_rate, 2))
                if error_rate > 0.5:
                    await context_engine.end_session(session.session_id, status="failed")
    assert warnings == [0.33, 0.5, 0.6]
    session = await found(context_engine, "user-123")
    assert session.status == "failed"
    assert not session.error_count > 10


# --- production -----------------------------------------------------------------------------------


async def test_s1_18_s1_19_s1_37_limits(context_engine: ContextSessions) -> None:
    """Count the active ones, clean up, count again, and refuse."""

    async def create(session_id: str) -> ContextSession:
        active = await context_engine.list_sessions(status="active")
        if len(active) >= MAX_SESSIONS:
            await context_engine.cleanup_inactive_sessions(max_idle_seconds=900)
            active = await context_engine.list_sessions(status="active")
            if len(active) >= MAX_SESSIONS:
                raise RuntimeError("Maximum session limit reached")
        return await context_engine.create_session(session_id=session_id, user_id="user-456")

    for number in range(MAX_SESSIONS):
        await create(f"s{number}")
    with pytest.raises(RuntimeError, match="Maximum"):
        await create("one too many")
    await context_engine.end_session("s0")
    await create("again")
    assert len(await context_engine.list_sessions(status="completed")) == 1
    with pytest.raises(ValueError, match="not as"):
        await context_engine.list_sessions(status="unheard of")


async def test_s1_37_a_limit_that_holds(
    context_engine: ContextSessions, client: sojourn.AsyncClient
) -> None:
    """The policy's, for callers that come at once: the document's own lets some slip through."""
    await client.apps.update(policy=sojourn.Policy(max_active_sessions=MAX_SESSIONS))
    results = await asyncio.gather(
        *(context_engine.create_session(f"s{n}", "user-456") for n in range(8)),
        return_exceptions=True,
    )
    refused = [one for one in results if isinstance(one, sojourn.errors.QuotaExceededError)]
    assert len(refused) == 8 - MAX_SESSIONS


async def test_s1_38_time_out(context_engine: ContextSessions) -> None:
    await context_engine.create_session("user-123", "user-456")
    await asyncio.sleep(0.01)
    session = await context_engine.get_session("user-123")
    if session and session.is_expired(max_idle_seconds=0.01):
        await context_engine.end_session("user-123", status="expired")
        session = await context_engine.create_session("user-123-new", user_id="user-456")
    assert session is not None
    assert (session.session_id, session.status) == ("user-123-new", "active")


async def test_s1_39_s1_40_pooling(
    context_engine: ContextSessions, agent: Any, client: sojourn.AsyncClient
) -> None:
    """One session for each user; after it expired, a new one under the same id, and empty."""
    limit = 1800.0

    async def get_or_create_session(user_id: str) -> str:
        session_id = f"user-{user_id}"
        session = await context_engine.get_session(session_id)
        if not session or session.is_expired(max_idle_seconds=limit):
            session = await context_engine.create_session(session_id=session_id, user_id=user_id)
        return session_id

    async def use() -> str:
        session_id = await get_or_create_session("user-456")
        await agent.execute_task({"description": "Task"}, {"session_id": session_id})
        return (await found(context_engine, session_id)).session.uid

    first = await use()
    assert await use() == first
    assert (await found(context_engine, "user-user-456")).request_count == 2
    # It is only idle for too long, and nobody ended it.
    await asyncio.sleep(0.01)
    limit = 0.01
    second = await use()
    assert second != first
    assert (await found(context_engine, "user-user-456")).request_count == 1
    # The server ended it.
    limit = 1800.0
    await client.sessions.end("user-user-456", user="user-456", status=sojourn.Status.EXPIRED)
    third = await use()
    assert third not in (first, second)
    assert await client.sessions.list(status="any").count() == 1


# --- best practices -------------------------------------------------------------------------------


async def test_s1_42_ended_in_any_case(context_engine: ContextSessions, agent: Any) -> None:
    async def once() -> None:
        try:
            await agent.execute_task({"description": "Fail"}, {"session_id": "user-123"})
        finally:
            await context_engine.end_session("user-123", status="completed")

    with pytest.raises(TimeoutError):
        await once()
    assert (await found(context_engine, "user-123")).status == "completed"


async def test_s1_01_each_user_has_a_conversation(context_engine: ContextSessions) -> None:
    for user in ("ann", "bob"):
        await context_engine.create_session(f"user-{user}", user)
        await context_engine.add_conversation_message(f"user-{user}", "user", f"I am {user}.")
    [message] = await context_engine.get_conversation_history("user-bob")
    assert (message.role, message.content) == ("user", "I am bob.")
