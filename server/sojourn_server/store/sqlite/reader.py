"""Reads, in batches: all that wait share one hop to a thread and one snapshot."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final

from sojourn_server.domain.clock import Clock, Nanos
from sojourn_server.store.base import SessionRow, StoreDown
from sojourn_server.store.sqlite.connection import Connection
from sojourn_server.store.sqlite.hot import Cold, FileTx, Hot, Key
from sojourn_server.store.sqlite.read_tx import SqliteReadTx
from sojourn_server.store.sqlite.units import drive

_MAX_BATCH: Final = 64
_BUDGET: Final[Nanos] = 10_000_000
"""After so long a batch ends, so that a snapshot is never held for long."""

Query = Callable[[SqliteReadTx], Awaitable[Any]]


class _Read:
    """One read in the queue, and what became of it."""

    __slots__ = ("error", "future", "query", "value")

    def __init__(self, query: Query, future: asyncio.Future[Any]) -> None:
        self.query = query
        self.future = future
        self.value: Any = None
        self.error: Exception | None = None


class Readers:
    """A few connections that only read, and the queue before them.

    Args:
        clock: What `now` of a transaction is.
        count: How many connections.
        reopen: Opens one.
        hot: Answers what it can without any of them.
    """

    def __init__(
        self,
        clock: Clock,
        count: int,
        reopen: Callable[[], Awaitable[Connection]],
        hot: Hot,
    ) -> None:
        self._clock = clock
        self._count = count
        self._reopen = reopen
        self._hot = hot
        self._waiting: deque[_Read] = deque()
        self._idle: list[asyncio.Event] = []
        self._called = False
        self._closing = True
        self._tasks: list[asyncio.Task[None]] = []
        self.asked = 0
        """How many reads there were."""
        self.cold = 0
        """How many of them memory could not answer."""

    async def start(self) -> None:
        """Open the connections and begin to serve."""
        connections = [await self._reopen() for _ in range(self._count)]
        self._closing = False
        self._tasks = [
            asyncio.create_task(self._serve(connection), name="sqlite reader")
            for connection in connections
        ]

    async def close(self) -> None:
        """Finish what was accepted, then close the connections."""
        self._closing = True
        for event in self._idle:
            event.set()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks = []

    async def submit(self, query: Query) -> Any:
        """Queue a read and wait for its answer.

        Raises:
            StoreDown: The database failed.
            Exception: Whatever the read raised.
        """
        if self._closing:
            raise StoreDown("the store is closed")
        self.asked += 1
        with contextlib.suppress(Cold):
            return self._hot.ask(query, self._clock.now())
        self.cold += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Read(query, future))
        self._call()
        return await future

    def _call(self) -> None:
        """Wake one reader, unless one is on its way."""
        if self._idle and not self._called:
            self._called = True
            self._idle.pop().set()

    async def _serve(self, first: Connection) -> None:
        connection: Connection | None = first
        event = asyncio.Event()
        try:
            while True:
                self._called = False
                batch = self._take()
                if batch:
                    if self._waiting:
                        self._call()
                    connection = await self._answer(connection, batch)
                elif self._closing:
                    return
                else:
                    event.clear()
                    self._idle.append(event)
                    await event.wait()
        finally:
            if connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    await connection.close()

    def _take(self) -> list[_Read]:
        batch: list[_Read] = []
        while self._waiting and len(batch) < _MAX_BATCH:
            read = self._waiting.popleft()
            if not read.future.done():  # its caller was cancelled
                batch.append(read)
        return batch

    async def _answer(self, connection: Connection | None, batch: list[_Read]) -> Connection | None:
        """Answer a batch; the connection to go on with, or None after it failed."""
        failure: StoreDown | None = None
        done = len(batch)
        found: dict[Key, SessionRow] = {}
        heads: dict[str, int] = {}
        stamp = self._hot.read_begins()
        try:
            if connection is None:
                connection = await self._reopen()
            done, tx = await connection.run(partial(self._run, batch=batch))
            found, heads = tx.found, tx.heads
        except Exception as error:  # noqa: BLE001 - a reader must outlive every failure
            failure = StoreDown(f"the database cannot be read: {error}")
            failure.__cause__ = error
        self._hot.read_ends(stamp, found, heads)
        for read in reversed(batch[done:]):
            self._waiting.appendleft(read)
        for read in batch[:done]:
            if read.future.done():
                continue
            if failure is not None or read.error is not None:
                read.future.set_exception(failure or read.error or StoreDown("lost"))
            else:
                read.future.set_result(read.value)
        if failure is not None and connection is not None:
            with contextlib.suppress(sqlite3.Error):
                await connection.close()
            return None
        return connection

    def _run(self, connection: sqlite3.Connection, batch: Sequence[_Read]) -> tuple[int, FileTx]:
        """Carry out reads on the connection's thread.

        Returns:
            How many, from the first, and the transaction they were carried out in.

        Raises:
            sqlite3.Error: The database failed; the connection must not be used again.
        """
        now = self._clock.now()
        ends = time.monotonic_ns() + _BUDGET
        connection.execute("BEGIN")
        tx = FileTx(connection, now)
        done = 0
        for read in batch:
            try:
                read.value = drive(read.query(tx))
            except Exception as error:  # noqa: BLE001 - whatever a read raises is its caller's
                read.error = error
            done += 1
            if tx.failure is not None:
                cause = tx.failure.__cause__
                raise cause if isinstance(cause, sqlite3.Error) else sqlite3.OperationalError()
            if time.monotonic_ns() > ends:
                break
        connection.execute("COMMIT")
        return done, tx
