"""Counts and sums within a transaction. What each method must do stands in `store.counting`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import AppCounts, ListedApp
from sojourn_server.store.counting import NO_COUNTS
from sojourn_server.store.rows import ORDER_BITS, ORDER_MASK, Row
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.snapshot import Snapshot, entry_of
from sojourn_server.store.sqlite.tally_rows import sums_of
from sojourn_server.store.tallies import merged_sums


class CountingTx(Snapshot):
    """The part of a read transaction that counts."""

    async def app_counts(self, app: str) -> AppCounts:
        """See `Counting`."""
        entry = self._entry(app)
        return NO_COUNTS if entry is None else entry.counts()

    async def user_active(self, app: str, user: str) -> int:
        """See `Counting`."""
        entry = self._entry(app)
        if entry is None:
            return 0
        row = self._run(QUERIES.tally_sessions, (entry.pk, 1, Status.ACTIVE, user)).fetchone()
        return 0 if row is None else int(row[0])

    async def listed_apps(self, after: str, limit: int) -> Sequence[ListedApp]:
        """See `Counting`."""
        entries = [entry_of(row) for row in self._all(QUERIES.apps_listed, (after, limit))]
        return [listed for entry in entries if (listed := entry.listed()) is not None]

    async def status_sums(self, app: str, user: str | None = None) -> Mapping[Status, Sums]:
        """See `Counting`."""
        entry = self._entry(app)
        if entry is None:
            return {}
        of_user = int(user is not None)
        found: dict[Status, Sums] = {}
        for status in Status:
            for row in self._all(QUERIES.tally_get, (entry.pk, of_user, status, user or "")):
                found[status] = self._sums(entry.pk, of_user, status, row)
        return found

    async def user_sums(
        self, app: str, statuses: Sequence[Status], after: str | None, limit: int
    ) -> Sequence[tuple[str, Sums]]:
        """See `Counting`."""
        entry = self._entry(app)
        if entry is None:
            return []
        sql = QUERIES.tallies_first if after is None else QUERIES.tallies_after
        place = () if after is None else (after,)
        streams = [
            [
                (row[0], self._sums(entry.pk, 1, status, row))
                for row in self._all(sql, (entry.pk, status, *place, limit))
            ]
            for status in statuses
        ]
        return merged_sums(streams, limit)

    async def label_values(
        self, app: str, key: str, after: str, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """See `Counting`. The table is of all apps."""
        entry = self._entry(app)
        if entry is None:
            return [], None
        low = entry.pk << ORDER_BITS
        given = {"key": key, "after": after, "limit": limit, "low": low, "high": low | ORDER_MASK}
        rows = self._all(QUERIES.label_values, given)
        values = [value for value, is_own in rows if is_own]
        return values, rows[-1][0] if len(rows) == limit else None

    def _sums(self, app_pk: int, of_user: int, status: Status, row: Row) -> Sums:
        user, *columns = row
        key = (app_pk, of_user, status, user, SUM_COUNTERS_MOST + 1)
        return sums_of(tuple(columns), self._all(QUERIES.tally_counters, key))
