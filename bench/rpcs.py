"""RPC by RPC: the server's CPU time against that of a bare echo, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import PROCESSES, Rig, Series
from bench.plan import Plan
from bench.processes import Workers, start_echo, start_sojourn
from bench.results import Results

GROUP = "RPC"
RPCS: dict[str, str] = {
    "get": "GetSession, BASIC",
    "get_full": "GetSession, FULL, last 20 messages",
    "list_messages": "ListMessages, newest 20",
    "create": "CreateSession",
    "update": "UpdateSession, label and state",
    "update_metrics": "UpdateSession, metrics",
    "append": "AppendMessages, one message",
    "begin_turn": "BeginTurn",
    "end_turn": "EndTurn",
    "end_session": "EndSession",
}
WARM = 4
"""Calls per caller before the first round, not measured."""


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure what the plan asks for, each between two rounds of echo."""
    jobs = plan.chosen(RPCS)
    with (
        start_echo(folder) as floor,
        start_sojourn(folder, "rpcs") as server,
        Workers(floor.target, folder, PROCESSES) as floor_workers,
        Workers(server.target, folder, PROCESSES) as workers,
    ):
        echo, rig = Rig(floor, floor_workers), Rig(server, workers)
        series = {job: Series() for job in ["echo", *jobs]}
        echo.measure("echo", WARM)
        for job in jobs:
            rig.measure(job, WARM)
        for number in range(plan.rounds):
            say(f"RPCs, round {number + 1} of {plan.rounds}")
            _round(plan, echo, rig, jobs, series)
    _report(jobs, series, results)


def _round(plan: Plan, echo: Rig, rig: Rig, jobs: Sequence[str], series: dict[str, Series]) -> None:
    before = echo.measure("echo", plan.calls)
    series["echo"].add(before)
    for job in jobs:
        sample = rig.measure(job, plan.calls)
        after = echo.measure("echo", plan.calls)
        series["echo"].add(after)
        series[job].add(sample, (before.cpu_us + after.cpu_us) / 2)
        before = after


def _report(jobs: Sequence[str], series: dict[str, Series], results: Results) -> None:
    echo = series["echo"]
    spread = [each.cpu_us / echo.cpu_us for each in echo.samples]
    results.add(
        GROUP, "echo", "bare grpc.aio echo (the floor)", spread, value=1.0, facts=echo.facts
    )
    for job in jobs:
        each = series[job]
        results.add(GROUP, job, RPCS[job], each.ratios, value=each.ratio, facts=each.facts)
