"""Server processes on one database, and what is looked at from outside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import sojourn
from sojourn_server.store.base import LoggedChange
from sojourn_server.store.postgres import Options, PostgresStore
from tests import postgres
from tests.faults.harness import ServerProcess

USER = "ann"
FLAGS = ("--postgres-connections", "4")
PATIENT = sojourn.RetryOptions(max_attempts=200)
"""What a test breaks may take longer to come back than the default bridges."""


class Cluster:
    """Two servers on one database, A and B; a test may add more.

    Args:
        folder: Where their logs are.
        dsn: The database.
        flags: More flags of all servers.
    """

    def __init__(self, folder: Path, dsn: str, *flags: str) -> None:
        self.dsn = dsn
        self._folder = folder
        self._flags = (*FLAGS, *flags)
        self._running = ExitStack()
        self.servers: list[ServerProcess] = []

    def __enter__(self) -> Cluster:
        for _ in range(2):
            self.servers.append(self._running.enter_context(self.another()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()

    def another(
        self, *flags: str, dsn: str = "", port: int = 0, module: str = "sojourn_server"
    ) -> ServerProcess:
        """One more server, not started yet; `dsn` may be another way to the database."""
        return ServerProcess(
            self._folder / f"server-{time.monotonic_ns()}",
            *self._flags,
            *flags,
            url=postgres.url(dsn or self.dsn),
            port=port,
            module=module,
        )

    @asynccontextmanager
    async def store(self) -> AsyncIterator[PostgresStore]:
        """The database as one more server sees it."""
        store = PostgresStore(Options(self.dsn, size=2))
        await store.open()
        try:
            yield store
        finally:
            await store.close()


class Clients(NamedTuple):
    """A client of each server, with an app of the test's own."""

    a: sojourn.AsyncClient
    b: sojourn.AsyncClient

    @property
    def app(self) -> str:
        """The app."""
        return self.a.app


@asynccontextmanager
async def clients_of(
    servers: Sequence[ServerProcess], app: str, retry: sojourn.RetryOptions | None = None
) -> AsyncIterator[Clients]:
    """Clients of the first two servers."""
    one, other = (server.target for server in servers[:2])
    async with (
        sojourn.connect(one, app=app, retry=retry) as a,
        sojourn.connect(other, app=app, retry=retry) as b,
    ):
        yield Clients(a, b)


def both(*servers: ServerProcess) -> str:
    """A target of several servers: a client goes to the next when its own is gone."""
    return "ipv4:" + ",".join(server.target for server in servers)


async def log_of(store: PostgresStore, app: str) -> list[LoggedChange]:
    """An app's whole log."""
    log: list[LoggedChange] = []
    while True:
        after = log[-1].revision if log else 0
        more = await store.read(lambda tx, after=after: tx.changes(app, after, 1_000))  # type: ignore[misc]
        if not more:
            return log
        log += more


async def revisions_of(store: PostgresStore, app: str) -> list[int]:
    """The revisions in an app's log, each once."""
    return list(dict.fromkeys(change.revision for change in await log_of(store, app)))


async def until(
    holds: Callable[[], Awaitable[bool]], what: str, patience: float = 20.0, pause: float = 0.02
) -> float:
    """Wait until something holds; it must, in the end. How long it took, in seconds."""
    begin = time.monotonic()
    while not await holds():
        assert time.monotonic() - begin < patience, f"still not: {what}"
        await asyncio.sleep(pause)
    return time.monotonic() - begin
