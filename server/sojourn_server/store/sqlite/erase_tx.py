"""What a unit reads of the audit, what erasing a user takes out of every table, and how
logs and audit are shortened.

What each method must do stands in `store.base`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from sojourn_server.domain.auditing import AuditEntry, AuditRange
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import ContentId
from sojourn_server.store.base import LoggedChange, RequestRecord
from sojourn_server.store.horizon import last_to_go
from sojourn_server.store.rows import detail_blob
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.snapshot import AppEntry
from sojourn_server.store.sqlite.unit_tx import UnitTx


class ErasingTx(UnitTx):
    """The part of a unit's transaction that is about the audit and about erasing users."""

    @abstractmethod
    def _erase(self, content_id: ContentId) -> int: ...

    async def audit(self, which: AuditRange) -> Sequence[AuditEntry]:
        """See `ReadTx`."""
        self._bring()
        return await super().audit(which)

    async def rewrite_changes(self, app: str, changes: Sequence[LoggedChange]) -> None:
        """See `Tx`."""
        own = self._own_entry(app)
        for change in changes:
            names = (
                change.actor,
                None if change.before is None else self._record(change.before),
                None if change.after is None else self._record(change.after),
                detail_blob(change.detail),
            )
            self._write(QUERIES.change_rewrite, (*names, own.pk, change.revision, change.index))

    async def rewrite_audit(self, app: str, entries: Sequence[AuditEntry]) -> None:
        """See `Tx`."""
        own = self._own_entry(app)
        self._bring()
        for entry in entries:
            names = (entry.actor, entry.user, entry.session_id)
            self._write(QUERIES.audit_rename, (*names, own.pk, entry.revision, entry.index))

    async def empty_request(self, record: RequestRecord) -> None:
        """See `Tx`."""
        own, key = self._own_entry(record.key.app), record.key
        self.erased = True
        for content_id in record.held:
            self._erase(content_id)
        place = (own.pk, key.principal, key.method, key.request_id)
        empty = (b"", record.revision, b"", record.create_time, 0, None)
        self._write(QUERIES.request_put, (*place, *empty))

    async def clear_stale(self) -> None:
        """See `Tx`."""
        self.erased = self.left_over = True
        self._write(QUERIES.stale_insert, ())

    async def forget_audit(self, app: str, before: Nanos, limit: int) -> int:
        """Remove the oldest entries of an app's audit; how many."""
        entry = self._entry(app)
        if entry is None:
            return 0
        self._bring()
        rows = self._all(QUERIES.audit_times, (entry.pk, limit))
        last = last_to_go(rows, entry.head + 1, before, entry.head + 1)
        if not last:
            return 0
        return self._write(QUERIES.audit_forget, (entry.pk, last)).rowcount

    async def compact(self, app: str, before: Nanos, keep: int, limit: int) -> int:
        """Remove the oldest revisions of a log, about `limit` changes; how many."""
        entry = self._entry(app)
        if entry is None:
            return 0
        rows = self._all(QUERIES.change_times, (entry.pk, limit))
        last = last_to_go(rows, entry.head, before, keep)
        if not last:
            return 0
        count = self._write(QUERIES.change_compact, (entry.pk, last)).rowcount
        self.removed.changes += count
        return count

    async def stale_last(self) -> int:
        """The newest wish that stale copies be cleared; 0: there is none."""
        (last,) = self._run(QUERIES.stale_last).fetchone()
        return int(last or 0)

    async def stale_done(self, last: int) -> None:
        """Such wishes are fulfilled."""
        self._write(QUERIES.stale_delete, (last,))

    def _own_entry(self, app: str) -> AppEntry:
        own = self._own_row()
        if self._entry(app) is not own:
            raise ValueError("a unit writes its own app only")
        return own
