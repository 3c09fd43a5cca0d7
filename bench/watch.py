"""Watching: changes to many at once, catching up, filters, and what idle watchers cost."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.measure import PROCESSES, Rig, Series, quantile
from bench.plan import Plan
from bench.processes import Server, Worker, Workers, start_sojourn
from bench.results import Results

SECTIONS = ("watch", "fan_out", "catch_up", "filtered", "idle_watchers", "unwatched")
GROUP = "watching"
RATES = (40, 200)
SIZE = 400
"""Bytes of what the bare server says, until a change has shown how large it is."""
LULL = 0.7
"""How long what was written may take to reach everybody, in seconds."""
KIB = 1024

Say = Callable[[str], None]


class Crowd:
    """Two processes of watchers, and one that writes, of one server."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self._all = [
            Worker(
                f"watchers-{server.name}-{number}",
                [sys.executable, "-m", "bench.watchers", server.target],
                folder,
            )
            for number in range(PROCESSES + 1)
        ]

    @property
    def writer(self) -> Worker:
        """The one that writes."""
        return self._all[-1]

    def open(self, count: int, **how: Any) -> None:
        """Open so many streams, half of them in each process."""
        each = count // PROCESSES
        for number, worker in enumerate(self._all[:-1]):
            worker.tell(do="open", count=each, first=number * each, **how)
        for worker in self._all[:-1]:
            worker.answer()

    def watchers(self, **order: Any) -> list[dict[str, Any]]:
        """Tell all watchers the same."""
        for worker in self._all[:-1]:
            worker.tell(**order)
        return [worker.answer() for worker in self._all[:-1]]

    def __enter__(self) -> Crowd:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._all:
            worker.close()


def measure(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """Measure whatever of it is wanted."""
    parts = (
        ("fan_out", _fan_out),
        ("catch_up", _catch_up),
        ("filtered", _filtered),
        ("idle_watchers", _idle),
        ("unwatched", _unwatched),
    )
    for name, part in parts:
        if plan.wants("watch", name):
            part(plan, folder, results, say)


def start_fan(folder: Path) -> Server:
    """Start the bare server."""
    port_file = folder / "fan.port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.fanout", "--port-file", str(port_file)]
    server = Server("fan", command, folder)
    server.start()
    server.await_port(port_file)
    return server


