"""The counters of a session together with those of all below it."""

from __future__ import annotations

import pytest

from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import MetricsDelta, NewOwner, NewSession, SessionRef, View
from sojourn_server.domain.limits import COUNTER_MOST
from sojourn_server.domain.model import Metrics, Session
from sojourn_server.service import rolling_up
from sojourn_server.service.answers import RolledUp
from tests.service.kit import APP, World


async def rolled_up(world: World, session: Session, users: Users = EVERY_USER) -> RolledUp:
    ref = SessionRef(app=session.app, uid=session.uid, users=users)
    read = await world.sessions.get(world.call("GetSession"), ref, View.BASIC, 0, roll_up=True)
    assert read.rolled_up is not None
    return read.rolled_up


async def count(world: World, session: Session, **counters: int) -> None:
    await world.update(session, metrics=MetricsDelta(requests=1, counters=counters))


async def test_all_below_a_session_is_summed_up_ended_or_not_and_nothing_beside_it(
    world: World,
) -> None:
    root = await world.create("root")
    child = await world.create("child", parent_uid=root.uid)
    below = await world.create("below", parent_uid=child.uid, owner=NewOwner(lease=HOUR))
    beside = await world.create("beside")
    for session in (root, child, below, beside):
        await count(world, session, tokens=5)
        await world.say(session, "m")
    token = await world.turn(child)
    world.clock.step(2)
    await world.end_turn(token)
    await world.end(child)
    assert await rolled_up(world, root) == RolledUp(
        metrics=Metrics(requests=4, errors=0, processing_time=2 * SECOND, counters={"tokens": 15}),
        sessions=3,
        active=1,
        messages=3,
        complete=True,
    )
    assert (await rolled_up(world, below)).sessions == 1


async def test_the_sums_of_500_children(world: World) -> None:
    root = await world.create("root")
    children = [NewSession(user=root.user, parent_uid=root.uid)] * 500
    call = world.call("BatchCreateSessions")
    made = await world.sessions.create_many(call, APP, children)
    await count(world, made.outcome.sessions[499], tokens=1)
    sums = await rolled_up(world, root)
    assert (sums.sessions, sums.active, sums.complete) == (501, 501, True)
    assert sums.metrics.counters == {"tokens": 1}


async def test_beyond_the_limit_the_nearest_are_summed_up_and_the_answer_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_up, "ROLL_UP_MOST", 3)
    root = await world.create("root")
    near = [await world.create(f"c-{n}", parent_uid=root.uid) for n in range(2)]
    far = await world.create("far", parent_uid=near[0].uid)
    for session in (*near, far):
        await count(world, session, tokens=1)
    assert (await rolled_up(world, root)).complete
    further = await world.create("further", parent_uid=far.uid)
    await count(world, further, tokens=100)
    sums = await rolled_up(world, root)
    assert (sums.sessions, sums.metrics.counters, sums.complete) == (4, {"tokens": 3}, False)


async def test_counters_of_many_names_and_sums_of_many_bits_are_cut(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rolling_up, "ROLL_UP_COUNTERS", 2)
    root = await world.create("root")
    child = await world.create("child", parent_uid=root.uid)
    for session in (root, child):
        await count(world, session, high=COUNTER_MOST, low=-COUNTER_MOST)
    sums = await rolled_up(world, root)
    assert sums.metrics.counters == {"high": COUNTER_MOST, "low": -COUNTER_MOST}
    assert sums.complete
    await count(world, child, zeal=1)
    sums = await rolled_up(world, root)
    assert list(sums.metrics.counters) == ["high", "low"]
    assert not sums.complete


async def test_sessions_of_hidden_users_count_as_if_they_were_not_there(world: World) -> None:
    root = await world.create("root", user="ann")
    bob = await world.create("bob's", user="bob", parent_uid=root.uid)
    await world.create("ann's", user="ann", parent_uid=bob.uid)
    await count(world, bob, secret=1)
    everyone = await rolled_up(world, root)
    assert (everyone.sessions, everyone.metrics.counters) == (3, {"secret": 1})
    own = await rolled_up(world, root, users=Users(["ann"]))
    # Her session below Bob's has no parent that she knows of.
    assert (own.sessions, own.metrics.counters, own.complete) == (1, {}, True)


async def test_nothing_is_summed_up_unasked(world: World) -> None:
    await world.create("root")
    assert (await world.read("root")).rolled_up is None
