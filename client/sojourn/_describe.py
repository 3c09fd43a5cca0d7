"""The parts of requests: what the caller handed in, checked and turned into protobuf. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from sojourn import _checks as check
from sojourn import inputs
from sojourn._convert import to_duration, to_timestamp
from sojourn.enums import EndCause, LabelOperator, Status
from sojourn.models import Session, SessionKey, SessionRef
from sojourn.v1 import message_pb2, session_pb2, session_service_pb2

E = TypeVar("E", bound=StrEnum)

ONE_SECOND = timedelta(seconds=1)


def member(field: str, kind: type[E], value: str) -> str:
    """Return the contract name of a member of an enum, given as the member or as its name."""
    if not isinstance(value, str):
        raise check.wrong_type(field, kind.__name__, value)
    try:
        name = kind(value.upper()).value
    except ValueError:
        name = "UNKNOWN"
    if name == "UNKNOWN":
        known = ", ".join(one.value for one in kind if one.value != "UNKNOWN")
        raise check.invalid(field, f"must be one of {known}, not {value!r}")
    return name


def statuses(field: str, values: str | Iterable[str] | None) -> list[session_pb2.SessionStatus.V]:
    """Return the statuses to select by; None, and the word "any", mean all."""
    return [
        session_pb2.SessionStatus.Value(f"SESSION_STATUS_{name}")
        for name in status_names(field, values)
    ]


def status_names(field: str, values: str | Iterable[str] | None) -> list[str]:
    """Return the names of the statuses to select by; none of them: all."""
    if values is None or values == "any":
        return []
    several = [values] if isinstance(values, str) else check.items(field, values)
    return [member(field, Status, one) for one in several]


def session_ref(
    app: str, session: inputs.SessionLike, user: str = "", uid: str = ""
) -> session_pb2.SessionRef:
    """Return the reference to a session; `app`, `user` and `uid` count where it names none."""
    if isinstance(session, Session):
        named = session.ref
    elif isinstance(session, SessionKey):
        named = SessionRef(session.app, session.user, session.session_id)
    elif isinstance(session, SessionRef):
        named = session
    elif isinstance(session, str):
        named = SessionRef("", user, session)
    else:
        raise check.wrong_type(
            "session", "a session id, SessionKey, SessionRef or Session", session
        )
    for field, value in (("user", user), ("uid", uid)):
        if check.string(field, value) and getattr(named, field) not in {"", value}:
            raise check.invalid(field, "is another one than the session names")
    session_id = check.name("session_id", named.session_id)
    wanted_uid = check.name("uid", named.uid or uid, maximum=36)
    if not session_id and not wanted_uid:
        raise check.invalid("session_id", "session_id or uid must be set")
    return session_pb2.SessionRef(
        app=check.app_name(named.app or app),
        user=check.name("user", named.user or user),
        session_id=session_id,
        uid=wanted_uid,
    )


def uid_of(field: str, parent: str | Session) -> str:
    """Return the uid of a session that is given as such or by its uid."""
    return check.name(field, parent.uid if isinstance(parent, Session) else parent, maximum=36)


def precondition(value: inputs.Precondition | None) -> session_pb2.Precondition | None:
    """Return what must hold."""
    if value is None:
        return None
    check.instance("precondition", value, inputs.Precondition)
    return session_pb2.Precondition(
        etag=check.opaque("precondition.etag", value.etag, maximum=128),
        generation=count("precondition.generation", value.generation, minimum=1),
        turn_token=turn_token(value.turn_token, required=False),
        last_sequence=count("precondition.last_sequence", value.last_sequence),
    )


def turn_token(value: str, *, required: bool = True) -> str:
    """Return a turn's token."""
    token = check.opaque("turn_token", value, maximum=256)
    if required and not token:
        raise check.invalid("turn_token", "must not be empty")
    return token


def state_patch(field: str, value: inputs.StateChange | None) -> session_pb2.StatePatch | None:
    """Return a patch of one scope's state."""
    if value is None:
        return None
    patch = value if isinstance(value, inputs.StatePatch) else inputs.StatePatch(value)
    written = check.state(patch.set, field)
    removed = check.names(f"{field}.remove", patch.remove, maximum=check.MAX_ITEMS)
    both = written.keys() & set(removed)
    if both:
        raise check.invalid(field, f"{min(both)!r} is both written and removed")
    return session_pb2.StatePatch(
        set=written,
        remove=removed,
        replace=check.flag(f"{field}.replace", patch.replace),
        expected_version=count(f"{field}.expected_version", patch.expected_version),
    )


def state_patches(
    session: inputs.StateChange | None,
    user: inputs.StateChange | None,
    app: inputs.StateChange | None,
) -> session_pb2.StatePatches | None:
    """Return the patches of the three scopes; None when there is none."""
    if session is None and user is None and app is None:
        return None
    return session_pb2.StatePatches(
        session=state_patch("state", session),
        user=state_patch("user_state", user),
        app=state_patch("app_state", app),
    )


