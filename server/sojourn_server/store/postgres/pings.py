"""Hints between servers: which logs have grown.

A ping is sent outside of every transaction that writes data, on a connection of its own:
NOTIFY holds a lock of the whole cluster until its transaction is committed. Pings are only
hints: they may be lost, and nobody may read anything out of them but to look at the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import psycopg

from sojourn_server.store.postgres.connection import Link, Links
from sojourn_server.store.postgres.errors import Lost
from sojourn_server.store.postgres.queries import QUERIES

PAUSE: Final = 0.01
"""The least time between two pings of one server, in seconds."""
_REST: Final = 0.5
"""How long to rest after a failure, in seconds; followers of the log poll meanwhile."""
_PAYLOAD: Final = 7_000
"""The most bytes of a ping; PostgreSQL takes 7,999."""
_SEPARATOR: Final = "\n"
"""No name of an app holds one."""


class Pings:
    """Tells other servers what this one has committed, and hears what they have.

    Args:
        links: Makes connections.
        tell: Is told of each app whose log has grown elsewhere; empty: of any.
    """

    def __init__(self, links: Links, tell: Callable[[str], None]) -> None:
        self._links = links
        self._tell = tell
        self._apps: set[str] = set()
        self._due = asyncio.Event()
        self._pid = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.listener: Link | None = None
        """The connection that hears; None while there is none."""

    def start(self) -> None:
        """Begin to send and to hear."""
        self._tasks = [asyncio.create_task(self._send(), name="postgres pings")]
        if self._links.options.prepare:
            # Behind a pool of connections nobody knows whose connection would listen.
            self._tasks.append(asyncio.create_task(self._hear(), name="postgres listener"))

    async def close(self) -> None:
        """Stop."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
            self._tasks = []

    def ping(self, app: str) -> None:
        """Let the others know, soon."""
        self._apps.add(app)
        self._due.set()

    async def _send(self) -> None:
        link: Link | None = None
        try:
            while True:
                await self._due.wait()
                self._due.clear()
                apps, self._apps = self._apps, set()
                try:
                    if link is None:
                        link = await self._links.connect()
                        self._pid = link.pid
                    await link.run([(QUERIES.ping, (_payload(apps),))])
                    await asyncio.sleep(PAUSE)
                except (psycopg.Error, Lost, OSError, TimeoutError):
                    if link is not None:
                        await link.close()
                        link = None
                    await asyncio.sleep(_REST)
        finally:
            if link is not None:
                await link.close()

    async def _hear(self) -> None:
        while True:
            try:
                self.listener = link = await self._links.connect()
                try:
                    await link.run([(QUERIES.pings_listen, ())])
                    # What was sent before is lost.
                    self._tell("")
                    async for pid, payload in link.notices():
                        if pid != self._pid:
                            for app in payload.split(_SEPARATOR):
                                self._tell(app)
                finally:
                    self.listener = None
                    await link.close()
            except (psycopg.Error, Lost, OSError, TimeoutError):
                await asyncio.sleep(_REST)


def _payload(apps: set[str]) -> str:
    """Names as a ping tells them; empty when they are too many."""
    payload = _SEPARATOR.join(sorted(apps))
    return payload if len(payload.encode()) <= _PAYLOAD else ""
