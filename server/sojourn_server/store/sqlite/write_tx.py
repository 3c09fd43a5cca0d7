"""Writing within a unit's transaction. What each method must do stands in `store.base`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from sojourn_server.domain.auditing import is_audited
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
from sojourn_server.store.base import KeyTaken, RequestKey, RequestRecord, SessionRow
from sojourn_server.store.ranges import is_removed, kept_intervals
from sojourn_server.store.rows import (
    ORDER_BITS,
    ORDER_MASK,
    Row,
    audit_values,
    decode_session,
    detail_blob,
    encode,
    held_of,
    message_values,
    nonce_column,
    parent_blob,
    subject_uid,
    uid_blob,
)
from sojourn_server.store.sqlite.erase_tx import ErasingTx
from sojourn_server.store.sqlite.errors import is_taken
from sojourn_server.store.sqlite.hot import key_of
from sojourn_server.store.sqlite.operation_tx import OperationTx
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.staged_tx import StagedTx

_NONCE_BYTES: Final = 8
_ERASED_AT_ONCE: Final = 8 * 1024 * 1024
"""Bytes after which a purge pauses: the writer serves others in between."""


class SqliteTx(ErasingTx, OperationTx, StagedTx):
    """One run of one unit. What each method must do stands in `store.base`."""

    # --- apps and sessions ---

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """See `ReadTx`. What was written lately is known without asking the file."""
        key = (app, user, session_id)
        for known in (self.written, self._recent):
            if key in known:
                return known[key]
        return await super().session_by_key(app, user, session_id)

    async def put_app(self, app: App) -> None:
        """See `Tx`."""
        if app.app != self._name:
            raise ValueError("a unit writes its own app only")
        own = self._own_row(app)
        if own.app is not app:
            self._write(QUERIES.app_set_record, (encode(app), own.pk))
            own.app = app

    async def insert_session(self, session: Session, due: Nanos | None) -> SessionRow:
        """See `Tx`."""
        if session.app != self._name:
            raise ValueError("a unit writes its own app only")
        own = self._own_row()
        create_order = own.created + 1
        pk = own.pk << ORDER_BITS | create_order
        values = (
            pk,
            own.pk,
            uid_blob(session.uid),
            session.user,
            session.session_id,
            session.status,
            parent_blob(session),
            session.update_time,
            session.activity_time,
            due if session.is_active else None,
            self._record(session),
        )
        try:
            self._write(QUERIES.session_insert, values)
        except sqlite3.IntegrityError as error:
            if is_taken(error):
                raise KeyTaken("a session with this key exists") from None
            raise
        own.created = create_order
        self.added.sessions += 1
        self._moves(None, session)
        for key, value in session.labels.items():
            self._write(QUERIES.label_insert, (key, value, pk))
        return self._written(SessionRow(pk, create_order, session))

    async def update_session(
        self, row: SessionRow, session: Session, due: Nanos | None
    ) -> SessionRow:
        """See `Tx`. Writes the indexes of what has changed, and no others."""
        pk, old = row.pk, row.session
        record = self._record(session)
        times = (session.activity_time, due if session.is_active else None, record, pk)
        if (old.user, old.session_id, old.uid, old.parent_uid) != (
            session.user,
            session.session_id,
            session.uid,
            session.parent_uid,
        ):
            sql = QUERIES.session_update_all
            values: Row = (
                uid_blob(session.uid),
                session.user,
                session.session_id,
                session.status,
                parent_blob(session),
                session.update_time,
                *times,
            )
        elif old.status is not session.status:
            sql = QUERIES.session_update_status
            values = (session.status, session.update_time, *times)
        elif old.update_time != session.update_time:
            sql = QUERIES.session_update
            values = (session.update_time, *times)
        else:
            sql = QUERIES.session_update_activity
            values = times
        try:
            if self._write(sql, values).rowcount != 1:
                raise LookupError("the session to update is gone")
        except sqlite3.IntegrityError as error:
            if is_taken(error):
                raise KeyTaken("a session with this key exists") from None
            raise
        self._moves(old, session)
        if old.labels != session.labels:
            self._update_labels(pk, old.labels, session.labels)
        self.written[key_of(row)] = None
        return self._written(SessionRow(pk, row.create_order, session))

    def _written(self, row: SessionRow) -> SessionRow:
        self.written[key_of(row)] = row
        return row

    def _update_labels(self, pk: int, old: dict[str, str], new: dict[str, str]) -> None:
        for key, value in old.items() - new.items():
            self._write(QUERIES.label_delete, (key, value, pk))
        for key, value in new.items() - old.items():
            self._write(QUERIES.label_insert, (key, value, pk))

    async def delete_session(self, row: SessionRow) -> None:
        """See `Tx`."""
        self._write(QUERIES.session_delete, (row.pk,))
        self.removed.sessions += 1
        self._moves(row.session, None)
        self.written[key_of(row)] = None
        for key, value in row.session.labels.items():
            self._write(QUERIES.label_delete, (key, value, row.pk))

    # --- messages ---

    async def insert_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """See `Tx`."""
        if row.session.removed_ranges:
            for message in messages:
                self._make_way(row, message.message_id)
        try:
            for message in messages:
                self._write(QUERIES.message_insert, message_values(row.history, message))
        except sqlite3.IntegrityError as error:
            if is_taken(error):
                raise KeyTaken("the session holds a message with this id") from None
            raise
        self.added.messages += len(messages)

    def _make_way(self, row: SessionRow, message_id: str) -> None:
        """Purge a removed message whose row would be in the way of a new one's id."""
        found = self._run(QUERIES.message_by_id, (row.history, message_id)).fetchone()
        if found is not None and is_removed(row, found[1]):
            self._erase(found[7])
            self._write(QUERIES.message_delete, (row.history, found[1]))
            self.removed.messages += 1

    async def remove_messages(self, row: SessionRow, messages: Sequence[Message]) -> None:
        """See `Tx`."""
        for message in messages:
            self._write(QUERIES.message_delete, (row.history, message.sequence))
        self.removed.messages += len(messages)

    async def purge_messages(self, row: SessionRow, low: int, high: int, limit: int) -> bool:
        """See `Tx`."""
        self.erased = True
        _, done = self._purge(row.history, low, high, limit)
        if not done:
            self.left_over = True
            self._write(QUERIES.purge_insert, (row.history, low, high, row.pk))
        return done

    def _purge(self, history: int, low: int, high: int, limit: int) -> tuple[int, bool]:
        """Erase up to `limit` messages of a range, or as many as `_ERASED_AT_ONCE` allows.

        Returns:
            How many, and whether none is left.
        """
        rows = self._all(QUERIES.message_bodies, (history, low, high, limit))
        count = size = 0
        for _, body in rows:
            size += self._erase(body)
            count += 1
            if size >= _ERASED_AT_ONCE:
                break
        if count:
            self._write(QUERIES.messages_delete, (history, low, rows[count - 1][0]))
            self.removed.messages += count
        if count < min(len(rows), limit):
            return count, False
        if count < limit:
            return count, True
        return count, not self._all(QUERIES.message_bodies, (history, low, high, 1))

    # --- content ---

    def _erase(self, content_id: ContentId) -> int:
        """Write zeros over one piece; how many."""
        return 0 if content_id == NO_CONTENT else self._slab.erase(self._write, content_id)

    async def put_content(self, data: bytes) -> ContentId:
        """See `Tx`."""
        return self._slab.put(self._write, data)

    async def replace_content(self, content_id: ContentId, data: bytes) -> ContentId:
        """See `Tx`."""
        return self._slab.replace(self._write, content_id, data)

    async def erase_content(self, content_id: ContentId) -> None:
        """See `Tx`."""
        self.erased = True
        self._erase(content_id)

    async def put_scope_state(self, app: str, user: str | None, state: ScopeState) -> None:
        """See `Tx`."""
        if app != self._name:
            raise ValueError("a unit writes its own app only")
        key = (self._own_row().pk, int(user is not None), user or "")
        self._write(QUERIES.scope_state_put, (*key, encode(state)))

    # --- requests and the log ---

    async def request(self, key: RequestKey) -> RequestRecord | None:
        """See `ReadTx`."""
        record = self._requests.get(key)
        return await super().request(key) if record is None else record

    async def put_request(self, record: RequestRecord) -> None:
        """See `Tx`. Written when the unit is done and its revision is known."""
        if record.key.app != self._name:
            raise ValueError("a unit writes its own app only")
        self._requests[record.key] = record

    async def erase_held(self, row: SessionRow) -> None:
        """See `Tx`."""
        self.erased = True
        for key, record in self._requests.items():
            if record.session_pk == row.pk and record.held:
                for content_id in record.held:
                    self._erase(content_id)
                self._requests[key] = msgspec.structs.replace(record, held=())
        for *stored, held in self._all(QUERIES.request_held, (row.pk,)):
            for content_id in held_of(held):
                self._erase(content_id)
            self._write(QUERIES.request_drop_held, stored)

    async def log(self, change: Change) -> None:
        """See `Tx`."""
        own = self._own_row()
        if self.logged == 0:
            own.head += 1
            self._nonce = nonce_column(int.from_bytes(os.urandom(_NONCE_BYTES), "little"))
        before, after, uid = change.before, change.after, subject_uid(change)
        self._write(
            QUERIES.change_insert,
            (
                own.pk,
                own.head,
                self.logged,
                self._nonce,
                self._now,
                self._actor,
                change.cause,
                uid,
                None if before is None else self._record(before),
                None if after is None else self._record(after),
                detail_blob(change.detail),
            ),
        )
        if is_audited(change):
            place = (own.pk, own.head, self.logged, self._now, self._actor)
            self.audited.append((*place, *audit_values(change, uid)))
        self.logged += 1

    def answer_at(self, revision: int) -> None:
        """See `Tx`."""
        self._answer = revision

    # --- the store's own work ---

    async def purge(self, limit: int) -> bool:
        """Erase up to `limit` messages of those left over; True when none is left."""
        while (note := self._run(QUERIES.purge_first).fetchone()) is not None:
            if limit <= 0:
                return False
            purge_id, history, low, high, owner = note
            count, done = self._purge(history, low, high, limit)
            if not done:
                return False
            self._write(QUERIES.purge_delete, (purge_id,))
            self._forget_range(owner or history, history, low, high)
            limit -= count + 1
        return True

    def _forget_range(self, session_pk: int, history: int, low: int, high: int) -> None:
        """Take a purged range out of its session's `removed_ranges`: nobody sees it change."""
        found = self._run(QUERIES.session_by_pk, (session_pk,)).fetchone()
        if found is None:
            return
        session = decode_session(found[1])
        if (session.history or session_pk) != history:
            return  # its messages are others since
        ranges = tuple(
            kept
            for first, last in session.removed_ranges
            for kept in kept_intervals(first, last, [(low, high)])
        )
        if ranges != session.removed_ranges:
            session = msgspec.structs.replace(session, removed_ranges=ranges)
            self._write(QUERIES.session_set_record, (encode(session), session_pk))
            self._written(SessionRow(session_pk, session_pk & ORDER_MASK, session))

    async def forget_requests(self, before: Nanos, limit: int) -> int:
        """Remove up to `limit` request records made before an instant; how many."""
        rows = self._all(QUERIES.request_old, (before, limit))
        count = size = 0
        for *key, held in rows:
            size += sum(self._erase(content_id) for content_id in held_of(held))
            self._write(QUERIES.request_delete, key)
            count += 1
            if size >= _ERASED_AT_ONCE:
                break
        self.removed.requests += count
        return count

    async def beat(self) -> None:
        """Write one row, to find out whether that works."""
        self._write(QUERIES.pulse_beat, ())
