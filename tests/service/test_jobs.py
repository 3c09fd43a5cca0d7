"""What the server does by itself: expiry, purging, forgetting."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from sojourn_server.domain.clock import DAY, HOUR, SECOND
from sojourn_server.domain.commands import NewOwner, NewSession
from sojourn_server.domain.model import ChangeCause, EndCause, Status
from sojourn_server.jobs import expiry, housekeeping
from sojourn_server.jobs import leading as leading_module
from sojourn_server.service import units
from sojourn_server.store.base import RequestKey
from tests.service.kit import APP, USER, World, message


@asynccontextmanager
async def running(job: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(job)
    try:
        yield
        assert not task.done(), task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Any, most: int = 2_000) -> None:
    """Wait until an asynchronous condition holds."""
    for _ in range(most):
        if await condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came to hold")


def job(world: World, interval: float = 0.05) -> Any:
    return expiry.run(world.units, world.clock, interval)


async def active(world: World) -> int:
    return sum(session.is_active for session in await world.every_session())


async def test_an_expiry_is_committed_by_the_job_soon_after_its_instant(world: World) -> None:
    await world.create("s-1", idle_timeout=10 * SECOND)
    async with running(job(world)):
        world.clock.step(9.999)
        await asyncio.sleep(0.15)
        assert (await world.stored("s-1")).status is Status.ACTIVE
        world.clock.step(0.001)
        await until(lambda: _is(world, "s-1", Status.EXPIRED))
    assert [change.cause for change in await world.log(1)] == [ChangeCause.EXPIRED]


async def _is(world: World, session_id: str, status: Status) -> bool:
    return (await world.stored(session_id)).status is status


async def test_a_nearer_deadline_that_is_written_later_is_not_missed(world: World) -> None:
    await world.create("far", idle_timeout=HOUR)
    async with running(job(world)):
        await asyncio.sleep(0.1)
        await world.create("near", idle_timeout=SECOND)
        world.clock.step(1)
        await until(lambda: _is(world, "near", Status.EXPIRED))
        assert await _is(world, "far", Status.ACTIVE)


async def test_a_thousand_sessions_that_are_due_at_one_instant_all_expire(world: World) -> None:
    world.apps.add(APP)
    wanted = [NewSession(user=USER, idle_timeout=SECOND) for _ in range(1_000)]
    await world.sessions.create_many(world.call("BatchCreateSessions"), APP, wanted)
    world.clock.step(1)
    async with running(job(world)):

        async def none_active() -> bool:
            return await active(world) == 0

        await until(none_active)
    log = await world.log(1)
    assert [change.cause for change in log] == [ChangeCause.EXPIRED] * 1_000
    assert len({change.revision for change in log}) == 1_000


async def test_abandoned_turns_and_lost_owners_are_found_too(world: World) -> None:
    parent = await world.create("p")
    token = await world.turn("p")
    await world.create("owned", parent_uid=parent.uid, owner=NewOwner(turn_token=token))
    await world.create("leased", owner=NewOwner(lease=10 * SECOND))
    world.clock.step(31)
    async with running(job(world)):
        await until(lambda: _is(world, "owned", Status.FAILED))
        await until(lambda: _is(world, "leased", Status.FAILED))
    assert (await world.stored("p")).turn is None
    assert (await world.stored("owned")).end_cause is EndCause.OWNER_ENDED
    assert (await world.stored("leased")).end_cause is EndCause.OWNER_LOST


async def test_a_session_that_many_callers_and_the_job_settle_at_once_expires_once(
    world: World,
) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(1)
    await asyncio.gather(
        *(world.get("s-1") for _ in range(20)),
        *(expiry.settle_batch(world.units, world.clock) for _ in range(5)),
    )
    assert [change.cause for change in await world.log(1)] == [ChangeCause.EXPIRED]


class Counted:
    """Counts what the job asks of its clock."""

    def __init__(self, world: World) -> None:
        self.looks = 0
        self._clock = world.clock

    def now(self) -> int:
        self.looks += 1
        return self._clock.now()


async def test_a_clock_that_stands_still_does_not_make_the_job_spin(world: World) -> None:
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(0.999_999_999)
    clock = Counted(world)
    begin = time.monotonic()
    async with running(expiry.run(world.units, clock, 1)):
        await asyncio.sleep(0.2)
    assert clock.looks <= 2 + 2 * (time.monotonic() - begin) / expiry.SHORTEST


async def test_a_clock_ahead_of_the_stores_does_not_make_the_job_spin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 3)
    for _ in range(3):
        await world.create(idle_timeout=SECOND)

    class Ahead(Counted):
        def now(self) -> int:
            return super().now() + HOUR

    clock = Ahead(world)
    begin = time.monotonic()
    async with running(expiry.run(world.units, clock, 1)):
        await asyncio.sleep(0.2)
    assert clock.looks <= 2 + 2 * (time.monotonic() - begin) / expiry.SHORTEST
    assert await active(world) == 3


async def test_a_clock_that_steps_back_expires_nothing_early_and_renews_nothing(
    world: World,
) -> None:
    session = await world.create("s-1", idle_timeout=10 * SECOND)
    world.clock.step(-100)
    assert await expiry.settle_batch(world.units, world.clock) == 0
    await world.touch("s-1")
    assert (await world.stored("s-1")).activity_time == session.activity_time
    await world.update("s-1", labels={"a": "1"})
    assert (await world.stored("s-1")).activity_time == session.activity_time
    world.clock.step(110)
    assert (await world.get("s-1")).status is Status.EXPIRED


async def test_what_a_large_removal_leaves_is_purged_by_the_job(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SCRUB_PATIENCE", 0)
    await world.create("s-1")
    await world.append("s-1", [message(f"m-{n}", "x") for n in range(1_000)])
    await world.append("s-1", [message(f"n-{n}", "x") for n in range(1_000)])
    await world.truncate("s-1", 100)

    async def done() -> bool:
        return not (await world.stored("s-1")).removed_ranges

    assert not await done()
    async with running(housekeeping.purge(world.store)):
        await until(done)
    assert len(await world.sequences("s-1")) == 100


async def test_request_records_are_kept_for_their_time_and_then_forgotten(world: World) -> None:
    await world.create("s-1")
    await world.say("s-1", "m-1", "m-2")
    await world.pop("s-1", request_id="old")
    world.clock.step(60)
    await world.pop("s-1", request_id="new")

    async def remembered(request_id: str) -> bool:
        key = RequestKey(APP, "p", "PopMessages", request_id)
        return await world.store.read(lambda tx: tx.request(key)) is not None

    world.clock.time += DAY - 60 * SECOND
    async with running(housekeeping.forget(world.store, DAY)):
        await asyncio.sleep(0.05)
    assert await remembered("old")
    world.clock.step(1)
    async with running(housekeeping.forget(world.store, DAY)):

        async def forgotten() -> bool:
            return not await remembered("old")

        await until(forgotten)
    assert await remembered("new")


async def test_jobs_rest_while_another_server_runs_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    leading: set[str] = set()
    asked: Counter[str] = Counter()

    async def leads(name: str) -> bool:
        asked[name] += 1
        return name in leading

    def has_asked(name: str, times: int) -> Any:
        async def check() -> bool:
            return asked[name] >= times

        return check

    forgets: list[int] = []

    async def forget(before: int, limit: int) -> int:
        forgets.append(before)
        return 0

    purges: list[int] = []

    async def purge(limit: int) -> bool:
        purges.append(limit)
        return True

    monkeypatch.setattr(leading_module, "POLL", 0.01)
    for name, fake in (("leads", leads), ("forget_requests", forget), ("purge", purge)):
        monkeypatch.setattr(world.store, name, fake)
    await world.create("s-1", idle_timeout=SECOND)
    world.clock.step(2)
    async with (
        running(job(world)),
        running(housekeeping.purge(world.store)),
        running(housekeeping.forget(world.store, DAY)),
    ):
        for name in ("expiry", "purge", "forget"):
            await until(has_asked(name, 3))
        assert await _is(world, "s-1", Status.ACTIVE)
        assert not forgets
        assert not purges
        leading.update(("expiry", "purge", "forget"))
        await until(lambda: _is(world, "s-1", Status.EXPIRED))

        async def have_run() -> bool:
            return bool(forgets and purges)

        await until(have_run)
