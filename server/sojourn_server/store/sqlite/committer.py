"""Group commit, the half that runs on the writer's thread.

Many units share one transaction and so one fsync. A unit that is refused before it has
written anything, the usual case, leaves nothing to undo. One that fails later would
need a savepoint, and a savepoint for every unit costs a copy of every page it writes;
so a batch first runs without any, and only when such a unit turns up is it rolled back
and run again with one savepoint for each.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from sojourn_server.domain.clock import Clock, Nanos
from sojourn_server.store.base import Precede, SessionRow, StoreDown, StoreFull
from sojourn_server.store.rows import Row
from sojourn_server.store.sqlite.connection import BUSY_PATIENCE
from sojourn_server.store.sqlite.content import Slab
from sojourn_server.store.sqlite.errors import as_failure
from sojourn_server.store.sqlite.hot import Key, Published
from sojourn_server.store.sqlite.queries import QUERIES
from sojourn_server.store.sqlite.snapshot import AppEntry, Apps
from sojourn_server.store.sqlite.tally_rows import bring
from sojourn_server.store.sqlite.units import drive
from sojourn_server.store.sqlite.write_tx import SqliteTx
from sojourn_server.store.stats import Rows
from sojourn_server.store.tallies import Tallies
from sojourn_server.store.work import PRECEDING, Work

Unit = Callable[[SqliteTx], Awaitable[Any]]

_BUDGET: Final[Nanos] = 20_000_000
"""After so long a batch is committed, so that one large unit delays no queue behind it."""

_APPS: Final = 20_000
"""How many app rows are kept in memory."""

_RECENT: Final = 4_096
"""How many sessions that were written lately are kept in memory."""

_MOST_FRAMES: Final = 16_000
"""A WAL of so many pages (64 MiB) is emptied, not only copied."""

_READERS_PATIENCE: Final = 25
"""How long emptying the WAL waits for readers, in milliseconds: ours take 10 at most."""

_PAGES_PER_UNIT: Final = 12
"""Pages a unit writes beside its content, about; what the WAL grows by."""


class _Again(Exception):
    """The batch must run again, with savepoints."""


class _Lost(Exception):
    """The database failed, and the transaction with all its units is lost."""

    def __init__(self, failure: StoreFull | StoreDown) -> None:
        super().__init__(str(failure))
        self.failure = failure


class Committer:
    """Runs batches of units on the one connection that writes.

    Args:
        clock: What `now` of a transaction is.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._apps: Apps = {}
        self._slab = Slab()
        self._stale = True
        self._guarded = False
        self._now: Nanos = 0
        self._touched: dict[str, AppEntry] = {}
        self._logged: set[str] = set()
        self._moved = Tallies()
        self._audited: list[Row] = []
        self._written: dict[Key, SessionRow | None] = {}
        # Nobody else writes, so what was written last is what is in the file.
        self._recent: OrderedDict[Key, SessionRow | None] = OrderedDict()
        self._units = 0
        self._adding = Rows()
        self._removing = Rows()
        self.added = Rows()
        """Rows committed since the start."""
        self.removed = Rows()
        """Rows whose removal was committed since the start."""
        self.published: Published | None = None
        """What the last commit has changed; None when it failed."""

    @property
    def unscrubbed(self) -> bool:
        """Whether the files may hold bytes that have been overwritten since the last scrub."""
        return self._slab.unscrubbed

    @property
    def wal_pages(self) -> int:
        """How many pages the WAL has grown by since the last checkpoint, about."""
        return self._units * _PAGES_PER_UNIT + (self._slab.bytes_put >> 12)

    def forget(self) -> None:
        """Trust nothing that is in memory: the transaction that made it is lost."""
        self._stale = True

    def commit(self, connection: sqlite3.Connection, batch: Sequence[Work]) -> int:
        """Carry out units and commit them, or fail them all.

        Args:
            connection: The writer's.
            batch: Units, in their order.

        Returns:
            How many of them, from the first, are answered; the rest must come again.
        """
        self.published = None
        try:
            try:
                return self._attempt(connection, batch, guarded=False)
            except _Again:
                self._roll_back(connection)
                return self._attempt(connection, batch, guarded=True)
        except _Lost as failed:
            lost = failed.failure
        except sqlite3.Error as error:
            lost = as_failure(error) or StoreDown(f"the commit failed: {error}")
            lost.__cause__ = error
        self._roll_back(connection)
        for work in batch:
            work.reset()
            work.error = lost
        return len(batch)

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        self.forget()
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # The connection is beyond help; the writer opens another one.
            return

    def _attempt(self, connection: sqlite3.Connection, batch: Sequence[Work], guarded: bool) -> int:
        self._guarded = guarded
        self._touched.clear()
        self._logged = set()
        self._written = {}
        self._moved.clear()
        self._audited.clear()
        self._adding, self._removing = Rows(), Rows()
        connection.execute("BEGIN IMMEDIATE")
        self._now = self._clock.now()
        if self._stale or len(self._apps) > _APPS:
            self._apps.clear()
            self._recent.clear()
            self._slab.load(connection.execute)
            self._stale = False
        ends = time.monotonic_ns() + _BUDGET
        done = 0
        for work in batch:
            work.reset()
            try:
                tx = self._carry_out(connection, work, work.unit, 0)
            except (_Again, _Lost):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a unit raises is its caller's
                work.error = error
            else:
                work.changed = tx.logged > 0
                work.erased = tx.erased
                work.left_over = tx.left_over
            done += 1
            if time.monotonic_ns() > ends:
                break
        for entry in self._touched.values():
            counters = (entry.head, entry.created, entry.active, entry.sessions, entry.pk)
            connection.execute(QUERIES.app_set_counters, counters)
        bring(connection.executemany, self._moved)
        if self._audited:
            connection.executemany(QUERIES.audit_insert, self._audited)
        connection.execute("COMMIT")
        heads = {name: entry.head for name, entry in self._touched.items()}
        self.published = Published(self._written, heads, self._logged)
        self.added.add(self._adding)
        self.removed.add(self._removing)
        self._units += done
        return done

    def _carry_out(
        self,
        connection: sqlite3.Connection,
        work: Work,
        unit: Unit,
        depth: int,
    ) -> SqliteTx:
        """Run a unit, after those that it asks for first.

        Returns:
            Its transaction; value and revision are in `work`.
        """
        for _ in range(PRECEDING):
            tx = SqliteTx(
                connection,
                self._now,
                self._apps,
                self._slab,
                self._recent,
                self._moved,
                self._audited,
                work.app,
                work.actor,
            )
            if self._guarded:
                _mark(connection, "SAVEPOINT unit")
            try:
                value = drive(unit(tx))
                revision = tx.finish()
            except Precede as precede:
                self._undo(connection, tx)
                if depth >= PRECEDING:
                    break
                self._carry_out(connection, work, precede.unit, depth + 1)
            except Exception:
                self._undo(connection, tx)
                raise
            else:
                if tx.failure is not None:  # the unit has caught it, which does not help
                    raise _Lost(tx.failure)
                if self._guarded:
                    _mark(connection, "RELEASE unit")
                self._keep(work.app, tx)
                work.value, work.revision = value, revision
                return tx
        raise RuntimeError("units keep asking for another one first")

    def _keep(self, app: str, tx: SqliteTx) -> None:
        """A unit is done: what it has written is what the next one sees."""
        if tx.own is not None:
            self._apps[app] = self._touched[app] = tx.own
        if tx.logged:
            self._logged.add(app)
        if tx.written:
            self._remember(tx.written)
        if tx.brought:
            self._moved.clear()
            self._audited.clear()
        if tx.moved:
            self._moved.add(tx.moved)
        if tx.audited:
            self._audited += tx.audited
        self._adding.add(tx.added)
        self._removing.add(tx.removed)

    def _remember(self, written: Mapping[Key, SessionRow | None]) -> None:
        """Remember sessions as a unit has left them."""
        self._written.update(written)
        for key, row in written.items():
            self._recent[key] = row
            self._recent.move_to_end(key)
        while len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _undo(self, connection: sqlite3.Connection, tx: SqliteTx) -> None:
        """Take back what a unit that failed has written.

        Raises:
            _Lost: The database failed under it.
            _Again: It has written, and there is no savepoint.
        """
        if tx.failure is not None:
            raise _Lost(tx.failure)
        if not connection.in_transaction:
            raise _Lost(StoreDown("the database gave up the transaction"))
        if self._guarded:
            _mark(connection, "ROLLBACK TO unit")
            _mark(connection, "RELEASE unit")
            if tx.wrote:
                self._slab.reload_free(connection.execute)
        elif tx.wrote:
            raise _Again

    def checkpoint(self, connection: sqlite3.Connection, *, truncate: bool) -> bool:
        """Copy the WAL into the database.

        Args:
            connection: The writer's.
            truncate: Also wait for readers and empty the WAL: what it held is gone.

        Returns:
            Whether all of it was copied (and the WAL is empty).

        Raises:
            sqlite3.Error: The disk failed or is full; nothing is lost.
        """
        if truncate:
            # It waits for readers, and the writes wait for it.
            connection.execute(f"PRAGMA busy_timeout = {_READERS_PATIENCE:d}")
            try:
                busy, frames, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_PATIENCE:d}")
            complete = busy == 0 and frames == 0
        else:
            busy, frames, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            complete = busy == 0 and frames == copied
            if frames > _MOST_FRAMES:
                # Readers that overlap keep a WAL from ever starting anew; wait for them.
                return self.checkpoint(connection, truncate=True)
        self._units = self._slab.bytes_put = 0
        if truncate and complete and self._slab.unscrubbed:
            _sync_wal(connection)
            self._slab.unscrubbed = False
        return bool(complete)


def _sync_wal(connection: sqlite3.Connection) -> None:
    """Make a power cut unable to bring back what the WAL held: SQLite leaves its new length
    to the operating system.
    """
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(f"{path}-wal", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise sqlite3.OperationalError(f"the WAL cannot be synced: {error}") from error
        finally:
            os.close(descriptor)


def _mark(connection: sqlite3.Connection, statement: str) -> None:
    """Begin, end or undo a savepoint.

    Raises:
        _Lost: That failed.
    """
    try:
        connection.execute(statement)
    except sqlite3.Error as error:
        raise _Lost(as_failure(error) or StoreDown("a savepoint failed")) from error
