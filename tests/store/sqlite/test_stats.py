"""The figures of the SQLite store: rows counted in steps, memory and file, sizes."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from sojourn_server.store.base import Store, Tx
from sojourn_server.store.sqlite import SqliteStore, census
from sojourn_server.store.stats import Rows
from tests.store.backends import Backend
from tests.store.kit import (
    a_request,
    a_session,
    apply,
    content_of,
    create,
    found,
    insert,
    put,
    put_message,
)


async def fill(store: Store, sessions: int, messages: int) -> None:
    """Sessions, each with messages and a request record."""

    async def unit(tx: Tx) -> None:
        for number in range(sessions):
            row = await insert(tx, a_session(f"s-{number}"))
            for sequence in range(1, messages + 1):
                await put_message(tx, row, sequence)
            await tx.put_request(a_request(f"r-{number}"))

    await apply(store, unit)


async def counted(store: Store) -> tuple[Rows, int]:
    """The rows, and how many looks it took to know them."""
    for number in range(1, 1_000):
        stats = await store.stats()
        if stats.rows is not None:
            return stats.rows, number
    raise AssertionError("they are never counted")


@pytest.mark.parametrize("most", [1, 2, 7, 20, 21, 1_000])
async def test_rows_are_counted_in_steps_of_any_size(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    store = await backend.open()
    await fill(store, sessions=20, messages=3)
    monkeypatch.setattr(census, "STEP", most)
    again = await backend.reopen(store)
    rows, looks = await counted(again)
    assert rows == Rows(sessions=20, messages=60, changes=20, requests=20)
    assert looks == sum(size // most + 1 for size in (20, 60, 20, 20))


async def test_a_step_reads_no_more_than_it_is_allowed(store: Store) -> None:
    """A bound that is not kept would be a scan of the table."""
    assert isinstance(store, SqliteStore)
    await fill(store, sessions=50, messages=2)
    with sqlite3.connect(store.path) as connection:
        place = census.step(connection.execute, census.Place(), 10)
        assert (place.walk, place.found) == (0, 10)
        opcodes = 0

        def tick() -> int:
            nonlocal opcodes
            opcodes += 1
            return 0

        connection.set_progress_handler(tick, 1)
        census.step(connection.execute, place, 10)
        small = opcodes
        census.step(connection.execute, place, 40)
    assert opcodes - small > 2 * small
    connection.close()


async def test_rows_follow_what_is_written_after_the_count(store: Store) -> None:
    await fill(store, sessions=3, messages=1)
    await counted(store)
    await fill_one_more(store)
    rows, looks = await counted(store)
    assert rows == Rows(sessions=4, messages=5, changes=4, requests=3)
    assert looks == 1


async def fill_one_more(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        row = await insert(tx, a_session("more"))
        await put_message(tx, row, 1)
        old = await tx.session_by_key(row.session.app, "ann", "s-0")
        assert old is not None
        await put_message(tx, old, 2)
        await tx.remove_messages(old, [await put_message(tx, old, 3)])

    await apply(store, unit)


async def test_looks_at_once_count_nothing_twice(backend: Backend) -> None:
    store = await backend.open()
    await fill(store, sessions=20, messages=1)
    again = await backend.reopen(store)
    await asyncio.gather(*(again.stats() for _ in range(20)))
    rows, _ = await counted(again)
    assert rows == Rows(sessions=20, messages=20, changes=20, requests=20)


def test_a_step_that_was_overtaken_counts_for_nothing() -> None:
    counting = census.Census()
    began = counting.place
    counting.note(began, census.Place(1, None, 20), Rows())
    counting.note(counting.place, census.Place(1, (1, 1), 7), Rows())
    place = counting.place
    counting.note(began, census.Place(1, None, 20), Rows())
    assert counting.place is place


async def test_a_read_of_a_fresh_session_is_from_memory_and_of_its_content_is_not(
    store: Store,
) -> None:
    await create(store, a_session())
    text = await put(store, b"text")
    before = await store.stats()
    await found(store, "s-1")
    after = await store.stats()
    assert after.reads_from_memory - before.reads_from_memory == 1
    await content_of(store, text)
    # The look itself is a read of the file.
    assert (await store.stats()).reads_from_database - after.reads_from_database == 2


async def test_the_sizes_are_those_of_the_files(store: Store) -> None:
    assert isinstance(store, SqliteStore)
    before = await store.stats()
    await put(store, b"x" * 200_000)
    stats = await store.stats()
    wal = store.path.with_name(f"{store.path.name}-wal")
    assert stats.bytes == {"database": store.path.stat().st_size, "wal": wal.stat().st_size}
    assert stats.bytes["wal"] - before.bytes["wal"] > 200_000


async def test_pages_in_no_use_are_free_bytes(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        row = await insert(tx, a_session())
        for sequence in range(1, 2_001):
            await put_message(tx, row, sequence)

    await apply(store, unit)
    assert (await store.stats()).free_bytes == 0
    row = await found(store, "s-1")
    await apply(store, lambda tx: tx.purge_messages(row, 1, 2_000, 10_000))
    free = (await store.stats()).free_bytes
    assert free is not None
    assert free > 100_000
    assert free % 4_096 == 0
