"""Group commit, the half that runs on the event loop: the queue and the answers."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

from sojourn_server.domain.clock import Clock
from sojourn_server.domain.tally import Spread
from sojourn_server.store.base import Applied, Priority, StoreDown
from sojourn_server.store.sqlite.committer import Committer, Unit
from sojourn_server.store.sqlite.connection import Connection
from sojourn_server.store.sqlite.hot import Hot
from sojourn_server.store.sqlite.write_tx import SqliteTx
from sojourn_server.store.stats import COMMIT_SECONDS, COMMIT_UNITS, Rows
from sojourn_server.store.work import Queue, Work, answer, answer_error

T = TypeVar("T")

_CHECKPOINT_PAGES: Final = 4_000
"""A WAL that has grown by so many pages (16 MiB) is copied into the database."""

_SCRUB_TRIES: Final = 4
_SCRUB_PAUSE: Final = 0.01
"""Seconds between two tries to empty the WAL while a reader is using it."""
_HINDERED: Final = 1.0
"""After tries that a reader made fail, for how long nobody tries that need not, in seconds:
each holds up the writes that wait."""

Reopen = Callable[[], Awaitable[Connection]]


class Writer:
    """Takes units, commits them in batches, answers them.

    Args:
        clock: What `now` of a transaction is.
        max_batch: The most units in one commit.
        reopen: Opens the connection, the first time and after a failure.
        hot: Is told what each commit has changed, before anybody is answered.
    """

    def __init__(self, clock: Clock, max_batch: int, reopen: Reopen, hot: Hot) -> None:
        self._committer = Committer(clock)
        self._max_batch = max_batch
        self._reopen = reopen
        self._hot = hot
        self._connection: Connection | None = None
        self._queue = Queue()
        self._hindered_until = 0.0
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.commit_seconds = Spread(COMMIT_SECONDS)
        """How long each commit took that succeeded."""
        self.commit_units = Spread(COMMIT_UNITS)
        """How many units it carried."""
        self.commits_failed = 0
        self.tell: Callable[[str], None] | None = None
        """Is told of each app whose log has grown."""

    @property
    def waiting(self) -> int:
        """How many units wait for a commit."""
        return len(self._queue)

    @property
    def added(self) -> Rows:
        """Rows that were committed."""
        return self._committer.added

    @property
    def removed(self) -> Rows:
        """Rows whose removal was committed."""
        return self._committer.removed

    async def start(self) -> None:
        """Open the connection, scrub what a crash may have left, and begin to serve."""
        self._connection = await self._reopen()
        await self._connection.run(partial(self._committer.checkpoint, truncate=True))
        self._task = asyncio.create_task(self._serve(), name="sqlite writer")

    async def close(self) -> None:
        """Finish what was accepted, empty the WAL, and close the connection."""
        self._closing = True
        self._queue.close()
        if self._task is not None:
            await self._task
            self._task = None
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                await connection.run(partial(self._committer.checkpoint, truncate=True))
            with contextlib.suppress(sqlite3.Error):
                await connection.close()

    async def submit(self, app: str, actor: str, unit: Unit, priority: Priority) -> Applied[Any]:
        """Queue a unit and wait for its answer.

        Raises:
            StoreFull, StoreDown: It could not be committed.
            Exception: Whatever it raised.
        """
        if self._closing or self._task is None:
            raise StoreDown("the store is closed")
        future: asyncio.Future[Applied[Any]] = asyncio.get_running_loop().create_future()
        self._queue.put(Work(app, actor, unit, priority, future))
        return await future

    async def scrub(self) -> bool:
        """Make sure that nothing overwritten is left in the files; False when readers hinder it."""
        if self._is_hindered:
            return not self._committer.unscrubbed
        if self._committer.unscrubbed:
            return (await self.submit("", "", _wait_for_scrub, Priority.JOB)).scrubbed
        return True

    async def between(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """Do something with the file while the WAL is empty and nobody writes.

        Args:
            work: Runs on the writer's thread, where it holds up all writes.

        Returns:
            None: a reader keeps the WAL in use, or there is no connection just now.

        Raises:
            StoreDown: It failed.
        """

        def emptied(connection: sqlite3.Connection) -> T | None:
            if not self._committer.checkpoint(connection, truncate=True):
                return None
            return work(connection)

        connection = self._connection
        if connection is None or self._is_hindered:
            return None
        try:
            return await connection.run(emptied)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise StoreDown(f"the file cannot be cleared: {error}") from error

    # --- the task ---

    async def _serve(self) -> None:
        try:
            while True:
                batch = await self._queue.next(self._max_batch)
                if batch:
                    await self._commit(batch)
                elif self._closing:
                    return
                else:
                    await self._queue.wait()
        finally:
            self._closing = True
            answer_error(list(self._queue.empty()), StoreDown("the store is closed"))

    async def _commit(self, batch: list[Work]) -> None:
        self._hot.commit_begins()
        begin = time.monotonic()
        try:
            if self._connection is None:
                self._connection = await self._reopen()
                self._committer.forget()
            done = await self._connection.run(partial(self._committer.commit, batch=batch))
        except Exception as error:  # noqa: BLE001 - the writer must outlive every failure
            self._hot.commit_ends(None)
            self.commits_failed += 1
            failure = StoreDown(f"the database cannot be reached: {error}")
            failure.__cause__ = error
            answer_error(batch, failure)
            await self._drop_connection()
            return
        # Before anybody is answered: who was, reads at least this.
        self._hot.commit_ends(self._committer.published)
        if self._committer.published is None:
            self.commits_failed += 1
        else:
            self.commit_seconds.add(time.monotonic() - begin)
            self.commit_units.add(done)
            if self.tell is not None:
                for app in self._committer.published.logged:
                    self.tell(app)
        self._queue.put_back(batch[done:])
        batch = batch[:done]
        waiting = [work for work in batch if work.erased and not work.left_over]
        answer([work for work in batch if not work.erased or work.left_over])
        if any(isinstance(work.error, StoreDown) for work in batch):
            await self._drop_connection()
        elif waiting:
            answer(waiting, scrubbed=await self._scrub())
        elif self._committer.wal_pages > _CHECKPOINT_PAGES:
            await self._checkpoint(truncate=False)

    async def _scrub(self) -> bool:
        """Empty the WAL, with a few tries; whether that worked."""
        for number in range(1 if self._is_hindered else _SCRUB_TRIES):
            if number:
                await asyncio.sleep(_SCRUB_PAUSE)
            if not self._committer.unscrubbed or await self._checkpoint(truncate=True):
                return True
        self._hindered_until = time.monotonic() + _HINDERED
        return False

    @property
    def _is_hindered(self) -> bool:
        """Whether a reader, of another process it must be, has just kept the WAL in use."""
        return time.monotonic() < self._hindered_until

    async def _checkpoint(self, *, truncate: bool) -> bool:
        if self._connection is None:
            return False
        try:
            return await self._connection.run(
                partial(self._committer.checkpoint, truncate=truncate)
            )
        except sqlite3.Error:
            # Full or failing: the commits are safe in the WAL, and the next write will tell.
            return False

    async def _drop_connection(self) -> None:
        """Close a connection that failed; the next batch opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                await connection.close()


async def _wait_for_scrub(tx: SqliteTx) -> None:
    """A unit that does nothing, but its answer waits for the scrub."""
    tx.erased = True
