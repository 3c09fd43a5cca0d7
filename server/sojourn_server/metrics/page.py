"""The page: what Prometheus reads, and the thread that serves it.

That thread only reads numbers that the event loop has left; it never asks the store.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from socketserver import ThreadingMixIn
from typing import Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from sojourn_server import logs
from sojourn_server.domain.tally import Spread
from sojourn_server.metrics import table
from sojourn_server.metrics.calls import Calls
from sojourn_server.metrics.server import Look, ServerMetrics
from sojourn_server.metrics.table import METRICS, Metric
from sojourn_server.settings import Address
from sojourn_server.store.stats import Rows, StoreStats

PATIENCE: Final = 10.0
"""How long a reader may say nothing, in seconds."""
POLL: Final = 0.1
"""How long the end of the thread may take, in seconds."""

_log = logs.Log("metrics")

Family = Any
"""One of the library's families, which share no type with `add_metric`."""

_FAMILIES: Final = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _family(metric: Metric) -> Family:
    """A metric without any value."""
    return _FAMILIES[metric.kind](metric.name, metric.sentence, labels=metric.labels)


def _one(metric: Metric, value: float, labels: Sequence[str] = ()) -> Family:
    """A metric with one value."""
    family = _family(metric)
    family.add_metric(labels, value)
    return family


def _by_label(metric: Metric, values: dict[str, int]) -> Family:
    """A metric with a value for each value of its one label."""
    family = _family(metric)
    for label, value in values.items():
        family.add_metric((label,), value)
    return family


def _spread(family: Family, spread: Spread, labels: Sequence[str] = ()) -> Family:
    """Give a histogram's family the values of a spread."""
    now = spread.copy()
    buckets, below = [], 0
    for bound, count in zip((*map(str, now.bounds), "+Inf"), now.counts, strict=True):
        below += count
        buckets.append((bound, below))
    family.add_metric(labels, buckets, now.total)
    return family


class PageCollector(Collector):
    """Makes the library's families of our numbers, at each reading anew.

    Args:
        metrics: The numbers.
    """

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> list[Family]:
        """The families, without values."""
        return [_family(metric) for metric in METRICS]

    def collect(self) -> Iterator[Family]:
        """The families, as they are now."""
        metrics = self._metrics
        look = metrics.look
        yield from _of_calls(metrics.calls)
        if look.store is not None:
            yield from _of_store(look.store)
        yield _one(table.EXPIRY_SETTLED, metrics.expiry_settled)
        yield _one(table.RETENTION_REMOVED, metrics.retention_removed)
        yield from _of_look(look)
        yield _spread(_family(table.LOOP_LAG), metrics.loop_lag)
        yield _one(table.BUILD, 1, metrics.build)


def _of_calls(calls: Calls) -> Iterator[Family]:
    families = [
        _family(each) for each in (table.STARTED, table.HANDLED, table.HANDLING, table.IN_FLIGHT)
    ]
    started, handled, handling, in_flight = families
    for method in calls.methods:
        labels = method.labels
        # What has ended is read before what has begun: no call ends first.
        in_flight.add_metric(labels, method.in_flight)
        for code, count in method.by_code().items():
            handled.add_metric((*labels, code), count)
        if method.started:
            # Many lines each, and most servers see few of the methods.
            _spread(handling, method.seconds, labels)
        started.add_metric(labels, method.started)
    yield from families
    yield _by_label(table.REFUSALS, calls.refusals())


def _of_store(stats: StoreStats) -> Iterator[Family]:
    yield _spread(_family(table.COMMIT_SECONDS), stats.commit_seconds)
    yield _spread(_family(table.COMMIT_UNITS), stats.commit_units)
    yield _one(table.COMMIT_FAILURES, stats.commits_failed)
    yield _one(table.UNITS_WAITING, stats.units_waiting)
    reads = {"memory": stats.reads_from_memory, "database": stats.reads_from_database}
    yield _by_label(table.READS, reads)
    if stats.rows is not None:
        yield _by_label(table.ROWS, _by_table(stats.rows))
    yield _by_label(table.ROWS_ADDED, _by_table(stats.added))
    yield _by_label(table.ROWS_REMOVED, _by_table(stats.removed))
    yield _by_label(table.STORE_BYTES, dict(stats.bytes))
    if stats.free_bytes is not None:
        yield _one(table.FREE_BYTES, stats.free_bytes)


def _by_table(rows: Rows) -> dict[str, int]:
    return msgspec.structs.asdict(rows)


def _of_look(look: Look) -> Iterator[Family]:
    if look.expiry_lag is not None:
        yield _one(table.EXPIRY_LAG, look.expiry_lag)
    yield _one(table.TURNS_LIVE, look.turns_live)
    yield _one(table.TURNS_WAITING, look.turns_waiting)
    yield _one(table.CALLS_RUNNING, look.calls_running)
    yield _one(table.CALLS_WAITING, look.calls_waiting)
    yield _one(table.REFUSALS_HELD, look.refusals_held)


class _Handler(WSGIRequestHandler):
    timeout = PATIENCE

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's name
        """Say nothing of each reading."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Keep the trace of a reader that went away off stderr, where log lines are JSON."""
        _log.debug("reading of metrics failed", **logs.fault(sys.exc_info()[1] or Exception()))


class _Server6(_Server):
    address_family = socket.AF_INET6


class Page:
    """Serves the page over HTTP, in a thread. Made by `serve`."""

    def __init__(self, server: WSGIServer, address: Address) -> None:
        self.address = address
        """Where it listens."""
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(POLL,), name="metrics", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Stop, and wait for the thread; readings that are under way are left to theirs."""
        await asyncio.to_thread(self._server.shutdown)
        await asyncio.to_thread(self._thread.join)
        self._server.server_close()


async def serve(metrics: ServerMetrics, address: Address) -> Page:
    """Serve the page.

    Args:
        metrics: What it shows.
        address: Where; port 0 takes a free one.

    Raises:
        OSError: The address cannot be used.
    """
    registry = CollectorRegistry()
    registry.register(PageCollector(metrics))
    ProcessCollector(registry=registry)

    def bind() -> WSGIServer:
        kind = _Server6 if ":" in address.host else _Server
        return make_server(address.host, address.port, make_wsgi_app(registry), kind, _Handler)

    # In a thread, because it asks for the host's name, which may take a while.
    server = await asyncio.to_thread(bind)
    return Page(server, Address(address.host, server.server_port))
