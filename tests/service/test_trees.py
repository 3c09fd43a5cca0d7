"""EndSession and DeleteSession of whole trees."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import (
    NewOwner,
    NewSession,
    OnConflict,
    Precondition,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import (
    ChangeCause,
    EndCause,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.jobs import expiry
from sojourn_server.service import ahead, cascades, tree, turn_line, units, work
from tests.service.kit import APP, USER, World, refused

DONE, FAILED, EXPIRED = Status.COMPLETED, Status.FAILED, Status.EXPIRED


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of more than 5 sessions are large, of more than 20 very large."""
    for module in (cascades, tree, work):
        monkeypatch.setattr(module, "UNIT_ROWS", 5)
    monkeypatch.setattr(cascades, "CASCADE_MOST", 20)


async def grow(world: World, parent: Session, count: int, **fields: Any) -> list[Session]:
    """Children of a session, made at once."""
    wanted = [NewSession(user=USER, parent_uid=parent.uid, **fields) for _ in range(count)]
    call = world.call("BatchCreateSessions")
    return list((await world.sessions.create_many(call, APP, wanted)).outcome.sessions)


async def statuses(world: World, found: list[Session]) -> set[Status]:
    return {(await world.stored(session)).status for session in found}


# --- trees -------------------------------------------------------------------------------------


async def test_a_session_with_children_is_deleted_by_force_only(world: World) -> None:
    parent = await world.create("p")
    await world.create("c-1", parent_uid=parent.uid)
    child = await world.create("c-2", parent_uid=parent.uid)
    await world.create("c-c", parent_uid=child.uid)
    with refused(Reason.HAS_CHILDREN, count="2", children="c-1, c-2"):
        await world.delete("p")
    answer = await world.delete("p", force=True)
    assert answer.outcome.sessions == 4
    assert await world.every_session() == []
    gone = [c for c in await world.log(answer.revision - 1) if c.cause is ChangeCause.DELETED]
    ids = [change.before.session_id for change in gone if change.before]
    assert ids == ["c-c", "c-2", "c-1", "p"]


async def test_an_end_takes_ephemeral_descendants_along_and_leaves_the_others(
    world: World,
) -> None:
    parent = await world.create("p")
    lease = NewOwner(lease=HOUR)
    ephemeral = await world.create("e", parent_uid=parent.uid, owner=lease)
    below = await world.create("e-e", parent_uid=ephemeral.uid, owner=lease)
    plain = await world.create("plain", parent_uid=parent.uid)
    under_plain = await world.create("plain-e", parent_uid=plain.uid, owner=lease)
    answer = await world.end("p", FAILED)
    assert answer.outcome.descendants == 2
    for gone in (ephemeral, below):
        after = await world.get(gone)
        assert (after.status, after.end_cause) == (FAILED, EndCause.PARENT_ENDED)
    assert await statuses(world, [plain, under_plain]) == {Status.ACTIVE}
    ended = [change.uid for change in await world.log(answer.revision - 1)]
    assert ended == [below.uid, ephemeral.uid, parent.uid]


async def test_an_expiry_takes_ephemeral_children_along(world: World) -> None:
    parent = await world.create("p", idle_timeout=SECOND)
    child = await world.create("e", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    world.clock.step(1)
    assert (await world.get("p")).status is EXPIRED
    after = await world.stored(child)
    assert (after.status, after.end_cause) == (EXPIRED, EndCause.PARENT_ENDED)


async def test_a_cascade_ends_all_descendants_children_first_in_one_unit(world: World) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 3)
    below = await grow(world, children[1], 2)
    answer = await world.end("p", cascade=True)
    assert answer.outcome.descendants == 5
    log = await world.log(answer.revision - 1)
    assert {change.revision for change in log} == {answer.revision}
    order = [change.uid for change in log]
    assert order.index(below[0].uid) < order.index(children[1].uid) < order.index(parent.uid)
    assert await statuses(world, [*children, *below]) == {DONE}


async def test_a_cascade_reaches_active_sessions_below_one_that_has_ended(world: World) -> None:
    parent = await world.create("p")
    middle = await world.create("m", parent_uid=parent.uid)
    below = await world.create("b", parent_uid=middle.uid)
    await world.end("m")
    answer = await world.end("p", FAILED, cascade=True)
    assert answer.outcome.descendants == 1
    assert (await world.stored(below)).status is FAILED
    assert (await world.stored(middle)).status is DONE


