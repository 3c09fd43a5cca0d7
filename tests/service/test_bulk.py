"""EndSessions and DeleteSessions: which sessions, what becomes of them, and what is told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import NewOwner
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.filter import LabelOperator, LabelSelector, SessionFilter
from sojourn_server.domain.model import ChangeCause, DeletedWhy, EndCause, Session, Status
from sojourn_server.service import operations
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.bulk import BulkOutcome, Which
from tests.service.kit import APP, World, message, refused

TEAM = SessionFilter(labels=(LabelSelector("team", LabelOperator.IN, ("red",)),))


def which(**fields: Any) -> Which:
    return Which(**fields)


def the_call(world: World, method: str, users: Users | None = None, request_id: str = "") -> Call:
    call = world.call(method, request_id)
    return (
        call if users is None else Call(actor="tester", principal="p", method=method, users=users)
    )


async def end(
    world: World, status: Status = Status.COMPLETED, reason: str = "", **fields: Any
) -> Answer[BulkOutcome]:
    users, request_id = fields.pop("users", None), fields.pop("request_id", "")
    call = the_call(world, "EndSessions", users, request_id)
    return await world.services.bulk.end(call, APP, Which(**fields), status, reason)


async def delete(world: World, **fields: Any) -> Answer[BulkOutcome]:
    users, request_id = fields.pop("users", None), fields.pop("request_id", "")
    call = the_call(world, "DeleteSessions", users, request_id)
    return await world.services.bulk.delete(call, APP, Which(**fields))


async def make(world: World, *ids: str, **fields: Any) -> list[Session]:
    return [await world.create(each, **fields) for each in ids]


async def ids(world: World, *, active: bool = False) -> list[str]:
    every = await world.every_session()
    return [each.session_id for each in every if each.is_active or not active]


def named(answer: Answer[BulkOutcome]) -> list[str]:
    return [session_id for _, session_id in answer.outcome.keys]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same must come of it, however often it is interrupted."""
    for module in ("operations", "taking", "bulk"):
        monkeypatch.setattr(f"sojourn_server.service.{module}.STEP_ROWS", 3)


async def test_nothing_is_meant_unless_it_is_said(world: World) -> None:
    await make(world, "a")
    for do in (end, delete):
        with refused(Reason.INVALID_FIELD, field="filter"):
            await do(world)
        with refused(Reason.INVALID_FIELD, field="filter"):
            await do(world, keep_newest=1)
    assert await ids(world, active=True) == ["a"]


async def test_sessions_of_an_app_that_is_not_there(world: World) -> None:
    answer = await end(world, all=True)
    assert (answer.outcome.count, answer.revision) == (0, 0)
    assert (await delete(world, all=True)).outcome.count == 0
    assert await world.store.apps("", 10) == []


async def test_all_that_match_end(world: World, steps: None) -> None:
    await make(world, "a", "b", "c", "d", labels={"team": "red"})
    await make(world, "e", labels={"team": "blue"})
    await make(world, "f", user="bob", labels={"team": "red"})
    await world.end("b", Status.FAILED)
    await world.turn("c")
    answer = await end(world, Status.FAILED, "the team is closed", filter=TEAM)
    assert answer.outcome.count == 4
    assert named(answer) == ["f", "d", "c", "a"]
    assert answer.revision == await world.head()
    assert await ids(world, active=True) == ["e"]
    for each in ("a", "c", "d"):
        read = await world.read(each)
        session, content = read.snapshot.session, read.snapshot.content
        assert (session.status, session.end_cause) == (Status.FAILED, EndCause.REQUEST)
        assert content is not None
        assert content.end_note.reason == "the team is closed"
    assert (await world.read("b")).snapshot.content.end_note.reason == ""  # type: ignore[union-attr]
    assert (await world.get("c")).metrics.errors == 1, "its turn is revoked"
    log = await world.log()
    assert [each.actor for each in log if each.cause is ChangeCause.ENDED] == ["tester"] * 5


