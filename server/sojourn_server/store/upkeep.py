"""What jobs ask of a store beside units. The sentences stand in `store.base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sojourn_server.domain.clock import Nanos


class Upkeep(Protocol):
    """The part of a store that keeps it small, a little at a time."""

    async def leads(self, job: str) -> bool:
        """Whether this server is the one to run a job now (S55)."""
        ...

    async def apps(self, after: str, limit: int) -> Sequence[str]:
        """Names of apps, in the order of their bytes.

        Args:
            after: Only names that come after this one; empty: from the first.
            limit: The most of them.
        """
        ...

    async def purge(self, limit: int) -> bool:
        """Erase up to `limit` messages of those left over by `Tx.purge_messages`.

        When none is left, go on with what `Tx.clear_stale` asked for, a little at a time.

        Returns:
            True when nothing is left anywhere and the files are scrubbed.
        """
        ...

    async def forget_requests(self, before: Nanos, limit: int) -> int:
        """Remove request records made before an instant, with the content they hold.

        Returns:
            How many were removed.
        """
        ...

    async def forget_audit(self, app: str, before: Nanos, limit: int) -> int:
        """Remove entries of an app's audit that were made before an instant (S90).

        Returns:
            How many went; fewer than `limit`: nothing is left to remove.
        """
        ...

    async def compact(self, app: str, before: Nanos, keep: int, limit: int) -> int:
        """Shorten an app's log from its beginning (S43).

        Args:
            app: The app.
            before: Remove revisions that were made before this instant,
            keep: and those that have as many newer ones.
            limit: About how many changes to remove at most.

        Returns:
            How many changes were removed; fewer than `limit`: nothing is left to remove.
        """
        ...
