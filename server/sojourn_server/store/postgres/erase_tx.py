"""What a unit writes of the audit, and what erasing a user takes out of every table.

What each method must do stands in `store.base`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import msgspec

from sojourn_server.domain.auditing import AuditEntry, is_audited
from sojourn_server.domain.model import Change, ContentId
from sojourn_server.store.base import LoggedChange, RequestRecord
from sojourn_server.store.postgres.facts import AUDIT, LOG
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.snapshot import of_requests
from sojourn_server.store.postgres.unit_tx import UnitTx
from sojourn_server.store.rows import Row, audit_values, detail_blob, subject_uid


class ErasingTx(UnitTx):
    """The part of a unit's transaction that is about the audit and about erasing users."""

    @abstractmethod
    def _erase_all(self, content_ids: Sequence[ContentId]) -> None: ...

    @abstractmethod
    def _put_record(self, record: RequestRecord) -> None: ...

    def _audit(self, change: Change, head: int, index: int) -> None:
        """Keep for an auditor what is being logged."""
        if is_audited(change):
            rest = audit_values(change, subject_uid(change))
            values = (head, index, self._now, self._actor, *rest)
            self.pending.audit.append(values)

    async def rewrite_changes(self, app: str, changes: Sequence[LoggedChange]) -> None:
        """See `Tx`."""
        rows: list[Row] = [
            (
                each.revision,
                each.index,
                each.actor,
                None if each.before is None else self._record(each.before),
                None if each.after is None else self._record(each.after),
                detail_blob(each.detail),
            )
            for each in changes
        ]
        await self._rewrite(app, QUERIES.changes_rewrite, rows)
        self._touch(LOG)

    async def rewrite_audit(self, app: str, entries: Sequence[AuditEntry]) -> None:
        """See `Tx`."""
        rows: list[Row] = [
            (each.revision, each.index, each.actor, each.user, each.session_id) for each in entries
        ]
        await self._rewrite(app, QUERIES.audits_rename, rows)
        self._touch(AUDIT)

    async def _rewrite(self, app: str, sql: str, rows: list[Row]) -> None:
        self._check_own(app)
        self._own_row()
        if rows:
            self.pending.rewritten.append((sql, rows))
            await self._wrote()

    async def empty_request(self, record: RequestRecord) -> None:
        """See `Tx`."""
        self._check_own(record.key.app)
        self._own_row()
        self._erase_all(record.held)
        self._put_record(
            msgspec.structs.replace(record, payload_hash=b"", outcome=b"", session_pk=0, held=())
        )
        self._touch(of_requests(record.session_pk))
        await self._wrote()

    async def clear_stale(self) -> None:
        """See `Tx`. The database vacuums its files when it sees fit."""
        self.erased = self.left_over = True
