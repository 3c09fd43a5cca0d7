"""The log and the request records: complete, in order, written with what they tell of."""

from __future__ import annotations

import asyncio
from functools import partial
from operator import methodcaller

import pytest

from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    TurnOutcome,
)
from sojourn_server.store.base import RequestKey, SessionRow, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    ACTOR,
    APP,
    START,
    Boom,
    a_request,
    a_session,
    apply,
    changed,
    content_of,
    create,
    found,
    head,
    insert,
    log_of,
    put_message,
    read_all,
    record_of,
    update,
)


@pytest.mark.rule("S40")
async def test_change_session_content_and_record_come_together(
    backend: Backend, store: Store
) -> None:
    async def unit(tx: Tx, number: int) -> None:
        state = await tx.put_content(b"state %d" % number)
        row = await insert(tx, a_session(f"s-{number}", state=state))
        await put_message(tx, row, 1, b"message %d" % number)
        await tx.put_request(a_request(f"r-{number}", session_pk=row.pk))

    tasks = [
        asyncio.create_task(apply(store, partial(unit, number=number))) for number in range(40)
    ]
    for _ in range(4):
        await asyncio.sleep(0.002)
        survivor = await backend.after_crash(store)
        log = await log_of(survivor)
        assert [each.revision for each in log] == list(range(1, len(log) + 1))
        for change in log:
            assert change.after is not None
            number = change.after.session_id.removeprefix("s-")
            row = await found(survivor, change.after.session_id)
            assert row.session == change.after
            assert await content_of(survivor, row.session.state) == f"state {number}".encode()
            assert await survivor.read(partial(read_all, row=row)) == [1]
            key = a_request(f"r-{number}").key
            record = await record_of(survivor, key)
            assert record is not None
            assert (record.revision, record.session_pk) == (change.revision, row.pk)
        assert await head(survivor) == len(log)
        await survivor.close()
    await asyncio.gather(*tasks)


@pytest.mark.rule("S41")
async def test_the_log_tells_each_change_as_it_was(store: Store) -> None:
    session = a_session(labels={"tier": "gold"})
    detail = ChangeDetail(
        deleted_why=DeletedWhy.REPLACED,
        turn_outcome=TurnOutcome.STOLEN,
        label_keys=("tier",),
        metadata_keys=("m",),
        state_keys=("s", "t"),
        first_sequence=3,
        last_sequence=4,
        user="ann",
        state_version=5,
    )
    row = await create(store, session)
    after = changed(session, message_count=7, removed_ranges=((1, 2),))

    async def unit(tx: Tx) -> None:
        new = await tx.update_session(row, after, None)
        await tx.log(Change(cause=ChangeCause.UPDATED, before=session, after=after, detail=detail))
        await tx.delete_session(new)
        await tx.log(Change(cause=ChangeCause.DELETED, before=after))
        await tx.log(Change(cause=ChangeCause.APP_UPDATED))

    await apply(store, unit)
    created, updated, deleted, without = await log_of(store)
    assert (created.before, created.after, created.uid) == (None, session, session.uid)
    assert (updated.before, updated.after, updated.detail) == (session, after, detail)
    assert (deleted.before, deleted.after, deleted.uid) == (after, None, session.uid)
    assert (without.before, without.after, without.uid) == (None, None, "")
    assert without.detail == ChangeDetail()
    assert [each.index for each in (updated, deleted, without)] == [0, 1, 2]
    assert {each.actor for each in await log_of(store)} == {ACTOR}


@pytest.mark.rule("S41")
async def test_a_change_may_be_logged_before_its_session_is_written(store: Store) -> None:
    row = await create(store, a_session())
    after = changed(row.session, generation=2)

    async def unit(tx: Tx) -> SessionRow:
        current = await tx.session_by_key(APP, "ann", "s-1")
        assert current is not None
        await tx.log(Change(cause=ChangeCause.RESET, before=current.session, after=after))
        return await tx.update_session(current, after, None)

    await apply(store, unit)
    change = (await log_of(store))[-1]
    assert (change.before, change.after) == (row.session, after)
    assert (await found(store, "s-1")).session == after


@pytest.mark.rule("S41")
@pytest.mark.parametrize("limit", [1, 2, 3, 4, 7, 100])
async def test_the_log_is_complete_in_steps_of_every_size_and_no_revision_is_cut(
    store: Store, limit: int
) -> None:
    for size in (1, 3, 1, 5, 2, 1):

        async def unit(tx: Tx, size: int = size) -> None:
            for number in range(size):
                await insert(tx, a_session(f"{size}-{number}-{await tx.head(APP)}"))

        await apply(store, unit)
    await create(store, a_session(app="other"))
    whole = await log_of(store)
    assert [(each.revision, each.index) for each in whole] == [
        (revision, index)
        for revision, size in enumerate((1, 3, 1, 5, 2, 1), 1)
        for index in range(size)
    ]
    after, read = 0, []
    for _ in range(len(whole) + 1):
        step = await store.read(methodcaller("changes", APP, after, limit))
        if not step:
            break
        read += list(step)
        last = step[-1].revision
        assert [each for each in step if each.revision == last] == [
            each for each in whole if each.revision == last
        ]
        assert len([each for each in step if each.revision != last]) < limit
        after = last
    assert read == whole


