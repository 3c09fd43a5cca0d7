"""Which jobs this server runs, of all that share the database.

A job's row says who runs it and until when. Whoever runs it takes the row again long
before that; when a server dies, another takes it once it has run out. No lock of the
database's own: behind a pool that gives each transaction another connection, it would
stay with whichever connection took it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from sojourn_server.store.base import StoreDown, StoreFull
from sojourn_server.store.postgres.connection import Statement
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.rows import Row

LEASE: Final = 3.0
"""How long a job stays with a server that says nothing, in seconds."""
_BELIEVED: Final = 1.0
"""How long a server need not ask again, in seconds."""
_PARTING: Final = 2.0
"""How long giving the jobs back may take, in seconds: others need not wait, that is all."""

Run = Callable[[Sequence[Statement]], Awaitable[list[list[Row]]]]


class Leads:
    """The jobs that this server runs.

    Args:
        run: Executes statements, each a transaction of its own.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._holder = secrets.token_hex(8)
        self._until: dict[str, float] = {}

    async def has(self, job: str) -> bool:
        """Whether this server is the one to run a job now.

        Raises:
            StoreFull, StoreDown: The database failed.
        """
        now = time.monotonic()
        if now < self._until.get(job, 0.0):
            return True
        (taken,) = await self._run([(QUERIES.job_take, (job, self._holder, LEASE))])
        if taken:
            self._until[job] = now + _BELIEVED
        return bool(taken)

    async def give_back(self) -> None:
        """Let others have the jobs at once."""
        if self._until:
            self._until.clear()
            with contextlib.suppress(StoreDown, StoreFull, TimeoutError):
                async with asyncio.timeout(_PARTING):
                    await self._run([(QUERIES.jobs_give_back, (self._holder,))])
