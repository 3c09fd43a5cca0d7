"""Rounds and what comes of them: CPU time per call, calls per second, latencies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.processes import Broken, Server, Workers

CALLERS = 64
PROCESSES = 2


@dataclass(frozen=True)
class Sample:
    """One job, run once by all callers."""

    calls: int
    cpu_us: float
    """Of the server, per call, with what it put off until after the answers."""
    rate: float
    """Calls per second."""
    p50_ms: float
    p99_ms: float
    database_us: float = 0.0
    """Of the database's processes, per call, where it has its own."""

    @property
    def all_us(self) -> float:
        """Of the server and the database together, per call."""
        return self.cpu_us + self.database_us


def quantile(values: Sequence[float], share: float) -> float:
    """The value that so many are not above; 0 of none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass
class Rig:
    """A server, and the callers that call it."""

    server: Server
    workers: Workers
    database: Callable[[], Mapping[int, float]] = dict
    """CPU seconds of the database's processes so far, by their numbers."""

    def prepare(
        self, job: str, calls: int, *, callers: int = CALLERS, args: dict[str, Any] | None = None
    ) -> None:
        """Let the callers make ready for a job of so many calls each."""
        each = callers // len(self.workers)
        self.workers.ask(do="prepare", job=job, callers=each, calls=calls, args=args or {})

    def run(self) -> Sample:
        """Run the job that was prepared."""
        self.server.settle()
        database = self.database()
        before = self.server.cpu()
        try:
            answers = self.workers.ask(do="run")
        except Broken:
            # Where the server is what failed, say so.
            self.server.check()
            raise
        self.server.settle()
        cpu = self.server.cpu() - before
        used = sum(now - database.get(pid, 0.0) for pid, now in self.database().items())
        latencies = [us for answer in answers for us in answer["latencies"]]
        began = min(answer["began"] for answer in answers)
        ended = max(answer["ended"] for answer in answers)
        return Sample(
            calls=len(latencies),
            cpu_us=cpu / len(latencies) * 1e6,
            rate=len(latencies) / (ended - began),
            p50_ms=quantile(latencies, 0.5) / 1e3,
            p99_ms=quantile(latencies, 0.99) / 1e3,
            database_us=used / len(latencies) * 1e6,
        )

    def measure(
        self, job: str, calls: int, *, callers: int = CALLERS, args: dict[str, Any] | None = None
    ) -> Sample:
        """Prepare a job and run it."""
        self.prepare(job, calls, callers=callers, args=args)
        return self.run()


@dataclass
class Series:
    """The samples of one job over all rounds, and their ratios to a sample of the same round."""

    samples: list[Sample] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def add(self, sample: Sample, base: float | None = None, used: float | None = None) -> None:
        """Take a round in.

        Args:
            sample: What was measured.
            base: The CPU time per call of what it is compared with.
            used: The CPU time per call that is compared; the server's unless given.
        """
        self.samples.append(sample)
        if base:
            self.ratios.append((used or sample.cpu_us) / base)

    @property
    def cpu_us(self) -> float:
        """Median."""
        return statistics.median(each.cpu_us for each in self.samples)

    @property
    def rate(self) -> float:
        """Median."""
        return statistics.median(each.rate for each in self.samples)

    @property
    def p50_ms(self) -> float:
        """Median."""
        return statistics.median(each.p50_ms for each in self.samples)

    @property
    def p99_ms(self) -> float:
        """Median."""
        return statistics.median(each.p99_ms for each in self.samples)

    @property
    def ratio(self) -> float:
        """Median."""
        return statistics.median(self.ratios)

    @property
    def facts(self) -> dict[str, float]:
        """The medians, for the table."""
        facts = {
            "cpu_us": round(self.cpu_us, 1),
            "rate": round(self.rate, 1),
            "p50_ms": round(self.p50_ms, 2),
            "p99_ms": round(self.p99_ms, 2),
        }
        database = statistics.median(each.database_us for each in self.samples)
        return {**facts, "database_us": round(database, 1)} if database else facts
