"""The part of the storage contract that is about the audit and about erasing users.

Its numbered sentences stand in `store.base`, with all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sojourn_server.domain.auditing import AuditEntry, AuditRange
from sojourn_server.store.records import LoggedChange, RequestKey, RequestRecord


class AuditReads(Protocol):
    """What a transaction can read for an auditor, and for whoever erases a user."""

    async def requests_after(
        self, app: str, after: RequestKey | None, limit: int
    ) -> Sequence[RequestRecord]:
        """Up to `limit` records of an app whose key comes after one, in the keys' order."""
        ...

    async def audit(self, which: AuditRange) -> Sequence[AuditEntry]:
        """Up to `limit` entries of an app's audit, the newest first (S90)."""
        ...


class ErasingWrites(Protocol):
    """What a unit writes that erases a user."""

    async def rewrite_changes(self, app: str, changes: Sequence[LoggedChange]) -> None:
        """Replace actor, sessions and detail of entries of the log (S91)."""
        ...

    async def rewrite_audit(self, app: str, entries: Sequence[AuditEntry]) -> None:
        """Replace actor, user and session_id of entries of the audit (S91)."""
        ...

    async def empty_request(self, record: RequestRecord) -> None:
        """Keep of a request only that it was made: hash and outcome are empty from now on,
        and what it held is erased (S91).
        """
        ...

    async def clear_stale(self) -> None:
        """Have every name that was removed up to now cleared from the files, by `purge` (S92).

        Makes this unit one with something left over.
        """
        ...
