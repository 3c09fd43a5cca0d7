"""Requests of every method, and their fields that say whose or which thing is meant.

The fields are found by walking the descriptors, so that a new method or field is in the
matrix without anybody's doing; a field that nobody has looked at yet fails a test.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sojourn.v1 import session_pb2, session_service_pb2, turn_service_pb2
from sojourn_server.rpc.methods import Method
from tests.fuzz.rules import rules_of

Path = tuple[str, ...]

WHOLE: Final[Path] = ("(all of it)",)
"""No field, but the whole request is about the thing."""
BY_UID: Final[Path] = ("(all of it, by uid)",)
NO_USER: Final[Path] = ("(no user)",)
"""The request is about all users."""

IDENTITY: Final = frozenset(
    {
        *("app", "user", "session_id", "uid", "parent_uid", "message_id"),
        *("page_token", "resume_after_token", "turn_token", "request_id", "etag"),
        *("session_id_prefix", "label_key", "staging_id", "backup_session_id"),
        *("LabelSelector.key", "LabelSelector.values"),
    }
)
"""Fields that say whose or which thing is meant: by name, or by message and name."""

HARMLESS: Final[dict[str, str]] = {
    "AggregateSessionsRequest": "group_by page_size roll_up",
    "AppendMessagesRequest": "create_if_missing",
    "BackupStoreRequest": "name",
    "BatchGetSessionsRequest": "view",
    "BeginTurnRequest": "create_if_missing holder lease on_conflict wait_timeout",
    "CreateSessionRequest": "if_exists view",
    "DeleteAppRequest": "drain_timeout mode",
    "DeleteAppsRequest": "drain_timeout dry_run keep_newest mode",
    "DeleteSessionRequest": "force",
    "DeleteSessionsRequest": "all dry_run keep_newest",
    "EndSessionRequest": "cascade reason result status",
    "EndSessionsRequest": "all dry_run keep_newest reason status",
    "EndTurnRequest": "error outcome",
    "ExportedApp": "create_time labels",
    "ExportedSession": "owner_lease owner_turn turns_begun version",
    "Ephemeral": "lease",
    "ForkSessionRequest": "through_sequence",
    "GetMessageRequest": "sequence",
    "GetSessionRequest": "last_messages roll_up view",
    "ImportSessionsRequest": "dropped",
    "ImportTarget": "on_existing",
    "Lineage": "through_sequence",
    "LabelSelector": "operator",
    "ListAppsRequest": "page_size statuses",
    "ListAuditEntriesRequest": "actor causes page_size",
    "ListMessagesRequest": "after_sequence before_sequence event_time_not_before last order"
    " page_size",
    "ListSessionsRequest": "descending order page_size shared_state_once total_size view",
    "Message": "content content_type create_time event_time metadata payload role sequence",
    "Metrics": "counters error_count processing_time request_count",
    "MetricsDelta": "counters errors processing_time requests",
    "NewMessage": "content content_type event_time metadata payload role",
    "NewSession": "idle_timeout labels max_lifetime metadata",
    "Policy": "auto_create default_idle_timeout default_max_lifetime max_active_sessions"
    " max_active_sessions_per_user max_bytes_per_session max_messages_per_session"
    " max_requests_per_session overflow_action require_turn retention session_quota_action",
    "PopMessagesRequest": "count",
    "Precondition": "generation last_sequence",
    "RenewTurnRequest": "lease",
    "ReplaceMessagesRequest": "keep_through_sequence more_follow part",
    "ResetSessionRequest": "if_idle reason scope",
    "Session": "activity_time create_time end_cause end_reason end_result end_time ephemeral"
    " expire_cause expire_time generation idle_timeout labels last_event_time last_reset_reason"
    " last_reset_time last_sequence last_turn_error max_lifetime message_bytes message_count"
    " metadata owner_lease_time state_version status time_left update_time",
    "SessionFilter": "end_causes ephemeral error_count_above error_rate_above has_parent has_turn"
    " idle_longer_than older_than request_count_above statuses",
    "State": "values version",
    "StatePatch": "expected_version remove replace set",
    "Threshold": "action error_count_above error_rate_above min_requests",
    "TimeRange": "before not_before",
    "TouchSessionRequest": "lease",
    "TruncateMessagesRequest": "keep_through_sequence",
    "Turn": "begin_time holder lease_time number",
    "UpdateAppRequest": "allow_again labels remove_labels",
    "UpdateSessionRequest": "idle_timeout labels max_lifetime metadata remove_labels"
    " remove_metadata replace_labels",
    "WatchSessionsRequest": "bookmark_interval include_app_changes include_content"
    " include_previous send_initial_state",
}
"""All other fields: content, amounts and choices, which name nothing."""


@dataclass(frozen=True)
class Target:
    """A session and all that names it or belongs to it."""

    app: str
    user: str
    session_id: str
    uid: str
    parent_uid: str
    etag: str
    turn_token: str
    parent_turn_token: str
    sessions_page: str
    messages_page: str
    resume_token: str
    request_id: str
    message_id: str
    label: tuple[str, str]


class Leaf(NamedTuple):
    """A field of a request that holds a value."""

    path: Path
    message: str
    """The message that has it: `SessionRef`."""

    @property
    def bears_identity(self) -> bool:
        return self.path[-1] in IDENTITY or f"{self.message}.{self.path[-1]}" in IDENTITY

    @property
    def known(self) -> bool:
        return self.bears_identity or self.path[-1] in HARMLESS.get(self.message, "").split()


def leaves(of: Any, above: Path = (), within: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every field of a message that holds a value, with those of the messages in it."""
    for field in of.fields:
        inner = field.message_type
        if inner is None or _is_value(field):
            yield Leaf((*above, field.name), of.name)
        elif inner.name not in within:
            yield from leaves(inner, (*above, field.name), (*within, inner.name))