async def test_what_was_due_on_a_descendant_happens_before_the_cascade(world: World) -> None:
    parent = await world.create("p")
    overdue = await world.create("c", parent_uid=parent.uid, idle_timeout=SECOND)
    world.clock.step(1)
    await world.end("p", cascade=True)
    after = await world.stored(overdue)
    assert (after.status, after.end_cause) == (EXPIRED, EndCause.IDLE)


async def test_a_tree_of_501_ends_in_batches_children_first_parent_last(world: World) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 500)
    below = await grow(world, children[0], 101)
    answer = await world.end("p", cascade=True)
    assert answer.outcome.descendants == 601
    log = await world.log(3)
    sizes = [sum(c.revision == revision for c in log) for revision in {c.revision for c in log}]
    assert len(sizes) == 2
    assert max(sizes) <= 501
    order = [change.uid for change in log]
    assert order[-1] == parent.uid
    assert all(order.index(each.uid) < order.index(children[0].uid) for each in below)
    assert await statuses(world, [*children, *below]) == {DONE}


async def test_a_tree_of_501_is_deleted_in_batches_and_nothing_is_left(world: World) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 500)
    await grow(world, children[0], 101)
    answer = await world.delete("p", force=True)
    assert answer.outcome.sessions == 602
    assert await world.every_session() == []


@pytest.mark.usefixtures("small_units")
async def test_all_messages_of_a_large_tree_are_counted_and_gone(world: World) -> None:
    parent = await world.create("p")
    for child in await grow(world, parent, 12):
        await world.say(child, "m-1", "m-2", "m-3", "m-4", "m-5", "m-6", "m-7")
    await world.say("p", "m-1")
    answer = await world.delete("p", force=True)
    assert (answer.outcome.sessions, answer.outcome.messages) == (13, 85)
    assert answer.scrubbed == world.store.scrubs
    assert await world.every_session() == []


@pytest.mark.usefixtures("small_units")
async def test_what_an_earlier_batch_left_to_be_purged_is_told_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    for name, scrubbed in (("p", False), ("q", True)):
        parent = await world.create(name)
        *_, youngest = await grow(world, parent, 12)
        if not scrubbed:
            await world.say(youngest, *(f"m-{number}" for number in range(20)))
        answer = await world.delete(name, force=True)
        assert answer.scrubbed is (scrubbed and world.store.scrubs)
    while not await world.store.purge(100):
        pass


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("force_delete", [False, True])
async def test_no_tree_is_too_wide_or_too_deep_to_be_taken_down_whole(
    world: World, force_delete: bool
) -> None:
    parent = await world.create("p")
    wide = await grow(world, parent, 25)
    deep: list[Session] = []
    for child in wide:
        deep += await grow(world, child, 1)
    assert len(wide) + len(deep) == 50
    if force_delete:
        assert (await world.delete("p", force=True)).outcome.sessions == 51
        assert await world.every_session() == []
    else:
        assert (await world.end("p", cascade=True)).outcome.descendants == 50
        assert await statuses(world, [*wide, *deep]) == {DONE}


@pytest.mark.usefixtures("small_units")
async def test_ephemeral_children_behind_many_others_end_with_their_parent(world: World) -> None:
    parent = await world.create("p")
    plain = await grow(world, parent, 25)
    ephemeral = await grow(world, parent, 25, owner=NewOwner(lease=HOUR))
    assert (await world.end("p")).outcome.descendants == 25
    assert await statuses(world, plain) == {Status.ACTIVE}
    assert await statuses(world, ephemeral) == {DONE}


@pytest.mark.usefixtures("small_units")
async def test_children_of_a_turn_behind_many_others_end_with_it(world: World) -> None:
    parent = await world.create("p")
    token = await world.turn("p")
    await grow(world, parent, 25)
    owned = await grow(world, parent, 25, owner=NewOwner(turn_token=token))
    await world.end_turn(token)
    assert await statuses(world, owned) == {DONE}


