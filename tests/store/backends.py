"""The backends that the conformance suite runs against.

A backend of the suite opens stores over one set of data, shows what a crash would
leave of them, and offers stores that cannot be opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from psycopg.conninfo import make_conninfo

from sojourn_server.domain.clock import Clock
from sojourn_server.store.base import Store
from sojourn_server.store.postgres import Options, PostgresStore
from sojourn_server.store.sqlite import SqliteStore
from tests import postgres


class Backend(Protocol):
    """One kind of store, as the suite sees it."""

    async def open(self) -> Store:
        """A store over this backend's data, opened; the only one unless said otherwise."""
        ...

    async def reopen(self, store: Store) -> Store:
        """A store over the data of another one, which is closed."""
        ...

    async def after_crash(self, store: Store) -> Store:
        """A store over what would be left if `store` died this instant, opened."""
        ...

    def unusable(self) -> Iterator[tuple[str, Store]]:
        """Stores that cannot be opened, each with what is wrong with it."""
        ...

    async def close(self) -> None:
        """Close every store that was opened."""
        ...


class SqliteBackend:
    """Stores in files of one directory."""

    def __init__(self, folder: Path, clock: Clock, synchronous: str = "FULL") -> None:
        self._folder = folder
        self._synchronous = synchronous
        self._clock = clock
        self._opened: list[SqliteStore] = []
        self._crashes = 0

    async def _open(self, path: Path) -> Store:
        store = SqliteStore(path, clock=self._clock, synchronous=self._synchronous)
        await store.open()
        self._opened.append(store)
        return store

    async def open(self) -> Store:
        return await self._open(self._folder / "sojourn.db")

    async def reopen(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        await store.close()
        return await self._open(store.path)

    async def after_crash(self, store: Store) -> Store:
        assert isinstance(store, SqliteStore)
        self._crashes += 1
        path = self._folder / f"crash-{self._crashes}.db"
        # A process that is killed leaves the file and its WAL; the -shm file counts for nothing.
        for suffix in ("", "-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(f"{store.path}{suffix}", f"{path}{suffix}")
        return await self._open(path)

    def unusable(self) -> Iterator[tuple[str, Store]]:
        text = self._folder / "text.db"
        text.write_text("this is no database, though it is long enough to be one\n" * 100)
        yield "not a database", SqliteStore(text)
        yield "no directory", SqliteStore(self._folder / "nowhere" / "sojourn.db")
        yield "a directory", SqliteStore(self._folder)

    async def close(self) -> None:
        for store in self._opened:
            await store.close()


class PostgresBackend:
    """Stores in one database."""

    def __init__(self, clock: Clock | None) -> None:
        self.dsn = postgres.server().take()
        self.through = self.dsn
        """Another way to the same database."""
        self._clock = clock
        self._opened: list[PostgresStore] = []

    async def open(self) -> Store:
        return await self.open_as()

    async def open_as(self, **options: Any) -> PostgresStore:
        """A store with options of its own."""
        chosen = Options(**{"dsn": self.dsn, "size": 4, **options})
        store = PostgresStore(chosen, clock=self._clock)
        await store.open()
        self._opened.append(store)
        return store

    async def reopen(self, store: Store) -> Store:
        await store.close()
        return await self.open()

    async def after_crash(self, store: Store) -> Store:
        # What a server that dies leaves is what it has committed: all that another one sees.
        return await self.open()

    def unusable(self) -> Iterator[tuple[str, Store]]:
        for what, given in {
            "no database": {"dbname": "sojourn_none"},
            "nothing listens": {"host": "127.0.0.1", "port": "1"},
            "no socket": {"host": "/nowhere"},
        }.items():
            yield what, PostgresStore(Options(make_conninfo(self.dsn, **given)))
        yield "no connection string", PostgresStore(Options("postgresql://[::1"))

    async def close_stores(self) -> None:
        """Close every store that was opened, and keep the database."""
        for store in self._opened:
            await store.close()

    async def close(self) -> None:
        await self.close_stores()
        postgres.server().give(self.dsn)


BACKENDS = ("sqlite", "postgres")


def make_backend(name: str, folder: Path, clock: Clock, synchronous: str = "FULL") -> Backend:
    """A backend by its name."""
    if name == "sqlite":
        return SqliteBackend(folder, clock, synchronous)
    assert name == "postgres"
    return PostgresBackend(clock)
