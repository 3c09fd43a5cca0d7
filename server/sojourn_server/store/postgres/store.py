"""The store in PostgreSQL. What each method must do stands in `store.base`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Final, TypeVar, cast

import psycopg

from sojourn_server.domain.clock import Clock, Nanos
from sojourn_server.store.base import (
    Applied,
    Priority,
    ReadTx,
    StoreDown,
    StoreUnusable,
    TokenKey,
    Tx,
)
from sojourn_server.store.horizon import last_to_go
from sojourn_server.store.postgres import schema
from sojourn_server.store.postgres.connection import Link, Links, Options, Statement, Trips
from sojourn_server.store.postgres.errors import Lost, as_failure, as_unusable, why_unreachable
from sojourn_server.store.postgres.leads import Leads
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.postgres.pings import Pings
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.reader import Readers
from sojourn_server.store.postgres.writer import Writer
from sojourn_server.store.rows import Row, held_of
from sojourn_server.store.stats import Rows, StoreStats

T = TypeVar("T")

_READERS: Final = 3
"""How many batches of reads are on their way at once."""
_COUNTED: Final = {
    "session": "sessions",
    "message": "messages",
    "change": "changes",
    "request": "requests",
    "session_label": "",
    "content": "",
}
"""The tables that grow, and what they are called where rows are counted."""
_LEAST: Final = 2
"""The fewest connections: one that writes, one that reads."""


class PostgresStore:
    """A backend in one PostgreSQL database, which any number of servers share.

    Bound to the event loop that opens it.

    Args:
        options: How to connect.
        clock: What `now` of every transaction is; None: the database's clock, which is
            the same for all servers.
        max_batch: The most units in one commit, at least 1.
    """

    def __init__(
        self, options: Options, *, clock: Clock | None = None, max_batch: int = 128
    ) -> None:
        if options.size < _LEAST:
            raise ValueError(f"there must be at least {_LEAST} connections")
        if max_batch < 1:
            raise ValueError("max_batch must be at least 1")
        self._options = options
        self._memory = Memory()
        self._links = Links(options, self._memory.forget)
        self._writer = Writer(self._links, self._memory, clock, max_batch)
        # At least one connection is always left for a commit.
        readers = min(_READERS, options.size - 1)
        self._readers = Readers(self._links, self._memory, clock, readers)
        self._leads = Leads(self._run)
        self._keys: tuple[TokenKey, ...] = ()
        self._engine = ""
        self._pings: Pings | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def kind(self) -> str:
        """See `Store`."""
        return "postgresql"

    @property
    def engine_version(self) -> str:
        """See `Store`."""
        return self._engine

    @property
    def schema_version(self) -> int:
        """See `Store`."""
        return schema.newest()

    @property
    def place(self) -> str:
        """See `Store`."""
        return self._options.place

    @property
    def scrubs(self) -> bool:
        """See `Store`."""
        return False

    @property
    def token_keys(self) -> Sequence[TokenKey]:
        """See `Store`."""
        return self._keys

    @property
    def trips(self) -> Trips:
        """How often the database was asked, and with how many statements."""
        return self._links.trips

    @property
    def batches(self) -> int:
        """How many batches of units were carried out."""
        return self._writer.commit_units.count

    async def open(self) -> None:
        """See `Store`."""
        try:
            link = await self._first()
            try:
                await schema.migrate(link, self._options)
                self._keys = await schema.token_keys(link)
                self._engine = link.version
            finally:
                await link.close()
        except (psycopg.Error, Lost) as error:
            raise self._unusable(error) from None
        self._writer.start()
        self._readers.start()

    async def versions(self) -> tuple[int, int]:
        """See `Store`."""
        try:
            link = await self._first()
            try:
                return await schema.version(link, self._options), schema.newest()
            finally:
                await link.close()
        except (psycopg.Error, Lost) as error:
            raise self._unusable(error) from None

    async def _first(self) -> Link:
        """A connection to set up the store with."""
        try:
            return await self._links.connect()
        except (psycopg.Error, OSError, TimeoutError) as error:
            raise as_unusable(self._options.place, why_unreachable(error)) from None

    def _unusable(self, error: psycopg.Error | Lost) -> StoreUnusable:
        code = error.sqlstate if isinstance(error, psycopg.Error) else None
        why = f"the database answers {code}" if code else "the connection was lost"
        if code == "42501":
            why = "this user may not make or use its tables"
        elif code in {"25006", "57P03"}:
            why = "it is read-only, or a standby"
        return as_unusable(self._options.place, why)

    async def close(self) -> None:
        """See `Store`."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._shut(), name="postgres close")
        await asyncio.shield(self._closing)

    async def _shut(self) -> None:
        await self._writer.close()
        if self._pings is not None:
            await self._pings.close()
        await self._readers.close()
        await self._leads.give_back()
        await self._links.close()

    async def apply(
        self,
        app: str,
        actor: str,
        unit: Callable[[Tx], Awaitable[T]],
        priority: Priority = Priority.CALLER,
    ) -> Applied[T]:
        """See `Store`."""
        return await self._writer.submit(app, actor, unit, priority)

    async def read(self, query: Callable[[ReadTx], Awaitable[T]]) -> T:
        """See `Store`."""
        return cast("T", await self._readers.submit(query))

    async def apps(self, after: str, limit: int) -> Sequence[str]:
        """See `Store`."""
        (rows,) = await self._run([(QUERIES.app_names, (after, limit))])
        return [name for (name,) in rows]

    async def purge(self, limit: int) -> bool:
        """See `Store`."""
        (apps,) = await self._run([(QUERIES.purge_app, ())])
        if not apps:
            return True
        await self._writer.submit(apps[0][0], "", lambda tx: tx.purge(limit), Priority.JOB)
        (apps,) = await self._run([(QUERIES.purge_app, ())])
        return not apps

    async def forget_requests(self, before: Nanos, limit: int) -> int:
        """See `Store`.

        Nobody remembers requests beyond a commit, so this needs no app's lock. Servers that
        do it at once take different records.
        """
        async with self._links.one() as link:
            try:
                begin = link.beginning(QUERIES.begin_unit)
                *_, rows = await link.run([*begin, (QUERIES.requests_forget, (before, limit))])
                await link.run([*_erasures(rows), (QUERIES.commit, ())])
            except (psycopg.Error, Lost) as error:
                await link.reset()
                raise as_failure(error) or StoreDown("records cannot be forgotten") from None
        self._writer.removed.requests += len(rows)
        return len(rows)

    async def compact(self, app: str, before: Nanos, keep: int, limit: int) -> int:
        """See `Store`. Writers of the log are not in its way: they only add to the end."""
        (found,) = await self._run([(QUERIES.app_many, ([app],))])
        _, pk, head, *_ = found[0]
        if pk is None:
            return 0
        (rows,) = await self._run([(QUERIES.change_times, (pk, limit))])
        last = last_to_go(rows, head, before, keep)
        if not last:
            return 0
        (gone,) = await self._run([(QUERIES.changes_compact, (pk, last))])
        self._writer.removed.changes += len(gone)
        return len(gone)

    async def forget_audit(self, app: str, before: Nanos, limit: int) -> int:
        """See `Store`. As `compact`: nobody writes what is old."""
        (found,) = await self._run([(QUERIES.app_many, ([app],))])
        _, pk, head, *_ = found[0]
        if pk is None:
            return 0
        (rows,) = await self._run([(QUERIES.audit_times, (pk, limit))])
        last = last_to_go(rows, head + 1, before, head + 1)
        if not last:
            return 0
        (gone,) = await self._run([(QUERIES.audits_forget, (pk, last))])
        return len(gone)

    @property
    def backs_up(self) -> bool:
        """See `Store`. Its own tools do."""
        return False

    async def back_up(self, folder: Path, name: str) -> int:
        """See `Store`."""
        raise NotImplementedError

    def on_commit(self, tell: Callable[[str], None]) -> None:
        """See `Store`."""
        pings = self._pings = Pings(self._links, tell)

        def both(app: str) -> None:
            tell(app)
            pings.ping(app)

        self._writer.tell = both
        pings.start()

    async def leads(self, job: str) -> bool:
        """See `Store`."""
        return await self._leads.has(job)

    async def stats(self) -> StoreStats:
        """See `Store`. Rows are the database's own estimate."""
        writer, readers = self._writer, self._readers
        waiting = writer.waiting
        (found,) = await self._run([(QUERIES.table_sizes, (list(_COUNTED),))])
        live = {_COUNTED[name]: count for name, count, _ in found if _COUNTED[name]}
        return StoreStats(
            commit_seconds=writer.commit_seconds.copy(),
            commit_units=writer.commit_units.copy(),
            commits_failed=writer.commits_failed,
            units_waiting=waiting,
            reads_from_memory=readers.from_memory,
            reads_from_database=readers.from_database,
            added=copy(writer.added),
            removed=copy(writer.removed),
            rows=Rows(**live),
            bytes={"database": sum(size for _, _, size in found)},
            free_bytes=None,
        )

    async def check_readable(self) -> None:
        """See `Store`."""
        await self._run([(QUERIES.pulse_read, ())])

    async def check_writable(self) -> None:
        """See `Store`."""
        await self._run([(QUERIES.pulse_beat, ())])

    async def _run(self, statements: Sequence[Statement]) -> list[list[Row]]:
        """Execute statements, each a transaction of its own.

        Raises:
            StoreFull, StoreDown: One failed.
        """
        async with self._links.one() as link:
            try:
                return await link.run(statements)
            except (psycopg.Error, Lost) as error:
                await link.reset()
                raise as_failure(error) or StoreDown("the database refused") from None


def _erasures(rows: Sequence[Row]) -> list[Statement]:
    """The statements that erase what forgotten records held."""
    held: dict[int, list[int]] = {}
    for app_pk, blob in rows:
        if blob is not None:
            held.setdefault(app_pk, []).extend(held_of(blob))
    return [(QUERIES.contents_delete, (app_pk, ids)) for app_pk, ids in sorted(held.items())]
