"""Ranges of sequences: what is left of one when others are removed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sojourn_server.store.base import MessageRange, SessionRow

LAST: Final = (1 << 63) - 1
"""No sequence is higher."""


def kept_intervals(
    low: int, high: int, removed: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    """What is left of `low` to `high` without the removed ranges; both ends included."""
    kept = []
    for first, last in sorted(removed):
        if first > high:
            break
        if last < low:
            continue
        if first > low:
            kept.append((low, first - 1))
        low = last + 1
    if low <= high:
        kept.append((low, high))
    return kept


def is_removed(row: SessionRow, sequence: int) -> bool:
    """Whether a message of this sequence is removed though its row may still be there."""
    return any(low <= sequence <= high for low, high in row.session.removed_ranges)


def intervals(row: SessionRow, which: MessageRange) -> list[tuple[int, int]]:
    """The runs of sequences to read for a range, in the order asked for."""
    high = LAST if which.before_sequence is None else which.before_sequence - 1
    found = kept_intervals(which.after_sequence + 1, high, row.session.removed_ranges)
    if which.descending:
        found.reverse()
    return found
