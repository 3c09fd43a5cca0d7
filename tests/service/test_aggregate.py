"""AggregateSessions: groups that add up, in pages, whichever way they are found."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from sojourn_server.domain import filter as filters
from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import MetricsDelta
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.limits import ANSWER_BYTES, SUM_COUNTERS_MOST
from sojourn_server.domain.model import Metrics, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.service import aggregating, summing
from sojourn_server.service.aggregating import AggregatePage, GroupBy
from tests.service.kit import World, refused
from tests.service.test_list import FILTERS, populate
from tests.store.kit import a_session, create_many

LARGEST = (1 << 63) - 1
EVERYONE = Users(("*",))


async def pages(world: World, **query: Any) -> list[AggregatePage]:
    found: list[AggregatePage] = []
    for _ in range(500):
        page = await world.aggregate(**query)
        found.append(page)
        if not page.next_page_token:
            return found
        query["page_token"] = page.next_page_token
    raise AssertionError("the pages have no end")


async def groups(world: World, **query: Any) -> dict[str, Sums]:
    found = [group for page in await pages(world, **query) for group in page.groups]
    names = [group.name for group in found]
    assert names == sorted(set(names), key=str.encode), "out of order, or twice"
    return {group.name: group.sums for group in found}


def name_of(session: Session, by: GroupBy, key: str) -> str:
    match by:
        case GroupBy.USER:
            return session.user
        case GroupBy.STATUS:
            return session.status.name
        case GroupBy.LABEL:
            return session.labels.get(key, "")
        case _:
            return ""


def root_of(session: Session, by_uid: dict[str, Session]) -> Session:
    while session.parent_uid in by_uid:
        session = by_uid[session.parent_uid]
    return session


def recount(
    sessions: list[Session],
    now: int,
    *,
    user: str | None = None,
    filter: SessionFilter = filters.EVERYTHING,  # noqa: A002
    group_by: GroupBy = GroupBy.NOTHING,
    label_key: str = "",
    roll_up: bool = False,
    users: Users = EVERYONE,
) -> dict[str, Sums]:
    """What an aggregate must be, the plain way: every session, one by one."""
    matches = filters.matcher(filter, now)
    # A caller's world is one in which nobody else has anything, no parents either.
    sessions = [session for session in sessions if users.covers(session.user)]
    by_uid = {session.uid: session for session in sessions}
    found: dict[str, Sums] = {"": Sums()} if group_by is GroupBy.NOTHING else {}
    for session in sessions:
        chosen = root_of(session, by_uid) if roll_up else session
        if user not in {None, chosen.user} or not matches(chosen):
            continue
        name = name_of(chosen, group_by, label_key)
        found.setdefault(name, Sums()).count(session)
    return found


async def test_any_question_gets_the_answer_of_counting_by_hand(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Small steps, so that what is read in parts is.
    for module, name in ((aggregating, "TALLIES_AT_ONCE"), (aggregating, "VALUES_AT_ONCE")):
        monkeypatch.setattr(module, name, 2)
    for module in (aggregating, summing):
        monkeypatch.setattr(module, "SIDE_BY_SIDE", 2)
    monkeypatch.setattr(summing, "SLICE", 7)
    sessions = await populate(world, 50)
    for number, session in enumerate(sessions):
        if session.is_active:
            delta = MetricsDelta(counters={f"c-{number % 4}": number, "all": 1 - 2 * (number % 2)})
            await world.update(session, metrics=delta)
    await world.delete(next(s for s in sessions if s.parent_uid == ""), force=True)
    sessions = [await world.stored(each) for each in await world.every_session()]
    questions = itertools.product(FILTERS, GroupBy, (None, "ann"), (False, True))
    for number, (which, by, user, roll_up) in enumerate(questions):
        if number > 48 and number % 5:
            continue  # with each other filter, every fifth
        size = (1, 2, 50)[number % 3]
        query: dict[str, Any] = {"filter": which, "group_by": by, "user": user, "roll_up": roll_up}
        query["label_key"] = "env" if by is GroupBy.LABEL else ""
        answered = await groups(world, page_size=size, **query)
        assert answered == recount(sessions, world.clock.now(), **query), query


@pytest.mark.parametrize("by", GroupBy)
async def test_nothing_adds_up_to_nothing(world: World, by: GroupBy) -> None:
    await world.create("elsewhere", app="other")
    key = "env" if by is GroupBy.LABEL else ""
    empty = {"": Sums()} if by is GroupBy.NOTHING else {}
    for which in (filters.EVERYTHING, SessionFilter(has_turn=True)):
        for roll_up in (False, True):
            for user in (None, "ann"):
                query = {"filter": which, "user": user, "group_by": by, "label_key": key}
                assert await groups(world, roll_up=roll_up, **query) == empty


async def test_a_caller_sums_up_only_what_it_may_read(world: World) -> None:
    """Also below a root that it may read, and below one that it may not: that is not there."""
    sessions = await populate(world, 40)
    for patterns in (("ann",), ("a*", "b*"), ("none",)):
        users = Users(patterns)
        for by, roll_up, user in itertools.product(GroupBy, (False, True), (None, "ann", "bob")):
            query: dict[str, Any] = {"group_by": by, "roll_up": roll_up, "users": users}
            query |= {"user": user, "label_key": "tier" if by is GroupBy.LABEL else ""}
            expected = recount(sessions, world.clock.now(), **query)
            assert await groups(world, page_size=2, **query) == expected, (patterns, query)


async def test_kept_sums_are_not_counted_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of sessions: none is looked at."""
    await populate(world, 30)
    monkeypatch.setattr(summing.Summing, "groups", None)
    for which in (filters.EVERYTHING, SessionFilter(statuses=(Status.ACTIVE, Status.FAILED))):
        for by in (GroupBy.NOTHING, GroupBy.USER, GroupBy.STATUS):
            for user in (None, "ann"):
                assert await groups(world, filter=which, group_by=by, user=user)