def paths(method: Method) -> list[Path]:
    """The places of a request that say whose or which thing is meant."""
    found = [leaf.path for leaf in leaves(method.request.DESCRIPTOR) if leaf.bears_identity]
    also = [WHOLE]
    if _has_ref(method):
        also.append(BY_UID)
    if ("user",) in found and not _is_required(method, "user"):
        also.append(NO_USER)
    return also + found


def make(method: Method, path: Path, own: Target, value: Target) -> Any:
    """A request about one's own session, but for one place, which names another.

    Args:
        method: Whose request.
        path: The place.
        own: What all else names.
        value: What that place names.
    """
    if path in (WHOLE, BY_UID, NO_USER):
        request = base(method, value)
        for ref in _refs(request) if path == BY_UID else ():
            ref.ClearField("session_id")
            ref.ClearField("user")
        if path == BY_UID:
            for ref in _refs(request):
                ref.uid = value.uid
        if path == NO_USER:
            request.ClearField("user")
        return request
    request = base(method, own)
    message = request
    if method.name == "ImportSessions":
        getattr(request, path[0]).SetInParent()
    for name in path[:-1]:
        part = getattr(message, name)
        if message.DESCRIPTOR.fields_by_name[name].is_repeated:
            part = part[0] if part else part.add()
        if part.DESCRIPTOR.name == "NewSession" and path[-1] in ("parent_uid", "turn_token"):
            # A child, for a session that is there already gets no other parent.
            part.session_id = f"{own.session_id}-child"
            part.parent_uid = own.parent_uid
        message = part
    if method.name == "ImportSessions":
        _fill_part(request, own)
    _put(method, message, path[-1], own, value)
    return request


def stream(method: Method, request: Any, own: Target) -> list[bytes]:
    """The messages of a call: one, or of an import those before it as well."""
    parts = [request]
    if method.requests_stream and request.WhichOneof("part") != "target":
        parts.insert(0, base(method, own))
        if request.WhichOneof("part") == "messages":
            session: Any = method.request()
            session.session.session.message_count = session.session.session.last_sequence = 1
            _fill_part(session, own)
            parts.insert(1, session)
    return [part.SerializeToString(deterministic=True) for part in parts]


def _is_required(method: Method, name: str) -> bool:
    """Whether a request without this field is none."""
    return bool(rules_of(method.request.DESCRIPTOR.fields_by_name[name]).required)


def _fill_part(request: Any, own: Target) -> None:
    """Make a part of an import a good one: another session of one's own."""
    match request.WhichOneof("part"):
        case "user":
            request.user.user = own.user
            request.user.state.values["seen"], request.user.state.version = "1", 1
        case "session":
            part, session = request.session, request.session.session
            session.key.app, session.key.user = own.app, own.user
            session.key.session_id = f"{own.session_id}-imported"
            session.uid = str(uuid.uuid5(uuid.UUID(own.uid), "imported"))
            session.status = session_pb2.SESSION_STATUS_ACTIVE
            session.generation = part.version = 1
            for name in ("create_time", "update_time", "activity_time"):
                getattr(session, name).seconds = 1_700_000_000
        case "messages":
            message = request.messages.messages[0]
            message.role, message.sequence = "user", 1
            message.message_id = own.message_id
            message.create_time.seconds = 1_700_000_000


def base(method: Method, target: Target) -> Any:
    """A good request about a target; of those that write, one that would change it."""
    request: Any = method.request()
    names: Any = method.request.DESCRIPTOR.fields_by_name
    for name in ("app", "user", "turn_token"):
        if name in names and names[name].message_type is None:
            setattr(request, name, getattr(target, name))
    if "session" in names and names["session"].message_type.name == "SessionRef":
        _point(request.session, target)
    if method.name in _FILLED:
        _FILLED[method.name](request, target)
    return request


def _create(request: Any, target: Target) -> None:
    request.session.user, request.session.session_id = target.user, target.session_id
    request.if_exists = session_service_pb2.IF_EXISTS_RETURN_EXISTING
    request.view = session_pb2.SESSION_VIEW_FULL


def _create_many(request: Any, target: Target) -> None:
    request.sessions.add(user=target.user, session_id=target.session_id)


def _get(request: Any, _: Target) -> None:
    request.view, request.last_messages = session_pb2.SESSION_VIEW_FULL, 10


