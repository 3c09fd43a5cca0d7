"""How much is measured, and what of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SECTIONS: Mapping[str, str] = {
    "adk": "google-adk's session services, in-process",
    "etcd": "etcd's put and get",
    "lists": "pages of 100 at a million sessions",
    "pages": "page 1,000 against page 1",
    "residual": "a predicate that no index answers",
    "history": "the newest 20 of 100,000 messages",
    "memory": "what the server holds with a million sessions stored",
    "postgres": "all of the store in PostgreSQL:",
    "postgres_writes": "its writes per second and per fsync",
    "postgres_get": "its GetSession over SQLite's",
    "postgres_lists": "its pages of 100 at a million sessions",
    "access": "GetSession with a credential, over one without",
    "expiry": "100,000 sessions that expire at one instant",
}


@dataclass(frozen=True)
class Plan:
    """What one run does."""

    quick: bool
    only: frozenset[str]
    """Names of RPCs and sections; empty: all."""

    def wants(self, *names: str) -> bool:
        """Whether any of these is to be measured."""
        return not self.only or not self.only.isdisjoint(names)

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Which of these are to be measured."""
        return [name for name in names if self.wants(name)]

    @property
    def rounds(self) -> int:
        """How often everything is measured; the median counts."""
        return 3 if self.quick else 7

    @property
    def calls(self) -> int:
        """Calls of each of the 64 callers in one round."""
        return 12 if self.quick else 50

    @property
    def sessions(self) -> int:
        """How many the large store holds."""
        return 20_000 if self.quick else 1_000_000

    @property
    def few_sessions(self) -> int:
        """How many the small store holds."""
        return 1_000

    @property
    def messages(self) -> int:
        """How many the long session holds."""
        return 5_000 if self.quick else 100_000

    @property
    def expiring(self) -> int:
        """How many sessions expire at one instant."""
        return 5_000 if self.quick else 100_000

    @property
    def far_page(self) -> int:
        """The page of 100 that is compared with page 1."""
        return min(1_000, self.sessions // 100)

    def users(self, sessions: int) -> int:
        """Among how many users sessions are spread: a hundred each."""
        return sessions // 100

    @property
    def peer_seconds(self) -> float:
        """How long one call of a peer is made in one round."""
        return 0.5 if self.quick else 1.5
