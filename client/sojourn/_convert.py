"""Protobuf messages to models and back. Pure: no checks, no calls."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sojourn import enums, models, results
from sojourn._json import JsonMap
from sojourn.v1 import (
    app_service_pb2,
    history_service_pb2,
    message_pb2,
    session_pb2,
    session_service_pb2,
    turn_service_pb2,
)

E = TypeVar("E", bound=StrEnum)

_BILLION = 10**9
ZERO = timedelta(0)
NO_VALUES = JsonMap({})
NO_STATE = models.State(NO_VALUES)


def members(kind: type[E], names: dict[str, int], prefix: str) -> dict[int, E]:
    """Pair the numbers of a protobuf enum with the members of ours that bear the same names."""
    known = {member.value: member for member in kind}
    return {
        number: known[name.removeprefix(prefix)]
        for name, number in names.items()
        if name.removeprefix(prefix) in known
    }


_STATUS = members(enums.Status, dict(session_pb2.SessionStatus.items()), "SESSION_STATUS_")
_END_CAUSE = members(enums.EndCause, dict(session_pb2.EndCause.items()), "END_CAUSE_")
_EXPIRE_CAUSE = members(enums.ExpireCause, dict(session_pb2.ExpireCause.items()), "EXPIRE_CAUSE_")


# --- times ---------------------------------------------------------------------------------------


def from_timestamp(stamp: Timestamp) -> datetime:
    """Return the instant, cut to microseconds, in UTC."""
    return models.EPOCH + timedelta(0, stamp.seconds, stamp.nanos // 1000)


def ns_of(stamp: Timestamp) -> int:
    """Return the instant in nanoseconds since 1970."""
    return stamp.seconds * _BILLION + stamp.nanos


def to_timestamp(nanoseconds: int) -> Timestamp:
    """Return the instant so many nanoseconds after 1970."""
    seconds, nanos = divmod(nanoseconds, _BILLION)
    return Timestamp(seconds=seconds, nanos=nanos)


def from_duration(duration: Duration) -> timedelta:
    """Return the length, cut to microseconds."""
    nanos = duration.nanos
    return timedelta(0, duration.seconds, int(nanos / 1000) if nanos else 0)


def to_duration(length: timedelta) -> Duration:
    """Return a length that is not negative."""
    return Duration(seconds=length.days * 86_400 + length.seconds, nanos=length.microseconds * 1000)


# --- what sessions hold --------------------------------------------------------------------------


def message(source: message_pb2.Message) -> models.Message:
    """Return one entry of a history."""
    return models.Message(
        message_id=source.message_id,
        sequence=source.sequence,
        role=source.role,
        content=source.content if source.HasField("content") else None,
        payload=source.payload,
        content_type=source.content_type,
        metadata=json_map(source.metadata),
        event_time_ns=ns_of(source.event_time) if source.HasField("event_time") else None,
        create_time=from_timestamp(source.create_time),
    )


def state(source: session_pb2.State) -> models.State:
    """Return the state of one scope."""
    return models.State(json_map(source.values), source.version)


def json_map(source: Mapping[str, str]) -> JsonMap:
    """Return the JSON texts of a protobuf map, which is slow to look at even when it is empty."""
    return JsonMap({key: source[key] for key in source}) if source else NO_VALUES


class SharedState:
    """The state of an app and its users, as a page of sessions brings it: once.

    Args:
        page: The page. One of a server that does not know of this has it with each session.
    """

    def __init__(self, page: session_service_pb2.ListSessionsResponse) -> None:
        self._once = page.HasField("app_state")
        self._app = state(page.app_state)
        self._users = {user: state(one) for user, one in page.user_states.items()}

    def of(self, source: session_pb2.Session) -> tuple[models.State, models.State]:
        """Return the state of a session's user and of its app."""
        if self._once:
            return self._users[source.key.user], self._app
        return _shared_by(source.state)


def _shared_by(scopes: session_pb2.StateScopes) -> tuple[models.State, models.State]:
    return (
        state(scopes.user) if scopes.HasField("user") else NO_STATE,
        state(scopes.app) if scopes.HasField("app") else NO_STATE,
    )


