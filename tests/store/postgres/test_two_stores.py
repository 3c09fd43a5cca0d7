"""Two servers on one database behave as one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import psycopg
import pytest

from sojourn_server.domain.model import Change, ChangeCause
from sojourn_server.store.base import KeyTaken, Store, Tx
from sojourn_server.store.postgres import PostgresStore, leads
from tests.store.backends import PostgresBackend
from tests.store.kit import (
    ACTOR,
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

Stores = tuple[PostgresStore, PostgresStore]


@pytest.fixture
async def stores(backend: PostgresBackend) -> Stores:
    return await backend.open_as(), await backend.open_as()


async def add_one(tx: Tx) -> int:
    row = await tx.session_by_key(APP, "ann", "counter")
    assert row is not None
    await update(tx, row, message_count=row.session.message_count + 1)
    return row.session.message_count


@pytest.mark.rule("S7")
async def test_a_read_through_either_sees_what_was_answered_through_the_other(
    stores: Stores,
) -> None:
    row = await create(stores[0], a_session("counter"))
    for number in range(60):
        writer, reader = stores[number % 2], stores[(number // 2) % 2]
        assert (await apply(writer, add_one)).value == number
        assert (await found(reader, "counter")).session.message_count == number + 1
        by_uid = await reader.read(lambda tx: tx.session_by_uid(APP, row.session.uid))
        assert by_uid is not None
        assert by_uid.session.message_count == number + 1
        assert await head(reader) == number + 2


@pytest.mark.rule("S7")
async def test_what_one_remembers_is_not_believed_once_the_other_has_written(
    stores: Stores,
) -> None:
    one, other = stores
    await create(one, a_session("counter"))
    assert len(one._memory) == 1
    before = one.trips.statements
    await found(one, "counter")
    assert one.trips.statements == before + 1, "the epoch, and no session"
    await apply(other, add_one)
    assert (await found(one, "counter")).session.message_count == 1
    # And the write, too, goes by what the other has left.
    assert (await apply(one, add_one)).value == 1


@pytest.mark.rule("S2", "S4")
async def test_units_through_both_are_in_one_order(stores: Stores) -> None:
    await create(stores[0], a_session("counter"))

    async def hammer(store: Store, count: int) -> list[int]:
        seen = []
        for _ in range(count):
            answers = await asyncio.gather(*(apply(store, add_one) for _ in range(5)))
            seen += [answer.value for answer in answers]
        return seen

    both = await asyncio.gather(*(hammer(store, 30) for store in stores))
    assert sorted(both[0] + both[1]) == list(range(300))
    log = await log_of(stores[0], after=1)
    assert [change.revision for change in log] == list(range(2, 302))
    assert [change.after and change.after.message_count for change in log] == list(range(1, 301))
    assert log == await log_of(stores[1], after=1)


@pytest.mark.rule("S10")
async def test_of_creations_of_one_key_through_both_one_succeeds(stores: Stores) -> None:
    answers = await asyncio.gather(
        *(create(stores[n % 2], a_session("same")) for n in range(20)), return_exceptions=True
    )
    assert sum(isinstance(answer, KeyTaken) for answer in answers) == 19
    assert await head(stores[0]) == 1


@pytest.mark.rule("S42")
async def test_a_request_is_carried_out_once_whichever_it_comes_through(stores: Stores) -> None:
    async def once(tx: Tx) -> str:
        record = await tx.request(a_request().key)
        if record is not None:
            tx.answer_at(record.revision)
            return "repeated"
        await insert(tx, a_session())
        await tx.put_request(a_request())
        return "done"

    answers = await asyncio.gather(*(apply(stores[n % 2], once) for n in range(20)))
    assert sorted(answer.value for answer in answers) == ["done"] + ["repeated"] * 19
    assert {answer.revision for answer in answers} == {1}
    assert await head(stores[1]) == 1


@pytest.mark.rule("S4")
async def test_an_app_that_both_make_at_once_is_made_once(stores: Stores) -> None:
    for number in range(10):
        app = f"app-{number}"
        answers = await asyncio.gather(
            *(
                store.apply(app, ACTOR, lambda tx, app=app, n=n: insert(tx, a_session(n, app=app)))  # type: ignore[misc]
                for n, store in zip("ab", stores, strict=True)
            )
        )
        assert sorted(answer.revision for answer in answers) == [1, 2]


@pytest.mark.rule("S4", "S8", "S41")
async def test_of_transactions_that_overlap_the_last_to_commit_has_the_higher_revision(
    stores: Stores, backend: PostgresBackend
) -> None:
    """The first to begin holds the app while the other waits; nobody sees a gap."""
    await create(stores[0], a_session("counter"))
    async with await psycopg.AsyncConnection.connect(backend.dsn) as holder:
        await holder.execute("SELECT 1 FROM app WHERE name = %s FOR UPDATE", (APP,))
        waiting = [asyncio.create_task(apply(store, add_one)) for store in stores]
        await asyncio.sleep(0.2)
        assert not any(task.done() for task in waiting)
        assert await head(stores[0]) == 1, "reads wait for nobody"
        await holder.rollback()
    answers = await asyncio.gather(*waiting)
    assert sorted(answer.revision for answer in answers) == [2, 3]
    assert sorted(answer.value for answer in answers) == [0, 1]


@pytest.mark.rule("S4", "S41")
async def test_a_reader_never_sees_a_gap_while_both_write(stores: Stores) -> None:
    stop = asyncio.Event()

    async def write(store: Store) -> None:
        while not stop.is_set():
            await apply(store, lambda tx: tx.log(Change(cause=ChangeCause.APP_UPDATED)))

    async def follow(store: Store) -> int:
        last = 0
        while last < 150:
            for change in await log_of(store, after=last):
                assert change.revision == last + 1
                last = change.revision
        return last

    writers = [asyncio.create_task(write(store)) for store in stores]
    await asyncio.gather(*(follow(store) for store in stores))
    stop.set()
    await asyncio.gather(*writers)


@pytest.mark.rule("S2")
async def test_what_a_caller_was_told_never_goes_back(stores: Stores) -> None:
    """Versions ascend for everybody, whatever server each call goes through."""
    await create(stores[0], a_session("counter"))
    dice = random.Random(7)

    async def caller() -> None:
        last = -1
        for _ in range(40):
            store = dice.choice(stores)
            if dice.random() < 0.4:
                now = (await apply(store, add_one)).value + 1
                assert now > last
            else:
                now = (await found(store, "counter")).session.message_count
                assert now >= last
            last = now

    await asyncio.gather(*(caller() for _ in range(8)))


async def test_jobs_of_both_remove_each_record_once(stores: Stores) -> None:
    row = await create(stores[0], a_session())

    async def fill(tx: Tx) -> None:
        for number in range(60):
            held = await tx.put_content(b"popped %d" % number)
            await tx.put_request(
                a_request(f"r-{number}", create_time=number, session_pk=row.pk, held=(held,))
            )

    await apply(stores[0], fill)
    counts: list[Any] = await asyncio.gather(
        *(stores[n % 2].forget_requests(50, 10) for n in range(12))
    )
    assert sum(counts) == 50
    assert await record_of(stores[0], a_request("r-49").key) is None
    assert await record_of(stores[0], a_request("r-50").key) is not None


# --- jobs ------------------------------------------------------------------------------------


@pytest.mark.rule("S55")
async def test_one_of_two_servers_runs_a_job_and_keeps_it(stores: Stores) -> None:
    assert await stores[0].leads("expiry")
    assert await stores[1].leads("purge")
    for _ in range(5):
        assert [await store.leads("expiry") for store in stores] == [True, False]
        assert [await store.leads("purge") for store in stores] == [False, True]


@pytest.mark.rule("S55")
async def test_a_job_of_a_server_that_ends_is_another_s_at_once(stores: Stores) -> None:
    assert await stores[0].leads("expiry")
    assert not await stores[1].leads("expiry")
    await stores[0].close()
    assert await stores[1].leads("expiry")


@pytest.mark.rule("S55")
async def test_a_job_of_a_server_that_died_is_another_s_after_a_while(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leads, "LEASE", 0.5)
    assert await stores[0].leads("expiry")
    assert not await stores[1].leads("expiry")
    for _ in range(200):  # the first one says nothing more
        if await stores[1].leads("expiry"):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the job stayed with the dead")


@pytest.mark.rule("S55")
async def test_who_runs_a_job_keeps_it_by_asking_again(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leads, "LEASE", 5.0)
    monkeypatch.setattr(leads, "_BELIEVED", 0.0)
    before = stores[0].trips.statements
    for _ in range(10):
        assert await stores[0].leads("expiry")
    assert stores[0].trips.statements - before >= 10
    assert not await stores[1].leads("expiry")
