"""What the command line prints as JSON: the whole of a model, letter by letter where it is JSON.

Keys are the names of the models' attributes. Times are RFC 3339 in UTC, durations are seconds.
State, metadata and results are put in as the texts that they are, so `1.00` does not become `1.0`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

import sojourn
from sojourn.cli import rawjson
from sojourn.cli.times import format_ns, format_time, seconds_of

Record: TypeAlias = dict[str, Any]
"""A JSON object to print: its values are what JSON knows, and `Raw`."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A JSON text to be put in as it stands."""

    text: str


def dumps(value: object) -> str:
    """Return the JSON text of a value on one line, all letters as they are."""
    if isinstance(value, Raw):
        return rawjson.one_line(value.text)
    if isinstance(value, Mapping):
        pairs = (f"{json.dumps(key, ensure_ascii=False)}: {dumps(v)}" for key, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def raws(texts: Mapping[str, str]) -> dict[str, Raw]:
    """Return a map of JSON texts for printing, in the order of its keys."""
    return {key: Raw(texts[key]) for key in sorted(texts)}


def session(source: sojourn.Session) -> Record:
    """Return a session; with metadata, state and the end's words where they were read."""
    record: Record = {
        "app": source.app,
        "user": source.user,
        "session_id": source.session_id,
        "uid": source.uid,
        "status": source.status.value,
        "labels": dict(sorted(source.labels.items())),
        "create_time": format_time(source.create_time),
        "update_time": format_time(source.update_time),
        "activity_time": format_time(source.activity_time),
        "end_time": _time(source.end_time),
        "end_cause": None if source.end_cause is None else source.end_cause.value,
        "expire_time": _time(source.expire_time),
        "expire_cause": None if source.expire_cause is None else source.expire_cause.value,
        "time_left_seconds": None if source.time_left is None else seconds_of(source.time_left),
        "idle_timeout_seconds": seconds_of(source.idle_timeout),
        "max_lifetime_seconds": seconds_of(source.max_lifetime),
        "generation": source.generation,
        "etag": source.etag,
        "parent_uid": source.parent_uid,
        "ephemeral": source.ephemeral,
        "owner_lease_time": _time(source.owner_lease_time),
        "metrics": {
            "request_count": source.metrics.request_count,
            "error_count": source.metrics.error_count,
            "processing_time_seconds": seconds_of(source.metrics.processing_time),
            "counters": dict(sorted(source.metrics.counters.items())),
        },
        "message_count": source.message_count,
        "message_bytes": source.message_bytes,
        "last_sequence": source.last_sequence,
        "last_event_time": _ns(source.last_event_time_ns),
        "turn": None if source.turn is None else _turn(source.turn),
        "state_version": source.state_version,
        "forked_from": None
        if source.forked_from is None
        else {
            "uid": source.forked_from.uid,
            "through_sequence": source.forked_from.through_sequence,
        },
        "revision": source.revision,
    }
    if source.content is not None:
        record |= _content(source)
    if source.last_messages is not None:
        record["messages"] = [message(one) for one in source.last_messages]
    return record


def _content(source: sojourn.Session) -> Record:
    return {
        "metadata": raws(source.metadata_json),
        "state": raws(source.state_json),
        "user_state": state(source.user_state),
        "app_state": state(source.app_state),
        "end_reason": source.end_reason,
        "end_result": Raw(source.end_result_json) if source.end_result_json else None,
    }


def state(source: sojourn.State) -> Record:
    """Return the state of a scope that sessions share."""
    return {"version": source.version, "values": raws(source.values.json)}


def _turn(source: sojourn.Turn) -> Record:
    return {
        "number": source.number,
        "holder": source.holder,
        "begin_time": format_time(source.begin_time),
        "lease_time": format_time(source.lease_time),
    }


def message(source: sojourn.Message) -> Record:
    """Return a message; its payload as a text where it says that it is one, else in base64."""
    return {
        "message_id": source.message_id,
        "sequence": source.sequence,
        "role": source.role,
        "content": source.content,
        **_payload(source.payload, source.content_type),
        "content_type": source.content_type,
        "metadata": raws(source.metadata.json),
        "event_time": _ns(source.event_time_ns),
        "create_time": format_time(source.create_time),
    }


def _payload(payload: bytes, content_type: str) -> Record:
    if not payload:
        return {}
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("text/") or kind.endswith(("/json", "+json")):
        try:
            return {"payload_text": payload.decode()}
        except UnicodeDecodeError:
            pass
    return {"payload_base64": base64.b64encode(payload).decode()}


def event(source: sojourn.WatchEvent) -> Record:
    """Return what a watch handed out; `type` says what it is."""
    match source:
        case sojourn.Change():
            return _change(source)
        case sojourn.Bookmark():
            return {"type": "bookmark", "revision": source.revision, "token": source.token}
        case sojourn.InitialSession():
            return {"type": "initial_session", "session": session(source.session)}
        case sojourn.InitialStateEnd():
            return {"type": "initial_state_end", "revision": source.revision}
        case sojourn.InitialStateBegin():
            why = source.why
            return {"type": "initial_state_begin", "why": None if why is None else why.reason}


def _change(source: sojourn.Change) -> Record:
    record: Record = {
        "type": "change",
        "revision": source.revision,
        "index": source.index,
        "cause": source.cause.value,
        "time": format_time(source.time),
        "actor": source.actor,
    }
    if isinstance(source, sojourn.SessionChange):
        record |= _session_change(source)
    elif isinstance(source, sojourn.AppChange):
        record |= {
            "type": "app_change",
            "app": source.app,
            "user": source.user,
            "state_keys": list(source.state_keys),
            "state_version": source.state_version,
            "active_sessions": source.active_sessions,
            "drain_deadline": _time(source.drain_deadline),
        }
    return record


def _session_change(source: sojourn.SessionChange) -> Record:
    why, outcome = source.deleted_why, source.turn_outcome
    record: Record = {
        "membership": source.membership.value,
        "uid": source.uid,
        "label_keys": list(source.label_keys),
        "metadata_keys": list(source.metadata_keys),
        "state_keys": list(source.state_keys),
        "first_sequence": source.first_sequence,
        "last_sequence": source.last_sequence,
        "deleted_why": None if why is None else why.value,
        "turn_outcome": None if outcome is None else outcome.value,
        "session": session(source.session),
        "previous": None if source.previous is None else session(source.previous),
        "previous_unavailable": source.previous_unavailable,
    }
    if source.content_revision:
        record["content_revision"] = source.content_revision
        record["messages"] = [message(one) for one in source.messages]
    return record


def position(source: sojourn.WatchPosition) -> Record:
    """Return how far a watch has come."""
    return {"token": source.token, "revision": source.revision, "index": source.index}


def reference(app: str, ref: sojourn.SessionRef) -> Record:
    """Return what names a session."""
    return {
        "app": ref.app or app,
        "user": ref.user,
        "session_id": ref.session_id,
        "uid": ref.uid,
    }


def _time(instant: datetime | None) -> str | None:
    return None if instant is None else format_time(instant)


def _ns(nanoseconds: int | None) -> str | None:
    return None if nanoseconds is None else format_ns(nanoseconds)
