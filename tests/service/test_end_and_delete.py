"""EndSession and DeleteSession, of one session."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import (
    Precondition,
    SessionRef,
)
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import (
    ChangeCause,
    DeletedWhy,
    EndCause,
    Status,
    TurnOutcome,
)
from sojourn_server.service import work
from tests.service.kit import APP, World, message, refused

DONE, FAILED, EXPIRED = Status.COMPLETED, Status.FAILED, Status.EXPIRED


@pytest.mark.parametrize("status", [DONE, FAILED, EXPIRED])
async def test_a_session_ends_as_asked_with_what_it_leaves_behind(
    world: World, status: Status
) -> None:
    before = await world.create("s-1")
    world.clock.step(5)
    answer = await world.end("s-1", status, reason="enough", result='{"n": 1.0}')
    after = answer.outcome.session
    assert (answer.outcome.changed, answer.revision, answer.outcome.descendants) == (True, 2, 0)
    assert (after.status, after.end_cause) == (status, EndCause.REQUEST)
    assert after.end_time == after.update_time == world.clock.time
    assert after.activity_time == before.activity_time
    assert after.version == before.version + 1
    content = (await world.read("s-1")).snapshot.content
    assert content is not None
    assert (content.end_note.reason, content.end_note.result) == ("enough", '{"n": 1.0}')


async def test_the_first_end_wins_and_asking_for_the_same_again_succeeds(world: World) -> None:
    await world.create("s-1")
    await world.end("s-1", FAILED, reason="first")
    again = await world.end("s-1", FAILED, reason="second")
    assert (again.outcome.changed, again.revision) == (False, 2)
    for other in (DONE, EXPIRED):
        with refused(Reason.SESSION_ENDED, status="FAILED", cause="REQUEST"):
            await world.end("s-1", other)
    content = (await world.read("s-1")).snapshot.content
    assert content is not None
    assert content.end_note.reason == "first"


async def test_of_many_ends_at_once_one_wins(world: World) -> None:
    await world.create("s-1")
    answers = await asyncio.gather(
        *(world.end("s-1", status) for status in (DONE, FAILED, EXPIRED) * 10),
        return_exceptions=True,
    )
    changed = [
        each for each in answers if not isinstance(each, BaseException) and each.outcome.changed
    ]
    assert len(changed) == 1
    assert await world.head() == 2


async def test_an_end_that_comes_after_the_deadline_finds_the_session_expired(
    world: World,
) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(1)
    with refused(Reason.SESSION_ENDED, status="EXPIRED", cause="IDLE"):
        await world.end("s-1")
    assert not (await world.end("s-1", EXPIRED)).outcome.changed
    assert await world.head() == 2


async def test_an_end_revokes_the_live_turn_in_the_same_unit(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    world.clock.step(3)
    answer = await world.end("s-1")
    ended, over = await world.log(answer.revision - 1)
    assert (ended.cause, ended.detail.turn_outcome) == (
        ChangeCause.TURN_ENDED,
        TurnOutcome.REVOKED,
    )
    assert over.cause is ChangeCause.ENDED
    assert answer.outcome.session.metrics.errors == 1
    with refused(Reason.SESSION_ENDED):
        await world.end_turn(token)


async def test_a_result_must_be_json(world: World) -> None:
    await world.create("s-1")
    with refused(Reason.INVALID_FIELD, field="result"):
        await world.end("s-1", result="{")


@pytest.mark.parametrize("ended", [False, True])
async def test_a_deleted_session_is_gone_with_all_it_held(world: World, ended: bool) -> None:
    before = await world.create("s-1", metadata={"m": "1"}, labels={"a": "1"})
    await world.say("s-1", "m-1", "m-2")
    await world.end_turn(await world.turn("s-1"), TurnOutcome.ERROR, "bad luck")
    await world.reset("s-1", reason="again")
    await world.say("s-1", "m-3")
    await world.pop("s-1", request_id="r-1")
    await world.say("s-1", "m-4")
    if ended:
        await world.end("s-1", reason="r", result="1")
    answer = await world.delete("s-1")
    assert (answer.outcome.sessions, answer.outcome.messages, answer.scrubbed) == (
        1,
        1,
        world.store.scrubs,
    )
    with refused(Reason.SESSION_NOT_FOUND, session_id="s-1"):
        await world.get("s-1")
    with refused(Reason.SESSION_NOT_FOUND, uid=before.uid):
        await world.get(before)
    [change] = await world.log(answer.revision - 1)
    assert (change.cause, change.detail.deleted_why) == (
        ChangeCause.DELETED,
        DeletedWhy.REQUEST,
    )
    with refused(Reason.SESSION_NOT_FOUND):
        await world.delete("s-1")
    assert (await world.create("s-1")).uid != before.uid


async def test_a_delete_under_a_live_turn_revokes_it_first(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1")
    answer = await world.delete("s-1")
    assert [change.cause for change in await world.log(answer.revision - 1)] == [
        ChangeCause.TURN_ENDED,
        ChangeCause.DELETED,
    ]


async def test_a_large_history_is_deleted_with_its_session(world: World) -> None:
    await world.create("s-1")
    await world.append("s-1", [message(f"m-{n}", "x" * 40) for n in range(900)])
    answer = await world.delete("s-1")
    assert (answer.outcome.messages, answer.scrubbed) == (900, world.store.scrubs)


@pytest.mark.parametrize(
    ("status", "outcome", "errors"),
    [
        (DONE, TurnOutcome.OK, 0),
        (FAILED, TurnOutcome.ERROR, 1),
        (Status.EXPIRED, TurnOutcome.REVOKED, 1),
    ],
)
async def test_an_end_with_its_own_turns_token_ends_that_turn_by_its_holders_will(
    world: World, status: Status, outcome: TurnOutcome, errors: int
) -> None:
    await world.create("s")
    token = await world.turn("s")
    ended = await world.end("s", status, condition=Precondition(turn_token=token))
    assert ended.outcome.session.metrics.errors == errors
    turn = [c for c in await world.log() if c.cause is ChangeCause.TURN_ENDED]
    assert [change.detail.turn_outcome for change in turn] == [outcome]


async def test_settling_a_session_that_is_gone_does_nothing(world: World) -> None:
    session = await world.create("s-1")
    await world.delete("s-1")
    applied = await world.units.settle(APP, session.uid)
    assert (applied.changed, applied.revision) == (False, 2)


async def test_a_uid_reference_looks_at_no_user(world: World) -> None:
    session = await world.create("s-1", user="bob")
    ref = SessionRef(app=APP, user="someone else", uid=session.uid)

    async def query(tx: Any) -> str:
        return (await work.find(tx, ref)).session.user

    assert await world.store.read(query) == "bob"
