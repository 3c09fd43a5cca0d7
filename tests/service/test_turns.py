"""BeginTurn, RenewTurn, EndTurn."""

from __future__ import annotations

import asyncio

import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import (
    NewMessage,
    OnConflict,
    Precondition,
    SessionRef,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import (
    ChangeCause,
    EndCause,
    Metrics,
    Status,
    Turn,
    TurnOutcome,
)
from tests.service.kit import LEASE, START, World, message, refused

WAIT, STEAL = OnConflict.WAIT, OnConflict.STEAL


async def error_of(world: World, session_id: str = "s-1") -> str:
    content = (await world.read(session_id)).snapshot.content
    assert content is not None
    return content.turn_error


async def test_a_turn_is_a_lease_that_the_session_shows(world: World) -> None:
    await world.create("s-1")
    world.clock.step(5)
    answer = await world.begin("s-1", holder="pod-1")
    begin = START + 5 * SECOND
    turn = Turn(
        number=1,
        holder="pod-1",
        begin_time=begin,
        lease_time=begin + LEASE,
        lease=LEASE,
        owns=False,
    )
    assert answer.outcome.turn == answer.outcome.session.turn == turn
    session = await world.get("s-1")
    assert (session.turn, session.turns_begun) == (turn, 1)
    assert (session.version, session.activity_time, session.update_time) == (1, begin, begin)
    [change] = await world.log(answer.revision - 1)
    assert change.cause is ChangeCause.TURN_BEGAN


async def test_a_turn_that_ends_well_counts_a_request_and_its_time(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    world.clock.step(7)
    answer = await world.end_turn(token)
    assert answer.outcome.elapsed == 7 * SECOND
    after = await world.get("s-1")
    assert after.metrics == Metrics(requests=1, processing_time=7 * SECOND)
    assert (after.turn, after.version) == (None, 1)
    [change] = await world.log(answer.revision - 1)
    assert (change.cause, change.detail.turn_outcome) == (
        ChangeCause.TURN_ENDED,
        TurnOutcome.OK,
    )


async def test_the_error_of_a_turn_is_kept_until_the_next_one_ends(world: World) -> None:
    await world.create("s-1")
    await world.end_turn(await world.turn("s-1"), TurnOutcome.ERROR, "it broke")
    assert await error_of(world) == "it broke"
    assert (await world.get("s-1")).metrics.errors == 1
    token = await world.turn("s-1")
    assert await error_of(world) == "it broke"
    await world.end_turn(token, TurnOutcome.ERROR, "it broke again, and worse")
    assert await error_of(world) == "it broke again, and worse"
    await world.end_turn(await world.turn("s-1"))
    assert await error_of(world) == ""


@pytest.mark.parametrize("how", ["abandoned", "stolen", "ended"])
async def test_the_error_of_a_turn_is_not_told_as_that_of_a_later_one(
    world: World, how: str
) -> None:
    await world.create("s-1")
    await world.end_turn(await world.turn("s-1"), TurnOutcome.ERROR, "it broke")
    await world.turn("s-1")
    if how == "abandoned":
        world.clock.step(31)
    elif how == "stolen":
        await world.begin("s-1", STEAL)
    else:
        await world.end("s-1")
    assert await error_of(world) == ""


async def test_a_turn_ends_once(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    await world.end_turn(token)
    with refused(Reason.TURN_SUPERSEDED, turn="1"):
        await world.end_turn(token)
    assert (await world.get("s-1")).metrics.requests == 1


async def test_of_many_ends_of_one_turn_at_once_one_counts(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    answers = await asyncio.gather(
        *(world.end_turn(token) for _ in range(30)), return_exceptions=True
    )
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert (await world.get("s-1")).metrics.requests == 1


async def test_a_second_turn_is_refused_while_one_is_live(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1", holder="pod-1")
    world.clock.step(10)
    with pytest.raises(Refusal) as caught:
        await world.begin("s-1")
    assert caught.value.reason is Reason.TURN_CONFLICT
    assert caught.value.metadata == {"holder": "pod-1", "turn": "1"}
    assert caught.value.retry_after == 20 * SECOND


async def test_of_many_begins_at_once_one_gets_the_turn(world: World) -> None:
    await world.create("s-1")
    answers = await asyncio.gather(*(world.begin("s-1") for _ in range(30)), return_exceptions=True)
    assert sum(not isinstance(answer, BaseException) for answer in answers) == 1
    assert (await world.get("s-1")).turns_begun == 1


async def test_a_stolen_turn_ends_in_the_same_unit_and_its_writes_are_fenced_off(
    world: World,
) -> None:
    await world.create("s-1")
    old = await world.turn("s-1", holder="pod-1")
    world.clock.step(3)
    answer = await world.begin("s-1", STEAL, holder="pod-2")
    changes = await world.log(answer.revision - 1)
    assert [change.cause for change in changes] == [
        ChangeCause.TURN_ENDED,
        ChangeCause.TURN_BEGAN,
    ]
    assert changes[0].detail.turn_outcome is TurnOutcome.STOLEN
    assert answer.outcome.session.metrics == Metrics(
        requests=1, errors=1, processing_time=3 * SECOND
    )
    superseded = Precondition(turn_token=old)
    for write in (
        lambda: world.append("s-1", [message()], condition=superseded),
        lambda: world.update("s-1", labels={"a": "1"}, condition=superseded),
        lambda: world.pop("s-1", condition=superseded),
        lambda: world.truncate("s-1", 0, condition=superseded),
        lambda: world.end("s-1", condition=superseded),
        lambda: world.reset("s-1", condition=superseded),
        lambda: world.delete("s-1", condition=superseded),
        lambda: world.renew(old),
        lambda: world.end_turn(old),
    ):
        with refused(Reason.TURN_SUPERSEDED, turn="1", live_turn="2"):
            await write()


async def test_a_steal_of_nothing_is_a_begin(world: World) -> None:
    await world.create("s-1")
    answer = await world.begin("s-1", STEAL)
    assert [change.cause for change in await world.log(answer.revision - 1)] == [
        ChangeCause.TURN_BEGAN
    ]


async def test_writes_of_the_live_turn_and_without_a_turn_merge(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    await world.append("s-1", [message("m-1")], condition=Precondition(turn_token=token))
    await world.append("s-1", [message("m-2")])
    assert await world.sequences("s-1") == [1, 2]


async def test_an_abandoned_turn_ends_as_an_error_as_soon_as_anyone_looks(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    world.clock.step(30)
    with refused(Reason.TURN_SUPERSEDED, turn="1"):
        await world.append("s-1", [message()], condition=Precondition(turn_token=token))
    after = await world.stored("s-1")
    assert after.metrics == Metrics(requests=1, errors=1, processing_time=LEASE)
    [change] = [c for c in await world.log() if c.cause is ChangeCause.TURN_ENDED]
    assert change.detail.turn_outcome is TurnOutcome.ABANDONED
    with refused(Reason.TURN_SUPERSEDED):
        await world.renew(token)
    assert (await world.begin("s-1")).outcome.turn.number == 2


async def test_a_renewal_prolongs_the_lease_and_takes_no_revision(world: World) -> None:
    await world.create("s-1", idle_timeout=40 * SECOND)
    token = await world.turn("s-1")
    world.clock.step(29)
    answer = await world.renew(token)
    assert answer.revision == 2 == await world.head()
    turn = answer.outcome.session.turn
    assert turn is not None
    assert (turn.lease_time, turn.lease) == (world.clock.time + LEASE, LEASE)
    world.clock.step(29)
    longer = (await world.renew(token, 60 * SECOND)).outcome.session.turn
    assert longer is not None
    assert (longer.lease_time, longer.lease) == (world.clock.time + 60 * SECOND, 60 * SECOND)
    world.clock.step(59)
    assert (await world.get("s-1")).turn is not None
    assert (await world.stored("s-1")).activity_time == START + 58 * SECOND


async def test_a_live_turn_holds_off_the_idle_deadline_and_not_the_lifetime(
    world: World,
) -> None:
    await world.create("s-1", idle_timeout=SECOND, max_lifetime=100 * SECOND)
    token = await world.turn("s-1", lease=HOUR)
    world.clock.step(99)
    assert (await world.get("s-1")).status is Status.ACTIVE
    world.clock.step(1)
    after = await world.get("s-1")
    assert (after.status, after.end_cause, after.turn) == (
        Status.EXPIRED,
        EndCause.LIFETIME,
        None,
    )
    with refused(Reason.SESSION_ENDED):
        await world.end_turn(token)


async def test_a_turn_token_is_held_to_its_app_and_its_session(world: World) -> None:
    await world.create("s-1")
    await world.create("s-2")
    await world.create("s-1", app="other")
    token = await world.turn("s-1")
    with refused(Reason.TURN_TOKEN_INVALID):
        await world.end_turn(token, app="other")
    with refused(Reason.TURN_TOKEN_INVALID):
        await world.renew(token[:-2] + "AA")
    with refused(Reason.TURN_SUPERSEDED):
        await world.append("s-2", [message()], condition=Precondition(turn_token=token))
    with refused(Reason.INVALID_FIELD, field="precondition.turn_token"):
        await world.begin("s-1", condition=Precondition(turn_token=token))


async def test_a_turn_of_a_session_that_was_replaced_is_not_a_turn_of_the_new_one(
    world: World,
) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    await world.delete("s-1")
    await world.create("s-1")
    await world.turn("s-1")
    with refused(Reason.SESSION_NOT_FOUND):
        await world.end_turn(token)
    with refused(Reason.TURN_SUPERSEDED):
        await world.append("s-1", [message()], condition=Precondition(turn_token=token))


async def test_create_if_missing_makes_the_session_with_defaults(world: World) -> None:
    with refused(Reason.SESSION_NOT_FOUND, session_id="s-1"):
        await world.begin("s-1")
    answer = await world.begin("s-1", create=True)
    assert (answer.outcome.created, answer.outcome.session.idle_timeout) == (True, HOUR)
    with refused(Reason.TURN_CONFLICT):
        await world.begin("s-1", create=True)
    await world.end("s-1")
    with refused(Reason.SESSION_ENDED):
        await world.begin("s-1", create=True)
    uid = (await world.stored("s-1")).uid
    await world.delete("s-1")
    gone = SessionRef(app="support", user="ann", session_id="s-1", uid=uid)
    with refused(Reason.SESSION_NOT_FOUND):
        await world.turns.begin(
            world.call("BeginTurn"),
            gone,
            Precondition(),
            "",
            LEASE,
            OnConflict.REJECT,
            0,
            create_if_missing=True,
        )


async def test_the_token_of_a_turn_is_the_same_when_its_begin_is_repeated(world: World) -> None:
    await world.create("s-1")
    one = (await world.begin("s-1", request_id="r-1")).outcome
    other = (await world.begin("s-1", request_id="r-1")).outcome
    assert world.turns.token(one.session, one.turn) == world.turns.token(other.session, other.turn)
    assert NewMessage(role="user").message_id == ""
