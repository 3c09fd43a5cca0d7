"""Time, as the domain sees it: whole nanoseconds since 1970, UTC."""

from __future__ import annotations

import time
from typing import Final, Protocol

Nanos = int
"""An instant (nanoseconds since 1970, UTC) or a length of time (nanoseconds)."""

MICROSECOND: Final[Nanos] = 1_000
MILLISECOND: Final[Nanos] = 1_000_000
SECOND: Final[Nanos] = 1_000_000_000
MINUTE: Final[Nanos] = 60 * SECOND
HOUR: Final[Nanos] = 60 * MINUTE
DAY: Final[Nanos] = 24 * HOUR


class Clock(Protocol):
    """Tells the time. Order in the log never depends on it (guarantee W17)."""

    def now(self) -> Nanos:
        """The present instant. May step backwards; callers must bear it."""
        ...


class WallClock:
    """The machine's own clock, cut to microseconds so that every store keeps it exactly."""

    def now(self) -> Nanos:
        """The present instant."""
        return time.time_ns() // MICROSECOND * MICROSECOND
