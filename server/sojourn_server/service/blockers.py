"""What stands in the way of an app's deletion: who uses it, and until when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from sojourn_server.domain import lifecycle
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import Session, Status
from sojourn_server.store.base import Candidates, ReadTx

LOOKED_AT: Final = 2_000
"""How many live sessions are looked at."""
NAMED: Final = 20
"""How many sessions and holders are named."""
LOG: Final = 100
"""How many revisions of the log are looked through for who called last."""


class Blockers(msgspec.Struct, frozen=True, kw_only=True):
    """Why an app cannot be deleted now."""

    count: int
    """How many sessions are live."""
    first_keys: tuple[tuple[str, str], ...] = ()
    """User and session_id of the first of them."""
    holders: tuple[str, ...] = ()
    """Who holds live turns, of those who gave a name."""
    last_actor: str = ""
    """Who called last; empty: nobody with a name."""
    latest_activity: Nanos = 0
    """When that was; 0: no session is live."""
    earliest_success: Nanos | None = None
    """When the last of them will have expired or be forced, where nobody calls any more."""


async def blockers(tx: ReadTx, app: str) -> Blockers:
    """What stands in the way of an app's deletion."""
    counts = await tx.app_counts(app)
    query = Candidates(app=app, status=Status.ACTIVE, limit=LOOKED_AT)
    sessions = [row.session for row in await tx.candidates(query)]
    turns = (each.turn for each in sessions if lifecycle.has_live_turn(each, tx.now))
    holders = sorted({turn.holder for turn in turns if turn is not None and turn.holder})
    earliest: Nanos | None = tx.now
    for each in sessions:
        end = _ends_by_itself(each)
        earliest = None if end is None or earliest is None else max(earliest, end)
    found = await tx.app(app)
    if found is not None and found.drain_deadline:
        deadline = max(tx.now, found.drain_deadline)
        earliest = deadline if earliest is None else min(earliest, deadline)
    return Blockers(
        count=counts.active,
        first_keys=tuple((each.user, each.session_id) for each in sessions[:NAMED]),
        holders=tuple(holders[:NAMED]),
        last_actor=await last_actor(tx, app),
        latest_activity=max((each.activity_time for each in sessions), default=0),
        earliest_success=earliest,
    )


async def last_actor(tx: ReadTx, app: str) -> str:
    """Who is named by the newest change with a name; what time brings about has none."""
    changes = await tx.changes(app, max(0, await tx.head(app) - LOG), LOG)
    return next((each.actor for each in reversed(changes) if each.actor), "")


def _ends_by_itself(session: Session) -> Nanos | None:
    """When a session ends if nobody calls any more; None: never."""
    ends: list[Nanos] = []
    if session.max_lifetime:
        ends.append(session.create_time + session.max_lifetime)
    if session.idle_timeout:
        since = session.activity_time
        if session.turn is not None:
            since = max(since, session.turn.lease_time)
        ends.append(since + session.idle_timeout)
    if session.owner is not None and session.owner.lease_time:
        ends.append(session.owner.lease_time)
    return min(ends, default=None)


def has_sessions(app: str, found: Blockers, now: Nanos) -> Refusal:
    """The refusal to delete an app with live sessions."""
    metadata = {
        "app": app,
        "count": str(found.count),
        "first_keys": msgspec.json.encode(found.first_keys).decode(),
        "holders": msgspec.json.encode(found.holders).decode(),
        "last_actor": found.last_actor,
        "latest_activity_time": _stamp(found.latest_activity),
    }
    retry_after = None
    if found.earliest_success is not None:
        metadata["earliest_success_time"] = _stamp(found.earliest_success)
        retry_after = max(0, found.earliest_success - now)
    return Refusal(
        Reason.APP_HAS_SESSIONS,
        f"the app has {found.count} live session{'s' * (found.count != 1)}; drain it, or use force",
        metadata,
        retry_after=retry_after,
    )


def _stamp(instant: Nanos) -> str:
    """An instant as RFC 3339 has it, to the nanosecond: a retry at that time must not be early."""
    seconds, nanos = divmod(instant, SECOND)
    whole = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{nanos:09}".rstrip("0") if nanos else ""
    return f"{whole}{fraction}Z"
