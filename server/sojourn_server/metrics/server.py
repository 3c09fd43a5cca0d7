"""What is looked at once a second: the store, overdue sessions, turns, the event loop."""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple

from sojourn_server.domain.clock import SECOND, Clock
from sojourn_server.domain.tally import Spread
from sojourn_server.metrics.calls import Calls
from sojourn_server.rpc.admission import Admission
from sojourn_server.service import Services
from sojourn_server.store.base import ReadTx, Store, StoreDown
from sojourn_server.store.stats import StoreStats

PERIOD: Final = 1.0
"""Seconds between two looks."""
LAG_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Bounds for how late the event loop wakes up."""


class Look(NamedTuple):
    """What was seen at one instant."""

    turns_live: int = 0
    turns_waiting: int = 0
    calls_running: int = 0
    calls_waiting: int = 0
    refusals_held: int = 0
    store: StoreStats | None = None
    """None: the store cannot be read."""
    expiry_lag: float | None = None
    """In seconds; None: the store cannot be read."""


class ServerMetrics:
    """All that the page shows, kept on the event loop.

    Args:
        store: What is looked at.
        use_cases: Whose turns.
        admission: Lets calls in.
        clock: The store's.
        version: The server's release.
    """

    def __init__(
        self,
        store: Store,
        use_cases: Services,
        admission: Admission,
        clock: Clock,
        version: str,
    ) -> None:
        self._store = store
        self._use_cases = use_cases
        self._admission = admission
        self._clock = clock
        self.build = (version, store.kind)
        self.calls = Calls()
        self.expiry_settled = 0
        """Sessions that the expiry job has settled."""
        self.retention_removed = 0
        """Sessions that the retention job has removed."""
        self.loop_lag = Spread(LAG_SECONDS)
        self.look = Look()
        """What was seen last."""

    def note_settled(self, count: int) -> None:
        """Count what the expiry job has done."""
        self.expiry_settled += count

    def note_removed(self, count: int) -> None:
        """Count what the retention job has done."""
        self.retention_removed += count

    async def refresh(self) -> None:
        """Look once."""
        turns = self._use_cases.turns.live.noted(self._clock.now())
        waiting = self._use_cases.units.line.waiting
        admission = self._admission
        look = Look(turns, waiting, admission.running, admission.waiting, admission.held)
        try:
            stats = await self._store.stats()
            lag = await self._use_cases.units.read(_expiry_lag)
        except StoreDown:
            self.look = look
        else:
            self.look = look._replace(store=stats, expiry_lag=lag)

    async def run(self) -> None:
        """Look for ever."""
        loop = asyncio.get_running_loop()
        while True:
            await self.refresh()
            due = loop.time() + PERIOD
            await asyncio.sleep(PERIOD)
            self.loop_lag.add(max(0.0, loop.time() - due))


async def _expiry_lag(tx: ReadTx) -> float:
    """How long the longest overdue session has been overdue, in seconds."""
    due = await tx.next_due()
    return 0.0 if due is None else max(0, tx.now - due) / SECOND
