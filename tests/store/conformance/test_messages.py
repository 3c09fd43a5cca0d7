"""Messages: in order, within bounds, without what is removed, one for each id."""

from __future__ import annotations

from operator import methodcaller
from typing import Any

import pytest

from sojourn_server.domain.model import Message
from sojourn_server.store.base import KeyTaken, MessageRange, SessionRow, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    a_message,
    a_session,
    apply,
    changed,
    content_of,
    create,
    finish_purges,
    found,
    head,
    insert,
    log_of,
    message_at,
    message_of_id,
    put_message,
    read_all,
    session_with_messages,
)


async def sequences(store: Store, row: SessionRow, **which: Any) -> list[int]:
    asked = MessageRange(**which)
    return [each.sequence for each in await store.read(lambda tx: tx.messages(row, asked))]


async def bodies(store: Store, row: SessionRow) -> list[bytes]:
    """The bodies of a session's messages, the oldest first."""
    found_ = await store.read(lambda tx: tx.messages(row, MessageRange(limit=10_000)))
    return list(await store.read(lambda tx: tx.contents([each.body for each in found_])))


async def purge(
    store: Store, row: SessionRow, low: int, high: int, limit: int
) -> tuple[bool, SessionRow, bool]:
    """Purge as the service does; whether it is done, the new row, whether it is scrubbed."""

    async def unit(tx: Tx) -> tuple[bool, SessionRow]:
        done = await tx.purge_messages(row, low, high, limit)
        ranges = row.session.removed_ranges if done else (*row.session.removed_ranges, (low, high))
        return done, await tx.update_session(row, changed(row.session, removed_ranges=ranges), None)

    answer = await apply(store, unit)
    done, new = answer.value
    return done, new, answer.scrubbed


@pytest.mark.rule("S20")
async def test_messages_come_back_as_they_were(store: Store) -> None:
    messages = [
        a_message(1, message_id="🐘", role="tool", content_type="image/png", size=0),
        a_message(5, event_time=0),
        a_message(6, event_time=-3, create_time=7, size=1 << 20),
    ]

    async def unit(tx: Tx) -> SessionRow:
        row = await insert(tx, a_session())
        await tx.insert_messages(row, messages)
        return row

    row = (await apply(store, unit)).value
    assert list(await store.read(lambda tx: tx.messages(row, MessageRange()))) == messages
    for message in messages:
        assert await message_of_id(store, row, message.message_id) == message
        assert await message_at(store, row, message.sequence) == message
    assert await store.read(lambda tx: tx.message_by_id(row, "none")) is None
    assert await store.read(lambda tx: tx.message_by_sequence(row, 2)) is None


@pytest.mark.rule("S20")
async def test_messages_are_read_within_bounds_in_both_directions(store: Store) -> None:
    row = await session_with_messages(store, 9)
    await session_with_messages(store, 9, "other")
    assert await sequences(store, row) == list(range(1, 10))
    assert await sequences(store, row, after_sequence=3) == [4, 5, 6, 7, 8, 9]
    assert await sequences(store, row, before_sequence=4) == [1, 2, 3]
    assert await sequences(store, row, after_sequence=2, before_sequence=5) == [3, 4]
    assert await sequences(store, row, after_sequence=4, before_sequence=5) == []
    assert await sequences(store, row, after_sequence=5, before_sequence=2) == []
    assert await sequences(store, row, descending=True, limit=3) == [9, 8, 7]
    assert await sequences(store, row, descending=True, before_sequence=4) == [3, 2, 1]
    assert await sequences(store, row, limit=2) == [1, 2]
    assert await sequences(store, row, limit=0) == []


@pytest.mark.rule("S20")
async def test_messages_are_read_from_an_event_time_on(store: Store) -> None:
    times = {1: 50, 2: None, 3: 10, 4: 30, 5: 30, 6: None, 7: 90}

    async def unit(tx: Tx) -> SessionRow:
        row = await insert(tx, a_session())
        await tx.insert_messages(row, [a_message(n, event_time=t) for n, t in times.items()])
        return row

    row = (await apply(store, unit)).value
    assert await sequences(store, row, event_time_not_before=30) == [1, 4, 5, 7]
    assert await sequences(store, row, event_time_not_before=31, descending=True) == [7, 1]
    assert await sequences(store, row, event_time_not_before=30, after_sequence=4, limit=1) == [5]
    assert await sequences(store, row, event_time_not_before=-5) == [1, 3, 4, 5, 7]


@pytest.mark.rule("S20")
async def test_removed_ranges_are_not_seen_though_their_rows_are_there(store: Store) -> None:
    row = await session_with_messages(store, 12)
    row = SessionRow(
        row.pk, row.create_order, changed(row.session, removed_ranges=((9, 10), (1, 3), (6, 6)))
    )
    assert await sequences(store, row) == [4, 5, 7, 8, 11, 12]
    assert await sequences(store, row, descending=True) == [12, 11, 8, 7, 5, 4]
    assert await sequences(store, row, limit=3) == [4, 5, 7]
    assert await sequences(store, row, limit=2, descending=True, before_sequence=11) == [8, 7]
    assert await sequences(store, row, after_sequence=1, before_sequence=4) == []
    assert await sequences(store, row, after_sequence=5, before_sequence=9) == [7, 8]
    for sequence, there in {1: False, 3: False, 4: True, 6: False, 10: False, 12: True}.items():
        by_id = await message_of_id(store, row, f"m-{sequence}")
        by_number = await message_at(store, row, sequence)
        assert (by_id is not None) == (by_number is not None) == there
    assert await store.read(lambda tx: tx.message_totals(row, 1, 12)) == (6, 6 * 6 + 2)
    assert await store.read(lambda tx: tx.message_totals(row, 4, 5)) == (2, 12)
    assert await store.read(lambda tx: tx.message_totals(row, 1, 3)) == (0, 0)


