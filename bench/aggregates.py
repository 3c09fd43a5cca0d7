"""What a million sessions add up to, and a list of apps beside them."""

from __future__ import annotations

import asyncio
import statistics
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import json_format

from bench.calls import TIMEOUT
from bench.plan import Plan
from bench.processes import start_sojourn
from bench.results import Results
from sojourn.v1 import session_service_pb2, session_service_pb2_grpc
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.model import App, AppStatus, Metrics, Session, Status
from sojourn_server.store.base import Tx
from sojourn_server.store.sqlite import SqliteStore

APP: Final = "sums"
GROUP: Final = "aggregates"
SECTIONS: Final = ("aggregates", "apps_listed")
UNIT: Final = 5_000
"""Sessions that one unit writes; none is logged: nothing here looks at the log."""
TRIES: Final = 20
LOOKS: Final = 300
WEEK: Final = 7 * 86_400 * SECOND
STATUSES: Final = (Status.ACTIVE,) * 6 + (Status.COMPLETED,) * 2 + (Status.FAILED, Status.EXPIRED)

KEPT: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "aggregate all": ("of all", {}),
    "aggregate status": ("by status", {"groupBy": "GROUP_BY_STATUS"}),
    "aggregate user": ("by user, a page of 50", {"groupBy": "GROUP_BY_USER"}),
    "aggregate user 1000": (
        "by user, a page of 1,000",
        {"groupBy": "GROUP_BY_USER", "pageSize": 1_000},
    ),
    "aggregate failed": (
        "by user, those that FAILED",
        {"groupBy": "GROUP_BY_USER", "filter": {"statuses": ["SESSION_STATUS_FAILED"]}},
    ),
}
"""What the store keeps the sums of."""
ADDED: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "aggregate user filtered": (
        "by user, of a filter, a page of 50",
        {"groupBy": "GROUP_BY_USER", "filter": {"requestCountAbove": 3}},
    ),
    "aggregate label": (
        "by label, a page of 50",
        {"groupBy": "GROUP_BY_LABEL", "labelKey": "tier"},
    ),
    "aggregate status filtered": (
        "by status, of a filter: looks at every session",
        {"groupBy": "GROUP_BY_STATUS", "filter": {"requestCountAbove": 3}},
    ),
}
"""What is added up from sessions."""


def measure(plan: Plan, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Fill a store and ask for sums."""
    large, small = folder / "sums.db", folder / "few-sums.db"
    say(f"aggregates: filling {plan.summed:,} sessions")
    rate = asyncio.run(_fill(large, plan.summed, plan.users(plan.summed)))
    if plan.wants("apps_listed"):
        asyncio.run(_fill(small, plan.few_sessions, plan.users(plan.few_sessions)))
        _compare_lists(plan, large, small, results, say)
    if plan.wants("aggregates"):
        _ask_all(plan, folder, rate, results, say)


async def _fill(path: Path, sessions: int, users: int) -> float:
    """Write sessions, by the store's own code; how many a second."""
    store = SqliteStore(path, synchronous="OFF")
    await store.open()
    began = time.perf_counter()
    now = time.time_ns()
    app = App(app=APP, status=AppStatus.ACTIVE, create_time=now, feed_id=str(uuid.uuid4()))
    await store.apply(APP, "bench", lambda tx: tx.put_app(app))
    for first in range(0, sessions, UNIT):

        async def unit(tx: Tx, first: int = first) -> None:
            for index in range(first, min(first + UNIT, sessions)):
                await tx.insert_session(_session(index, users, now), now + WEEK)

        await store.apply(APP, "bench", unit)
    rate = sessions / (time.perf_counter() - began)
    await store.close()
    return rate


def _session(index: int, users: int, now: int) -> Session:
    return Session(
        uid=str(uuid.UUID(int=index + 1)),
        app=APP,
        user=f"user-{index % users:06d}",
        session_id=f"session-{index:08d}",
        status=STATUSES[index % len(STATUSES)],
        labels={"tier": f"tier-{index % 1_000:03d}"},
        create_time=now,
        update_time=now,
        activity_time=now,
        idle_timeout=WEEK,
        metrics=Metrics(
            requests=index % 5,
            errors=index % 2,
            processing_time=index % 7 * SECOND,
            counters={"tokens": index % 100, "cost": 1},
        ),
        message_count=index % 10,
    )


def _compare_lists(
    plan: Plan, large: Path, small: Path, results: Results, say: Callable[[str], None]
) -> None:
    say("aggregates: a list of apps with counts")
    ratios: list[float] = []
    for _ in range(plan.rounds):
        few, many = (asyncio.run(_list_apps(path)) for path in (small, large))
        ratios.append(many / few)
    results.add(
        GROUP,
        "apps listed",
        f"a list of apps with counts: {plan.summed:,} sessions over {plan.few_sessions:,}",
        ratios,
        value=statistics.median(ratios),
    )


async def _list_apps(path: Path) -> float:
    """Seconds that one list takes, in the middle of many."""
    store = SqliteStore(path)
    await store.open()
    taken: list[float] = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        (listed,) = await store.read(lambda tx: tx.listed_apps("", 50))
        taken.append(time.perf_counter() - began)
        assert listed.counts.sessions
    await store.close()
    return statistics.median(taken)


def _ask_all(
    plan: Plan, folder: Path, rate: float, results: Results, say: Callable[[str], None]
) -> None:
    with (
        start_sojourn(folder, "sums") as server,
        grpc.insecure_channel(server.target) as channel,
    ):
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        for asked, tries in ((KEPT, TRIES), (ADDED, 1 if plan.quick else 3)):
            for name, (title, request) in asked.items():
                say(f"aggregates: {title}")
                taken, groups = _ask(stub, request, tries)
                results.add(
                    GROUP,
                    name,
                    f"AggregateSessions over {plan.summed:,} sessions, {title}",
                    taken,
                    value=statistics.median(taken),
                    unit=" ms",
                    facts={"worst_ms": round(max(taken), 2), "fill_rate": round(rate)},
                    note=f"{groups:,} groups",
                )


def _ask(
    stub: session_service_pb2_grpc.SessionServiceStub, request: dict[str, Any], tries: int
) -> tuple[list[float], int]:
    """How long each try took, in milliseconds, and how many groups it answered."""
    ask = json_format.ParseDict(
        {"app": APP, **request}, session_service_pb2.AggregateSessionsRequest()
    )
    taken: list[float] = []
    groups = 0
    for _ in range(tries):
        began = time.perf_counter()
        groups = len(stub.AggregateSessions(ask, timeout=TIMEOUT).groups)
        taken.append((time.perf_counter() - began) * 1e3)
    return taken, groups
