"""Rows S2-13 and S2-24 to S2-27: limits, copies and records of a memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from sojourn import (
    AsyncClient,
    AsyncWatch,
    ChangeCause,
    DeletedWhy,
    NewMessage,
    OverflowAction,
    Policy,
    SessionChange,
    TimeRange,
    errors,
)
from tests.acceptance.kit import Place


async def test_s2_13_a_reset_is_on_record(client: AsyncClient) -> None:
    """That a memory was reset, by whom and when, is on record without a word of what was in it."""
    session = await client.attach("s")
    await session.append("user", "My card is 4111")
    support = client.with_options(actor="support-7")
    done = await support.sessions.reset("s", reason="user's wish: 4111")
    newest = await anext(aiter(client.admin.audit()))
    assert (newest.cause, newest.actor) == (ChangeCause.RESET, "support-7")
    assert (newest.uid, newest.revision) == (session.uid, done.revision)
    assert abs(newest.time - datetime.now(UTC)) < timedelta(minutes=1)
    assert "4111" not in repr(newest)


async def test_s2_24_old_content_goes_by_itself(own: Place) -> None:
    """The oldest messages of a long session make room by themselves, and ended sessions go."""
    policy = Policy(
        max_messages_per_session=20, overflow_action=OverflowAction.DROP_OLDEST, retention=0.1
    )
    async with own.client("support") as client:
        await client.apps.update(policy=policy)
        session = await client.attach("s")
        for first in range(0, 50, 10):
            texts = [NewMessage("user", str(n)) for n in range(first, first + 10)]
            await session.append_many(texts)
        kept = [one.content for one in await session.messages()]
        assert kept == [str(n) for n in range(30, 50)]
        await client.sessions.create("open")
        before_the_end = (await client.sessions.list(status="any").page(1)).resume_token
        await session.end()
    # What is due is looked for at every start, and every ten seconds after it.
    own.server.kill()
    own.server.start()
    async with (
        own.client("support") as client,
        client.sessions.watch(after=before_the_end) as watch,
    ):
        log = [change async for change in up_to_a_delete(watch)]
        assert [change.cause for change in log] == [ChangeCause.ENDED, ChangeCause.DELETED]
        assert log[1].deleted_why is DeletedWhy.RETENTION
        with pytest.raises(errors.SessionNotFoundError):
            await client.sessions.get("s")
        assert (await client.sessions.get("open")).is_active


async def up_to_a_delete(watch: AsyncWatch) -> AsyncIterator[SessionChange]:
    """Yield changes up to the first that removes a session."""
    async for change in watch.changes():
        assert isinstance(change, SessionChange)
        yield change
        if change.cause is ChangeCause.DELETED:
            return


async def test_s2_25_a_limit_of_size(client: AsyncClient) -> None:
    """A memory has a limit of messages and of bytes; at it, the append is refused and told why."""
    await client.apps.update(policy=Policy(max_messages_per_session=3, max_bytes_per_session=1000))
    session = await client.attach("s")
    await session.append_many([NewMessage("user", str(n)) for n in range(3)])
    with pytest.raises(errors.QuotaExceededError) as full:
        await session.append("user", "one more")
    assert full.value.metadata == {"quota": "max_messages_per_session", "limit": "3"}
    big = await client.attach("big")
    with pytest.raises(errors.QuotaExceededError) as heavy:
        await big.append("user", "x" * 1001)
    assert heavy.value.metadata == {"quota": "max_bytes_per_session", "limit": "1000"}
    assert (len(await session.messages()), len(await big.messages())) == (3, 0)
    await session.pop()
    await session.append("user", "one more")


async def test_s2_26_a_copy_before_the_reset(client: AsyncClient) -> None:
    """A reset can keep a copy of what it clears, under another id and in the same step."""
    session = await client.attach("s", user="ann", state={"mood": "good"})
    await session.append_many([NewMessage("user", "Hello"), NewMessage("assistant", "Hi")])
    done = await session.reset(backup_session_id="s-before")
    assert done.messages_cleared == 2
    assert await session.messages() == []
    copy = await client.sessions.get("s-before", user="ann", last_messages=10)
    assert [one.content for one in copy.messages] == ["Hello", "Hi"]
    assert dict(copy.state) == {"mood": "good"}
    assert copy.forked_from is not None
    assert copy.forked_from.uid == session.uid
    # Where the copy cannot be made, nothing is cleared.
    await session.append("user", "Again")
    with pytest.raises(errors.SojournError):
        await session.reset(backup_session_id="s-before")
    assert len(await session.messages()) == 1


async def test_s2_27_resets_can_be_audited(client: AsyncClient) -> None:
    """All resets of one session in a span of time can be asked for, newest first, page by page."""
    session = await client.attach("s")
    other = await client.attach("other")
    for number in range(4):
        await session.reset(reason=f"reason {number}")
        await other.reset()
    pages = client.admin.audit(uid=session.uid, page_size=2)
    entries = [one async for one in pages]
    resets = [one for one in entries if one.cause is ChangeCause.RESET]
    assert len(resets) == 4
    assert [one.revision for one in entries] == sorted(
        (one.revision for one in entries), reverse=True
    )
    assert {one.uid for one in entries} == {session.uid}
    since = TimeRange(not_before=resets[0].time)
    recent = [one async for one in client.admin.audit(uid=session.uid, time=since)]
    assert resets[0].revision in {one.revision for one in recent}
    before = TimeRange(before=session.info.create_time - timedelta(minutes=1))
    assert [one async for one in client.admin.audit(uid=session.uid, time=before)] == []
