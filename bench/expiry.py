"""Many sessions that expire at one instant, and what other callers feel of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import grpc

from bench.calls import TIMEOUT
from bench.measure import PROCESSES, quantile
from bench.plan import Plan
from bench.processes import Broken, Workers, start_sojourn
from bench.results import Results
from sojourn.v1 import session_pb2, session_service_pb2, session_service_pb2_grpc

APP = "expiring"
CALLERS = 16
INTERVAL = 0.01
"""Between two calls of one process, in seconds: 200 calls a second in all."""
FILL_GUESS = 1_200.0
"""How many sessions a second can be made on a slow machine: sets the instant."""
CALM = 12.0
"""How long other callers are measured before the instant, in seconds."""
MOST = 300.0
POLL = 0.25


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measure other callers' latencies before the instant and while sessions expire."""
    instant = time.time() + plan.expiring / FILL_GUESS + CALM + 5
    with (
        start_sojourn(folder, "expiry") as server,
        Workers(server.target, folder, PROCESSES) as workers,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        say(f"expiry: filling {plan.expiring:,} sessions")
        half, users = plan.expiring // 2, plan.users(plan.expiring)
        bounds = ((0, half), (half, plan.expiring))
        for worker, (first, last) in zip(workers, bounds, strict=True):
            worker.tell(do="fill", app=APP, users=users, first=first, last=last, due=instant)
        workers.answers()
        workers.ask(do="prepare", job="mixed", callers=CALLERS // len(workers), calls=0)
        if time.time() > instant - CALM:
            raise Broken("this machine is too slow to fill the expiring sessions in time")
        say(f"expiry: waiting {instant - time.time():.0f} s for the instant")
        time.sleep(max(0.0, instant - CALM - time.time()))
        workers.tell(do="pace", interval=INTERVAL)
        time.sleep(CALM)
        began, cpu = time.monotonic() - (time.time() - instant), server.cpu()
        took = _await_all(stub, began)
        cpu = server.cpu() - cpu
        workers.tell(do="stop")
        calls = [call for answer in workers.answers() for call in answer["calls"]]
    # The first second is the connection's; the last before the instant is nobody's.
    before = [us for due, us in calls if began - CALM + 1 <= due < began - 0.5]
    during = [us for due, us in calls if began <= due < began + took]
    p99 = quantile(before, 0.99), quantile(during, 0.99)
    results.add(
        "expiry",
        "expiry p99",
        f"{plan.expiring:,} sessions expire at one instant: others' p99, during over before",
        [],
        value=p99[1] / p99[0],
        facts={
            "p99_before_ms": round(p99[0] / 1e3, 2),
            "p99_ms": round(p99[1] / 1e3, 2),
            "p50_before_ms": round(quantile(before, 0.5) / 1e3, 2),
            "p50_ms": round(quantile(during, 0.5) / 1e3, 2),
            "worst_ms": round(max(during, default=0) / 1e3, 2),
            "calls_during": len(during),
            "seconds": round(took, 2),
            "rate": round(plan.expiring / took, 1),
            "cpu_us": round(cpu / plan.expiring * 1e6, 1),
        },
        note=f"all expired {took:.1f} s after the instant",
    )


def _await_all(stub: session_service_pb2_grpc.SessionServiceStub, began: float) -> float:
    """Seconds from the instant until none is ACTIVE any more.

    Raises:
        Broken: It takes too long.
    """
    request = session_service_pb2.ListSessionsRequest(
        app=APP,
        filter=session_pb2.SessionFilter(statuses=[session_pb2.SESSION_STATUS_ACTIVE]),
        view=session_pb2.SESSION_VIEW_IDS,
        page_size=1,
    )
    while time.monotonic() < began + MOST:
        if not stub.ListSessions(request, timeout=TIMEOUT).sessions:
            return time.monotonic() - began
        time.sleep(POLL)
    raise Broken(f"sessions were still ACTIVE {MOST:.0f} s after they were due")
