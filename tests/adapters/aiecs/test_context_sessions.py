"""What `ContextSessions` promises beyond the document."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

import sojourn
from sojourn.adapters import aiecs
from sojourn.adapters.aiecs import ContextSessions
from sojourn.errors import SessionExistsError, UnavailableError
from tests.acceptance.kit import Place


@pytest.fixture
async def other(place: Place, app: str) -> Any:
    """Another process with the same sessions."""
    async with ContextSessions(f"sojourn://{place.target}", app=app) as other:
        yield other


async def test_an_active_session_is_never_taken_from_whoever_uses_it(
    context_engine: ContextSessions, other: ContextSessions
) -> None:
    """Creating it again returns it; also when it looked idle and somebody used it since."""
    made = await context_engine.create_session("s", "ann", {"a": 1})
    await other.add_conversation_message("s", "user", "hello")
    again = await other.create_session("s", "ann", {"a": 2})
    assert (again.session.uid, again.metadata) == (made.session.uid, {"a": 1})
    await asyncio.sleep(0.1)
    seen = await context_engine.get_session("s")
    assert seen is not None
    assert seen.is_expired(max_idle_seconds=0.1)
    await other.update_session("s", increment_requests=True)
    # Longer than these two lines take, shorter than it was idle before.
    context_engine._limits[made.session.uid] = 60
    kept = await context_engine.create_session("s", "ann")
    assert kept.session.uid == made.session.uid
    assert [one.content for one in await other.get_conversation_history("s")] == ["hello"]


async def test_many_create_one_session(
    context_engine: ContextSessions, other: ContextSessions
) -> None:
    engines = (context_engine, other) * 5
    made = await asyncio.gather(*(one.create_session("s", "ann") for one in engines))
    assert len({one.session.uid for one in made}) == 1


async def test_an_id_is_of_one_user(
    context_engine: ContextSessions, other: ContextSessions
) -> None:
    """Nobody gets at somebody else's session by creating it; once it has ended the id is free."""
    await context_engine.create_session("s", "ann")
    with pytest.raises(SessionExistsError):
        await other.create_session("s", "bob")
    await context_engine.end_session("s")
    assert (await other.create_session("s", "bob")).user_id == "bob"
    found = await context_engine.get_session("s")
    assert found is not None
    assert (found.user_id, found.status) == ("bob", "active")


async def test_others_see_users_metadata_and_counters(
    context_engine: ContextSessions, client: sojourn.AsyncClient
) -> None:
    """A session like any other: the user's quota, erasure and sums are the server's."""
    await context_engine.create_session(" s ", "ann", {"device": "mobile"})
    await context_engine.update_session("s", increment_requests=True, add_processing_time=2)
    session = await client.sessions.get("s", user="ann")
    assert session.labels == {"aiecs.session": "s"}
    assert dict(session.metadata) == {"device": "mobile"}
    assert session.average_processing_time == timedelta(seconds=2)
    await client.users.erase("ann")
    assert await context_engine.get_session("s") is None


async def test_names_of_fields_and_dictionaries(context_engine: ContextSessions) -> None:
    """AIECS hands out dictionaries, its document attributes: both can be read."""
    made = await context_engine.create_session("s", "ann", {"a": [1.0, None]})
    assert made["session_id"] == made.session_id == made.to_dict()["session_id"] == "s"
    assert made.to_dict()["created_at"] == made.created_at.isoformat()
    assert set(made.to_dict()) == {
        *("session_id", "user_id", "created_at", "last_activity", "status"),
        *("request_count", "error_count", "total_processing_time"),
    }
    assert (made.get("status"), made.get("colour", "none")) == ("active", "none")
    with pytest.raises(KeyError):
        made["session"]
    assert repr(made["metadata"]) == "{'a': [1.0, None]}"


async def test_updates_are_metadata_or_an_end(context_engine: ContextSessions) -> None:
    await context_engine.create_session("s", "ann", {"a": 1})
    assert await context_engine.update_session("s", {"b": 2, "status": "active"})
    assert await context_engine.update_session("s", {"a": 3, "status": "failed"}, mark_error=True)
    found = await context_engine.get_session("s")
    assert found is not None
    assert (found.metadata, found.status, found.error_count) == ({"a": 3, "b": 2}, "failed", 1)
    for wrong in ({"request_count": 7}, {"status": "done"}):
        with pytest.raises(ValueError, match=r"say|ends as"):
            await context_engine.update_session("s", wrong)


