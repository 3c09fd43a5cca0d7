"""The part of the storage contract that long work needs; `store.base` has its sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sojourn_server.domain.clock import Nanos
from sojourn_server.store.records import Operation, RequestKey


class OperationReads(Protocol):
    """What a transaction can be asked about long work, and by it."""

    async def operation(self, app: str, operation_id: str) -> Operation | None:
        """An operation as it was last put (S80), or None."""
        ...

    async def operations(self, before: Nanos, limit: int) -> Sequence[Operation]:
        """Operations of all apps, put last before an instant, the longest ago first (S80)."""
        ...

    async def with_children(self, app: str, uids: Sequence[str]) -> frozenset[str]:
        """Which of some sessions have a child, ended or not (S82)."""
        ...

    async def scopes(self, app: str, limit: int) -> Sequence[str | None]:
        """Whose state there is (S81): users, and None for the app; at most `limit`."""
        ...


class OperationWrites(Protocol):
    """What long work does to an app."""

    async def put_operation(self, operation: Operation) -> None:
        """Keep an operation of the unit's app, in the place of an earlier one (S80)."""
        ...

    async def drop_operation(self, app: str, operation_id: str) -> None:
        """Forget an operation. Its content must be erased before."""
        ...

    async def drop_scope_state(self, app: str, user: str | None) -> None:
        """Remove a state (S81). Its content must be erased before."""
        ...

    async def empty_requests(
        self, app: str, after: RequestKey | None, limit: int, spare: str
    ) -> RequestKey | None:
        """Take outcome and content from request records, and keep the records (S83).

        Args:
            app: Whose.
            after: Where to go on from; None: from the first.
            limit: The most of them.
            spare: Leave those of this method, and of methods that begin with it, as they are.

        Returns:
            Where to go on from; None when this was the last.
        """
        ...

    def scrub_later(self) -> None:
        """Let the answer go before what the unit erases is scrubbed (S84)."""
        ...
