"""Sessions, summed up: what an aggregate shows of a group."""

from __future__ import annotations

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import Session


class Sums(msgspec.Struct, array_like=True, kw_only=True):
    """How many sessions, and their counters added up.

    Exact, beyond 64 bits if need be: what was added can always be taken away again. The
    order of the fields is part of a stored format: append at the end, never move.
    """

    sessions: int = 0
    requests: int = 0
    errors: int = 0
    processing_time: Nanos = 0
    messages: int = 0
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    """By name; none that is 0."""

    def count(self, session: Session, sign: int = 1) -> None:
        """Add a session, or with -1 take it away."""
        self.sessions += sign
        self.shift(session, sign)

    def shift(self, session: Session, sign: int) -> None:
        """Add a session's counters, or with -1 take them away, but not the session."""
        metrics = session.metrics
        self.requests += sign * metrics.requests
        self.errors += sign * metrics.errors
        self.processing_time += sign * metrics.processing_time
        self.messages += sign * session.message_count
        if metrics.counters:
            self._add_counters(metrics.counters, sign)

    def add(self, other: Sums) -> None:
        """Add other sums."""
        self.sessions += other.sessions
        self.requests += other.requests
        self.errors += other.errors
        self.processing_time += other.processing_time
        self.messages += other.messages
        if other.counters:
            self._add_counters(other.counters, 1)

    def _add_counters(self, counters: dict[str, int], sign: int) -> None:
        for name, value in counters.items():
            total = self.counters.get(name, 0) + sign * value
            if total:
                self.counters[name] = total
            else:
                self.counters.pop(name, None)
