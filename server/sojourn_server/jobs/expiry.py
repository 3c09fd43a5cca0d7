"""Writes what time brings about: expiries, abandoned turns, lost owners.

The job is driven by the nearest deadline in the store, and looks at least every
`interval`, since a nearer one may be written at any time. Callers never wait for it:
an RPC on an overdue session settles it by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from sojourn_server.domain.clock import SECOND, Clock
from sojourn_server.jobs.leading import wait_to_lead
from sojourn_server.service.units import Units
from sojourn_server.store.base import Priority, ReadTx, SessionRow

BATCH: Final = 16
"""How many sessions are settled at once. So few that callers wait 2 ms for them at most."""

SHORTEST: Final = 0.005
"""The least time between two looks, in seconds: a frozen clock must not spin the job."""


async def run(
    units: Units,
    clock: Clock | None,
    interval: float,
    note: Callable[[int], None] | None = None,
) -> None:
    """Settle overdue sessions until cancelled.

    Args:
        units: Where.
        clock: What it goes by; None: the store's own clock, as it should.
        interval: The longest time between two looks, in seconds; at most 1 keeps the
            promise that an expiry is seldom later than 1 s.
        note: Is told how many sessions each batch has settled.
    """
    while True:
        await wait_to_lead(units.store, "expiry")
        settled = await settle_batch(units, clock)
        if note is not None:
            note(settled)
        await asyncio.sleep(0 if settled == BATCH else await _until_next(units, clock, interval))


async def settle_batch(units: Units, clock: Clock | None) -> int:
    """Settle the sessions that are overdue longest, at most `BATCH` of them.

    Returns:
        How many had something due. One that finds nothing, since a call came first or
        the clock stepped back, does not count: it must not keep the job from resting.
    """
    now = None if clock is None else clock.now()

    async def overdue(tx: ReadTx) -> Sequence[SessionRow]:
        return await tx.due_sessions(tx.now if now is None else now, BATCH)

    rows = await units.read(overdue)
    applied = await asyncio.gather(
        *(units.settle(row.session.app, row.session.uid, Priority.JOB) for row in rows)
    )
    return sum(unit.changed for unit in applied)


async def _until_next(units: Units, clock: Clock | None, interval: float) -> float:
    async def nearest(tx: ReadTx) -> tuple[int | None, int]:
        return await tx.next_due(), tx.now

    instant, now = await units.read(nearest)
    if instant is None:
        return interval
    left = instant - (now if clock is None else clock.now())
    return min(interval, max(SHORTEST, left / SECOND))
