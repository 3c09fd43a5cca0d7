"""A store of a million sessions against one of a thousand."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format

from bench.calls import LAST, TEXT, TIMEOUT
from bench.filling import is_gold, session_id, user
from bench.machine import MIB, Memory
from bench.measure import PROCESSES, Rig, Series
from bench.plan import Plan
from bench.processes import Server, Workers, start_sojourn
from bench.results import Results
from sojourn.v1 import (
    history_service_pb2,
    history_service_pb2_grpc,
    session_pb2,
    session_service_pb2,
    session_service_pb2_grpc,
)

APP = "scale"
GROUP = "scale"
PAGE = 100
ENDED = 110
"""How many sessions of each store are COMPLETED, spread over all of it."""
CALLERS = 8
SECTIONS = ("lists", "pages", "residual", "history", "memory")
Say = Callable[[str], None]
GOLD = {"labels": [{"key": "tier", "operator": "OPERATOR_IN", "values": ["gold"]}]}
ACTIVE = {"statuses": ["SESSION_STATUS_ACTIVE"]}
COMPLETED = {"statuses": ["SESSION_STATUS_COMPLETED"]}
BUSY = {"requestCountAbove": 1_000_000}


@dataclass
class Store:
    """A server, its store and its size."""

    name: str
    sessions: int
    folder: Path
    server: Server
    database: Callable[[], Mapping[int, float]] = dict
    """CPU seconds of the database's processes, where it has its own."""

    def rig(self, workers: Workers) -> Rig:
        """To measure it."""
        return Rig(self.server, workers, self.database)


def measure(plan: Plan, folder: Path, results: Results, say: Say) -> None:
    """Fill both stores and measure what the plan asks for."""
    large = Store("large", plan.sessions, folder, start_sojourn(folder, "large"))
    small = Store("small", plan.few_sessions, folder, start_sojourn(folder, "small"))
    try:
        empty = large.server.memory()
        for store in (small, large):
            fill(plan, store, results, say)
        filled = large.server.memory()
        with (
            Workers(large.server.target, folder, PROCESSES) as many,
            Workers(small.server.target, folder, PROCESSES) as few,
        ):
            if plan.wants("lists"):
                lists(plan, large.rig(many), small.rig(few), results, say)
            if plan.wants("residual"):
                _residual(plan, large.rig(many), small.rig(few), results, say)
            if plan.wants("pages"):
                _pages(plan, large, large.rig(many), results, say)
            if plan.wants("history"):
                _history(plan, large, large.rig(many), results, say)
        if plan.wants("memory"):
            used = large.server.memory()
            say("memory: starting on the full store")
            large.server.stop()
            large.server = start_sojourn(folder, "large")
            _read_some(large)
            _memory(plan, empty, filled, used, large.server.memory(), results)
    finally:
        large.server.stop()
        small.server.stop()


def fill(plan: Plan, store: Store, results: Results, say: Say, group: str = GROUP) -> None:
    """Fill in slices, so that progress can be told."""
    slices = 10 if store.sessions > 100_000 else 1
    each = store.sessions // slices
    users = plan.users(store.sessions)
    seconds: list[float] = []
    cpu = store.server.cpu()
    with Workers(store.server.target, store.folder, PROCESSES) as workers:
        for number in range(slices):
            say(f"filling: {number * each:,} of {store.sessions:,} sessions")
            middle = number * each + each // 2
            for worker, (first, last) in zip(
                workers,
                ((number * each, middle), (middle, (number + 1) * each)),
                strict=True,
            ):
                worker.tell(do="fill", app=APP, users=users, first=first, last=last)
            seconds.append(max(answer["seconds"] for answer in workers.answers()))
    cpu = store.server.cpu() - cpu
    _end_some(plan, store)
    if store.name == "large":
        rates = [each / slice_seconds for slice_seconds in seconds]
        results.add(
            group,
            _name(group, "fill"),
            f"filling {store.sessions:,}: time of the last slice over the first",
            [],
            value=rates[0] / rates[-1],
            facts={
                "rate": round(store.sessions / sum(seconds), 1),
                "cpu_us": round(cpu / store.sessions * 1e6, 1),
            },
        )