def metrics_delta(value: inputs.MetricsDelta | None) -> session_pb2.MetricsDelta | None:
    """Return what to add to the counters."""
    if value is None:
        return None
    check.instance("metrics", value, inputs.MetricsDelta)
    check.mapping("metrics.counters", value.counters)
    if len(value.counters) > check.MAX_LABELS:
        raise check.invalid("metrics.counters", f"must have at most {check.MAX_LABELS} entries")
    length = value.processing_time
    return session_pb2.MetricsDelta(
        requests=check.integer("metrics.requests", value.requests, maximum=1_000_000),
        errors=check.integer("metrics.errors", value.errors, maximum=1_000_000),
        processing_time=None
        if length is None
        else to_duration(
            check.duration("metrics.processing_time", length, maximum=timedelta(days=30))
        ),
        counters={
            check.label_key("metrics.counters", key): check.integer(
                f"metrics.counters[{key!r}]", amount, minimum=-check.MAX_INT64 - 1
            )
            for key, amount in value.counters.items()
        },
    )


def new_session(
    value: inputs.NewSession, default_labels: Mapping[str, str]
) -> session_service_pb2.NewSession:
    """Return a session to create; its own labels win over the default ones."""
    check.instance("sessions", value, inputs.NewSession)
    check.mapping("labels", value.labels)
    return session_service_pb2.NewSession(
        user=check.name("user", value.user),
        session_id=check.name("session_id", value.session_id),
        labels=check.labels({**default_labels, **value.labels}),
        metadata=check.metadata(value.metadata),
        state=state_patches(value.state, value.user_state, value.app_state),
        parent_uid=uid_of("parent", value.parent),
        ephemeral=_ephemeral(value),
        idle_timeout=_duration("idle_timeout", value.idle_timeout),
        max_lifetime=_duration("max_lifetime", value.max_lifetime),
    )


def _ephemeral(value: inputs.NewSession) -> session_service_pb2.Ephemeral | None:
    token = check.string("owner_turn_token", value.owner_turn_token)
    if token and value.owner_lease is not None:
        raise check.invalid("owner_lease", "cannot be set together with owner_turn_token")
    if token:
        return session_service_pb2.Ephemeral(turn_token=turn_token(token))
    if value.owner_lease is not None:
        return session_service_pb2.Ephemeral(lease=owner_lease(value.owner_lease))
    return None


def owner_lease(value: inputs.Duration) -> Any:
    """Return the lease of an ephemeral session's owner: 1 s to 24 h."""
    return to_duration(
        check.duration("owner_lease", value, minimum=ONE_SECOND, maximum=check.ONE_DAY)
    )


def new_message(field: str, value: inputs.NewMessage) -> message_pb2.NewMessage:
    """Return a message to append: content, payload and metadata together up to 1 MiB."""
    check.instance(field, value, inputs.NewMessage)
    if value.content is not None and "\x00" in check.string("content", value.content):
        raise check.invalid("content", "must not hold NUL")
    check.instance("payload", value.payload, bytes)
    texts = check.metadata(value.metadata)
    size = len(value.payload) + sum(len(text.encode()) for text in texts.values())
    if size + len((value.content or "").encode()) > check.MAX_MESSAGE:
        raise check.too_large(field, check.MAX_MESSAGE)
    instant = value.event_time
    return message_pb2.NewMessage(
        message_id=check.name("message_id", value.message_id),
        role=check.role(value.role),
        content=value.content,
        payload=value.payload,
        content_type=check.media_type(value.content_type),
        metadata=texts,
        event_time=None if instant is None else to_timestamp(check.event_time(instant)),
    )


# --- filters -------------------------------------------------------------------------------------


def selectors(labels: inputs.Labels | None) -> list[session_pb2.LabelSelector]:
    """Return the selectors that must all match."""
    if labels is None:
        return []
    if isinstance(labels, Mapping):
        chosen: list[inputs.LabelSelector] = [
            inputs.LabelSelector(
                key,
                LabelOperator.IN,
                [values] if isinstance(values, str) else check.items("labels", values),
            )
            for key, values in labels.items()
        ]
    else:
        chosen = check.items("labels", labels)
    if len(chosen) > 16:
        raise check.invalid("labels", "must be at most 16 selectors")
    return [_selector(one) for one in chosen]


