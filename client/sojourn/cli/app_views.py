"""How apps, their rules, sums of sessions and the audit look, on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta

import sojourn
from sojourn.cli.encode import Record
from sojourn.cli.output import Column, print_facts, print_json, print_table
from sojourn.cli.session_views import short_time
from sojourn.cli.settings import Settings
from sojourn.cli.times import format_duration, format_time, seconds_of

LENGTHS = ("default_idle_timeout", "default_max_lifetime", "retention")
NUMBERS = (
    "max_active_sessions",
    "max_active_sessions_per_user",
    "max_requests_per_session",
    "max_messages_per_session",
    "max_bytes_per_session",
)
FLAGS = ("auto_create", "require_turn")
WORDS = ("session_quota_action", "overflow_action")


def lines_of(labels: dict[str, str]) -> str | None:
    """Return labels, one a line."""
    return "\n".join(f"{key}={value}" for key, value in labels.items()) or None


def _mean(record: Record) -> str | None:
    seconds = record["mean_processing_time_seconds"]
    return None if seconds is None else format_duration(timedelta(seconds=seconds))


def _session(record: Record) -> str | None:
    key = record["session"]
    if key is None:
        return record["user"] or None
    return f"{key['user']}/{key['session_id']}" if key["user"] else str(key["session_id"])


APPS = [
    Column("APP", lambda one: one["app"], fold=True),
    Column("STATUS", lambda one: one["status"]),
    Column("ACTIVE", lambda one: one["active_sessions"], right=True),
    Column("SESSIONS", lambda one: one["session_count"], right=True),
    Column("CREATED", lambda one: short_time(one["create_time"]), fold=True),
    Column("LABELS", lambda one: lines_of(one["labels"]), fold=True),
]

GROUPS = [
    Column("GROUP", lambda one: one["group"] or None, fold=True),
    Column("SESSIONS", lambda one: one["session_count"], right=True),
    Column("MSGS", lambda one: one["message_count"], right=True),
    Column("REQS", lambda one: one["metrics"]["request_count"], right=True),
    Column("ERRS", lambda one: one["metrics"]["error_count"], right=True),
    Column("RATE", lambda one: f"{one['error_rate']:.1%}", right=True),
    Column("MEAN TIME", _mean, right=True),
]

ENTRIES = [
    Column("TIME", lambda one: short_time(one["time"]), fold=True),
    Column("REV", lambda one: one["revision"], right=True),
    Column("WHAT", lambda one: one["cause"]),
    Column("SESSION", _session, fold=True),
    Column("BY", lambda one: one["actor"] or None, fold=True),
]


# --- records -------------------------------------------------------------------------------------


def key(source: sojourn.SessionKey) -> Record:
    """Return the name of a session."""
    return {"app": source.app, "user": source.user, "session_id": source.session_id}


def app(source: sojourn.App) -> Record:
    """Return an app."""
    record: Record = {
        "app": source.app,
        "status": source.status.value,
        "labels": dict(sorted(source.labels.items())),
        "active_sessions": source.active_sessions,
        "session_count": source.session_count,
        "create_time": format_time(source.create_time),
        "policy": policy(source.policy),
        "drain_deadline": _time(source.drain_deadline),
        "feed_id": source.feed_id,
        "revision": source.revision,
    }
    if source.effective_policy is not None:
        record["effective_policy"] = policy(source.effective_policy)
    if source.blockers is not None:
        record["blockers"] = blockers(source.blockers)
    return record


def blockers(source: sojourn.AppBlockers) -> Record:
    """Return what stands in the way of an app's deletion."""
    return {
        "count": source.count,
        "first_keys": [key(one) for one in source.first_keys],
        "holders": list(source.holders),
        "last_actor": source.last_actor,
        "latest_activity_time": _time(source.latest_activity_time),
        "earliest_success_time": _time(source.earliest_success_time),
    }