@pytest.mark.rule("S21")
async def test_a_message_id_is_taken_once_in_a_session(store: Store) -> None:
    row = await session_with_messages(store, 3)
    await session_with_messages(store, 3, "other")
    for taken in (a_message(9, message_id="m-2"), a_message(2, message_id="new")):
        with pytest.raises(KeyTaken):
            await apply(store, methodcaller("insert_messages", row, [a_message(8), taken]))
    assert await sequences(store, row) == [1, 2, 3]


@pytest.mark.rule("S21")
async def test_the_id_of_a_removed_message_is_free_again(store: Store) -> None:
    row = await session_with_messages(store, 4)
    second = await store.read(lambda tx: tx.message_by_id(row, "m-2"))
    assert second is not None

    async def unit(tx: Tx) -> None:
        await tx.remove_messages(row, [second])
        await put_message(tx, row, 5, b"again", message_id="m-2")

    await apply(store, unit)
    assert await sequences(store, row) == [1, 3, 4, 5]
    assert await content_of(store, second.body) == b"text 2", "the body is the caller's"


@pytest.mark.rule("S21")
async def test_the_id_of_a_message_whose_purge_is_left_over_is_free_again(store: Store) -> None:
    row = await session_with_messages(store, 6)
    done, row, _ = await purge(store, row, 1, 6, 2)
    assert not done

    async def unit(tx: Tx) -> Message:
        assert await tx.message_by_id(row, "m-5") is None
        return await put_message(tx, row, 7, b"again", message_id="m-5")

    message = (await apply(store, unit)).value
    assert await store.read(lambda tx: tx.message_by_id(row, "m-5")) == message
    assert await sequences(store, row) == [7]
    await finish_purges(store, 2)
    row = await found(store, "s-1")
    assert row.session.removed_ranges == ()
    assert await bodies(store, row) == [b"again"]


@pytest.mark.rule("S20", "S31")
async def test_a_purge_within_its_limit_is_done_at_once(store: Store) -> None:
    row = await session_with_messages(store, 5)
    ids = [each.body for each in await store.read(lambda tx: tx.messages(row, MessageRange()))]
    done, row, scrubbed = await purge(store, row, 2, 4, 3)
    assert (done, scrubbed) == (True, store.scrubs)
    assert await sequences(store, row) == [1, 5]
    assert await bodies(store, row) == [b"text 1", b"text 5"]
    assert list(await store.read(lambda tx: tx.contents(ids[1:4]))) == [b""] * 3
    assert await store.purge(10)


@pytest.mark.rule("S20", "S31")
async def test_what_a_purge_leaves_over_is_finished_later(store: Store) -> None:
    row = await session_with_messages(store, 20)
    other = await session_with_messages(store, 20, "other")
    revision = await head(store)
    done, row, scrubbed = await purge(store, row, 3, 18, 5)
    assert (done, scrubbed) == (False, False)
    assert await sequences(store, row) == [1, 2, 19, 20]
    steps = 0
    while not await store.purge(5):
        steps += 1
        current = await found(store, "s-1")
        assert await sequences(store, current) == [1, 2, 19, 20]
    assert 1 <= steps <= 10
    current = await found(store, "s-1")
    assert current.session.removed_ranges == ()
    assert await bodies(store, current) == [b"text 1", b"text 2", b"text 19", b"text 20"]
    assert len(await bodies(store, other)) == 20
    assert await head(store) == revision, "a purge is not a change"
    assert len(await log_of(store)) == revision


@pytest.mark.rule("S20")
async def test_a_purged_range_goes_from_a_merged_one_too(store: Store) -> None:
    row = await session_with_messages(store, 10)

    async def unit(tx: Tx) -> None:
        assert not await tx.purge_messages(row, 1, 4, 1)
        assert not await tx.purge_messages(row, 5, 8, 1)
        await tx.update_session(row, changed(row.session, removed_ranges=((1, 8),)), None)

    await apply(store, unit)
    for _ in range(20):
        current = await found(store, "s-1")
        assert await sequences(store, current) == [9, 10]
        if await store.purge(1):
            break
    assert (await found(store, "s-1")).session.removed_ranges == ()


@pytest.mark.rule("S31")
async def test_a_purge_outlives_its_session_and_a_crash(backend: Backend, store: Store) -> None:
    row = await session_with_messages(store, 10)
    ids = [each.body for each in await store.read(lambda tx: tx.messages(row, MessageRange()))]

    async def unit(tx: Tx) -> bool:
        done = await tx.purge_messages(row, 1, 10, 2)
        await tx.delete_session(row)
        return done

    answer = await apply(store, unit)
    assert (answer.value, answer.scrubbed) == (False, False)
    new = await session_with_messages(store, 3, body=b"x" * 500)
    survivor = await backend.after_crash(store)
    await finish_purges(survivor, 3)
    assert list(await survivor.read(lambda tx: tx.contents(ids))) == [b""] * 10
    assert await survivor.read(lambda tx: read_all(tx, row)) == []
    assert len(await bodies(survivor, await found(survivor, "s-1"))) == 3
    assert new.pk != row.pk


@pytest.mark.rule("S20")
async def test_an_empty_range_is_purged_at_once(store: Store) -> None:
    row = await create(store, a_session())
    done, _, scrubbed = await purge(store, row, 1, 1_000_000, 10)
    assert (done, scrubbed) == (True, True)


@pytest.mark.rule("S20")
async def test_an_id_that_no_message_can_have_finds_none(store: Store) -> None:
    row = await session_with_messages(store, 2)
    assert await store.read(lambda tx: tx.message_by_id(row, "a\0b")) is None
