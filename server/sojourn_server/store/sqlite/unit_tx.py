"""A unit's transaction as the committer sees it: what it has written, and what it counts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import App, Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.base import ListedApp, RequestKey, RequestRecord, SessionRow
from sojourn_server.store.rows import (
    APP_PK_LIMIT,
    ORDER_MASK,
    Row,
    decode_session,
    encode,
    held_blob,
)
from sojourn_server.store.sqlite.content import Slab
from sojourn_server.store.sqlite.hot import Key
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.read_tx import SqliteReadTx
from sojourn_server.store.sqlite.snapshot import AppEntry, Apps
from sojourn_server.store.sqlite.tally_rows import bring
from sojourn_server.store.stats import Rows
from sojourn_server.store.tallies import Tallies, grown


class UnitTx(SqliteReadTx):
    """One run of one unit: what it has written, and what it counts.

    What it changes of its app's counters stays in `own` until the writer keeps it, so
    that undoing a unit needs nothing but forgetting it.

    Args:
        connection: In a transaction.
        now: When that began.
        apps: App rows as the units before have left them.
        slab: The content table.
        recent: Sessions as earlier units have left them; None for one that is gone.
        moved: What the units before have moved in the tallies.
        audited: Rows of the audit that the units before have left to be written.
        app: The app whose log the unit writes.
        actor: Who does it.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        now: Nanos,
        apps: Apps,
        slab: Slab,
        recent: Mapping[Key, SessionRow | None],
        moved: Tallies,
        audited: list[Row],
        app: str,
        actor: str,
    ) -> None:
        super().__init__(connection, now, apps)
        self._slab = slab
        self._recent = recent
        self._moved_before = moved
        self._audited_before = audited
        self._name = app
        self._actor = actor
        self._many = connection.executemany
        self._nonce = 0
        self._answer: int | None = None
        self._known: dict[int, tuple[Session, bytes]] = {}
        self._requests: dict[RequestKey, RequestRecord] = {}
        self.written: dict[Key, SessionRow | None] = {}
        """Sessions as this unit leaves them; None for one that it removed."""
        self.own: AppEntry | None = None
        """The app's row as this unit leaves it; None while unchanged."""
        self.moved = Tallies()
        """What it moves in the tallies, beyond what it has brought there."""
        self.audited: list[Row] = []
        """Rows of the audit that wait to be written with the others of the commit."""
        self.brought = False
        """Whether it has written what the units before have moved, and their audit."""
        self.logged = 0
        """How many changes are logged."""
        self.wrote = False
        """Whether there is anything to undo."""
        self.erased = False
        """Whether the answer waits for a scrub."""
        self.left_over = False
        """Whether something to be erased is left for `purge`."""
        self.added = Rows()
        self.removed = Rows()

    # --- what the writer asks ---

    def finish(self) -> int:
        """Write what had to wait for the revision, and answer the unit's revision."""
        revision = self._answer
        if revision is None:
            entry = self._entry(self._name)
            revision = 0 if entry is None else entry.head
        self.added.changes = self.logged
        self.added.requests = len(self._requests)
        for record in self._requests.values():
            key = record.key
            self._write(
                QUERIES.request_put,
                (
                    self._own_row().pk,
                    key.principal,
                    key.method,
                    key.request_id,
                    record.payload_hash,
                    revision,
                    record.outcome,
                    record.create_time,
                    record.session_pk,
                    held_blob(record.held),
                ),
            )
        return revision

    # --- how it reads and writes ---

    def _write(self, sql: str, parameters: Sequence[Any]) -> sqlite3.Cursor:
        cursor = self._run(sql, parameters)
        self.wrote = True
        return cursor

    def _write_many(self, sql: str, rows: Iterable[Sequence[Any]]) -> None:
        for row in rows:
            self._write(sql, row)

    def _entry(self, name: str) -> AppEntry | None:
        if name == self._name and self.own is not None:
            return self.own
        return super()._entry(name)

    def _own_row(self, app: App | None = None) -> AppEntry:
        """The app's row, to be changed; made when there is none."""
        if self.own is None:
            entry = super()._entry(self._name)
            if entry is None:
                record = None if app is None else encode(app)
                pk = self._write(QUERIES.app_insert, (self._name, record)).lastrowid or 0
                if not 0 < pk < APP_PK_LIMIT:
                    raise ValueError("there are too many apps")
                self.own = AppEntry(pk, 0, 0, app, 0, 0)
            else:
                self.own = entry.copy()
        return self.own

    def _session(self, row: Row) -> SessionRow:
        pk, record = row
        session = decode_session(record)
        self._known[id(session)] = (session, record)
        return SessionRow(pk, pk & ORDER_MASK, session)

    def _record(self, session: Session) -> bytes:
        """A session as stored. The row and the log share the bytes."""
        known = self._known.get(id(session))
        if known is None:
            known = self._known[id(session)] = (session, encode(session))
        return known[1]

    # --- counts and sums ---

    def _moves(self, old: Session | None, new: Session | None) -> None:
        """Count a write of a session: as it was, and as it is."""
        if (
            old is not None
            and new is not None
            and old.metrics is new.metrics
            and old.message_count == new.message_count
            and old.status is new.status
            and old.user == new.user
        ):
            return  # as most writes do, it moves nothing
        own = self._own_row()
        own.active += grown(old, new)
        own.sessions += int(new is not None) - int(old is not None)
        self.moved.move(own.pk, old, new)

    def _bring(self) -> None:
        """Write what waits for the commit, so that a query finds it: tallies and audit."""
        if not self.brought:
            bring(self._write_many, self._moved_before)
            self._write_many(QUERIES.audit_insert, self._audited_before)
            self.brought = True
        bring(self._write_many, self.moved)
        self._write_many(QUERIES.audit_insert, self.audited)
        self.moved.clear()
        self.audited.clear()

    async def user_active(self, app: str, user: str) -> int:
        """See `Counting`."""
        count = await super().user_active(app, user)
        entry = self._entry(app)
        if entry is None:
            return count
        if not self.brought:
            count += self._moved_before.active(entry.pk, user)
        return count + self.moved.active(entry.pk, user)

    async def status_sums(self, app: str, user: str | None = None) -> Mapping[Status, Sums]:
        """See `Counting`."""
        self._bring()
        return await super().status_sums(app, user)

    async def user_sums(
        self, app: str, statuses: Sequence[Status], after: str | None, limit: int
    ) -> Sequence[tuple[str, Sums]]:
        """See `Counting`."""
        self._bring()
        return await super().user_sums(app, statuses, after, limit)

    async def listed_apps(self, after: str, limit: int) -> Sequence[ListedApp]:
        """See `Counting`. Counters of units before and of this one are not in the file yet."""
        listed = await super().listed_apps(after, limit)
        return [self._listed(each) for each in listed]

    def _listed(self, listed: ListedApp) -> ListedApp:
        name = listed.app.app
        entry = self.own if name == self._name and self.own else self._apps.get(name)
        return listed if entry is None else entry.listed() or listed
