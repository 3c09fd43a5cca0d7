"""The parts of an export on the wire, which an import brings back.

What an import brings is no answer of ours, whoever says so: each session and message is
held to the rules of a new one, and to what must be true of an old one beside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from sojourn.v1 import admin_service_pb2 as pb
from sojourn.v1 import app_service_pb2, message_pb2, session_pb2, session_service_pb2
from sojourn_server.domain import documents
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.commands import NewMessage, View
from sojourn_server.domain.errors import Refusal, Violation, invalid_field, too_large
from sojourn_server.domain.imports import ImportedApp, ImportedSession, ImportedUser
from sojourn_server.domain.limits import COUNTERS_MOST, SEQUENCE_MOST, Limits
from sojourn_server.domain.model import (
    EndCause,
    EndNote,
    Lineage,
    MessageBody,
    Metrics,
    Owner,
    Session,
    Status,
)
from sojourn_server.domain.model import Message as StoredMessage
from sojourn_server.rpc import convert_app
from sojourn_server.rpc.convert_message import decode_message, fill_message
from sojourn_server.rpc.convert_session import fill_snapshot, fill_state
from sojourn_server.rpc.times import fill, instant, length
from sojourn_server.service.answers import ScopeDocument, SessionSnapshot
from sojourn_server.service.appending import body_size
from sojourn_server.service.exporting import AppPart, DroppedPart, MessagesPart, Part, UserPart

T = TypeVar("T")
Check = Callable[[Message], None]
"""Holds a message to the rules of its type."""

_NOTHING: Final = ScopeDocument(values={}, version=0)
_TEXT_BYTES: Final = 4_096
_RESULT_BYTES: Final = 262_144
_STATUSES: Final[Mapping[int, Status]] = {each.value: each for each in Status}
_CAUSES: Final[Mapping[int, EndCause]] = {each.value: each for each in EndCause}


# --- export ----------------------------------------------------------------------------------


def encode_part(part: Part) -> bytes:
    """A part of an export."""
    response = pb.ExportSessionsResponse()
    match part:
        case AppPart():
            target = response.app
            target.app = part.app.app
            target.labels.update(part.app.labels)
            convert_app.fill_policy(target.policy, part.app.policy)
            fill_state(target.state, part.state)
            fill(target.create_time, part.app.create_time)
        case UserPart():
            response.user.user = part.user
            fill_state(response.user.state, part.state)
        case SessionSnapshot():
            _fill_session(response.session, part)
        case MessagesPart():
            for message in part.messages:
                fill_message(response.messages.messages.add(), message)
        case DroppedPart():
            response.dropped = part.uid
    return response.SerializeToString()


def _fill_session(target: pb.ExportedSession, part: SessionSnapshot) -> None:
    content = part.content
    assert content is not None
    lasting = SessionSnapshot(
        session=msgspec.structs.replace(part.session, turn=None),
        content=msgspec.structs.replace(content, user_state=_NOTHING, app_state=_NOTHING),
    )
    fill_snapshot(target.session, lasting, 0, View.FULL)
    target.session.ClearField("time_left")
    target.session.state.ClearField("user")
    target.session.state.ClearField("app")
    target.version = part.session.version
    target.turns_begun = part.session.turns_begun
    owner = part.session.owner
    if owner is not None:
        target.owner_turn = owner.turn_number
        if owner.lease:
            fill(target.owner_lease, owner.lease)


# --- import ----------------------------------------------------------------------------------


class PartDecoder:
    """Reads the parts of an import.

    Args:
        check: The protos' rules.
        limits: Ceilings on content.
    """

    def __init__(self, check: Check, limits: Limits) -> None:
        self._check = check
        self._limits = limits

    def app(self, part: pb.ExportedApp) -> ImportedApp:
        """The app itself.

        Raises:
            Refusal: `INVALID_FIELD`.
        """
        update = app_service_pb2.UpdateAppRequest(app="app", labels=part.labels)
        self._hold(update, "app")
        return ImportedApp(
            labels=dict(part.labels),
            policy=convert_app.decode_policy("app.policy", part.policy),
            state=dict(part.state.values),
            state_version=_version("app.state", part.state),
            create_time=_time("app.create_time", part, part.create_time),
        )

    def user(self, part: pb.ExportedUser) -> ImportedUser:
        """A user's state.

        Raises:
            Refusal: `INVALID_FIELD`.
        """
        self._hold(session_service_pb2.NewSession(user=part.user), "user")
        self._hold_state("user.state", part.state)
        return ImportedUser(
            user=part.user,
            state=dict(part.state.values),
            state_version=_version("user.state", part.state),
        )

    def session(self, part: pb.ExportedSession) -> ImportedSession:
        """A session without its messages.

        Raises:
            Refusal: `INVALID_FIELD` or `CONTENT_TOO_LARGE`.
        """
        path, given = "session.session", part.session
        self._hold_new(path, given)
        documents.check_document(f"{path}.metadata", dict(given.metadata))
        status = _one_of(f"{path}.status", _STATUSES, given.status)
        ended = status is not Status.ACTIVE
        if ended != given.HasField("end_time"):
            raise invalid_field(f"{path}.end_time", "must be set once a session has ended")
        cause = None
        if ended or given.end_cause:
            cause = _one_of(f"{path}.end_cause", _CAUSES, given.end_cause)
        if cause is not None and not ended:
            raise invalid_field(f"{path}.end_cause", "must not be set while ACTIVE")
        last = _count(f"{path}.last_sequence", given.last_sequence)
        count = _count(f"{path}.message_count", given.message_count)
        if count > last:
            raise invalid_field(f"{path}.message_count", "must not exceed last_sequence")
        session = Session(
            uid=_uid(f"{path}.uid", given.uid),
            app=given.key.app,
            user=given.key.user,
            session_id=given.key.session_id,
            status=status,
            labels=dict(given.labels),
            create_time=_time(f"{path}.create_time", given, given.create_time),
            update_time=_time(f"{path}.update_time", given, given.update_time),
            activity_time=_time(f"{path}.activity_time", given, given.activity_time),
            end_time=_time(f"{path}.end_time", given, given.end_time),
            idle_timeout=_length(f"{path}.idle_timeout", given.idle_timeout),
            max_lifetime=_length(f"{path}.max_lifetime", given.max_lifetime),
            generation=_count(f"{path}.generation", given.generation, least=1),
            version=_count("session.version", part.version, least=1),
            parent_uid=_uid(f"{path}.parent_uid", given.parent_uid) if given.parent_uid else "",
            owner=_owner(part),
            metrics=_metrics(f"{path}.metrics", given.metrics),
            message_count=count,
            last_sequence=last,
            turns_begun=_count("session.turns_begun", part.turns_begun),
            end_cause=cause,
            state_version=_version(f"{path}.state.session", given.state.session),
            forked_from=_lineage(f"{path}.forked_from", given),
            reset_time=_time(f"{path}.last_reset_time", given, given.last_reset_time),
        )
        return ImportedSession(
            session=session,
            metadata=dict(given.metadata),
            state=dict(given.state.session.values),
            note=EndNote(
                reason=_text(f"{path}.end_reason", given.end_reason, _TEXT_BYTES),
                result=_result(f"{path}.end_result", given.end_result),
            ),
            turn_error=_text(f"{path}.last_turn_error", given.last_turn_error, _TEXT_BYTES),
            reset_reason=_text(f"{path}.last_reset_reason", given.last_reset_reason, _TEXT_BYTES),
        )

    def messages(self, part: pb.ExportedMessages) -> list[tuple[StoredMessage, bytes]]:
        """Messages of the last session.

        Raises:
            Refusal: `INVALID_FIELD` or `CONTENT_TOO_LARGE`.
        """
        return [
            self._message(f"messages.messages[{index}]", each)
            for index, each in enumerate(part.messages)
        ]

    def _message(self, path: str, given: message_pb2.Message) -> tuple[StoredMessage, bytes]:
        wire = message_pb2.NewMessage(
            message_id=given.message_id,
            role=given.role,
            payload=given.payload,
            content_type=given.content_type,
            metadata=given.metadata,
        )
        if given.HasField("content"):
            wire.content = given.content
        if given.HasField("event_time"):
            wire.event_time.CopyFrom(given.event_time)
        self._hold(wire, path)
        if not given.message_id:
            raise invalid_field(f"{path}.message_id", "must be set")
        if not given.HasField("create_time"):
            raise invalid_field(f"{path}.create_time", "must be set")
        new: NewMessage = decode_message(path, wire)
        documents.check_document(f"{path}.metadata", new.metadata)
        size = body_size(new)
        if size > self._limits.message_bytes:
            raise too_large(path, self._limits.message_bytes)
        body = MessageBody(content=new.content, payload=new.payload, metadata=new.metadata)
        message = StoredMessage(
            message_id=new.message_id,
            sequence=_count(f"{path}.sequence", given.sequence, least=1),
            role=new.role,
            content_type=new.content_type,
            event_time=new.event_time,
            create_time=_time(f"{path}.create_time", given, given.create_time),
            size=size,
            body=0,
        )
        return message, msgspec.msgpack.encode(body) if body != MessageBody() else b""

    def _hold_new(self, path: str, given: session_pb2.Session) -> None:
        """Hold what an old session has in common with a new one to the rules of that."""
        self._hold(
            session_service_pb2.NewSession(
                user=given.key.user,
                session_id=given.key.session_id,
                labels=given.labels,
                metadata=given.metadata,
                idle_timeout=given.idle_timeout,
                max_lifetime=given.max_lifetime,
            ),
            path,
        )
        if len(given.labels) > self._limits.labels:
            raise invalid_field(f"{path}.labels", f"must not exceed {self._limits.labels} labels")
        if not given.key.session_id:
            raise invalid_field(f"{path}.key.session_id", "must be set")
        self._hold_state(f"{path}.state.session", given.state.session)
        counters = given.metrics.counters
        self._hold(session_pb2.MetricsDelta(counters=counters), f"{path}.metrics")

    def _hold_state(self, path: str, given: session_pb2.State) -> None:
        documents.check_state(path, dict(given.values), self._limits)
        self._hold(session_pb2.StatePatch(set=given.values), path)

    def _hold(self, message: Message, path: str) -> None:
        """Hold a message to its rules, and name the field as the caller wrote it."""
        try:
            self._check(message)
        except Refusal as refusal:
            violations = [Violation(f"{path}.{v.field}", v.description) for v in refusal.violations]
            field = f"{path}.{refusal.metadata.get('field', '')}"
            raise Refusal(
                refusal.reason,
                f"{path}.{refusal.message}",
                {**refusal.metadata, "field": field},
                violations=violations,
            ) from None


def _one_of(field: str, known: Mapping[int, T], number: int) -> T:
    found = known.get(number)
    if found is None:
        raise invalid_field(field, "must be one of its values")
    return found


def _count(field: str, number: int, least: int = 0) -> int:
    # Half of what 64 bits hold: they go on counting from there.
    if not least <= number <= SEQUENCE_MOST // 2:
        raise invalid_field(field, f"must be at least {least}, and leave room to count on")
    return number


def _time(field: str, message: Message, stamp: Timestamp) -> Nanos:
    return instant(field, stamp) if message.HasField(field.rpartition(".")[2]) else 0


def _length(field: str, duration: Duration) -> Nanos:
    nanos = length(field, duration)
    if nanos < 0:
        raise invalid_field(field, "must not be negative")
    return nanos


def _uid(field: str, text: str) -> str:
    try:
        found = str(UUID(text))
    except ValueError:
        found = ""
    if found != text:
        raise invalid_field(field, "must be a UUID of 36 characters")
    return text


def _text(field: str, text: str, most: int) -> str:
    if "\0" in text:
        raise invalid_field(field, "must not hold a NUL character")
    if len(text.encode()) > most:
        raise too_large(field, most)
    return text


def _result(field: str, text: str) -> str:
    if text:
        documents.check_json(field, text)
    return _text(field, text, _RESULT_BYTES)


def _version(field: str, state: session_pb2.State) -> int:
    return _count(f"{field}.version", state.version, least=1 if state.values else 0)


def _metrics(field: str, given: session_pb2.Metrics) -> Metrics:
    if len(given.counters) > COUNTERS_MOST:
        raise invalid_field(f"{field}.counters", f"must not exceed {COUNTERS_MOST} counters")
    return Metrics(
        requests=_count(f"{field}.request_count", given.request_count),
        errors=_count(f"{field}.error_count", given.error_count),
        processing_time=_length(f"{field}.processing_time", given.processing_time),
        counters=dict(given.counters),
    )


def _lineage(field: str, given: session_pb2.Session) -> Lineage | None:
    if not given.HasField("forked_from"):
        return None
    origin = given.forked_from
    return Lineage(
        uid=_uid(f"{field}.uid", origin.uid),
        through_sequence=_count(f"{field}.through_sequence", origin.through_sequence),
    )


def _owner(part: pb.ExportedSession) -> Owner | None:
    lease = _length("session.owner_lease", part.owner_lease)
    turn = _count("session.owner_turn", part.owner_turn)
    given = part.session
    if not given.ephemeral:
        if lease or turn:
            raise invalid_field("session.session.ephemeral", "must be set for one with an owner")
        return None
    if bool(lease) == bool(turn):
        raise invalid_field(
            "session.owner_turn", "or owner_lease must be set, for an ephemeral one"
        )
    if turn:
        if not given.parent_uid:
            raise invalid_field("session.session.parent_uid", "must be set for a turn as owner")
        return Owner(turn_number=turn)
    until = _time("session.session.owner_lease_time", given, given.owner_lease_time)
    if until <= 0:
        raise invalid_field("session.session.owner_lease_time", "must be set for a lease")
    return Owner(lease=lease, lease_time=until)
