"""A snapshot of the database: how rows are read within a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import App
from sojourn_server.store.base import AppCounts, ListedApp, SessionRow, StoreDown, StoreFull
from sojourn_server.store.rows import ORDER_MASK, Row, decode_app, decode_session
from sojourn_server.store.sqlite.errors import as_failure
from sojourn_server.store.sqlite.queries import QUERIES


class AppEntry:
    """An app's row.

    Args:
        pk: The store's number for it; 0 until it has one.
        head: The newest revision of its log.
        created: The greatest create order given.
        app: The app; None when only its log exists.
        active: How many ACTIVE sessions it has.
        sessions: How many sessions it has.
    """

    __slots__ = ("active", "app", "created", "head", "pk", "sessions")

    def __init__(
        self, pk: int, head: int, created: int, app: App | None, active: int, sessions: int
    ) -> None:
        self.pk = pk
        self.head = head
        self.created = created
        self.app = app
        self.active = active
        self.sessions = sessions

    def copy(self) -> AppEntry:
        """The same, to be changed."""
        return AppEntry(self.pk, self.head, self.created, self.app, self.active, self.sessions)

    def counts(self) -> AppCounts:
        """How many sessions it has."""
        return AppCounts(self.active, self.sessions)

    def listed(self) -> ListedApp | None:
        """How a list shows it; None when only its log exists."""
        return None if self.app is None else ListedApp(self.app, self.head, self.counts())


def entry_of(row: Row) -> AppEntry:
    """The entry of a row: app_pk, head, created, active, sessions, record."""
    pk, head, created, active, sessions, record = row
    app = None if record is None else decode_app(record)
    return AppEntry(pk, head, created, app, active, sessions)


Apps = dict[str, AppEntry | None]
"""The app rows that a transaction knows; None for an app that has none."""


class Snapshot:
    """One snapshot of the database. Runs on a connection's thread and never waits.

    Args:
        connection: In a transaction.
        now: When that began.
        apps: App rows known within this transaction.
    """

    def __init__(self, connection: sqlite3.Connection, now: Nanos, apps: Apps) -> None:
        self._execute = connection.execute
        self._now = now
        self._apps = apps
        self.failure: StoreFull | StoreDown | None = None
        """Set when the database failed: the transaction is lost, whatever a unit catches."""

    def _run(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Execute one statement.

        Raises:
            StoreFull, StoreDown: The database failed, now or before.
        """
        if self.failure is not None:
            raise self.failure
        try:
            return self._execute(sql, parameters)
        except sqlite3.Error as error:
            self.failure = as_failure(error)
            if self.failure is None:
                raise
            raise self.failure from error

    def _all(self, sql: str, parameters: Sequence[Any] | dict[str, Any]) -> list[Row]:
        """Execute a query and fetch every row."""
        try:
            rows: list[Row] = self._run(sql, parameters).fetchall()
        except sqlite3.Error as error:
            self.failure = as_failure(error)
            if self.failure is None:
                raise
            raise self.failure from error
        return rows

    def _session(self, row: Row) -> SessionRow:
        pk, record = row
        return SessionRow(pk, pk & ORDER_MASK, decode_session(record))

    def _entry(self, name: str) -> AppEntry | None:
        try:
            return self._apps[name]
        except KeyError:
            row = self._run(QUERIES.app_by_name, (name,)).fetchone()
            entry = None
            if row is not None:
                entry = entry_of(row)
            self._apps[name] = entry
            return entry

    @property
    def now(self) -> Nanos:
        """See `ReadTx`."""
        return self._now

    async def head(self, app: str) -> int:
        """See `ReadTx`."""
        entry = self._entry(app)
        return 0 if entry is None else entry.head

    async def app(self, app: str) -> App | None:
        """See `ReadTx`."""
        entry = self._entry(app)
        return None if entry is None else entry.app
