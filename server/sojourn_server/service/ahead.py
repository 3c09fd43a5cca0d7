"""What must be done before a unit, and is too much to be done in it: it is done ahead.

Of what ends with a session or its turn, batches of at most `UNIT_ROWS` sessions end first,
each a unit of its own, so that none holds the writer for long. The unit that could not do it
all comes last, children first and parent last. A server that dies meanwhile leaves fewer
children and a parent as it was. Of many sessions that are overdue, each is settled by a unit
of its own, as the job of expiry would.

`Units.apply` sees to both, for every use case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sojourn_server.domain.limits import CASCADE_MOST
from sojourn_server.domain.model import EndCause
from sojourn_server.service import tree
from sojourn_server.service.tree import TooMany
from sojourn_server.service.work import ManyOverdue
from sojourn_server.store.base import Priority, ReadTx, Tx

if TYPE_CHECKING:
    from sojourn_server.service.units import Units


async def settle_ahead(units: Units, many: ManyOverdue, priority: Priority) -> None:
    """Settle what is overdue, each session in a unit of its own.

    Args:
        units: Where.
        many: What could not be settled before a unit, within its commit.
        priority: As the unit's own.
    """
    await asyncio.gather(
        *(units.settle(session.app, session.uid, priority) for session in many.sessions)
    )


async def end_ahead(units: Units, many: TooMany, actor: str, priority: Priority) -> int:
    """End what depends on a session until the rest fits into one unit.

    Args:
        units: Where.
        many: What could not end in one unit.
        actor: Who does it, for the log.
        priority: As the unit's own.

    Returns:
        How many ended.
    """

    async def survey(tx: ReadTx) -> list[tuple[str, EndCause]]:
        row = await tx.session_by_uid(many.app, many.uid)
        if row is None or not many.holds(row.session):
            return []
        rows = await tree.dependents(tx, row.session, many.turn, CASCADE_MOST)
        return [(each.session.uid, cause) for each, cause in rows]

    ended = 0
    while len(found := await units.read(survey)) > many.most:
        for end in range(len(found), many.most, -many.most):
            # The deepest first: a child is never without its parent.
            batch = found[max(0, end - many.most) : end][::-1]
            ended += await _end(units, many, actor, priority, batch)
    return ended


async def _end(
    units: Units,
    many: TooMany,
    actor: str,
    priority: Priority,
    batch: Sequence[tuple[str, EndCause]],
) -> int:
    freed: set[str] = set()

    async def unit(tx: Tx) -> int:
        work = units.work(tx)
        parent = await tx.session_by_uid(many.app, many.uid)
        if parent is None or not many.holds(parent.session):
            return 0  # The survey will find that out, and then the unit.
        ended = 0
        for uid, cause in batch:
            row = await tx.session_by_uid(many.app, uid)
            if row is not None and row.session.is_active:
                # Also what came below it since the survey.
                ended += 1 + await tree.end_descendants(
                    work, row.session, many.status, EndCause.PARENT_ENDED, all_of_them=False
                )
                await tree.end_one(work, row, many.status, cause)
        freed.update(work.freed)
        return ended

    applied = await units.apply(many.app, actor, unit, priority)
    units.line.freed(freed)
    return applied.value
