"""The truth of the log, after whatever was done to a store.

Every test of this folder ends with the same checks; here chance decides what is done.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import Any

import pytest

from sojourn_server.domain.clock import HOUR, SECOND
from sojourn_server.domain.commands import (
    IfExists,
    MetricsDelta,
    NewOwner,
    OnConflict,
    Precondition,
    ResetScope,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import ChangeCause, Status, TurnOutcome
from sojourn_server.jobs import expiry
from sojourn_server.service import units, work
from tests.faults import counts
from tests.service.kit import World, message, patches, tag
from tests.service.truth import check_log, without_touches

NAMES = [f"s-{number}" for number in range(7)]

# Refusals that a caller who knows nothing of the others must expect.
EXPECTED = {
    *(Reason.SESSION_NOT_FOUND, Reason.SESSION_ENDED, Reason.SESSION_EXISTS),
    *(Reason.PARENT_ENDED, Reason.HAS_CHILDREN, Reason.TURN_SUPERSEDED, Reason.TURN_CONFLICT),
    *(Reason.ETAG_MISMATCH, Reason.GENERATION_CHANGED, Reason.MESSAGE_EXISTS, Reason.NOT_IDLE),
}


class Caller:
    """Does things at random, and keeps the revisions that it was answered with."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.changed: list[int] = []
        self.tokens: list[str] = []
        self.done: set[str] = set()

    async def step(self) -> None:
        name, chance = self.chance.choice(NAMES), self.chance
        acts = [each for each in dir(self) if each.startswith("do_")]
        act = chance.choice(acts)
        head = await self.world.head()
        try:
            answer = await getattr(self, act)(name)
        except Refusal as refusal:
            if refusal.reason not in EXPECTED:
                raise
            return
        self.done.add(act)
        if answer is not None:
            assert answer.revision >= head
            if getattr(answer.outcome, "changed", True):
                self.changed.append(answer.revision)

    def request_id(self) -> str:
        return self.chance.choice(["", "", f"r-{self.chance.randint(0, 10**9)}"])

    async def do_create(self, name: str) -> Any:
        chance, world = self.chance, self.world
        parent = chance.choice(["", *[each.uid for each in await world.every_session()][-3:]])
        owner = chance.choice([None, None, NewOwner(lease=chance.randint(1, 60) * SECOND)])
        if parent and self.tokens and chance.random() < 0.3:
            owner = NewOwner(turn_token=self.tokens[-1])
        answer = await world.make(
            name,
            if_exists=chance.choice(list(IfExists)),
            parent_uid=parent,
            owner=owner,
            labels={"n": name},
            metadata={"m": '"' + "x" * chance.randint(0, 300) + '"'},
            state=patches(session={"a": "1"}),
            idle_timeout=chance.choice([0, 40 * SECOND, HOUR]),
            max_lifetime=chance.choice([0, 0, 300 * SECOND]),
            request_id=self.request_id(),
        )
        return answer if answer.outcome.created else None

    do_create_again = do_create

    async def do_update(self, name: str) -> Any:
        chance = self.chance
        return await self.world.update(
            name,
            labels={"k": f"{chance.randint(0, 2)}"},
            metadata={"m": f'"{"y" * chance.randint(0, 300)}"'},
            metrics=MetricsDelta(requests=chance.randint(0, 1)),
            state=patches(
                session={"a": f"{chance.randint(0, 3)}"}, user={"u": f"{chance.randint(0, 3)}"}
            ),
        )

    async def do_touch(self, name: str) -> None:
        await self.world.touch(name)

    async def do_end(self, name: str) -> Any:
        status = self.chance.choice([Status.COMPLETED, Status.FAILED])
        cascade = self.chance.random() < 0.5
        return await self.world.end(name, status, reason="why", result="{}", cascade=cascade)

    async def do_reset(self, name: str) -> Any:
        scope = self.chance.choice(list(ResetScope))
        if_idle = self.chance.random() < 0.3
        return await self.world.reset(name, scope, if_idle=if_idle, reason="again")

    async def do_delete(self, name: str) -> Any:
        return await self.world.delete(name, force=self.chance.random() < 0.5)

    async def do_begin(self, name: str) -> Any:
        how = self.chance.choice([OnConflict.REJECT, OnConflict.STEAL])
        lease = self.chance.randint(5, 60) * SECOND
        answer = await self.world.begin(name, how, lease=lease, create=self.chance.random() < 0.3)
        self.tokens.append(self.world.turns.token(answer.outcome.session, answer.outcome.turn))
        return answer

    do_begin_again = do_begin

    async def do_renew(self, name: str) -> None:
        if self.tokens:
            await self.world.renew(self.chance.choice(self.tokens[-3:]))

    async def do_end_turn(self, name: str) -> Any:
        if not self.tokens:
            return None
        outcome = self.chance.choice([TurnOutcome.OK, TurnOutcome.ERROR])
        token = self.chance.choice(self.tokens[-2:])
        return await self.world.end_turn(token, outcome, "bad" if outcome.value == 2 else "")

    do_end_turn_again = do_end_turn

    async def do_append(self, name: str) -> Any:
        chance = self.chance
        condition = Precondition()
        if self.tokens and chance.random() < 0.2:
            condition = Precondition(turn_token=self.tokens[-1])
        written = [
            message(chance.choice(["", f"m-{chance.randint(0, 9)}"]), "x" * chance.randint(0, 200))
            for _ in range(chance.randint(0, 6))
        ]
        return await self.world.append(
            name,
            written,
            state=patches(app={"p": f"{chance.randint(0, 3)}"}),
            create=chance.random() < 0.3,
            condition=condition,
        )

    do_append_again = do_append
    do_append_once_more = do_append

    async def do_pop(self, name: str) -> Any:
        count = self.chance.randint(1, 4)
        return await self.world.pop(name, count, request_id=self.request_id())

    async def do_truncate(self, name: str) -> Any:
        return await self.world.truncate(name, self.chance.randint(0, 12))

    async def do_guarded(self, name: str) -> Any:
        session = await self.world.get(name)
        condition = Precondition(etag=tag(session), generation=session.generation)
        return await self.world.update(name, labels={"e": "1"}, condition=condition)

    async def do_time(self, name: str) -> None:
        self.world.clock.step(self.chance.choice([1, 5, 20, -3]))

    async def do_settle(self, name: str) -> None:
        await expiry.settle_batch(self.world.units, self.world.clock)

    async def do_purge(self, name: str) -> None:
        await self.world.store.purge(3)

    async def do_forget(self, name: str) -> None:
        await self.world.store.forget_requests(self.world.clock.time - 30 * SECOND, 5)


