"""What a policy says of one session: defaults, requests, messages, bytes, turns, creation."""

from __future__ import annotations

from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, MINUTE, SECOND
from sojourn_server.domain.commands import MetricsDelta, OnConflict, Precondition, ResetScope
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import ChangeCause
from sojourn_server.domain.policy import OverflowAction
from sojourn_server.service import ceilings
from tests.service.kit import APP, World, message, patches, refused

DROP: dict[str, Any] = {"overflow_action": OverflowAction.DROP_OLDEST}


async def test_defaults_are_taken_when_a_session_is_created(world: World) -> None:
    old = await world.create("old")
    await world.rule(default_idle_timeout=MINUTE, default_max_lifetime=2 * MINUTE)
    new = await world.create("new")
    own = await world.create("own", idle_timeout=0, max_lifetime=HOUR)
    assert (old.idle_timeout, old.max_lifetime) == (HOUR, 0)
    assert (new.idle_timeout, new.max_lifetime) == (MINUTE, 2 * MINUTE)
    assert (own.idle_timeout, own.max_lifetime) == (0, HOUR)
    await world.rule(default_idle_timeout=0)
    assert (await world.create("none")).idle_timeout == 0
    assert await world.stored("new") == new


async def test_create_if_missing_takes_the_defaults_and_may_be_refused(world: World) -> None:
    await world.rule(default_idle_timeout=MINUTE)
    await world.append("a", [message()], create=True)
    assert (await world.stored("a")).idle_timeout == MINUTE
    await world.rule(auto_create=False)
    for attempt in (world.append("b", [message()], create=True), world.begin("b", create=True)):
        with refused(Reason.AUTO_CREATE_REFUSED, app=APP):
            await attempt
    await world.append("a", [message()], create=True)
    await world.create("b")
    await world.rule(auto_create=True)
    await world.append("c", [message()], create=True)


async def test_the_request_beyond_the_limit_is_refused(world: World) -> None:
    await world.rule(max_requests_per_session=2)
    await world.create("s")
    for _ in range(2):
        await world.end_turn(await world.turn("s"))
    with refused(Reason.QUOTA_EXCEEDED, quota="max_requests_per_session", limit="2"):
        await world.begin("s")
    with refused(Reason.QUOTA_EXCEEDED):
        await world.update("s", metrics=MetricsDelta(requests=1))
    with refused(Reason.QUOTA_EXCEEDED):
        await world.append("s", [message()], metrics=MetricsDelta(requests=1))
    # What is no request goes on.
    await world.append("s", [message()], metrics=MetricsDelta(errors=1))
    await world.reset("s", ResetScope.METRICS)
    await world.begin("s")


async def test_a_live_turn_is_a_request_already(world: World) -> None:
    await world.rule(max_requests_per_session=2)
    await world.create("s")
    token = await world.turn("s")
    await world.update("s", metrics=MetricsDelta(requests=1))
    with refused(Reason.QUOTA_EXCEEDED):
        await world.update("s", metrics=MetricsDelta(requests=1))
    with refused(Reason.QUOTA_EXCEEDED):
        await world.begin("s", OnConflict.STEAL)
    assert (await world.end_turn(token)).outcome.session.metrics.requests == 2


async def test_a_full_history_refuses_more(world: World) -> None:
    await world.rule(max_messages_per_session=3)
    await world.create("s")
    await world.say("s", "a", "b")
    with refused(Reason.QUOTA_EXCEEDED, quota="max_messages_per_session", limit="3"):
        await world.say("s", "c", "d")
    await world.say("s", "c")
    await world.say("s", "a", "b", "c")  # known, and so nothing more
    await world.pop("s")
    assert await world.say("s", "d") == (4,)


async def test_bytes_are_limited_like_messages(world: World) -> None:
    await world.rule(max_bytes_per_session=10)
    await world.create("s")
    await world.append("s", [message(content="1234567")])
    with refused(Reason.QUOTA_EXCEEDED, quota="max_bytes_per_session", limit="10"):
        await world.append("s", [message(content="1234")])
    await world.append("s", [message(content="123")])


async def test_a_full_history_drops_its_oldest_in_the_same_unit(world: World) -> None:
    await world.rule(max_messages_per_session=3, **DROP)
    await world.create("s")
    await world.say("s", "a", "b", "c")
    head = await world.head()
    assert await world.say("s", "d", "e") == (4, 5)
    changes = await world.log(head)
    assert {change.revision for change in changes} == {head + 1}
    found = [
        (change.cause, change.detail.first_sequence, change.detail.last_sequence)
        for change in changes
    ]
    assert found == [
        (ChangeCause.MESSAGES_REMOVED, 1, 2),
        (ChangeCause.MESSAGES_APPENDED, 4, 5),
    ]
    assert [c.after.message_count for c in changes if c.after] == [1, 3]
    assert await world.sequences("s") == [3, 4, 5]
    page = await world.messages("s")
    assert [each.body.content for each in page.messages] == ["text of c", "text of d", "text of e"]