def _end_some(plan: Plan, store: Store) -> None:
    users = plan.users(store.sessions)
    with grpc.insecure_channel(store.server.target) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        for number in range(ENDED):
            index = number * (store.sessions // ENDED)
            stub.EndSession(
                session_service_pb2.EndSessionRequest(session=_ref(index, users)), timeout=TIMEOUT
            )


def _ref(index: int, users: int) -> session_pb2.SessionRef:
    return session_pb2.SessionRef(app=APP, user=user(index, users), session_id=session_id(index))


def _asked(method: str, request: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"method": method, "request": request, **more}


def _sessions(**request: Any) -> dict[str, Any]:
    return {"app": APP, "pageSize": PAGE, **request}


def _compare(
    plan: Plan,
    rigs: tuple[Rig, Rig],
    asked: tuple[dict[str, Any], dict[str, Any]],
    calls: int,
) -> tuple[Series, list[float]]:
    """The second over the first, CPU time per call, in interleaved rounds."""
    series, base = Series(), Series()
    for rig, args in zip(rigs, asked, strict=True):
        rig.measure("asked", 2, callers=CALLERS, args=args)
    for _ in range(plan.rounds):
        few = rigs[0].measure("asked", calls, callers=CALLERS, args=asked[0])
        many = rigs[1].measure("asked", calls, callers=CALLERS, args=asked[1])
        base.add(few)
        series.add(many, few.all_us, many.all_us)
    latencies = [
        many.p50_ms / few.p50_ms for many, few in zip(series.samples, base.samples, strict=True)
    ]
    return series, latencies


def _name(group: str, name: str) -> str:
    """What a figure is called: those of other stores have their group before."""
    return name if group == GROUP else f"{group} {name}"


def _add(
    results: Results,
    name: str,
    title: str,
    compared: tuple[Series, list[float]],
    note: str = "",
    group: str = GROUP,
) -> None:
    series, latencies = compared
    facts = {**series.facts, "latency_ratio": round(statistics.median(latencies), 3)}
    results.add(
        group, _name(group, name), title, series.ratios, value=series.ratio, facts=facts, note=note
    )


def lists(
    plan: Plan, large: Rig, small: Rig, results: Results, say: Say, group: str = GROUP
) -> None:
    """Measure pages of every kind, the large store's over the small one's."""
    kinds: dict[str, tuple[dict[str, Any], bool, int]] = {
        "all": ({}, False, PAGE),
        "user": ({}, True, PAGE),
        "label": ({"filter": GOLD}, False, PAGE),
        "user+label": ({"filter": GOLD}, True, PAGE // 10),
        "active": ({"filter": ACTIVE}, False, PAGE),
        "completed": ({"filter": COMPLETED}, False, PAGE),
    }
    for kind, (request, by_user, items) in kinds.items():
        say(f"lists: by {kind}")
        asked = [
            _asked(
                "ListSessions",
                _sessions(**request),
                items=items,
                **({"users": plan.users(sessions)} if by_user else {}),
            )
            for sessions in (plan.few_sessions, plan.sessions)
        ]
        compared = _compare(plan, (small, large), (asked[0], asked[1]), 10 if plan.quick else 20)
        size = f"{plan.sessions:,} sessions over {plan.few_sessions:,}"
        title, note = f"a page by {kind}: {size}", f"{items} on the page"
        _add(results, f"list {kind}", title, compared, note, group)


def _residual(plan: Plan, large: Rig, small: Rig, results: Results, say: Say) -> None:
    say("lists: a predicate that no index answers")
    asked = _asked("ListSessions", _sessions(filter=BUSY), items=0)
    compared = _compare(plan, (small, large), (asked, asked), 3)
    with grpc.insecure_channel(large.server.target) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        request = json_format.ParseDict(
            _sessions(filter=BUSY), session_service_pb2.ListSessionsRequest()
        )
        token = stub.ListSessions(request, timeout=TIMEOUT).next_page_token
    note = "the rest behind a token" if token else "NO token: it looked at everything"
    title = f"a page of a predicate without index: {plan.sessions:,} over {plan.few_sessions:,}"
    _add(results, "residual", title, compared, note)


def _pages(plan: Plan, store: Store, rig: Rig, results: Results, say: Say) -> None:
    gold = sum(is_gold(index, plan.users(store.sessions)) for index in range(store.sessions))
    kinds: dict[str, tuple[dict[str, Any], int]] = {
        "all": ({}, plan.far_page),
        "label": ({"filter": GOLD}, min(plan.far_page, gold // PAGE)),
    }
    for kind, (request, number) in kinds.items():
        say(f"pages: walking to page {number} by {kind}")
        token = _walk(store, request, number)
        first = _asked("ListSessions", _sessions(**request), items=PAGE)
        far = _asked("ListSessions", _sessions(**request, pageToken=token), items=PAGE)
        compared = _compare(plan, (rig, rig), (first, far), 10 if plan.quick else 20)
        _add(results, f"page far {kind}", f"page {number:,} over page 1, by {kind}", compared)


def _walk(store: Store, request: dict[str, Any], number: int) -> str:
    """The token of a page."""
    ask = json_format.ParseDict(
        _sessions(**request, view="SESSION_VIEW_IDS"), session_service_pb2.ListSessionsRequest()
    )
    with grpc.insecure_channel(store.server.target) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        for _ in range(number - 1):
            ask.page_token = stub.ListSessions(ask, timeout=TIMEOUT).next_page_token
    return ask.page_token


def _history(plan: Plan, store: Store, rig: Rig, results: Results, say: Say) -> None:
    few, many = 100, plan.messages
    with grpc.insecure_channel(store.server.target) as channel:
        sessions = session_service_pb2_grpc.SessionServiceStub(channel)
        history = history_service_pb2_grpc.HistoryServiceStub(channel)
        for count in (few, many):
            say(f"history: appending {count:,} messages")
            new = session_service_pb2.NewSession(user="", session_id=f"long-{count}")
            create = session_service_pb2.CreateSessionRequest(app=APP, session=new)
            sessions.CreateSession(create, timeout=TIMEOUT)
            for start in range(0, count, 1_000):
                request = history_service_pb2.AppendMessagesRequest(
                    session=session_pb2.SessionRef(app=APP, session_id=f"long-{count}")
                )
                for _ in range(min(1_000, count - start)):
                    request.messages.add(role="user", content=TEXT)
                history.AppendMessages(request, timeout=TIMEOUT)
    refs = [{"app": APP, "sessionId": f"long-{count}"} for count in (few, many)]
    newest = {"order": "MESSAGE_ORDER_NEWEST_FIRST", "pageSize": LAST}
    listed = [_asked("ListMessages", {"session": ref, **newest}, items=LAST) for ref in refs]
    full = {"view": "SESSION_VIEW_FULL", "lastMessages": LAST}
    got = [_asked("GetSession", {"session": ref, **full}, items=LAST) for ref in refs]
    say("history: the newest 20")
    for name, title, asked in (
        ("history list", "ListMessages, newest 20", listed),
        ("history get", "GetSession, last 20", got),
    ):
        compared = _compare(plan, (rig, rig), (asked[0], asked[1]), 10 if plan.quick else 40)
        _add(results, name, f"{title}: of {many:,} messages over of {few}", compared)


def _read_some(store: Store) -> None:
    """Look around, as the first callers after a restart would."""
    with grpc.insecure_channel(store.server.target) as channel:
        stub = session_service_pb2_grpc.SessionServiceStub(channel)
        for request in ({}, {"filter": GOLD}, {"filter": ACTIVE}, {"user": "user-7"}):
            ask = json_format.ParseDict(
                _sessions(**request), session_service_pb2.ListSessionsRequest()
            )
            stub.ListSessions(ask, timeout=TIMEOUT)


def _memory(
    plan: Plan,
    empty: Memory,
    filled: Memory,
    used: Memory,
    restarted: Memory,
    results: Results,
) -> None:
    moments: Sequence[tuple[str, str, Memory]] = (
        ("filled", "after it was filled", filled),
        ("used", "after all measurements", used),
        ("restarted", "started anew", restarted),
    )
    for name, title, now in moments:
        over = now.over(empty)
        results.add(
            "memory",
            f"memory {name}",
            f"RSS with {plan.sessions:,} sessions stored, {title}, over an empty start",
            [],
            value=over.rss / MIB,
            unit=" MiB",
            facts={
                "rss_mib": round(now.rss / MIB, 1),
                "pss_mib": round(now.pss / MIB, 1),
                "pss_over_mib": round(over.pss / MIB, 1),
                "anonymous_over_mib": round(over.anonymous / MIB, 1),
            },
        )
