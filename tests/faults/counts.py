"""How often each fault is made, and the table of what came of it.

`make test` takes the small counts, `make faults` the full ones. SOJOURN_FAULTS is
`full`, or names counts (`kills=500,cuts=10`), or both.
"""

from __future__ import annotations

import os
from typing import Final, NamedTuple

import pytest


class Count(NamedTuple):
    """How often something is done."""

    small: int
    full: int


COUNTS: Final = {
    "kills": Count(12, 200),
    "cuts": Count(5, 50),
    "forgetful_cuts": Count(2, 10),
    "full_disks": Count(1, 20),
    "sync_errors": Count(2, 20),
    "clock_rounds": Count(3, 30),
    "restarts": Count(3, 50),
    "cancels": Count(400, 10_000),
    "reset_seconds": Count(3, 30),
    "connections": Count(2_000, 2_000),
    "hammered": Count(2_000, 100_000),
    "overlaps": Count(100, 5_000),
    "histories": Count(10, 100),
    "copy_kills": Count(1, 25),
    "server_kills": Count(1, 30),
    "database_stops": Count(2, 20),
    "backend_kills": Count(10, 100),
    "pauses": Count(1, 5),
    "examples": Count(20, 1_000),
    "watch_kills": Count(3, 200),
    "watch_restarts": Count(1, 10),
    "followers": Count(24, 500),
    "initial_states": Count(24, 1_000),
    "watch_cancels": Count(60, 10_000),
    "operation_kills": Count(4, 100),
    "purge_kills": Count(2, 50),
    "race_seconds": Count(1, 30),
    "random_logs": Count(6, 60),
    "model_runs": Count(24, 600),
}


def _asked() -> dict[str, int]:
    """The counts of this run."""
    words = os.environ.get("SOJOURN_FAULTS", "").replace(",", " ").split()
    full = "full" in words
    counts = {name: count.full if full else count.small for name, count in COUNTS.items()}
    for word in words:
        name, _, number = word.partition("=")
        if name in COUNTS and number.isdigit() and int(number) > 0:
            counts[name] = int(number)
        elif word != "full":
            raise pytest.UsageError(
                f"SOJOURN_FAULTS is `full` and name=number of {', '.join(COUNTS)}, not {word}"
            )
    return counts


_COUNTS: Final = _asked()
_ROWS: list[tuple[str, int, str]] = []


def count(name: str) -> int:
    """How often this run does something."""
    return _COUNTS[name]


def patience(name: str, each: float, rest: float = 60.0) -> float:
    """A test's time limit, in seconds: so long for each, and so long for the rest."""
    return rest + each * count(name)


def report(what: str, times: int, outcome: str) -> None:
    """Add a line to the table at the end of the run."""
    _ROWS.append((what, times, outcome))


def rows() -> list[tuple[str, int, str]]:
    """The lines of this process: with several at work, they are taken to the first."""
    return list(_ROWS)


def print_table(reporter: pytest.TerminalReporter) -> None:
    """Print the lines there are, once."""
    if not _ROWS:
        return
    widest = max(len(what) for what, _, _ in _ROWS)
    reporter.section("faults")
    for what, times, outcome in _ROWS:
        reporter.write_line(f"{what:<{widest}}  {times:>7,}  {outcome}")
    _ROWS.clear()
