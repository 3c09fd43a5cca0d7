"""The database goes away, comes back, is full, hangs: nothing that was answered is lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from sojourn_server.store.base import Store, StoreDown, StoreFull, Tx
from sojourn_server.store.postgres import PostgresStore
from tests import postgres
from tests.store.backends import PostgresBackend
from tests.store.kit import (
    APP,
    a_request,
    a_session,
    apply,
    create,
    found,
    head,
    insert,
    log_of,
    record_of,
    update,
)
from tests.store.postgres.proxy import Proxy


@pytest.fixture
async def proxy(backend: PostgresBackend) -> AsyncIterator[Proxy]:
    made = Proxy(backend.dsn)
    backend_dsn = backend.dsn
    backend.through = await made.start()
    yield made
    await backend.close_stores()
    await made.stop()
    assert backend.dsn == backend_dsn


def once(name: str) -> Callable[[Tx], Awaitable[str]]:
    """A unit with a request_id: carried out once, however often it is sent."""

    async def unit(tx: Tx) -> str:
        record = await tx.request(a_request(name).key)
        if record is not None:
            tx.answer_at(record.revision)
            return "repeated"
        row = await tx.session_by_key(APP, "ann", "counter")
        if row is None:
            await insert(tx, a_session("counter", message_count=1))
        else:
            await update(tx, row, message_count=row.session.message_count + 1)
        await tx.put_request(a_request(name))
        return "done"

    return unit


async def until_it_works(store: Store, name: str, seconds: float = 20) -> int:
    """Send a unit until it is answered; how often that failed."""
    ends = time.monotonic() + seconds
    failures = 0
    while True:
        try:
            await apply(store, once(name))
        except StoreDown:
            failures += 1
            assert time.monotonic() < ends, "it never came back"
            await asyncio.sleep(0.02)
        else:
            return failures


async def check_all_once(store: Store, names: list[str]) -> None:
    """Each of the requests was carried out, and none twice."""
    assert (await found(store, "counter")).session.message_count == len(names)
    assert await head(store) == len(names)
    log = await log_of(store)
    assert [change.revision for change in log] == list(range(1, len(names) + 1))
    records = [await record_of(store, a_request(name).key) for name in names]
    assert {record.revision for record in records if record} == set(range(1, len(names) + 1))


@pytest.mark.rule("S3", "S52")
async def test_of_backends_that_are_killed_at_random_nothing_answered_is_lost(
    backend: PostgresBackend,
) -> None:
    stores = [await backend.open_as(), await backend.open_as()]
    names = [f"r-{number}" for number in range(100)]
    dice = random.Random(11)
    answered = asyncio.Event()
    stop = asyncio.Event()

    async def kill() -> int:
        """One after an answer and before the next: killing faster leaves no time to connect."""
        kills = 0
        async with await psycopg.AsyncConnection.connect(backend.dsn, autocommit=True) as admin:
            while not stop.is_set():
                await answered.wait()
                answered.clear()
                cursor = await admin.execute(
                    "SELECT pid FROM pg_stat_activity WHERE application_name = 'sojourn'"
                    " AND datname = current_database()"
                )
                pids = [pid for (pid,) in await cursor.fetchall()]
                if pids:
                    await admin.execute("SELECT pg_terminate_backend(%s)", (dice.choice(pids),))
                    kills += 1
        return kills

    async def send(part: list[str]) -> None:
        for number, name in enumerate(part):
            await until_it_works(stores[number % 2], name)
            answered.set()

    killing = asyncio.create_task(kill())
    await asyncio.gather(*(send(names[first::8]) for first in range(8)))
    stop.set()
    answered.set()
    assert await killing > 5
    await check_all_once(stores[0], names)


@pytest.mark.rule("S52")
async def test_a_commit_whose_answer_is_lost_is_down_and_its_repeat_finds_the_truth(
    backend: PostgresBackend, proxy: Proxy
) -> None:
    store = await backend.open_as(dsn=backend.through)
    await apply(store, once("r-0"))
    proxy.cut_after_commit = True
    with pytest.raises(StoreDown):
        await apply(store, once("r-1"))
    for _ in range(100):
        if await head(store) == 2:
            break
        await asyncio.sleep(0.02)
    assert (await apply(store, once("r-1"))).value == "repeated"
    assert (await found(store, "counter")).session.message_count == 2
    await check_all_once(store, ["r-0", "r-1"])


@pytest.mark.rule("S52")
async def test_it_says_at_once_that_the_database_is_away_and_comes_back_by_itself(
    backend: PostgresBackend, proxy: Proxy
) -> None:
    store = await backend.open_as(dsn=backend.through)
    await apply(store, once("r-0"))
    proxy.closed = True
    proxy.cut()
    begin = time.monotonic()
    for _ in range(20):
        with pytest.raises(StoreDown):
            await apply(store, once("r-1"))
        with pytest.raises(StoreDown):
            await store.check_readable()
        with pytest.raises(StoreDown):
            await store.check_writable()
    assert time.monotonic() - begin < 5, "nobody waits for what is not there"
    proxy.closed = False
    await until_it_works(store, "r-1", 5)
    await store.check_readable()
    await store.check_writable()
    await check_all_once(store, ["r-0", "r-1"])


@pytest.mark.rule("S52")
async def test_connections_that_broke_while_idle_are_not_noticed(
    backend: PostgresBackend, proxy: Proxy
) -> None:
    store = await backend.open_as(dsn=backend.through)
    await apply(store, once("r-0"))
    for number in range(1, 4):
        proxy.cut()
        assert (await found(store, "counter")).session.message_count == number
        proxy.cut()
        await apply(store, once(f"r-{number}"))


@pytest.mark.rule("S52")
async def test_a_peer_that_hangs_blocks_nobody_for_ever(
    backend: PostgresBackend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sojourn_server.store.postgres.connection._SLACK", 0.3)
    store = await backend.open_as(dsn=backend.through, statement_timeout=0.5, connect_timeout=0.5)
    await apply(store, once("r-0"))
    proxy.flow.clear()
    begin = time.monotonic()
    answers = await asyncio.gather(
        apply(store, once("r-1")), found(store, "counter"), return_exceptions=True
    )
    assert all(isinstance(answer, StoreDown) for answer in answers)
    assert time.monotonic() - begin < 15
    proxy.flow.set()
    proxy.cut()
    await until_it_works(store, "r-1")
    await check_all_once(store, ["r-0", "r-1"])


@pytest.mark.rule("S52")
async def test_an_app_that_somebody_holds_is_down_after_a_while_and_no_other(
    backend: PostgresBackend,
) -> None:
    store = await backend.open_as(statement_timeout=0.4)
    await create(store, a_session())
    async with await psycopg.AsyncConnection.connect(backend.dsn) as holder:
        await holder.execute("SELECT 1 FROM app WHERE name = %s FOR UPDATE", (APP,))
        with pytest.raises(StoreDown):
            await create(store, a_session("s-2"))
        assert await head(store) == 1
        await holder.rollback()
    await create(store, a_session("s-2"))


@pytest.mark.rule("S50")
async def test_a_full_disk_refuses_writes_serves_reads_and_heals(backend: PostgresBackend) -> None:
    store = await backend.open_as()
    row = await create(store, a_session())
    with psycopg.connect(backend.dsn, autocommit=True) as database:
        database.execute(
            "CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END$$"
        )
        for table in ("change", "pulse"):
            database.execute(
                f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} "
                "FOR EACH STATEMENT EXECUTE FUNCTION full_disk()".encode()
            )
        for _ in range(2):
            with pytest.raises(StoreFull):
                await create(store, a_session("s-2"))
            with pytest.raises(StoreFull):
                await store.check_writable()
            await store.check_readable()
            assert await found(store, "s-1") == row
        database.execute("DROP FUNCTION full_disk CASCADE")
    await store.check_writable()
    assert (await apply(store, lambda tx: insert(tx, a_session("s-2")))).revision == 2


@pytest.mark.rule("S3", "S52")
async def test_a_database_that_is_stopped_hard_loses_nothing_that_was_answered() -> None:
    """Its own server, for the others go on with theirs."""
    own = postgres.restartable()
    store = PostgresStore(own.options())
    await store.open()
    names: list[str] = []
    done = asyncio.Event()

    async def send(part: int) -> None:
        number = 0
        while not done.is_set():
            names.append(f"r-{part}-{number}")
            await until_it_works(store, names[-1])
            number += 1

    sending = [asyncio.create_task(send(part)) for part in range(6)]
    for _ in range(3):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own.stop_hard)
        with pytest.raises(StoreDown):
            await store.check_readable()
        await asyncio.to_thread(own.start)
    await asyncio.sleep(0.3)
    done.set()
    await asyncio.gather(*sending)
    await check_all_once(store, names)
    await store.close()
    await asyncio.to_thread(own.close)
