"""Counts and sums within a transaction. What each method must do stands in `store.counting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import AppCounts, ListedApp
from sojourn_server.store.counting import NO_COUNTS
from sojourn_server.store.postgres.facts import ACTIVE, APPS, SESSIONS, entry_of
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.snapshot import Snapshot, cannot_be
from sojourn_server.store.postgres.tally_rows import sums_of
from sojourn_server.store.tallies import merged_sums


class CountingTx(Snapshot):
    """The part of a read transaction that counts."""

    async def app_counts(self, app: str) -> AppCounts:
        """See `Counting`."""
        entry = await self._entry(app)
        return NO_COUNTS if entry is None else entry.counts()

    async def user_active(self, app: str, user: str) -> int:
        """See `Counting`."""
        entry = await self._entry(app)
        if entry is None or cannot_be(user):
            return 0
        count: int = await self._know((ACTIVE, entry.pk, user))
        return count

    async def listed_apps(self, after: str, limit: int) -> Sequence[ListedApp]:
        """See `Counting`."""
        rows = await self._query(0, APPS, QUERIES.apps_listed, (after, limit))
        entries = [entry for row in rows if (entry := entry_of(row)) is not None]
        return [listed for entry in entries if (listed := entry.listed()) is not None]

    async def status_sums(self, app: str, user: str | None = None) -> Mapping[Status, Sums]:
        """See `Counting`."""
        entry = await self._entry(app)
        if entry is None or cannot_be(user or ""):
            return {}
        found: dict[Status, Sums] = {}
        for status in Status:
            key = (entry.pk, int(user is not None), int(status), user or "")
            given = (SUM_COUNTERS_MOST + 1, *key)
            for row in await self._query(entry.pk, SESSIONS, QUERIES.tally_get, given):
                found[status] = sums_of(row)
        return found

    async def user_sums(
        self, app: str, statuses: Sequence[Status], after: str | None, limit: int
    ) -> Sequence[tuple[str, Sums]]:
        """See `Counting`."""
        entry = await self._entry(app)
        if entry is None:
            return []
        sql = QUERIES.tallies_first if after is None else QUERIES.tallies_after
        most = SUM_COUNTERS_MOST + 1
        place = () if after is None else (after,)
        streams = [
            await self._query(entry.pk, SESSIONS, sql, (most, entry.pk, int(status), *place, limit))
            for status in statuses
        ]
        return merged_sums(
            [[(user, sums_of(tuple(row))) for user, *row in rows] for rows in streams], limit
        )

    async def label_values(
        self, app: str, key: str, after: str, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """See `Counting`."""
        entry = await self._entry(app)
        if entry is None or cannot_be(key):
            return [], None
        given = {"app_pk": entry.pk, "key": key, "after": after, "limit": limit}
        rows = await self._query(entry.pk, SESSIONS, QUERIES.label_values, given)
        values = [value for (value,) in rows]
        return values, values[-1] if len(values) == limit else None