async def test_the_sessions_of_one_user_end(world: World, steps: None) -> None:
    await make(world, "a", "b")
    await make(world, "c", user="bob")
    await make(world, "d", user="")
    assert (await end(world, user="ann")).outcome.count == 2
    assert (await end(world, user="")).outcome.count == 1
    assert await ids(world, active=True) == ["c"]
    assert (await end(world, all=True)).outcome.count == 1


async def test_the_newest_are_kept(world: World, steps: None) -> None:
    await make(world, *"abcdefgh", labels={"team": "red"})
    await world.end("g")
    answer = await end(world, filter=TEAM, keep_newest=3)
    assert answer.outcome.count == 4
    assert await ids(world, active=True) == ["e", "f", "h"]
    assert (await end(world, filter=TEAM, keep_newest=3)).outcome.count == 0
    assert (await delete(world, filter=TEAM, keep_newest=5)).outcome.count == 3
    assert await ids(world) == [*"defgh"]


async def test_a_dry_run_changes_nothing_and_counts_the_same(world: World, steps: None) -> None:
    for number in range(7):
        parent = await world.create(f"p-{number}", labels={"team": "red"})
        child = await world.create(f"c-{number}", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
        if number % 2:
            await world.create(f"g-{number}", parent_uid=child.uid, labels={"team": "red"})
        await world.create(f"s-{number}", parent_uid=parent.uid)
    await make(world, *"abc")
    head = await world.head()
    for do, expected in ((end, 6 * 2 + 3), (delete, 6 * 3 + 3)):
        rehearsed = await do(world, filter=TEAM, keep_newest=1, dry_run=True, request_id="x")
        assert rehearsed.revision == head == await world.head()
        done = await do(world, filter=TEAM, keep_newest=1)
        assert rehearsed.outcome.count == done.outcome.count == expected
        assert sorted(rehearsed.outcome.keys) == sorted(done.outcome.keys)
        head = await world.head()


async def test_no_more_than_100_keys_are_named(world: World) -> None:
    await make(world, *(f"s-{number:03}" for number in range(120)))
    answer = await end(world, all=True)
    assert answer.outcome.count == 120
    assert named(answer) == [f"s-{number:03}" for number in range(119, 19, -1)]
    assert named(await delete(world, all=True)) == named(answer)


async def test_ephemeral_children_end_with_their_parents(world: World, steps: None) -> None:
    parent = await world.create("p", labels={"team": "red"})
    for number in range(8):
        child = await world.create(f"c-{number}", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
        await world.create(f"g-{number}", parent_uid=child.uid, owner=NewOwner(lease=HOUR))
    await world.create("stays", parent_uid=parent.uid)
    assert (await end(world, filter=TEAM)).outcome.count == 17
    assert await ids(world, active=True) == ["stays"]
    assert (await world.get("c-1")).end_cause is EndCause.PARENT_ENDED
    ended = [each.after.session_id for each in await world.log() if each.cause is ChangeCause.ENDED]  # type: ignore[union-attr]
    assert ended[-1] == "p"
    assert all(ended.index(f"g-{number}") < ended.index(f"c-{number}") for number in range(8))


async def test_all_that_match_are_deleted(world: World, steps: None) -> None:
    await make(world, "a", "b", "c", labels={"team": "red"})
    await make(world, "d")
    await world.say("a", "m-1", "m-2")
    await world.append("b", [message("m-1")], request_id="r")
    await world.pop("b", request_id="popped")
    await world.end("c", reason="over")
    answer = await delete(world, filter=TEAM)
    assert answer.outcome.count == 3
    assert answer.scrubbed is world.store.scrubs
    assert await ids(world) == ["d"]
    log = await world.log()
    gone = [each for each in log if each.cause is ChangeCause.DELETED]
    assert {each.detail.deleted_why for each in gone} == {DeletedWhy.REQUEST}
    assert [each.before.session_id for each in gone if each.before] == ["c", "b", "a"]
    assert all(each.before.status is not Status.ACTIVE for each in gone if each.before)


async def test_descendants_go_with_a_parent(world: World, steps: None) -> None:
    parent = await world.create("p", labels={"team": "red"})
    for number in range(5):
        child = await world.create(f"c-{number}", parent_uid=parent.uid)
        for below in range(3):
            await world.create(f"g-{number}-{below}", parent_uid=child.uid)
    await world.end("c-2")
    answer = await delete(world, filter=TEAM)
    assert answer.outcome.count == 21
    assert await ids(world) == []


async def test_a_deep_tree_goes_too(world: World) -> None:
    session = await world.create("s-0", labels={"team": "red"})
    for number in range(1, 70):
        session = await world.create(f"s-{number}", parent_uid=session.uid)
    assert (await delete(world, filter=TEAM)).outcome.count == 70
    assert await ids(world) == []


async def test_what_the_caller_may_not_touch_stays_and_so_does_what_is_above(
    world: World, steps: None
) -> None:
    mine = await world.create("mine", user="ann")
    theirs = await world.create("theirs", user="bob", parent_uid=mine.uid)
    await world.create("mine too", user="ann", parent_uid=theirs.uid)
    await world.create("alone", user="ann")
    few = Users(["ann"])
    for dry in (True, False):
        answer = await delete(world, user="ann", users=few, dry_run=dry)
        assert named(answer) == ["alone", "mine too"]
    assert await ids(world) == ["mine", "theirs"]
    assert (await delete(world, user="ann")).outcome.count == 2


async def test_what_is_kept_keeps_what_is_above(world: World, steps: None) -> None:
    parent = await world.create("p", labels={"team": "red"})
    await world.create("c", parent_uid=parent.uid, labels={"team": "red"})
    await make(world, "x", "y", labels={"team": "red"})
    answer = await delete(world, filter=TEAM, keep_newest=3)
    assert answer.outcome.count == 0
    assert (await delete(world, filter=TEAM, keep_newest=2)).outcome.count == 2
    assert await ids(world) == ["x", "y"]


async def test_what_comes_later_is_not_meant(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Created or matching only after the operation began: see `Which`."""
    for module in ("operations", "taking", "bulk"):
        monkeypatch.setattr(f"sojourn_server.service.{module}.STEP_ROWS", 1)
    monkeypatch.setattr(operations, "PAUSE", 0.01)
    await make(world, *(f"s-{number}" for number in range(20)))
    task = asyncio.create_task(end(world, all=True))
    created = []
    for _ in range(1_000):
        if task.done():
            break
        created.append((await world.create()).session_id)
        await asyncio.sleep(0.005)
    else:
        task.cancel()
        raise AssertionError("it has no end: it goes on with what is new")
    answer = await task
    # The first may have come before it began.
    assert answer.outcome.count in (20, 21)
    assert len(created) > 3
    assert set(created[1:]) <= set(await ids(world, active=True))


async def test_time_stands_still_for_a_filter(world: World) -> None:
    await make(world, "old")
    world.clock.step(100)
    await make(world, "new")
    old = SessionFilter(older_than=50 * SECOND)
    assert named(await end(world, filter=old)) == ["old"]


async def test_what_is_overdue_expires_and_is_not_ended(world: World, steps: None) -> None:
    await make(world, *"abcde", idle_timeout=10 * SECOND)
    await make(world, *"fgh")
    world.clock.step(20)
    answer = await end(world, all=True)
    assert sorted(named(answer)) == ["f", "g", "h"]
    assert (await world.get("a")).status is Status.EXPIRED
    assert (
        await delete(world, filter=SessionFilter(statuses=(Status.EXPIRED,)))
    ).outcome.count == 5


async def test_a_repeat_answers_the_same(world: World) -> None:
    await make(world, *"abc")
    first = await end(world, all=True, request_id="r")
    await make(world, "d")
    again = await end(world, all=True, request_id="r")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
    assert await ids(world, active=True) == ["d"]
