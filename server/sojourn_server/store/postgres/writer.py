"""Group commit, the half before the database: a queue for each app, and the answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import psycopg

from sojourn_server.domain.clock import Clock
from sojourn_server.domain.tally import Spread
from sojourn_server.store.base import Applied, Priority, StoreDown, StoreFull
from sojourn_server.store.postgres.batch import Batch, Unit
from sojourn_server.store.postgres.connection import Links
from sojourn_server.store.postgres.errors import Lost, as_failure
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.stats import COMMIT_SECONDS, COMMIT_UNITS, Rows
from sojourn_server.store.work import Queue, Work, answer, answer_error

_TRIES: Final = 2
"""How often a batch is tried whose connection broke before the commit was sent: the
database may just have been restarted."""


class Writer:
    """Takes units, commits those of one app in batches, answers them.

    At most one commit of an app is on its way from this server; commits of different
    apps are side by side, as far as there are connections.

    Args:
        links: Where connections come from.
        memory: Sessions that are remembered from earlier commits.
        clock: What `now` of a transaction is; None: the database's clock.
        max_batch: The most units in one commit.
    """

    def __init__(self, links: Links, memory: Memory, clock: Clock | None, max_batch: int) -> None:
        self._links = links
        self._memory = memory
        self._clock = clock
        self._max_batch = max_batch
        self._queues: dict[str, Queue] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._closed = True
        self.commit_seconds = Spread(COMMIT_SECONDS)
        """How long each batch took, from its first question to the commit."""
        self.commit_units = Spread(COMMIT_UNITS)
        """How many units each carried."""
        self.tell: Callable[[str], None] | None = None
        """Is told of each app whose log has grown."""
        self.commits_failed = 0
        """How many batches failed with all their units."""
        self.added = Rows()
        """Rows committed since the start."""
        self.removed = Rows()
        """Rows whose removal was committed since the start."""

    @property
    def waiting(self) -> int:
        """How many units wait for a commit."""
        return sum(len(queue) for queue in self._queues.values())

    def start(self) -> None:
        """Begin to take units."""
        self._closed = False

    async def close(self) -> None:
        """Finish what was accepted."""
        self._closed = True
        for queue in self._queues.values():
            queue.close()
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def submit(self, app: str, actor: str, unit: Unit, priority: Priority) -> Applied[Any]:
        """Queue a unit and wait for its answer.

        Raises:
            StoreFull, StoreDown: It could not be committed.
            Exception: Whatever it raised.
        """
        if self._closed:
            raise StoreDown("the store is closed")
        future: asyncio.Future[Applied[Any]] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(app, Queue()).put(Work(app, actor, unit, priority, future))
        if app not in self._tasks:
            self._tasks[app] = asyncio.create_task(self._serve(app), name="postgres writer")
        return await future

    async def _serve(self, app: str) -> None:
        """Commit batches of one app until nothing waits."""
        queue = self._queues[app]
        try:
            while queue or queue.crowded:
                works = await queue.next(self._max_batch)
                if works:
                    await self._commit(app, queue, works)
        finally:
            answer_error(list(queue.empty()), StoreDown("the store is closed"))
            del self._queues[app], self._tasks[app]

    async def _commit(self, app: str, queue: Queue, works: list[Work]) -> None:
        done = len(works)
        failure: Exception | None = None
        for _ in range(_TRIES):
            try:
                done, again = await self._attempt(app, works)
            except (StoreDown, StoreFull) as error:
                failure = error
                break
            except Exception as error:  # noqa: BLE001 - the writer must outlive every failure
                failure = error
                break
            except BaseException:
                answer_error(works, StoreDown("the commit was broken off"))
                raise
            failure = None
            if not again:
                break
            failure = StoreDown("the connection to the database was lost")
        if failure is not None:
            self.commits_failed += 1
            answer_error(works, failure)
            return
        queue.put_back(works[done:])
        erased = [work for work in works[:done] if work.erased]
        answer([work for work in works[:done] if not work.erased])
        # Old versions of rows, the log of the database and its copies are not in our hands.
        answer(erased, scrubbed=False)

    async def _attempt(self, app: str, works: list[Work]) -> tuple[int, bool]:
        """Carry a batch out.

        Returns:
            How many are done, and whether the batch should be tried again: its connection
            broke, and nothing has happened.

        Raises:
            StoreDown, StoreFull: It failed, or nobody knows.
        """
        async with self._links.one() as link:
            batch = Batch(link, self._memory, self._clock, app, works)
            began = time.monotonic()
            try:
                done = await batch.commit()
            except (psycopg.Error, Lost) as error:
                failure = as_failure(error) or StoreDown("the database refused the commit")
                again = link.broken and not batch.committing and not isinstance(error, Lost)
                await link.reset()
            else:
                self.commit_seconds.add(time.monotonic() - began)
                self.commit_units.add(done)
                self.added.add(batch.added)
                self.removed.add(batch.removed)
                if batch.logged and self.tell is not None:
                    self.tell(app)
                return done, False
            if again:
                return len(works), True
            raise failure from None
