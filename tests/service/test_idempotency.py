"""The request_id: the same request gives the same outcome and does nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from sojourn_server.domain.commands import IfExists, MetricsDelta, NewSession, Precondition
from sojourn_server.domain.errors import Reason
from sojourn_server.domain.model import Status, TurnOutcome
from sojourn_server.service.answers import Answer
from sojourn_server.store.base import Tx
from tests.service.kit import APP, USER, World, message, patches, refused

Write = Callable[[World, dict[str, Any]], Awaitable[Answer[Any]]]


async def a_batch(world: World, how: dict[str, Any]) -> Answer[Any]:
    call = world.call("BatchCreateSessions", **how)
    return await world.sessions.create_many(call, APP, [NewSession(user=USER)] * 3)


async def an_end_of_a_turn(world: World, how: dict[str, Any]) -> Answer[Any]:
    session = await world.stored("s-1")
    token = world.turns.token(session, session.turn) if session.turn else tokens[0]
    tokens[:] = [token]
    return await world.end_turn(token, TurnOutcome.ERROR, "bad", **how)


tokens: list[str] = []

WRITES: dict[str, Write] = {
    "create": lambda world, how: world.make("new", state=patches(app={"a": "1"}), **how),
    "create without an id": lambda world, how: world.make(**how),
    "return existing": lambda world, how: world.make(
        "s-1", if_exists=IfExists.RETURN_EXISTING, **how
    ),
    "replace": lambda world, how: world.make("old", if_exists=IfExists.REPLACE_ENDED, **how),
    "batch": a_batch,
    "update": lambda world, how: world.update(
        "s-1",
        labels={"a": "1"},
        metrics=MetricsDelta(requests=3, counters={"n": 2}),
        state=patches(session={"s": "1"}, user={"u": "1"}),
        **how,
    ),
    "update without an effect": lambda world, how: world.update("s-1", **how),
    "end": lambda world, how: world.end("s-1", Status.FAILED, reason="why", **how),
    "reset": lambda world, how: world.reset("s-1", reason="why", **how),
    "delete": lambda world, how: world.delete("s-1", force=True, **how),
    "begin": lambda world, how: world.begin("idle", **how),
    "begin and create": lambda world, how: world.begin("new", create=True, **how),
    "end of a turn": an_end_of_a_turn,
    "append": lambda world, how: world.append(
        "s-1", [message("m-9"), message()], metrics=MetricsDelta(requests=1), **how
    ),
    "append and create": lambda world, how: world.append("new", [message()], create=True, **how),
    "pop": lambda world, how: world.pop("s-1", 2, **how),
    "pop of nothing": lambda world, how: world.pop("idle", 2, **how),
    "truncate": lambda world, how: world.truncate("s-1", 1, **how),
    "state": lambda world, how: world.patch(USER, set={"a": "1"}, **how),
}


@pytest.fixture
async def ready(world: World) -> World:
    """A world with a session of everything: `s-1`, one that is idle, one that has ended."""
    await world.create("s-1", metadata={"m": "1"})
    await world.say("s-1", "m-1", "m-2", "m-3")
    await world.turn("s-1", lease=3_600 * 1_000_000_000)
    await world.create("child", parent_uid=(await world.get("s-1")).uid)
    await world.create("idle")
    await world.create("old")
    await world.end("old")
    return world


async def everything(world: World) -> Any:
    return await world.head(), [
        msgspec.structs.replace(session, activity_time=0) for session in await world.every_session()
    ]


@pytest.mark.parametrize("name", WRITES)
async def test_a_repeat_gives_the_same_outcome_and_revision_and_does_nothing(
    ready: World, name: str
) -> None:
    write = WRITES[name]
    first = await write(ready, {"request_id": "r-1"})
    after = await everything(ready)
    ready.clock.step(5)
    for _ in range(2):
        again = await write(ready, {"request_id": "r-1"})
        assert (again.outcome, again.revision) == (first.outcome, first.revision)
    assert await everything(ready) == after
    # Also when the log has gone on since.
    await ready.create("later")
    later = await write(ready, {"request_id": "r-1"})
    assert (later.outcome, later.revision) == (first.outcome, first.revision)


@pytest.mark.parametrize("name", WRITES)
async def test_an_id_with_another_payload_is_refused_and_does_nothing(
    ready: World, name: str
) -> None:
    write = WRITES[name]
    await write(ready, {"request_id": "r-1"})
    after = await everything(ready)
    with refused(Reason.REQUEST_ID_REUSED, request_id="r-1"):
        await write(ready, {"request_id": "r-1", "payload": b"other"})
    assert await everything(ready) == after


@pytest.mark.parametrize("name", WRITES)
async def test_of_many_repeats_at_once_one_is_carried_out(ready: World, name: str) -> None:
    write = WRITES[name]
    session = await ready.stored("s-1")
    assert session.turn is not None
    tokens[:] = [ready.turns.token(session, session.turn)]
    head = await ready.head()
    answers = await asyncio.gather(*(write(ready, {"request_id": "r-1"}) for _ in range(12)))
    for answer in answers:
        assert (answer.outcome, answer.revision) == (answers[0].outcome, answers[0].revision)
    assert await ready.head() <= head + 1


@pytest.mark.parametrize("name", WRITES)
async def test_a_unit_that_is_taken_back_and_run_again_leaves_nothing_of_its_first_run(
    ready: World, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = ready.store.apply
    head = await ready.head()

    class TakenBack(Exception):
        pass

    async def twice(app: str, actor: str, unit: Any, *more: Any) -> Any:
        async def fails(tx: Tx) -> None:
            await unit(tx)
            raise TakenBack

        with suppress(TakenBack):
            await apply(app, actor, fails)
        return await apply(app, actor, unit, *more)

    monkeypatch.setattr(ready.store, "apply", twice)
    answer = await WRITES[name](ready, {"request_id": "r-1"})
    assert answer.revision <= head + 1
    again = await WRITES[name](ready, {"request_id": "r-1"})
    assert (again.outcome, again.revision) == (answer.outcome, answer.revision)


async def test_ids_are_apart_by_method_app_and_principal(world: World) -> None:
    one = await world.make("s-1", request_id="r-1")
    other = await world.make("s-2", app="other", request_id="r-1", payload=b"x")
    await world.update("s-1", labels={"a": "1"}, request_id="r-1", payload=b"y")
    call = msgspec.structs.replace(world.call("CreateSession", "r-1", b"z"), principal="q")
    new = NewSession(user=USER, session_id="s-3")
    third = await world.sessions.create(call, APP, new, IfExists.FAIL)
    ids = {each.outcome.session.session_id for each in (one, other, third)}
    assert ids == {"s-1", "s-2", "s-3"}


async def test_without_an_id_every_call_is_carried_out(world: World) -> None:
    await world.create("s-1")
    for _ in range(3):
        await world.update("s-1", metrics=MetricsDelta(requests=1))
    assert (await world.get("s-1")).metrics.requests == 3


async def test_a_failure_is_not_remembered(world: World) -> None:
    with refused(Reason.SESSION_NOT_FOUND):
        await world.update("s-1", labels={"a": "1"}, request_id="r-1")
    with refused(Reason.SESSION_NOT_FOUND):
        await world.pop("s-1", request_id="r-2", payload=b"x")
    await world.create("s-1")
    answer = await world.update("s-1", labels={"a": "1"}, request_id="r-1")
    assert answer.outcome.changed
    with refused(Reason.ETAG_MISMATCH):
        condition = Precondition(etag="old")
        await world.end("s-1", condition=condition, request_id="r-3")
    assert (await world.end("s-1", request_id="r-3", payload=b"y")).outcome.changed


async def test_a_repeat_after_the_session_is_gone_resurrects_nothing(world: World) -> None:
    first = await world.make("s-1", request_id="r-1")
    begun = await world.begin("s-1", request_id="r-1")
    appended = await world.append("s-1", [message()], create=True, request_id="r-1")
    await world.delete("s-1")
    head = await world.head()
    assert (await world.make("s-1", request_id="r-1")).outcome == first.outcome
    assert (await world.begin("s-1", request_id="r-1")).outcome == begun.outcome
    again = await world.append("s-1", [message()], create=True, request_id="r-1")
    assert again.outcome == appended.outcome
    assert (await world.every_session(), await world.head()) == ([], head)


async def test_a_repeat_comes_before_every_other_check(world: World) -> None:
    await world.create("s-1")
    old = Precondition(generation=1)
    first = await world.append("s-1", [message("m-1")], condition=old, request_id="r-1")
    await world.reset("s-1")
    await world.end("s-1")
    again = await world.append("s-1", [message("m-1")], condition=old, request_id="r-1")
    assert (again.outcome, again.revision) == (first.outcome, first.revision)
