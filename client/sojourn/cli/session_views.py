"""How sessions look on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import sojourn
from sojourn.cli import encode, message_views
from sojourn.cli.encode import Record
from sojourn.cli.output import Column, print_facts, print_json, print_table
from sojourn.cli.settings import Settings
from sojourn.cli.times import format_duration

# All that is long may fold, so that it fits into 80 characters.
COLUMNS = [
    Column("SESSION", lambda one: one["session_id"], fold=True),
    Column("USER", lambda one: one["user"] or None, fold=True),
    Column("STATUS", lambda one: one["status"]),
    Column("MSGS", lambda one: one["message_count"], right=True),
    Column("REQS", lambda one: one["metrics"]["request_count"], right=True),
    Column("ERRS", lambda one: one["metrics"]["error_count"], right=True),
    Column("LAST ACTIVITY", lambda one: short_time(one["activity_time"]), fold=True),
    Column("LABELS", lambda one: _labels(one["labels"]), fold=True),
]


def _labels(labels: dict[str, str]) -> str | None:
    """Return labels, one a line."""
    return "\n".join(f"{key}={value}" for key, value in labels.items()) or None


def name_of(session: sojourn.Session) -> str:
    """Return a session's name for people."""
    return f"{session.user}/{session.session_id}" if session.user else session.session_id


def gone(scrubbed: bool) -> str:
    """Return whether cleared content has left the store's files."""
    return "gone from the store's files" if scrubbed else "on their way out of the store's files"


def short_time(text: str | None) -> str | None:
    """Return a time of a record to the second."""
    return None if text is None else text[:19].replace("T", " ")


def show(settings: Settings, session: sojourn.Session) -> None:
    """Print one session."""
    record = encode.session(session)
    if not settings.as_table:
        print_json(record)
        return
    print_facts(_facts(record))
    if "messages" in record:
        message_views.show_list(record["messages"], full=False)


def show_list(records: Iterable[Record]) -> None:
    """Print sessions as a table."""
    print_table(COLUMNS, records, nothing="No session matches.")


def _facts(record: Record) -> list[tuple[str, object]]:
    metrics, turn = record["metrics"], record["turn"]
    facts = [
        ("session", record["session_id"]),
        ("user", record["user"]),
        ("app", record["app"]),
        ("uid", record["uid"]),
        ("status", record["status"]),
        ("ended by", record["end_cause"]),
        ("reason", record.get("end_reason")),
        ("result", record.get("end_result")),
        ("labels", record["labels"]),
        ("metadata", record.get("metadata")),
        ("state", record.get("state")),
        ("user state", record.get("user_state", {}).get("values")),
        ("app state", record.get("app_state", {}).get("values")),
        ("messages", record["message_count"]),
        ("requests", metrics["request_count"]),
        ("errors", metrics["error_count"] or None),
        ("processing time", _length(metrics["processing_time_seconds"])),
        ("counters", metrics["counters"]),
        ("turn", turn and f"{turn['number']} of {turn['holder'] or 'somebody'}"),
        ("generation", record["generation"]),
        ("created", short_time(record["create_time"])),
        ("last activity", short_time(record["activity_time"])),
        ("ended", short_time(record["end_time"])),
        ("expires", _expiry(record)),
        ("parent", record["parent_uid"]),
        ("etag", record["etag"]),
    ]
    return [*facts, ("revision", record["revision"])]


def _expiry(record: Record) -> str | None:
    if record["expire_time"] is None:
        return None
    cause = {"IDLE": "if idle", "LIFETIME": "by age"}.get(record["expire_cause"], "")
    return f"{short_time(record['expire_time'])} {cause}".strip()


def _length(seconds: float) -> str | None:
    return format_duration(timedelta(seconds=seconds)) if seconds else None
