"""Units on their way into a commit: the queue before it, and the answers after it."""

from __future__ import annotations

from asyncio import Future
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final

from sojourn_server.store.base import Applied, Priority

JOBS_BESIDE_CALLERS: Final = 8
"""How many jobs join a commit of callers: under 1 ms of theirs, so that jobs get on."""

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

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def callers(self) -> int:
        """How many units of callers wait."""
        return len(self._waiting[Priority.CALLER])

    def __bool__(self) -> bool:
        return any(self._waiting.values())

    def put(self, work: Work) -> None:
        """Add a unit at the end."""
        self._waiting[work.priority].append(work)

    def put_back(self, works: Sequence[Work]) -> None:
        """Add units at the front, in their order: they must come again."""
        for work in reversed(works):
            self._waiting[work.priority].appendleft(work)

    def take(self, most: int) -> list[Work]:
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
