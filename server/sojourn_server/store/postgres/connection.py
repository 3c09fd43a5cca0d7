"""Connections to the database: one round trip at a time on each, and a few at once.

A pool of our own, since it is small and ours to say three things that matter here: who
asks for a connection while the database is away hears so at once and does not queue; a
connection that broke takes its idle neighbours with it, which broke as well; and nothing
of a connection string gets into a text.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper
from psycopg.waiting import wait_async

from sojourn_server.store.base import StoreDown
from sojourn_server.store.postgres.arrays import (
    Bigints,
    BigintsDumper,
    Blobs,
    BlobsDumper,
    Texts,
    TextsDumper,
)
from sojourn_server.store.postgres.errors import Lost, breaks, unreadable, why_unreachable
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.rows import Row

T = TypeVar("T")

Statement = tuple[str, Sequence[Any] | Mapping[str, Any]]
"""SQL and its parameters."""

_SLACK: Final = 5.0
"""How much longer than the database's own limit an answer may take, in seconds."""
_REST_FIRST: Final = 0.05
_REST_MOST: Final = 1.0
"""How long after a failed try nobody tries to connect, in seconds."""

# What it says names the user; what we need to know, it raises.
logging.getLogger("psycopg").setLevel(logging.CRITICAL + 1)


class Options(NamedTuple):
    """How to connect."""

    dsn: str
    """A connection string or URL, as libpq reads it."""
    size: int = 8
    """The most connections."""
    prepare: bool = True
    """Whether statements are prepared and settings stay: not behind a pool of connections
    that gives each transaction another one."""
    connect_timeout: float = 5.0
    """How long connecting may take, in seconds."""
    statement_timeout: float = 30.0
    """How long one statement may take, in seconds."""

    @property
    def conninfo(self) -> str:
        """The connection string, with what we add to it.

        Raises:
            StoreUnusable: It cannot be read.
        """
        try:
            given = conninfo_to_dict(self.dsn)
        except psycopg.Error:
            raise unreadable() from None
        ours: dict[str, Any] = {
            "application_name": "sojourn",
            "connect_timeout": max(2, round(self.connect_timeout)),
            "keepalives_idle": 15,
            "keepalives_interval": 5,
            "tcp_user_timeout": round((self.statement_timeout + _SLACK) * 1_000),
        }
        return make_conninfo(**{**ours, **given})

    @property
    def place(self) -> str:
        """What to call the database: its host and name, never the user or the password."""
        try:
            given = conninfo_to_dict(self.dsn)
        except psycopg.Error:
            raise unreadable() from None
        host = str(given.get("host") or given.get("hostaddr") or "localhost")
        port = given.get("port")
        name = given.get("dbname")
        where = f"{host}:{port}" if port else host
        return f"PostgreSQL at {where}" + (f", database {name}" if name else "")

    def settings(self, *, local: bool) -> Statement:
        """The statement that sets up a connection, or one transaction."""
        limit = f"{round(self.statement_timeout * 1_000)}ms"
        return QUERIES.settings, (limit, local, limit, local, limit, *([local] * 9))


class _Connection(psycopg.AsyncConnection[Row]):
    """A connection that is left at once by whoever must leave it.

    The driver's own would ask the database first to cancel what runs, and wait for that:
    ten seconds for one that hangs, however long its caller wanted to wait.
    """

    async def wait(
        self, gen: PQGen[T], interval: float = 0.1, *arguments: Any, **options: Any
    ) -> T:
        """Wait for an answer; whoever is cancelled meanwhile closes the connection."""
        try:
            return await wait_async(gen, self.pgconn.socket, interval, *arguments, **options)
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise


