"""Finishes large removals, and forgets what is old: requests, audit, what was staged in vain."""

from __future__ import annotations

import asyncio
from typing import Final

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.jobs.leading import wait_to_lead
from sojourn_server.service.staging import remove_expired
from sojourn_server.service.units import Units
from sojourn_server.store.base import ReadTx, Store

PURGE_INTERVAL: Final = 1.0
"""How often the store is asked whether something is left to purge, in seconds."""

PURGE_PAUSE: Final = 0.02
"""The rest between two batches, in seconds: callers come first, and a reader that keeps
the files from being scrubbed is not waited for in a tight loop."""

STAGED_INTERVAL: Final = 5.0
"""How often it is looked for stagings that have expired, in seconds."""

FORGET_INTERVAL: Final = 60.0
"""How often old request records are removed, in seconds."""


async def purge(store: Store) -> None:
    """Erase what large removals left over, until cancelled."""
    while True:
        await wait_to_lead(store, "purge")
        done = await store.purge(UNIT_ROWS)
        await asyncio.sleep(PURGE_INTERVAL if done else PURGE_PAUSE)


async def unstage(units: Units) -> None:
    """Remove stagings that have expired, until cancelled: their callers have gone."""
    while True:
        await wait_to_lead(units.store, "unstage")
        removed = await remove_expired(units)
        await asyncio.sleep(PURGE_PAUSE if removed else STAGED_INTERVAL)


async def forget(store: Store, keeping: Nanos) -> None:
    """Remove request records older than `keeping`, by the store's clock, until cancelled.

    A server's own clock may be ahead, and would forget what all servers must remember.
    """

    async def now(tx: ReadTx) -> Nanos:
        return tx.now

    while True:
        await wait_to_lead(store, "forget")
        removed = await store.forget_requests(await store.read(now) - keeping, UNIT_ROWS)
        await asyncio.sleep(FORGET_INTERVAL if removed < UNIT_ROWS else 0)


async def forget_audit(store: Store, keeping: Nanos, interval: float = FORGET_INTERVAL) -> None:
    """Shorten every app's audit, a little at a time, until cancelled.

    Args:
        store: Where it is; its clock says how old an entry is.
        keeping: How long an entry is kept; 0: for ever.
        interval: How often to look, in seconds.
    """

    async def now(tx: ReadTx) -> Nanos:
        return tx.now

    while keeping:
        await wait_to_lead(store, "audit")
        before, after = await store.read(now) - keeping, ""
        while names := await store.apps(after, UNIT_ROWS):
            for app in names:
                removed = UNIT_ROWS
                while removed >= UNIT_ROWS:
                    removed = await store.forget_audit(app, before, UNIT_ROWS)
                    await asyncio.sleep(PURGE_PAUSE if removed else 0)
            after = names[-1]
        await asyncio.sleep(interval)
