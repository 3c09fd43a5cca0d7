"""What policies look for: the idle longest, what is overdue in one app, what has ended."""

from __future__ import annotations

import pytest

from sojourn_server.domain.model import Session, Status
from sojourn_server.store.base import Candidates, Position, SortBy, Store, Tx
from tests.store.kit import APP, a_session, an_app, apply, create, insert, update

OTHER = "billing"


async def fill(store: Store) -> None:
    """Two apps with the same sessions: `<user>-<due>`, due at that instant, or never."""

    for app in (APP, OTHER):

        async def unit(tx: Tx, app: str = app) -> None:
            await tx.put_app(an_app(app))
            for user, due in (("ann", 3), ("bob", 1), ("ann", 2), ("ann", None), ("bob", 7)):
                await insert(tx, a_session(f"{user}-{due}", app=app, user=user), due)

        await apply(store, unit, app)


async def overdue(store: Store, app: str, user: str | None, until: int, limit: int) -> list[str]:
    rows = await store.read(lambda tx: tx.overdue_in(app, user, until, limit))
    assert all(row.session.app == app for row in rows)
    return [row.session.session_id for row in rows]


@pytest.mark.rule("S18")
async def test_what_is_overdue_is_named_app_by_app(store: Store) -> None:
    await fill(store)
    assert await overdue(store, APP, None, 3, 10) == ["bob-1", "ann-2", "ann-3"]
    assert await overdue(store, APP, None, 2, 10) == ["bob-1", "ann-2"]
    assert await overdue(store, APP, None, 9, 2) == ["bob-1", "ann-2"]
    assert await overdue(store, "nobody's", None, 9, 2) == []


@pytest.mark.rule("S18")
async def test_what_is_overdue_is_named_user_by_user(store: Store) -> None:
    await fill(store)
    assert await overdue(store, OTHER, "ann", 9, 10) == ["ann-2", "ann-3"]
    assert await overdue(store, OTHER, "bob", 3, 10) == ["bob-1"]
    assert await overdue(store, OTHER, "", 9, 10) == []


@pytest.mark.rule("S18")
async def test_a_unit_sees_what_it_made_overdue_itself(store: Store) -> None:
    await fill(store)

    async def unit(tx: Tx) -> list[str]:
        (row,) = await tx.overdue_in(APP, "bob", 3, 10)
        await update(tx, row, 9)
        await insert(tx, a_session("carl-1", user="carl"), 1)
        return [row.session.session_id for row in await tx.overdue_in(APP, None, 5, 10)]

    assert (await apply(store, unit)).value == ["carl-1", "ann-2", "ann-3"]


def ended(name: str, at: int, status: Status = Status.COMPLETED) -> Session:
    return a_session(name, status=status, update_time=at, end_time=at)


async def ended_ids(
    store: Store, before: int, after: Position | None = None, limit: int = 10
) -> list[str]:
    rows = await store.read(lambda tx: tx.ended_sessions(APP, before, after, limit))
    return [row.session.session_id for row in rows]


@pytest.mark.rule("S19")
async def test_ended_sessions_come_in_the_order_of_their_ends(store: Store) -> None:
    for name, at, status in (
        ("third", 30, Status.FAILED),
        ("first", 10, Status.EXPIRED),
        ("second", 20, Status.COMPLETED),
    ):
        await create(store, ended(name, at, status))
    await create(store, a_session("active", update_time=5))
    assert await ended_ids(store, 31) == ["first", "second", "third"]
    assert await ended_ids(store, 30) == ["first", "second"]
    assert await ended_ids(store, 31, limit=1) == ["first"]


@pytest.mark.rule("S19")
async def test_a_list_of_ended_sessions_goes_on_after_a_position(store: Store) -> None:
    rows = [await create(store, ended(f"s-{n}", 10)) for n in range(3)]
    after = Position(10, rows[0].create_order)
    assert await ended_ids(store, 11, after) == ["s-1", "s-2"]
    assert await ended_ids(store, 11, Position(10, rows[2].create_order)) == []


@pytest.mark.rule("S19")
async def test_a_session_is_listed_as_ended_from_its_end_on(store: Store) -> None:
    row = await create(store, a_session(update_time=1), 100)

    async def end(tx: Tx) -> None:
        await update(tx, row, status=Status.FAILED, update_time=7)

    assert await ended_ids(store, 100) == []
    await apply(store, end)
    assert await ended_ids(store, 100) == ["s-1"]


@pytest.mark.parametrize("user", [None, "ann"])
async def test_the_active_ones_are_listed_by_how_long_they_were_idle(
    store: Store, user: str | None
) -> None:
    """S12."""
    for name, at, status in (
        ("late", 30, Status.ACTIVE),
        ("over", 5, Status.COMPLETED),
        ("early", 10, Status.ACTIVE),
        ("middle", 20, Status.ACTIVE),
    ):
        await create(store, a_session(name, activity_time=at, status=status))
    query = Candidates(app=APP, user=user, status=Status.ACTIVE, sort_by=SortBy.ACTIVITY, limit=2)
    rows = await store.read(lambda tx: tx.candidates(query))
    assert [row.session.session_id for row in rows] == ["early", "middle"]
    after = Position(rows[1].session.activity_time, rows[1].create_order)
    more = Candidates(
        app=APP, user=user, status=Status.ACTIVE, sort_by=SortBy.ACTIVITY, after=after
    )
    rows = await store.read(lambda tx: tx.candidates(more))
    assert [row.session.session_id for row in rows] == ["late"]