class Link:
    """One connection.

    Args:
        inner: In autocommit mode: transactions are begun and ended by statements.
        options: How it was made.
        age: How many connections had broken when it was made.
    """

    def __init__(
        self, inner: psycopg.AsyncConnection[Row], options: Options, age: int, trips: Trips
    ) -> None:
        self._inner = inner
        self._options = options
        self._trips = trips
        self.age = age
        self.broken = False
        """Whether it must not be used again."""

    @property
    def version(self) -> str:
        """The release of the database server."""
        number = self._inner.info.server_version
        return f"{number // 10_000}.{number % 100}"

    @property
    def release(self) -> int:
        """The major release of the database server."""
        return self._inner.info.server_version // 10_000

    @property
    def pid(self) -> int:
        """The number of its process on the server."""
        return self._inner.info.backend_pid

    def beginning(self, begin: str) -> list[Statement]:
        """The statements that begin a transaction."""
        if self._options.prepare:
            return [(begin, ())]
        return [(begin, ()), self._options.settings(local=True)]

    async def run(
        self, statements: Sequence[Statement], *, prepare: bool = True
    ) -> list[list[Row]]:
        """Execute statements in one round trip.

        Args:
            statements: In their order.
            prepare: Whether those that come often may be prepared.

        Returns:
            The rows of each; none for one that answers no rows.

        Raises:
            psycopg.Error: One failed, and those after it were not executed.
            Lost: There was no answer in time, or the commit did not hold.
        """
        self._trips.count(len(statements))
        try:
            async with asyncio.timeout(self._options.statement_timeout + _SLACK):
                return await self._run(statements, None if prepare else False)
        except TimeoutError:
            self.broken = True
            raise Lost("the database does not answer") from None
        except BaseException as error:
            self.broken = self.broken or breaks(error)
            raise

    async def _run(self, statements: Sequence[Statement], prepare: bool | None) -> list[list[Row]]:
        inner = self._inner
        if len(statements) == 1:
            cursor = inner.cursor(binary=True)
            await cursor.execute(*statements[0], prepare=prepare)
            cursors = [cursor]
        else:
            cursors = []
            async with inner.pipeline():
                for statement in statements:
                    cursor = inner.cursor(binary=True)
                    await cursor.execute(*statement, prepare=prepare)
                    cursors.append(cursor)
            if any(text == QUERIES.undo for text, _ in statements):
                # After a rollback the driver forgets what it has prepared, and in a pipeline puts
                # off telling the database: by then that would hit what was prepared since.
                await inner.execute("SELECT 1", prepare=False)
        if statements[-1][0] == QUERIES.commit and cursors[-1].statusmessage != "COMMIT":
            # A transaction that has failed answers COMMIT with ROLLBACK, and no error.
            raise Lost("the database rolled the commit back")
        return [await each.fetchall() if each.description else [] for each in cursors]

    async def notices(self) -> AsyncIterator[tuple[int, str]]:
        """What others notify of, with the number of their process, until it breaks.

        Raises:
            psycopg.Error: The connection is lost.
        """
        async for notice in self._inner.notifies():
            yield notice.pid, notice.payload

    async def script(self, text: str) -> None:
        """Execute the statements of a migration, within a transaction."""
        await self._inner.execute(text.encode(), prepare=False)

    async def reset(self) -> None:
        """Leave whatever transaction it is in the middle of; it is broken if it cannot."""
        if not self.broken:
            try:
                await self.run([(QUERIES.rollback, ())])
            except (psycopg.Error, Lost):
                self.broken = True

    async def close(self) -> None:
        """Close it."""
        self.broken = True
        with suppress(psycopg.Error, OSError):
            await self._inner.close()


class Trips:
    """How often the database was asked, and with how many statements."""

    def __init__(self) -> None:
        self.trips = 0
        self.statements = 0

    def count(self, statements: int) -> None:
        """Note one round trip."""
        self.trips += 1
        self.statements += statements


class Links:
    """The connections of one store.

    Args:
        options: How to connect.
        on_break: Called when a connection broke.
    """

    def __init__(self, options: Options, on_break: Callable[[], None]) -> None:
        self.options = options
        self.trips = Trips()
        self._on_break = on_break
        self._room = asyncio.Semaphore(options.size)
        self._idle: list[Link] = []
        self._age = 0
        self._rest = 0.0
        self._rest_until = 0.0
        self._why = ""
        self._closed = False

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Link]:
        """A connection, for as long as it is needed.

        Raises:
            StoreDown: There is none to be had.
        """
        async with self._room:
            link = await self._take()
            try:
                yield link
            except BaseException:
                # Nobody knows what its transaction was in the middle of.
                link.broken = True
                raise
            finally:
                if link.broken:
                    await self._drop(link)
                elif link.age < self._age or self._closed:
                    await link.close()
                else:
                    self._idle.append(link)

    async def _take(self) -> Link:
        while self._idle:
            link = self._idle.pop()
            if link.age == self._age:
                return link
            await link.close()
        if self._closed:
            raise StoreDown("the store is closed")
        if time.monotonic() < self._rest_until:
            raise StoreDown(f"{self.options.place} cannot be used: {self._why}")
        try:
            link = await self.connect()
        except (psycopg.Error, OSError, TimeoutError) as error:
            self._why = why_unreachable(error)
            self._rest = min(_REST_MOST, max(_REST_FIRST, self._rest * 2))
            # Not all servers at once.
            self._rest_until = time.monotonic() + self._rest * random.uniform(0.5, 1)  # noqa: S311
            raise StoreDown(f"{self.options.place} cannot be used: {self._why}") from None
        self._rest = 0.0
        return link

    async def connect(self) -> Link:
        """Make a connection.

        Raises:
            psycopg.Error, OSError, TimeoutError: That failed.
        """
        options = self.options
        age = self._age
        async with asyncio.timeout(options.connect_timeout + 1):
            inner = await _Connection.connect(
                options.conninfo,
                autocommit=True,
                prepare_threshold=5 if options.prepare else None,
            )
        # Numbers always as bigint, so that a statement has one form and is prepared once.
        inner.adapters.register_dumper(int, Int8Dumper)
        inner.adapters.register_dumper(int, Int8BinaryDumper)
        inner.adapters.register_dumper(Bigints, BigintsDumper)
        inner.adapters.register_dumper(Texts, TextsDumper)
        inner.adapters.register_dumper(Blobs, BlobsDumper)
        inner.prepared_max = 500
        link = Link(inner, options, age, self.trips)
        if options.prepare:
            try:
                await link.run([options.settings(local=False)])
            except BaseException:
                await link.close()
                raise
        return link

    async def _drop(self, link: Link) -> None:
        if link.age == self._age:
            self._age += 1
            self._on_break()
        await link.close()

    async def close(self) -> None:
        """Close all that are idle, and the others when they come back."""
        self._closed = True
        while self._idle:
            await self._idle.pop().close()
