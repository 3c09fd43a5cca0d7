"""How many sessions may be ACTIVE: who gets a place, and who makes room for it.

Every new session, of whatever origin, is let in by `admit`, in the unit that inserts it.
Units of one app are serial, so no count is ever above its limit, not even between the
changes of one unit: what makes room ends before the new session is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from sojourn_server.domain import lifecycle
from sojourn_server.domain.errors import Refusal, quota_exceeded
from sojourn_server.domain.limits import SCAN_ROWS, UNIT_ROWS
from sojourn_server.domain.model import EndCause, Session, Status
from sojourn_server.domain.policy import Policy, QuotaAction
from sojourn_server.service import tree
from sojourn_server.service.work import Work
from sojourn_server.store.base import Candidates, Position, SessionRow, SortBy

END_MOST: Final = 16
"""How many sessions one new one ends at most: more than one only after a limit was lowered."""
LOOK: Final = 32
"""How many sessions are looked at together, those that are idle longest first."""


class _Quota(NamedTuple):
    """One limit."""

    name: str
    """The field of the policy."""
    limit: int
    app: str
    user: str | None
    """Whose sessions count; None: all of the app."""

    async def active(self, work: Work) -> int:
        """How many sessions are ACTIVE."""
        if self.user is None:
            return (await work.tx.app_counts(self.app)).active
        return await work.tx.user_active(self.app, self.user)


def _quotas(policy: Policy, app: str, user: str) -> Iterator[_Quota]:
    """The limits that a new session of a user meets; what one user frees, the app has free."""
    if policy.max_active_sessions_per_user is not None:
        yield _Quota("max_active_sessions_per_user", policy.max_active_sessions_per_user, app, user)
    if policy.max_active_sessions is not None:
        yield _Quota("max_active_sessions", policy.max_active_sessions, app, None)


def limits_sessions(policy: Policy) -> bool:
    """Whether the policy says how many sessions may be ACTIVE."""
    return policy.max_active_sessions is not None or policy.max_active_sessions_per_user is not None


async def admit(work: Work, app: str, user: str, parent_uid: str = "") -> None:
    """See to it that one more session may be ACTIVE.

    Args:
        work: The unit that will insert it.
        app: Its app.
        user: Its user.
        parent_uid: Its parent, which is not to make room for it; empty: none.

    Raises:
        Refusal: `QUOTA_EXCEEDED`.
        Precede, ManyOverdue: Sessions that are past their deadline hold places; they end
            first.
    """
    policy = await work.policy(app)
    for quota in _quotas(policy, app, user):
        over = await _over(work, quota, 1)
        if over > 0:
            if policy.session_quota_action is QuotaAction.REFUSE or quota.limit == 0:
                raise await _exceeded(work, quota, over)
            await _make_room(work, quota, over, parent_uid)


async def foresee(work: Work, app: str, users: Iterable[str]) -> None:
    """Refuse several new sessions at once, before anything is written for the first.

    Args:
        work: The unit that will insert them.
        app: Their app.
        users: The user of each.

    Raises:
        Refusal: `QUOTA_EXCEEDED`.
        Precede, ManyOverdue: As `admit`.
    """
    policy = await work.policy(app)
    wanted = Counter(users)
    counts = {
        quota: wanted.total() if quota.user is None else wanted[user]
        for user in wanted
        for quota in _quotas(policy, app, user)
    }
    await _settle(work, counts)
    for quota, count in counts.items():
        if policy.session_quota_action is not QuotaAction.REFUSE and count <= quota.limit:
            continue
        over = await _over(work, quota, count)
        if over > 0:
            raise await _exceeded(work, quota, over, count)


async def _settle(work: Work, counts: Mapping[_Quota, int]) -> None:
    """Let those that hold places past their deadline end first, for all limits together.

    One limit after the other would ask for a unit that comes first too often (`Precede`).

    Raises:
        Precede, ManyOverdue: There are some.
    """
    overdue: dict[str, SessionRow] = {}
    for quota, more in counts.items():
        if await quota.active(work) + more > quota.limit:
            rows = await work.overdue_in(quota.app, quota.user)
            overdue.update((row.session.uid, row) for row in rows)
    work.require_settled(*overdue.values())


async def _over(work: Work, quota: _Quota, more: int) -> int:
    """By how many the limit would be exceeded with some more; at most 0 if they fit.

    Raises:
        Precede, ManyOverdue: Some of those that are counted are past their deadline.
    """
    over = await quota.active(work) + more - quota.limit
    if over > 0:
        work.require_settled(*await work.overdue_in(quota.app, quota.user))
    return over


async def _exceeded(work: Work, quota: _Quota, over: int, more: int = 1) -> Refusal:
    """The refusal at a limit, with the time at which enough of the idle ones expire."""
    query = Candidates(
        app=quota.app,
        user=quota.user,
        status=Status.ACTIVE,
        sort_by=SortBy.ACTIVITY,
        limit=LOOK,
    )
    ends = [lifecycle.expiry(row.session) for row in await work.tx.candidates(query)]
    times = sorted(end.time for end in ends if end is not None)
    known = more <= quota.limit and over <= len(times)
    return quota_exceeded(
        quota.name,
        quota.limit,
        retry_after=max(0, times[over - 1] - work.now) if known else None,
    )


async def _make_room(work: Work, quota: _Quota, over: int, parent_uid: str) -> None:
    """End the sessions that are idle longest, with their ephemeral descendants.

    Raises:
        Refusal: `QUOTA_EXCEEDED`: too many of them are in use.
    """
    spared = work.made | await _ancestors(work, quota.app, parent_uid)
    # Once a limit was lowered there may be very many: each new session then ends some.
    enough = await quota.active(work) - min(over, END_MOST)
    async for row in _idle_longest(work, quota):
        if row.session.uid not in spared and not await _is_used(work, row.session):
            ending = lifecycle.ended(row.session, work.now, Status.EXPIRED, EndCause.QUOTA)
            await tree.write_with_dependents(work, row, ending)
            if await quota.active(work) <= enough:
                return
    raise await _exceeded(work, quota, over)


async def _idle_longest(work: Work, quota: _Quota) -> AsyncIterator[SessionRow]:
    """The ACTIVE sessions that a limit counts, of `SCAN_ROWS` at most."""
    after: Position | None = None
    for _ in range(0, SCAN_ROWS, LOOK):
        query = Candidates(
            app=quota.app,
            user=quota.user,
            status=Status.ACTIVE,
            sort_by=SortBy.ACTIVITY,
            after=after,
            limit=LOOK,
        )
        rows = await work.tx.candidates(query)
        for row in rows:
            # One may have ended with another, since the list was read.
            now = await work.tx.session_by_uid(quota.app, row.session.uid)
            if now is not None and now.session.is_active:
                yield now
        if len(rows) < LOOK:
            return
        after = Position(rows[-1].session.activity_time, rows[-1].create_order)


async def _is_used(work: Work, session: Session) -> bool:
    """Whether somebody works on a session, or on one that would end with it."""
    if lifecycle.has_live_turn(session, work.now):
        return True
    rows = await tree.descendants(
        work.tx, session, ended_too=False, all_of_them=False, limit=UNIT_ROWS
    )
    # With so many, not all are looked at; nobody would call such a session idle.
    many = len(rows) == UNIT_ROWS
    return many or any(lifecycle.has_live_turn(row.session, work.now) for row in rows)


async def _ancestors(work: Work, app: str, uid: str) -> set[str]:
    """A session and those above it."""
    found: set[str] = set()
    while uid and uid not in found:
        found.add(uid)
        row = await work.tx.session_by_uid(app, uid)
        uid = "" if row is None else row.session.parent_uid
    return found