def _get_many(request: Any, target: Target) -> None:
    _point(request.sessions.add(), target)
    request.view = session_pb2.SESSION_VIEW_FULL


def _list(request: Any, _: Target) -> None:
    request.view, request.page_size = session_pb2.SESSION_VIEW_FULL, 1
    request.total_size = request.shared_state_once = True


def _aggregate(request: Any, _: Target) -> None:
    request.group_by = session_service_pb2.AggregateSessionsRequest.GROUP_BY_STATUS
    request.page_size, request.roll_up = 1, True


def _update(request: Any, _: Target) -> None:
    request.labels["seen"] = "yes"
    request.state.user.set["seen"] = "1"


def _update_state(request: Any, _: Target) -> None:
    request.patch.set["seen"] = "1"


def _update_app(request: Any, target: Target) -> None:
    request.labels["seen"] = target.session_id


def _begin(request: Any, target: Target) -> None:
    # So that nobody waits, and no answer tells the time that is left.
    request.on_conflict = turn_service_pb2.ON_CONFLICT_STEAL
    # So that it does not lapse before all calls were made.
    request.lease.seconds = 3_600


def _append(request: Any, target: Target) -> None:
    request.messages.add(role="user", content="seen", message_id=f"{target.message_id}-new")


def _bulk(request: Any, target: Target) -> None:
    request.filter.session_id_prefix = target.session_id


def _of_labels(request: Any, target: Target) -> None:
    request.labels.add(key=target.label[0], values=[target.label[1]])


def _import(request: Any, target: Target) -> None:
    request.target.app = target.app


def _fork(request: Any, target: Target) -> None:
    request.session_id = f"{target.session_id}-fork"


def _set(**values: Any) -> Callable[[Any, Target], None]:
    def fill(request: Any, _: Target) -> None:
        for name, value in values.items():
            setattr(request, name, value)

    return fill


_FILLED: Final[dict[str, Callable[[Any, Target], None]]] = {
    "CreateSession": _create,
    "BatchCreateSessions": _create_many,
    "GetSession": _get,
    "BatchGetSessions": _get_many,
    "ListSessions": _list,
    "AggregateSessions": _aggregate,
    "ListMessages": _set(page_size=1),
    "UpdateSession": _update,
    "EndSession": _set(cascade=True),
    "EndSessions": _bulk,
    "DeleteSession": _set(force=True),
    "DeleteSessions": _bulk,
    "ForkSession": _fork,
    "BeginTurn": _begin,
    "AppendMessages": _append,
    "ReplaceMessages": _append,
    "GetMessage": _set(sequence=1),
    "PopMessages": _set(count=1),
    "UpdateApp": _update_app,
    "UpdateState": _update_state,
    "DeleteApps": _of_labels,
    "ExportSessions": _bulk,
    "ImportSessions": _import,
    "BackupStore": _set(name="copy"),
    "WatchSessions": _set(send_initial_state=True),
}
"""What a good request holds beside names."""


def _put(method: Method, message: Any, name: str, own: Target, value: Target) -> None:
    """Name another in one place, and see to it that the request stays a good one."""
    kind = message.DESCRIPTOR.name
    match kind, name:
        case "LabelSelector", _:
            message.key, values = own.label[0], [own.label[1]]
            if name == "key":
                message.key = value.label[0]
            else:
                values = [value.label[1]]
            del message.values[:]
            message.values.extend(values)
        case "Ephemeral", "turn_token":
            message.turn_token = value.parent_turn_token
        case "SessionRef", "uid":
            message.ClearField("session_id")
            message.ClearField("user")
            message.uid = value.uid
        case _, "page_token":
            messages = method.name == "ListMessages"
            message.page_token = value.messages_page if messages else value.sessions_page
        case _, "resume_after_token":
            message.resume_after_token = value.resume_token
            # It goes on from there, and does not begin anew.
            message.send_initial_state = False
        case _, "label_key":
            message.label_key = value.label[0]
            message.group_by = session_service_pb2.AggregateSessionsRequest.GROUP_BY_LABEL
        case _, _:
            alike = {
                "session_id_prefix": "session_id",
                "staging_id": "request_id",
                "backup_session_id": "session_id",
            }
            setattr(message, name, getattr(value, alike.get(name, name)))


def _point(ref: Any, target: Target) -> None:
    ref.app, ref.user, ref.session_id = target.app, target.user, target.session_id


def _refs(request: Any) -> list[Any]:
    names = request.DESCRIPTOR.fields_by_name
    found = [request.session] if "session" in names else []
    return found + (list(request.sessions) if "sessions" in names else [])


def _has_ref(method: Method) -> bool:
    fields = method.request.DESCRIPTOR.fields
    kinds = {field.message_type.name for field in fields if field.message_type is not None}
    return "SessionRef" in kinds


def _is_value(field: Any) -> bool:
    """Whether a message is a value: a time, a length, a map."""
    kind = field.message_type
    return bool(kind.full_name.startswith("google.protobuf.") or kind.GetOptions().map_entry)


def raw_of(token: str) -> bytes:
    """The bytes of a token, as whoever has it can read them."""
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
