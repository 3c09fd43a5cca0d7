"""Writing within a unit's transaction. What each method must do stands in `store.base`.

A unit reads what it and those before it have written from the facts, and leaves its own
writes in a `Pending`; undoing it needs nothing but forgetting both. Only a query over
many rows may need the writes in the database before it; the driver then marks the place
that a failing unit is taken back to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    NO_CONTENT,
    App,
    Change,
    ContentId,
    Message,
    ScopeState,
    Session,
)
from sojourn_server.store.base import (
    KeyTaken,
    Operation,
    RequestKey,
    RequestRecord,
    SessionRow,
    Staging,
)
from sojourn_server.store.postgres.erase_tx import ErasingTx
from sojourn_server.store.postgres.facts import (
    AUDIT,
    CONTENT,
    KEY,
    LOG,
    MESSAGE_ID,
    MISSING,
    NO_STATE,
    NOTES,
    OPERATION,
    OPERATIONS,
    PK,
    REQUEST,
    REQUESTS,
    SCOPES,
    SEQUENCE,
    SESSIONS,
    STAGED,
    UID,
    Domain,
    Need,
    needs_of,
)
from sojourn_server.store.postgres.pending import SessionWrite
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.snapshot import (
    of_messages,
    of_parent,
    of_requests,
    scope_need,
)
from sojourn_server.store.ranges import is_removed, kept_intervals
from sojourn_server.store.rows import (
    ORDER_BITS,
    Row,
    detail_blob,
    encode,
    message_of,
    nonce_column,
    operation_values,
    request_of,
    subject_uid,
)

_NONCE_BYTES: Final = 8


class PgTx(ErasingTx):
    """One run of one unit. What each method must do stands in `store.base`."""

    # --- apps and sessions ---

    async def put_app(self, app: App) -> None:
        """See `Tx`."""
        self._check_own(app.app)
        own = self._own_row()
        own.app, own.record = app, encode(app)

    async def insert_session(self, session: Session, due: Nanos | None) -> SessionRow:
        """See `Tx`."""
        self._check_own(session.app)
        own = self._own_row()
        await self._require_free(session, 0)
        own.created += 1
        row = SessionRow(own.pk << ORDER_BITS | own.created, own.created, session)
        self.pending.inserted[row.pk] = SessionWrite(row, due, self._record(session))
        for key, value in session.labels.items():
            self.pending.labels[key, value, row.pk] = True
        self.added.sessions += 1
        self._moves(None, session)
        self._note(row, SESSIONS, of_parent(session.parent_uid))
        await self._wrote()
        return row

    async def _require_free(self, session: Session, pk: int) -> None:
        """See to it that no other session has this key or this uid.

        Whether one in the database has, which this unit has not looked at, is left to the
        unique indexes: where they refuse, or the unit fails, the batch runs again, carefully.

        Raises:
            KeyTaken: One has.
        """
        app_pk = self._own_row().pk
        for need in (
            (KEY, app_pk, session.user, session.session_id),
            (UID, app_pk, session.uid),
        ):
            row = await self._know(need) if self.careful else self._look(need)
            self.unsure |= row is MISSING
            if row is not MISSING and row is not None and row.pk != pk:
                raise KeyTaken("a session with this key exists")

    async def update_session(
        self, row: SessionRow, session: Session, due: Nanos | None
    ) -> SessionRow:
        """See `Tx`."""
        self._check_own(session.app)
        pk, old = row.pk, row.session
        own = self._own_row()
        known = self._look((PK, own.pk, pk))
        if known is MISSING:
            known = self._memory.row(self._name, own.epoch, (old.uid,))
            if known is None:
                known = await self._know((PK, own.pk, pk))
        if known is None:
            raise LookupError("the session to update is gone")
        if (old.user, old.session_id, old.uid) != (session.user, session.session_id, session.uid):
            await self._require_free(session, pk)
        self._forget(row)
        new = SessionRow(pk, row.create_order, session)
        self.pending.update(SessionWrite(new, due, self._record(session)))
        self._moves(old, session)
        if old.labels != session.labels:
            for key, value in old.labels.items() - session.labels.items():
                self.pending.labels[key, value, pk] = False
            for key, value in session.labels.items() - old.labels.items():
                self.pending.labels[key, value, pk] = True
        self._note(new, SESSIONS, of_parent(old.parent_uid), of_parent(session.parent_uid))
        await self._wrote()
        return new

    def _note(self, row: SessionRow, *domains: Domain) -> None:
        """Know a session as it is now."""
        for need in needs_of(row):
            self._facts[need] = row
        self.written[row.pk] = row
        self._touch(*domains)

    def _forget(self, row: SessionRow) -> None:
        """Know that a session is no more what it was."""
        for need in needs_of(row):
            self._facts[need] = None

    async def delete_session(self, row: SessionRow) -> None:
        """See `Tx`."""
        self._own_row()
        self._forget(row)
        self.written[row.pk] = None
        self.pending.delete(row.pk)
        self.removed.sessions += 1
        self._moves(row.session, None)
        for key, value in row.session.labels.items():
            self.pending.labels[key, value, row.pk] = False
        self._touch(SESSIONS, of_parent(row.session.parent_uid))
        await self._wrote()

    # --- messages ---

    async def insert_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """See `Tx`."""
        app_pk, history = self._own_row().pk, row.history
        for message in messages:
            by_id = (MESSAGE_ID, app_pk, history, message.message_id)
            by_sequence = (SEQUENCE, app_pk, history, message.sequence)
            look = self.careful or bool(row.session.removed_ranges)
            found: Message | None = await self._know(by_id) if look else self._found(by_id)
            if found is not None and is_removed(row, found.sequence):
                self._erase(found.body)
                self._remove(history, found)
                found = None
            place = await self._know(by_sequence) if self.careful else self._found(by_sequence)
            if found is not None or place is not None:
                raise KeyTaken("the session holds a message with this id")
            self.pending.messages[history, message.sequence] = message
            self.added.messages += 1
            self._facts[by_id] = self._facts[by_sequence] = message
            self._touch(of_messages(history))
            await self._wrote()

    def _found(self, need: Need) -> Any:
        value = self._look(need)
        self.unsure |= value is MISSING
        return None if value is MISSING else value

    def _remove(self, session_pk: int, message: Message) -> None:
        app_pk = self._own_row().pk
        self.pending.remove(session_pk, message.sequence)
        self.removed.messages += 1
        self._facts[MESSAGE_ID, app_pk, session_pk, message.message_id] = None
        self._facts[SEQUENCE, app_pk, session_pk, message.sequence] = None
        self._touch(of_messages(session_pk))

    async def remove_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """See `Tx`."""
        for message in messages:
            self._remove(row.history, message)
        await self._wrote()

    async def purge_messages(self, row: SessionRow, low: int, high: int, limit: int) -> bool:
        """See `Tx`."""
        count, done = await self._purge(row.history, low, high, limit)
        self.erased |= count > 0
        if not done:
            self.left_over = True
            self.pending.notes.append((row.history, low, high, row.pk))
            self._touch(NOTES)
            await self._wrote()
        return done

    async def _purge(self, session_pk: int, low: int, high: int, limit: int) -> tuple[int, bool]:
        """Erase up to `limit` messages of a range.

        Returns:
            How many, and whether none is left.
        """
        rows = await self._of_session(session_pk, QUERIES.messages_up, (low, high, limit + 1))
        doomed = [message_of(row) for row in rows[:limit]]
        for message in doomed:
            self._erase(message.body)
            self._remove(session_pk, message)
        if doomed:
            await self._wrote()
        return len(doomed), len(rows) <= limit

    # --- staging ---

    async def new_history(self) -> int:
        """See `Tx`. From the numbers of sessions: it can be none of theirs."""
        own = self._own_row()
        own.created += 1
        return own.pk << ORDER_BITS | own.created

    async def put_staging(self, staging: Staging) -> None:
        """See `Tx`."""
        self._check_own(staging.app)
        self._own_row()
        self.pending.staged[staging.name] = staging
        self._touch(STAGED)
        await self._wrote()

    async def drop_staging(self, app: str, name: str) -> None:
        """See `Tx`."""
        self._check_own(app)
        self._own_row()
        self.pending.staged[name] = None
        self._touch(STAGED)
        await self._wrote()

    # --- content ---

    def _erase(self, content_id: ContentId) -> None:
        if content_id != NO_CONTENT:
            self.pending.erase(content_id)
            self._facts[CONTENT, self._own_row().pk, content_id] = b""

    def _erase_all(self, content_ids: Sequence[ContentId]) -> None:
        self.erased |= bool(content_ids)
        for content_id in content_ids:
            self._erase(content_id)

    def _put(self, data: bytes) -> ContentId:
        if not data:
            return NO_CONTENT
        own = self._own_row()
        own.contents += 1
        content_id = own.pk << ORDER_BITS | own.contents
        self.pending.contents[content_id] = data
        self._facts[CONTENT, own.pk, content_id] = data
        return content_id

    async def put_content(self, data: bytes) -> ContentId:
        """See `Tx`."""
        return self._put(data)

    async def replace_content(self, content_id: ContentId, data: bytes) -> ContentId:
        """See `Tx`."""
        self._erase(content_id)
        return self._put(data)

    async def erase_content(self, content_id: ContentId) -> None:
        """See `Tx`."""
        self.erased |= content_id != NO_CONTENT
        self._erase(content_id)

    async def put_scope_state(self, app: str, user: str | None, state: ScopeState) -> None:
        """See `Tx`."""
        self._check_own(app)
        need = scope_need(self._own_row().pk, user)
        self.pending.scopes[need[2], need[3]] = encode(state)
        self._facts[need] = state
        self._touch(SCOPES)
        await self._wrote()

    async def drop_scope_state(self, app: str, user: str | None) -> None:
        """See `Tx`."""
        self._check_own(app)
        need = scope_need(self._own_row().pk, user)
        self.pending.scopes[need[2], need[3]] = None
        self._facts[need] = NO_STATE
        self._touch(SCOPES)
        await self._wrote()

    # --- operations ---

    async def put_operation(self, operation: Operation) -> None:
        """See `Tx`."""
        self._check_own(operation.app)
        operation_id, *columns = operation_values(operation)
        await self._set_operation(operation_id, tuple(columns))

    async def drop_operation(self, app: str, operation_id: str) -> None:
        """See `Tx`."""
        self._check_own(app)
        await self._set_operation(operation_id, None)

    async def _set_operation(self, operation_id: str, columns: Row | None) -> None:
        self._facts[OPERATION, self._own_row().pk, operation_id] = columns
        self.pending.operations[operation_id] = columns
        self._touch(OPERATIONS)
        await self._wrote()

    async def empty_requests(
        self, app: str, after: RequestKey | None, limit: int, spare: str
    ) -> RequestKey | None:
        """See `Tx`."""
        self._check_own(app)
        pk = self._own_row().pk
        at = ("", "", "") if after is None else (after.principal, after.method, after.request_id)
        rows = await self._query(pk, REQUESTS, QUERIES.requests_after, (pk, *at, limit))
        key = None
        for principal, method, request_id, *rest in rows:
            key = RequestKey(app, principal, method, request_id)
            if not (spare and method.startswith(spare)):
                record = request_of(key, tuple(rest))
                self._erase_all(record.held)
                self._put_record(msgspec.structs.replace(record, outcome=b"", held=()))
        await self._wrote()
        return key if len(rows) == limit else None

    def _put_record(self, record: RequestRecord) -> None:
        """Write a record that is as it will stay."""
        self.pending.requests[record.key] = record
        self._facts[REQUEST, self._own_row().pk, record.key] = record
        self._touch(of_requests(record.session_pk), REQUESTS)

    def scrub_later(self) -> None:
        """See `Tx`. Nothing here is scrubbed."""
        self.left_over = True

    # --- requests and the log ---

    async def request(self, key: RequestKey) -> RequestRecord | None:
        """See `ReadTx`."""
        record = self._requests.get(key)
        return await super().request(key) if record is None else record

    async def put_request(self, record: RequestRecord) -> None:
        """See `Tx`. Written when the unit is done and its revision is known."""
        self._check_own(record.key.app)
        self._own_row()
        self._requests[record.key] = record

    async def erase_held(self, row: SessionRow) -> None:
        """See `Tx`."""
        app_pk = self._own_row().pk
        for key, record in self._requests.items():
            if record.session_pk == row.pk and record.held:
                self._erase_all(record.held)
                self._requests[key] = msgspec.structs.replace(record, held=())
        rows = await self._query(
            app_pk, of_requests(row.pk), QUERIES.requests_held, (app_pk, row.pk)
        )
        for principal, method, request_id, *rest in rows:
            key = RequestKey(self._name, principal, method, request_id)
            record = request_of(key, tuple(rest))
            self._erase_all(record.held)
            self._put_record(msgspec.structs.replace(record, held=()))
        await self._wrote()

    async def log(self, change: Change) -> None:
        """See `Tx`."""
        own = self._own_row()
        if self.logged == 0:
            own.head += 1
            self._nonce = nonce_column(int.from_bytes(os.urandom(_NONCE_BYTES), "little"))
        before, after = change.before, change.after
        self.pending.changes.append(
            (
                own.head,
                self.logged,
                self._nonce,
                self._now,
                self._actor,
                int(change.cause),
                subject_uid(change),
                None if before is None else self._record(before),
                None if after is None else self._record(after),
                detail_blob(change.detail),
            )
        )
        self._audit(change, own.head, self.logged)
        self._touch(LOG, AUDIT)
        self.logged += 1
        await self._wrote()

    def answer_at(self, revision: int) -> None:
        """See `Tx`."""
        self._answer = revision

    # --- the store's own work ---

    async def purge(self, limit: int) -> bool:
        """Erase up to `limit` messages of those left over in this app; True: none is left."""
        while True:
            entry = self.own or self._before
            if entry is None:
                return True
            notes = await self._query(entry.pk, NOTES, QUERIES.purge_first, (entry.pk,))
            if not notes:
                return True
            if limit <= 0:
                return False
            ((purge_id, history, low, high, owner),) = notes
            count, done = await self._purge(history, low, high, limit)
            if not done:
                return False
            self._own_row()
            self.pending.done.add(purge_id)
            self._touch(NOTES)
            await self._forget_range(owner or history, history, low, high)
            limit -= count + 1

    async def _forget_range(self, session_pk: int, history: int, low: int, high: int) -> None:
        """Take a purged range out of its session's `removed_ranges`: nobody sees it change."""
        row: SessionRow | None = await self._know((PK, session_pk >> ORDER_BITS, session_pk))
        if row is None:
            return
        if row.history != history:
            return  # its messages are others since
        session = row.session
        ranges = tuple(
            kept
            for first, last in session.removed_ranges
            for kept in kept_intervals(first, last, [(low, high)])
        )
        if ranges != session.removed_ranges:
            session = msgspec.structs.replace(session, removed_ranges=ranges)
            new = SessionRow(row.pk, row.create_order, session)
            self.pending.restate(SessionWrite(new, None, self._record(session)))
            self._note(new, SESSIONS, of_parent(session.parent_uid))