def _fan_out(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    count, seconds = plan.watchers, plan.watch_seconds
    with (
        start_sojourn(folder, "fanned") as server,
        start_fan(folder) as fan,
        Crowd(server, folder) as crowd,
        Crowd(fan, folder) as bare,
    ):
        crowd.writer.ask(do="fill", users=10)
        crowd.open(count)
        bare.open(count, bare=True)
        size = SIZE
        for rate in RATES:
            say(f"watch: {count} watchers at {rate} writes a second")
            ours: list[float] = []
            floor: list[float] = []
            ratios: list[float] = []
            middles: list[tuple[float, float]] = []
            for _ in range(plan.watch_rounds):
                mine, delivered, size = _round(crowd, rate, seconds, size, bare=False)
                if delivered != count * round(rate * seconds):
                    results.notes.append(
                        f"watch: {delivered:,} of {count * round(rate * seconds):,} delivered"
                    )
                theirs, _, _ = _round(bare, rate, seconds, size, bare=True)
                ours.append(quantile(mine, 0.99))
                floor.append(quantile(theirs, 0.99))
                ratios.append(ours[-1] / floor[-1])
                middles.append((quantile(mine, 0.5), quantile(theirs, 0.5)))
            results.add(
                GROUP,
                f"fan-out {rate}",
                f"{count} watchers, {rate} writes a second: commit to receive, p99 over a bare "
                "fan-out's",
                ratios,
                value=statistics.median(ratios),
                facts={
                    "p50_ms": round(statistics.median(each for each, _ in middles) * 1e3, 1),
                    "bare_p50_ms": round(statistics.median(each for _, each in middles) * 1e3, 1),
                    "p99_ms": round(statistics.median(ours) * 1e3, 1),
                    "bare_p99_ms": round(statistics.median(floor) * 1e3, 1),
                    "bytes": size,
                },
                note="ours begins before the commit's fsync",
            )


def _round(
    crowd: Crowd, rate: int, seconds: float, size: int, *, bare: bool
) -> tuple[list[float], int, int]:
    """Ages of what was delivered, how much that was, and the bytes of one change."""
    for worker in (*crowd._all,):  # noqa: SLF001 - its own crowd
        del worker
    crowd.watchers(do="reset", size=size)
    crowd.writer.ask(do="write", rate=rate, seconds=seconds, users=10, bare=bare, size=size)
    time.sleep(LULL)
    reports = crowd.watchers(do="report")
    ages = [age for report in reports for age in report["ages"]]
    return ages, sum(r["changes"] for r in reports), max(r["size"] for r in reports) or size


def _catch_up(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    with start_sojourn(folder, "logged") as server, Crowd(server, folder) as crowd:
        say(f"watch: writing {plan.logged:,} changes to catch up on")
        filled = crowd.writer.ask(do="fill", users=100, changes=plan.logged)
        crowd.writer.ask(do="write", rate=1, seconds=1, users=1)
        goal = filled["revision"]
        for count, name, typed in (
            (1, "catch-up", False),
            (8, "catch-up together", False),
            (1, "catch-up typed", True),
        ):
            rates = []
            cpu = server.cpu()
            for _ in range(plan.watch_rounds):
                answer = crowd.writer.ask(
                    do="catch_up",
                    token=filled["token"],
                    revision=goal,
                    count=count,
                    typed=typed,
                )
                rates.append(count * plan.logged / max(answer["seconds"]))
            cpu = server.cpu() - cpu
            value = statistics.median(rates)
            results.add(
                GROUP,
                name,
                f"catching up on {plan.logged:,} changes, "
                f"{'typed client' if typed else 'raw stub'}, {count} at once: "
                "thousand changes a second",
                [rate / 1e3 for rate in rates],
                value=value / 1e3,
                unit=" k",
                facts={"cpu_us": round(cpu / plan.watch_rounds / count / plan.logged * 1e6, 2)},
            )


def _filtered(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    many, few, rate, seconds = plan.filtered, 10, 200, plan.watch_seconds
    used: dict[int, list[float]] = {many: [], few: []}
    with start_sojourn(folder, "filtered") as server, Crowd(server, folder) as crowd:
        crowd.writer.ask(do="fill", users=many)
        for _ in range(plan.watch_rounds):
            for count in (many, few):
                say(f"watch: {count} watchers, each of its own user")
                crowd.open(count, by_user=True)
                server.settle()
                before = server.cpu()
                crowd.writer.ask(do="write", rate=rate, seconds=seconds, users=count)
                time.sleep(LULL)
                used[count].append(server.cpu() - before)
                crowd.watchers(do="close")
                time.sleep(LULL)
    ratios = [mine / theirs for mine, theirs in zip(used[many], used[few], strict=True)]
    written = rate * seconds
    results.add(
        GROUP,
        "filtered",
        f"{many:,} watchers, each of its own user, over {few} with as many deliveries: server CPU",
        ratios,
        value=statistics.median(ratios),
        facts={
            "cpu_us": round(statistics.median(used[many]) / written * 1e6, 1),
            "few_cpu_us": round(statistics.median(used[few]) / written * 1e6, 1),
        },
    )


def _idle(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    count = plan.idle_watchers
    say(f"watch: {count:,} idle watchers")
    held: list[float] = []
    for server, how in (
        (start_sojourn(folder, "idle"), {}),
        (start_fan(folder), {"bare": True}),
    ):
        with server, Crowd(server, folder) as crowd:
            if not how:
                crowd.writer.ask(do="fill", users=1)
            crowd.open(PROCESSES, **how)
            server.settle()
            before = server.memory().anonymous
            crowd.open(count, **how)
            server.settle()
            held.append((server.memory().anonymous - before) / count / KIB)
    results.add(
        GROUP,
        "idle watchers",
        f"{count:,} idle watchers: memory each",
        [],
        value=held[0],
        unit=" KiB",
        facts={"bare_kib": round(held[1], 1)},
    )


def _unwatched(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    say("watch: what writers pay for a feed that nobody watches")
    with (
        start_sojourn(folder, "feed") as server,
        start_sojourn(folder, "no-feed", module="bench.without_feed") as other,
        Workers(server.target, folder, PROCESSES) as workers,
        Workers(other.target, folder, PROCESSES) as others,
    ):
        series = Series()
        rigs: Sequence[Rig] = (Rig(other, others), Rig(server, workers))
        for rig in rigs:
            rig.measure("update", plan.calls)
        for _ in range(plan.rounds):
            base, mine = (rig.measure("update", plan.calls) for rig in rigs)
            series.add(mine, base.cpu_us)
    results.add(
        GROUP,
        "unwatched",
        "UpdateSession with a feed that nobody watches, over a server without: CPU",
        series.ratios,
        value=series.ratio,
        facts=series.facts,
    )