def policy(source: sojourn.Policy) -> Record:
    """Return an app's rules; null is the server's default."""
    record: Record = {f"{name}_seconds": _seconds(getattr(source, name)) for name in LENGTHS}
    record |= {name: getattr(source, name) for name in (*NUMBERS, *FLAGS)}
    record |= {name: getattr(source, name).value for name in WORDS}
    record["thresholds"] = [
        {
            "action": one.action.value,
            "error_rate_above": one.error_rate_above,
            "min_requests": one.min_requests,
            "error_count_above": one.error_count_above,
        }
        for one in source.thresholds
    ]
    return record


def aggregate(source: sojourn.SessionAggregate) -> Record:
    """Return the sum over one group."""
    return {
        "group": source.group,
        "session_count": source.session_count,
        "message_count": source.message_count,
        "metrics": {
            "request_count": source.metrics.request_count,
            "error_count": source.metrics.error_count,
            "processing_time_seconds": seconds_of(source.metrics.processing_time),
            "counters": dict(sorted(source.metrics.counters.items())),
        },
        "counters_cut": source.counters_cut,
        "error_rate": source.error_rate,
        "mean_processing_time_seconds": _seconds(source.mean_processing_time),
    }


def audit_entry(source: sojourn.AuditEntry) -> Record:
    """Return one thing that was done."""
    return {
        "app": source.app,
        "revision": source.revision,
        "time": format_time(source.time),
        "actor": source.actor,
        "cause": source.cause.value,
        "session": None if source.session is None else key(source.session),
        "uid": source.uid,
        "index": source.index,
        "end_status": source.end_status,
        "end_cause": source.end_cause,
        "turn_outcome": source.turn_outcome,
        "deleted_why": source.deleted_why,
        "force": source.force,
        "first_sequence": source.first_sequence,
        "last_sequence": source.last_sequence,
        "user": source.user,
        "erased": None if source.erased is None else asdict(source.erased),
    }


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else format_time(instant)


def _seconds(length: timedelta | float | None) -> float | None:
    if length is None or not isinstance(length, timedelta):
        return length
    return seconds_of(length)


# --- for people ----------------------------------------------------------------------------------


def show_app(settings: Settings, source: sojourn.App) -> None:
    """Print one app."""
    record = app(source)
    if not settings.as_table:
        print_json(record)
        return
    held = record.get("blockers", {})
    print_facts(
        [
            ("app", record["app"]),
            ("status", record["status"]),
            ("labels", record["labels"]),
            ("active sessions", record["active_sessions"]),
            ("sessions", record["session_count"]),
            ("policy", _said(record["policy"])),
            ("created", short_time(record["create_time"])),
            ("drains until", short_time(record["drain_deadline"])),
            ("waits for", held.get("count")),
            ("held by", ", ".join(held.get("holders", []))),
            ("last caller", held.get("last_actor")),
            ("revision", record["revision"]),
        ]
    )


def show_policy(settings: Settings, source: sojourn.Policy) -> None:
    """Print an app's rules."""
    record = policy(source)
    if not settings.as_table:
        print_json(record)
        return
    facts = _said(record)
    if not facts:
        print_facts([("policy", "the server's defaults")])
        return
    print_facts([(name, _shown(name, value)) for name, value in facts.items()])


def _said(record: Record) -> Record:
    """Return the rules that say something."""
    return {name: value for name, value in record.items() if value not in (None, [], "REFUSE")}


def _shown(name: str, value: object) -> object:
    if name.endswith("_seconds") and isinstance(value, int | float):
        return format_duration(timedelta(seconds=value)) if value else "for ever"
    return str(value) if value in (False, 0) else value


def show_apps(records: Iterable[Record]) -> None:
    """Print apps as a table."""
    print_table(APPS, records, nothing="No app matches.")


def show_groups(records: Iterable[Record]) -> None:
    """Print sums of sessions as a table."""
    print_table(GROUPS, records, nothing="No session matches.")


def show_entries(records: Iterable[Record]) -> None:
    """Print an audit as a table."""
    print_table(ENTRIES, records, nothing="Nothing was done.")
