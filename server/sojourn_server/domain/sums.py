"""Sessions, summed up: what an aggregate shows of a group."""

from __future__ import annotations

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import Session


class Sums(msgspec.Struct, kw_only=True):
    """How many sessions, and their counters added up.

    Exact, beyond 64 bits if need be.
    """

    sessions: int = 0
    requests: int = 0
    errors: int = 0
    processing_time: Nanos = 0
    messages: int = 0
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    """By name; none that is 0."""
    cut: str | None = None
    """Counters from this name on are left out; None: none is."""

    def count(self, session: Session) -> None:
        """Add a session."""
        metrics = session.metrics
        self.sessions += 1
        self.requests += metrics.requests
        self.errors += metrics.errors
        self.processing_time += metrics.processing_time
        self.messages += session.message_count
        if metrics.counters:
            self._add_counters(metrics.counters)

    def add(self, other: Sums) -> None:
        """Add other sums."""
        self.sessions += other.sessions
        self.requests += other.requests
        self.errors += other.errors
        self.processing_time += other.processing_time
        self.messages += other.messages
        if other.cut is not None and (self.cut is None or other.cut < self.cut):
            self._cut_at(other.cut)
        if other.counters:
            self._add_counters(other.counters)

    def _add_counters(self, counters: dict[str, int]) -> None:
        for name, value in counters.items():
            if self.cut is not None and name >= self.cut:
                continue
            total = self.counters.get(name, 0) + value
            if total:
                self.counters[name] = total
            else:
                self.counters.pop(name, None)

    def trim(self, most: int) -> None:
        """Leave counters out, the last by name, where there are more than so many."""
        if len(self.counters) > most:
            self._cut_at(sorted(self.counters)[most])

    def _cut_at(self, name: str) -> None:
        self.cut = name
        for each in [each for each in self.counters if each >= name]:
            del self.counters[each]
