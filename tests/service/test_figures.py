"""What metrics look at: overdue sessions, turns, and whoever waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from sojourn_server.domain.clock import SECOND
from sojourn_server.jobs import expiry
from sojourn_server.metrics import server
from sojourn_server.metrics.server import ServerMetrics
from sojourn_server.rpc.admission import Admission, Budgets
from sojourn_server.service.turn_line import TurnLine
from tests.service.kit import World


@asynccontextmanager
async def running(job: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(job)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def metrics_of(world: World) -> ServerMetrics:
    admission = Admission(Budgets())
    return ServerMetrics(world.store, world.services, admission, world.clock, "1")


async def test_the_lag_is_how_long_the_longest_overdue_session_is_overdue(world: World) -> None:
    metrics = metrics_of(world)
    await world.create("first", idle_timeout=10 * SECOND)
    await world.create("second", idle_timeout=15 * SECOND)
    world.clock.step(9)
    await metrics.refresh()
    assert metrics.look.expiry_lag == 0
    world.clock.step(8.5)
    await metrics.refresh()
    assert metrics.look.expiry_lag == 7.5


async def test_without_any_session_there_is_no_lag(world: World) -> None:
    metrics = metrics_of(world)
    await metrics.refresh()
    assert metrics.look.expiry_lag == 0


async def test_the_job_tells_how_many_sessions_it_has_settled(world: World) -> None:
    settled: list[int] = []
    done = asyncio.Event()

    def note(count: int) -> None:
        settled.append(count)
        if sum(settled) >= 20:
            done.set()

    for number in range(20):
        await world.create(f"s-{number}", idle_timeout=10 * SECOND)
    world.clock.step(11)
    async with running(expiry.run(world.units, world.clock, 0.05, note)):
        async with asyncio.timeout(10):
            await done.wait()
        await asyncio.sleep(0.2)
    assert sum(settled) == 20


async def test_turns_are_noted_until_their_lease_runs_out(world: World) -> None:
    for name in ("a", "b"):
        await world.create(name)
    ended = await world.turn("a")
    await world.turn("b")
    live = world.turns.live
    assert live.noted(world.clock.now()) == 2
    await world.end_turn(ended)
    assert live.noted(world.clock.now()) == 1
    world.clock.step(31)
    assert live.noted(world.clock.now()) == 0


async def test_all_who_wait_are_counted_together() -> None:
    line = TurnLine()
    places = [line.join(uid) for uid in ("a", "a", "b")]
    assert line.waiting == 3
    for place in places:
        place.leave()
    assert line.waiting == 0


async def test_a_late_event_loop_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PERIOD", 0.05)
    metrics = metrics_of(world)
    async with running(metrics.run()):
        for _ in range(5):
            await asyncio.sleep(0.03)
            time.sleep(0.15)  # noqa: ASYNC251 - this is what makes it late
        await asyncio.sleep(0.1)
    assert metrics.loop_lag.count >= 3
    assert metrics.loop_lag.total > 0.2
