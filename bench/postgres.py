"""The store in PostgreSQL: what group commit brings, what a Get costs, a million sessions."""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import scale
from bench.database import Database, NoDatabase
from bench.measure import PROCESSES, Rig, Series
from bench.plan import Plan
from bench.processes import Workers, start_echo, start_sojourn
from bench.results import Results
from bench.rpcs import RPCS, WARM

GROUP = "postgres"
SECTIONS = ("postgres", "postgres_writes", "postgres_get", "postgres_lists")
WRITES = ("create", "update", "append")
COUNTED = "append"
"""The write whose fsyncs are counted."""
MORE = 2
"""So many times the calls of a round are made while fsyncs are counted."""
Say = Callable[[str], None]


def measure(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """Start a PostgreSQL and measure what the plan asks for."""
    try:
        database = Database(folder)
    except NoDatabase as error:
        results.skipped.append(f"postgres: {error}")
        return
    with database:
        results.notes.append(
            f"PostgreSQL {database.version} with its own defaults, on the same machine and disk"
        )
        for name, part in (
            ("postgres_writes", _writes),
            ("postgres_get", _get),
            ("postgres_lists", _lists),
        ):
            if plan.wants("postgres", name):
                part(plan, database, folder, results, say)


def _writes(plan: Plan, database: Database, folder: Path, results: Results, say: Say) -> None:
    """Two servers on one database, in turns: one groups its commits, one does not."""
    store = database.make("writes")
    with contextlib.ExitStack() as stack:
        servers = [
            start_echo(folder),
            start_sojourn(folder, "grouped", store),
            start_sojourn(folder, "one-by-one", store, "bench.one_by_one"),
        ]
        rigs = [
            Rig(
                stack.enter_context(server),
                stack.enter_context(Workers(server.target, folder, PROCESSES)),
                lambda: {0: database.cpu()},
            )
            for server in servers
        ]
        echo, grouped, single = rigs
        echo.measure("echo", WARM)
        for job in WRITES:
            grouped.measure(job, WARM)
            single.measure(job, WARM)
        series = {job: Series() for job in WRITES}
        singles = {job: Series() for job in WRITES}
        for number in range(plan.rounds):
            say(f"PostgreSQL, writes: round {number + 1} of {plan.rounds}")
            for job in WRITES:
                before = echo.measure("echo", plan.calls)
                sample = grouped.measure(job, plan.calls)
                after = echo.measure("echo", plan.calls)
                series[job].add(sample, (before.cpu_us + after.cpu_us) / 2)
                singles[job].add(single.measure(job, max(4, plan.calls // 4)))
        for job in WRITES:
            _add_write(results, job, series[job], singles[job])
        say("PostgreSQL, writes: counting fsyncs")
        _count_syncs(plan, database, grouped, single, results)


def _add_write(results: Results, job: str, grouped: Series, single: Series) -> None:
    pairs = zip(grouped.samples, single.samples, strict=True)
    rates = [one.rate / other.rate for one, other in pairs]
    title = RPCS[job]
    results.add(
        GROUP,
        f"postgres {job}",
        f"{title}: writes per second, group commit over one commit per RPC",
        rates,
        value=statistics.median(rates),
        facts={**grouped.facts, "single_rate": round(single.rate, 1)},
    )
    results.add(
        GROUP,
        f"postgres {job} cpu",
        f"{title}: the server's CPU time over echo",
        grouped.ratios,
        value=grouped.ratio,
        facts=grouped.facts,
    )


def _count_syncs(
    plan: Plan, database: Database, grouped: Rig, single: Rig, results: Results
) -> None:
    """Count the fsyncs of the WAL around a load, those of health checks and of rest included."""

    def writes_per_sync(rig: Rig, calls: int) -> float:
        before = database.wal_syncs()
        sample = rig.measure(COUNTED, calls)
        return sample.calls / (database.wal_syncs() - before)

    passes = [writes_per_sync(grouped, plan.calls * MORE) for _ in range(plan.rounds // 2 + 1)]
    alone = writes_per_sync(single, max(4, plan.calls // 4))
    results.add(
        GROUP,
        "postgres syncs",
        f"{RPCS[COUNTED]}: writes per fsync of the write-ahead log",
        passes,
        value=statistics.median(passes),
        unit=" writes",
        note=f"{alone:.2f} with one commit per RPC",
    )


def _get(plan: Plan, database: Database, folder: Path, results: Results, say: Say) -> None:
    """GetSession of this store over that of the store in a file, in turns."""
    series, base = Series(), Series()
    with (
        start_sojourn(folder, "get-file") as file,
        start_sojourn(folder, "get-postgres", database.make("gets")) as server,
        Workers(file.target, folder, PROCESSES) as file_workers,
        Workers(server.target, folder, PROCESSES) as workers,
    ):
        few, rig = Rig(file, file_workers), Rig(server, workers, lambda: {0: database.cpu()})
        for each in (few, rig):
            each.measure("get", WARM)
        for number in range(plan.rounds):
            say(f"PostgreSQL, get: round {number + 1} of {plan.rounds}")
            sample = few.measure("get", plan.calls)
            base.add(sample)
            series.add(rig.measure("get", plan.calls), sample.cpu_us)
    results.add(
        GROUP,
        "postgres get",
        f"{RPCS['get']}: the server's CPU time over that with SQLite",
        series.ratios,
        value=series.ratio,
        facts={**series.facts, "sqlite_cpu_us": round(base.cpu_us, 1)},
    )


def _lists(plan: Plan, database: Database, folder: Path, results: Results, say: Say) -> None:
    """Pages of a large and of a small database: CPU time of server and database together."""
    stores = [
        scale.Store(
            name,
            sessions,
            folder,
            start_sojourn(folder, f"postgres-{name}", database.make(name)),
            partial(database.cpu_of, name),
        )
        for name, sessions in (("small", plan.few_sessions), ("large", plan.sessions))
    ]
    small, large = stores
    with large.server, small.server:
        for store in stores:
            scale.fill(plan, store, results, say, GROUP)
            database.rest(store.name)
        with (
            Workers(large.server.target, folder, PROCESSES) as many,
            Workers(small.server.target, folder, PROCESSES) as few,
        ):
            scale.lists(plan, large.rig(many), small.rig(few), results, say, GROUP)
