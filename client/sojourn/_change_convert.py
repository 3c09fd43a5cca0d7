"""What a watch sends, decoded. Pure.

Catching up brings tens of thousands of changes a second: what only some readers look at, sessions
and messages above all, is decoded when it is first read.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeVar

from sojourn import _convert as convert
from sojourn import changes, enums, models
from sojourn._lazy import Pending
from sojourn.v1 import change_pb2

C = TypeVar("C", bound=changes.Change)

_CAUSE = convert.members(enums.ChangeCause, dict(change_pb2.ChangeCause.items()), "CHANGE_CAUSE_")
_MEMBERSHIP = convert.members(
    enums.Membership, dict(change_pb2.SessionChange.Membership.items()), "MEMBERSHIP_"
)
_DELETED_WHY = convert.members(
    enums.DeletedWhy, dict(change_pb2.DeletedWhy.items()), "DELETED_WHY_"
)
_TURN_OUTCOME = convert.members(
    enums.TurnOutcome, dict(change_pb2.TurnOutcome.items()), "TURN_OUTCOME_"
)


def change(source: change_pb2.Change) -> changes.Change:
    """Return one entry of the log."""
    fields: dict[str, Any] = {
        "revision": source.revision,
        "index": source.index,
        "cause": _CAUSE.get(source.cause, enums.ChangeCause.UNKNOWN),
        "time": convert.from_timestamp(source.time),
        "actor": source.actor,
    }
    match source.WhichOneof("subject"):
        case "session":
            fields.update(_session_fields(source.session, source.revision))
            return _made(changes.SessionChange, fields)
        case "app":
            fields.update(_app_fields(source.app))
            return _made(changes.AppChange, fields)
        case _:
            return _made(changes.Change, fields)


def _made(kind: type[C], fields: dict[str, Any]) -> C:
    """Return a change of all its fields, some times faster than its `__init__`."""
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made


def _session_fields(source: change_pb2.SessionChange, revision: int) -> dict[str, Any]:
    has_previous = source.HasField("previous")
    return {
        "membership": _MEMBERSHIP.get(source.membership, enums.Membership.UNKNOWN),
        "uid": source.session.uid,
        "session": Pending(partial(_after, source, revision)),
        "previous": Pending(partial(_before, source, revision)) if has_previous else None,
        "previous_unavailable": source.previous_unavailable,
        "label_keys": tuple(source.label_keys),
        "metadata_keys": tuple(source.metadata_keys),
        "state_keys": tuple(source.state_keys),
        "first_sequence": source.first_sequence,
        "last_sequence": source.last_sequence,
        "deleted_why": _DELETED_WHY.get(source.deleted_why, enums.DeletedWhy.UNKNOWN)
        if source.deleted_why
        else None,
        "turn_outcome": _TURN_OUTCOME.get(source.turn_outcome, enums.TurnOutcome.UNKNOWN)
        if source.turn_outcome
        else None,
        "messages": Pending(partial(_messages, source)) if source.messages else (),
        "content_revision": source.content_revision,
    }


def _after(source: change_pb2.SessionChange, revision: int) -> models.Session:
    return convert.session(source.session, revision, full=source.content_revision > 0)


def _before(source: change_pb2.SessionChange, revision: int) -> models.Session:
    # True until the revision before; content it has none, which lives in one place only.
    return convert.session(source.previous, revision - 1)


def _messages(source: change_pb2.SessionChange) -> tuple[models.Message, ...]:
    return tuple(convert.message(one) for one in source.messages)


def _app_fields(source: change_pb2.AppChange) -> dict[str, Any]:
    return {
        "app": source.app,
        "user": source.user if source.HasField("user") else None,
        "state_keys": tuple(source.state_keys),
        "state_version": source.state_version,
        "active_sessions": source.active_sessions,
        "drain_deadline": (
            convert.from_timestamp(source.drain_deadline)
            if source.HasField("drain_deadline")
            else None
        ),
    }
