"""Trees too large for one unit: taken down in batches, children first, parent last.

Each batch is a unit of at most `UNIT_ROWS` sessions, so that none holds the writer
for long. The last one, with the parent, is the unit that the caller is answered
with; when the caller dies before it, the tree is smaller and still whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sojourn_server.domain.commands import Precondition, SessionRef
from sojourn_server.domain.limits import CASCADE_MOST, UNIT_ROWS
from sojourn_server.domain.model import Status
from sojourn_server.service import tree
from sojourn_server.service.answers import Call
from sojourn_server.service.units import Units, request_key
from sojourn_server.service.work import Work, find
from sojourn_server.store.base import ReadTx, SessionRow, Tx


class Taken(NamedTuple):
    """What earlier batches have taken down."""

    sessions: int = 0
    messages: int = 0
    left_over: bool = False
    """Whether some of it is left to be purged."""
    rest: tuple[str, ...] = ()
    """Uids of what the last unit has to take down, children first; it may find more."""


NOTHING: Final = Taken()


async def end_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition, status: Status
) -> Taken:
    """End descendants of a large tree until the rest fits into one unit."""

    async def act(work: Work, row: SessionRow) -> tuple[int, int]:
        return await tree.end_branch(work, ref.app, row.session.uid, status), 0

    return await _shrink(units, call, ref, condition, act, ended_too=False)


async def delete_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition
) -> Taken:
    """Delete descendants of a large tree until the rest fits into one unit."""

    async def act(work: Work, row: SessionRow) -> tuple[int, int]:
        return await tree.delete_tree(work, row, end_first=True)

    return await _shrink(units, call, ref, condition, act, ended_too=True)


Act = Callable[[Work, SessionRow], Awaitable[tuple[int, int]]]
"""Takes down one session with all below it; how many sessions and messages that were."""


async def _shrink(
    units: Units,
    call: Call,
    ref: SessionRef,
    condition: Precondition,
    act: Act,
    *,
    ended_too: bool,
) -> Taken:
    async def survey(tx: ReadTx) -> list[str]:
        if call.request_id and await tx.request(request_key(call, ref.app)) is not None:
            return []
        parent = (await find(tx, ref)).session
        if not (ended_too or parent.is_active):
            return []
        rows = await tree.descendants(
            tx,
            parent,
            ended_too=ended_too,
            all_of_them=True,
            through_ended=True,
            limit=CASCADE_MOST,
        )
        return [row.session.uid for row in rows]

    done = NOTHING
    while len(uids := await units.read(survey)) > UNIT_ROWS:
        for end in range(len(uids), UNIT_ROWS, -UNIT_ROWS):
            # The deepest first: a child is never without its parent.
            batch = uids[max(0, end - UNIT_ROWS) : end][::-1]
            taken = await _take(units, call, ref, condition, act, batch, ended_too)
            done = Taken(
                done.sessions + taken.sessions,
                done.messages + taken.messages,
                done.left_over or taken.left_over,
            )
    return done._replace(rest=tuple(reversed(uids)))


async def _take(
    units: Units,
    call: Call,
    ref: SessionRef,
    condition: Precondition,
    act: Act,
    uids: list[str],
    ended_too: bool,
) -> Taken:
    freed: set[str] = set()

    async def unit(tx: Tx) -> Taken:
        work = Work(tx, units.sealer, units.limits, units.defaults)
        parent = await work.current(ref)
        if not (ended_too or parent.session.is_active):
            return NOTHING  # The survey will find that out, and then the caller.
        work.check_conditions(parent.session, condition)
        sessions = messages = 0
        for uid in uids:
            row = await tx.session_by_uid(ref.app, uid)
            if row is not None:
                more = await act(work, row)
                sessions, messages = sessions + more[0], messages + more[1]
        freed.update(work.freed)
        return Taken(sessions, messages, work.left_over)

    applied = await units.store.apply(ref.app, call.actor, unit)
    units.line.freed(freed)
    return applied.value