async def test_the_end_of_a_turn_looks_for_children_only_where_some_may_be(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await world.create("p")
    asked: list[Status | None] = []
    every_child = tree._every_child

    async def told(tx: Any, above: Session, status: Status | None) -> Any:
        asked.append(status)
        return await every_child(tx, above, status)

    monkeypatch.setattr(tree, "_every_child", told)
    await world.end_turn(await world.turn("p"))
    assert asked == []
    token = await world.turn("p")
    owned = await grow(world, parent, 2, owner=NewOwner(turn_token=token))
    await world.renew(token)
    await world.end_turn(token)
    assert set(asked) == {Status.ACTIVE}
    assert await statuses(world, owned) == {DONE}


@pytest.mark.usefixtures("small_units")
async def test_a_refused_end_of_a_large_tree_ends_no_descendant(world: World) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 12)
    for condition, reason in (
        (Precondition(etag="old"), Reason.ETAG_MISMATCH),
        (Precondition(generation=7), Reason.GENERATION_CHANGED),
    ):
        with refused(reason):
            await world.end("p", cascade=True, condition=condition)
        with refused(reason):
            await world.delete("p", force=True, condition=condition)
    await world.end("p", FAILED)
    with refused(Reason.SESSION_ENDED):
        await world.end("p", DONE, cascade=True)
    assert await statuses(world, children) == {Status.ACTIVE}


@pytest.mark.usefixtures("small_units")
async def test_a_cascade_reaches_what_an_earlier_end_left_active(world: World) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 12)
    await world.end("p", FAILED)
    again = await world.end("p", FAILED, cascade=True)
    assert (again.outcome.changed, again.outcome.descendants) == (True, 12)
    assert await statuses(world, children) == {FAILED}
    assert not (await world.end("p", FAILED, cascade=True)).outcome.changed


@pytest.mark.usefixtures("small_units")
async def test_a_repeat_by_request_id_of_a_large_cascade_does_nothing_twice(world: World) -> None:
    parent = await world.create("p")
    await grow(world, parent, 12)
    first = await world.end("p", cascade=True, request_id="r-1")
    head = await world.head()
    again = await world.end("p", cascade=True, request_id="r-1")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
    gone = await world.delete("p", force=True, request_id="r-1")
    repeat = await world.delete("p", force=True, request_id="r-1")
    assert (repeat.outcome, repeat.revision) == (gone.outcome, gone.revision)
    assert gone.revision > head


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("force_delete", [False, True])
async def test_children_that_come_while_a_large_tree_is_taken_down_go_with_it(
    world: World, force_delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 12)
    late: list[Session] = []
    take = cascades._take

    async def with_late_children(*args: Any) -> Any:
        if len(late) < 30:
            for above in (parent,) if late else (children[-1], children[0], parent):
                late.extend(await grow(world, above, 2, owner=NewOwner(lease=HOUR)))
        return await take(*args)

    monkeypatch.setattr(cascades, "_take", with_late_children)
    if force_delete:
        await world.delete("p", force=True)
        assert await world.every_session() == []
    else:
        await world.end("p", cascade=True)
        assert await statuses(world, [*children, *late]) == {DONE}


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("force_delete", [False, True])
async def test_those_who_wait_for_a_session_of_a_large_tree_are_told_of_its_end(
    world: World, force_delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_line, "POLL", 100.0)
    parent = await world.create("p")
    *_, child = await grow(world, parent, 12)
    await world.turn(child)
    waiting = asyncio.create_task(world.begin(child, OnConflict.WAIT))
    await asyncio.sleep(0.05)
    if force_delete:
        await world.delete("p", force=True)
    else:
        await world.end("p", cascade=True)
    with refused(Reason.SESSION_NOT_FOUND if force_delete else Reason.SESSION_ENDED):
        await asyncio.wait_for(waiting, 60)


@pytest.mark.usefixtures("small_units")
async def test_children_that_come_at_the_last_moment_are_deleted_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await world.create("p")
    shrink = cascades.delete_all_but_a_unit

    async def with_late_children(*args: Any) -> Any:
        done = await shrink(*args)
        await grow(world, parent, 30)
        return done

    monkeypatch.setattr(cascades, "delete_all_but_a_unit", with_late_children)
    assert (await world.delete("p", force=True)).outcome.sessions == 31
    assert await world.every_session() == []


async def test_descendants_are_named_parents_before_children_and_no_more_than_asked(
    world: World,
) -> None:
    parent = await world.create("p")
    children = await grow(world, parent, 7)
    below = await grow(world, children[3], 7)

    async def named(limit: int) -> list[str]:
        async def query(tx: Any) -> list[str]:
            rows = await tree.descendants(
                tx, parent, ended_too=False, all_of_them=True, limit=limit
            )
            return [row.session.uid for row in rows]

        return await world.store.read(query)

    everyone = [session.uid for session in (*children, *below)]
    for limit in (1, 6, 7, 8, 13, 14, 15):
        assert await named(limit) == everyone[:limit]


