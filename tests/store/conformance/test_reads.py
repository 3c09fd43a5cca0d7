"""Reads: one committed state each, never behind an answered write."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.model import App, Change, ChangeCause
from sojourn_server.store.base import Candidates, ReadTx, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    APP,
    Boom,
    ManualClock,
    a_session,
    an_app,
    apply,
    changed,
    create,
    found,
    head,
    insert,
    log_of,
    update,
)


@pytest.mark.rule("S7")
async def test_a_read_sees_one_state_while_others_write(store: Store) -> None:
    rows = [await create(store, a_session(f"s-{number}", message_count=0)) for number in range(4)]
    stop = asyncio.Event()

    async def writer() -> int:
        count = 0
        while not stop.is_set():
            count += 1

            async def step_all(tx: Tx, count: int = count) -> None:
                for row in rows:
                    current = await tx.session_by_key(APP, "ann", row.session.session_id)
                    assert current is not None
                    await update(tx, current, message_count=count)

            await apply(store, step_all)
        return count

    async def look(tx: ReadTx) -> tuple[int, set[int], int]:
        first = await tx.head(APP)
        counts = {row.session.message_count for row in await tx.candidates(Candidates(app=APP))}
        log = await tx.changes(APP, first - 1, 100)
        assert await tx.head(APP) == first
        return first, counts, log[-1].revision

    task = asyncio.create_task(writer())
    states: list[tuple[int, set[int], int]] = []
    for _ in range(5_000):
        states += await asyncio.gather(*(store.read(look) for _ in range(5)))
        if len({seen for seen, _, _ in states}) > 20:
            break
    stop.set()
    await task
    for seen, counts, newest in states:
        assert len(counts) == 1, "half of a unit was seen"
        assert newest == seen
        assert counts == {seen - 4}
    assert len({seen for seen, _, _ in states}) > 20


@pytest.mark.rule("S7")
async def test_a_read_begun_after_the_answer_sees_the_unit(store: Store) -> None:
    async def one(number: int) -> None:
        for step in range(20):
            row = await create(store, a_session(f"s-{number}-{step}"))
            assert await found(store, row.session.session_id) == row

    await asyncio.gather(*(one(number) for number in range(10)))


@pytest.mark.rule("S7")
async def test_a_read_that_fails_leaves_its_neighbours_alone(store: Store) -> None:
    row = await create(store, a_session())

    async def fails(tx: ReadTx) -> None:
        await tx.head(APP)
        raise Boom

    reads = [store.read(fails) if n % 2 else found(store, "s-1") for n in range(20)]
    answers = await asyncio.gather(*reads, return_exceptions=True)
    assert all(isinstance(answer, Boom) for answer in answers[1::2])
    assert all(answer == row for answer in answers[::2])


@pytest.mark.rule("S7")
async def test_a_cancelled_read_leaves_its_neighbours_alone(store: Store) -> None:
    row = await create(store, a_session())
    tasks = [asyncio.create_task(found(store, "s-1")) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert answers[1] == row
    assert await found(store, "s-1") == row


@pytest.mark.rule("S7")
async def test_now_is_the_clock_when_the_transaction_began(
    store: Store, clock: ManualClock
) -> None:
    async def now(tx: ReadTx) -> int:
        return tx.now

    for _ in range(3):
        clock.time += 1_000
        assert await store.read(now) == clock.time
        assert (await apply(store, now)).value == clock.time


@pytest.mark.rule("S8")
async def test_no_change_is_read_that_a_crash_takes_back(backend: Backend, store: Store) -> None:
    seen = 0
    tasks = []
    for number in range(10):
        tasks += [
            asyncio.create_task(create(store, a_session(f"s-{number}-{each}")))
            for each in range(10)
        ]
        for _ in range(10_000):
            if seen != (seen := await head(store)):
                break
        log = await log_of(store)
        survivor = await backend.after_crash(store)
        assert (await log_of(survivor))[: len(log)] == log
        await survivor.close()
    await asyncio.gather(*tasks)


@pytest.mark.rule("S7")
async def test_an_app_without_rows_reads_as_empty(store: Store) -> None:
    async def look(tx: ReadTx) -> None:
        assert await tx.head("none") == 0
        assert await tx.app("none") is None
        assert await tx.session_by_key("none", "ann", "s-1") is None
        assert await tx.session_by_uid("none", a_session().uid) is None
        assert list(await tx.candidates(Candidates(app="none"))) == []
        assert list(await tx.changes("none", 0, 10)) == []
        assert (await tx.scope_state("none", None)).version == 0
        assert await tx.next_due() is None
        assert list(await tx.due_sessions(1 << 62, 10)) == []

    await store.read(look)
    await apply(store, look)


@pytest.mark.rule("S7")
async def test_a_store_is_readable_and_writable(store: Store) -> None:
    before = await head(store)
    await store.check_readable()
    await store.check_writable()
    assert await head(store) == before


@pytest.mark.rule("S2")
async def test_a_job_may_read_sessions_of_every_app(store: Store) -> None:
    for app in ("a", "b"):
        await create(store, a_session(app=app), due=5)

    async def look(tx: ReadTx) -> list[str]:
        return [row.session.app for row in await tx.due_sessions(5, 10)]

    assert (await apply(store, look)).value == ["a", "b"]

    async def elsewhere(tx: Tx) -> int:
        await insert(tx, a_session())
        row = await tx.session_by_key("b", "ann", "s-1")
        assert row is not None
        assert changed(row.session) == row.session
        return await tx.head("b")

    assert (await apply(store, elsewhere)).value == 1


@pytest.mark.rule("S9")
async def test_apps_are_named_in_the_order_of_their_bytes_and_in_pages(store: Store) -> None:
    names = sorted(["b", "a-1", "a", "Z", "a.1", "a_1", "c" * 64])
    for name in reversed(names):
        app = an_app(name)

        async def put(tx: Tx, app: App = app) -> None:
            await tx.put_app(app)

        await apply(store, put, app=name)
    # Its log alone makes no app.
    await apply(store, lambda tx: tx.log(Change(cause=ChangeCause.APP_UPDATED)), app="only-a-log")
    assert await store.apps("", 100) == names
    pages: list[str] = []
    while page := await store.apps(pages[-1] if pages else "", 3):
        pages += page
    assert pages == names
