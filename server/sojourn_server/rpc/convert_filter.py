"""Filters and lists between wire and domain."""

from __future__ import annotations

from typing import TypeVar

from sojourn.v1 import session_pb2
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.filter import (
    EVERYTHING,
    LabelOperator,
    LabelSelector,
    SessionFilter,
    TimeRange,
)
from sojourn_server.domain.model import EndCause, Status
from sojourn_server.rpc.times import instant, length

T = TypeVar("T")

# Not set means IN.
_OPERATORS = (LabelOperator.IN, *LabelOperator)
_STATUSES = {status.value: status for status in Status}
_END_CAUSES = {cause.value: cause for cause in EndCause}


def decode_filter(path: str, which: session_pb2.SessionFilter) -> SessionFilter:
    """Which sessions are meant.

    Args:
        path: Where the filter stands in the request.
        which: The message.

    Raises:
        Refusal: `INVALID_FIELD`: a time or duration that is none.
    """
    if not which.ByteSize():
        return EVERYTHING

    def has(field: str, value: T) -> T | None:
        return value if which.HasField(field) else None  # type: ignore[arg-type]

    def span(field: str, value: session_pb2.TimeRange) -> TimeRange | None:
        return _range(f"{path}.{field}", value) if which.HasField(field) else None  # type: ignore[arg-type]

    return SessionFilter(
        statuses=tuple(_STATUSES[status] for status in which.statuses),
        labels=tuple(decode_selector(selector) for selector in which.labels),
        session_id_prefix=which.session_id_prefix,
        parent_uid=which.parent_uid,
        has_parent=has("has_parent", which.has_parent),
        ephemeral=has("ephemeral", which.ephemeral),
        has_turn=has("has_turn", which.has_turn),
        create_time=span("create_time", which.create_time),
        update_time=span("update_time", which.update_time),
        end_time=span("end_time", which.end_time),
        older_than=_older(f"{path}.older_than", which),
        idle_longer_than=_idle(f"{path}.idle_longer_than", which),
        activity_time=span("activity_time", which.activity_time),
        request_count_above=has("request_count_above", which.request_count_above),
        error_count_above=has("error_count_above", which.error_count_above),
        error_rate_above=has("error_rate_above", which.error_rate_above),
        end_causes=tuple(_END_CAUSES[cause] for cause in which.end_causes),
    )


def _older(path: str, which: session_pb2.SessionFilter) -> Nanos | None:
    return length(path, which.older_than) if which.HasField("older_than") else None


def _idle(path: str, which: session_pb2.SessionFilter) -> Nanos | None:
    return length(path, which.idle_longer_than) if which.HasField("idle_longer_than") else None


def _range(path: str, span: session_pb2.TimeRange) -> TimeRange:
    not_before = (
        instant(f"{path}.not_before", span.not_before) if span.HasField("not_before") else None
    )
    before = instant(f"{path}.before", span.before) if span.HasField("before") else None
    return TimeRange(not_before=not_before, before=before)


def decode_selector(selector: session_pb2.LabelSelector) -> LabelSelector:
    """A label and what to ask of it."""
    return LabelSelector(
        key=selector.key,
        operator=_OPERATORS[selector.operator],
        values=tuple(selector.values),
    )