@pytest.mark.rule("S41")
async def test_each_revision_has_a_nonce_of_its_own(store: Store) -> None:
    for number in range(50):
        await create(store, a_session(f"s-{number}"))
    nonces = {each.nonce for each in await log_of(store)}
    assert len(nonces) == 50
    assert all(0 <= nonce < 1 << 64 for nonce in nonces)
    assert any(nonce >= 1 << 63 for nonce in nonces), "the upper half is never used"


@pytest.mark.rule("S42")
async def test_a_request_is_found_by_all_of_its_key_and_nothing_else(store: Store) -> None:
    key = a_request().key
    stored = a_request(payload_hash=b"\0hash", outcome=b"\0" * 9, session_pk=4, create_time=5)
    await apply(store, lambda tx: tx.put_request(stored))
    found_ = await store.read(lambda tx: tx.request(key))
    assert found_ == stored
    for other in (
        RequestKey("other", key.principal, key.method, key.request_id),
        RequestKey(key.app, "", key.method, key.request_id),
        RequestKey(key.app, key.principal, "EndSession", key.request_id),
        RequestKey(key.app, key.principal, key.method, "r-2"),
    ):
        assert await record_of(store, other) is None


@pytest.mark.rule("S42")
async def test_a_record_has_the_revision_that_its_unit_was_answered_with(store: Store) -> None:
    async def logs_after(tx: Tx) -> None:
        await tx.put_request(a_request("logs"))
        await insert(tx, a_session())

    async def logs_nothing(tx: Tx) -> None:
        await tx.put_request(a_request("nothing"))

    async def repeats(tx: Tx) -> None:
        await tx.put_request(a_request("repeats"))
        tx.answer_at(1)

    await create(store, a_session("first"))
    for name, unit, revision in (
        ("logs", logs_after, 2),
        ("nothing", logs_nothing, 2),
        ("repeats", repeats, 1),
    ):
        assert (await apply(store, unit)).revision == revision
        record = await record_of(store, a_request(name).key)
        assert record is not None
        assert record.revision == revision


@pytest.mark.rule("S42")
async def test_a_record_can_be_replaced_by_what_the_request_came_to(store: Store) -> None:
    await apply(store, lambda tx: tx.put_request(a_request(outcome=b"half")))

    async def goes_on(tx: Tx) -> bytes:
        record = await tx.request(a_request().key)
        assert record is not None
        await tx.put_request(a_request(outcome=b"whole"))
        return record.outcome

    assert (await apply(store, goes_on)).value == b"half"
    record = await store.read(lambda tx: tx.request(a_request().key))
    assert record is not None
    assert record.outcome == b"whole"


@pytest.mark.rule("S42")
async def test_records_are_kept_until_they_are_older_than_asked(store: Store) -> None:
    async def unit(tx: Tx) -> int:
        held = await tx.put_content(b"popped")
        for age in (30, 10, 20, 40):
            own = (held,) if age == 40 else ()
            record = a_request(f"r-{age}", create_time=START - age, held=own, session_pk=9)
            await tx.put_request(record)
        return held

    held = (await apply(store, unit)).value

    async def left() -> list[int]:
        names = [10, 20, 30, 40]
        return [age for age in names if await record_of(store, a_request(f"r-{age}").key)]

    assert await store.forget_requests(START - 40, 10) == 0
    assert await content_of(store, held) == b"popped"
    assert await store.forget_requests(START - 15, 2) == 2
    assert await left() == [10, 20]
    assert await content_of(store, held) == b""
    assert await store.forget_requests(START - 15, 2) == 1
    assert await store.forget_requests(START - 15, 2) == 0
    assert await left() == [10]
    assert await store.purge(10)


@pytest.mark.rule("S40")
async def test_a_refused_unit_leaves_no_record(store: Store) -> None:
    row = await create(store, a_session())

    async def fails(tx: Tx) -> None:
        await tx.put_request(a_request())
        await update(tx, row, generation=2)
        raise Boom

    with pytest.raises(Boom):
        await apply(store, fails)
    assert await store.read(lambda tx: tx.request(a_request().key)) is None
    assert await found(store, "s-1") == row
