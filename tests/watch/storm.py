"""Many writers at once, a log that is shortened under them, and clocks that jump."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sojourn_server.domain.clock import DAY, HOUR
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.model import Status
from sojourn_server.store.base import LoggedChange
from tests.service.kit import APP, message
from tests.watch.kit import WAIT, Scene

TIERS = ("gold", "iron")
EXPECTED = frozenset(
    {
        Reason.SESSION_NOT_FOUND,
        Reason.SESSION_ENDED,
        Reason.SESSION_EXISTS,
        Reason.TURN_CONFLICT,
        Reason.PARENT_ENDED,
        Reason.HAS_CHILDREN,
    }
)
"""What writers that know nothing of each other are told."""


class Archive:
    """The whole log, also what compaction has removed.

    Args:
        world: Whose log.
    """

    def __init__(self, world: Scene) -> None:
        self._world = world
        self.log: list[LoggedChange] = []

    async def keep(self) -> Sequence[LoggedChange]:
        """Take over what has come since."""
        after = self.log[-1].revision if self.log else 0
        self.log += await self._world.log(after)
        return self.log


class Storm:
    """Writers that go on until they are told to stop.

    Args:
        worlds: The servers; writers go to each in turn.
        seed: Of all that is random.
        sessions: How many ids there are: few, so that writers meet.
    """

    def __init__(self, worlds: Sequence[Scene], seed: int = 1, sessions: int = 12) -> None:
        self.worlds = worlds
        self.revisions: list[int] = []
        """What writers were answered with."""
        self.archive = Archive(worlds[0])
        self.stopped = False
        self._more = asyncio.Event()
        self._random = random.Random(seed)
        self._ids = [f"s-{number}" for number in range(sessions)]

    async def answered(self, count: int) -> None:
        """Wait until so many writes were answered."""
        async with asyncio.timeout(WAIT):
            while len(self.revisions) < count:
                self._more.clear()
                await self._more.wait()

    async def write(self, world: Scene, count: int) -> None:
        """So many writes, or until it stops."""
        for _ in range(count):
            if self.stopped:
                return
            try:
                self.revisions.append(await self._one(world))
                self._more.set()
            except Refusal as refusal:
                if refusal.reason not in EXPECTED:
                    raise
                await asyncio.sleep(0)

    async def _one(self, world: Scene) -> int:
        name = self._random.choice(self._ids)
        match self._random.randrange(9):
            case 0 | 1:
                labels = {"tier": self._random.choice(TIERS)}
                return (await world.make(name, labels=labels)).revision
            case 2 | 3:
                labels = {"tier": self._random.choice(TIERS)}
                return (await world.update(name, labels=labels)).revision
            case 4:
                return (await world.append(name, [message()], create=True)).revision
            case 5:
                token = await world.turn(name)
                return (await world.end_turn(token)).revision
            case 6:
                status = self._random.choice((Status.COMPLETED, Status.FAILED))
                return (await world.end(name, status)).revision
            case 7:
                return (await world.delete(name, force=True)).revision
            case _:
                parent = await world.get(name)
                child = await world.make(f"{name}-child", parent_uid=parent.uid)
                return child.revision

    @asynccontextmanager
    async def blowing(
        self, writers: int = 8, count: int = 1_000, keep: int = 0, jumps: bool = False
    ) -> AsyncIterator[None]:
        """Writers, and what else happens, while the body runs.

        Args:
            writers: How many.
            count: How often each writes at most.
            keep: To how many revisions the log is shortened again and again; 0: never.
            jumps: Whether the clock jumps by an hour back and by a day ahead.
        """
        tasks = [
            asyncio.create_task(self.write(self.worlds[number % len(self.worlds)], count))
            for number in range(writers)
        ]
        others = []
        if keep:
            others.append(asyncio.create_task(self._compact(keep)))
        if jumps:
            others.append(asyncio.create_task(self._jump()))
        try:
            yield
        finally:
            self.stopped = True
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await asyncio.gather(*tasks)
            self.stopped = False
            await self.archive.keep()

    async def _compact(self, keep: int) -> None:
        while True:
            await asyncio.sleep(0.02)
            await self.archive.keep()
            await self.worlds[0].store.compact(APP, 0, keep, 100)

    async def _jump(self) -> None:
        clocks = [world.clock for world in self.worlds]
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                for step in (-HOUR, DAY):
                    await asyncio.sleep(0.03)
                    for clock in clocks:
                        clock.time += step