async def test_as_many_go_as_the_bytes_of_the_new_ones_need(world: World) -> None:
    await world.rule(max_bytes_per_session=10, max_messages_per_session=100, **DROP)
    await world.create("s")
    for text in ("1", "22", "333", "4444"):
        await world.append("s", [message(content=text)])
    await world.append("s", [message(content="55")])
    assert await world.sequences("s") == [3, 4, 5]
    await world.append("s", [message(content="0123456789")])
    session = await world.stored("s")
    assert (session.message_count, session.message_bytes) == (1, 10)
    assert await world.sequences("s") == [6]


async def test_what_fits_into_no_session_is_refused_and_drops_nothing(world: World) -> None:
    await world.rule(max_messages_per_session=2, max_bytes_per_session=20, **DROP)
    await world.create("s")
    await world.append("s", [message("a", "1"), message("b", "2")])
    with refused(Reason.QUOTA_EXCEEDED, quota="max_messages_per_session"):
        await world.say("s", "c", "d", "e")
    with refused(Reason.QUOTA_EXCEEDED, quota="max_bytes_per_session"):
        await world.append("s", [message(content="x" * 21)])
    assert await world.sequences("s") == [1, 2]


async def test_a_message_that_is_dropped_is_known_no_more(world: World) -> None:
    await world.rule(max_messages_per_session=2, **DROP)
    await world.create("s")
    await world.say("s", "a", "b")
    assert await world.say("s", "a", "c") == (1, 3)  # known when it was asked for
    assert await world.sequences("s") == [2, 3]
    assert await world.say("s", "a") == (4,)


async def test_a_lowered_limit_is_met_at_the_next_append(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("s")
    await world.fill("s", 30)
    monkeypatch.setattr(ceilings, "UNIT_ROWS", 10)
    monkeypatch.setattr(ceilings, "PAGE", 7)
    await world.rule(max_messages_per_session=5, **DROP)
    assert (await world.stored("s")).message_count == 30
    await world.say("s", "new")
    assert await world.sequences("s") == [27, 28, 29, 30, 31]
    assert (await world.stored("s")).message_count == 5


async def test_a_limit_of_zero_messages_refuses_every_message(world: World) -> None:
    await world.rule(max_messages_per_session=0, **DROP)
    await world.create("s")
    with refused(Reason.QUOTA_EXCEEDED):
        await world.say("s", "a")
    await world.append("s", state=patches(session={"a": "1"}))


async def test_history_and_state_are_written_with_a_turn_where_the_policy_says_so(
    world: World,
) -> None:
    await world.create("s")
    await world.say("s", "a", "b")
    await world.rule(require_turn=True)
    writes: dict[str, Any] = {
        "append": lambda how: world.append("s", [message()], condition=how),
        "append state": lambda how: world.append(
            "s", state=patches(session={"a": "1"}), condition=how
        ),
        "update state": lambda how: world.update(
            "s", state=patches(session={"a": "2"}), condition=how
        ),
        "pop": lambda how: world.pop("s", condition=how),
        "truncate": lambda how: world.truncate("s", 1, condition=how),
    }
    for name, write in writes.items():
        with refused(Reason.TURN_REQUIRED, app=APP):
            await write(Precondition())
        assert name
    with refused(Reason.TURN_REQUIRED):
        await world.append("new", [message()], create=True)
    # Everything else needs none.
    await world.update("s", labels={"a": "1"}, metrics=MetricsDelta(requests=1))
    await world.append("s", metrics=MetricsDelta(errors=1), state=patches(user={"a": "1"}))
    await world.create("with-state", state=patches(session={"a": "1"}))
    how = Precondition(turn_token=await world.turn("s"))
    for write in writes.values():
        await write(how)
    await world.reset("s")


async def test_a_missing_turn_is_told_after_the_generation_and_before_the_etag(
    world: World,
) -> None:
    await world.create("s")
    await world.rule(require_turn=True)
    with refused(Reason.GENERATION_CHANGED):
        await world.append("s", [message()], condition=Precondition(generation=9))
    with refused(Reason.TURN_REQUIRED):
        await world.append("s", [message()], condition=Precondition(etag="old"))
    await world.end("s")
    with refused(Reason.SESSION_ENDED):
        await world.append("s", [message()])


async def test_expire_time_and_cause_stay_true_under_a_policy(world: World) -> None:
    await world.rule(default_idle_timeout=10 * SECOND, default_max_lifetime=15 * SECOND)
    await world.create("s")
    world.clock.step(9)
    await world.touch("s")
    world.clock.step(6)
    session = await world.get("s")
    assert session.end_cause is not None
    assert session.end_cause.name == "LIFETIME"
