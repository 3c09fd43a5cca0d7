"""Adding sessions up by looking at each: in short reads, one after the other.

What is added up is not of one instant: a session counts as it was when it was looked at,
once, and one that comes or goes meanwhile counts or does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

from sojourn_server.domain import filter as filters
from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import Session
from sojourn_server.domain.sums import Sums
from sojourn_server.service.units import Units
from sojourn_server.store.base import Candidates, Position, ReadTx, SessionRow

T = TypeVar("T")

SLICE: Final = 500
"""Sessions that one read looks at: some 5 ms."""
SIDE_BY_SIDE: Final = 32
"""Reads that are asked at once."""

GroupOf = Callable[[Session], str | None]
"""The group of a session; None: it counts for none."""


class _Family(NamedTuple):
    """A session whose children are still to be added."""

    uid: str
    after: Position | None
    """The last child that was added."""
    sums: Sums
    """To what."""


class Summing:
    """Adds up the sessions of an app that a filter selects.

    Args:
        units: Where to read.
        app: The app.
        which: The filter.
        now: What its relative predicates call now.
        users: Whose sessions count.
        roll_up: Whether the filter selects roots, and each counts with its descendants.
    """

    def __init__(
        self,
        units: Units,
        app: str,
        which: SessionFilter,
        now: Nanos,
        users: Users,
        roll_up: bool,
    ) -> None:
        self._units = units
        self._app = app
        self._filter = which
        self._matches = filters.matcher(which, now)
        self._users = users
        self._roll_up = roll_up
        self.looked_at = 0
        """How many sessions it has looked at."""

    async def one(self, *, user: str | None = None, label: tuple[str, str] | None = None) -> Sums:
        """What the sessions of one user, or with one label, add up to."""
        found = await self.groups(lambda _: "", user=user, label=label)
        return found.get("", Sums())

    async def groups(
        self,
        group_of: GroupOf,
        *,
        user: str | None = None,
        label: tuple[str, str] | None = None,
    ) -> dict[str, Sums]:
        """What sessions add up to, by their group: of those there must be few."""
        found: dict[str, Sums] = {}
        after: Position | None = None
        while True:
            query = self._candidates(user, label, after)
            rows, more = await self._units.read(partial(self._look, query=query))
            families: list[_Family] = []
            for row in await self._roots(rows) if self._roll_up else rows:
                group = group_of(row.session)
                if group is not None:
                    sums = found.setdefault(group, Sums())
                    _count(sums, row.session)
                    families.append(_Family(row.session.uid, None, sums))
            if self._roll_up:
                await self._add_descendants(families)
            if more is None:
                return found
            after = more

    def _candidates(
        self, user: str | None, label: tuple[str, str] | None, after: Position | None
    ) -> Candidates:
        return Candidates(
            app=self._app,
            user=user,
            status=filters.status_hint(self._filter),
            label=label or filters.label_hint(self._filter),
            parent_uid=self._filter.parent_uid or None,
            after=after,
            limit=SLICE,
        )

    async def _look(
        self, tx: ReadTx, query: Candidates
    ) -> tuple[list[SessionRow], Position | None]:
        """The sessions of one slice that the filter selects, and where the next one begins."""
        rows = await tx.candidates(query)
        self.looked_at += len(rows)
        matches, covers = self._matches, self._users.covers
        chosen = [row for row in rows if matches(row.session) and covers(row.session.user)]
        return chosen, _after(rows)

    # --- families ---

    async def _roots(self, rows: Sequence[SessionRow]) -> list[SessionRow]:
        """Those of which no parent is there; one that is another's is not."""
        parents = list({row.session.parent_uid for row in rows} - {""})
        found = await self.side_by_side(
            [partial(self._units.read, partial(self._is_there, uid=uid)) for uid in parents]
        )
        there = {uid for uid, exists in zip(parents, found, strict=True) if exists}
        return [row for row in rows if row.session.parent_uid not in there]

    async def _is_there(self, tx: ReadTx, uid: str) -> bool:
        """Whether there is such a session for the caller."""
        row = await tx.session_by_uid(self._app, uid)
        return row is not None and self._users.covers(row.session.user)

    async def _add_descendants(self, todo: list[_Family]) -> None:
        """Add all that is below some sessions, however deep or wide, each to its own sums."""
        todo = await self._parents(todo)
        while todo:
            # From the end: families are gone through in depth, so that few wait.
            batch = todo[-SIDE_BY_SIDE:]
            del todo[-SIDE_BY_SIDE:]
            slices = await self.side_by_side(
                [
                    partial(self._units.read, partial(self._children, uid=uid, after=after))
                    for uid, after, _ in batch
                ]
            )
            below: list[_Family] = []
            for (uid, _, sums), (rows, more) in zip(batch, slices, strict=True):
                if more is not None:
                    todo.append(_Family(uid, more, sums))
                for row in rows:
                    # What is below another's is no descendant: its parent is not there.
                    if self._users.covers(row.session.user):
                        _count(sums, row.session)
                        below.append(_Family(row.session.uid, None, sums))
            todo += await self._parents(below)

    async def _parents(self, families: Sequence[_Family]) -> list[_Family]:
        """Those that have children: most have none, and need not be asked one by one."""
        found: list[_Family] = []
        for start in range(0, len(families), SLICE):
            some = families[start : start + SLICE]
            uids = [each.uid for each in some]
            parents = await self._units.read(partial(self._with_children, uids=uids))
            found += [each for each in some if each.uid in parents]
        return found

    async def _with_children(self, tx: ReadTx, uids: Sequence[str]) -> Collection[str]:
        return await tx.with_children(self._app, uids)

    async def _children(
        self, tx: ReadTx, uid: str, after: Position | None
    ) -> tuple[Sequence[SessionRow], Position | None]:
        query = Candidates(app=self._app, parent_uid=uid, after=after, limit=SLICE)
        rows = await tx.candidates(query)
        self.looked_at += len(rows)
        return rows, _after(rows)

    async def side_by_side(self, asked: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
        """Ask several things at once: they share the way to the database."""
        found: list[T] = []
        for place in range(0, len(asked), SIDE_BY_SIDE):
            some = asked[place : place + SIDE_BY_SIDE]
            found += await asyncio.gather(*(each() for each in some))
        return found


def _after(rows: Sequence[SessionRow]) -> Position | None:
    """Where the next slice begins; None: this was the last."""
    if len(rows) < SLICE:
        return None
    return Position(rows[-1].create_order, rows[-1].create_order)


def _count(sums: Sums, session: Session) -> None:
    """Add a session; of the counters only as many are kept as an answer may name."""
    sums.count(session)
    sums.trim(SUM_COUNTERS_MOST)
