"""W20: what watchers are told once a user was erased."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn.v1.change_pb2 import Change, DeletedWhy, SessionChange
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.model import ChangeCause, Session
from tests.service.kit import APP, USER, message, patches
from tests.watch.kit import Scene

BOB = "bob"
LEFT = SessionChange.MEMBERSHIP_LEFT


async def erase(world: Scene, user: str = USER) -> int:
    answer = await world.services.erasing.erase(world.call("EraseUser"), APP, user)
    return answer.revision


async def two_users(world: Scene) -> dict[str, list[Session]]:
    made: dict[str, list[Session]] = {USER: [], BOB: []}
    for user, sessions in made.items():
        for number in range(2):
            labels = {"team": user}
            sessions.append(await world.create(f"{user}-{number}", user=user, labels=labels))
            await world.append(sessions[-1], [message("m-1", f"text of {user}")])
    return made


def gone(changes: list[Change]) -> dict[str, Change]:
    """Sessions of which a watch has heard that they were erased."""
    why = DeletedWhy.DELETED_WHY_ERASED
    return {c.session.session.uid: c for c in changes if c.session.deleted_why == why}


def sees_alike(mine: Any, yours: Any) -> bool:
    return [c.SerializeToString() for c in mine.record.changes] == [
        c.SerializeToString() for c in yours.record.changes
    ]


@pytest.mark.guarantee("W20")
async def test_each_session_is_told_to_be_gone_and_nobody_is_named(world: Scene) -> None:
    made = await two_users(world)
    revision, token = await world.point()
    everybody = await world.watch_now(previous=True)
    own = await world.watch_now(user=USER)
    others = await world.watch_now(user=BOB)
    head = await erase(world)
    for watcher in (everybody, own, others):
        await watcher.reach(head)
    told = gone(everybody.record.changes)
    assert told.keys() == {each.uid for each in made[USER]}
    for change in told.values():
        assert change.session.membership == LEFT
        assert change.session.previous_unavailable
        assert (change.session.session.key.user, change.session.session.key.session_id) == ("", "")
    assert gone(own.record.changes).keys() == told.keys()
    assert others.record.changes == []
    again = world.watch(token=token, start=revision, previous=True)
    await again.reach(head)
    assert sees_alike(everybody, again), "whoever resumes hears the same"


@pytest.mark.guarantee("W20")
async def test_who_resumes_from_before_hears_of_nothing_but_the_end(world: Scene) -> None:
    await world.create("first", user=BOB)
    revision, token = await world.point()
    made = await two_users(world)
    await world.delete(made[USER][1])
    head = await erase(world)
    watcher = world.watch(token=token, start=revision, previous=True, content=True)
    await watcher.reach(head)
    raw = b"".join(each.SerializeToString() for each in watcher.record.messages)
    assert USER.encode() + b"-" not in raw
    assert f"text of {USER}".encode() not in raw
    mine = {each.uid for each in made[USER]}
    about = [c for c in watcher.record.changes if c.session.session.uid in mine]
    assert {c.session.session.uid for c in about} == mine
    assert all(c.session.membership == LEFT for c in about)
    assert {c.session.session.uid for c in watcher.record.changes} >= {e.uid for e in made[BOB]}


@pytest.mark.guarantee("W20")
@pytest.mark.parametrize("how", [{"filter": SessionFilter(labels=())}, {}], ids=["all", "none"])
async def test_a_child_is_told_to_be_gone_to_who_watches_its_parent(
    world: Scene, how: dict[str, Any]
) -> None:
    parent = await world.create("parent", user=BOB)
    child = await world.create("child", parent_uid=parent.uid)
    await world.create("other")
    below = await world.watch_now(parent_uid=parent.uid, **how)
    head = await erase(world)
    await below.reach(head)
    assert gone(below.record.changes).keys() == {child.uid}


@pytest.mark.guarantee("W20")
async def test_the_end_of_an_erasure_is_told_to_those_who_ask_for_the_app(world: Scene) -> None:
    await two_users(world)
    await world.append(f"{USER}-0", [message("x")], state=patches(user={"k": "1"}))
    app = await world.watch_now(app_changes=True)
    own = await world.watch_now(user=USER, app_changes=True)
    others = await world.watch_now(user=BOB, app_changes=True)
    head = await erase(world)
    for watcher in (app, own, others):
        await watcher.reach(head)
    for watcher, times in ((app, 1), (own, 1), (others, 0)):
        ends = [c for c in watcher.record.changes if int(c.cause) == ChangeCause.USER_ERASED]
        assert len(ends) == times
        assert all(not c.app.HasField("user") for c in ends)


@pytest.mark.guarantee("W20")
async def test_what_was_read_before_is_not_served_afterwards(world: Scene) -> None:
    """Blocks of the log are kept in memory for those who resume."""
    revision, token = await world.point()
    await two_users(world)
    for number in range(300):
        await world.create(f"later-{number}", user=BOB)
    reader = world.watch(token=token, start=revision)
    await reader.reach(await world.head())
    head = await erase(world)
    await reader.reach(head)
    again = world.watch(token=token, start=revision)
    await again.reach(head)
    raw = b"".join(each.SerializeToString() for each in again.record.messages)
    assert f"{USER}-0".encode() not in raw
