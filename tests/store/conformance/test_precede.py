"""Units that ask for another one first."""

from __future__ import annotations

import functools

import pytest

from sojourn_server.domain.model import ChangeCause
from sojourn_server.store.base import Precede, Store, Tx
from tests.store.kit import (
    APP,
    Boom,
    a_session,
    apply,
    create,
    head,
    insert,
    list_ids,
    log_of,
    update,
)

DUE = 5


@pytest.mark.rule("S6")
async def test_the_unit_that_comes_first_is_one_of_its_own(store: Store) -> None:
    row = await create(store, a_session("old"))

    async def expire(tx: Tx) -> None:
        current = await tx.session_by_uid(APP, row.session.uid)
        assert current is not None
        await update(tx, current, activity_time=DUE)

    async def unit(tx: Tx) -> int:
        current = await tx.session_by_key(APP, "ann", "old")
        assert current is not None
        if current.session.activity_time != DUE:
            raise Precede(expire)
        await insert(tx, a_session("new"))
        return current.session.activity_time

    answer = await apply(store, unit)
    assert (answer.value, answer.revision) == (DUE, 3)
    assert [each.cause for each in await log_of(store)] == [
        ChangeCause.CREATED,
        ChangeCause.UPDATED,
        ChangeCause.CREATED,
    ]


@pytest.mark.rule("S6")
@pytest.mark.parametrize("writes_first", [False, True])
async def test_the_unit_that_comes_first_stays_when_the_other_fails(
    store: Store, writes_first: bool
) -> None:
    await create(store, a_session("old"))

    async def expire(tx: Tx) -> None:
        await insert(tx, a_session("expired"))

    async def unit(tx: Tx) -> None:
        if writes_first:
            await insert(tx, a_session("undone"))
        if await tx.session_by_key(APP, "ann", "expired") is None:
            raise Precede(expire)
        raise Boom

    with pytest.raises(Boom):
        await apply(store, unit)
    assert await list_ids(store) == ["old", "expired"]
    assert await head(store) == 2


@pytest.mark.rule("S6")
async def test_several_units_can_come_first_one_by_one(store: Store) -> None:
    async def unit(tx: Tx) -> None:
        for number in range(5):
            session = a_session(f"s-{number}")
            if await tx.session_by_key(APP, "ann", session.session_id) is None:
                raise Precede(functools.partial(insert, session=session))

    assert (await apply(store, unit)).revision == 5
    assert [each.revision for each in await log_of(store)] == [1, 2, 3, 4, 5]


@pytest.mark.rule("S6")
async def test_a_unit_that_never_stops_asking_for_others_is_refused(store: Store) -> None:
    async def nothing(tx: Tx) -> None:
        return

    async def unit(tx: Tx) -> None:
        raise Precede(nothing)

    with pytest.raises(RuntimeError):
        await apply(store, unit)
    await create(store, a_session())


@pytest.mark.rule("S6")
async def test_when_the_unit_that_comes_first_fails_so_does_the_other(store: Store) -> None:
    async def fails(tx: Tx) -> None:
        await insert(tx, a_session())
        raise Boom

    async def unit(tx: Tx) -> None:
        raise Precede(fails)

    with pytest.raises(Boom):
        await apply(store, unit)
    assert await head(store) == 0
