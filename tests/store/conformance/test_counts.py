"""Counts and sums: those of the sessions that are there, in every state that can be read."""

from __future__ import annotations

import asyncio
import random
from functools import partial

import pytest

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import Metrics, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import AppCounts, Applied, KeyTaken, ReadTx, Store, Tx
from tests.store.backends import Backend
from tests.store.kit import (
    ACTOR,
    APP,
    Boom,
    a_session,
    an_app,
    apply,
    changed,
    create,
    create_many,
    delete,
    found,
    head,
    insert,
    update,
)

ALL = tuple(Status)
LARGEST = (1 << 63) - 1


async def counts(store: Store, app: str = APP) -> AppCounts:
    return await store.read(lambda tx: tx.app_counts(app))


async def active(store: Store, user: str = "ann") -> int:
    return await store.read(lambda tx: tx.user_active(APP, user))


async def sums(store: Store, user: str | None = None) -> dict[Status, Sums]:
    return dict(await store.read(lambda tx: tx.status_sums(APP, user)))


async def users(store: Store, after: str | None = None, limit: int = 100) -> dict[str, Sums]:
    return dict(await store.read(lambda tx: tx.user_sums(APP, ALL, after, limit)))


def metrics(requests: int = 1, **counters: int) -> Metrics:
    return Metrics(requests=requests, errors=1, processing_time=10, counters=counters)


@pytest.mark.rule("S70", "S71")
async def test_what_no_session_was_ever_in_counts_nothing(store: Store) -> None:
    assert await counts(store) == AppCounts(0, 0)
    assert await active(store) == 0
    assert await sums(store) == {}
    assert await sums(store, "ann") == {}
    assert await users(store) == {}
    assert await store.read(lambda tx: tx.user_active(APP, "no\0body")) == 0
    assert await store.read(lambda tx: tx.status_sums(APP, "no\0body")) == {}


@pytest.mark.rule("S70", "S71")
async def test_sessions_count_with_their_user_and_status(store: Store) -> None:
    await create(store, a_session("a", metrics=metrics(2, tokens=5), message_count=3))
    await create(store, a_session("b", metrics=metrics(1, tokens=7, cost=-1), message_count=1))
    await create(store, a_session("c", user="", status=Status.FAILED, metrics=metrics(4)))
    ann = Sums(
        sessions=2,
        requests=3,
        errors=2,
        processing_time=20,
        messages=4,
        counters={"tokens": 12, "cost": -1},
    )
    nobody = Sums(sessions=1, requests=4, errors=1, processing_time=10)
    assert await counts(store) == AppCounts(2, 3)
    assert (await active(store), await active(store, "")) == (2, 0)
    assert await sums(store) == {Status.ACTIVE: ann, Status.FAILED: nobody}
    assert await sums(store, "ann") == {Status.ACTIVE: ann}
    assert await sums(store, "") == {Status.FAILED: nobody}
    assert await users(store) == {"": nobody, "ann": ann}


@pytest.mark.rule("S70", "S72", "S74")
async def test_an_end_moves_a_session_and_its_removal_takes_it_away(store: Store) -> None:
    row = await create(store, a_session("a", metrics=metrics(tokens=5)))
    (before,) = (await sums(store)).values()
    await apply(store, lambda tx: update(tx, row, status=Status.COMPLETED))
    assert await counts(store) == AppCounts(0, 1)
    assert await active(store) == 0
    assert await sums(store) == {Status.COMPLETED: before}
    row = await found(store, "a")
    await apply(store, lambda tx: update(tx, row, user="bob", message_count=2))
    assert list(await users(store)) == ["bob"]
    row = await found(store, "a", "bob")
    await delete(store, row)
    assert await counts(store) == AppCounts(0, 0)
    assert (await sums(store), await users(store)) == ({}, {})


@pytest.mark.rule("S71")
async def test_a_counter_of_which_nothing_is_left_is_not_named(store: Store) -> None:
    first = await create(store, a_session("a", metrics=metrics(tokens=5, cost=2)))
    await create(store, a_session("b", metrics=metrics(tokens=-5)))
    assert (await sums(store))[Status.ACTIVE].counters == {"cost": 2}
    await delete(store, first)
    assert (await sums(store))[Status.ACTIVE].counters == {"tokens": -5}


@pytest.mark.rule("S71")
async def test_sums_beyond_64_bits_are_exact(store: Store) -> None:
    huge = Metrics(
        requests=LARGEST,
        errors=LARGEST,
        processing_time=LARGEST,
        counters={"tokens": LARGEST, "debt": -LARGEST - 1},
    )
    rows = [await create(store, a_session(f"s-{n}", metrics=huge)) for n in range(3)]
    found_sums = (await sums(store, "ann"))[Status.ACTIVE]
    assert found_sums.requests == found_sums.processing_time == 3 * LARGEST
    assert found_sums.counters == {"tokens": 3 * LARGEST, "debt": -3 * (LARGEST + 1)}
    for row in rows[1:]:
        await delete(store, row)
    assert (await sums(store))[Status.ACTIVE].counters == huge.counters
    assert (await users(store))["ann"].errors == LARGEST


