"""One watcher's way through a log: along its end with the others, or behind on its own.

At the end of the log parts come by `offer`, made once for all. Whoever takes them too
slowly is offered no more once a bound is reached; what is queued is still sent, then the
log itself is read until the end is reached again. Nobody who watches notices.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.limits import KIB
from sojourn_server.domain.resume import Point
from sojourn_server.domain.watching import Interest, Lens
from sojourn_server.feed.blocks import Block
from sojourn_server.feed.parts import Part

if TYPE_CHECKING:
    from sojourn_server.feed.tail import Tail

QUEUE_BYTES: Final = 512 * KIB
"""What may wait for one watcher; as much again may be on its way in a message."""
NEAR: Final = 1_000
"""How many revisions behind the end a watcher may be to go on there and fill the gap."""


class Stream:
    """What one watcher gets, from a place on.

    Args:
        tail: The end of the app's log.
        interest: What is asked for.
        begin: The place; everything up to it is known to the watcher.
        queue_bytes: What may wait for it.
    """

    def __init__(
        self, tail: Tail, interest: Interest, begin: Point, queue_bytes: int = QUEUE_BYTES
    ) -> None:
        self.interest = interest
        self.lens = Lens(interest)
        self.point = begin
        """Everything up to here has been taken: what a token may say."""
        self.behind = True
        """Whether it reads the log on its own."""
        self.writing_since = 0.0
        """Since when a message is being written, by the loop's clock; 0: none is."""
        self.stalled: asyncio.Future[Refusal] = asyncio.get_running_loop().create_future()
        """Done when a message is not taken for too long: why the stream must end."""
        self._tail = tail
        self._queue: deque[Part] = deque()
        self._queued = 0
        self._most = queue_bytes
        self._end = begin
        """The place after what is queued, while it is behind."""
        self._within = False
        """Whether the last part taken ended inside a revision."""
        self._over: Refusal | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def queued(self) -> int:
        """How many bytes wait."""
        return self._queued

    @property
    def tail(self) -> Tail:
        """The end of the log that it follows."""
        return self._tail

    # --- what the tail says ---

    def offer(self, parts: Sequence[Part]) -> bool:
        """Queue parts that all follow what came before; False: they are too much.

        Whoever is told so offers no more: the stream reads them from the log.
        """
        size = sum(part.size for part in parts)
        if self._queued + size > self._most:
            self._fall_behind()
            return False
        self._queue.extend(parts)
        self._queued += size
        self.wake()
        return True

    def _fall_behind(self) -> None:
        self.behind = True
        self._end = self._tail.point

    def restart(self, begin: Point) -> None:
        """Go on from another place, before anything was taken."""
        self.point = self._end = begin

    def require_open(self) -> None:
        """Raise the reason why it is to end, if there is one.

        Raises:
            Refusal: It is.
        """
        if self._over is not None:
            raise self._over

    def look_stuck(self, since: float, leaving: float) -> None:
        """End it if its message is being written for too long.

        Args:
            since: By the loop's clock, before when writing must have begun,
            leaving: the same for a stream that is to end anyway.
        """
        if not self.writing_since or self.stalled.done():
            return
        if self._over is not None and self.writing_since < leaving:
            self.stalled.set_result(self._over)
        elif self.writing_since < since:
            self.stalled.set_result(
                Refusal(Reason.SLOW_CONSUMER, "the stream took nothing for too long")
            )

    def fail(self, why: Refusal) -> None:
        """End it, at the next whole revision."""
        if self._over is None:
            self._over = why
        self.wake()

    # --- what the watcher asks ---

    async def next(self, until: float) -> Sequence[Part] | None:
        """Parts to send, in one message as far as it holds them.

        Args:
            until: How long to wait, by the loop's clock.

        Returns:
            None when nothing has shown up to then: all up to `point` is sent.

        Raises:
            Refusal: The stream is over.
            StoreDown: The log cannot be read.
        """
        loop = asyncio.get_running_loop()
        while True:
            if not self.behind and not self._queue:
                self.point = self._tail.point
            if self._over is not None and not self._within:
                raise self._over
            if self._queue:
                return self._take()
            if not self.behind:
                if self._tail.over is not None:
                    raise self._tail.over
            else:
                self.point = self._end
                await self._go_on(loop, until)
                if self._queue or not self.behind:
                    continue
                self.point = self._end
            if loop.time() >= until:
                return None
            if not self.behind:
                await self._wait(loop, until)

    def _take(self) -> Sequence[Part]:
        parts = [self._queue.popleft()]
        size = parts[0].size
        while self._queue and size + self._queue[0].size <= self._most:
            parts.append(self._queue.popleft())
            size += parts[-1].size
        self._queued -= size
        whole = [part for part in parts if part.whole]
        if whole:
            self.point = whole[-1].point
        self._within = not parts[-1].whole
        return parts

    async def _go_on(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        """Read on from the log, or go along with its end."""
        tail = self._tail
        if tail.point.revision <= self._end.revision:
            if tail.over is not None:
                raise tail.over
            if tail.point.revision == self._end.revision:
                tail.join(self)
                return
            # What is at this place is written, so the tail will come here.
            tail.hurry(self)
            await self._wait(loop, until)
            return
        goal = tail.point
        near = goal.revision - self._end.revision <= NEAR
        if near:
            # What comes from now on is queued meanwhile, behind what is read here.
            tail.join(self)
        try:
            block = await tail.blocks.after(self._end)
            tail.require_feed(block.found.feed_id)
        except BaseException:
            tail.leave(self)
            raise
        self._fill(block, goal, near=near)

    def _fill(self, block: Block, goal: Point, *, near: bool) -> None:
        """Put what was read before what has come meanwhile."""
        end = block.found.end
        until = goal.revision if near else end.revision
        parts, rest = self._fitting(block.view(self.interest, self.lens, until))
        # With all of the gap it goes along with the end, unless it was offered too much there.
        if not (near and not rest and end.revision >= goal.revision):
            if near:
                # What came meanwhile is read again later.
                self._tail.leave(self)
                self._queue.clear()
                self._queued = 0
            self.behind = True
            self._end = parts[-1].point if rest else end
        self._queue.extendleft(reversed(parts))
        self._queued += sum(part.size for part in parts)

    def _fitting(self, parts: Sequence[Part]) -> tuple[Sequence[Part], bool]:
        """As many parts as may wait, in whole revisions, at least one; whether more are left."""
        size = fits = 0
        for number, part in enumerate(parts):
            size += part.size
            if size > self._most and fits:
                return parts[:fits], True
            if part.whole:
                fits = number + 1
        return parts, False

    async def _wait(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        self._waiter = waiter = loop.create_future()
        timer = loop.call_at(until, _release, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None

    def wake(self) -> None:
        """Look again whether there is anything to send."""
        if self._waiter is not None:
            _release(self._waiter)


def _release(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