def _selector(value: inputs.LabelSelector) -> session_pb2.LabelSelector:
    check.instance("labels", value, inputs.LabelSelector)
    operator = member("labels.operator", LabelOperator, value.operator)
    wanted = check.items("labels", value.values)
    if (operator in {"IN", "NOT_IN"}) != bool(wanted) or len(wanted) > 64:
        raise check.invalid(
            "labels", "IN and NOT_IN take 1 to 64 values, EXISTS and NOT_EXISTS none"
        )
    return session_pb2.LabelSelector(
        key=check.label_key("labels", value.key),
        operator=session_pb2.LabelSelector.Operator.Value(f"OPERATOR_{operator}"),
        values=[check.label_value(f"labels[{value.key!r}]", one) for one in wanted],
    )


def session_filter(
    value: inputs.SessionFilter | None,
    status: str | Iterable[str] | None,
    labels: inputs.Labels | None,
) -> session_pb2.SessionFilter:
    """Return which sessions are meant.

    `status` counts unless the filter names statuses itself; `labels` come on top of the filter's.
    """
    chosen = inputs.SessionFilter() if value is None else value
    check.instance("filter", chosen, inputs.SessionFilter)
    named = check.items("filter.statuses", chosen.statuses)
    return session_pb2.SessionFilter(
        statuses=statuses("filter.statuses", named) if named else statuses("status", status),
        labels=[*selectors(chosen.labels), *selectors(labels)],
        session_id_prefix=check.opaque(
            "filter.session_id_prefix", chosen.session_id_prefix, maximum=check.MAX_ID
        ),
        parent_uid=check.name("filter.parent_uid", chosen.parent_uid, maximum=36),
        has_parent=check.optional_flag("filter.has_parent", chosen.has_parent),
        ephemeral=check.optional_flag("filter.ephemeral", chosen.ephemeral),
        has_turn=check.optional_flag("filter.has_turn", chosen.has_turn),
        create_time=time_range("filter.create_time", chosen.create_time),
        update_time=time_range("filter.update_time", chosen.update_time),
        end_time=time_range("filter.end_time", chosen.end_time),
        activity_time=time_range("filter.activity_time", chosen.activity_time),
        older_than=_duration("filter.older_than", chosen.older_than),
        idle_longer_than=_duration("filter.idle_longer_than", chosen.idle_longer_than),
        request_count_above=count("filter.request_count_above", chosen.request_count_above),
        error_count_above=count("filter.error_count_above", chosen.error_count_above),
        error_rate_above=rate("filter.error_rate_above", chosen.error_rate_above),
        end_causes=[
            session_pb2.EndCause.Value(f"END_CAUSE_{member('filter.end_causes', EndCause, one)}")
            for one in check.items("filter.end_causes", chosen.end_causes)
        ],
    )


def selection(
    fields: inputs.SelectionFields,
) -> tuple[str | None, session_pb2.SessionFilter]:
    """Return of which user, and which sessions are meant; no status named: with any."""
    unknown = fields.keys() - inputs.SelectionFields.__annotations__.keys()
    if unknown:
        raise check.invalid(min(unknown), "is nothing that sessions can be selected by")
    user = fields.get("user")
    chosen = session_filter(fields.get("filter"), fields.get("status"), fields.get("labels"))
    with_parent(chosen, fields.get("parent", ""))
    return None if user is None else check.name("user", user), chosen


def with_parent(chosen: session_pb2.SessionFilter, parent: str | Session) -> None:
    """Let a filter select the children of a session only."""
    uid = uid_of("parent", parent)
    if uid and chosen.parent_uid not in {"", uid}:
        raise check.invalid("parent", "is another one than the filter names")
    chosen.parent_uid = uid or chosen.parent_uid


def end_status(field: str, status: Status) -> session_pb2.SessionStatus.V:
    """Return how sessions end: anything but ACTIVE."""
    [number] = statuses(field, [status])
    if number == session_pb2.SESSION_STATUS_ACTIVE:
        raise check.invalid(field, "must be COMPLETED, FAILED or EXPIRED, not 'ACTIVE'")
    return number


def time_range(field: str, value: inputs.TimeRange | None) -> session_pb2.TimeRange | None:
    """Return a span of time."""
    if value is None:
        return None
    check.instance(field, value, inputs.TimeRange)
    start, end = value.not_before, value.before
    return session_pb2.TimeRange(
        not_before=None
        if start is None
        else to_timestamp(check.nanoseconds(f"{field}.not_before", start)),
        before=None if end is None else to_timestamp(check.nanoseconds(f"{field}.before", end)),
    )


def rate(field: str, value: float | None) -> float | None:
    """Return a rate from 0 to 1, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise check.wrong_type(field, "a number", value)
    if not 0 <= value <= 1:
        raise check.invalid(field, "must be from 0 to 1")
    return value


def _duration(field: str, value: inputs.Duration | None) -> Any:
    return None if value is None else to_duration(check.duration(field, value))


def count(field: str, value: int | None, *, minimum: int = 0) -> int | None:
    """Return a number that may be None."""
    return None if value is None else check.integer(field, value, minimum=minimum)
