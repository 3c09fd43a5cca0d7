"""The table of metrics, from which the page and its documentation are made.

Labels name methods, codes, reasons, tables and files: never an app, a user, a session
or anything else that a caller has chosen.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import grpc

from sojourn_server.rpc.errors import TABLE

CALL_LABELS: Final = ("grpc_type", "grpc_service", "grpc_method")


class Metric(NamedTuple):
    """One line of the table."""

    name: str
    kind: str
    """`counter`, `gauge` or `histogram`."""
    sentence: str
    labels: tuple[str, ...] = ()


STARTED: Final = Metric(
    "grpc_server_started_total",
    "counter",
    "Calls that have come.",
    CALL_LABELS,
)
HANDLED: Final = Metric(
    "grpc_server_handled_total",
    "counter",
    "Calls that are over, by code. A call that its caller gave up, or whose deadline has passed, "
    "is Canceled.",
    (*CALL_LABELS, "grpc_code"),
)
HANDLING: Final = Metric(
    "grpc_server_handling_seconds",
    "histogram",
    "How long calls took, whatever came of them, of methods that were called. BeginTurn may wait "
    "for its turn.",
    CALL_LABELS,
)
IN_FLIGHT: Final = Metric(
    "sojourn_calls_in_flight",
    "gauge",
    "Calls that are being served.",
    CALL_LABELS,
)
REFUSALS: Final = Metric(
    "sojourn_refusals_total",
    "counter",
    "Calls that were refused, by reason.",
    ("reason",),
)
COMMIT_SECONDS: Final = Metric(
    "sojourn_store_commit_seconds",
    "histogram",
    "How long commits took, with the way to the disk.",
)
COMMIT_UNITS: Final = Metric(
    "sojourn_store_commit_units",
    "histogram",
    "How many writes shared each commit.",
)
COMMIT_FAILURES: Final = Metric(
    "sojourn_store_commit_failures_total",
    "counter",
    "Commits that failed with all their writes: a full disk, or one that fails.",
)
UNITS_WAITING: Final = Metric(
    "sojourn_store_units_waiting",
    "gauge",
    "Writes that wait for a commit.",
)
READS: Final = Metric(
    "sojourn_store_reads_total",
    "counter",
    "Reads, by where they were answered: `memory` (with PostgreSQL after one question, whether it "
    "still holds) or `database`. The server's own are among them: those of its jobs, its probes "
    "and these metrics.",
    ("source",),
)
ROWS: Final = Metric(
    "sojourn_store_rows",
    "gauge",
    "Rows in the main tables. Absent until they are counted, a while after the start; off by at "
    "most what was written while they were being counted.",
    ("table",),
)
ROWS_ADDED: Final = Metric(
    "sojourn_store_rows_added_total",
    "counter",
    "Rows added to the main tables.",
    ("table",),
)
ROWS_REMOVED: Final = Metric(
    "sojourn_store_rows_removed_total",
    "counter",
    "Rows removed from the main tables.",
    ("table",),
)
STORE_BYTES: Final = Metric(
    "sojourn_store_bytes",
    "gauge",
    "What the store takes of the disk: the `database`, and with SQLite its `wal`.",
    ("part",),
)
FREE_BYTES: Final = Metric(
    "sojourn_store_free_bytes",
    "gauge",
    "What of the database is empty, and is filled before it grows. Erased content that waits for "
    "other content of its size is not counted. Absent with PostgreSQL, which does not say.",
)
EXPIRY_SETTLED: Final = Metric(
    "sojourn_expiry_settled_total",
    "counter",
    "Sessions on which the expiry job has written what was due: expiries, abandoned turns, lost "
    "owners. A call that comes first writes it itself, and is not counted.",
)
RETENTION_REMOVED: Final = Metric(
    "sojourn_retention_removed_total",
    "counter",
    "Ended sessions that the retention job has removed.",
)
EXPIRY_LAG: Final = Metric(
    "sojourn_expiry_lag_seconds",
    "gauge",
    "How long the longest overdue session has been overdue; 0: none is.",
)
TURNS_LIVE: Final = Metric(
    "sojourn_turns_live",
    "gauge",
    "Turns begun or renewed through this process whose lease has not run out.",
)
TURNS_WAITING: Final = Metric(
    "sojourn_turns_waiting",
    "gauge",
    "Calls that wait for a turn.",
)
CALLS_RUNNING: Final = Metric(
    "sojourn_calls_running",
    "gauge",
    "Calls that run: of those in flight, those that neither wait for others nor for a turn, and "
    "are no streams.",
)
CALLS_WAITING: Final = Metric(
    "sojourn_calls_waiting",
    "gauge",
    "Calls that wait until others have run.",
)
REFUSALS_HELD: Final = Metric(
    "sojourn_refusals_held",
    "gauge",
    "Refusals that are held back, since their callers do not heed them.",
)
LOOP_LAG: Final = Metric(
    "sojourn_event_loop_lag_seconds",
    "histogram",
    "How much later than asked the event loop woke up, tried once a second.",
)
BUILD: Final = Metric(
    "sojourn_build_info",
    "gauge",
    "Always 1; the labels say what runs.",
    ("version", "store"),
)

METRICS: Final = (
    STARTED,
    HANDLED,
    HANDLING,
    IN_FLIGHT,
    REFUSALS,
    COMMIT_SECONDS,
    COMMIT_UNITS,
    COMMIT_FAILURES,
    UNITS_WAITING,
    READS,
    ROWS,
    ROWS_ADDED,
    ROWS_REMOVED,
    STORE_BYTES,
    FREE_BYTES,
    EXPIRY_SETTLED,
    RETENTION_REMOVED,
    EXPIRY_LAG,
    TURNS_LIVE,
    TURNS_WAITING,
    CALLS_RUNNING,
    CALLS_WAITING,
    REFUSALS_HELD,
    LOOP_LAG,
    BUILD,
)
"""All metrics, in the order of the page."""


def conflicts() -> list[str]:
    """The reasons that say that somebody else was faster: those with the code ABORTED."""
    return [reason for reason, line in TABLE.items() if line.code is grpc.StatusCode.ABORTED]


_PAGE: Final = """\
# Metrics