def turn(source: session_pb2.Turn) -> models.Turn:
    """Return a turn."""
    return models.Turn(
        number=source.number,
        holder=source.holder,
        begin_time=from_timestamp(source.begin_time),
        lease_time=from_timestamp(source.lease_time),
    )


def session_ref(source: session_pb2.SessionRef) -> models.SessionRef:
    """Return a reference."""
    return models.SessionRef(source.app, source.user, source.session_id, source.uid)


def ref_of(source: session_pb2.Session) -> models.SessionRef:
    """Return the reference to a session of any view."""
    key = source.key
    return models.SessionRef(key.app, key.user, key.session_id, source.uid)


def session(
    source: session_pb2.Session,
    revision: int,
    *,
    full: bool = False,
    messages: tuple[models.Message, ...] | None = None,
    sums: models.RolledUp | None = None,
    shared: SharedState | None = None,
) -> models.Session:
    """Return a session of the view BASIC, or of the view FULL when `full`."""
    # Lists and watches bring them by the ten thousand: what is absent is not looked at.
    has = source.HasField
    key = source.key
    return models.Session(
        key=models.SessionKey(key.app, key.user, key.session_id),
        uid=source.uid,
        status=_STATUS.get(source.status, enums.Status.UNKNOWN),
        labels=dict(source.labels) if source.labels else {},
        create_time=from_timestamp(source.create_time),
        update_time=from_timestamp(source.update_time),
        activity_time=from_timestamp(source.activity_time),
        end_time=from_timestamp(source.end_time) if has("end_time") else None,
        end_cause=_END_CAUSE.get(source.end_cause, enums.EndCause.UNKNOWN)
        if source.end_cause
        else None,
        expire_time=from_timestamp(source.expire_time) if has("expire_time") else None,
        expire_cause=_EXPIRE_CAUSE.get(source.expire_cause, enums.ExpireCause.UNKNOWN)
        if source.expire_cause
        else None,
        time_left=from_duration(source.time_left) if has("time_left") else None,
        idle_timeout=from_duration(source.idle_timeout) if has("idle_timeout") else ZERO,
        max_lifetime=from_duration(source.max_lifetime) if has("max_lifetime") else ZERO,
        generation=source.generation,
        etag=source.etag,
        parent_uid=source.parent_uid,
        ephemeral=source.ephemeral,
        owner_lease_time=from_timestamp(source.owner_lease_time)
        if has("owner_lease_time")
        else None,
        metrics=metrics(source.metrics) if has("metrics") else models.Metrics(),
        message_count=source.message_count,
        message_bytes=source.message_bytes,
        last_sequence=source.last_sequence,
        last_event_time_ns=ns_of(source.last_event_time) if has("last_event_time") else None,
        turn=turn(source.turn) if has("turn") else None,
        state_version=source.state_version,
        forked_from=models.Lineage(source.forked_from.uid, source.forked_from.through_sequence)
        if has("forked_from")
        else None,
        last_reset_time=from_timestamp(source.last_reset_time) if has("last_reset_time") else None,
        revision=revision,
        content=_content(source, shared) if full else None,
        last_messages=messages,
        sums=sums,
    )


def rolled_up(source: session_pb2.RolledUp) -> models.RolledUp:
    """Return the sums over a session and its descendants."""
    return models.RolledUp(
        metrics=metrics(source.metrics),
        session_count=source.session_count,
        active_count=source.active_count,
        message_count=source.message_count,
        complete=source.complete,
    )


def metrics(source: session_pb2.Metrics) -> models.Metrics:
    """Return the counters of a session."""
    return models.Metrics(
        request_count=source.request_count,
        error_count=source.error_count,
        processing_time=from_duration(source.processing_time)
        if source.HasField("processing_time")
        else ZERO,
        counters=dict(source.counters) if source.counters else {},
    )


