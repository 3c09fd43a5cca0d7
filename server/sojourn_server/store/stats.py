"""What a store tells of itself, for metrics: S60 of `store.base` says how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sojourn_server.domain.tally import Spread

COMMIT_SECONDS: Final = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""Bounds for how long a commit takes."""
COMMIT_UNITS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Bounds for how many units share a commit."""


class Rows(msgspec.Struct):
    """A number of rows in each of the main tables."""

    sessions: int = 0
    messages: int = 0
    changes: int = 0
    requests: int = 0

    def add(self, other: Rows, sign: int = 1) -> None:
        """Add other numbers, or with -1 take them away."""
        self.sessions += sign * other.sessions
        self.messages += sign * other.messages
        self.changes += sign * other.changes
        self.requests += sign * other.requests


class StoreStats(msgspec.Struct, frozen=True, kw_only=True):
    """What a store has done since it was opened, and how large it is."""

    commit_seconds: Spread
    """How long each commit took that succeeded."""
    commit_units: Spread
    """How many units it carried."""
    commits_failed: int
    """Commits that failed with all their units."""
    units_waiting: int
    """Units that wait for a commit now."""
    reads_from_memory: int
    """Reads that asked the database nothing, or only whether what is remembered still holds."""
    reads_from_database: int
    """Reads that were not."""
    added: Rows
    """Rows that were committed."""
    removed: Rows
    """Rows whose removal was committed."""
    rows: Rows | None
    """Rows there are, about; None: not known yet."""
    bytes: Mapping[str, int]
    """What the store takes of the disk, by part: `database`, `wal`."""
    free_bytes: int | None
    """What of the database is empty, and is filled before it grows; None: it does not say."""