`--metrics-listen 127.0.0.1:9464` serves these to Prometheus, on any path. Port 0 takes a free
one; the line `started` of the log names it. This page is generated from the table in
`server/sojourn_server/metrics/table.py`.

| metric | kind | labels | what it tells |
|---|---|---|---|
{rows}

Beside them stand `process_…`: memory, CPU time, open files and start time (on Linux).

No label ever names an app, a user, a session or anything else that a caller has chosen. Counts
begin at 0 with the process. Store, turns and overdue sessions are looked at once a second; while
the store cannot be read, its metrics and the expiry lag are absent.

## Calls

Names and codes are those of the gRPC ecosystem's metrics for Go, so that its dashboards and alerts
can be used. Every method of the contract is counted, also one that is not built, and whatever came
of the call. Not counted are calls of health, reflection and channelz, and of methods that are in no
contract: gRPC answers them by itself.

## Conflicts

These reasons of `sojourn_refusals_total` say that somebody else was faster; the code is Aborted:
{conflicts}.

## Growth

`sojourn_store_rows` says how large the tables are, and `rate(sojourn_store_rows_added_total[5m])`
how fast they grow. Rows are counted once after each start, some 50,000 a second, and are kept up to
date from then on.
"""


def reference() -> str:
    """docs/reference/metrics.md, made from the table."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{each}`' for each in metric.labels)} "
        f"| {metric.sentence} |"
        for metric in METRICS
    ]
    reasons = ",\n".join(f"`{reason}`" for reason in conflicts())
    return _PAGE.format(rows="\n".join(rows), conflicts=reasons)
