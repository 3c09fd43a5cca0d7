"""What a store tells of itself."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.store.base import Store, StoreDown, Tx
from sojourn_server.store.stats import Rows, StoreStats
from tests.store.backends import Backend
from tests.store.kit import (
    START,
    Boom,
    a_request,
    a_session,
    apply,
    create,
    delete,
    finish_purges,
    insert,
    put_message,
    session_with_messages,
)


@pytest.mark.rule("S60")
async def test_what_is_committed_is_counted_by_table(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        row = await insert(tx, a_session("s-2"))
        for sequence in (1, 2, 3):
            await put_message(tx, row, sequence)
        await tx.put_request(a_request())

    before = await store.stats()
    assert (before.added, before.removed) == (Rows(), Rows())
    await create(store, a_session())
    await apply(store, unit)
    after = await store.stats()
    assert after.added == Rows(sessions=2, messages=3, changes=2, requests=1)
    assert after.removed == Rows()


@pytest.mark.rule("S60")
async def test_what_is_removed_is_counted_too(store: Store) -> None:
    row = await session_with_messages(store, 10)
    await apply(store, lambda tx: tx.put_request(a_request()))
    await apply(store, lambda tx: tx.purge_messages(row, 1, 8, 3))
    await finish_purges(store)
    await store.forget_requests(START + 1, 10)
    await delete(store, row)
    stats = await store.stats()
    assert stats.removed == Rows(sessions=1, messages=8, requests=1)


@pytest.mark.rule("S60")
async def test_what_a_failed_unit_wrote_is_not_counted_nor_are_its_neighbours_forgotten(
    store: Store,
) -> None:
    async def fails(tx: Tx) -> None:
        await put_message(tx, await insert(tx, a_session("bad")), 1)
        raise Boom

    good = [create(store, a_session(f"s-{number}")) for number in range(5)]
    done = await asyncio.gather(*good, apply(store, fails), return_exceptions=True)
    assert [type(each) for each in done if isinstance(each, BaseException)] == [Boom]
    assert (await store.stats()).added == Rows(sessions=5, changes=5)


@pytest.mark.rule("S60")
async def test_commits_are_counted_with_their_units_and_their_time(store: Store) -> None:
    before = await store.stats()
    await asyncio.gather(*(create(store, a_session(f"s-{number}")) for number in range(20)))
    after = await store.stats()
    commits = after.commit_units.count - before.commit_units.count
    assert 1 <= commits <= 20
    assert after.commit_units.total - before.commit_units.total == 20
    assert after.commit_seconds.count - before.commit_seconds.count == commits
    assert after.commit_seconds.total > before.commit_seconds.total
    assert after.commits_failed == before.commits_failed == 0


@pytest.mark.rule("S60")
async def test_units_that_wait_are_seen_waiting(store: Store) -> None:
    writes = [asyncio.create_task(create(store, a_session(f"s-{n}"))) for n in range(600)]
    await asyncio.sleep(0)
    assert (await store.stats()).units_waiting > 0
    await asyncio.gather(*writes)
    assert (await store.stats()).units_waiting == 0


@pytest.mark.rule("S60")
async def test_reads_are_counted_by_where_they_were_answered(store: Store) -> None:
    before = await store.stats()
    for _ in range(5):
        await store.read(lambda tx: tx.next_due())
    after = await store.stats()

    def reads(stats: StoreStats) -> int:
        return stats.reads_from_memory + stats.reads_from_database

    assert reads(after) - reads(before) >= 5
    assert after.reads_from_database >= before.reads_from_database
    assert after.reads_from_memory >= before.reads_from_memory


@pytest.mark.rule("S60")
async def test_the_rows_come_to_be_known_and_the_counts_begin_anew(
    store: Store, backend: Backend
) -> None:
    await session_with_messages(store, 30)
    again = await backend.reopen(store)
    stats = await again.stats()
    for _ in range(10):
        assert (stats.added, stats.removed) == (Rows(), Rows())
        stats = await again.stats()
    assert stats.rows is not None
    assert sum(stats.bytes.values()) > 0
    assert stats.free_bytes is None or stats.free_bytes >= 0


@pytest.mark.rule("S60", "S52")
async def test_a_closed_store_has_no_figures(store: Store) -> None:
    await store.close()
    with pytest.raises(StoreDown):
        await store.stats()
