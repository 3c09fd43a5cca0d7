"""Which ended sessions go, and when.

A session goes once its app's retention has passed since its end and nothing needs it any
more: an ended ephemeral child stays with its parent, and goes with it; a session with
other children stays until these have gone. Sessions go in the order of their ends, in
units so small that callers hardly wait for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Container
from typing import Final, NamedTuple

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import DeletedWhy, Session
from sojourn_server.service import tree
from sojourn_server.service.units import Units
from sojourn_server.service.work import Defaults
from sojourn_server.store.base import Candidates, Position, Priority, ReadTx, SessionRow, Tx

BATCH: Final = 8
"""How many sessions one unit removes at most."""
MESSAGES: Final = 100
"""After so many messages a unit removes no further session."""
PAUSE: Final = 0.02
"""The rest after each unit, in seconds: callers come first."""
LOOK: Final = 100
"""How many ended sessions are looked at together."""
FEW: Final = 4
"""How many children of a session are read first: one is often enough."""


class _Plan(NamedTuple):
    """What one look at an app has found."""

    uids: list[str]
    """Sessions to remove, children before their parents."""
    place: Position | None
    """The last one that was looked at; None: there was none to look at."""
    more: bool
    """Whether others may come after it."""


class Retention:
    """Removes what has ended long enough ago, and remembers how far it has come.

    Args:
        units: Where.
    """

    def __init__(self, units: Units) -> None:
        self.units = units
        self._places: dict[str, Position] = {}

    def forget(self) -> None:
        """Look again at what had to stay: the reason may be gone."""
        self._places.clear()

    async def batch(self, app: str) -> tuple[int, bool]:
        """Look at some ended sessions of an app, and remove those whose time has come.

        Returns:
            How many were removed, and whether there may be more to do now.
        """
        plan = await self.units.read(lambda tx: self._plan(tx, app))
        removed = 0
        rest = plan.uids
        while rest:
            taken, gone = await self._remove(app, rest)
            removed, rest = removed + gone, rest[taken:]
            await asyncio.sleep(PAUSE)
        if plan.place is not None:
            self._places[app] = plan.place
        return removed, plan.more

    async def _plan(self, tx: ReadTx, app: str) -> _Plan:
        before = await _before(tx, app, self.units.defaults)
        if before is None:
            return _Plan([], None, False)
        rows = await tx.ended_sessions(app, before, self._places.get(app), LOOK)
        uids: dict[str, None] = {}
        place: Position | None = None
        for row in rows:
            if not await _stays_with_parent(tx, row.session):
                for uid in await _with_those_above(tx, row, before, uids):
                    uids.setdefault(uid)
            place = Position(row.session.update_time, row.create_order)
            if len(uids) >= LOOK:
                return _Plan(list(uids), place, True)
        return _Plan(list(uids), place, len(rows) == LOOK)

    async def _remove(self, app: str, uids: list[str]) -> tuple[int, int]:
        """Remove the first of some sessions, as many as one unit may.

        Returns:
            How many were dealt with, and how many of these are removed.
        """
        freed: set[str] = set()

        async def unit(tx: Tx) -> tuple[int, int]:
            work = self.units.work(tx)
            # Nobody waits for it: the purge job empties the files of many steps at once.
            tx.scrub_later()
            before = await _before(tx, app, self.units.defaults)
            dealt = gone = messages = 0
            for uid in uids[:BATCH]:
                dealt += 1
                row = await tx.session_by_uid(app, uid)
                # Another server, or the policy, may have been faster.
                if row is None or before is None or not _is_over(row.session, before):
                    continue
                if await tree.first_children(tx, row.session):
                    continue
                messages += await tree.delete_one(work, row, DeletedWhy.RETENTION, end_first=False)
                gone += 1
                if messages >= MESSAGES:
                    break
            freed.update(work.freed)
            return dealt, gone

        applied = await self.units.apply(app, "", unit, Priority.JOB)
        self.units.line.freed(freed)
        return applied.value


async def _before(tx: ReadTx, app: str, defaults: Defaults) -> Nanos | None:
    """Sessions that ended before this instant may go; None: none may."""
    found = await tx.app(app)
    if found is None:
        return None
    keeping = defaults.retention_of(found.policy)
    return tx.now - keeping if keeping else None


def _is_over(session: Session, before: Nanos) -> bool:
    return not session.is_active and session.end_time < before


async def _stays_with_parent(tx: ReadTx, session: Session) -> bool:
    """Whether a session is the trace of an ephemeral child whose parent is still there."""
    if session.owner is None or not session.parent_uid:
        return False
    return await tx.session_by_uid(session.app, session.parent_uid) is not None


async def _with_those_above(
    tx: ReadTx, row: SessionRow, before: Nanos, planned: Container[str]
) -> list[str]:
    """What goes with a session: what is below it, itself, and parents that waited for it.

    Nothing, if something below it has to stay.

    Args:
        tx: Where to read.
        row: An ended session.
        before: What ended before this instant may go.
        planned: Uids of what goes anyway.
    """
    found: dict[str, None] = {}
    current: SessionRow | None = row
    while current is not None:
        below = await _trace(tx, current.session, planned, found)
        if below is None:
            break
        found.update(dict.fromkeys([*below, current.session.uid]))
        parent_uid = current.session.parent_uid
        current = await tx.session_by_uid(row.session.app, parent_uid) if parent_uid else None
        if current is not None and not _is_over(current.session, before):
            break
    return list(found)


async def _trace(tx: ReadTx, top: Session, *going: Container[str]) -> list[str] | None:
    """What ephemeral children have left below a session, the leaves first.

    None, as soon as something is found that has to stay. Children mostly go in the order in
    which they came, or the other way round: the newest are looked at before all others, so
    that of many who wait for the last not all are read again with each of them.
    """
    newest = Candidates(app=top.app, parent_uid=top.uid, descending=True, limit=FEW)
    for row in await tx.candidates(newest):
        child = row.session
        if (child.owner is None or child.is_active) and not any(
            child.uid in uids for uids in going
        ):
            return None
    found: list[str] = []
    path = [(top, _children(tx, top))]
    while path:
        session, children = path[-1]
        below = await anext(children, None)
        if below is None:
            path.pop()
            if path:
                found.append(session.uid)
        elif not any(below.uid in uids for uids in going):
            if below.owner is None or below.is_active:
                return None
            path.append((below, _children(tx, below)))
    return found


async def _children(tx: ReadTx, parent: Session) -> AsyncIterator[Session]:
    """The children of a session, a few of them first."""
    limit, after = FEW, None
    while True:
        query = Candidates(app=parent.app, parent_uid=parent.uid, after=after, limit=limit)
        rows = await tx.candidates(query)
        for row in rows:
            yield row.session
        if len(rows) < limit:
            return
        limit, after = UNIT_ROWS, Position(rows[-1].create_order, rows[-1].create_order)
