"""Candidate lists: in order, complete, without repetition, page after page."""

from __future__ import annotations

import itertools
import random
from operator import methodcaller
from typing import Any

import pytest

from sojourn_server.domain.model import Session, Status
from sojourn_server.store.base import Candidates, Position, SessionRow, SortBy, Store, Tx
from tests.store.kit import (
    APP,
    a_session,
    apply,
    changed,
    create,
    create_many,
    delete,
    found,
    insert,
    listed,
    sort_value,
)

PARENTS = [a_session().uid for _ in range(2)]


def sessions() -> list[Session]:
    """A few hundred sessions that share values in every way; the same ones each time."""
    dice = random.Random(7)
    made = []
    for number in range(240):
        session_id = f"{dice.choice(['a', 'B', 'ä', '🐘', '~'])}{number % 60}"
        user = ["ann", "bob", "", "cy"][number // 60]
        labels = {"tier": dice.choice(["gold", "lead"])} if dice.random() < 0.7 else {}
        if dice.random() < 0.2:
            labels["area"] = "eu"
        made.append(
            a_session(
                session_id + "".join(dice.choices("xyz", k=3)) + str(number),
                user=user,
                status=dice.choice(list(Status)),
                labels=labels,
                parent_uid=dice.choice([*PARENTS, "", "", ""]),
                update_time=dice.randrange(20),
                activity_time=dice.randrange(20),
            )
        )
    return made


def selects(query: Candidates, session: Session) -> bool:
    """Whether the hints of a query select a session."""
    return (
        session.app == query.app
        and query.user in {None, session.user}
        and query.status in {None, session.status}
        and (query.label is None or query.label in session.labels.items())
        and query.parent_uid in {None, session.parent_uid}
    )


def expected(query: Candidates, rows: list[SessionRow]) -> list[SessionRow]:
    """The whole list, as the sentence S12 defines it."""
    return sorted(
        (row for row in rows if selects(query, row.session)),
        key=lambda row: (sort_value(row, query.sort_by), row.create_order),
        reverse=query.descending,
    )


HINTS: list[dict[str, Any]] = [
    {**user, **status, **label, **parent}
    for user in ({}, {"user": "ann"}, {"user": ""})
    for status in ({}, {"status": Status.ACTIVE})
    for label in ({}, {"label": ("tier", "gold")})
    for parent in ({}, {"parent_uid": PARENTS[0]})
]
ORDERS = list(itertools.product(SortBy, [False, True]))


@pytest.mark.rule("S12")
@pytest.mark.parametrize(("sort_by", "descending"), ORDERS)
async def test_a_list_is_complete_and_in_order_page_after_page(
    store: Store, sort_by: SortBy, descending: bool
) -> None:
    rows = await create_many(store, sessions())
    await create(store, a_session("other", app="other", parent_uid=PARENTS[0]))
    for hints in HINTS:
        whole = Candidates(app=APP, sort_by=sort_by, descending=descending, limit=1_000, **hints)
        wanted = expected(whole, rows)
        assert await listed(store, whole) == wanted
        paged: list[SessionRow] = []
        after: Position | None = None
        for _ in range(len(wanted) + 1):
            query = Candidates(
                app=APP, sort_by=sort_by, descending=descending, limit=7, after=after, **hints
            )
            page = await listed(store, query)
            paged += page
            if len(page) < 7:
                break
            after = Position(sort_value(page[-1], sort_by), page[-1].create_order)
        assert paged == wanted, (sort_by, descending, hints)


@pytest.mark.rule("S12")
async def test_a_list_may_begin_at_a_place_where_no_session_is(store: Store) -> None:
    rows = await create_many(store, sessions())
    gone = rows[100]
    await apply(store, lambda tx: tx.delete_session(gone))
    left = [row for row in rows if row is not gone]
    for sort_by, descending in ORDERS:
        at = (sort_value(gone, sort_by), gone.create_order)
        query = Candidates(
            app=APP, sort_by=sort_by, descending=descending, limit=1_000, after=Position(*at)
        )
        wanted = [
            row
            for row in expected(query, left)
            if ((sort_value(row, sort_by), row.create_order) < at) is descending
        ]
        assert await listed(store, query) == wanted


@pytest.mark.rule("S12")
async def test_in_create_order_no_session_is_missed_or_repeated_while_others_write(
    store: Store,
) -> None:
    rows = await create_many(store, [a_session(f"s-{number}") for number in range(60)])
    for hints in ({}, {"user": "ann"}, {"status": Status.ACTIVE}):
        seen: list[SessionRow] = []
        after: Position | None = None
        for page_number in range(100):
            query = Candidates(app=APP, limit=7, after=after, **hints)
            page = await listed(store, query)
            seen += page
            if len(page) < 7:
                break
            after = Position(page[-1].create_order, page[-1].create_order)
            name = f"new-{len(hints)}-{page_number}-{hints}"
            await create(store, a_session(name))
            row = await found(store, name)
            await delete(store, row)
        assert [row.pk for row in seen] == [row.pk for row in rows]


@pytest.mark.rule("S12")
async def test_hints_that_select_nothing_give_an_empty_list(store: Store) -> None:
    await create(store, a_session(labels={"tier": "gold"}))
    for hints in (
        {"user": "none"},
        {"status": Status.FAILED},
        {"label": ("tier", "lead")},
        {"label": ("none", "gold")},
        {"parent_uid": a_session().uid},
        {"parent_uid": "no uid"},
        {"limit": 0},
    ):
        query = Candidates(**{"app": APP, **hints})  # type: ignore[arg-type]
        assert await listed(store, query) == []


@pytest.mark.rule("S13")
async def test_due_sessions_are_those_whose_time_has_come_the_longest_due_first(
    store: Store,
) -> None:
    for name, due in {"c": 30, "a": 10, "never": None, "b": 20, "later": 40}.items():
        await create(store, a_session(name, app="due-" + name), due)

    async def due_ids(until: int, limit: int = 10) -> list[str]:
        rows = await store.read(lambda tx: tx.due_sessions(until, limit))
        return [row.session.session_id for row in rows]

    assert await due_ids(9) == []
    assert await due_ids(30) == ["a", "b", "c"]
    assert await due_ids(30, 2) == ["a", "b"]
    assert await store.read(lambda tx: tx.next_due()) == 10


@pytest.mark.rule("S13")
async def test_a_session_that_has_ended_or_is_gone_is_not_due(store: Store) -> None:
    first = await create(store, a_session("first"), 10)
    second = await create(store, a_session("second"), 20)
    await create(store, a_session("born-ended", status=Status.COMPLETED), 5)

    async def end(tx: Tx) -> None:
        await tx.update_session(first, changed(first.session, status=Status.EXPIRED), 10)

    await apply(store, end)
    assert await store.read(lambda tx: tx.next_due()) == 20
    await apply(store, lambda tx: tx.delete_session(second))
    assert await store.read(lambda tx: tx.next_due()) is None
    assert list(await store.read(lambda tx: tx.due_sessions(100, 10))) == []


@pytest.mark.rule("S13")
async def test_what_is_due_moves_with_each_update(store: Store) -> None:
    row = await create(store, a_session(), 10)
    for due in (5, 50, None, 20):
        after = changed(row.session, activity_time=row.session.activity_time + 1)
        row = (await apply(store, methodcaller("update_session", row, after, due))).value
        assert await store.read(lambda tx: tx.next_due()) == due


@pytest.mark.rule("S12")
async def test_a_unit_lists_what_it_has_written(store: Store) -> None:
    async def unit(tx: Tx) -> list[str]:
        for number in range(3):
            await insert(tx, a_session(f"s-{number}", labels={"tier": "gold"}))
        query = Candidates(app=APP, label=("tier", "gold"), descending=True)
        return [row.session.session_id for row in await tx.candidates(query)]

    assert (await apply(store, unit)).value == ["s-2", "s-1", "s-0"]


@pytest.mark.rule("S12")
async def test_names_that_nothing_can_have_list_nothing(store: Store) -> None:
    await create(store, a_session(labels={"a": "b"}))
    for hints in ({"user": "a\0"}, {"label": ("a", "\0")}, {"label": ("\0", "b")}):
        query = Candidates(app=APP, **hints)
        assert not await store.read(methodcaller("candidates", query))
