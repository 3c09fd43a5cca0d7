"""Counts and sums that the store keeps: S70 to S74 of `store.base`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from sojourn_server.domain.model import Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.records import AppCounts, ListedApp

NO_COUNTS: Final = AppCounts(0, 0)


class Counting(Protocol):
    """What a transaction answers from counts, whatever the number of sessions.

    Of counters, sums name the first `SUM_COUNTERS_MOST`, and say where they were cut.
    """

    async def app_counts(self, app: str) -> AppCounts:
        """How many sessions an app has; zeros for an app without any (S70)."""
        ...

    async def user_active(self, app: str, user: str) -> int:
        """How many ACTIVE sessions a user has (S70)."""
        ...

    async def listed_apps(self, after: str, limit: int) -> Sequence[ListedApp]:
        """Apps that were put, by name, with head and counts (S9, S70).

        Args:
            after: Only names that come after this one; empty: from the first.
            limit: The most of them.
        """
        ...

    async def status_sums(self, app: str, user: str | None = None) -> Mapping[Status, Sums]:
        """What the sessions of each status add up to (S71).

        Args:
            app: The app.
            user: Of one user; None: of all.

        Returns:
            Statuses that have sessions, and no others.
        """
        ...

    async def user_sums(
        self, app: str, statuses: Sequence[Status], after: str | None, limit: int
    ) -> Sequence[tuple[str, Sums]]:
        """What the sessions of each user add up to, by the bytes of the users (S71, S73).

        Args:
            app: The app.
            statuses: Only sessions of one of these; at least one.
            after: Only users that come after this one; None: from the first.
            limit: The most of them.

        Returns:
            Users that have such sessions, and no others.
        """
        ...

    async def label_values(
        self, app: str, key: str, after: str, limit: int
    ) -> tuple[Sequence[str], str | None]:
        """Values that a label has in an app, by their bytes (S73).

        Args:
            app: The app.
            key: The label's key.
            after: Only values that come after this one; empty: from the first.
            limit: The most of them, and the most that are looked at, whoever has them.

        Returns:
            The values, and after which to go on; None: these were the last.
        """
        ...