# --- what ends by itself and is too much for one unit --------------------------------------------


async def ephemeral_tree(world: World, parent: Session, owner: NewOwner) -> list[Session]:
    """12 ephemeral children, two of which have 7 of their own."""
    children = await grow(world, parent, 12, owner=owner)
    below = [
        session
        for above in (children[0], children[11])
        for session in await grow(world, above, 7, owner=NewOwner(lease=HOUR))
    ]
    return [*children, *below]


async def check_ended_in_batches(
    world: World, parent: Session, tree_below: list[Session], after: int, status: Status
) -> None:
    """All of it ended as one status, children first, at most a few in one revision."""
    assert await statuses(world, tree_below) == {status}
    log = [
        change
        for change in await world.log(after)
        if change.cause in {ChangeCause.ENDED, ChangeCause.EXPIRED, ChangeCause.TURN_ENDED}
    ]
    order = [change.uid for change in log]
    assert order[-1] == parent.uid
    for session in tree_below:
        if session.parent_uid != parent.uid:
            assert order.index(session.uid) < order.index(session.parent_uid)
    assert max(Counter(change.revision for change in log).values()) <= 5 + 1
    assert order.count(parent.uid) == 1


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("outcome", [TurnOutcome.OK, TurnOutcome.ERROR])
async def test_a_turn_with_many_children_ends_them_in_batches(
    world: World, outcome: TurnOutcome
) -> None:
    parent = await world.create("p")
    token = await world.turn("p")
    below = await ephemeral_tree(world, parent, NewOwner(turn_token=token))
    others = await grow(world, parent, 3, owner=NewOwner(lease=HOUR))
    head = await world.head()
    await world.end_turn(token, outcome, request_id="r-1")
    status = DONE if outcome is TurnOutcome.OK else FAILED
    await check_ended_in_batches(world, parent, below, head, status)
    assert (await world.get(below[0])).end_cause is EndCause.OWNER_ENDED
    assert (await world.get(below[-1])).end_cause is EndCause.PARENT_ENDED
    assert await statuses(world, [parent, *others]) == {Status.ACTIVE}
    head = await world.head()
    await world.end_turn(token, outcome, request_id="r-1")
    assert await world.head() == head


@pytest.mark.usefixtures("small_units")
async def test_the_plain_end_of_a_session_counts_all_that_depended_on_it(world: World) -> None:
    parent = await world.create("p")
    below = await ephemeral_tree(world, parent, NewOwner(lease=HOUR))
    head = await world.head()
    answer = await world.end("p", FAILED, request_id="r-1")
    assert answer.outcome.descendants == 26
    await check_ended_in_batches(world, parent, below, head, FAILED)
    again = await world.end("p", FAILED, request_id="r-1")
    assert again.outcome.descendants == 26


@pytest.mark.usefixtures("small_units")
@pytest.mark.parametrize("way", ["get", "write", "job"])
async def test_an_expiry_ends_many_children_in_batches(world: World, way: str) -> None:
    parent = await world.create("p", idle_timeout=SECOND)
    below = await ephemeral_tree(world, parent, NewOwner(lease=HOUR))
    world.clock.step(1)
    head = await world.head()
    if way == "get":
        assert (await world.get("p")).status is EXPIRED
    elif way == "write":
        with refused(Reason.SESSION_ENDED):
            await world.say("p", "too late")
    else:
        assert await expiry.settle_batch(world.units, world.clock) == 1
    await check_ended_in_batches(world, parent, below, head, EXPIRED)


@pytest.mark.usefixtures("small_units")
async def test_children_of_a_turn_that_is_taken_over_meanwhile_fail_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = await world.create("p")
    token = await world.turn("p")
    below = await ephemeral_tree(world, parent, NewOwner(turn_token=token))
    end = ahead._end
    stolen: list[str] = []

    async def with_a_thief(*args: Any) -> Any:
        if not stolen:
            stolen.append("")
            stolen[0] = await world.turn("p", on_conflict=OnConflict.STEAL)
        return await end(*args)

    monkeypatch.setattr(ahead, "_end", with_a_thief)
    with refused(Reason.TURN_SUPERSEDED):
        await world.end_turn(token)
    assert await statuses(world, below) == {FAILED}
    assert (await world.get("p")).is_active
