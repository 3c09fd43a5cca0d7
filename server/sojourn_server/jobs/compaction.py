"""Shortens the apps' logs: what is too old, and what is too much."""

from __future__ import annotations

import asyncio
from typing import Final

from sojourn_server.domain.clock import Nanos
from sojourn_server.jobs.leading import wait_to_lead
from sojourn_server.store.base import ReadTx, Store

INTERVAL: Final = 60.0
"""How often the logs are looked at, in seconds."""
AT_ONCE: Final = 500
"""About how many changes are removed in one go: it holds up writers."""
PAUSE: Final = 0.02
"""The rest between two goes, in seconds."""
PAGE: Final = 500
"""How many apps are looked up at once."""


async def run(store: Store, keeping: Nanos, keep: int, interval: float = INTERVAL) -> None:
    """Keep the logs short, until cancelled.

    Args:
        store: Where they are; its clock says how old a revision is.
        keeping: How long a revision is kept.
        keep: How many revisions of an app are kept at most.
        interval: How often to look, in seconds.
    """
    while True:
        await wait_to_lead(store, "compaction")
        await compact(store, keeping, keep)
        await asyncio.sleep(interval)


async def compact(store: Store, keeping: Nanos, keep: int) -> None:
    """Shorten every app's log once, a little at a time."""

    async def now(tx: ReadTx) -> Nanos:
        return tx.now

    before = await store.read(now) - keeping
    after = ""
    while names := await store.apps(after, PAGE):
        for app in names:
            await _compact(store, app, before, keep)
        after = names[-1]


async def _compact(store: Store, app: str, before: Nanos, keep: int) -> None:
    while True:
        removed = await store.compact(app, before, keep, AT_ONCE)
        if removed < AT_ONCE:
            return
        await asyncio.sleep(PAUSE)
