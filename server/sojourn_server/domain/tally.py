"""Counting how values are spread, in memory that does not grow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Spread:
    """How many values came to lie between bounds, and their sum.

    One thread adds; any thread may read, and sees each value at the latest with the next.

    Args:
        bounds: Ascending; a value that equals a bound lies below it.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(float(bound) for bound in bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        """How many values lie up to each bound and above the one before; the last: above all."""
        self.total = 0.0
        """The sum of all values."""

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values there were."""
        return sum(self.counts)

    def copy(self) -> Spread:
        """The same, as it is now."""
        made = Spread(self.bounds)
        made.counts, made.total = self.counts[:], self.total
        return made
