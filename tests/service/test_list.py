"""ListSessions: pages in any order, of any filter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from sojourn_server.domain import filter as filters
from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import NewOwner, NewSession, View
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter, TimeRange
from sojourn_server.domain.limits import ANSWER_BYTES, PAGE_MOST, SCAN_ROWS
from sojourn_server.domain.model import EndCause, Session, Status, TurnOutcome
from sojourn_server.domain.tokens import ResumePoint, Sealer
from sojourn_server.service import listing, state
from sojourn_server.service.answers import SessionPage
from sojourn_server.store.base import ReadTx, SortBy, TokenKey
from tests.service.kit import APP, START, USER, World, patches, refused


async def pages(world: World, **query: Any) -> list[SessionPage]:
    found: list[SessionPage] = []
    for _ in range(3_000):
        page = await world.page(**query)
        found.append(page)
        if not page.next_page_token:
            return found
        query["page_token"] = page.next_page_token
    raise AssertionError("the list has no end")


async def listed(world: World, **query: Any) -> list[Session]:
    return [shot.session for page in await pages(world, **query) for shot in page.snapshots]


async def populate(world: World, count: int = 60, seed: int = 1) -> list[Session]:
    """Sessions of every kind, and how they are stored, in the order of creation."""
    chance = random.Random(seed)
    made: list[Session] = []
    for number in range(count):
        world.clock.step(chance.choice([0, 0, 1, 5]))
        parent = chance.choice([None, None, *made[-5:]])
        if parent is not None and (await world.get(parent)).status is not Status.ACTIVE:
            parent = None
        session = await world.create(
            f"{chance.choice('abc')}-{number}",
            user=chance.choice(["", "ann", "bob"]),
            labels={
                key: value for key in ("env", "tier") if (value := chance.choice(["", "x", "y"]))
            },
            parent_uid="" if parent is None else parent.uid,
            owner=chance.choice([None, None, NewOwner(lease=HOUR)]),
            idle_timeout=HOUR,
        )
        made.append(session)
        for _ in range(chance.randint(0, 3)):
            token = await world.turn(session)
            world.clock.step(chance.choice([0, 1]))
            await world.end_turn(token, chance.choice([TurnOutcome.OK, TurnOutcome.ERROR]))
        match chance.randint(0, 5):
            case 0:
                await world.end(session, chance.choice([Status.COMPLETED, Status.FAILED]))
            case 1:
                await world.turn(session, lease=HOUR)
            case 2:
                await world.touch(chance.choice(made[-1:]))
    return [await world.stored(session) for session in made]


def key_of(sort_by: SortBy, order: dict[str, int]) -> Any:
    def key(session: Session) -> Any:
        value: Any = {
            SortBy.CREATE: order[session.uid],
            SortBy.SESSION_ID: session.session_id.encode(),
            SortBy.UPDATE: session.update_time,
            SortBy.ACTIVITY: session.activity_time,
        }[sort_by]
        return value, order[session.uid]

    return key


def selector(key: str, operator: LabelOperator, *values: str) -> LabelSelector:
    return LabelSelector(key, operator, values)


IN, EXISTS = LabelOperator.IN, LabelOperator.EXISTS
FILTERS = [
    SessionFilter(),
    SessionFilter(statuses=(Status.ACTIVE,)),
    SessionFilter(statuses=(Status.FAILED, Status.COMPLETED)),
    SessionFilter(labels=(selector("env", IN, "x"),)),
    SessionFilter(labels=(selector("env", IN, "x", "y"), selector("tier", EXISTS))),
    SessionFilter(labels=(selector("env", LabelOperator.NOT_IN, "x"),), has_parent=False),
    SessionFilter(session_id_prefix="a-"),
    SessionFilter(ephemeral=True),
    SessionFilter(has_turn=True, statuses=(Status.ACTIVE,)),
    SessionFilter(error_rate_above=0.4, request_count_above=1),
    SessionFilter(end_causes=(EndCause.REQUEST,)),
    SessionFilter(older_than=40 * SECOND),
    SessionFilter(idle_longer_than=30 * SECOND),
    SessionFilter(create_time=TimeRange(START + 20 * SECOND, START + 60 * SECOND)),
    SessionFilter(activity_time=TimeRange(START + 20 * SECOND)),
]


async def test_every_order_and_filter_lists_what_it_should_in_its_order(world: World) -> None:
    stored = await populate(world)
    order = {session.uid: number for number, session in enumerate(stored)}
    parents = [SessionFilter(parent_uid=s.parent_uid) for s in stored if s.parent_uid][:3]
    assert parents
    chance = random.Random(2)
    for which in (*FILTERS, *parents):
        for user in (None, "", "ann", "nobody"):
            for sort_by in SortBy:
                descending = chance.random() < 0.5
                size = chance.choice([1, 3, 50])
                expected = sorted(
                    (
                        session
                        for session in stored
                        if (user is None or session.user == user)
                        and filters.matcher(which, world.clock.time)(session)
                    ),
                    key=key_of(sort_by, order),
                    reverse=descending,
                )
                query = {"filter": which, "user": user, "sort_by": sort_by}
                found = await listed(world, **query, descending=descending, page_size=size)
                assert found == expected, (which, user, sort_by, descending, size)


@pytest.mark.parametrize("sort_by", list(SortBy))
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("size", [1, 2, 7])
async def test_pages_of_every_size_hold_each_session_once(
    world: World, sort_by: SortBy, descending: bool, size: int
) -> None:
    stored = await populate(world, 20)
    order = {session.uid: number for number, session in enumerate(stored)}
    expected = sorted(stored, key=key_of(sort_by, order), reverse=descending)
    found = await pages(world, sort_by=sort_by, descending=descending, page_size=size)
    assert all(len(page.snapshots) <= size for page in found)
    assert [shot.session for page in found for shot in page.snapshots] == expected


async def test_session_ids_sort_by_their_bytes(world: World) -> None:
    names = ["Z", "a", "é", "z", "\U0001f600", "a b", "\uffee", "A"]
    for name in names:
        await world.create(name)
    found = await listed(world, sort_by=SortBy.SESSION_ID, page_size=1)
    assert [each.session_id for each in found] == sorted(names, key=str.encode)


async def test_an_unknown_app_has_no_sessions(world: World) -> None:
    page = await world.page(app="nothing", total=True)
    assert (page.snapshots, page.next_page_token, page.total, page.revision) == ((), "", 0, 0)


async def test_apps_do_not_see_each_other(world: World) -> None:
    await world.create("s-1", app="a", labels={"env": "x"})
    await world.create("s-1", app="b", labels={"env": "x"})
    which = SessionFilter(labels=(selector("env", IN, "x"),), statuses=(Status.ACTIVE,))
    for sort_by in SortBy:
        for query in ({}, {"filter": which}, {"user": USER}):
            found = await listed(world, app="a", sort_by=sort_by, **query)
            assert [session.app for session in found] == ["a"]


# --- tokens ------------------------------------------------------------------------------------


async def test_a_page_token_serves_the_list_it_was_made_for_only(world: World) -> None:
    await populate(world, 12)
    token = (await world.page(page_size=2)).next_page_token
    for other in (
        {"app": "other"},
        {"user": ""},
        {"user": "ann"},
        {"filter": SessionFilter(statuses=(Status.ACTIVE,))},
        {"sort_by": SortBy.UPDATE},
        {"descending": True},
    ):
        with refused(Reason.PAGE_TOKEN_INVALID):
            await world.page(page_token=token, **other)
    for bad in (token[1:], token + "x", "x", "é"):
        with refused(Reason.PAGE_TOKEN_INVALID):
            await world.page(page_token=bad)
    page = await world.page(page_token=token, page_size=5, view=View.FULL)
    assert len(page.snapshots) == 5


async def test_tokens_outlive_a_rotation_of_keys(world: World) -> None:
    await populate(world, 6)
    before = await world.page(page_size=2)
    messages = await world.create("m")
    await world.fill("m", 4)
    of_messages = await world.messages(messages, page_size=2)
    new = TokenKey(77, b"n" * 32)
    rotated = Sealer([new, *world.store.token_keys])
    world.services.sealer = world.units.sealer = rotated
    page = await world.page(page_size=9, page_token=before.next_page_token)
    assert [shot.session.session_id for shot in page.snapshots][-1] == "m"
    token = of_messages.next_page_token
    rest = await world.messages(messages, page_token=token)
    assert [shot.message.sequence for shot in rest.messages] == [3, 4]
    again = (await world.page(page_size=2)).resume_token
    assert rotated.open(again, ResumePoint).scope == (
        rotated.open(before.resume_token, ResumePoint).scope
    )


async def test_the_first_page_brings_a_resume_token_of_its_revision(world: World) -> None:
    await populate(world, 6)
    page = await world.page(page_size=2)
    point = world.services.sealer.open(page.resume_token, ResumePoint)
    [newest] = {change.nonce for change in await world.log(page.revision - 1)}
    app = await world.store.read(lambda tx: tx.app(APP))
    assert app is not None
    assert (point.feed_id, point.revision, point.nonce) == (app.feed_id, page.revision, newest)
    assert page.revision == await world.head()
    later = await world.page(page_size=2, page_token=page.next_page_token)
    assert later.resume_token == ""


async def test_relative_predicates_keep_the_instant_of_the_first_page(world: World) -> None:
    for number in range(10):
        await world.create(f"s-{number}", idle_timeout=0)
        world.clock.step(1)
    which = SessionFilter(older_than=5 * SECOND)
    page = await world.page(filter=which, page_size=2, total=True)
    assert page.total == 5
    world.clock.step(100)
    token = page.next_page_token
    rest = await listed(world, filter=which, page_size=2, page_token=token)
    assert [session.session_id for session in rest] == ["s-2", "s-3", "s-4"]
    again = await world.page(filter=which, page_size=2, page_token=token, total=True)
    assert again.total == 5


# --- bounds ------------------------------------------------------------------------------------


async def test_page_sizes_have_a_default_and_a_ceiling(world: World) -> None:
    world.apps.add(APP)
    wanted = [NewSession(user=USER) for _ in range(1_000)]
    call = world.call("BatchCreateSessions")
    await world.sessions.create_many(call, APP, wanted)
    await world.sessions.create_many(call, APP, wanted[:10])
    assert len((await world.page(view=View.IDS)).snapshots) == 50
    page = await world.page(view=View.IDS, page_size=10_000)
    assert len(page.snapshots) == PAGE_MOST
    rest = await world.page(view=View.IDS, page_size=10_000, page_token=page.next_page_token)
    assert (len(rest.snapshots), rest.next_page_token) == (10, "")
    with refused(Reason.INVALID_FIELD, field="page_size"):
        await world.page(page_size=-1)


async def test_a_full_page_at_the_very_end_has_no_next_token(world: World) -> None:
    await populate(world, 6)
    for which in (SessionFilter(), SessionFilter(older_than=0)):
        found = await pages(world, filter=which, page_size=3)
        assert len(found[-1].snapshots) > 0


async def test_a_page_looks_at_so_many_candidates_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SCAN_ROWS", 20)
    monkeypatch.setattr(listing, "CHUNK", 5)
    for number in range(70):
        await world.create(f"{'b' if number in (33, 66) else 'a'}-{number}")
    which = SessionFilter(session_id_prefix="b-")
    found = await pages(world, filter=which, page_size=1)
    assert [len(page.snapshots) for page in found] == [0, 1, 0, 0, 1][: len(found)] or (
        sum(len(page.snapshots) for page in found) == 2
    )
    assert len(found) >= 4
    everything = [shot.session.session_id for page in found for shot in page.snapshots]
    assert everything == ["b-33", "b-66"]
    assert (await world.page(filter=which, total=True)).total == 2
    assert SCAN_ROWS > PAGE_MOST


async def test_a_page_is_cut_at_a_mebibyte_or_holds_one_session(world: World) -> None:
    big = {"state": '"' + "x" * 200_000 + '"'}
    for number in range(12):
        await world.create(f"s-{number}", user="", state=patches(session=big))
    found = await pages(world, view=View.FULL)
    assert [len(page.snapshots) for page in found] == [5, 5, 2]
    basic = await pages(world, view=View.BASIC)
    assert len(basic) == 1
    await world.patch("", set=big | {"more": big["state"][:50_000] + '"'})
    await world.patch(None, set=big)
    found = await pages(world, view=View.FULL)
    assert {len(page.snapshots) for page in found} == {1}
    for page in found:
        for shot in page.snapshots:
            assert msgspec.msgpack.encode(shot.content) != b""
    assert ANSWER_BYTES == 1 << 20


async def test_content_is_listed_as_it_is_read_and_read_for_many_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(120):
        await world.create(
            f"{'ab'[number % 2]}-{number}",
            user=["", "ann", "bob"][number % 3],
            state=patches(session={"n": str(number)}, user={"last": str(number)}),
        )
    batches: list[int] = []
    read = state.read_contents

    async def watched(
        tx: ReadTx, sessions: Sequence[Session], shared: state.SharedState
    ) -> list[Any]:
        batches.append(len(sessions))
        return await read(tx, sessions, shared)

    monkeypatch.setattr(state, "read_contents", watched)
    which = SessionFilter(session_id_prefix="a-")
    (page,) = await pages(world, view=View.FULL, filter=which, page_size=100)
    assert len(page.snapshots) == 60
    assert batches == [8, 52]
    for shot in page.snapshots:
        assert shot == (await world.read(shot.session, View.FULL)).snapshot
        assert shot.content is not None
        assert shot.content.user_state.values.keys() == {"last"}
    batches.clear()
    big = {"state": '"' + "x" * 200_000 + '"'}
    for number in range(30):
        await world.create(f"c-{number}", user="", state=patches(session=big))
    found = await pages(world, view=View.FULL, filter=SessionFilter(session_id_prefix="c-"))
    assert len(found) == 6
    assert sum(batches) <= 6 * 13, "of what an answer does not hold little is read"


async def test_the_total_counts_all_pages(world: World) -> None:
    stored = await populate(world, 30)
    for which in FILTERS[:9]:
        expected = sum(filters.matcher(which, world.clock.time)(each) for each in stored)
        for sort_by in SortBy:
            page = await world.page(filter=which, page_size=2, total=True, sort_by=sort_by)
            assert page.total == expected
    assert (await world.page()).total is None


async def test_the_total_counts_each_session_once_while_others_write(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "SCAN_ROWS", 10)
    for number in range(40):
        await world.create(f"s-{number}")
        world.clock.step(1)
    fetch = listing._fetch
    fetched = 0

    async def moving(tx: Any, query: Any) -> Any:
        nonlocal fetched
        fetched += 1
        return await fetch(tx, query)

    read = world.units.read

    async def with_writes(query: Any) -> Any:
        answer = await read(query)
        if fetched:
            await world.update(f"s-{fetched}", labels={"n": str(fetched)})
        return answer

    monkeypatch.setattr(listing, "_fetch", moving)
    monkeypatch.setattr(world.units, "read", with_writes)
    page = await world.page(sort_by=SortBy.UPDATE, total=True)
    assert fetched > 3
    assert page.total == 40


# --- while others write ------------------------------------------------------------------------


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("user", [None, USER])
async def test_in_creation_order_nothing_is_repeated_or_missed_while_others_write(
    world: World, descending: bool, user: str | None
) -> None:
    before = [await world.create(f"s-{number}") for number in range(60)]
    stop = False

    async def write(worker: int) -> None:
        chance = random.Random(worker)
        number = 0
        while not stop:
            number += 1
            await world.create(f"w-{worker}-{number}")
            victim = chance.choice(before)
            match number % 3:
                case 0:
                    await world.update(victim, labels={"n": str(number)})
                case 1:
                    await world.touch(victim)
                case 2:
                    await world.end(victim)
                    return
            await asyncio.sleep(0)

    writers = [asyncio.create_task(write(worker)) for worker in range(4)]
    try:
        for _ in range(4):
            found = await listed(world, user=user, descending=descending, page_size=7)
            ids = [session.session_id for session in found]
            assert len(ids) == len(set(ids))
            assert {session.session_id for session in before} <= set(ids)
    finally:
        stop = True
        await asyncio.gather(*writers)


async def test_an_overdue_session_is_listed_as_the_log_has_it(world: World) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(5)
    [session] = await listed(world)
    assert session.status is Status.ACTIVE
    assert await world.head() == 1
    await world.get("s-1")
    [session] = await listed(world)
    assert session.status is Status.EXPIRED