@pytest.mark.parametrize(
    "which", [filters.EVERYTHING, SessionFilter(older_than=1)], ids=["kept", "added"]
)
async def test_a_page_is_cut_at_a_megabyte(
    world: World, which: SessionFilter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregating, "ANSWER_BYTES", 3_000)
    assert ANSWER_BYTES == 1 << 20
    names = [f"counter-{number:02d}" for number in range(30)]
    await create_many(
        world.store,
        [
            a_session(f"s-{n}", user=f"u-{n}", metrics=Metrics(counters=dict.fromkeys(names, 1)))
            for n in range(7)
        ],
    )
    world.clock.step(1)
    found = await pages(world, filter=which, group_by=GroupBy.USER)
    assert [len(page.groups) for page in found] == [2, 2, 2, 1]


async def test_more_counters_than_an_answer_names_are_cut_the_same_everywhere(
    world: World,
) -> None:
    names = [f"c-{number:03d}" for number in range(3 * SUM_COUNTERS_MOST)]
    # Half of them come to nothing, and come again.
    sessions = [
        a_session(
            f"s-{number}",
            user=f"u-{number % 3}",
            status=(Status.ACTIVE, Status.FAILED)[number % 2],
            labels={"env": "x"},
            metrics=Metrics(counters=dict.fromkeys(names[number * 5 :][:64], (-1) ** number)),
        )
        for number in range(150)
    ]
    await create_many(world.store, sessions)
    world.clock.step(1)
    whole = recount(sessions, world.clock.now())[""]
    whole.trim(SUM_COUNTERS_MOST)
    seen: list[Sums] = []
    for which in (filters.EVERYTHING, SessionFilter(older_than=1)):
        for roll_up in (False, True):
            (sums,) = (await groups(world, filter=which, roll_up=roll_up)).values()
            seen.append(sums)
    for sums in seen:
        assert sums.cut is not None
        assert whole.cut is not None
        assert names[100] < sums.cut <= whole.cut
        expected = {name: value for name, value in whole.counters.items() if name < sums.cut}
        assert sums.counters == expected


async def test_relative_filters_mean_the_now_of_the_first_page(world: World) -> None:
    for number in range(4):
        await world.create(f"s-{number}", user=f"u-{number}")
        world.clock.step(10)
    which = SessionFilter(older_than=15 * SECOND)
    query: dict[str, Any] = {"filter": which, "group_by": GroupBy.USER, "page_size": 1}
    page = await world.aggregate(**query)
    names = [group.name for group in page.groups]
    for _ in range(10):
        if not page.next_page_token:
            break
        world.clock.step(10)
        page = await world.aggregate(page_token=page.next_page_token, **query)
        names += [group.name for group in page.groups]
    assert names == ["u-0", "u-1", "u-2"]


