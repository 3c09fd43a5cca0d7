"""Many units share one commit, two round trips, and few statements."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from sojourn_server.store import work
from sojourn_server.store.base import Store, Tx
from sojourn_server.store.postgres import PostgresStore, batch
from sojourn_server.store.work import CROWD
from tests.store.backends import PostgresBackend
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    a_message,
    a_request,
    a_session,
    apply,
    create,
    found,
    head,
    insert,
    list_ids,
    put_message,
    update,
)


@pytest.fixture
async def store(backend: PostgresBackend) -> PostgresStore:
    return await backend.open_as()


async def append(tx: Tx, session_id: str, request_id: str) -> int:
    """What an AppendMessages does, about."""
    assert await tx.request(a_request(request_id).key) is None
    row = await tx.session_by_key(APP, "ann", session_id)
    assert row is not None
    sequence = row.session.last_sequence + 1
    assert await tx.message_by_id(row, request_id) is None
    await put_message(tx, row, sequence, b"text", message_id=request_id)
    await update(tx, row, last_sequence=sequence)
    await tx.put_request(a_request(request_id))
    return sequence


async def test_a_batch_makes_two_round_trips_whatever_its_size(store: PostgresStore) -> None:
    for number in range(8):
        await create(store, a_session(f"s-{number}"))
    for size in (1, 8, 64):
        trips, statements, batches = store.trips.trips, store.trips.statements, store.batches
        units = [
            partial(append, session_id=f"s-{n % 8}", request_id=f"r-{size}-{n}")
            for n in range(size)
        ]
        await asyncio.gather(*(apply(store, unit) for unit in units))
        made = store.batches - batches
        assert made == 1
        assert store.trips.trips - trips == 2
        assert store.trips.statements - statements <= 11
    assert await head(store) == 8 + 1 + 8 + 64


async def test_cold_sessions_are_fetched_together(backend: PostgresBackend) -> None:
    first = await backend.open_as()
    for number in range(40):
        await create(first, a_session(f"s-{number}"))
    store = await backend.open_as()
    await apply(store, lambda tx: tx.head(APP))  # so that it knows the app
    trips = store.trips.trips
    await asyncio.gather(
        *(
            apply(store, lambda tx, n=n: append(tx, f"s-{n}", f"r-{n}"))  # type: ignore[misc]
            for n in range(40)
        )
    )
    assert store.trips.trips - trips <= 3


async def test_reads_that_wait_share_one_statement(store: PostgresStore) -> None:
    for number in range(20):
        await create(store, a_session(f"s-{number}"))
    before = store.trips.statements
    await asyncio.gather(*(found(store, f"s-{n}") for n in range(20)))
    assert store.trips.statements - before <= 3


async def test_apps_commit_side_by_side(backend: PostgresBackend) -> None:
    """An app that somebody holds does not hold the others."""
    import psycopg  # noqa: PLC0415

    store = await backend.open_as()
    for app in ("a", "b"):
        await store.apply(app, ACTOR, lambda tx, app=app: insert(tx, a_session(app=app)))  # type: ignore[misc]
    async with await psycopg.AsyncConnection.connect(backend.dsn) as holder:
        await holder.execute("SELECT 1 FROM app WHERE name = 'a' FOR UPDATE")
        held = asyncio.create_task(
            store.apply("a", ACTOR, lambda tx: insert(tx, a_session("s-2", app="a")))
        )
        for number in range(5):
            session = a_session(f"n-{number}", app="b")
            await store.apply("b", ACTOR, lambda tx, s=session: insert(tx, s))  # type: ignore[misc]
        assert not held.done()
        await holder.rollback()
    assert (await held).revision == 2


@pytest.mark.rule("S5")
@pytest.mark.parametrize("budget", [batch._BUDGET, 0, 1_000_000, 3_000_000])
async def test_a_unit_that_the_database_refuses_leaves_its_neighbours_alone(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    """Text with a NUL cannot be stored: the batch runs again, one by one, or as several."""
    monkeypatch.setattr(batch, "_BUDGET", budget)

    async def one(number: int) -> str:
        name = f"s-{number}" if number % 4 else f"s-\0{number}"
        return (await create(store, a_session(name))).session.session_id

    answers = await asyncio.gather(*(one(n) for n in range(20)), return_exceptions=True)
    assert [isinstance(answer, RuntimeError) for answer in answers] == [
        number % 4 == 0 for number in range(20)
    ], [repr(answer) for answer in answers]
    assert len(await list_ids(store)) == await head(store) == 15


@pytest.mark.rule("S5")
async def test_a_unit_that_fails_behind_a_list_takes_back_what_it_had_written(
    store: Store,
) -> None:
    row = await create(store, a_session("kept"))

    async def fails(tx: Tx) -> None:
        await insert(tx, a_session("undone"))
        await tx.insert_messages(row, [a_message(1)])
        assert len(await tx.changes(APP, 0, 10)) >= 2
        raise Boom

    async def good(tx: Tx, number: int) -> None:
        await insert(tx, a_session(f"good-{number}"))
        assert len(await tx.changes(APP, 0, 100)) >= 2

    answers = await asyncio.gather(
        *(
            apply(store, fails if n % 2 else (lambda tx, n=n: good(tx, n)))  # type: ignore[misc]
            for n in range(10)
        ),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Boom) for answer in answers) == 5
    assert sorted(await list_ids(store)) == sorted(
        ["kept", *(f"good-{n}" for n in range(0, 10, 2))]
    )
    assert await head(store) == 6


async def test_after_a_crowd_those_that_trickle_in_share_a_commit(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 60.0)
    for name in ("first", "second"):
        await asyncio.gather(*(create(store, a_session(f"{name}-{n}")) for n in range(CROWD)))
    before = store.batches
    late = []
    for number in range(CROWD):
        assert store.batches == before
        late.append(asyncio.create_task(create(store, a_session(f"late-{number}"))))
        await asyncio.sleep(0.01)
    await asyncio.gather(*late)
    assert store.batches == before + 1


async def test_who_is_alone_never_waits_for_company(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "GATHER", 3_600.0)
    for number in range(5):
        await create(store, a_session(f"alone-{number}"))
    last = asyncio.create_task(create(store, a_session("last")))
    await store.close()
    await last
