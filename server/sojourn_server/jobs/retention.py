"""Removes sessions that ended longer ago than their app's policy keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from sojourn_server.jobs.leading import wait_to_lead
from sojourn_server.service.retention import Retention
from sojourn_server.service.units import Units

INTERVAL: Final = 10.0
"""How often ended sessions are looked at, in seconds."""
PAGE: Final = 500
"""How many apps are looked up at once."""
AGAIN: Final = 360
"""After so many looks, about an hour, those that had to stay are looked at again."""


async def run(
    units: Units, note: Callable[[int], None] | None = None, interval: float | None = None
) -> None:
    """Remove ended sessions when their time has come, until cancelled.

    Args:
        units: Where.
        note: Is told how many sessions each batch has removed.
        interval: How often to look, in seconds; None: `INTERVAL`.
    """
    retention, looks = Retention(units), 0
    while True:
        await wait_to_lead(units.store, "retention")
        await sweep(retention, note)
        looks += 1
        if looks % AGAIN == 0:
            retention.forget()
        await asyncio.sleep(INTERVAL if interval is None else interval)


async def sweep(retention: Retention, note: Callable[[int], None] | None = None) -> None:
    """Look at every app once, and remove all whose time has come."""
    after = ""
    while names := await retention.units.store.apps(after, PAGE):
        for app in names:
            more = True
            while more:
                removed, more = await retention.batch(app)
                if removed and note is not None:
                    note(removed)
        after = names[-1]
