"""Limits of active sessions: who gets a place, and who makes room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import IfExists, NewOwner, NewSession
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import ChangeCause, EndCause, Session, Status, TurnOutcome
from sojourn_server.domain.policy import QuotaAction
from sojourn_server.service import quotas
from tests.service.kit import APP, World, message, refused

END: dict[str, Any] = {"session_quota_action": QuotaAction.END_OLDEST_IDLE}


async def active(world: World) -> list[str]:
    return [each.session_id for each in await world.every_session() if each.is_active]


async def fill(world: World, count: int, **fields: Any) -> None:
    """Sessions `s-0`, `s-1`, …, the first idle longest."""
    for number in range(count):
        await world.create(f"s-{number}", **fields)
        world.clock.step(1)


async def create_many(world: World, *names: str, **fields: Any) -> Sequence[Session]:
    world.apps.add(APP)
    new = [NewSession(user="ann", session_id=name, **fields) for name in names]
    answer = await world.sessions.create_many(world.call("BatchCreateSessions"), APP, new)
    return answer.outcome.sessions


async def test_a_full_app_refuses_and_says_what_and_until_when(world: World) -> None:
    await world.rule(max_active_sessions=2)
    await fill(world, 2, idle_timeout=10 * SECOND)
    head = await world.head()
    with pytest.raises(Refusal) as caught:
        await world.create("s-2", user="bob")
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    assert caught.value.metadata == {"quota": "max_active_sessions", "limit": "2"}
    assert caught.value.retry_after == 8 * SECOND
    assert await world.head() == head
    world.clock.step(8)
    await world.create("s-2", user="bob")


async def test_nobody_knows_when_sessions_without_a_deadline_make_room(world: World) -> None:
    await world.rule(max_active_sessions=1)
    await world.create("s-0", idle_timeout=0)
    with pytest.raises(Refusal) as caught:
        await world.create("s-1")
    assert caught.value.retry_after is None


async def test_a_limit_of_a_user_is_of_that_user_alone(world: World) -> None:
    await world.rule(max_active_sessions_per_user=1)
    await world.create("s-0", user="ann")
    with refused(Reason.QUOTA_EXCEEDED, quota="max_active_sessions_per_user", limit="1"):
        await world.create("s-1", user="ann")
    await world.create("s-1", user="bob")
    await world.create("s-1", user="")
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("s-2", user="")


@pytest.mark.parametrize("action", list(QuotaAction))
async def test_a_limit_of_zero_refuses_every_session(world: World, action: QuotaAction) -> None:
    await world.rule(max_active_sessions=0, session_quota_action=action)
    with pytest.raises(Refusal) as caught:
        await world.create("s-0")
    assert caught.value.metadata == {"quota": "max_active_sessions", "limit": "0"}
    assert caught.value.retry_after is None


async def test_ended_sessions_hold_no_place(world: World) -> None:
    await world.rule(max_active_sessions=1)
    await world.create("s-0")
    await world.end("s-0")
    await world.create("s-1")
    await world.delete("s-1")
    await world.create("s-2")
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("s-3")


async def test_sessions_past_their_deadline_end_before_anybody_is_refused(world: World) -> None:
    await world.rule(max_active_sessions=2)
    await fill(world, 2, idle_timeout=10 * SECOND)
    world.clock.step(60)
    await world.create("s-2")
    assert await active(world) == ["s-2"]
    causes = [change.cause for change in await world.log()][-3:]
    assert causes == [ChangeCause.EXPIRED, ChangeCause.EXPIRED, ChangeCause.CREATED]


async def test_children_count_too(world: World) -> None:
    await world.rule(max_active_sessions=2)
    parent = await world.create("p")
    await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("d", parent_uid=parent.uid)


async def test_what_comes_into_being_on_the_way_counts_too(world: World) -> None:
    await world.rule(max_active_sessions=1)
    await world.append("s-0", [message()], create=True)
    with refused(Reason.QUOTA_EXCEEDED):
        await world.append("s-1", [message()], create=True)
    with refused(Reason.QUOTA_EXCEEDED):
        await world.begin("s-1", create=True)
    await world.append("s-0", [message()], create=True)
    assert await active(world) == ["s-0"]


async def test_a_session_that_is_there_already_needs_no_place(world: World) -> None:
    await world.rule(max_active_sessions=1)
    await world.create("s-0")
    again = await world.make("s-0", if_exists=IfExists.RETURN_EXISTING)
    assert not again.outcome.created
    with refused(Reason.SESSION_EXISTS):
        await world.create("s-0")


async def test_a_full_app_ends_the_one_that_is_idle_longest(world: World) -> None:
    await world.rule(max_active_sessions=3, **END)
    await fill(world, 3)
    await world.touch("s-0")
    await world.create("s-3")
    assert await active(world) == ["s-0", "s-2", "s-3"]
    gone = await world.stored("s-1")
    assert (gone.status, gone.end_cause) == (Status.EXPIRED, EndCause.QUOTA)
    head = await world.head()
    changes = [change for change in await world.log() if change.revision == head]
    assert [change.cause for change in changes] == [ChangeCause.ENDED, ChangeCause.CREATED]


async def test_a_full_user_ends_a_session_of_that_user(world: World) -> None:
    await world.rule(max_active_sessions=3, max_active_sessions_per_user=2, **END)
    await world.create("b-0", user="bob")
    world.clock.step(1)
    await fill(world, 2)
    await world.create("s-2")  # ann's own make room, and that is room in the app
    assert await active(world) == ["b-0", "s-1", "s-2"]
    await world.create("c-0", user="carl")
    assert await active(world) == ["s-1", "s-2", "c-0"]


async def test_what_is_in_use_makes_no_room(world: World) -> None:
    await world.rule(max_active_sessions=3, **END)
    await fill(world, 3)
    await world.turn("s-0", lease=HOUR // 2)
    world.clock.step(60)
    await world.create("s-3")
    assert await active(world) == ["s-0", "s-2", "s-3"]
    await world.rule(max_active_sessions=1, **END)
    await world.end("s-2")
    await world.end("s-3")
    with refused(Reason.QUOTA_EXCEEDED, quota="max_active_sessions"):
        await world.create("s-4")
    assert await active(world) == ["s-0"]


async def test_an_abandoned_turn_holds_nothing(world: World) -> None:
    await world.rule(max_active_sessions=1, **END)
    await world.create("s-0", idle_timeout=0)
    await world.turn("s-0", lease=10 * SECOND)
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("s-1")
    world.clock.step(11)
    await world.create("s-1")
    assert await active(world) == ["s-1"]
    outcomes = [change.detail.turn_outcome for change in await world.log()]
    assert TurnOutcome.ABANDONED in outcomes


async def test_ephemeral_children_end_with_the_one_that_makes_room(world: World) -> None:
    await world.rule(max_active_sessions=3, **END)
    parent = await world.create("p")
    await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    world.clock.step(1)
    await world.create("s-0")
    await world.create("s-1")
    # The parent was idle longest, and its child with it.
    assert await active(world) == ["s-0", "s-1"]
    child = await world.stored("c")
    assert (child.status, child.end_cause) == (Status.EXPIRED, EndCause.PARENT_ENDED)


async def test_who_has_very_many_ephemeral_children_is_in_use(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quotas, "UNIT_ROWS", 3)
    await world.rule(max_active_sessions=4, **END)
    parent = await world.create("p")
    await create_many(world, "a", "b", "c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    world.clock.step(1)
    await world.create("new")
    assert "p" in await active(world)


async def test_a_parent_is_in_use_while_a_child_of_its_own_has_a_turn(world: World) -> None:
    await world.rule(max_active_sessions=3, **END)
    parent = await world.create("p")
    await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    await world.turn("c", lease=HOUR // 2)
    world.clock.step(1)
    await world.create("s-0")
    await world.create("s-1")
    assert await active(world) == ["p", "c", "s-1"]


async def test_no_session_makes_room_for_its_own_child(world: World) -> None:
    await world.rule(max_active_sessions=2, **END)
    grandparent = await world.create("g")
    parent = await world.create("p", parent_uid=grandparent.uid)
    world.clock.step(1)
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("c", parent_uid=parent.uid)
    await world.rule(max_active_sessions=3, **END)
    await world.create("other")
    await world.create("c", parent_uid=parent.uid)
    assert await active(world) == ["g", "p", "c"]


async def test_a_batch_is_let_in_as_a_whole_or_not_at_all(world: World) -> None:
    await world.rule(max_active_sessions=3)
    await world.create("s-0")
    with refused(Reason.QUOTA_EXCEEDED):
        await create_many(world, "a", "b", "c")
    assert await active(world) == ["s-0"]
    await create_many(world, "a", "b")
    assert await active(world) == ["s-0", "a", "b"]


async def test_a_batch_larger_than_the_limit_is_refused_and_ends_nothing(world: World) -> None:
    await world.rule(max_active_sessions=2, **END)
    await fill(world, 2)
    with refused(Reason.QUOTA_EXCEEDED):
        await create_many(world, "a", "b", "c")
    assert await active(world) == ["s-0", "s-1"]
    await create_many(world, "a", "b")
    assert await active(world) == ["a", "b"]


async def test_a_session_of_a_batch_makes_no_room_for_the_next(world: World) -> None:
    """Both are of the same instant, and the one in use may not go in their stead."""
    await world.rule(max_active_sessions=2, **END)
    await world.create("s-0")
    await world.turn("s-0")
    with refused(Reason.QUOTA_EXCEEDED):
        await create_many(world, "a", "b")
    assert await active(world) == ["s-0"]


async def test_after_a_limit_was_lowered_each_new_session_ends_some(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, 8)
    monkeypatch.setattr(quotas, "END_MOST", 3)
    await world.rule(max_active_sessions=2, **END)
    await world.create("a")
    assert await active(world) == ["s-3", "s-4", "s-5", "s-6", "s-7", "a"]
    await world.create("b")
    await world.create("c")
    assert await active(world) == ["b", "c"]


async def test_a_lowered_limit_ends_nothing_by_itself(world: World) -> None:
    await fill(world, 3)
    await world.rule(max_active_sessions=1)
    assert len(await active(world)) == 3
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("late")


async def test_a_repeat_gets_its_session_though_the_app_is_full(world: World) -> None:
    await world.rule(max_active_sessions=1)
    first = await world.make("s-0", request_id="r")
    again = await world.make("s-0", request_id="r")
    assert again.outcome == first.outcome


async def test_a_limit_lowered_to_zero_ends_nobody_for_a_session_that_is_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(world, 3)
    monkeypatch.setattr(quotas, "END_MOST", 2)
    await world.rule(max_active_sessions=0, **END)
    with refused(Reason.QUOTA_EXCEEDED):
        await world.create("late")
    assert await active(world) == ["s-0", "s-1", "s-2"]


async def test_a_child_that_ended_with_its_parent_is_not_ended_again(world: World) -> None:
    parent = await world.create("p")
    world.clock.step(1)
    await world.create("c", parent_uid=parent.uid, owner=NewOwner(lease=HOUR))
    world.clock.step(1)
    await fill(world, 2)
    await world.rule(max_active_sessions=1, **END)
    await world.create("new")
    assert await active(world) == ["new"]
    causes = [change.cause for change in await world.log()]
    assert causes.count(ChangeCause.ENDED) == 4
