"""BeginTurn with WAIT: who gets the turn, and when."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import (
    OnConflict,
    Precondition,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import (
    Metrics,
)
from sojourn_server.service import turn_line
from sojourn_server.service.answers import Call
from tests.service.kit import LEASE, World, refused

WAIT, STEAL = OnConflict.WAIT, OnConflict.STEAL


@pytest.fixture(autouse=True)
def patient_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a hint nobody tries again: the tests see that hints suffice."""
    monkeypatch.setattr(turn_line, "POLL", 100.0)


async def in_line(world: World, count: int = 1) -> None:
    """Let tasks go on until so many of them wait."""
    for _ in range(5_000):
        if sum(map(len, world.units.line._lines.values())) == count:
            return
        await asyncio.sleep(0.002)
    raise AssertionError("they never came to wait")


async def a_while() -> None:
    """Let tasks go on that should not get any further."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def test_whoever_waits_gets_the_turn_when_it_ends(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    waiting = asyncio.create_task(world.begin("s-1", WAIT, holder="pod-2"))
    await in_line(world)
    assert not waiting.done()
    await world.end_turn(token)
    answer = await asyncio.wait_for(waiting, 60)
    assert (answer.outcome.turn.number, answer.outcome.turn.holder) == (2, "pod-2")


async def test_those_who_wait_are_served_in_the_order_they_came(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    served: list[str] = []

    async def work(holder: str) -> None:
        begun = (await world.begin("s-1", WAIT, holder=holder)).outcome
        served.append(holder)
        await a_while()
        await world.end_turn(world.turns.token(begun.session, begun.turn))

    tasks = []
    for number in range(8):
        tasks.append(asyncio.create_task(work(f"pod-{number}")))
        await in_line(world, number + 1)
    await world.end_turn(token)
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    assert served == [f"pod-{number}" for number in range(8)]
    assert (await world.get("s-1")).metrics == Metrics(requests=9)


async def test_whoever_comes_later_does_not_overtake_those_who_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    first = asyncio.create_task(world.begin("s-1", WAIT, holder="first"))
    await in_line(world)
    # The hint that the turn is free is on its way when the next caller comes.
    told: list[set[str]] = []
    freed = world.units.line.freed
    monkeypatch.setattr(world.units.line, "freed", lambda uids: told.append(set(uids)))
    await world.end_turn(token)
    second = asyncio.create_task(world.begin("s-1", WAIT, holder="second"))
    await in_line(world, 2)
    monkeypatch.undo()
    monkeypatch.setattr(turn_line, "POLL", 100.0)
    for uids in told:
        freed(uids)
    begun = (await asyncio.wait_for(first, 60)).outcome
    assert begun.turn.holder == "first"
    assert not second.done()
    await world.end_turn(world.turns.token(begun.session, begun.turn))
    assert (await asyncio.wait_for(second, 60)).outcome.turn.holder == "second"


async def test_a_hint_that_comes_while_the_first_in_line_is_trying_is_not_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    write = world.units.write
    ends = 0

    async def slowly(call: Call, *args: Any, **kwargs: Any) -> Any:
        nonlocal ends
        try:
            return await write(call, *args, **kwargs)
        except Refusal:
            if call.method == "BeginTurn" and ends == 0:
                ends = 1
                # The turn ends between the refusal and the moment the caller waits again.
                await world.end_turn(token)
            raise

    line = world.units.line
    waiting = asyncio.create_task(world.begin("s-1", WAIT))
    await in_line(world)
    monkeypatch.setattr(world.units, "write", slowly)
    line.freed([(await world.stored("s-1")).uid])
    assert (await asyncio.wait_for(waiting, 60)).outcome.turn.number == 2
    assert ends == 1


async def test_a_wait_in_vain_is_a_conflict(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1", holder="pod-1")
    begin = time.monotonic()
    for wait in (0, SECOND // 20):
        with refused(Reason.TURN_CONFLICT, holder="pod-1"):
            await world.begin("s-1", WAIT, wait=wait)
    assert time.monotonic() - begin >= 0.05
    assert not world.units.line._lines


async def test_a_lost_hint_is_made_up_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_line, "POLL", 0.05)
    await world.create("s-1")
    await world.turn("s-1")
    waiting = asyncio.create_task(world.begin("s-1", WAIT))
    await in_line(world)
    world.clock.step(31)  # the turn is abandoned, and nobody says so
    assert (await asyncio.wait_for(waiting, 60)).outcome.turn.number == 2


@pytest.mark.parametrize("how", ["end", "delete", "reset", "settle"])
async def test_those_who_wait_are_told_when_a_session_ends_or_its_turn_is_revoked(
    world: World, how: str
) -> None:
    session = await world.create("s-1")
    await world.turn("s-1")
    waiting = asyncio.create_task(world.begin("s-1", WAIT))
    await in_line(world)
    if how == "end":
        await world.end("s-1")
        with refused(Reason.SESSION_ENDED):
            await asyncio.wait_for(waiting, 60)
    elif how == "delete":
        await world.delete("s-1")
        with refused(Reason.SESSION_NOT_FOUND):
            await asyncio.wait_for(waiting, 60)
    else:
        if how == "reset":
            await world.reset("s-1")
        else:
            world.clock.step(31)
            await world.units.settle("support", session.uid)
        assert (await asyncio.wait_for(waiting, 60)).outcome.turn.number == 2
    assert not world.units.line._lines


async def test_a_caller_that_goes_away_leaves_the_line_to_the_next(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1")
    gone = asyncio.create_task(world.begin("s-1", WAIT, holder="gone"))
    await in_line(world)
    second = asyncio.create_task(world.begin("s-1", WAIT, holder="second"))
    await in_line(world, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await world.end_turn(token)
    assert (await asyncio.wait_for(second, 60)).outcome.turn.holder == "second"
    assert not world.units.line._lines


async def test_a_wait_ends_before_the_callers_deadline(world: World) -> None:
    await world.create("s-1")
    await world.turn("s-1")
    call = world.call("BeginTurn")
    call = msgspec.structs.replace(call, deadline=time.monotonic() + 0.2)
    begin = time.monotonic()
    with refused(Reason.TURN_CONFLICT):
        await world.turns.begin(
            call,
            world.ref("s-1"),
            Precondition(),
            "late",
            LEASE,
            WAIT,
            600 * SECOND,
            create_if_missing=False,
        )
    assert time.monotonic() - begin < 60


async def test_a_repeat_of_a_begin_that_succeeded_does_not_stand_in_line(world: World) -> None:
    await world.create("s-1")
    begun = (await world.begin("s-1", WAIT, request_id="r-1")).outcome
    waiting = asyncio.create_task(world.begin("s-1", WAIT, holder="pod-2"))
    await in_line(world)
    again = await asyncio.wait_for(world.begin("s-1", WAIT, request_id="r-1"), 60)
    assert again.outcome == begun
    await world.end_turn(world.turns.token(begun.session, begun.turn))
    assert (await asyncio.wait_for(waiting, 60)).outcome.turn.number == 2


async def test_a_hint_that_was_wrong_is_followed_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await world.create("s-1")
    token = await world.turn("s-1")
    write, tries = world.units.write, 0

    async def counting(call: Call, *args: Any, **kwargs: Any) -> Any:
        nonlocal tries
        tries += call.method == "BeginTurn"
        return await write(call, *args, **kwargs)

    monkeypatch.setattr(world.units, "write", counting)
    waiting = asyncio.create_task(world.begin("s-1", WAIT))
    await in_line(world)
    for expected in (2, 3):
        world.units.line.freed([session.uid])
        await a_while()
        assert tries <= expected
    await world.end_turn(token)
    await asyncio.wait_for(waiting, 60)


async def test_whoever_becomes_first_in_line_makes_up_for_lost_hints_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turn_line, "POLL", 0.05)
    await world.create("s-1")
    await world.turn("s-1")
    gone = asyncio.create_task(world.begin("s-1", WAIT, holder="gone"))
    await in_line(world)
    second = asyncio.create_task(world.begin("s-1", WAIT, holder="second"))
    await in_line(world, 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    world.clock.step(31)
    assert (await asyncio.wait_for(second, 60)).outcome.turn.holder == "second"


async def test_a_wait_in_vain_behind_others_is_a_conflict_as_well(world: World) -> None:
    await world.create("s-1")
    token = await world.turn("s-1", holder="pod-1")
    first = asyncio.create_task(world.begin("s-1", WAIT))
    await in_line(world)
    for wait in (0, SECOND // 20):
        with refused(Reason.TURN_CONFLICT, holder="pod-1"):
            await world.begin("s-1", WAIT, wait=wait)
    await world.end_turn(token)
    await asyncio.wait_for(first, 60)
