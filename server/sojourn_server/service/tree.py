"""Sessions and their descendants: settling, ending and deleting them together."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final

from sojourn_server.domain import lifecycle, thresholds
from sojourn_server.domain.access import Users
from sojourn_server.domain.errors import Reason, Refusal
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
from sojourn_server.domain.policy import Policy
from sojourn_server.service import staging
from sojourn_server.service.work import Work
from sojourn_server.store.base import Candidates, Position, ReadTx, SessionRow

NO_LIMIT: Final = sys.maxsize


class TooMany(Exception):
    """More ends with a session, or with a turn of it, than one unit may end.

    Units of their own end it ahead (`ahead.end_ahead`), and then this one comes again.

    Args:
        session: The session.
        turn: Its turn; 0: all of it.
        status: What it ends as.
    """

    def __init__(self, session: Session, turn: int, status: Status) -> None:
        super().__init__("more depends on the session than one unit may end")
        self.app = session.app
        self.uid = session.uid
        self.turn = turn
        self.status = status
        self.most = UNIT_ROWS
        """How many a unit may end."""

    def holds(self, session: Session) -> bool:
        """Whether the session is still as it was in what matters: ACTIVE, in the same turn."""
        turn = session.turn
        return session.is_active and (
            not self.turn or (turn is not None and turn.number == self.turn)
        )


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
            after: Position | None = None
            more = True
            while more and len(found) < limit:
                rows = await _children(tx, session, status, after)
                meant = [row for row in rows if all_of_them or row.session.owner is not None]
                found += [row for row in meant if ended_too or row.session.is_active]
                below += await _parents(tx, meant)
                more = len(rows) == UNIT_ROWS
                after = _place(rows)
        generation = below
    return found[:limit]


async def _every_child(tx: ReadTx, parent: Session, status: Status | None) -> list[SessionRow]:
    """All children of a session, oldest first."""
    found: list[SessionRow] = []
    while True:
        rows = await _children(tx, parent, status, _place(found))
        found += rows
        if len(rows) < UNIT_ROWS:
            return found


async def _children(
    tx: ReadTx, parent: Session, status: Status | None, after: Position | None
) -> Sequence[SessionRow]:
    """The next children of a session, oldest first, at most `UNIT_ROWS`."""
    return await tx.candidates(
        Candidates(
            app=parent.app, parent_uid=parent.uid, status=status, after=after, limit=UNIT_ROWS
        )
    )


async def _parents(tx: ReadTx, rows: Sequence[SessionRow]) -> list[Session]:
    """Those of some sessions of one app that have children: most have none."""
    if not rows:
        return []
    uids = await tx.with_children(rows[0].session.app, [row.session.uid for row in rows])
    return [row.session for row in rows if row.session.uid in uids]


def _place(rows: Sequence[SessionRow]) -> Position | None:
    """Where to go on after these."""
    return Position(rows[-1].create_order, rows[-1].create_order) if rows else None


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


async def write_counted(
    work: Work, row: SessionRow, policy: Policy, before: Session, changes: list[Change]
) -> SessionRow:
    """Write changes that may have counted errors, and what the policy's thresholds add.

    Args:
        work: The unit.
        row: The session as it is stored.
        policy: The app's.
        before: The session before the changes.
        changes: In their order.
    """
    if not policy.thresholds:  # nearly always
        return await work.write(row, changes)
    judged = thresholds.judged(policy, work.now, before, changes)
    return await write_with_dependents(work, row, judged)


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


async def end_dependents(work: Work, parent: Session, turn: int, status: Status) -> int:
    """End what depends on a session, or only on a turn of it: children first.

    Returns:
        How many ended.

    Raises:
        TooMany: They are more than a unit may end.
    """
    rows = await dependents(work.tx, parent, turn, UNIT_ROWS + 1)
    if len(rows) > UNIT_ROWS:
        raise TooMany(parent, turn, status)
    for row, cause in reversed(rows):
        await end_one(work, row, status, cause)
    return len(rows)


async def dependents(
    tx: ReadTx, parent: Session, turn: int, limit: int
) -> list[tuple[SessionRow, EndCause]]:
    """What ends with a session: all that is ephemeral up to it and still ACTIVE.

    Args:
        tx: Where to read.
        parent: The session.
        turn: Only what depends on this turn of it; 0: all.
        limit: How many at the most.

    Returns:
        Each with the cause of its end, parents before children.
    """
    if not turn:
        rows = await descendants(tx, parent, ended_too=False, all_of_them=False, limit=limit)
        return [(row, EndCause.PARENT_ENDED) for row in rows]
    children = await _every_child(tx, parent, Status.ACTIVE)
    owned = [row for row in children if (by := row.session.owner) and by.turn_number == turn]
    found = [(row, EndCause.OWNER_ENDED) for row in owned[:limit]]
    for session in await _parents(tx, owned):
        if len(found) < limit:
            found += await dependents(tx, session, 0, limit - len(found))
    return found


async def _end_dependents(work: Work, before: Session, changes: list[Change]) -> None:
    for change in changes:
        after, turn = change.after, before.turn
        if change.cause is ChangeCause.TURN_ENDED and turn is not None and turn.owns:
            completed = change.detail.turn_outcome is TurnOutcome.OK
            status = Status.COMPLETED if completed else Status.FAILED
            await end_dependents(work, before, turn.number, status)
        if after is not None and not after.is_active:
            await end_dependents(work, before, 0, after.status)


async def delete_tree(
    work: Work, row: SessionRow, users: Users, *, end_first: bool
) -> tuple[int, int]:
    """Remove a session's descendants, children first, and then itself.

    Args:
        work: The unit.
        row: The session.
        users: Whose sessions the caller may delete.
        end_first: Whether the session ends before, if it is ACTIVE.

    Returns:
        How many sessions went, and how many messages with them.

    Raises:
        Refusal: `HAS_CHILDREN`: a descendant is not the caller's to delete.
    """
    rows = await descendants(work.tx, row.session, ended_too=True, all_of_them=True)
    require_own(rows, users)
    messages = 0
    for descendant in reversed(rows):
        messages += await delete_one(
            work, descendant, DeletedWhy.REQUEST, end_first=True, force=True
        )
    messages += await delete_one(work, row, DeletedWhy.REQUEST, end_first=end_first)
    return len(rows) + 1, messages


def require_own(rows: Iterable[SessionRow], users: Users) -> None:
    """Refuse to take down a tree in which somebody else has a session.

    Raises:
        Refusal: `HAS_CHILDREN`.
    """
    if not all(users.covers(row.session.user) for row in rows):
        raise has_children((), others=True)


def has_children(named: Sequence[str], *, others: bool) -> Refusal:
    """The refusal to delete a session with children.

    Args:
        named: The ids of those that the caller may know of.
        others: Whether there are more, of whom nothing is told but that.
    """
    count = f"{len(named)}" if len(named) < UNIT_ROWS else f"{UNIT_ROWS} or more"
    message = f"the session has {count} children; delete them, or use force"
    if others:
        message = "other users' sessions are below the session"
    children = ", ".join(named[:10])
    return Refusal(Reason.HAS_CHILDREN, message, {"count": str(len(named)), "children": children})


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
