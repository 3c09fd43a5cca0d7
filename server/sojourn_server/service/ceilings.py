"""How large one session may get: requests, messages and bytes, by its app's policy."""

from __future__ import annotations

from typing import Final

from sojourn_server.domain import lifecycle
from sojourn_server.domain.errors import quota_exceeded
from sojourn_server.domain.limits import UNIT_ROWS
from sojourn_server.domain.model import Change, ChangeCause, ChangeDetail, Message, Session
from sojourn_server.domain.policy import OverflowAction, Policy
from sojourn_server.service.work import Work
from sojourn_server.store.base import MessageRange, SessionRow

PAGE: Final = 100
"""How many of the oldest messages are looked at together."""


def admit_requests(policy: Policy, session: Session, more: int) -> None:
    """Refuse requests beyond the limit. A turn that has not ended is one already.

    Raises:
        Refusal: `QUOTA_EXCEEDED`.
    """
    limit = policy.max_requests_per_session
    if limit is None or more <= 0:
        return
    if session.metrics.requests + (session.turn is not None) + more > limit:
        raise quota_exceeded("max_requests_per_session", limit)


def limits_history(policy: Policy) -> bool:
    """Whether the policy says how many messages or bytes a session may hold."""
    return policy.max_messages_per_session is not None or policy.max_bytes_per_session is not None


async def admit_messages(
    work: Work, row: SessionRow, policy: Policy, count: int, size: int
) -> tuple[SessionRow, list[Change]]:
    """See to it that so many more messages fit, before they are inserted.

    Args:
        work: The unit that will insert them.
        row: The session.
        policy: The app's.
        count: How many there will be more.
        size: Their bytes together.

    Returns:
        The session, and the change that removed its oldest messages, to be logged before
        the one that adds to them; no change if there is room.

    Raises:
        Refusal: `QUOTA_EXCEEDED`.
    """
    session = row.session
    drop, full = policy.overflow_action is OverflowAction.DROP_OLDEST, False
    for name, limit, held, more in (
        ("max_messages_per_session", policy.max_messages_per_session, session.message_count, count),
        ("max_bytes_per_session", policy.max_bytes_per_session, session.message_bytes, size),
    ):
        # What fits into no session at all is not worth dropping anything for.
        if limit is not None and held + more > limit and count:
            if not drop or more > limit:
                raise quota_exceeded(name, limit)
            full = True
    if not full:
        return row, []
    return await _drop(
        work,
        row,
        session.message_count + count - _or_all(policy.max_messages_per_session),
        session.message_bytes + size - _or_all(policy.max_bytes_per_session),
    )


def require_within(policy: Policy, count: int, size: int) -> None:
    """Refuse a history of so many messages and bytes beyond the limits; it drops none.

    Raises:
        Refusal: `QUOTA_EXCEEDED`.
    """
    for name, limit, held in (
        ("max_messages_per_session", policy.max_messages_per_session, count),
        ("max_bytes_per_session", policy.max_bytes_per_session, size),
    ):
        if limit is not None and held > limit:
            raise quota_exceeded(name, limit)


def _or_all(limit: int | None) -> int:
    return 2**63 if limit is None else limit


async def _drop(
    work: Work, row: SessionRow, count: int, size: int
) -> tuple[SessionRow, list[Change]]:
    """Remove the oldest messages, at least so many and of so many bytes, and erase them."""
    session = row.session
    dropped, bytes_dropped, first, last = 0, 0, 0, 0
    few: list[Message] = []
    while dropped < count or bytes_dropped < size:
        which = MessageRange(after_sequence=last, limit=PAGE)
        oldest = await work.tx.messages(row, which)
        assert oldest, "the session holds what it counts"
        for message in oldest:
            dropped, bytes_dropped = dropped + 1, bytes_dropped + message.size
            first, last = first or message.sequence, message.sequence
            if dropped <= UNIT_ROWS:
                few.append(message)
            if dropped >= count and bytes_dropped >= size:
                break
    if dropped <= UNIT_ROWS:
        await work.tx.remove_messages(row, few)
        for message in few:
            await work.tx.replace_content(message.body, b"")
    elif not await work.purge(row, 1, last, dropped):
        # After a limit was lowered: out of sight at once; the rows follow in batches.
        hidden = lifecycle.replace(session, removed_ranges=(*session.removed_ranges, (1, last)))
        row = await work.keep(row, hidden)
    after = lifecycle.edited(
        row.session,
        work.now,
        message_count=session.message_count - dropped,
        message_bytes=session.message_bytes - bytes_dropped,
        last_event_time=session.last_event_time if dropped < session.message_count else None,
    )
    removed = Change(
        cause=ChangeCause.MESSAGES_REMOVED,
        before=row.session,
        after=after,
        detail=ChangeDetail(first_sequence=first, last_sequence=last),
    )
    return row, [removed]
