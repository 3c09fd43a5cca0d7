"""How a session lives: what renews it, what is due, how it ends.

Pure steps from one `Session` to the next, each with the change it logs. Nothing
here looks at a clock; `now` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    NO_CONTENT,
    Change,
    ChangeCause,
    ChangeDetail,
    ContentId,
    EndCause,
    ExpireCause,
    Metrics,
    Session,
    Status,
    Turn,
    TurnOutcome,
)

replace = msgspec.structs.replace


class Expiry(NamedTuple):
    """When and why a session expires by itself."""

    time: Nanos
    cause: ExpireCause


def has_live_turn(session: Session, now: Nanos) -> bool:
    """Whether somebody is working on the session."""
    return session.turn is not None and session.turn.lease_time > now


def expiry(session: Session) -> Expiry | None:
    """The deadline that ends the session first; None when none does by itself.

    A turn holds off the idle deadline until it ends.
    """
    if not session.is_active:
        return None
    end = None
    if session.max_lifetime:
        end = Expiry(session.create_time + session.max_lifetime, ExpireCause.LIFETIME)
    if session.idle_timeout and session.turn is None:
        idle = Expiry(session.activity_time + session.idle_timeout, ExpireCause.IDLE)
        if end is None or idle < end:
            return idle
    return end


def due(session: Session) -> Nanos | None:
    """When something must be done about the session; None: nothing, ever."""
    if not session.is_active:
        return None
    end = expiry(session)
    if session.turn is None and session.owner is None:  # nearly always
        return None if end is None else end.time
    instants = [end.time] if end else []
    if session.turn:
        instants.append(session.turn.lease_time)
    if session.owner and session.owner.lease_time:
        instants.append(session.owner.lease_time)
    return min(instants, default=None)


def renewed(session: Session, now: Nanos) -> Session:
    """The session after an activity: its idle deadline counts from now.

    A clock that steps back takes nothing away.
    """
    return replace(session, activity_time=max(session.activity_time, now))


def edited(session: Session, now: Nanos, **fields: object) -> Session:
    """The session after a change that its etag shows."""
    return replace(
        session,
        update_time=now,
        activity_time=max(session.activity_time, now),
        version=session.version + 1,
        **fields,
    )


def counted(metrics: Metrics, *, elapsed: Nanos, failed: bool) -> Metrics:
    """The counters after one more request."""
    return replace(
        metrics,
        requests=metrics.requests + 1,
        errors=metrics.errors + failed,
        processing_time=metrics.processing_time + max(0, elapsed),
    )


def turn_begun(session: Session, now: Nanos, holder: str, lease: Nanos) -> Change:
    """Begin a turn on a session without one."""
    number = session.turns_begun + 1
    turn = Turn(
        number=number,
        holder=holder,
        begin_time=now,
        lease_time=now + lease,
        lease=lease,
        owns=False,
    )
    after = replace(renewed(session, now), update_time=now, turn=turn, turns_begun=number)
    return Change(cause=ChangeCause.TURN_BEGAN, before=session, after=after)


def turn_ended(
    session: Session,
    now: Nanos,
    outcome: TurnOutcome,
    error: ContentId = NO_CONTENT,
) -> Change:
    """End the session's turn: one more request, with the time it took.

    Args:
        session: A session with a turn.
        now: When it ended.
        outcome: How; everything but OK counts as an error.
        error: The text of the error; it takes the place of the turn's before, which the
            caller erases.
    """
    turn = session.turn
    assert turn is not None
    after = replace(
        renewed(session, now),
        update_time=now,
        turn=None,
        turn_error=error,
        metrics=counted(
            session.metrics,
            elapsed=now - turn.begin_time,
            failed=outcome is not TurnOutcome.OK,
        ),
    )
    return Change(
        cause=ChangeCause.TURN_ENDED,
        before=session,
        after=after,
        detail=ChangeDetail(turn_outcome=outcome),
    )


def ended(
    session: Session,
    now: Nanos,
    status: Status,
    cause: EndCause,
    end_note: ContentId = NO_CONTENT,
    *,
    turn_outcome: TurnOutcome = TurnOutcome.REVOKED,
) -> Iterator[Change]:
    """End a session: its live turn ends first.

    Args:
        session: An ACTIVE session.
        now: When it ends.
        status: What it ends as.
        cause: What ends it.
        end_note: What the end leaves behind.
        turn_outcome: How its turn ends, if it has one.
    """
    if session.turn:
        revoked = turn_ended(session, now, turn_outcome)
        yield revoked
        assert revoked.after is not None
        session = revoked.after
    expired = cause in (EndCause.IDLE, EndCause.LIFETIME)
    after = replace(
        session,
        status=status,
        end_time=now,
        end_cause=cause,
        end_note=end_note,
        update_time=now,
        version=session.version + 1,
    )
    yield Change(
        cause=ChangeCause.EXPIRED if expired else ChangeCause.ENDED, before=session, after=after
    )


def settled(session: Session, now: Nanos) -> Iterator[Change]:
    """All that time has brought about and that is not in the log yet, in its order.

    An abandoned turn ends at the end of its lease, and the idle deadline counts from
    there; a passed deadline expires the session; a lost owner ends it as FAILED.
    """
    while (instant := due(session)) is not None and instant <= now:
        end = expiry(session)
        if (
            session.turn
            and session.turn.lease_time == instant
            and (end is None or end.time > instant or end.cause is not ExpireCause.LIFETIME)
        ):
            changes: Iterator[Change] = iter([_turn_abandoned(session, now)])
        elif end and end.time == instant:
            cause = EndCause.IDLE if end.cause is ExpireCause.IDLE else EndCause.LIFETIME
            changes = ended(session, now, Status.EXPIRED, cause)
        else:
            changes = ended(session, now, Status.FAILED, EndCause.OWNER_LOST)
        for change in changes:
            yield change
            assert change.after is not None
            session = change.after


def _turn_abandoned(session: Session, now: Nanos) -> Change:
    """End a turn whose lease has passed: it counts as long as it was leased."""
    assert session.turn is not None
    change = turn_ended(session, session.turn.lease_time, TurnOutcome.ABANDONED)
    assert change.after is not None
    return msgspec.structs.replace(change, after=replace(change.after, update_time=now))


def reset(
    session: Session,
    now: Nanos,
    *,
    history: bool,
    state: bool,
    metrics: bool,
    reason: ContentId = NO_CONTENT,
) -> Iterator[Change]:
    """Clear parts of a session and begin its next generation.

    A live turn is revoked first. The caller erases what the parts pointed to.
    """
    if session.turn:
        revoked = turn_ended(session, now, TurnOutcome.REVOKED)
        yield revoked
        assert revoked.after is not None
        session = revoked.after
    fields: dict[str, object] = {
        "generation": session.generation + 1,
        "reset_time": now,
        "reset_reason": reason,
        "turn_error": NO_CONTENT,
    }
    if history:
        fields |= {"message_count": 0, "message_bytes": 0, "last_event_time": None}
    if state:
        fields |= {"state": NO_CONTENT}
        if session.state:
            fields |= {"state_version": session.state_version + 1}
    if metrics:
        fields |= {"metrics": Metrics()}
    after = edited(session, now, **fields)
    last = session.last_sequence if history and session.message_count else 0
    yield Change(
        cause=ChangeCause.RESET,
        before=session,
        after=after,
        detail=ChangeDetail(first_sequence=1 if last else 0, last_sequence=last),
    )
