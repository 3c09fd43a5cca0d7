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
from sojourn_server.domain.model import DeletedWhy, Session, Status
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
    scrubbed: bool = True
    """Whether the rest of what it erased is gone from the files."""
    rest: tuple[str, ...] = ()
    """Uids of what the last unit has to take down, children first; it may find more."""


NOTHING: Final = Taken()


class _Cascade(NamedTuple):
    """What is done to a tree."""

    act: Callable[[Work, SessionRow], Awaitable[tuple[int, int]]]
    """Takes down one session with all below it; how many sessions and messages that were."""
    status: Status | None
    """What descendants end as; None: they are deleted, ended or not."""

    @property
    def deletes(self) -> bool:
        """Whether it is a deletion."""
        return self.status is None

    def fits(self, parent: Session) -> bool:
        """Whether it can be done below this parent as it is now."""
        return self.deletes or parent.is_active or parent.status is self.status


async def end_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition, status: Status
) -> Taken:
    """End descendants of a large tree until the rest fits into one unit."""

    async def act(work: Work, row: SessionRow) -> tuple[int, int]:
        return await tree.end_branch(work, ref.app, row.session.uid, status), 0

    return await _shrink(units, call, ref, condition, _Cascade(act, status))


async def delete_all_but_a_unit(
    units: Units, call: Call, ref: SessionRef, condition: Precondition
) -> Taken:
    """Delete descendants of a large tree until the rest fits into one unit."""

    async def act(work: Work, row: SessionRow) -> tuple[int, int]:
        return await tree.delete_tree(work, row, ref.users, end_first=True)

    return await _shrink(units, call, ref, condition, _Cascade(act, None))


async def delete_trace(units: Units, call: Call, app: str, uid: str) -> None:
    """Delete what an ended session's ephemeral children left until the rest fits into a unit."""

    async def survey(tx: ReadTx) -> list[str]:
        row = await tx.session_by_uid(app, uid)
        if row is None or row.session.is_active:
            return []
        rows = await tree.descendants(
            tx, row.session, ended_too=True, all_of_them=False, limit=CASCADE_MOST
        )
        return [each.session.uid for each in rows]

    async def unit(tx: Tx) -> None:
        work = units.work(tx)
        for each in batch:
            row = await tx.session_by_uid(app, each)
            if row is not None:
                await tree.delete_one(work, row, DeletedWhy.REPLACED, end_first=False)
        freed.update(work.freed)

    while len(uids := await units.read(survey)) > UNIT_ROWS:
        for end in range(len(uids), UNIT_ROWS, -UNIT_ROWS):
            batch, freed = uids[max(0, end - UNIT_ROWS) : end][::-1], set[str]()
            await units.apply(app, call.actor, unit)
            units.line.freed(freed)


async def _shrink(
    units: Units, call: Call, ref: SessionRef, condition: Precondition, cascade: _Cascade
) -> Taken:
    async def survey(tx: ReadTx) -> list[str]:
        if call.request_id and await tx.request(request_key(call, ref.app)) is not None:
            return []
        parent = (await find(tx, ref)).session
        if not cascade.fits(parent):
            return []
        rows = await tree.descendants(
            tx,
            parent,
            ended_too=cascade.deletes,
            all_of_them=True,
            through_ended=True,
            limit=CASCADE_MOST,
        )
        if cascade.deletes:
            tree.require_own(rows, ref.users)
        return [row.session.uid for row in rows]

    done = NOTHING
    while len(uids := await units.read(survey)) > UNIT_ROWS:
        for end in range(len(uids), UNIT_ROWS, -UNIT_ROWS):
            # The deepest first: a child is never without its parent.
            batch = uids[max(0, end - UNIT_ROWS) : end][::-1]
            taken = await _take(units, call, ref, condition, cascade, batch)
            done = Taken(
                done.sessions + taken.sessions,
                done.messages + taken.messages,
                done.left_over or taken.left_over,
                done.scrubbed and taken.scrubbed,
            )
    return done._replace(rest=tuple(reversed(uids)))


async def _take(
    units: Units,
    call: Call,
    ref: SessionRef,
    condition: Precondition,
    cascade: _Cascade,
    uids: list[str],
) -> Taken:
    freed: set[str] = set()

    async def unit(tx: Tx) -> Taken:
        work = units.work(tx)
        parent = (await work.current(ref)).session
        if not cascade.fits(parent):
            return NOTHING  # The survey will find that out, and then the caller.
        if parent.is_active or cascade.deletes:
            work.check_conditions(parent, condition)
        sessions = messages = 0
        for uid in uids:
            row = await tx.session_by_uid(ref.app, uid)
            if row is not None:
                more = await cascade.act(work, row)
                sessions, messages = sessions + more[0], messages + more[1]
        freed.update(work.freed)
        return Taken(sessions, messages, work.left_over)

    applied = await units.apply(ref.app, call.actor, unit)
    units.line.freed(freed)
    left_over = applied.value.left_over
    return applied.value._replace(scrubbed=applied.scrubbed or left_over)
