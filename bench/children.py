"""Short-lived children of one parent: pairs of a creation and an end in a second."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

from bench.children_calls import BATCH
from bench.measure import Rig, Series
from bench.plan import Plan
from bench.processes import Workers, start_sojourn
from bench.results import Results

WAYS = {
    "children of turns": f"made by {BATCH}, ended by the end of their turn",
    "children with results": f"made by {BATCH}, each ended by its own call with a result",
}
WARM = 1


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure both ways, one caller at a time, as one parent has one turn at a time."""
    with (
        start_sojourn(folder, "children") as server,
        Workers(server.target, folder, 1) as workers,
    ):
        rig = Rig(server, workers)
        series = {way: Series() for way in WAYS}
        for way in WAYS:
            rig.measure(way, WARM, callers=1)
        for number in range(plan.rounds):
            say(f"children, round {number + 1} of {plan.rounds}")
            for way in WAYS:
                series[way].add(rig.measure(way, plan.batches, callers=1))
    for way, title in WAYS.items():
        pairs = [sample.rate * BATCH for sample in series[way].samples]
        results.add(
            "children",
            way,
            f"children of one parent, {title}",
            pairs,
            value=statistics.median(pairs),
            unit=" pairs/s",
            facts={
                "cpu_us": round(series[way].cpu_us / BATCH, 1),
                "p50_ms": round(series[way].p50_ms, 1),
            },
            note=f"{plan.batches * plan.rounds * BATCH:,} children in all",
        )
