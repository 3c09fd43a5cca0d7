"""The store in one SQLite file. What each method must do stands in `store.base`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from sojourn_server.domain.clock import Clock, Nanos, WallClock
from sojourn_server.store.base import Applied, Priority, ReadTx, StoreUnusable, TokenKey, Tx
from sojourn_server.store.sqlite import schema
from sojourn_server.store.sqlite.backup import Copier
from sojourn_server.store.sqlite.census import Census, Place
from sojourn_server.store.sqlite.connection import (
    SYNCHRONOUS,
    Connection,
    check_place,
    make_private,
    open_reader,
    open_writer,
    why_unusable,
)
from sojourn_server.store.sqlite.hot import Hot
from sojourn_server.store.sqlite.lock import OwnerLock
from sojourn_server.store.sqlite.read_tx import SqliteReadTx
from sojourn_server.store.sqlite.reader import Readers
from sojourn_server.store.sqlite.stale import Pages, Stale
from sojourn_server.store.sqlite.write_tx import SqliteTx
from sojourn_server.store.sqlite.writer import Writer
from sojourn_server.store.stats import StoreStats

T = TypeVar("T")

_READERS: Final = 2
_WALL_CLOCK: Final = WallClock()


class SqliteStore:
    """A backend in one file (and its `-wal`, `-shm` and `.lock`), owned by one process.

    Bound to the event loop that opens it.

    Args:
        path: The database file; made when missing. Its directory must exist.
        clock: What `now` of every transaction is.
        synchronous: SQLite's setting of that name: OFF, NORMAL, FULL or EXTRA. Below
            FULL a power cut may take back what was answered (S3).
        max_batch: The most units in one commit, at least 1.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Clock = _WALL_CLOCK,
        synchronous: str = "FULL",
        max_batch: int = 256,
    ) -> None:
        if synchronous not in SYNCHRONOUS:
            raise ValueError(f"synchronous must be one of {sorted(SYNCHRONOUS)}")
        if max_batch < 1:
            raise ValueError("max_batch must be at least 1")
        # The real path: two names of one file must meet at one lock.
        self._path = Path(os.path.realpath(Path(path).expanduser()))
        self._synchronous = synchronous
        self._lock = OwnerLock(self._path)
        self._keys: tuple[TokenKey, ...] = ()
        hot = Hot()
        self._writer = Writer(clock, max_batch, self._open_writer, hot)
        self._readers = Readers(clock, _READERS, lambda: open_reader(self._path), hot)
        self._pages = Pages(self._path)
        self._stale = Stale(self._pages, self._clear_slice, self._stale_done)
        self._closing: asyncio.Task[None] | None = None
        self._census = Census()
        self._copier = Copier(self._path)
        self._copies: set[asyncio.Task[int]] = set()

    @property
    def kind(self) -> str:
        """See `Store`."""
        return "sqlite"

    @property
    def engine_version(self) -> str:
        """See `Store`."""
        return sqlite3.sqlite_version

    @property
    def schema_version(self) -> int:
        """See `Store`."""
        return schema.migrations()[-1][0]

    @property
    def place(self) -> str:
        """See `Store`."""
        return str(self._path)

    @property
    def scrubs(self) -> bool:
        """See `Store`."""
        return True

    @property
    def path(self) -> Path:
        """The database file."""
        return self._path

    @property
    def token_keys(self) -> Sequence[TokenKey]:
        """See `Store`."""
        return self._keys

    async def versions(self) -> tuple[int, int]:
        """See `Store`."""
        check_place(self._path)
        try:
            found = await asyncio.to_thread(schema.version_of, self._path)
        except sqlite3.Error as error:
            raise why_unusable(error, self._path) from None
        return found, self.schema_version

    async def open(self) -> None:
        """See `Store`."""
        check_place(self._path)
        self._lock.acquire()
        try:
            make_private(self._path)
            await self._writer.start()
            await self._readers.start()
        except BaseException as error:
            await self._shut()
            if isinstance(error, sqlite3.Error):
                raise why_unusable(error, self._path) from None
            if isinstance(error, OSError):
                raise StoreUnusable(f"{self._path} cannot be used: {error.strerror}.") from None
            raise

    async def close(self) -> None:
        """See `Store`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._shut(), name="sqlite close")
        await asyncio.shield(self._closing)

    async def _shut(self) -> None:
        self._copier.stop()
        if self._copies:
            await asyncio.wait(self._copies)
        # Readers first: the last connection to close must be the one that may checkpoint.
        await self._readers.close()
        await self._writer.close()
        self._pages.close()
        self._lock.release()

    async def _open_writer(self) -> Connection:
        def check(connection: sqlite3.Connection) -> None:
            if not self._keys:  # not when the writer only comes back after a failure
                schema.check(connection, str(self._path))

        def prepare(connection: sqlite3.Connection) -> None:
            if not self._keys:
                schema.migrate(connection)
                self._keys = schema.token_keys(connection)

        return await open_writer(self._path, self._synchronous, check, prepare)

    async def apply(
        self,
        app: str,
        actor: str,
        unit: Callable[[Tx], Awaitable[T]],
        priority: Priority = Priority.CALLER,
    ) -> Applied[T]:
        """See `Store`."""
        return await self._writer.submit(app, actor, unit, priority)

    async def read(self, query: Callable[[ReadTx], Awaitable[T]]) -> T:
        """See `Store`."""
        return cast("T", await self._readers.submit(query))

    async def apps(self, after: str, limit: int) -> Sequence[str]:
        """See `Store`."""
        names: Sequence[str] = await self._readers.submit(lambda tx: tx.app_names(after, limit))
        return names

    async def purge(self, limit: int) -> bool:
        """See `Store`."""

        async def unit(tx: SqliteTx) -> tuple[bool, int]:
            return await tx.purge(limit), await tx.stale_last()

        none_left, wished = await self._own_work(unit, Priority.JOB)
        return none_left and await self._stale.go_on(wished) and await self._writer.scrub()

    async def _clear_slice(self, first: int) -> int | None:
        return await self._writer.between(lambda connection: self._pages.clear(connection, first))

    async def _stale_done(self, last: int) -> None:
        await self._own_work(lambda tx: tx.stale_done(last), Priority.JOB)

    async def forget_audit(self, app: str, before: Nanos, limit: int) -> int:
        """See `Store`."""
        return int(
            await self._own_work(lambda tx: tx.forget_audit(app, before, limit), Priority.JOB)
        )

    async def forget_requests(self, before: Nanos, limit: int) -> int:
        """See `Store`."""
        return int(await self._own_work(lambda tx: tx.forget_requests(before, limit), Priority.JOB))

    async def compact(self, app: str, before: Nanos, keep: int, limit: int) -> int:
        """See `Store`."""
        return int(
            await self._own_work(lambda tx: tx.compact(app, before, keep, limit), Priority.JOB)
        )

    @property
    def backs_up(self) -> bool:
        """See `Store`."""
        return True

    async def back_up(self, folder: Path, name: str) -> int:
        """See `Store`. A caller who leaves does not stop it."""
        copying = asyncio.to_thread(self._copier.copy, folder, name)
        task = asyncio.create_task(copying, name="sqlite backup")
        self._copies.add(task)
        task.add_done_callback(self._copied)
        return await asyncio.shield(task)

    def _copied(self, task: asyncio.Task[int]) -> None:
        self._copies.discard(task)
        if not task.cancelled():
            task.exception()  # where nobody waits for it any more, nobody hears of it

    def on_commit(self, tell: Callable[[str], None]) -> None:
        """See `Store`. There is no other server."""
        self._writer.tell = tell

    async def check_readable(self) -> None:
        """See `Store`."""
        await self._readers.submit(SqliteReadTx.pulse)

    async def check_writable(self) -> None:
        """See `Store`."""
        await self._own_work(SqliteTx.beat, Priority.CALLER)

    async def leads(self, job: str) -> bool:  # noqa: ARG002 - the one owner runs them all
        """See `Store`."""
        return True

    async def stats(self) -> StoreStats:
        """See `Store`. Each call counts a few more rows until all are counted once."""
        census, writer, readers = self._census, self._writer, self._readers
        began = census.place

        async def look(tx: SqliteReadTx) -> tuple[int, dict[str, int], Place]:
            free = await tx.free_bytes()
            place = began if census.done else await tx.census(began, census.most)
            return free, _sizes(self._path), place

        free, sizes, place = await readers.submit(look)
        net = copy(writer.added)
        net.add(writer.removed, -1)
        census.note(began, place, net)
        return StoreStats(
            commit_seconds=writer.commit_seconds.copy(),
            commit_units=writer.commit_units.copy(),
            commits_failed=writer.commits_failed,
            units_waiting=writer.waiting,
            reads_from_memory=readers.asked - readers.cold,
            reads_from_database=readers.cold,
            added=copy(writer.added),
            removed=copy(writer.removed),
            rows=census.rows(net),
            bytes=sizes,
            free_bytes=free,
        )

    async def _own_work(
        self, unit: Callable[[SqliteTx], Awaitable[Any]], priority: Priority
    ) -> Any:
        """Carry out work of no app."""
        return (await self._writer.submit("", "", unit, priority)).value


def _sizes(path: Path) -> dict[str, int]:
    """The bytes that the files of a database have."""
    sizes = {"database": 0, "wal": 0}
    for part, name in (("database", path), ("wal", Path(f"{path}-wal"))):
        with contextlib.suppress(FileNotFoundError):
            sizes[part] = name.stat().st_size
    return sizes
