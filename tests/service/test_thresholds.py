"""Thresholds on errors: what is logged, and what ends."""

from __future__ import annotations

from collections import Counter

import pytest

from sojourn_server.domain.clock import HOUR, MINUTE, SECOND
from sojourn_server.domain.commands import MetricsDelta, NewOwner, OnConflict, ResetScope
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause, EndCause, Status, TurnOutcome
from sojourn_server.domain.policy import Threshold, ThresholdAction
from tests.service.kit import APP, World, message, patches, refused

ERROR = TurnOutcome.ERROR
END = ThresholdAction.END
ONE_MORE = MetricsDelta(errors=1, requests=1)


async def watch(world: World, *thresholds: Threshold) -> None:
    await world.rule(thresholds=thresholds)


async def request(world: World, outcome: TurnOutcome = TurnOutcome.OK) -> None:
    await world.end_turn(await world.turn("s"), outcome)


async def warnings(world: World) -> int:
    return Counter(change.cause for change in await world.log())[ChangeCause.THRESHOLD]


async def test_a_warning_is_logged_once_when_the_threshold_is_crossed(world: World) -> None:
    await watch(world, Threshold(error_count_above=1))
    await world.create("s")
    await request(world, ERROR)
    assert await warnings(world) == 0
    await request(world, ERROR)
    changes = await world.log()
    assert [change.cause for change in changes[-2:]] == [
        ChangeCause.TURN_ENDED,
        ChangeCause.THRESHOLD,
    ]
    assert changes[-1].revision == changes[-2].revision
    assert changes[-1].before == changes[-1].after == await world.stored("s")
    await request(world, ERROR)
    await request(world)
    assert await warnings(world) == 1


async def test_a_rate_that_falls_and_rises_again_warns_again(world: World) -> None:
    await watch(world, Threshold(error_rate_above=0.5, min_requests=2))
    await world.create("s")
    await request(world, ERROR)
    assert await warnings(world) == 0  # of one request only
    await request(world, ERROR)
    assert await warnings(world) == 1
    await request(world)
    await request(world)
    assert await warnings(world) == 1  # 2 of 4 is not above a half
    await request(world, ERROR)
    assert await warnings(world) == 2


async def test_a_session_beyond_its_threshold_ends_as_failed(world: World) -> None:
    await watch(world, Threshold(error_count_above=1, action=END))
    await world.create("s")
    await request(world, ERROR)
    token = await world.turn("s")
    answer = await world.end_turn(token, ERROR, "it broke")
    session = answer.outcome.session
    assert (session.status, session.end_cause) == (Status.FAILED, EndCause.THRESHOLD)
    assert session.metrics.errors == 2
    with refused(Reason.SESSION_ENDED, cause="THRESHOLD"):
        await world.begin("s")
    causes = [change.cause for change in await world.log()][-2:]
    assert causes == [ChangeCause.TURN_ENDED, ChangeCause.ENDED]


async def test_one_threshold_warns_and_a_higher_one_ends(world: World) -> None:
    await watch(
        world,
        Threshold(error_rate_above=0.3, min_requests=3),
        Threshold(error_rate_above=0.5, min_requests=3, action=END),
    )
    await world.create("s")
    for outcome in (TurnOutcome.OK, TurnOutcome.OK, ERROR, ERROR):
        await request(world, outcome)
    assert await warnings(world) == 1
    assert (await world.stored("s")).is_active
    await request(world, ERROR)
    assert (await world.stored("s")).status is Status.FAILED


async def test_crossing_all_at_once_warns_once_and_ends(world: World) -> None:
    await watch(
        world,
        Threshold(error_count_above=0),
        Threshold(error_rate_above=0.1),
        Threshold(error_count_above=2, action=END),
    )
    await world.create("s")
    await world.update("s", metrics=MetricsDelta(errors=5, requests=5))
    causes = [change.cause for change in await world.log()][-3:]
    assert causes == [ChangeCause.UPDATED, ChangeCause.THRESHOLD, ChangeCause.ENDED]


