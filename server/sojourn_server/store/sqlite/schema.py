"""The schema: which version a file has, and how it comes to the newest."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from sojourn_server.store import sqlfile
from sojourn_server.store.base import StoreUnusable, TokenKey
from sojourn_server.store.sqlite import backfill
from sojourn_server.store.sqlite.queries import QUERIES

APPLICATION_ID: Final = 0x534A524E
"""`SJRN`, in the header of every database of ours."""

_OLDEST_SQLITE: Final = (3, 37, 0)
"""STRICT tables."""

_CHECKED_WHOLE: Final = 64 * 1024 * 1024
"""Files up to this size, in bytes, are checked page by page at every start."""

_SECRET_BYTES: Final = 32

_STEPS: Final[dict[int, Callable[[sqlite3.Connection], None]]] = {2: backfill.fill}
"""What a migration does beside its SQL, by its number."""


def migrations() -> list[tuple[int, str]]:
    """The numbered migrations, the oldest first."""
    return sqlfile.migrations(__package__ or "")


def statements(script: str) -> Iterator[str]:
    """Cut a script into its statements; `executescript` would commit on the way."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if line.rstrip().endswith(";") and sqlite3.complete_statement(pending):
            yield pending.strip()
            pending = ""
    if any(line.strip() and not line.startswith("--") for line in pending.splitlines()):
        raise ValueError("the last statement of a migration lacks its semicolon")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    value: int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


def check(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a file that is not ours, or damaged, before anything is written to it.

    Raises:
        StoreUnusable: It must not be used.
    """
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise StoreUnusable(f"SQLite {sqlite3.sqlite_version} is too old; 3.37 or newer is needed.")
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and _pragma(connection, "application_id") != APPLICATION_ID:
        raise StoreUnusable(f"{path} is a database of another program.")
    newest = migrations()[-1][0]
    version = _pragma(connection, "user_version")
    if version > newest:
        raise StoreUnusable(
            f"{path} was written by a newer server (schema {version}, this one knows {newest})."
        )
    if _pragma(connection, "page_count") * _pragma(connection, "page_size") <= _CHECKED_WHOLE:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreUnusable(f"{path} is damaged; restore it from a backup.")


def version_of(path: Path) -> int:
    """The version of a file; 0: there is none yet. Nothing is written.

    Raises:
        StoreUnusable: It must not be used.
        sqlite3.Error: It cannot be read.
    """
    if not path.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
        check(connection, str(path))
        return _pragma(connection, "user_version")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the schema to the newest version, in one transaction; make the first token key."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = _pragma(connection, "user_version")
        for number, script in migrations():
            if number > version:
                for statement in statements(script):
                    connection.execute(statement)
                if number in _STEPS:
                    _STEPS[number](connection)
                # A PRAGMA takes no parameters; the number is one of our own file names.
                connection.execute(f"PRAGMA user_version = {number:d}")
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        if connection.execute(QUERIES.token_keys).fetchone() is None:
            connection.execute(QUERIES.token_key_insert, (1, os.urandom(_SECRET_BYTES)))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def token_keys(connection: sqlite3.Connection) -> tuple[TokenKey, ...]:
    """The keys for tokens, the current one first."""
    return tuple(TokenKey(*row) for row in connection.execute(QUERIES.token_keys))
