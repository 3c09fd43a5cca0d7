"""Rounds and what comes of them: CPU time per call, calls per second, latencies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
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

    def prepare(
        self, job: str, calls: int, *, callers: int = CALLERS, args: dict[str, Any] | None = None
    ) -> None:
        """Let the callers make ready for a job of so many calls each."""
        each = callers // len(self.workers)
        self.workers.ask(do="prepare", job=job, callers=each, calls=calls, args=args or {})

    def run(self) -> Sample:
        """Run the job that was prepared."""
        self.server.settle()
        before = self.server.cpu()
        try:
            answers = self.workers.ask(do="run")
        except Broken:
            # Where the server is what failed, say so.
            self.server.check()
            raise
        self.server.settle()
        cpu = self.server.cpu() - before
        latencies = [us for answer in answers for us in answer["latencies"]]
        began = min(answer["began"] for answer in answers)
        ended = max(answer["ended"] for answer in answers)
        return Sample(
            calls=len(latencies),
            cpu_us=cpu / len(latencies) * 1e6,
            rate=len(latencies) / (ended - began),
            p50_ms=quantile(latencies, 0.5) / 1e3,
            p99_ms=quantile(latencies, 0.99) / 1e3,
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

    def add(self, sample: Sample, base: float | None = None) -> None:
        """Take a round in; `base` is the CPU time per call of what it is compared with."""
        self.samples.append(sample)
        if base:
            self.ratios.append(sample.cpu_us / base)

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
        return {
            "cpu_us": round(self.cpu_us, 1),
            "rate": round(self.rate, 1),
            "p50_ms": round(self.p50_ms, 2),
            "p99_ms": round(self.p99_ms, 2),
        }
