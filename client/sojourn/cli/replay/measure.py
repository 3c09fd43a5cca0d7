"""How long calls take, seen from the caller, per RPC."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sojourn import SojournError


@dataclass(frozen=True, slots=True)
class Line:
    """One RPC's figures."""

    method: str
    calls: int
    errors: int
    p50: float | None
    """Half of the successful calls took no longer, in seconds; None: there was none."""
    p99: float | None
    """Ninety-nine of a hundred took no longer."""


@dataclass(slots=True)
class Measures:
    """All durations of a run."""

    durations: dict[str, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def call(self, method: str) -> Iterator[None]:
        """Measure one call: its duration, or that it failed."""
        begin = time.perf_counter()
        try:
            yield
        except SojournError as error:
            self.errors[error.method or method] += 1
            raise
        self.durations.setdefault(method, []).append(time.perf_counter() - begin)

    def lines(self) -> list[Line]:
        """Return the figures, in the order in which the RPCs first came."""
        methods = [*self.durations, *(one for one in self.errors if one not in self.durations)]
        return [self._line(method, sorted(self.durations.get(method, []))) for method in methods]

    def _line(self, method: str, durations: list[float]) -> Line:
        errors = self.errors[method]
        return Line(
            method,
            len(durations) + errors,
            errors,
            quantile(durations, 0.50),
            quantile(durations, 0.99),
        )

    @property
    def error_count(self) -> int:
        """How many calls failed."""
        return sum(self.errors.values())


def quantile(ordered: list[float], share: float) -> float | None:
    """Return the smallest value that at least this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
