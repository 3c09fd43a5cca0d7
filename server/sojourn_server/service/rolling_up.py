"""The counters of a session together with those of all below it."""

from __future__ import annotations

from collections import Counter

from sojourn_server.domain.access import Users
from sojourn_server.domain.limits import COUNTER_MOST, ROLL_UP_COUNTERS, ROLL_UP_MOST
from sojourn_server.domain.model import Metrics, Session
from sojourn_server.service import tree
from sojourn_server.service.answers import RolledUp
from sojourn_server.store.base import ReadTx


async def roll_up(tx: ReadTx, session: Session, users: Users) -> RolledUp:
    """Sum up a session and its descendants, ended ones too.

    Reads all of them, at most `ROLL_UP_MOST`, those nearest to the session first.

    Args:
        tx: Where to read.
        session: The session.
        users: Whose sessions the caller may know of; others count as if not there, and with
            them what is below them.
    """
    rows = await tree.descendants(
        tx, session, ended_too=True, all_of_them=True, limit=ROLL_UP_MOST + 1
    )
    everyone, uids = [session], {session.uid}
    for row in rows[:ROLL_UP_MOST]:
        if row.session.parent_uid in uids and users.covers(row.session.user):
            everyone.append(row.session)
            uids.add(row.session.uid)
    counters: Counter[str] = Counter()
    for each in everyone:
        counters.update(each.metrics.counters)
    told = sorted(counters)[:ROLL_UP_COUNTERS]
    return RolledUp(
        metrics=Metrics(
            requests=sum(each.metrics.requests for each in everyone),
            errors=sum(each.metrics.errors for each in everyone),
            processing_time=sum(each.metrics.processing_time for each in everyone),
            counters={name: _held(counters[name]) for name in told},
        ),
        sessions=len(everyone),
        active=sum(each.is_active for each in everyone),
        messages=sum(each.message_count for each in everyone),
        complete=len(rows) <= ROLL_UP_MOST and len(told) == len(counters),
    )


def _held(total: int) -> int:
    """A sum of counters, held within what 64 bits can say, as each of them is."""
    return max(-COUNTER_MOST, min(COUNTER_MOST, total))
