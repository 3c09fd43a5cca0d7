"""Where callers wait their turn: first come, first served, within this process.

A wake-up is only a hint. Whoever stands first also tries again by itself every
`POLL` seconds, so a turn freed by another server, or by a hint that was lost, is
found as well.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Final

from sojourn_server.domain.errors import draining

POLL: Final = 0.4
"""How long the first in line waits for a hint before it tries by itself, in seconds."""


class TurnLine:
    """One line per session, by uid."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[asyncio.Event]] = {}
        self.closed = False
        """Whether nobody gets a turn any more: the server shuts down."""

    def close(self) -> None:
        """Send everybody away, now and from now on."""
        self.closed = True
        for line in self._lines.values():
            for woken in line:
                woken.set()

    def join(self, uid: str) -> Place:
        """Stand in line for a session. The place must be left in the end."""
        place = Place(self, uid)
        self._lines.setdefault(uid, deque()).append(place.woken)
        return place

    @property
    def empty(self) -> bool:
        """Whether nobody waits for any session."""
        return not self._lines

    @property
    def waiting(self) -> int:
        """How many wait, for all sessions together."""
        return sum(len(line) for line in self._lines.values())

    def stands_for(self, uid: str) -> bool:
        """Whether somebody waits for this session."""
        return uid in self._lines

    def freed(self, uids: Iterable[str]) -> None:
        """Tell the first in each line that the turn may be free."""
        for uid in uids:
            self._wake_first(uid)

    def is_first(self, place: Place) -> bool:
        """Whether nobody stands before."""
        return self._lines[place.uid][0] is place.woken

    def leave(self, place: Place) -> None:
        """Give up a place; the next in line is told."""
        line = self._lines[place.uid]
        line.remove(place.woken)
        if line:
            self._wake_first(place.uid)
        else:
            del self._lines[place.uid]

    def _wake_first(self, uid: str) -> None:
        line = self._lines.get(uid)
        if line:
            line[0].set()


class Place:
    """A place in a line: `async with` waits to be first, and leaves at the end."""

    def __init__(self, line: TurnLine, uid: str) -> None:
        self.uid = uid
        self.woken = asyncio.Event()
        self._line = line

    def leave(self) -> None:
        """Give up the place."""
        self._line.leave(self)

    async def wait(self, timeout: float) -> bool:
        """Wait until it is worth trying.

        Args:
            timeout: How long at the most, in seconds.

        Returns:
            Whether to try now: always when first in line, also after `POLL` without
            a hint; False when the time ran out behind others.

        Raises:
            Refusal: `DRAINING`: the line is closed.
        """
        if self._line.closed:
            raise draining()
        first = self._line.is_first(self)
        try:
            async with asyncio.timeout(min(timeout, POLL) if first else timeout):
                await self.woken.wait()
        except TimeoutError:
            return self._line.is_first(self)
        if self._line.closed:
            raise draining()
        # Cleared before the try, not after it: what is freed meanwhile is told again.
        self.woken.clear()
        return True
