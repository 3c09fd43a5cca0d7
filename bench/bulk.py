"""EndSessions over very many sessions, and what writers beside it feel of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import grpc

from bench.measure import PROCESSES, quantile
from bench.plan import Plan
from bench.processes import Workers, start_sojourn
from bench.results import Results
from sojourn.v1 import session_service_pb2, session_service_pb2_grpc

APP = "bulk"
CALLERS = 32
RATE = 500
"""Writes a second beside it, in all."""
CALM = 10.0
"""How long the writers are measured by themselves, in seconds."""
MOST = 300.0
"""The deadline of one call, in seconds."""


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure writers by themselves, and while all sessions of another app are ended."""
    with (
        start_sojourn(folder, "bulk") as server,
        Workers(server.target, folder, PROCESSES) as workers,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        say(f"bulk: filling {plan.ended:,} sessions")
        half, users = plan.ended // 2, plan.users(plan.ended)
        bounds = ((0, half), (half, plan.ended))
        for worker, (first, last) in zip(workers, bounds, strict=True):
            worker.tell(do="fill", app=APP, users=users, first=first, last=last)
        workers.answers()
        workers.ask(do="prepare", job="append", callers=CALLERS // len(workers), calls=0)
        workers.tell(do="pace", interval=len(workers) / RATE)
        time.sleep(CALM)
        say(f"bulk: ending {plan.ended:,} sessions")
        began, cpu = time.monotonic(), server.cpu()
        request = session_service_pb2.EndSessionsRequest(app=APP, all=True)
        answer = stub.EndSessions(request, timeout=MOST)
        took, cpu = time.monotonic() - began, server.cpu() - cpu
        workers.tell(do="stop")
        calls = [call for worker in workers.answers() for call in worker["calls"]]
    assert answer.count == plan.ended
    # The first second is the connections'; the last before the call is nobody's.
    before = [us for due, us in calls if began - CALM + 1 <= due < began - 0.5]
    during = [us for due, us in calls if began <= due < began + took]
    p99 = quantile(before, 0.99), quantile(during, 0.99)
    facts = {
        "p99_before_ms": round(p99[0] / 1e3, 2),
        "p99_ms": round(p99[1] / 1e3, 2),
        "p50_before_ms": round(statistics.median(before) / 1e3, 2),
        "p50_ms": round(statistics.median(during) / 1e3, 2),
        "worst_ms": round(max(during, default=0) / 1e3, 2),
        "calls_during": len(during),
        "seconds": round(took, 2),
        "cpu_us": round(cpu / plan.ended * 1e6, 1),
    }
    title = f"EndSessions over {plan.ended:,} beside {RATE} writes a second"
    results.add(
        "bulk",
        "bulk rate",
        f"{title}: sessions a second",
        [],
        value=plan.ended / took,
        unit=" a second",
        facts=facts,
    )
    results.add(
        "bulk",
        "bulk p99",
        f"{title}: others' p99, during over before",
        [],
        value=p99[1] / p99[0],
        facts=facts,
    )
