"""Rows S1-37 to S1-43: the patterns that a context engine's users write themselves."""

from __future__ import annotations

import asyncio

import pytest

from sojourn import AsyncClient, IfExists, NewMessage, Status, errors


async def test_s1_38_a_new_session_after_a_time_out(client: AsyncClient) -> None:
    """A timed-out session is noticed, closed as expired, and followed by a new one."""
    await client.sessions.create("user-123", user="user-456", idle_timeout=0.05)
    await asyncio.sleep(0.06)
    session = await client.sessions.get("user-123", user="user-456")
    assert session.is_expired(max_idle=1800)
    # The server has closed it already, which is no error to whoever closes it again.
    ended = await client.sessions.end("user-123", user="user-456", status=Status.EXPIRED)
    assert not ended.changed
    new = await client.sessions.create("user-123-new", user="user-456")
    assert [one.uid async for one in client.sessions.list(user="user-456")] == [new.uid]


async def test_s1_39_the_same_id_again_after_expiry(client: AsyncClient) -> None:
    """A pool that keeps one id per user gets an empty session under it once the old one expired."""
    old = await client.sessions.create("user-456", user="u", idle_timeout=0.05)
    await client.messages.append(old, NewMessage("user", "old talk"))
    await asyncio.sleep(0.06)
    with pytest.raises(errors.SessionExistsError) as refused:
        await client.sessions.create("user-456", user="u")
    assert refused.value.metadata["status"] == "EXPIRED"
    with pytest.raises(errors.SessionEndedError):
        await client.sessions.get_or_create("user-456", user="u")
    new = await client.sessions.create("user-456", user="u", if_exists=IfExists.REPLACE_ENDED)
    assert new.is_active
    assert new.uid != old.uid
    assert new.message_count == 0
    # Who still holds the old one does not write into the new one.
    with pytest.raises(errors.UidMismatchError):
        await client.messages.append(old, NewMessage("user", "straggler"))
    # An active one is never replaced.
    with pytest.raises(errors.SessionExistsError):
        await client.sessions.create("user-456", user="u", if_exists=IfExists.REPLACE_ENDED)


async def test_s1_40_a_pool_that_is_never_stale(client: AsyncClient) -> None:
    """Sessions held at hand in the program vanish from there as soon as they expire or end."""
    async with client.sessions.cache() as pool:
        ends = await client.sessions.create("ends", user="u")
        expires = await client.sessions.create("expires", user="u")
        await pool.wait_until(expires.revision)
        assert {one.session_id for one in pool.list(user="u")} == {"ends", "expires"}
        ended = await client.sessions.end(ends)
        await pool.wait_until(ended.revision)
        assert pool.get("ends", user="u") is None
        shortened = await client.sessions.update(expires, idle_timeout=0.05)
        await pool.wait_until(shortened.revision + 1)
        assert pool.get("expires", user="u") is None
        assert len(pool) == 0


async def test_s1_41_one_id_one_conversation(client: AsyncClient) -> None:
    """However many workers ask for a conversation by its id at once, they get the same session."""
    got = await asyncio.gather(
        *(client.sessions.get_or_create("user-456", user="u") for _ in range(20))
    )
    assert len({session.uid for session, _ in got}) == 1
    assert sum(created for _, created in got) == 1
    assert await client.sessions.list(user="u").count() == 1


async def test_s1_42_ended_whatever_happens(client: AsyncClient) -> None:
    """Leaving the block ends the session: completed, or failed with the exception's name."""
    async with client.session("fine") as session:
        await session.append("user", "Hello")
    with pytest.raises(ValueError, match="bad"):
        async with client.session("broken"):
            raise ValueError("bad")
    with pytest.raises(asyncio.CancelledError):
        async with client.session("cancelled"):
            raise asyncio.CancelledError
    found = {name: await client.sessions.get(name) for name in ("fine", "broken", "cancelled")}
    assert {name: one.status.value for name, one in found.items()} == {
        "fine": "COMPLETED",
        "broken": "FAILED",
        "cancelled": "FAILED",
    }
    assert found["broken"].end_reason == "ValueError"