@pytest.mark.rule("S72")
async def test_a_unit_sees_what_it_and_those_before_it_have_counted(store: Store) -> None:
    async def unit(tx: Tx, name: str) -> tuple[int, int, int]:
        await insert(tx, a_session(name))
        both = await tx.app_counts(APP)
        (listed,) = await tx.listed_apps("", 10)
        assert listed.counts == both
        summed = (await tx.status_sums(APP))[Status.ACTIVE].sessions
        return both.active, await tx.user_active(APP, "ann"), summed

    await apply(store, lambda tx: tx.put_app(an_app()))
    names = [f"s-{number}" for number in range(10)]
    answers = await asyncio.gather(*(apply(store, partial(unit, name=name)) for name in names))
    assert [answer.value for answer in answers] == [(n, n, n) for n in range(1, 11)]


@pytest.mark.rule("S72")
async def test_what_one_unit_has_looked_at_is_not_counted_again(store: Store) -> None:
    """Units that only write, among units that ask for the sums of all before them."""

    async def unit(tx: Tx, number: int) -> int:
        await insert(tx, a_session(f"s-{number}"))
        if number % 3 == 0:
            return number + 1
        return (await tx.status_sums(APP))[Status.ACTIVE].sessions

    answers = await asyncio.gather(*(apply(store, partial(unit, number=n)) for n in range(20)))
    assert [answer.value for answer in answers] == list(range(1, 21))
    assert (await sums(store))[Status.ACTIVE].sessions == 20
    assert (await users(store))["ann"].sessions == 20


@pytest.mark.rule("S72")
async def test_counting_first_makes_no_difference(store: Store) -> None:
    """What is read of the database before a write and after it must come to the same."""
    await create(store, a_session("old"))

    async def unit(tx: Tx, name: str) -> int:
        before = await tx.user_active(APP, "ann")
        await insert(tx, a_session(name))
        await tx.status_sums(APP)
        await insert(tx, a_session(f"{name}-too"))
        assert await tx.user_active(APP, "ann") == before + 2
        await tx.user_sums(APP, ALL, None, 10)
        assert await tx.user_active(APP, "ann") == before + 2
        return before

    async def fails(tx: Tx, name: str) -> int:
        await unit(tx, name)
        raise Boom

    calls = [
        apply(store, partial(fails if number % 3 == 1 else unit, name=f"s-{number}"))
        for number in range(9)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(answer) for answer in answers].count(Boom) == 3
    kept = [answer.value for answer in answers if isinstance(answer, Applied)]
    assert kept == [1, 3, 5, 7, 9, 11]
    assert await active(store) == 13
    assert await counts(store) == AppCounts(13, 13)


@pytest.mark.rule("S5", "S72")
async def test_a_unit_that_fails_counts_for_nothing(store: Store) -> None:
    row = await create(store, a_session("kept", metrics=metrics(tokens=1)))
    before = (await counts(store), await sums(store), await users(store))

    async def fails(tx: Tx) -> None:
        await insert(tx, a_session("new", user="bob"))
        await update(tx, row, status=Status.FAILED, metrics=metrics(9, tokens=9))
        raise Boom

    async def is_refused(tx: Tx) -> None:
        with pytest.raises(KeyTaken):
            await tx.insert_session(a_session("kept", user="ann"), None)

    answers = await asyncio.gather(
        apply(store, fails),
        apply(store, lambda tx: insert(tx, a_session("beside", user="zoë"))),
        apply(store, is_refused),
        apply(store, fails),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers].count(Boom) == 2
    beside = await found(store, "beside", "zoë")
    assert await counts(store) == AppCounts(2, 2)
    await delete(store, beside)
    assert (await counts(store), await sums(store), await users(store)) == before


@pytest.mark.rule("S2", "S72")
async def test_a_quota_that_units_keep_is_never_exceeded(store: Store) -> None:
    quota = 5

    async def unit(tx: Tx, name: str) -> bool:
        if await tx.user_active(APP, "ann") >= quota:
            return False
        assert (await tx.app_counts(APP)).active < quota
        await insert(tx, a_session(name))
        return True

    calls = [apply(store, partial(unit, name=f"s-{number}")) for number in range(40)]
    answers = await asyncio.gather(*calls)
    assert [answer.value for answer in answers].count(True) == quota
    assert await counts(store) == AppCounts(quota, quota)


