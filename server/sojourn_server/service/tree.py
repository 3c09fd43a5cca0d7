"""Sessions and their descendants: settling, ending and deleting them together."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Final

from sojourn_server.domain import lifecycle, thresholds
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    ChangeDetail,
    DeletedWhy,
    EndCause,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.service import staging
from sojourn_server.service.work import Work
from sojourn_server.store.base import Candidates, Position, ReadTx, SessionRow

NO_LIMIT: Final = sys.maxsize


async def first_children(tx: ReadTx, parent: Session) -> list[SessionRow]:
    """The children of a session, oldest first, at most `UNIT_ROWS`."""
    query = Candidates(app=parent.app, parent_uid=parent.uid, limit=UNIT_ROWS)
    return list(await tx.candidates(query))


async def descendants(
    tx: ReadTx,
    parent: Session,
    *,
    ended_too: bool,
    all_of_them: bool,
    through_ended: bool = False,
    limit: int = NO_LIMIT,
) -> list[SessionRow]:
    """A session's descendants, parents before children, at most `limit`.

    Args:
        tx: Where to read.
        parent: Whose descendants; itself left out.
        ended_too: Whether to name those that have ended.
        all_of_them: All, or only those that are ephemeral up to the parent.
        through_ended: Whether to look below those that have ended, too. There may be very
            many of them, so this is nothing to do while writing.
        limit: How many at the most.
    """
    status = None if ended_too or through_ended else Status.ACTIVE
    found: list[SessionRow] = []
    generation = [parent]
    while generation and len(found) < limit:
        below: list[Session] = []
        for session in generation:
            for row in await _every_child(tx, session, status):
                if all_of_them or row.session.owner is not None:
                    below.append(row.session)
                    if ended_too or row.session.is_active:
                        found.append(row)
            if len(found) >= limit:
                break
        generation = below
    return found[:limit]


async def _every_child(tx: ReadTx, parent: Session, status: Status | None) -> list[SessionRow]:
    """All children of a session, oldest first."""
    found: list[SessionRow] = []
    after: Position | None = None
    while True:
        query = Candidates(
            app=parent.app, parent_uid=parent.uid, status=status, after=after, limit=UNIT_ROWS
        )
        rows = await tx.candidates(query)
        found += rows
        if len(rows) < UNIT_ROWS:
            return found
        after = Position(rows[-1].create_order, rows[-1].create_order)


async def settle(work: Work, app: str, uid: str) -> None:
    """Write what time has brought about on one session, and on those it owns."""
    row = await work.tx.session_by_uid(app, uid)
    if row is None:
        return
    changes = thresholds.judged_over_time(
        await work.policy(app), work.now, lifecycle.settled(row.session, work.now)
    )
    await _end_dependents(work, row.session, changes)
    await work.write(row, changes)


async def write_with_dependents(
    work: Work, row: SessionRow, changes: Iterable[Change]
) -> SessionRow:
    """Write changes of a session after ending what depended on what they end.

    An ephemeral child ends with the turn that owns it, and every ephemeral child with
    its parent: children first.
    """
    written = list(changes)
    await _end_dependents(work, row.session, written)
    return await work.write(row, written)


async def end_descendants(
    work: Work, parent: Session, status: Status, cause: EndCause, *, all_of_them: bool
) -> int:
    """End descendants that are still ACTIVE, and ACTIVE up to the parent: children first.

    Returns:
        How many ended.
    """
    rows = await descendants(work.tx, parent, ended_too=False, all_of_them=all_of_them)
    for row in reversed(rows):
        await end_one(work, row, status, cause)
    return len(rows)


async def end_branch(work: Work, app: str, uid: str, status: Status) -> int:
    """End a session, because its parent ends, with all below it.

    Returns:
        How many ended.
    """
    row = await work.tx.session_by_uid(app, uid)
    if row is None:
        return 0
    # Also below one that has ended meanwhile.
    cause = EndCause.PARENT_ENDED
    count = await end_descendants(work, row.session, status, cause, all_of_them=True)
    await end_one(work, row, status, cause)
    return count + row.session.is_active


async def end_one(work: Work, row: SessionRow, status: Status, cause: EndCause) -> None:
    """End one session, after what was due on it anyway."""
    changes = list(lifecycle.settled(row.session, work.now))
    session = changes[-1].after if changes else row.session
    assert session is not None
    if session.is_active:
        changes += lifecycle.ended(session, work.now, status, cause)
    await work.write(row, changes)


async def _end_dependents(work: Work, before: Session, changes: list[Change]) -> None:
    for change in changes:
        after = change.after
        if change.cause is ChangeCause.TURN_ENDED and before.turn is not None:
            completed = change.detail.turn_outcome is TurnOutcome.OK
            await _end_owned(
                work,
                before,
                before.turn.number,
                Status.COMPLETED if completed else Status.FAILED,
            )
        if after is not None and not after.is_active:
            await end_descendants(
                work, before, after.status, EndCause.PARENT_ENDED, all_of_them=False
            )


async def _end_owned(work: Work, parent: Session, turn: int, status: Status) -> None:
    for row in await _every_child(work.tx, parent, Status.ACTIVE):
        owner = row.session.owner
        if owner is not None and owner.turn_number == turn:
            await end_descendants(
                work, row.session, status, EndCause.PARENT_ENDED, all_of_them=False
            )
            await end_one(work, row, status, EndCause.OWNER_ENDED)


async def delete_tree(work: Work, row: SessionRow, *, end_first: bool) -> tuple[int, int]:
    """Remove a session's descendants, children first, and then itself.

    Returns:
        How many sessions went, and how many messages with them.
    """
    rows = await descendants(work.tx, row.session, ended_too=True, all_of_them=True)
    messages = 0
    for descendant in reversed(rows):
        messages += await delete_one(
            work, descendant, DeletedWhy.REQUEST, end_first=True, force=True
        )
    messages += await delete_one(work, row, DeletedWhy.REQUEST, end_first=end_first)
    return len(rows) + 1, messages


async def delete_one(
    work: Work,
    row: SessionRow,
    why: DeletedWhy,
    *,
    end_first: bool,
    end_cause: EndCause = EndCause.PARENT_ENDED,
    force: bool = False,
) -> int:
    """Remove one session and erase what it held.

    Args:
        work: The unit.
        row: The session; its descendants are no concern of this.
        why: For the log.
        end_first: Whether an ACTIVE one ends before, for its watchers.
        end_cause: What it is said to have ended by.
        force: Whether it goes because it is below a session that was named.

    Returns:
        How many messages went with it.
    """
    session = row.session
    if end_first and session.is_active:
        ending = lifecycle.ended(session, work.now, Status.FAILED, end_cause)
        row = await work.write(row, ending)
    elif session.turn:
        revoked = lifecycle.turn_ended(session, work.now, TurnOutcome.REVOKED)
        row = await work.write(row, [revoked])
    await remove(work, row)
    session = row.session
    detail = ChangeDetail(deleted_why=why, force=force)
    await work.tx.log(Change(cause=ChangeCause.DELETED, before=session, detail=detail))
    return session.message_count


async def remove(work: Work, row: SessionRow) -> None:
    """Take one session out of the store with all that it holds, and log nothing."""
    tx, session = work.tx, row.session
    if session.last_sequence:
        await work.purge(row, 1, session.last_sequence, session.message_count)
    await tx.erase_held(row)
    await staging.discard_of(work, row)
    for content in (
        session.metadata,
        session.state,
        session.end_note,
        session.turn_error,
        session.reset_reason,
    ):
        await tx.erase_content(content)
    await tx.delete_session(row)
    work.freed.add(session.uid)
