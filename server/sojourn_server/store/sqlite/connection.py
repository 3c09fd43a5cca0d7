"""Connections to the file, each with a thread of its own.

The one place that uses what aiosqlite keeps to itself: `_execute`, which runs a
function on the connection's thread, `_conn`, the sqlite3 connection that such a
function works with, and `_thread`. Why: docs/decisions/0003-sqlite-store.md.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite

from sojourn_server.store.base import StoreUnusable
from sojourn_server.store.sqlite.errors import as_unusable

T = TypeVar("T")

SYNCHRONOUS: Final = frozenset({"OFF", "NORMAL", "FULL", "EXTRA"})
_STATEMENTS: Final = 512
"""Prepared statements kept per connection: all that there are."""

BUSY_PATIENCE: Final = 250
"""How long the writer waits for a lock that another process holds, in milliseconds."""

_WRITER_PRAGMAS: Final = (
    # Frees nothing without zeroing it.
    "secure_delete = ON",
    # Sorts and savepoints never reach a disk, so they leave no content there.
    "temp_store = MEMORY",
    # The writer checkpoints by hand, after it has answered.
    "wal_autocheckpoint = 0",
    # What a WAL may keep of the disk after a checkpoint, in bytes.
    "journal_size_limit = 67108864",
    # Rows refer to each other by numbers that only this program writes.
    "foreign_keys = OFF",
    "cell_size_check = ON",
    "trusted_schema = OFF",
    # In KiB. The operating system keeps the file's pages, too; more here gained nothing.
    "cache_size = -24576",
    f"busy_timeout = {BUSY_PATIENCE:d}",
)
_READER_PRAGMAS: Final = (
    "query_only = ON",
    "temp_store = MEMORY",
    "wal_autocheckpoint = 0",
    "cell_size_check = ON",
    "trusted_schema = OFF",
    "cache_size = -8192",
    "busy_timeout = 5000",
)

_MAGIC: Final = b"SQLite format 3\0"
_NOT_WRITABLE: Final = "{} may not be written by this user or is on a read-only disk."


class Connection:
    """One SQLite connection and the thread that alone uses it."""

    def __init__(self, inner: aiosqlite.Connection) -> None:
        self._inner = inner

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do work on the connection's thread and wait for it.

        Cancelling the caller does not stop the work.
        """
        inner = self._inner
        done: T = await inner._execute(work, inner._conn)  # type: ignore[no-untyped-call]  # noqa: SLF001
        return done

    async def close(self) -> None:
        """Close; the thread ends."""
        await self._inner.close()


async def _connect(path: Path) -> Connection:
    inner = aiosqlite.connect(path, isolation_level=None, cached_statements=_STATEMENTS)
    # A server that fails before it closes its store must still be able to exit.
    inner._thread.daemon = True  # noqa: SLF001
    try:
        return Connection(await inner)
    except BaseException:
        # Its thread still has a word for this loop, which must be there to hear it.
        await asyncio.shield(asyncio.to_thread(inner._thread.join))  # noqa: SLF001
        raise


async def _prepared(path: Path, prepare: Callable[[sqlite3.Connection], Any]) -> Connection:
    connection = await _connect(path)
    try:
        await connection.run(prepare)
    except BaseException:
        await asyncio.shield(connection.close())
        raise
    return connection


async def open_writer(
    path: Path,
    synchronous: str,
    check: Callable[[sqlite3.Connection], Any],
    prepare: Callable[[sqlite3.Connection], Any],
) -> Connection:
    """The connection that writes and checkpoints.

    Args:
        path: The database file; made when missing.
        synchronous: One of `SYNCHRONOUS`. Only FULL and EXTRA survive a power cut.
        check: What to do before anything is written, on its thread.
        prepare: What to do once the file has its write-ahead log.

    Raises:
        StoreUnusable: The file is on a disk that cannot hold a WAL.
        sqlite3.Error: Whatever else went wrong.
    """

    def begin(connection: sqlite3.Connection) -> None:
        for pragma in _WRITER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        check(connection)
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise StoreUnusable(f"{path} is on a file system that cannot hold its write-ahead log.")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        prepare(connection)

    if synchronous not in SYNCHRONOUS:
        raise ValueError(f"synchronous must be one of {sorted(SYNCHRONOUS)}")
    return await _prepared(path, begin)


async def open_reader(path: Path) -> Connection:
    """A connection that only reads."""

    def begin(connection: sqlite3.Connection) -> None:
        for pragma in _READER_PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    return await _prepared(path, begin)


def check_place(path: Path) -> None:
    """Refuse a path that cannot hold a database, with a sentence that says why.

    Raises:
        StoreUnusable: It cannot.
    """
    try:
        _check_place(path)
    except OSError as error:
        raise StoreUnusable(f"{path} cannot be reached ({error.strerror}).") from None


def _check_place(path: Path) -> None:
    folder = path.parent
    if not folder.exists():
        raise StoreUnusable(f"{path} cannot be created: there is no directory {folder}.")
    if not folder.is_dir():
        raise StoreUnusable(f"{path} cannot be created: {folder} is not a directory.")
    if path.exists():
        if not path.is_file():
            raise StoreUnusable(f"{path} is not a file.")
        if not os.access(path, os.R_OK):
            raise StoreUnusable(f"{path} may not be read by this user.")
        if not os.access(path, os.W_OK):
            raise StoreUnusable(_NOT_WRITABLE.format(path))
        if not _may_be_a_database(path):
            raise StoreUnusable(f"{path} is not an SQLite database.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreUnusable(_NOT_WRITABLE.format(folder))


def make_private(path: Path) -> None:
    """Make the database file, if it is missing, for its owner's eyes only.

    SQLite gives the files beside it the same rights.

    Raises:
        OSError: It cannot be made.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _may_be_a_database(path: Path) -> bool:
    """Whether a file is empty or begins as every database does.

    SQLite takes a file of a few bytes for an empty database, and would write over it.
    """
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    return head in {b"", _MAGIC}


def why_unusable(error: sqlite3.Error, path: Path) -> StoreUnusable:
    """Why the database at a path cannot be opened."""
    return as_unusable(error, str(path))
