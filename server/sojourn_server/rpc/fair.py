"""Who runs next: a fixed number of calls at once, shared fairly by those who make them.

Python runs one call at a time, and one that has begun is not taken back. So whoever has
many calls under way slows everybody, and fairness has to come before they begin: beyond
their share calls wait, each caller's in a queue of its own, and the queues are served in
turns.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

LEAST_SHARE: Final = 4
"""How many calls of one caller may run in any case: enough to keep the server busy, and no
more than delays others by a millisecond or two."""
WINDOW: Final = 1.0
"""How long a caller counts as active after a call, in seconds, and up to twice that."""


class Line:
    """One caller: its calls that run, and those that wait."""

    __slots__ = ("in_turn", "period", "running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: dict[asyncio.Future[None], None] = {}
        """In the order in which they came."""
        self.in_turn = False
        """Whether it stands among those that are served in turns."""
        self.period = -1
        """When it last called, in windows."""

    @property
    def idle(self) -> bool:
        """Whether nothing of it runs or waits."""
        return not (self.running or self.waiting)


class FairQueue:
    """Lets so many calls run at once.

    Args:
        slots: How many; at least 1.
    """

    def __init__(self, slots: int) -> None:
        self.running = 0
        self.waiting = 0
        self._slots = slots
        self._lines: set[Line] = set()
        """Those with somebody waiting."""
        self._turns: deque[Line] = deque()
        """The lines that have somebody waiting and may have one more running."""
        self._period = -1
        self._callers = 0
        self._callers_before = 0
        self.share = slots
        """How many calls of one caller may run at once, as many callers as there are now."""

    def enter(self, line: Line, now: float) -> bool:
        """Let a call run at once, if nothing speaks against it.

        Args:
            line: Whose call.
            now: The monotonic time.

        Returns:
            Whether it runs; it must be given back by `leave`. Otherwise it is to `wait`.
        """
        period = int(now / WINDOW)
        if line.period != period:
            self._note(line, period)
        if line.waiting or self.running >= self._slots or line.running >= self.share:
            return False
        line.running += 1
        self.running += 1
        return True

    async def wait(self, line: Line) -> None:
        """Wait until the call may run; then it must be given back by `leave`.

        Raises:
            BaseException: What `dismiss` says, or the caller is gone: it does not run, and
                there is nothing to give back.
        """
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting[place] = None
        self.waiting += 1
        self._lines.add(line)
        self._line_up(line)
        self._serve()
        try:
            await place
        except BaseException:
            if place in line.waiting:
                self._strike(line, place)
            elif place.done() and not place.cancelled() and place.exception() is None:
                # Its turn came in the same instant.
                self.leave(line)
            raise

    def leave(self, line: Line) -> None:
        """Give a running call's slot back; whoever is next runs."""
        line.running -= 1
        self.running -= 1
        if line.waiting:
            self._line_up(line)
        if self._turns:
            self._serve()

    def dismiss(self, why: Callable[[], Exception]) -> None:
        """Send away whoever waits.

        Args:
            why: Makes what each of them is told.
        """
        for line in list(self._lines):
            for place in list(line.waiting):
                self._strike(line, place)
                if not place.done():
                    place.set_exception(why())

    def _note(self, line: Line, period: int) -> None:
        """Count who has called of late, and what each may have."""
        if period != self._period:
            self._callers_before = self._callers if period == self._period + 1 else 0
            self._callers = 0
            self._period = period
        line.period = period
        self._callers += 1
        callers = max(self._callers, self._callers_before)
        # Half of what would be everybody's: what one does not use should delay nobody.
        fair = self._slots if callers == 1 else self._slots // (2 * callers)
        self.share = min(self._slots, max(LEAST_SHARE, fair))

    def _line_up(self, line: Line) -> None:
        """Let a line take part in the turns, if it has somebody waiting and a share left."""
        if line.waiting and not line.in_turn and line.running < self.share:
            line.in_turn = True
            self._turns.append(line)

    def _serve(self) -> None:
        """Fill free slots, one from each line in turn."""
        share = self.share
        while self._turns and self.running < self._slots:
            line = self._turns.popleft()
            line.in_turn = False
            if not line.waiting or line.running >= share:
                # Back in turn with its next call, or when one of its calls ends.
                continue
            place = next(iter(line.waiting))
            self._strike(line, place)
            # One that is done was cancelled, and has not noticed yet.
            if not place.done():
                line.running += 1
                self.running += 1
                place.set_result(None)
            self._line_up(line)

    def _strike(self, line: Line, place: asyncio.Future[None]) -> None:
        """Take a place out of its line."""
        del line.waiting[place]
        self.waiting -= 1
        if not line.waiting:
            self._lines.discard(line)
