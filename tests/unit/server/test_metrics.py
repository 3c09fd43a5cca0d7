"""The metrics of a whole server, as Prometheus reads them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry, generate_latest, parser
from prometheus_client.openmetrics import parser as openmetrics

import sojourn
from sojourn import errors
from sojourn.v1 import app_pb2, app_service_pb2
from sojourn_server.app import RunningServer, start
from sojourn_server.domain.clock import WallClock
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.tally import Spread
from sojourn_server.jobs import retention
from sojourn_server.metrics import server as looks
from sojourn_server.metrics.page import PageCollector
from sojourn_server.metrics.table import METRICS, conflicts, reference
from sojourn_server.rpc.admission import Admission, Budgets
from sojourn_server.store.base import StoreDown
from sojourn_server.store.sqlite import SqliteStore
from sojourn_server.store.sqlite.committer import Committer
from sojourn_server.store.stats import Rows, StoreStats
from tests.unit.server.scrape import Sample, fetch, page, samples, settings_in, until, value
from tools import gen_docs

TENANTS = {
    "app": "canary-app",
    "user": "canary-user",
    "session": "canary-session",
    "label": "canary-label",
    "value": "canary-value",
    "actor": "canary-actor",
    "holder": "canary-holder",
    "role": "canary-role",
    "text": "canary-text",
    "key": "canary-key",
    "request": "canary-request",
    "message": "canary-message",
}


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    monkeypatch.setattr(looks, "PERIOD", 0.02)
    monkeypatch.setattr(retention, "INTERVAL", 0.05)
    running = await start(settings_in(tmp_path))
    yield running
    await running.stop(0.1)


@pytest.fixture
async def client(server: RunningServer) -> AsyncIterator[sojourn.AsyncClient]:
    app, actor = TENANTS["app"], TENANTS["actor"]
    async with sojourn.connect(server.target, app=app, actor=actor) as made:
        yield made


@contextlib.contextmanager
def failing_commits() -> Any:
    """The disk fails."""

    def fail(*_: object, **__: object) -> int:
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Committer, "_attempt", fail)
        yield


async def live_through(client: sojourn.AsyncClient) -> None:
    """Whatever moves a metric, with a name of a tenant wherever one may be given."""
    session = await client.sessions.create(
        TENANTS["session"],
        user=TENANTS["user"],
        labels={TENANTS["label"]: TENANTS["value"]},
        metadata={TENANTS["key"]: TENANTS["text"]},
        request_id=TENANTS["request"],
    )
    await client.messages.append(
        session.ref,
        [sojourn.NewMessage(TENANTS["role"], TENANTS["text"], message_id=TENANTS["message"])],
    )
    await client.sessions.get(session.ref)
    another = sojourn.Precondition(etag="another")
    with pytest.raises(errors.EtagMismatchError):
        await client.sessions.update(session.ref, labels={"a": "b"}, precondition=another)
    handle = await client.attach(TENANTS["session"], user=TENANTS["user"])
    async with handle.turn(holder=TENANTS["holder"]):
        with pytest.raises(errors.TurnConflictError):
            await client.turns.begin(session.ref, holder=TENANTS["holder"])
    await client.sessions.create("brief", idle_timeout=0.05)
    await client.sessions.delete(session.ref)
    with pytest.raises(errors.SessionNotFoundError):
        await client.sessions.get(session.ref)


# --- what is on the page ---------------------------------------------------------------------


async def test_the_page_has_the_metrics_of_the_table_and_the_process_and_no_others(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    await live_through(client)
    await until(server, lambda found: value(found, "sojourn_store_rows", table="changes"))
    families = list(parser.text_string_to_metric_families(await page(server)))
    kinds = {each.name: each.type for each in families if not each.name.startswith("process_")}
    assert kinds == {each.name.removesuffix("_total"): each.kind for each in METRICS}
    assert any(each.name == "process_resident_memory_bytes" for each in families)
    labels = {each.name.removesuffix("_total"): set(each.labels) for each in METRICS}
    for family in families:
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == labels.get(family.name, set())


async def test_the_page_is_also_what_openmetrics_wants(server: RunningServer) -> None:
    assert server.metrics_port is not None
    text = await asyncio.to_thread(fetch, server.metrics_port, "application/openmetrics-text")
    families = openmetrics.text_string_to_metric_families(text)
    assert "grpc_server_started" in {family.name for family in families}


async def test_no_tenant_is_named_anywhere(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    await live_through(client)
    channel = grpc.aio.insecure_channel(server.target)
    call: Any = channel.unary_unary(f"/{TENANTS['app']}/{TENANTS['session']}")
    with pytest.raises(grpc.aio.AioRpcError):
        await call(b"", metadata=(("x-sojourn-actor-bin", TENANTS["actor"].encode()),))
    await channel.close()
    await until(server, lambda found: value(found, "sojourn_store_rows", table="changes"))
    text = await page(server)
    assert value(samples(text), "grpc_server_started_total", grpc_method="UpdateSession") > 0
    assert [name for name in TENANTS.values() if name in text] == []
    assert "canary" not in text


async def test_every_metric_moves(server: RunningServer, client: sojourn.AsyncClient) -> None:
    """From before to after a life, or while it lasts. No counter ever goes down."""
    seen: list[dict[Sample, float]] = [samples(await page(server))]

    async def watch() -> None:
        while True:
            seen.append(samples(await page(server)))

    watching = asyncio.create_task(watch())
    await live_through(client)
    await until(server, lambda found: value(found, "sojourn_expiry_settled_total"))
    policy = app_pb2.Policy(retention=Duration(nanos=1))
    update = app_service_pb2.UpdateAppRequest(app=client.app, policy=policy)
    await client.stubs.apps.UpdateApp(update)
    await until(server, lambda found: value(found, "sojourn_retention_removed_total"))
    async with sojourn.connect(server.target, app=TENANTS["app"], deadline=0.5) as hasty:
        with failing_commits(), pytest.raises(errors.SojournError):
            await hasty.sessions.create("lost")
    await client.sessions.create("found")
    await until(server, lambda found: value(found, "sojourn_store_commit_failures_total"))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    still = set()
    for metric in METRICS:
        name = metric.name + ("_count" if metric.kind == "histogram" else "")
        values = [value(found, name) for found in seen]
        if metric.kind != "gauge":
            assert values == sorted(values), f"{name} went down"
        if len(set(values)) == 1:
            still.add(metric.name)
    # What is true for an instant, or not at all here, is looked at in other tests.
    assert still <= {
        "sojourn_build_info",
        "sojourn_calls_in_flight",
        "sojourn_calls_running",
        "sojourn_calls_waiting",
        "sojourn_expiry_lag_seconds",
        "sojourn_refusals_held",
        "sojourn_store_free_bytes",
        "sojourn_store_units_waiting",
        "sojourn_turns_live",
        "sojourn_turns_waiting",
    }


def test_each_figure_is_shown_under_its_own_name(tmp_path: Path) -> None:
    commits, units = Spread((0.5, 1)), Spread((1, 2))
    for length in (0.25, 0.75, 3):
        commits.add(length)
    units.add(2)
    stats = StoreStats(
        commit_seconds=commits,
        commit_units=units,
        commits_failed=10,
        units_waiting=11,
        reads_from_memory=12,
        reads_from_database=13,
        added=Rows(21, 22, 23, 24),
        removed=Rows(31, 32, 33, 34),
        rows=Rows(41, 42, 43, 44),
        bytes={"database": 51, "wal": 52},
        free_bytes=53,
    )
    store = SqliteStore(tmp_path / "s.db")
    services: Any = None
    metrics = looks.ServerMetrics(store, services, Admission(Budgets()), WallClock(), "1.2.3")
    metrics.look = looks.Look(
        turns_live=61,
        turns_waiting=62,
        calls_running=66,
        calls_waiting=67,
        refusals_held=68,
        store=stats,
        expiry_lag=63.5,
    )
    metrics.note_settled(64)
    metrics.note_settled(1)
    metrics.note_removed(69)
    registry = CollectorRegistry()
    registry.register(PageCollector(metrics))
    found = samples(generate_latest(registry).decode())
    one = {name: number for (name, labels), number in found.items() if not labels}
    assert (
        one
        | {
            "sojourn_store_commit_seconds_count": 3,
            "sojourn_store_commit_seconds_sum": 4,
            "sojourn_store_commit_units_count": 1,
            "sojourn_store_commit_units_sum": 2,
            "sojourn_store_commit_failures_total": 10,
            "sojourn_store_units_waiting": 11,
            "sojourn_store_free_bytes": 53,
            "sojourn_turns_live": 61,
            "sojourn_turns_waiting": 62,
            "sojourn_expiry_lag_seconds": 63.5,
            "sojourn_expiry_settled_total": 65,
            "sojourn_retention_removed_total": 69,
            "sojourn_calls_running": 66,
            "sojourn_calls_waiting": 67,
            "sojourn_refusals_held": 68,
        }
        == one
    )
    assert [
        value(found, "sojourn_store_commit_seconds_bucket", le=bound)
        for bound in ("0.5", "1.0", "+Inf")
    ] == [1, 2, 3]
    assert value(found, "sojourn_store_reads_total", source="memory") == 12
    assert value(found, "sojourn_store_reads_total", source="database") == 13
    for number, table in enumerate(("sessions", "messages", "changes", "requests"), 1):
        assert value(found, "sojourn_store_rows_added_total", table=table) == 20 + number
        assert value(found, "sojourn_store_rows_removed_total", table=table) == 30 + number
        assert value(found, "sojourn_store_rows", table=table) == 40 + number
    assert value(found, "sojourn_store_bytes", part="database") == 51
    assert value(found, "sojourn_store_bytes", part="wal") == 52
    assert value(found, "sojourn_build_info", version="1.2.3", store="sqlite") == 1


async def test_calls_are_counted_by_method_code_and_reason(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    await live_through(client)
    # A refusal is counted once it is sent, when its caller may have it already.
    found = await until(server, lambda found: not value(found, "sojourn_calls_in_flight"))
    service = {"grpc_service": "sojourn.v1.SessionService", "grpc_type": "unary"}
    create = {"grpc_method": "CreateSession", **service}
    get = {"grpc_method": "GetSession", **service}
    assert value(found, "grpc_server_started_total", **create) == 3
    assert value(found, "grpc_server_handled_total", grpc_code="OK", **create) == 3
    assert value(found, "grpc_server_handling_seconds_count", **create) == 3
    assert value(found, "grpc_server_handled_total", grpc_code="NotFound", **get) == 1
    assert value(found, "sojourn_refusals_total", reason="SESSION_NOT_FOUND") == 1
    assert value(found, "sojourn_refusals_total", reason="ETAG_MISMATCH") == 1
    assert value(found, "sojourn_refusals_total", reason="TURN_CONFLICT") == 1


async def test_rows_are_added_removed_and_counted(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    sessions = [await client.sessions.create(f"s-{number}") for number in range(5)]
    for session in sessions:
        await client.messages.append(session.ref, [sojourn.NewMessage("user", "text")] * 2)
    await client.sessions.delete(sessions[0].ref)
    found = await until(
        server, lambda found: value(found, "sojourn_store_rows", table="requests") == 11
    )
    assert value(found, "sojourn_store_rows", table="sessions") == 4
    assert value(found, "sojourn_store_rows", table="messages") == 8
    assert value(found, "sojourn_store_rows_added_total", table="messages") == 10
    assert value(found, "sojourn_store_rows_removed_total", table="sessions") == 1


async def test_turns_are_seen_live_and_waited_for(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    handle = await client.attach("s")

    async def wait() -> None:
        async with handle.turn(on_conflict=sojourn.OnConflict.WAIT, wait_timeout=10):
            pass

    async with handle.turn():
        waiting = asyncio.create_task(wait())
        found = await until(server, lambda found: value(found, "sojourn_turns_waiting") == 1)
        assert value(found, "sojourn_turns_live") == 1
        assert value(found, "sojourn_calls_in_flight", grpc_method="BeginTurn") == 1
    await waiting
    await until(server, lambda found: value(found, "sojourn_turns_live") == 0)


async def test_calls_are_seen_running_and_waiting_and_refusals_held(
    server: RunningServer, client: sojourn.AsyncClient
) -> None:
    admission = server.admission
    tickets = [admission.arrive("key:a", 1, 0.0) for _ in range(70)]
    waiting = [asyncio.ensure_future(admission.wait(each)) for each in tickets if each.waits]
    bad = Refusal(Reason.CREDENTIAL_INVALID, "no")
    held = [asyncio.ensure_future(admission.hold(bad, 1, 0.0, None)) for _ in range(400)]
    # One more is let go every 20 ms.
    found = await until(server, lambda found: value(found, "sojourn_refusals_held") > 100)
    assert value(found, "sojourn_calls_running") == 64
    assert value(found, "sojourn_calls_waiting") == 6
    admission.close()
    await asyncio.gather(*waiting, *held, return_exceptions=True)
    await until(server, lambda found: not value(found, "sojourn_calls_waiting"))


async def test_while_the_store_is_down_its_metrics_are_absent_and_the_others_are_not(
    server: RunningServer, client: sojourn.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def down(_: object) -> None:
        raise StoreDown("gone")

    await client.sessions.create("s")
    monkeypatch.setattr(SqliteStore, "stats", down)
    found = await until(server, lambda found: ("sojourn_store_units_waiting", ()) not in found)
    assert not [name for name, _ in found if name.startswith("sojourn_store")]
    assert ("sojourn_expiry_lag_seconds", ()) not in found
    assert value(found, "grpc_server_started_total", grpc_method="CreateSession") == 1
    monkeypatch.undo()
    await until(server, lambda found: ("sojourn_store_units_waiting", ()) in found)


# --- its documentation -----------------------------------------------------------------------


def test_every_metric_is_documented_with_its_labels_and_a_sentence() -> None:
    text = reference()
    assert len({metric.name for metric in METRICS}) == len(METRICS) > 15
    for metric in METRICS:
        assert f"| `{metric.name}` | {metric.kind} |" in text
        assert metric.sentence in text
        assert metric.sentence.endswith(".")
        assert (metric.kind == "counter") == metric.name.endswith("_total")


def test_the_conflicts_are_named() -> None:
    assert "ETAG_MISMATCH" in conflicts()
    assert len(conflicts()) >= 5
    assert all(f"`{reason}`" in reference() for reason in conflicts())


def test_a_page_that_has_drifted_is_found(tmp_path: Path) -> None:
    (wanted,) = [path for path in gen_docs.pages() if path.name == "metrics.md"]
    text = gen_docs.pages()[wanted]
    copy = tmp_path / "metrics.md"
    assert gen_docs.outdated({copy: text})
    copy.write_text(text)
    assert not gen_docs.outdated({copy: text})
    copy.write_text(text.replace("counter", "gauge", 1))
    assert gen_docs.outdated({copy: text})
