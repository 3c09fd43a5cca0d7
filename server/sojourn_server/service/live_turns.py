"""The turns that were begun or renewed through this process and may still be live.

A drain waits for them: whoever is working on a session should be able to finish
through the server that it began with.
"""

from __future__ import annotations

from typing import NamedTuple

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.lifecycle import has_live_turn
from sojourn_server.domain.model import Session
from sojourn_server.service.units import Units
from sojourn_server.store.base import ReadTx


class _Lease(NamedTuple):
    app: str
    time: Nanos
    """When it runs out."""


class LiveTurns:
    """Remembers leases until they are over, the one that was renewed last at the end."""

    def __init__(self, units: Units) -> None:
        self._units = units
        self._leases: dict[str, _Lease] = {}

    def note(self, session: Session, now: Nanos) -> None:
        """Remember a session with a turn; forget the oldest whose leases have passed."""
        if session.turn is not None:
            known = self._leases.pop(session.uid, None)
            # The repeat of a begin tells of the lease as it was then.
            time = max(session.turn.lease_time, known.time if known else 0)
            self._leases[session.uid] = _Lease(session.app, time)
        while self._leases:
            uid = next(iter(self._leases))
            if self._leases[uid].time > now:
                break
            del self._leases[uid]

    def forget(self, uid: str) -> None:
        """Forget a session whose turn is over."""
        self._leases.pop(uid, None)

    def noted(self, now: Nanos) -> int:
        """How many of them have a lease that has not run out.

        Cheap, and at least as many as are live: a turn may have ended in another way.
        """
        return sum(lease.time > now for lease in self._leases.values())

    async def count(self) -> int:
        """How many of them are live, as the store knows them."""
        # A copy: the read may run in another thread, while turns come and go in this one.
        leases = dict(self._leases)

        async def live(tx: ReadTx) -> list[str]:
            found = []
            for uid, lease in leases.items():
                row = await tx.session_by_uid(lease.app, uid)
                if row is not None and has_live_turn(row.session, tx.now):
                    found.append(uid)
            return found

        if not leases:
            return 0
        return len(await self._units.read(live))