async def test_a_sign_of_life(context_engine: ContextSessions) -> None:
    """An update without anything to count moves the last activity."""
    before = await context_engine.create_session("s", "ann")
    await asyncio.sleep(0.002)
    assert await context_engine.update_session("s")
    after = await context_engine.get_session("s")
    assert after is not None
    assert after.last_activity > before.last_activity


async def test_conversations(context_engine: ContextSessions) -> None:
    """In order, cut from the older end; of a session that the first message makes."""
    texts = [f"Grüße {number} 🎉" for number in range(60)]
    for text in texts:
        assert await context_engine.add_conversation_message("s", "user", text, {"n": text})
    history = await context_engine.get_conversation_history("s")
    assert [one.content for one in history] == texts[-50:]
    assert history[-1].to_dict()["metadata"] == {"n": texts[-1]}
    assert history[-1].timestamp.tzinfo is None
    assert len(await context_engine.get_conversation_history("s", limit=0)) == 60
    assert [one.content for one in await context_engine.get_conversation_history("s", 1)] == [
        texts[-1]
    ]
    assert await context_engine.get_conversation_history("nobody") == []
    assert await context_engine.end_session("s", status="cleared")
    assert await context_engine.get_conversation_history("s") == []
    assert await context_engine.add_conversation_message("s", "user", "anew")
    assert await context_engine.end_session("s")
    assert not await context_engine.add_conversation_message("s", "user", "too late")
    assert [one.content for one in await context_engine.get_conversation_history("s")] == ["anew"]


async def test_nothing_expires_unless_told(place: Place, client: sojourn.AsyncClient) -> None:
    await client.apps.update(policy=sojourn.Policy(default_idle_timeout=60))
    for_ever = ContextSessions(client)
    for_an_hour = ContextSessions(
        client, labels={"team": "a"}, idle_timeout=3600, max_lifetime=7200
    )
    session = (await for_ever.create_session("a", "ann")).session
    assert (session.idle_timeout, session.max_lifetime) == (timedelta(0), timedelta(0))
    session = (await for_an_hour.create_session("b", "ann")).session
    assert (session.idle_timeout, session.max_lifetime) == (
        timedelta(hours=1),
        timedelta(hours=2),
    )
    assert session.labels == {"team": "a", "aiecs.session": "b"}


async def test_old_sessions_are_removed(
    context_engine: ContextSessions, client: sojourn.AsyncClient
) -> None:
    """AIECS' other clean-up: what was idle for hours is gone with its content."""
    await context_engine.create_session("s", "ann")
    await client.sessions.create("of-somebody-else")
    assert await context_engine.cleanup_expired_sessions() == 0
    await asyncio.sleep(0.01)
    assert await context_engine.cleanup_expired_sessions(max_idle_hours=0.01 / 3600) == 1
    assert await context_engine.get_session("s") is None
    assert await client.sessions.list().count() == 1


async def test_health(context_engine: ContextSessions) -> None:
    assert await context_engine.health_check() == {
        "status": "healthy",
        "storage_backend": "sojourn",
        "issues": [],
    }


async def test_a_server_that_is_away(agent: Any) -> None:
    """Told at once, never papered over; but a failed task's own error is what its caller hears."""
    options = sojourn.RetryOptions(max_attempts=1)
    async with sojourn.AsyncClient("127.0.0.1:9", app="a", deadline=0.5, retry=options) as client:
        away = ContextSessions(client)
        with pytest.raises(UnavailableError):
            await away.initialize()
        health = await away.health_check()
        assert (health["status"], health["issues"]) == ("degraded", ["UnavailableError"])
        tracked = away.track(agent._agent)
        with pytest.raises(UnavailableError):
            await tracked.execute_task({"description": "Hello"}, {"session_id": "s"})


async def test_an_error_of_the_task_is_not_hidden(
    context_engine: ContextSessions, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> bool:
        raise UnavailableError("away", method="UpdateSession")

    await context_engine.create_session("s", "ann")
    monkeypatch.setattr(context_engine, "update_session", away)
    with pytest.raises(TimeoutError):
        await agent.execute_task({"description": "Fail"}, {"session_id": "s"})
    with pytest.raises(UnavailableError):
        await agent.execute_task({"description": "Fine"}, {"session_id": "s"})


async def test_verdicts_are_not_kept_for_ever(
    context_engine: ContextSessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that looks at sessions for years remembers a bounded number of them."""
    monkeypatch.setattr(aiecs, "VERDICTS", 2)
    for number in range(4):
        session = await context_engine.create_session(f"s{number}", "ann")
        assert session.is_expired(max_idle_seconds=0)
    assert len(context_engine._limits) == 2
