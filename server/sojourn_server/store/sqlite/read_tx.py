"""Reading within a transaction. What each method must do stands in `store.base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sojourn_server.domain.auditing import AuditEntry, AuditRange
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import ContentId, Message, ScopeState
from sojourn_server.store.base import (
    Candidates,
    LoggedChange,
    MessageRange,
    Operation,
    Position,
    RequestKey,
    RequestRecord,
    SessionRow,
    Staging,
)
from sojourn_server.store.lists import ended_after, merged
from sojourn_server.store.ranges import intervals, is_removed, kept_intervals
from sojourn_server.store.rows import (
    ORDER_BITS,
    Row,
    audit_of,
    change_of,
    decode_scope_state,
    message_of,
    nonce_of,
    operation_of,
    request_of,
    staging_of,
    try_uid_blob,
    uid_blob,
)
from sojourn_server.store.sqlite import content, lists
from sojourn_server.store.sqlite.census import Place, step
from sojourn_server.store.sqlite.counting_tx import CountingTx
from sojourn_server.store.sqlite.queries import QUERIES

_NO_STATE: Final = ScopeState()
_LAST: Final = (1 << 63) - 1
"""After every revision."""


class SqliteReadTx(CountingTx):
    """All that a transaction can be asked. Runs on a connection's thread and never waits."""

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return None
        row = self._run(QUERIES.session_by_key, (entry.pk, user, session_id)).fetchone()
        return None if row is None else self._session(row)

    async def session_by_uid(self, app: str, uid: str) -> SessionRow | None:
        """See `ReadTx`."""
        raw = try_uid_blob(uid)
        if raw is None:
            return None
        row = self._run(QUERIES.session_by_uid, (raw,)).fetchone()
        if row is None:
            return None
        found = self._session(row)
        return found if found.session.app == app and found.session.uid == uid else None

    async def candidates(self, query: Candidates) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = self._entry(query.app)
        if entry is None:
            return []
        answers = [self._all(sql, given) for sql, given in lists.plan(query, entry.pk)]
        return [self._session(row) for row in merged(query, answers)]

    async def due_sessions(self, until: Nanos, limit: int) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        return [self._session(row) for row in self._all(QUERIES.session_due, (until, limit))]

    async def next_due(self) -> Nanos | None:
        """See `ReadTx`."""
        row = self._run(QUERIES.session_next_due).fetchone()
        return None if row is None else row[0]

    async def overdue_in(
        self, app: str, user: str | None, until: Nanos, limit: int
    ) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return []
        bounds = entry.pk << ORDER_BITS, (entry.pk + 1) << ORDER_BITS
        if user is None:
            rows = self._all(QUERIES.session_overdue_app, (until, *bounds, limit))
        else:
            rows = self._all(QUERIES.session_overdue_user, (until, *bounds, user, limit))
        return [self._session(row) for row in rows]

    async def ended_sessions(
        self, app: str, before: Nanos, after: Position | None, limit: int
    ) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return []
        low = ended_after(entry.pk, after)
        rows = self._all(QUERIES.session_ended, (entry.pk, *low, before, limit))
        return [self._session(row) for row in rows]

    async def messages(self, row: SessionRow, which: MessageRange) -> Sequence[Message]:
        """See `ReadTx`."""
        since = which.event_time_not_before
        found: list[Row] = []
        for first, last in intervals(row, which):
            left = which.limit - len(found)
            if left <= 0:
                break
            if since is None:
                sql = QUERIES.messages_down if which.descending else QUERIES.messages_up
                found += self._all(sql, (row.history, first, last, left))
            else:
                sql = QUERIES.messages_since_down if which.descending else QUERIES.messages_since_up
                found += self._all(sql, (row.history, first, last, since, left))
        return [message_of(each) for each in found]

    async def message_totals(self, row: SessionRow, low: int, high: int) -> tuple[int, int]:
        """See `ReadTx`."""
        count = size = 0
        for first, last in kept_intervals(low, high, row.session.removed_ranges):
            more, bytes_more = self._all(QUERIES.message_totals, (row.history, first, last))[0]
            count += more
            size += bytes_more
        return count, size

    async def message_by_id(self, row: SessionRow, message_id: str) -> Message | None:
        """See `ReadTx`."""
        found = self._run(QUERIES.message_by_id, (row.history, message_id)).fetchone()
        return None if found is None or is_removed(row, found[1]) else message_of(found)

    async def message_by_sequence(self, row: SessionRow, sequence: int) -> Message | None:
        """See `ReadTx`."""
        if is_removed(row, sequence):
            return None
        found = self._run(QUERIES.message_by_sequence, (row.history, sequence)).fetchone()
        return None if found is None else message_of(found)

    async def content(self, content_id: ContentId) -> bytes:
        """See `ReadTx`."""
        return content.get(self._run, content_id)

    async def contents(self, content_ids: Sequence[ContentId]) -> Sequence[bytes]:
        """See `ReadTx`."""
        return content.get_many(self._run, content_ids)

    async def scope_state(self, app: str, user: str | None) -> ScopeState:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return _NO_STATE
        key = (entry.pk, int(user is not None), user or "")
        row = self._run(QUERIES.scope_state_get, key).fetchone()
        return _NO_STATE if row is None else decode_scope_state(row[0])

    async def scope_states(self, app: str, users: Sequence[str | None]) -> Sequence[ScopeState]:
        """See `ReadTx`."""
        return [await self.scope_state(app, user) for user in users]

    async def user_states(
        self, app: str, after: str | None, limit: int
    ) -> Sequence[tuple[str, ScopeState]]:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return []
        if after is None:
            rows = self._all(QUERIES.user_states_first, (entry.pk, limit))
        else:
            rows = self._all(QUERIES.user_states, (entry.pk, after, limit))
        return [(user, decode_scope_state(record)) for user, record in rows]

    async def staging(self, app: str, name: str) -> Staging | None:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return None
        row = self._run(QUERIES.staging_get, (entry.pk, name)).fetchone()
        return None if row is None else staging_of(app, row)

    async def stagings_of(self, row: SessionRow) -> Sequence[Staging]:
        """See `ReadTx`."""
        rows = self._all(QUERIES.stagings_of, (row.pk,))
        return [staging_of(row.session.app, each) for each in rows]

    async def stagings_due(self, until: Nanos, limit: int) -> Sequence[Staging]:
        """See `ReadTx`."""
        rows = self._all(QUERIES.stagings_due, (until, limit))
        return [staging_of(app, tuple(each)) for app, *each in rows]

    async def request(self, key: RequestKey) -> RequestRecord | None:
        """See `ReadTx`."""
        entry = self._entry(key.app)
        if entry is None:
            return None
        row = self._run(
            QUERIES.request_get, (entry.pk, key.principal, key.method, key.request_id)
        ).fetchone()
        return None if row is None else request_of(key, row)

    async def requests_after(
        self, app: str, after: RequestKey | None, limit: int
    ) -> Sequence[RequestRecord]:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return []
        place = ("", "", "") if after is None else (after.principal, after.method, after.request_id)
        rows = self._all(QUERIES.request_after, (entry.pk, *place, limit))
        return [request_of(RequestKey(app, *row[:3]), row[3:]) for row in rows]

    async def audit(self, which: AuditRange) -> Sequence[AuditEntry]:
        """See `ReadTx`."""
        entry = self._entry(which.app)
        if entry is None:
            return []
        place = (_LAST, 0) if which.before is None else (which.before.revision, which.before.index)
        given: tuple[Any, ...]
        if which.uid:
            uid = try_uid_blob(which.uid)
            sql, given = QUERIES.audit_of_session, (uid, entry.pk, *place, which.limit)
        elif which.user is not None:
            sql, given = QUERIES.audit_of_user, (entry.pk, which.user, *place, which.limit)
        else:
            sql, given = QUERIES.audit_before, (entry.pk, *place, which.limit)
        return [audit_of(row) for row in self._all(sql, given)]

    async def changes(self, app: str, after_revision: int, limit: int) -> Sequence[LoggedChange]:
        """See `ReadTx`. A revision is never cut: the last one comes whole."""
        entry = self._entry(app)
        if entry is None:
            return []
        rows = self._all(QUERIES.changes_after, (entry.pk, after_revision, limit))
        if len(rows) == limit and rows:
            revision, index = rows[-1][:2]
            rows += self._all(QUERIES.changes_rest, (entry.pk, revision, index))
        return [change_of(row) for row in rows]

    async def nonce(self, app: str, revision: int) -> int | None:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return None
        row = self._run(QUERIES.change_nonce, (entry.pk, revision)).fetchone()
        return None if row is None else nonce_of(row[0])

    async def oldest(self, app: str) -> int:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return 0
        (revision,) = self._run(QUERIES.change_oldest, (entry.pk,)).fetchone()
        return int(revision or 0)

    # --- operations ---

    async def operation(self, app: str, operation_id: str) -> Operation | None:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return None
        row = self._run(QUERIES.operation_get, (entry.pk, operation_id)).fetchone()
        return None if row is None else operation_of(app, operation_id, row)

    async def operations(self, before: Nanos, limit: int) -> Sequence[Operation]:
        """See `ReadTx`."""
        rows = self._all(QUERIES.operations_before, (before, limit))
        return [operation_of(app, operation_id, tuple(row)) for app, operation_id, *row in rows]

    async def with_children(self, app: str, uids: Sequence[str]) -> frozenset[str]:
        """See `ReadTx`."""
        if self._entry(app) is None:
            return frozenset()
        return frozenset(
            uid
            for uid in uids
            if self._run(QUERIES.session_has_child, (uid_blob(uid),)).fetchone() is not None
        )

    async def scopes(self, app: str, limit: int) -> Sequence[str | None]:
        """See `ReadTx`."""
        entry = self._entry(app)
        if entry is None:
            return []
        rows = self._all(QUERIES.scope_names, (entry.pk, limit))
        return [user if of_user else None for of_user, user in rows]

    # --- the store's own ---

    async def pulse(self) -> None:
        """Read one row, to find out whether that works."""
        self._all(QUERIES.pulse_read, ())

    async def app_names(self, after: str, limit: int) -> list[str]:
        """Names of apps, in the order of their bytes."""
        return [name for (name,) in self._all(QUERIES.app_names, (after, limit))]

    async def census(self, place: Place, most: int) -> Place:
        """Count up to `most` more rows; see `census.step`."""
        return step(self._run, place, most)

    async def free_bytes(self) -> int:
        """How much of the database is in no use."""
        (pages,) = self._run("PRAGMA freelist_count").fetchone()
        (size,) = self._run("PRAGMA page_size").fetchone()
        return int(pages) * int(size)
