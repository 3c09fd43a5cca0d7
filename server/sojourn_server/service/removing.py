"""Removing messages from the end of a history."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sojourn_server.domain import lifecycle
from sojourn_server.domain.model import Change, ChangeCause, ChangeDetail, Message, Session
from sojourn_server.service.work import Work
from sojourn_server.store.base import MessageRange, SessionRow, Tx


async def remove(work: Work, row: SessionRow, messages: Sequence[Message]) -> SessionRow:
    """Take the newest messages out of a session and log it; their bodies stay."""
    tx, session = work.tx, row.session
    await tx.remove_messages(row, messages)
    change = await _removed(
        tx,
        row,
        now=work.now,
        first=messages[0].sequence,
        last=messages[-1].sequence,
        count=len(messages),
        size=sum(message.size for message in messages),
        session=session,
    )
    return await work.write(row, [change])


async def truncated(work: Work, row: SessionRow, keep: int) -> tuple[SessionRow, Change | None]:
    """Remove all messages after a sequence.

    Returns:
        The session, and the change that its caller is to write; None: there were none.
    """
    session = row.session
    last = session.last_sequence
    count, size = await work.tx.message_totals(row, keep + 1, last)
    if not count:
        return row, None
    gone = keep + 1, last
    if not await work.purge(row, *gone, count):
        # Out of sight at once; the rows follow in batches.
        hidden = (*session.removed_ranges, gone)
        session = msgspec.structs.replace(session, removed_ranges=hidden)
        row = await work.keep(row, session)
    change = await _removed(
        work.tx,
        row,
        now=work.now,
        first=gone[0],
        last=gone[1],
        count=count,
        size=size,
        session=session,
    )
    return row, change


async def _removed(
    tx: Tx,
    row: SessionRow,
    *,
    now: int,
    first: int,
    last: int,
    count: int,
    size: int,
    session: Session,
) -> Change:
    newest = await tx.messages(row, MessageRange(descending=True, limit=1))
    after = lifecycle.edited(
        session,
        now,
        message_count=session.message_count - count,
        message_bytes=session.message_bytes - size,
        last_event_time=newest[0].event_time if newest else None,
    )
    return Change(
        cause=ChangeCause.MESSAGES_REMOVED,
        before=session,
        after=after,
        detail=ChangeDetail(first_sequence=first, last_sequence=last),
    )
