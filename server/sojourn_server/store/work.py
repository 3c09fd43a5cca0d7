"""Units on their way into a commit: the queue before it, and the answers after it."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from sojourn_server.store.base import Applied, Priority

JOBS_BESIDE_CALLERS: Final = 8
"""How many jobs join a commit of callers: under 1 ms of theirs, so that jobs get on."""

CROWD: Final = 4
"""A commit of so many units means that callers come in numbers, and more are on their way."""

GATHER: Final = 0.008
"""How long the next commit then waits at most until it is as large again, in seconds."""

PRECEDING: Final = 16
"""How often a unit may ask for another one first before that counts as a loop."""


class Work:
    """One unit in the queue, and what became of it.

    Args:
        app: The app whose log it writes.
        actor: Who does it.
        unit: What to do.
        priority: Whose work it is.
        future: Where the answer goes.
    """

    __slots__ = (
        "actor",
        "app",
        "changed",
        "erased",
        "error",
        "future",
        "left_over",
        "priority",
        "revision",
        "unit",
        "value",
    )

    def __init__(
        self,
        app: str,
        actor: str,
        unit: Callable[[Any], Awaitable[Any]],
        priority: Priority,
        future: Future[Applied[Any]],
    ) -> None:
        self.app = app
        self.actor = actor
        self.unit = unit
        self.priority = priority
        self.future = future
        self.reset()

    def reset(self) -> None:
        """Forget what became of it."""
        self.value: Any = None
        self.error: Exception | None = None
        self.revision = 0
        self.changed = False
        self.erased = False
        self.left_over = False


class Queue:
    """Units that wait, callers before jobs."""

    def __init__(self) -> None:
        self._waiting: dict[Priority, deque[Work]] = {each: deque() for each in Priority}
        self._woken = asyncio.Event()
        self._closed = False
        self._awaited = 0
        self._last = 0

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def crowded(self) -> bool:
        """Whether callers came in numbers last, so that more are likely."""
        return self._last >= CROWD

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def put(self, work: Work) -> None:
        """Add a unit at the end."""
        self._waiting[work.priority].append(work)
        if len(self._waiting[Priority.CALLER]) >= self._awaited:
            self._woken.set()

    def put_back(self, works: Sequence[Work]) -> None:
        """Add units at the front, in their order: they must come again."""
        for work in reversed(works):
            self._waiting[work.priority].appendleft(work)

    def close(self) -> None:
        """Wait for nobody any more: what is here is all that comes."""
        self._closed = True
        self._woken.set()

    async def wait(self) -> None:
        """Wait until something is there, or nothing will be."""
        self._woken.clear()
        if not self and not self._closed:
            await self._woken.wait()

    async def next(self, most: int) -> list[Work]:
        """The next batch, for which callers who come in numbers are waited for a little.

        Args:
            most: How many units it may have.

        Returns:
            None at all when none came.
        """
        if self.crowded:
            await self._gather(self._last)
        batch = self._take(most)
        self._last = sum(work.priority is Priority.CALLER for work in batch)
        return batch

    async def _gather(self, size: int) -> None:
        """Wait for callers to be as many as in the last batch, but not long.

        A large commit costs little more than a small one, and whoever was answered
        together tends to come back together. A caller who is alone never waits here.
        """
        if self._closed or len(self._waiting[Priority.CALLER]) >= size:
            return
        self._awaited = size
        self._woken.clear()
        timer = asyncio.get_running_loop().call_later(GATHER, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            timer.cancel()
            self._awaited = 0

    def _take(self, most: int) -> list[Work]:
        """The next batch: callers, then a few jobs when callers are there."""
        batch: list[Work] = []
        for priority, queue in sorted(self._waiting.items()):
            room = most - len(batch)
            if priority is Priority.JOB and batch:
                room = min(room, JOBS_BESIDE_CALLERS)
            while queue and room > 0:
                work = queue.popleft()
                if not work.future.done():  # its caller was cancelled
                    batch.append(work)
                    room -= 1
        return batch

    def empty(self) -> Iterator[Work]:
        """Take everything out."""
        for queue in self._waiting.values():
            while queue:
                yield queue.popleft()


def answer(works: Sequence[Work], *, scrubbed: bool = True) -> None:
    """Tell the callers of units what became of them."""
    for work in works:
        if work.future.done():
            continue
        if work.error is not None:
            work.future.set_exception(work.error)
        else:
            clean = scrubbed and not work.left_over
            work.future.set_result(Applied(work.value, work.revision, work.changed, clean))


def answer_error(works: Sequence[Work], error: Exception) -> None:
    """Fail units."""
    for work in works:
        if not work.future.done():
            work.future.set_exception(error)