def _content(source: session_pb2.Session, shared: SharedState | None) -> models.SessionContent:
    own = source.state
    of_user, of_app = shared.of(source) if shared else _shared_by(own)
    return models.SessionContent(
        metadata=json_map(source.metadata),
        state=state(own.session),
        user_state=of_user,
        app_state=of_app,
        end_reason=source.end_reason,
        end_result_json=source.end_result,
        last_turn_error=source.last_turn_error,
        last_reset_reason=source.last_reset_reason,
    )


def _versions(source: session_pb2.StateScopes) -> dict[str, int | None]:
    """Return the versions of the scopes that were patched."""
    return {
        "state_version": source.session.version if source.HasField("session") else None,
        "user_state_version": source.user.version if source.HasField("user") else None,
        "app_state_version": source.app.version if source.HasField("app") else None,
    }


# --- answers -------------------------------------------------------------------------------------


def updated(answer: session_service_pb2.UpdateSessionResponse) -> results.UpdateResult:
    """Return what an update did."""
    return results.UpdateResult(
        session=session(answer.session, answer.revision),
        changed=answer.changed,
        revision=answer.revision,
        **_versions(answer.state_versions),
    )


def ended(answer: session_service_pb2.EndSessionResponse) -> results.EndResult:
    """Return what an end did."""
    return results.EndResult(
        session=session(answer.session, answer.revision),
        changed=answer.changed,
        revision=answer.revision,
        descendants_ended=answer.descendants_ended,
    )


def reset(answer: session_service_pb2.ResetSessionResponse) -> results.ResetResult:
    """Return what a reset did."""
    return results.ResetResult(
        session=session(answer.session, answer.revision),
        revision=answer.revision,
        messages_cleared=answer.messages_cleared,
        state_keys_cleared=answer.state_keys_cleared,
        metrics_cleared=answer.metrics_cleared,
        scrubbed=answer.scrubbed,
        backup=session(answer.backup, answer.revision) if answer.HasField("backup") else None,
    )


def deleted(answer: session_service_pb2.DeleteSessionResponse) -> results.DeleteResult:
    """Return what a delete did."""
    return results.DeleteResult(
        revision=answer.revision,
        sessions_deleted=answer.sessions_deleted,
        messages_deleted=answer.messages_deleted,
        scrubbed=answer.scrubbed,
    )


def appended(answer: history_service_pb2.AppendMessagesResponse) -> results.AppendResult:
    """Return what an append did."""
    return results.AppendResult(
        session=session(answer.session, answer.revision),
        message_ids=tuple(answer.message_ids),
        sequences=tuple(answer.sequences),
        changed=answer.changed,
        revision=answer.revision,
        created=answer.created,
        **_versions(answer.state_versions),
    )


def popped(answer: history_service_pb2.PopMessagesResponse) -> results.PopResult:
    """Return what a pop did."""
    return results.PopResult(
        messages=tuple(message(one) for one in answer.messages),
        session=session(answer.session, answer.revision),
        changed=answer.changed,
        revision=answer.revision,
    )


def truncated(answer: history_service_pb2.TruncateMessagesResponse) -> results.TruncateResult:
    """Return what a truncation did."""
    return results.TruncateResult(
        session=session(answer.session, answer.revision),
        messages_removed=answer.messages_removed,
        changed=answer.changed,
        revision=answer.revision,
    )


def state_updated(answer: app_service_pb2.UpdateStateResponse) -> results.StateResult:
    """Return what a patch of a user's or an app's state did."""
    return results.StateResult(
        version=answer.version, changed=answer.changed, revision=answer.revision
    )


def turn_begun(answer: turn_service_pb2.BeginTurnResponse) -> results.BeginTurnResult:
    """Return the turn that began."""
    return results.BeginTurnResult(
        turn=turn(answer.turn),
        turn_token=answer.turn_token,
        session=session(answer.session, answer.revision),
        revision=answer.revision,
        created=answer.created,
    )


def turn_ended(answer: turn_service_pb2.EndTurnResponse) -> results.EndTurnResult:
    """Return what became of the session when a turn ended."""
    return results.EndTurnResult(
        session=session(answer.session, answer.revision),
        elapsed=from_duration(answer.elapsed),
        revision=answer.revision,
    )
