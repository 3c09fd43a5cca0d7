"""Reading within a transaction. What each method must do stands in `store.base`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sojourn_server.domain.auditing import AuditEntry, AuditRange
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import NO_CONTENT, ContentId, Message, ScopeState
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
from sojourn_server.store.lists import Lists, ended_after, merged
from sojourn_server.store.postgres.counting_tx import CountingTx
from sojourn_server.store.postgres.facts import (
    AUDIT,
    CONTENT,
    KEY,
    LOG,
    MESSAGE_ID,
    MISSING,
    NO_STATE,
    OPERATION,
    OPERATIONS,
    REQUEST,
    REQUESTS,
    SCOPES,
    SEQUENCE,
    SESSIONS,
    STAGED,
    UID,
    Need,
    session_row,
)
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.snapshot import cannot_be, of_messages, of_parent, scope_need
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

_LAST: Final = (1 << 63) - 1
"""After every revision."""
_LISTS: Final = Lists(QUERIES._asdict())


class PgReadTx(CountingTx):
    """All that a transaction can be asked."""

    def _beside(self, app: str, kind: int, *names: str) -> Need | None:
        """The need of a session that memory does not hold, once the app's number is known."""
        known = self._memory.number(app)
        if known is None or self._memory.has(app, names):
            return None
        return (kind, known, *names)

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """See `ReadTx`."""
        entry = await self._entry(app, self._beside(app, KEY, user, session_id))
        if entry is None:
            return None
        need = (KEY, entry.pk, user, session_id)
        row: SessionRow | None = self._look(need)
        if row is MISSING:
            row = self._memory.row(app, entry.epoch, (user, session_id))
            if row is None:
                row = await self._know(need)
        return row

    async def session_by_uid(self, app: str, uid: str) -> SessionRow | None:
        """See `ReadTx`."""
        if try_uid_blob(uid) is None:
            return None
        entry = await self._entry(app, self._beside(app, UID, uid))
        if entry is None:
            return None
        need = (UID, entry.pk, uid)
        row: SessionRow | None = self._look(need)
        if row is MISSING:
            row = self._memory.row(app, entry.epoch, (uid,))
            if row is None:
                row = await self._know(need)
        return row

    async def candidates(self, query: Candidates) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = await self._entry(query.app)
        if entry is None or cannot_be(query.user or "", *(query.label or ())):
            return []
        domain = SESSIONS if query.parent_uid is None else of_parent(query.parent_uid)
        answers = [
            await self._query(entry.pk, domain, sql, given)
            for sql, given in _LISTS.plan(query, entry.pk)
        ]
        return [session_row(row) for row in merged(query, answers)] if answers else []

    async def due_sessions(self, until: Nanos, limit: int) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        rows = await self._query(0, SESSIONS, QUERIES.session_due, (until, limit))
        return [session_row(row) for row in rows]

    async def next_due(self) -> Nanos | None:
        """See `ReadTx`."""
        rows = await self._query(0, SESSIONS, QUERIES.session_next_due, ())
        return rows[0][0] if rows else None

    async def overdue_in(
        self, app: str, user: str | None, until: Nanos, limit: int
    ) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None or cannot_be(user or ""):
            return []
        given: tuple[Any, ...] = (until, entry.pk << ORDER_BITS, (entry.pk + 1) << ORDER_BITS)
        if user is None:
            rows = await self._query(
                entry.pk, SESSIONS, QUERIES.session_overdue_app, (*given, limit)
            )
        else:
            rows = await self._query(
                entry.pk, SESSIONS, QUERIES.session_overdue_user, (*given, user, limit)
            )
        return [session_row(row) for row in rows]

    async def ended_sessions(
        self, app: str, before: Nanos, after: Position | None, limit: int
    ) -> Sequence[SessionRow]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return []
        given = (entry.pk, *ended_after(entry.pk, after), before, limit)
        rows = await self._query(entry.pk, SESSIONS, QUERIES.session_ended, given)
        return [session_row(row) for row in rows]

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
                given: tuple[int, ...] = (first, last, left)
            else:
                sql = QUERIES.messages_since_down if which.descending else QUERIES.messages_since_up
                given = (first, last, since, left)
            found += await self._of_session(row.history, sql, given)
        return [message_of(each) for each in found]

    async def _of_session(self, pk: int, sql: str, given: Sequence[Any]) -> Sequence[Row]:
        """The rows of a query over the messages of a session."""
        app_pk = pk >> ORDER_BITS
        return await self._query(app_pk, of_messages(pk), sql, (app_pk, pk, *given))

    async def message_totals(self, row: SessionRow, low: int, high: int) -> tuple[int, int]:
        """See `ReadTx`."""
        count = size = 0
        for bounds in kept_intervals(low, high, row.session.removed_ranges):
            ((more, bytes_more),) = await self._of_session(
                row.history, QUERIES.message_totals, bounds
            )
            count += more
            size += bytes_more
        return count, size

    async def message_by_id(self, row: SessionRow, message_id: str) -> Message | None:
        """See `ReadTx`."""
        if cannot_be(message_id):
            return None
        need = (MESSAGE_ID, row.history >> ORDER_BITS, row.history, message_id)
        found: Message | None = await self._know(need)
        return None if found is None or is_removed(row, found.sequence) else found

    async def message_by_sequence(self, row: SessionRow, sequence: int) -> Message | None:
        """See `ReadTx`."""
        if is_removed(row, sequence):
            return None
        history = row.history
        found: Message | None = await self._know(
            (SEQUENCE, history >> ORDER_BITS, history, sequence)
        )
        return found

    async def content(self, content_id: ContentId) -> bytes:
        """See `ReadTx`."""
        if content_id == NO_CONTENT:
            return b""
        data: bytes = await self._know((CONTENT, content_id >> ORDER_BITS, content_id))
        return data

    async def contents(self, content_ids: Sequence[ContentId]) -> Sequence[bytes]:
        """See `ReadTx`."""
        needs = [(CONTENT, each >> ORDER_BITS, each) for each in content_ids if each]
        found = dict(zip(needs, await self._know_all(needs), strict=True))
        return [found[CONTENT, each >> ORDER_BITS, each] if each else b"" for each in content_ids]

    async def scope_state(self, app: str, user: str | None) -> ScopeState:
        """See `ReadTx`."""
        (state,) = await self.scope_states(app, [user])
        return state

    async def scope_states(self, app: str, users: Sequence[str | None]) -> Sequence[ScopeState]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return [NO_STATE] * len(users)
        needs = {user: scope_need(entry.pk, user) for user in users if not cannot_be(user or "")}
        known = dict(zip(needs, await self._know_all(list(needs.values())), strict=True))
        return [known.get(user, NO_STATE) for user in users]

    async def user_states(
        self, app: str, after: str | None, limit: int
    ) -> Sequence[tuple[str, ScopeState]]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return []
        if after is None:
            rows = await self._query(entry.pk, SCOPES, QUERIES.user_states_first, (entry.pk, limit))
        else:
            given = (entry.pk, after, limit)
            rows = await self._query(entry.pk, SCOPES, QUERIES.user_states, given)
        return [(user, decode_scope_state(record)) for user, record in rows]

    async def staging(self, app: str, name: str) -> Staging | None:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None or cannot_be(name):
            return None
        rows = await self._query(entry.pk, STAGED, QUERIES.staging_get, (entry.pk, name))
        return staging_of(app, rows[0]) if rows else None

    async def stagings_of(self, row: SessionRow) -> Sequence[Staging]:
        """See `ReadTx`."""
        app_pk = row.pk >> ORDER_BITS
        rows = await self._query(app_pk, STAGED, QUERIES.stagings_of, (app_pk, row.pk))
        return [staging_of(row.session.app, each) for each in rows]

    async def stagings_due(self, until: Nanos, limit: int) -> Sequence[Staging]:
        """See `ReadTx`."""
        rows = await self._query(0, STAGED, QUERIES.stagings_due, (until, limit))
        return [staging_of(app, tuple(each)) for app, *each in rows]

    async def request(self, key: RequestKey) -> RequestRecord | None:
        """See `ReadTx`."""
        entry = await self._entry(key.app)
        if entry is None:
            return None
        record: RequestRecord | None = await self._know((REQUEST, entry.pk, key))
        return record

    async def requests_after(
        self, app: str, after: RequestKey | None, limit: int
    ) -> Sequence[RequestRecord]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return []
        place = ("", "", "") if after is None else (after.principal, after.method, after.request_id)
        given = (entry.pk, *place, limit)
        rows = await self._query(entry.pk, REQUESTS, QUERIES.requests_after, given)
        return [request_of(RequestKey(app, *row[:3]), tuple(row[3:])) for row in rows]

    async def audit(self, which: AuditRange) -> Sequence[AuditEntry]:
        """See `ReadTx`."""
        entry = await self._entry(which.app)
        if entry is None or cannot_be(which.user or ""):
            return []
        place = (_LAST, 0) if which.before is None else (which.before.revision, which.before.index)
        given: tuple[Any, ...] = (entry.pk, *place, which.limit)
        sql = QUERIES.audit_before
        if which.uid:
            uid = try_uid_blob(which.uid)
            if uid is None:
                return []
            sql, given = QUERIES.audit_of_session, (entry.pk, uid, *place, uid, which.limit)
        elif which.user is not None:
            user = which.user
            sql, given = QUERIES.audit_of_user, (entry.pk, user, *place, user, which.limit)
        return [audit_of(row) for row in await self._query(entry.pk, AUDIT, sql, given)]

    async def changes(self, app: str, after_revision: int, limit: int) -> Sequence[LoggedChange]:
        """See `ReadTx`. A revision is never cut: the last one comes whole."""
        entry = await self._entry(app)
        if entry is None:
            return []
        rows = list(
            await self._query(
                entry.pk, LOG, QUERIES.changes_after, (entry.pk, after_revision, limit)
            )
        )
        if len(rows) == limit and rows:
            revision, index = rows[-1][:2]
            rows += await self._query(
                entry.pk, LOG, QUERIES.changes_rest, (entry.pk, revision, index)
            )
        return [change_of(row) for row in rows]

    async def nonce(self, app: str, revision: int) -> int | None:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return None
        rows = await self._query(entry.pk, LOG, QUERIES.change_nonce, (entry.pk, revision))
        return nonce_of(rows[0][0]) if rows else None

    async def oldest(self, app: str) -> int:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return 0
        rows = await self._query(entry.pk, LOG, QUERIES.change_oldest, (entry.pk,))
        return int(rows[0][0]) if rows else 0

    # --- operations ---

    async def operation(self, app: str, operation_id: str) -> Operation | None:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return None
        row = await self._know((OPERATION, entry.pk, operation_id))
        return None if row is None else operation_of(app, operation_id, row)

    async def operations(self, before: Nanos, limit: int) -> Sequence[Operation]:
        """See `ReadTx`."""
        rows = await self._query(0, OPERATIONS, QUERIES.operations_before, (before, limit))
        return [operation_of(app, operation_id, tuple(row)) for app, operation_id, *row in rows]

    async def with_children(self, app: str, uids: Sequence[str]) -> frozenset[str]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None or not uids:
            return frozenset()
        asked = {uid_blob(uid).hex(): uid for uid in uids}
        given = (",".join(asked), entry.pk)
        rows = await self._query(entry.pk, SESSIONS, QUERIES.parents, given)
        return frozenset(asked[uid] for (uid,) in rows)

    async def scopes(self, app: str, limit: int) -> Sequence[str | None]:
        """See `ReadTx`."""
        entry = await self._entry(app)
        if entry is None:
            return []
        rows = await self._query(entry.pk, SCOPES, QUERIES.scope_names, (entry.pk, limit))
        return [user if of_user else None for of_user, user in rows]
