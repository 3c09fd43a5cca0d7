"""Takes up long work that nobody brings on: its server died, or was stopped."""

from __future__ import annotations

import asyncio
from typing import Final

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.jobs.leading import wait_to_lead
from sojourn_server.service.operations import Operations
from sojourn_server.store.base import ReadTx, Store

INTERVAL: Final = 1.0
"""How often it is looked for, in seconds."""
LEFT_ALONE: Final[Nanos] = 2 * SECOND
"""How long nobody has taken a step of an operation that is taken up."""
AT_ONCE: Final = 1_000
"""How many are brought on at the same time."""


async def run(store: Store, operations: Operations, interval: float = INTERVAL) -> None:
    """Take up what was left, until cancelled; then break off what is driven here.

    Args:
        store: Where operations are.
        operations: Brings them on.
        interval: How often to look, in seconds.
    """

    async def now(tx: ReadTx) -> Nanos:
        return tx.now

    try:
        while True:
            await wait_to_lead(store, "operations")
            await operations.take_up(await store.read(now) - LEFT_ALONE, AT_ONCE)
            await asyncio.sleep(interval)
    except asyncio.CancelledError:
        # Not where the store has failed: callers wait for what is driven here.
        await operations.close()
        raise