@pytest.mark.parametrize("seed", range(counts.count("random_logs")))
async def test_the_log_replays_to_the_sessions_there_are_whatever_one_caller_does(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    monkeypatch.setattr(work, "UNIT_ROWS", 4)
    caller = Caller(world, seed)
    for _ in range(400):
        await caller.step()
    logged = {change.revision for change in await world.log()}
    assert set(caller.changed) <= logged
    assert len(caller.done) >= 12, caller.done


@pytest.mark.parametrize("seed", range(counts.count("random_logs") // 2))
async def test_the_log_replays_to_the_sessions_there_are_whatever_many_callers_do(
    world: World, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    monkeypatch.setattr(work, "UNIT_ROWS", 4)
    callers = [Caller(world, 100 * seed + number) for number in range(8)]

    async def run(caller: Caller) -> None:
        for _ in range(80):
            await caller.step()

    await asyncio.gather(*(run(caller) for caller in callers))
    logged = {change.revision for change in await world.log()}
    assert {revision for caller in callers for revision in caller.changed} <= logged


async def test_calls_that_are_cancelled_at_any_moment_leave_the_log_true(world: World) -> None:
    chance = random.Random(5)
    callers = [Caller(world, 900 + number) for number in range(6)]

    async def run(caller: Caller) -> None:
        for _ in range(60):
            with suppress(TimeoutError):
                async with asyncio.timeout(chance.choice([0, 0.0002, 0.001, 5])):
                    await caller.step()

    await asyncio.gather(*(run(caller) for caller in callers))
    assert not world.units.line._lines
    assert (await world.create("after")).session_id == "after"
    logged = {change.revision for change in await world.log()}
    assert {revision for caller in callers for revision in caller.changed} <= logged


async def test_touches_and_renewals_are_the_only_writes_that_are_not_logged(
    world: World,
) -> None:
    session = await world.create("s-1", owner=NewOwner(lease=HOUR))
    token = await world.turn("s-1")
    before, head = await world.stored("s-1"), await world.head()
    world.clock.step(3)
    await world.touch("s-1", 2 * HOUR)
    await world.renew(token, 90 * SECOND)
    after = await world.stored("s-1")
    assert after != before
    assert without_touches(after) == without_touches(before)
    assert await world.head() == head
    assert session.uid == after.uid


async def test_what_a_change_names_is_what_differs_before_and_after(world: World) -> None:
    await world.create("s-1", labels={"a": "1"}, metadata={"m": "1"})
    await world.update("s-1", labels={"b": "1"}, remove_labels=("a",), metadata={"n": "1"})
    await world.append("s-1", [message(), message()])
    await world.pop("s-1")
    await world.reset("s-1")
    created, updated, appended, popped, reset = [c for c in await world.log() if c.uid]
    assert (created.detail.label_keys, created.detail.metadata_keys) == (("a",), ("m",))
    assert (updated.detail.label_keys, updated.detail.metadata_keys) == (("a", "b"), ("n",))
    assert (appended.detail.first_sequence, appended.detail.last_sequence) == (1, 2)
    assert (popped.detail.first_sequence, popped.detail.last_sequence) == (2, 2)
    assert (reset.detail.first_sequence, reset.detail.last_sequence) == (1, 2)
    assert {change.actor for change in (created, updated, appended, popped, reset)} == {"tester"}


async def test_the_checks_of_this_folder_find_a_log_that_lies(world: World) -> None:
    await world.create("s-1")
    await world.update("s-1", labels={"a": "1"})
    await world.end("s-1")
    log, head, stored = await world.log(), await world.head(), await world.every_session()
    check_log(log, head, stored)
    assert [change.cause for change in log][-1] is ChangeCause.ENDED
    for bad, top, sessions in (
        (log[:-1], head, stored),
        (log[:-1], head - 1, stored),
        ([log[0], *log[2:]], head, stored),
        ([*log, log[-1]], head, stored),
        (log, head, []),
    ):
        with pytest.raises(AssertionError):
            check_log(bad, top, sessions)
