"""Trees too large for one unit: taken down in batches, children first, parent last.

Each batch is a unit of at most `UNIT_ROWS` sessions, so that none holds the writer
for long. The last one, with the parent, is the unit that the caller is answered
with; when the caller dies before it, the tree is smaller and still whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sojourn_server.domain.commands import Precondition, SessionRef
from sojourn_server.domain.limits import CASCADE_MOST, UNIT_ROWS
from sojourn_server.domain.model import DeletedWhy, EndCause, Status
from sojourn_server.service import tree
from sojourn_server.service.answers import Call
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work, find
from sojourn_server.store.base import ReadTx, RequestKey, SessionRow, Tx


async def end_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition, status: Status
) -> int:
    """End descendants of a large tree until the rest fits into one unit.

    Returns:
        How many ended.
    """

    async def act(work: Work, row: SessionRow) -> None:
        await tree.end_one(work, row, status, EndCause.PARENT_ENDED)

    return await _shrink(units, call, ref, condition, act, ended_too=False)


async def delete_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition
) -> int:
    """Delete descendants of a large tree until the rest fits into one unit.

    Returns:
        How many were deleted.
    """

    async def act(work: Work, row: SessionRow) -> None:
        await tree.delete_one(work, row, DeletedWhy.REQUEST, end_first=True)

    return await _shrink(units, call, ref, condition, act, ended_too=True)


async def _shrink(
    units: Units,
    call: Call,
    ref: SessionRef,
    condition: Precondition,
    act: Callable[[Work, SessionRow], Awaitable[None]],
    *,
    ended_too: bool,
) -> int:
    async def survey(tx: ReadTx) -> list[str]:
        key = RequestKey(ref.app, call.principal, call.method, call.request_id)
        if call.request_id and await tx.request(key) is not None:
            return []
        parent = (await find(tx, ref)).session
        rows = await tree.descendants(
            tx, parent, ended_too=ended_too, all_of_them=True, limit=CASCADE_MOST
        )
        return [row.session.uid for row in rows]

    done = 0
    while len(uids := await units.read(survey)) > UNIT_ROWS:
        # The deepest first: a child is never without its parent.
        batch = uids[-UNIT_ROWS:][::-1]
        await _take(units, call, ref, condition, act, batch)
        done += len(batch)
    return done


async def _take(
    units: Units,
    call: Call,
    ref: SessionRef,
    condition: Precondition,
    act: Callable[[Work, SessionRow], Awaitable[None]],
    uids: list[str],
) -> None:
    freed: set[str] = set()

    async def unit(tx: Tx) -> None:
        work = Work(tx, units.sealer, units.limits, units.defaults)
        parent = await work.current(ref)
        work.check_conditions(parent.session, condition)
        for uid in uids:
            row = await tx.session_by_uid(ref.app, uid)
            if row is not None:
                await act(work, row)
        freed.update(work.freed)

    await units.store.apply(ref.app, call.actor, unit)
    units.line.freed(freed)
