"""Watches over the wire that resume by themselves, with nothing but the generated stubs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from sojourn.v1 import session_service_pb2 as pb
from sojourn.v1 import session_service_pb2_grpc as stubs
from tests.faults.harness import reason_of
from tests.watch.validators import Record

GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""How a stream ends that may be resumed."""
REST = 0.05
"""How long to rest before another try, in seconds."""


class Follower:
    """Watches an app, resumes whenever it is cut off, and records what it got.

    Args:
        targets: Where to watch: each try goes to the next one.
        app: The app.
        record: What it asks for, but for the app; filled as it goes.
        initial: Whether to begin with the initial state.
    """

    def __init__(
        self,
        targets: Callable[[], list[str]],
        app: str,
        record: Record,
        *,
        initial: bool = False,
        turn: int = 0,
    ) -> None:
        self.record = record
        self.ends: Counter[str] = Counter()
        """How streams ended: by reason, or code where no server said one."""
        self.resumed = 0
        self._targets = targets
        self._app = app
        self._initial = initial
        self._turn = turn
        self._more = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            targets = self._targets()
            target = targets[self._turn % len(targets)]
            self._turn += 1
            async with grpc.aio.insecure_channel(target) as channel:
                try:
                    await self._follow(channel)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in GONE:
                        raise
                    self.ends[reason_of(error) or error.code().name] += 1
            await asyncio.sleep(REST)

    async def _follow(self, channel: grpc.aio.Channel) -> None:
        record = self.record
        # What came after the newest token comes again.
        kept = [n for n, message in enumerate(record.messages) if message.resume_token]
        del record.messages[kept[-1] + 1 if kept else 0 :]
        request = pb.WatchSessionsRequest(
            app=self._app,
            resume_after_token=record.token,
            send_initial_state=self._initial and not record.token,
            include_previous=record.previous,
            include_app_changes=record.app_changes,
        )
        request.bookmark_interval.FromMilliseconds(100)
        self.resumed += bool(record.token)
        call: Any = stubs.SessionServiceStub(channel).WatchSessions(request)
        async for message in call:
            if record.start is None and not self._initial:
                record.start = message.revision
            record.messages.append(message)
            self._more.set()

    async def until(self, reached: Callable[[Record], bool], patience: float = 30.0) -> Record:
        """Wait until it has got so far."""
        async with asyncio.timeout(patience):
            while not reached(self.record):
                if self._task.done():
                    await self._task
                self._more.clear()
                waiting = asyncio.create_task(self._more.wait())
                await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
        return self.record

    async def opened(self) -> Record:
        """Wait for the first token."""
        return await self.until(lambda record: record.token != "")

    async def reach(self, revision: int) -> Record:
        """Wait for a token at a revision, or after it."""
        return await self.until(lambda record: record.token != "" and record.revision >= revision)

    async def leave(self) -> Record:
        """Go away."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self.record
