"""How much is measured, and what of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

SECTIONS: Mapping[str, str] = {
    "adk": "google-adk's session services, in-process",
    "adapter": "the adapter for google-adk, over google-adk's DatabaseSessionService",
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
    "aggregates": "what a million sessions add up to",
    "apps_listed": "a list of apps with counts beside a million sessions",
    "watch": "all of watching:",
    "fan_out": "500 watchers, at 40 and 200 writes a second, over a bare fan-out",
    "catch_up": "changes a second on a raw stub, and through the typed client",
    "filtered": "1,000 watchers of their own users, over 10",
    "idle_watchers": "memory of 2,000",
    "unwatched": "what writers pay for a feed that nobody watches",
    "access": "GetSession with a credential, over one without",
    "neighbours": "nine principals beside a noisy one",
    "expiry": "100,000 sessions that expire at one instant",
    "children": "short-lived children of one parent",
    "bulk": "EndSessions over 100,000 sessions",
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
    def summed(self) -> int:
        """How many sessions are summed up."""
        return 100_000 if self.quick else 1_000_000

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
    def batches(self) -> int:
        """How many batches of children are made and ended in one round."""
        return 4 if self.quick else 20

    @property
    def ended(self) -> int:
        """How many sessions one call ends."""
        return 5_000 if self.quick else 100_000

    @property
    def listed(self) -> int:
        """How many sessions an agent framework lists."""
        return 2_000 if self.quick else 10_000

    @property
    def far_page(self) -> int:
        """The page of 100 that is compared with page 1."""
        return min(1_000, self.sessions // 100)

    def users(self, sessions: int) -> int:
        """Among how many users sessions are spread: a hundred each."""
        return sessions // 100

    @property
    def watch_rounds(self) -> int:
        """How often each part of watching is measured."""
        return 1 if self.quick else 3

    @property
    def watch_seconds(self) -> float:
        """How long is written at a rate."""
        return 2.0 if self.quick else 10.0

    @property
    def watchers(self) -> int:
        """How many get every change."""
        return 100 if self.quick else 500

    @property
    def filtered(self) -> int:
        """How many watch a user of their own."""
        return 100 if self.quick else 1_000

    @property
    def idle_watchers(self) -> int:
        """How many wait for nothing."""
        return 200 if self.quick else 2_000

    @property
    def logged(self) -> int:
        """How many changes there are to catch up on."""
        return 5_000 if self.quick else 100_000

    @property
    def peer_seconds(self) -> float:
        """How long one call of a peer is made in one round."""
        return 0.5 if self.quick else 1.5