@pytest.mark.rule("S73")
async def test_pages_of_users_come_in_the_order_of_their_bytes(store: Store) -> None:
    names = ["", "Z", "a", "zoë", "é", "\uffee", "\U0001f418"]
    dice = random.Random(7)
    sessions = [
        a_session(f"s-{number}", user=dice.choice(names), status=dice.choice(ALL))
        for number in range(60)
    ]
    await create_many(store, sessions)
    for statuses in ((Status.ACTIVE,), (Status.FAILED, Status.COMPLETED), ALL):
        expected = recount([each for each in sessions if each.status in statuses])
        pages: list[tuple[str, Sums]] = []
        after: str | None = None
        for _ in range(len(names) + 1):
            page = await store.read(
                lambda tx, after=after, which=statuses: tx.user_sums(APP, which, after, 2)  # type: ignore[misc]
            )
            assert len(page) <= 2
            if not page:
                break
            pages += page
            after = page[-1][0]
        assert pages == sorted(expected.items(), key=lambda item: item[0].encode())


def recount(sessions: list[Session]) -> dict[str, Sums]:
    found_sums: dict[str, Sums] = {}
    for session in sessions:
        found_sums.setdefault(session.user, Sums()).count(session)
    return found_sums


@pytest.mark.rule("S9", "S70")
async def test_apps_are_listed_with_head_and_counts(store: Store) -> None:
    for name in ("b", "a", "ä", "c"):
        await store.apply(name, ACTOR, lambda tx, n=name: tx.put_app(an_app(n)))  # type: ignore[misc]
        await create(store, a_session("s-1", app=name))
    row = await create(store, a_session("s-2", app="b"))
    await store.apply("b", ACTOR, lambda tx: update(tx, row, status=Status.FAILED))
    await store.apply("log only", ACTOR, lambda tx: insert(tx, a_session("s", app="log only")))
    listed = await store.read(lambda tx: tx.listed_apps("", 10))
    assert [each.app.app for each in listed] == ["a", "b", "c", "ä"]
    assert [each.counts for each in listed] == [
        AppCounts(1, 1),
        AppCounts(1, 2),
        AppCounts(1, 1),
        AppCounts(1, 1),
    ]
    assert [each.head for each in listed] == [await head(store, each.app.app) for each in listed]
    page = await store.read(lambda tx: tx.listed_apps("a", 2))
    assert [each.app.app for each in page] == ["b", "c"]


@pytest.mark.rule("S3", "S72")
async def test_counts_outlive_a_crash(backend: Backend, store: Store) -> None:
    rows = await create_many(store, [a_session(f"s-{n}", message_count=n) for n in range(5)])
    await apply(store, lambda tx: update(tx, rows[0], status=Status.EXPIRED))
    before = (await counts(store), await sums(store), await users(store))
    again = await backend.after_crash(store)
    assert (await counts(again), await sums(again), await users(again)) == before
    await create(again, changed(rows[0].session, session_id="new", uid=a_session().uid))
    assert (await counts(again)).sessions == 6


@pytest.mark.rule("S73")
async def test_values_of_a_label_come_once_each_in_the_order_of_their_bytes(store: Store) -> None:
    names = ["a", "Z", "zoë", "é", "\U0001f418"]
    for number in range(12):
        labels = {"tier": names[number % 5], "other": f"o-{number}"}
        await create(store, a_session(f"s-{number}", labels=labels))
        await create(store, a_session(f"s-{number}", app="other", labels={"tier": f"a-{number}"}))
    await create(store, a_session("bare"))
    expected = sorted(names, key=str.encode)
    for limit in (1, 2, 5, 100):
        values: list[str] = []
        reached: str | None = ""
        for _ in range(100):
            if reached is None:
                break
            page, reached = await store.read(
                partial(_label_values, key="tier", after=reached, limit=limit)
            )
            assert len(page) <= limit
            values += page
        assert values == expected
    assert await store.read(partial(_label_values, key="none", after="", limit=9)) == ([], None)


async def _label_values(
    tx: ReadTx, key: str, after: str, limit: int
) -> tuple[list[str], str | None]:
    values, reached = await tx.label_values(APP, key, after, limit)
    return list(values), reached


@pytest.mark.rule("S71")
async def test_sums_name_the_first_counters_and_say_where_they_are_cut(store: Store) -> None:
    names = [f"c-{number:04d}" for number in range(SUM_COUNTERS_MOST + 40)]
    sessions = [
        a_session(
            f"s-{place}", metrics=metrics(**dict.fromkeys(names[place : place + 60], place + 1))
        )
        for place in range(0, len(names), 60)
    ]
    await create_many(store, sessions)
    for found_sums in (*(await sums(store)).values(), *(await users(store)).values()):
        assert sorted(found_sums.counters) == names[:SUM_COUNTERS_MOST]
        assert found_sums.cut == names[SUM_COUNTERS_MOST]
        assert found_sums.counters[names[61]] == 61
    await delete(store, await found(store, "s-0"))
    (after,) = (await sums(store)).values()
    assert sorted(after.counters) == names[60:]
    assert after.cut is None
