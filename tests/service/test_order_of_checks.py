"""NOT_FOUND, uid, SESSION_ENDED, generation, turn, then the others: for every write.

Each case breaks one check and all that come after it; the first must be the one that is
told.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import (
    NO_PATCHES,
    Changes,
    MetricsDelta,
    OnConflict,
    Precondition,
    ResetScope,
    SessionRef,
    StatePatch,
    StatePatches,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import ChangeCause, Session, Status
from tests.service.kit import LEASE, World, message, refused, tag

Write = Callable[[World, SessionRef, Precondition], Awaitable[Any]]

TOO_MANY = {f"label-{number}": "1" for number in range(65)}
LATE = StatePatches(session=StatePatch(set={"a": "1"}, expected_version=99))

WRITES: dict[str, Write] = {
    "update": lambda w, ref, condition: w.sessions.update(
        w.call("UpdateSession"), ref, condition, Changes(labels={"a": "1"})
    ),
    "update of state": lambda w, ref, condition: w.sessions.update(
        w.call("UpdateSession"), ref, condition, Changes(state=LATE, labels=TOO_MANY)
    ),
    "end": lambda w, ref, condition: w.sessions.end(
        w.call("EndSession"), ref, condition, Status.COMPLETED, "", "", cascade=False
    ),
    "end of a tree": lambda w, ref, condition: w.sessions.end(
        w.call("EndSession"), ref, condition, Status.COMPLETED, "", "", cascade=True
    ),
    "reset": lambda w, ref, condition: w.sessions.reset(
        w.call("ResetSession"), ref, condition, ResetScope.ALL, if_idle=True, reason=""
    ),
    "delete": lambda w, ref, condition: w.sessions.delete(
        w.call("DeleteSession"), ref, condition, force=False
    ),
    "delete of a tree": lambda w, ref, condition: w.sessions.delete(
        w.call("DeleteSession"), ref, condition, force=True
    ),
    "begin": lambda w, ref, condition: w.turns.begin(
        w.call("BeginTurn"),
        ref,
        condition,
        "",
        LEASE,
        OnConflict.REJECT,
        0,
        create_if_missing=False,
    ),
    "begin or create": lambda w, ref, condition: w.turns.begin(
        w.call("BeginTurn"),
        ref,
        condition,
        "",
        LEASE,
        OnConflict.REJECT,
        0,
        create_if_missing=True,
    ),
    "append": lambda w, ref, condition: w.history.append(
        w.call("AppendMessages"),
        ref,
        condition,
        [message("m-1", "other")],
        LATE,
        MetricsDelta(),
        create_if_missing=False,
    ),
    "append or create": lambda w, ref, condition: w.history.append(
        w.call("AppendMessages"),
        ref,
        condition,
        [message("m-1", "other")],
        NO_PATCHES,
        MetricsDelta(),
        create_if_missing=True,
    ),
    "pop": lambda w, ref, condition: w.history.pop(w.call("PopMessages"), ref, condition, 1),
    "truncate": lambda w, ref, condition: w.history.truncate(
        w.call("TruncateMessages"), ref, condition, 0
    ),
}
BEGINS = {"begin", "begin or create"}
DELETES = {"delete", "delete of a tree"}
CREATES = {"begin or create", "append or create"}


class Scene:
    """A session with a live turn, and what is wrong about a write to it."""

    def __init__(self, session: Session, token: str, old: str) -> None:
        self.session = session
        self.token = token
        self.old_token = old

    def condition(self, name: str, **wrong: bool) -> Precondition:
        return Precondition(
            generation=9 if wrong.get("generation") else 1,
            turn_token=""
            if name in BEGINS
            else (self.old_token if wrong.get("turn") else self.token),
            etag="old" if wrong.get("etag") else tag(self.session),
            last_sequence=9 if wrong.get("sequence") else 1,
        )


async def scene(world: World) -> Scene:
    await world.create("s-1")
    await world.say("s-1", "m-1")
    old = await world.turn("s-1")
    await world.end_turn(old)
    token = await world.turn("s-1")
    return Scene(await world.get("s-1"), token, old)


ref = SessionRef(app="support", user="ann", session_id="s-1")
OTHER_UID = "018bcfe5-6800-7000-8000-000000000001"


@pytest.mark.parametrize("name", WRITES)
async def test_a_session_that_is_not_there_is_told_first(world: World, name: str) -> None:
    there = await scene(world)
    worst = there.condition(name, generation=True, turn=True, etag=True, sequence=True)
    if name not in CREATES:
        with refused(Reason.SESSION_NOT_FOUND):
            await WRITES[name](world, world.ref("x"), worst)
    with refused(Reason.SESSION_NOT_FOUND):
        absent = SessionRef(app="support", user="ann", session_id="x", uid=OTHER_UID)
        await WRITES[name](world, absent, worst)


@pytest.mark.parametrize("name", WRITES)
async def test_another_uid_is_told_before_the_end(world: World, name: str) -> None:
    there = await scene(world)
    await world.end("s-1", Status.FAILED)
    worst = there.condition(name, generation=True, turn=True, etag=True, sequence=True)
    with refused(Reason.UID_MISMATCH, uid=there.session.uid):
        stale = SessionRef(app="support", user="ann", session_id="s-1", uid=OTHER_UID)
        await WRITES[name](world, stale, worst)


@pytest.mark.parametrize("how", ["ended", "overdue"])
@pytest.mark.parametrize("name", sorted(WRITES.keys() - DELETES))
async def test_an_end_is_told_before_the_generation(world: World, name: str, how: str) -> None:
    there = await scene(world)
    if how == "ended":
        await world.end("s-1", Status.FAILED)
    else:
        await world.update("s-1", max_lifetime=SECOND)
        world.clock.step(2)
    worst = there.condition(name, generation=True, turn=True, etag=True, sequence=True)
    with refused(Reason.SESSION_ENDED, status="FAILED" if how == "ended" else "EXPIRED"):
        await WRITES[name](world, ref, worst)
    assert (await world.stored("s-1")).status is not Status.ACTIVE


@pytest.mark.parametrize("name", WRITES)
async def test_the_generation_is_told_before_the_turn(world: World, name: str) -> None:
    there = await scene(world)
    worst = there.condition(name, generation=True, turn=True, etag=True, sequence=True)
    with refused(Reason.GENERATION_CHANGED, generation="1"):
        await WRITES[name](world, ref, worst)


@pytest.mark.parametrize("name", sorted(WRITES.keys() - BEGINS))
async def test_the_turn_is_told_before_etag_sequence_and_state(world: World, name: str) -> None:
    there = await scene(world)
    with refused(Reason.TURN_SUPERSEDED, turn="1", live_turn="2"):
        worst = there.condition(name, turn=True, etag=True, sequence=True)
        await WRITES[name](world, ref, worst)


@pytest.mark.parametrize("name", WRITES)
async def test_etag_and_sequence_are_told_before_what_the_write_itself_refuses(
    world: World, name: str
) -> None:
    there = await scene(world)
    with refused(Reason.ETAG_MISMATCH, etag=tag(there.session)):
        await WRITES[name](world, ref, there.condition(name, etag=True))
    with refused(Reason.SEQUENCE_MISMATCH, last_sequence="1"):
        await WRITES[name](world, ref, there.condition(name, sequence=True))


OWN_REFUSALS = {
    "update of state": Reason.STATE_VERSION_MISMATCH,
    "append": Reason.STATE_VERSION_MISMATCH,
    "append or create": Reason.MESSAGE_EXISTS,
    "begin": Reason.TURN_CONFLICT,
    "begin or create": Reason.TURN_CONFLICT,
    "reset": Reason.NOT_IDLE,
}


@pytest.mark.parametrize("name", WRITES)
async def test_with_every_condition_met_the_write_happens_or_refuses_by_itself(
    world: World, name: str
) -> None:
    there = await scene(world)
    head = await world.head()
    if name in OWN_REFUSALS:
        with refused(OWN_REFUSALS[name]):
            await WRITES[name](world, ref, there.condition(name))
        assert await world.head() == head
    else:
        answer = await WRITES[name](world, ref, there.condition(name))
        assert answer.revision == await world.head() == head + 1


@pytest.mark.parametrize("name", sorted(DELETES))
async def test_an_ended_session_is_deleted_whatever_ended_it_but_held_to_conditions(
    world: World, name: str
) -> None:
    there = await scene(world)
    await world.end("s-1")
    with refused(Reason.TURN_SUPERSEDED):
        await WRITES[name](world, ref, Precondition(turn_token=there.token))
    with refused(Reason.ETAG_MISMATCH):
        await WRITES[name](world, ref, Precondition(etag=tag(there.session)))
    await WRITES[name](world, ref, Precondition(generation=1, last_sequence=1))
    assert await world.every_session() == []


@pytest.mark.parametrize("name", WRITES)
async def test_a_refused_write_leaves_no_trace_but_an_expiry_that_was_due(
    world: World, name: str
) -> None:
    there = await scene(world)
    head, stored = await world.head(), await world.stored("s-1")
    wrong = there.condition(name, generation=True)
    with refused(Reason.GENERATION_CHANGED):
        await WRITES[name](world, ref, wrong)
    assert (await world.head(), await world.stored("s-1")) == (head, stored)
    world.clock.step(31)
    with pytest.raises(Refusal):
        await WRITES[name](world, ref, wrong)
    assert [change.cause for change in await world.log(head)] == [ChangeCause.TURN_ENDED]
