"""What the watch's tests share: a scene with one store and its watchers, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from sojourn.v1.session_service_pb2 import WatchSessionsResponse
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.errors import Refusal
from sojourn_server.domain.filter import EVERYTHING, SessionFilter
from sojourn_server.domain.watching import Interest
from sojourn_server.feed.hub import Hub
from sojourn_server.rpc.convert_change import WatchForms
from sojourn_server.service.watch_pump import WatchQuery
from sojourn_server.service.watching import Watching
from sojourn_server.store.base import Store
from tests.service.kit import APP, FakeClock, World
from tests.watch.validators import Record, validate

WAIT = 20.0
"""The longest that anything may take, in seconds: a test that waits so long has failed."""
OFTEN = SECOND // 10
"""The shortest time between bookmarks."""


class Watcher:
    """One watch in this process, and what it got.

    Args:
        watching: What it watches through.
        query: What it asks for.
        record: Goes on with an earlier watch's; None: begins one.
    """

    def __init__(self, watching: Watching, query: WatchQuery, record: Record) -> None:
        self.record = record
        self.stuck = asyncio.Event()
        """While clear, no message is taken."""
        self.stuck.set()
        self.sizes: list[int] = []
        self._watching = watching
        self._query = query
        self._more = asyncio.Event()
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        call: Any = None
        try:
            await self._watching.watch(call, self._query, self._take)
        finally:
            self._more.set()

    async def _take(self, data: bytes) -> None:
        await self.stuck.wait()
        self.sizes.append(len(data))
        self.record.messages.append(WatchSessionsResponse.FromString(data))
        self._more.set()

    async def until(self, reached: Callable[[Record], bool]) -> Record:
        """Wait for what it has got to be so; a refusal that comes before is raised."""
        async with asyncio.timeout(WAIT):
            while not reached(self.record):
                if self.task.done():
                    await self.task
                    raise AssertionError("the watch ended by itself")
                self._more.clear()
                await self._more.wait()
        return self.record

    async def reach(self, revision: int) -> Record:
        """Wait for a token at a revision, or after it."""
        return await self.until(lambda record: record.token != "" and record.revision >= revision)

    async def opened(self) -> Record:
        """Wait for the first token."""
        return await self.until(lambda record: record.token != "")

    async def refusal(self) -> Refusal:
        """Wait for it to be refused."""
        async with asyncio.timeout(WAIT):
            try:
                await self.task
            except Refusal as refusal:
                return refusal
        raise AssertionError("the watch ended by itself")

    async def leave(self) -> Record:
        """Go away."""
        self.stuck.set()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        return self.record


class Scene(World):
    """A world that can be watched."""

    def __init__(self, store: Store, clock: FakeClock, **hub: Any) -> None:
        super().__init__(store, clock)
        forms = WatchForms()
        self.hub = Hub(store, forms, **hub)
        self.watching = Watching(store, self.services.sealer, self.hub, forms)
        self.watchers: list[Watcher] = []

    def watch(
        self,
        *,
        app: str = APP,
        user: str | None = None,
        parent_uid: str = "",
        filter: SessionFilter = EVERYTHING,  # noqa: A002 - as the request calls it
        previous: bool = False,
        content: bool = False,
        app_changes: bool = False,
        initial: bool = False,
        token: str = "",
        start: int | None = None,
        bookmark: int = OFTEN,
    ) -> Watcher:
        """Begin to watch."""
        interest = Interest(
            app=app,
            user=user,
            parent_uid=parent_uid,
            filter=filter,
            app_changes=app_changes,
            previous=previous,
            content=content,
        )
        record = Record(
            user=user,
            parent_uid=parent_uid,
            filter=filter,
            app_changes=app_changes,
            previous=previous,
            content=content,
            start=start,
        )
        query = WatchQuery(interest=interest, token=token, initial=initial, bookmark=bookmark)
        watcher = Watcher(self.watching, query, record)
        self.watchers.append(watcher)
        return watcher

    async def watch_now(self, **query: Any) -> Watcher:
        """Watch from now on; it has begun when this returns."""
        watcher = self.watch(**query)
        record = await watcher.opened()
        if not query.get("initial"):
            record.start = record.revision
        return watcher

    async def point(self, app: str = APP) -> tuple[int, str]:
        """The head, and a token there, for a watch of everything."""
        watcher = await self.watch_now(app=app)
        record = await watcher.leave()
        return record.revision, record.token

    async def settled(self, *watchers: Watcher, app: str = APP) -> None:
        """All have seen the log's end, and what they saw is as it must be."""
        head = await self.head(app)
        log = await self.log(app=app)
        for watcher in watchers:
            await watcher.reach(head)
            validate(watcher.record, log)

    async def close(self) -> None:
        """Let everybody go."""
        for watcher in self.watchers:
            await watcher.leave()
        await self.hub.close()


@asynccontextmanager
async def scene(store: Store, clock: FakeClock, **hub: Any) -> AsyncIterator[Scene]:
    """A scene over a store, closed at the end."""
    made = Scene(store, clock, **hub)
    try:
        yield made
    finally:
        await made.close()