@pytest.mark.parametrize("way", ["update", "append"])
async def test_counters_of_the_caller_s_own_are_looked_at_too(world: World, way: str) -> None:
    await watch(world, Threshold(error_count_above=1), Threshold(error_count_above=2, action=END))
    parent = await world.create("s")
    await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))

    async def one_more() -> None:
        if way == "update":
            await world.update("s", labels={"n": "1"}, metrics=ONE_MORE)
        else:
            state = patches(session={"a": "1"})
            await world.append("s", [message()], state=state, metrics=ONE_MORE)

    await one_more()
    await one_more()
    assert await warnings(world) == 1
    await one_more()
    assert await warnings(world) == 1
    session, child = await world.stored("s"), await world.stored("c")
    assert (session.status, session.end_cause) == (Status.FAILED, EndCause.THRESHOLD)
    assert (child.status, child.end_cause) == (Status.FAILED, EndCause.PARENT_ENDED)
    if way == "append":
        assert session.message_count == 3  # the unit is whole: nothing of it is lost


async def test_an_abandoned_turn_counts_and_may_end_the_session(world: World) -> None:
    await watch(world, Threshold(error_count_above=0, action=END))
    await world.create("s", idle_timeout=MINUTE)
    await world.turn("s", lease=10 * SECOND)
    world.clock.step(3_600)
    session = await world.get("s")
    assert (session.status, session.end_cause) == (Status.FAILED, EndCause.THRESHOLD)
    assert [change.cause for change in await world.log()][-2:] == [
        ChangeCause.TURN_ENDED,
        ChangeCause.ENDED,
    ]


async def test_an_abandoned_turn_may_warn_before_the_session_expires(world: World) -> None:
    await watch(world, Threshold(error_count_above=0))
    await world.create("s", idle_timeout=MINUTE)
    await world.turn("s", lease=10 * SECOND)
    world.clock.step(3_600)
    assert (await world.get("s")).end_cause is EndCause.IDLE
    assert [change.cause for change in await world.log()][-3:] == [
        ChangeCause.TURN_ENDED,
        ChangeCause.THRESHOLD,
        ChangeCause.EXPIRED,
    ]


async def test_a_lifetime_that_passes_under_a_turn_is_no_matter_of_thresholds(
    world: World,
) -> None:
    await watch(world, Threshold(error_count_above=0, action=END))
    await world.create("s", max_lifetime=MINUTE)
    await world.turn("s", lease=HOUR)
    world.clock.step(61)
    session = await world.get("s")
    assert (session.status, session.end_cause) == (Status.EXPIRED, EndCause.LIFETIME)


async def test_a_theft_that_is_one_error_too_many_ends_the_session(world: World) -> None:
    await watch(world, Threshold(error_count_above=0, action=END))
    await world.create("s")
    await world.turn("s")
    with refused(Reason.SESSION_ENDED, cause="THRESHOLD"):
        await world.begin("s", OnConflict.STEAL)
    session = await world.stored("s")
    assert (session.status, session.end_cause) == (Status.FAILED, EndCause.THRESHOLD)
    assert session.turn is None


async def test_a_theft_may_warn(world: World) -> None:
    await watch(world, Threshold(error_count_above=0))
    await world.create("s")
    await world.turn("s")
    await world.begin("s", OnConflict.STEAL)
    assert await warnings(world) == 1


async def test_a_threshold_counts_from_the_next_request_on(world: World) -> None:
    await world.create("s")
    await request(world, ERROR)
    await request(world, ERROR)
    await watch(world, Threshold(error_count_above=1, action=END))
    await world.update("s", labels={"a": "1"})
    assert (await world.stored("s")).is_active
    await request(world)
    assert (await world.stored("s")).end_cause is EndCause.THRESHOLD


async def test_a_reset_is_no_request_and_counts_anew(world: World) -> None:
    await watch(world, Threshold(error_count_above=0, action=END))
    await world.create("s")
    await world.turn("s")
    await world.reset("s", ResetScope.ALL)
    session = await world.stored("s")
    assert session.is_active
    assert session.metrics.errors == 0
    await request(world)
    assert (await world.stored("s")).is_active


async def test_a_rate_needs_a_request(world: World) -> None:
    await watch(world, Threshold(error_rate_above=0.0, min_requests=0))
    await world.create("s")
    await world.update("s", metrics=MetricsDelta(errors=1))
    assert await warnings(world) == 0
    await world.update("s", metrics=MetricsDelta(requests=1))
    assert await warnings(world) == 1
    assert world.apps == {APP}
