"""What SQLite's errors mean for callers and for the operator."""

from __future__ import annotations

import sqlite3
from typing import Final

from sojourn_server.store.base import StoreDown, StoreFull, StoreUnusable

_PRIMARY: Final = 0xFF
"""The low byte of an extended result code is the primary one."""

_FAULTS: Final = frozenset(
    {
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_NOTADB,
    }
)
"""Primary codes that tell of the machine or the file, not of the statement."""

_UNIQUE: Final = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


def _code(error: sqlite3.Error) -> int:
    """The extended result code; 0 for an error that the driver made itself."""
    return getattr(error, "sqlite_errorcode", 0)


def is_taken(error: sqlite3.Error) -> bool:
    """Whether a statement failed because a unique key exists."""
    return _code(error) in _UNIQUE


def as_failure(error: sqlite3.Error) -> StoreFull | StoreDown | None:
    """What an error of a running store is to its callers.

    Returns:
        `StoreFull` or `StoreDown`; None for a fault of the statement itself, which is a
        mistake in the program and stays what it is.
    """
    code = _code(error)
    primary = code & _PRIMARY
    if primary == sqlite3.SQLITE_FULL:
        return StoreFull("the disk of the database is full")
    if primary in _FAULTS:
        name = getattr(error, "sqlite_errorname", "an error")
        return StoreDown(f"the database failed with {name}")
    if code == 0 and isinstance(error, sqlite3.ProgrammingError):
        return StoreDown("the database connection is closed")
    return None


def as_unusable(error: sqlite3.Error, path: str) -> StoreUnusable:
    """Why a database cannot be opened, as a sentence for the operator.

    Args:
        error: What SQLite said.
        path: The database file.
    """
    primary = _code(error) & _PRIMARY
    if primary == sqlite3.SQLITE_NOTADB:
        return StoreUnusable(f"{path} is not an SQLite database.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return StoreUnusable(f"{path} is damaged; restore it from a backup.")
    if primary == sqlite3.SQLITE_FULL:
        return StoreUnusable(f"{path} cannot be opened because its disk is full.")
    if primary in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM}:
        return StoreUnusable(f"{path} may not be written by this user or is on a read-only disk.")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StoreUnusable(f"{path} cannot be opened or created.")
    if primary in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreUnusable(f"{path} is locked by another program.")
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    return StoreUnusable(f"{path} cannot be used: the database answers {name}.")
