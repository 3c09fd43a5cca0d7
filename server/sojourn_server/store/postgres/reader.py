"""Reads, in batches: all that wait share one state of the database and its round trips.

A read of nothing but sessions that are remembered needs one statement: the epoch of its
app, which says whether they may be. Reads that need more get a transaction of their own,
and go on side by side: what all of them lack is fetched together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, Final

import psycopg

from sojourn_server.domain.clock import Clock, WallClock
from sojourn_server.store.base import StoreDown
from sojourn_server.store.postgres.connection import Link, Links, Statement
from sojourn_server.store.postgres.errors import Lost, as_failure
from sojourn_server.store.postgres.facts import APP, PK, Ask, Facts, Need, fetches
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.read_tx import PgReadTx

_MAX_BATCH: Final = 64
_TRIES: Final = 2
"""How often reads are tried whose connection broke."""
_WALL_CLOCK: Final = WallClock()

Query = Callable[[PgReadTx], Awaitable[Any]]


class _Read:
    """One read in the queue, and how far it has come."""

    __slots__ = ("asked", "future", "query", "steps")

    def __init__(self, query: Query, future: asyncio.Future[Any]) -> None:
        self.query = query
        self.future = future
        self.steps: Generator[Any, None, Any] | None = None
        self.asked: Sequence[Need] = ()

    def begin(self, tx: PgReadTx) -> None:
        """Begin, or begin anew."""
        self.close()
        self.steps = self.query(tx).__await__()
        self.asked = ()

    def go_on(self) -> bool:
        """Go on to the next question; False when it is answered."""
        assert self.steps is not None
        try:
            question = next(self.steps)
        except StopIteration as end:
            self._answer(end.value, None)
            return False
        except Exception as error:  # noqa: BLE001 - whatever a read raises is its caller's
            self._answer(None, error)
            return False
        if not isinstance(question, Ask):
            self.close()
            self._answer(None, RuntimeError("a read must wait for nothing but its transaction"))
            return False
        self.asked = question.needs
        return True

    def look(self, tx: PgReadTx) -> Sequence[Need]:
        """What it asks for first."""
        steps = self.query(tx).__await__()
        try:
            question = next(steps)
        except StopIteration:
            return ()
        except Exception:  # noqa: BLE001 - it counts when it runs
            return ()
        finally:
            steps.close()
        return question.needs if isinstance(question, Ask) else ()

    def _answer(self, value: Any, error: Exception | None) -> None:
        self.steps = None
        if self.future.done():  # its caller was cancelled
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error)

    def fail(self, error: Exception) -> None:
        """It cannot be answered."""
        self.close()
        self._answer(None, error)

    def close(self) -> None:
        """Leave off."""
        if self.steps is not None:
            self.steps.close()
            self.steps = None


class Readers:
    """The queue of reads, and what answers it.

    Args:
        links: Where connections come from.
        memory: Sessions that are remembered.
        clock: What `now` of a read is; None: the database's clock.
        most: How many batches at once.
    """

    def __init__(self, links: Links, memory: Memory, clock: Clock | None, most: int) -> None:
        self._links = links
        self._memory = memory
        self._clock = clock
        self._most = most
        self._waiting: deque[_Read] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = True
        self.from_memory = 0
        """Reads that needed no more than to know that what is remembered is still so."""
        self.from_database = 0
        """Reads that needed more."""

    def start(self) -> None:
        """Begin to take reads."""
        self._closed = False

    async def close(self) -> None:
        """Finish what was accepted."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def submit(self, query: Query) -> Any:
        """Queue a read and wait for its answer.

        Raises:
            StoreDown: The database failed.
            Exception: Whatever the read raised.
        """
        if self._closed:
            raise StoreDown("the store is closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Read(query, future))
        if len(self._tasks) < self._most:
            self._tasks.add(asyncio.create_task(self._serve(), name="postgres reader"))
        return await future

    async def _serve(self) -> None:
        """Answer batches until nothing waits."""
        try:
            while self._waiting:
                batch: list[_Read] = []
                while self._waiting and len(batch) < _MAX_BATCH:
                    read = self._waiting.popleft()
                    if not read.future.done():
                        batch.append(read)
                if batch:
                    await self._answer(batch)
        finally:
            # At once: a read that comes before the event loop has seen this end would wait
            # for a reader that is gone.
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)

    async def _answer(self, batch: list[_Read]) -> None:
        failure: Exception | None = None
        for _ in range(_TRIES):
            failure, again = await self._attempt(batch)
            batch = [read for read in batch if not read.future.done()]
            if not again:
                break
        if isinstance(failure, RuntimeError) and len(batch) > 1:
            # One of them asks what the database refuses; the others must not suffer.
            for read in batch:
                await self._answer([read])
            return
        for read in batch:
            read.fail(failure or StoreDown("the read was lost"))

    async def _attempt(self, batch: list[_Read]) -> tuple[Exception | None, bool]:
        """Try to answer reads; why that failed, and whether another try is worth it."""
        try:
            async with self._links.one() as link:
                try:
                    await self._run(link, batch)
                except (psycopg.Error, Lost) as error:
                    await link.reset()
                    refused = RuntimeError(f"the database refuses the read: {type(error).__name__}")
                    return as_failure(error) or refused, isinstance(error, psycopg.Error) and (
                        link.broken
                    )
        except Exception as error:  # noqa: BLE001 - a reader must outlive every failure
            return error, False
        return None, False

    async def _run(self, link: Link, batch: list[_Read]) -> None:
        now = (self._clock or _WALL_CLOCK).now()
        guess = PgReadTx({}, now, self._memory)
        needs = [need for read in batch for need in read.look(guess)]
        if all(need[0] == APP for need in needs):
            count = len(batch)
            batch = await self._pass(link, batch, needs, ())
            self.from_memory += count - len(batch)
            needs += [need for read in batch for need in read.asked]
        if batch:
            self.from_database += len(batch)
            left = await self._pass(link, batch, needs, link.beginning(QUERIES.begin_read))
            await link.run([(QUERIES.commit, ())])
            assert not left

    async def _pass(
        self, link: Link, batch: list[_Read], needs: Sequence[Need], begin: Sequence[Statement]
    ) -> list[_Read]:
        """Answer reads from one state of the database.

        Args:
            link: The connection.
            batch: The reads.
            needs: What they are likely to need first.
            begin: What begins a transaction; nothing: there is none, and just one statement.

        Returns:
            Those that need more than one statement.
        """
        # The apps come first, with the clock, also when nobody asks for any.
        names = list(dict.fromkeys(need[2] for need in needs if need[0] == APP))
        asked = fetches(need for need in needs if need[0] != APP)
        statements = [*begin, (QUERIES.app_many, (names,))]
        answers = await link.run([*statements, *(each.statement for each in asked)])
        facts: Facts = {}
        (apps,) = fetches([(APP, 0, name) for name in names]) or (None,)
        rows = answers[len(begin)]
        if apps is not None:
            apps.keep(rows, facts)
        for fetch, found in zip(asked, answers[len(begin) + 1 :], strict=True):
            fetch.keep(found, facts)
        tx = PgReadTx(facts, self._clock.now() if self._clock else rows[0][-1], self._memory)
        for read in batch:
            read.begin(tx)
        left = [read for read in batch if read.go_on()]
        while left and begin:
            asked = fetches(need for read in left for need in read.asked)
            answers = await link.run([each.statement for each in asked])
            for fetch, found in zip(asked, answers, strict=True):
                fetch.keep(found, facts)
            left = [read for read in left if read.go_on()]
        self._learn(facts)
        return left

    def _learn(self, facts: Facts) -> None:
        """Remember the sessions that were read."""
        found: dict[int, dict[int, Any]] = {}
        for need, row in facts.items():
            if need[0] == PK and row is not None:
                found.setdefault(need[1], {})[need[2]] = row
        for need, entry in facts.items():
            if need[0] == APP and entry is not None:
                self._memory.learn(need[2], entry.pk, entry.epoch, found.get(entry.pk, {}))
                if self._memory.entry(need[2]) is None:
                    self._memory.remember(need[2], entry)
