"""A noisy principal beside nine honest ones: what they feel of it, and what gets done."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.calls import APP
from bench.measure import quantile
from bench.plan import Plan
from bench.processes import Server, Worker, start_sojourn
from bench.results import Results
from sojourn_server.access import keys
from sojourn_server.access.keys import KeyFile
from sojourn_server.domain.access import Grant, Role

HONEST = 9
TIMES = 4
"""How many times what the server can do the noisy one asks of it."""
BUSY = 32
"""How many calls a busy, but well-behaved, tenth principal has under way."""
CONNECTIONS = 4
SHARE = 0.3
"""How much of what the server can do the nine ask for together."""
SETTLE = 2.0
"""How long each phase runs before it counts, in seconds."""


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure the nine alone, beside a busy tenth, and beside a noisy one, in turns."""
    made = [
        keys.make(f"k{number}", [Grant(Role.WRITE, APP)], None, keys.utc_now())
        for number in range(HONEST + 1)
    ]
    key_file = (folder / "neighbours-keys.json").resolve()
    keys.write_file(key_file, KeyFile(keys=tuple(entry for _, entry in made)))
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            start_sojourn(folder, "neighbours", settings=["--keys-file", str(key_file)])
        )
        noisy = Worker("noisy", _command("bench.flood", server), folder)
        stack.callback(noisy.close)
        noisy.ask(do="prepare", key=made[-1][0])
        seconds = 4.0 if plan.quick else 8.0
        alone_rate = noisy.ask(do="steady", seconds=seconds, streams=BUSY)
        capacity = alone_rate["answered"] / alone_rate["seconds"]
        interval = HONEST / (capacity * SHARE)
        say(f"neighbours: the server does {capacity:,.0f} calls a second")
        honest = _Honest(server, folder, [key for key, _ in made[:HONEST]], interval)
        rounds = [
            _round(honest, noisy, seconds, capacity, number, say) for number in range(plan.rounds)
        ]
    _report(results, rounds, capacity)


def _command(module: str, server: Server) -> list[str]:
    return [sys.executable, "-m", module, server.target]


class _Honest:
    """The nine: started anew for each phase."""

    def __init__(self, server: Server, folder: Path, keys: list[str], interval: float) -> None:
        self._server = server
        self._folder = folder
        self._order = {"keys": keys, "interval": interval}

    def during(self, seconds: float, beside: Callable[[], Any]) -> tuple[dict[str, float], Any]:
        """Let them call while something else happens; what they felt, and what that told."""
        worker = Worker("steady", _command("bench.steady", self._server), self._folder)
        try:
            worker.tell(**self._order)
            worker.answer()
            begin = time.monotonic() + SETTLE
            told = beside()
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            end = time.monotonic()
            worker.tell(stop=True)
            calls = [us for due, us in worker.answer()["calls"] if begin <= due < end - 0.2]
        finally:
            worker.close()
        felt = {
            "p50_ms": quantile(calls, 0.5) / 1e3,
            "p99_ms": quantile(calls, 0.99) / 1e3,
            "rate": len(calls) / (end - 0.2 - begin),
        }
        return felt, told


def _round(
    honest: _Honest,
    noisy: Worker,
    seconds: float,
    capacity: float,
    number: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    alone, _ = honest.during(seconds, lambda: None)
    busy, steady = honest.during(
        seconds, lambda: noisy.ask(do="steady", seconds=seconds + SETTLE, streams=BUSY)
    )
    beside, flood = honest.during(
        seconds,
        lambda: noisy.ask(
            do="flood",
            seconds=seconds + SETTLE,
            rate=capacity * TIMES,
            connections=CONNECTIONS,
        ),
    )
    peak = busy["rate"] + steady["answered"] / steady["seconds"]
    goodput = beside["rate"] + flood["answered"] / flood["seconds"]
    say(
        f"neighbours, round {number + 1}: the nine's p99 {alone['p99_ms']:.1f} ms alone, "
        f"{busy['p99_ms']:.1f} beside a busy one, {beside['p99_ms']:.1f} beside a noisy one"
    )
    return {
        "alone": alone,
        "busy": busy,
        "beside": beside,
        "flood": {name: each / flood["seconds"] for name, each in flood.items()},
        "peak": peak,
        "goodput": goodput,
    }


def _report(results: Results, rounds: list[dict[str, Any]], capacity: float) -> None:
    def median(of: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(of(each) for each in rounds)

    slower = [each["beside"]["p99_ms"] / each["alone"]["p99_ms"] for each in rounds]
    kept = [each["goodput"] / each["peak"] for each in rounds]
    flood = {
        name: round(median(lambda each, name=name: each["flood"][name]), 1)  # type: ignore[misc]
        for name in ("due", "sent", "answered", "refused")
    }
    results.add(
        "neighbours",
        "neighbours p99",
        f"nine principals beside a noisy one that asks for {TIMES}× what the server does: "
        "their p99 over that alone",
        slower,
        value=statistics.median(slower),
        facts={
            "p99_alone_ms": round(median(lambda each: each["alone"]["p99_ms"]), 2),
            "p99_ms": round(median(lambda each: each["beside"]["p99_ms"]), 2),
            "p99_beside_busy_ms": round(median(lambda each: each["busy"]["p99_ms"]), 2),
            "p50_alone_ms": round(median(lambda each: each["alone"]["p50_ms"]), 2),
            "p50_ms": round(median(lambda each: each["beside"]["p50_ms"]), 2),
            "rate": round(median(lambda each: each["beside"]["rate"]), 1),
            "capacity": round(capacity, 1),
        },
    )
    results.add(
        "neighbours",
        "neighbours goodput",
        "beside the noisy one: calls answered well over those beside a busy one",
        kept,
        value=statistics.median(kept),
        facts={
            **{f"noisy_{name}_per_s": each for name, each in flood.items()},
            "rate": round(median(lambda each: each["goodput"]), 1),
            "peak": round(median(lambda each: each["peak"]), 1),
        },
        note=(
            f"the noisy one: {flood['due']:,.0f} calls a second due, {flood['sent']:,.0f} found a "
            f"free stream on its {CONNECTIONS} connections, {flood['answered']:,.0f} were answered "
            f"and {flood['refused']:,.0f} refused"
        ),
    )