async def test_a_token_serves_the_request_it_was_made_for(world: World) -> None:
    for user in ("ann", "bob", "carl"):
        await world.create("s-1", user=user, labels={"env": user})
    query: dict[str, Any] = {"group_by": GroupBy.USER, "page_size": 1}
    token = (await world.aggregate(**query)).next_page_token
    assert token
    (group,) = (await world.aggregate(page_token=token, **{**query, "page_size": 9})).groups[:1]
    assert group.name == "bob"
    others: list[dict[str, Any]] = [
        {"app": "other"},
        {"user": "ann"},
        {"filter": SessionFilter(statuses=(Status.ACTIVE,))},
        {"group_by": GroupBy.STATUS},
        {"group_by": GroupBy.LABEL, "label_key": "env"},
        {"roll_up": True},
    ]
    for other in others:
        with refused(Reason.PAGE_TOKEN_INVALID):
            await world.aggregate(page_token=token, **{**query, **other})
    listed = await world.page(page_size=1)
    for foreign in (listed.next_page_token, token[:-1], "x"):
        with refused(Reason.PAGE_TOKEN_INVALID):
            await world.aggregate(page_token=foreign, **query)


async def test_a_label_s_key_belongs_to_a_grouping_by_label(world: World) -> None:
    with refused(Reason.INVALID_FIELD):
        await world.aggregate(group_by=GroupBy.LABEL)
    with refused(Reason.INVALID_FIELD):
        await world.aggregate(group_by=GroupBy.USER, label_key="env")
    with refused(Reason.INVALID_FIELD):
        await world.aggregate(page_size=-1)


async def test_a_page_that_passes_over_much_is_handed_out_as_it_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregating, "LOOKED_AT", 10)
    monkeypatch.setattr(aggregating, "SIDE_BY_SIDE", 4)
    monkeypatch.setattr(aggregating, "VALUES_AT_ONCE", 4)
    sessions = [
        a_session(f"s-{n}", user=f"u-{n:02d}", labels={"env": f"v-{n:02d}"}) for n in range(40)
    ]
    sessions[-1] = a_session("last", user="z", labels={"env": "z"})
    await create_many(world.store, sessions)
    which = SessionFilter(session_id_prefix="last")
    for by, key in ((GroupBy.USER, ""), (GroupBy.LABEL, "env")):
        found = await pages(world, filter=which, group_by=by, label_key=key)
        assert len(found) > 2
        assert [group.name for page in found for group in page.groups] == ["z"]
        assert not found[0].groups


async def test_roots_are_those_whose_parent_is_gone_too(world: World) -> None:
    def family(name: str, parent: str = "", **fields: Any) -> Session:
        metrics = Metrics(requests=1)
        return a_session(name, parent_uid=parent, metrics=metrics, **fields)

    root = family("root", user="ann", status=Status.COMPLETED, labels={"env": "x"})
    child = family("child", root.uid, user="bob")
    grandchild = family("grandchild", child.uid, user="", status=Status.FAILED)
    orphan = family("orphan", a_session().uid, user="carl")
    await create_many(world.store, [root, child, grandchild, orphan])
    by_user = await groups(world, group_by=GroupBy.USER, roll_up=True)
    assert {name: sums.sessions for name, sums in by_user.items()} == {"ann": 3, "carl": 1}
    by_status = await groups(world, group_by=GroupBy.STATUS, roll_up=True)
    assert {name: sums.requests for name, sums in by_status.items()} == {
        "ACTIVE": 1,
        "COMPLETED": 3,
    }
    only = SessionFilter(session_id_prefix="root")
    assert (await groups(world, filter=only, roll_up=True))[""].sessions == 3
    assert (await groups(world, filter=only))[""].sessions == 1
    below = SessionFilter(parent_uid=root.uid)
    assert (await groups(world, filter=below, roll_up=True))[""].sessions == 0


async def test_revision_is_that_of_the_sums_where_they_are_kept(world: World) -> None:
    """Counts move with the log: at a revision, never between two."""
    import asyncio  # noqa: PLC0415

    done = asyncio.Event()

    async def write() -> None:
        for number in range(60):
            await world.create(f"s-{number}", idle_timeout=HOUR)
        done.set()

    async def read() -> int:
        count = 0
        while not done.is_set():
            page = await world.aggregate()
            # One creation takes one revision, and the first of them the app's own too.
            assert page.groups[0].sums.sessions == page.revision
            count += 1
        return count

    _, count = await asyncio.gather(write(), read())
    assert count
