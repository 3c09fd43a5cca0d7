"""Aggregates between wire and domain."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from sojourn.v1 import session_service_pb2 as pb
from sojourn_server.domain.access import Users
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.filter import EVERYTHING
from sojourn_server.domain.sums import Sums
from sojourn_server.rpc.convert_filter import decode_filter
from sojourn_server.rpc.times import fill
from sojourn_server.service.aggregating import AggregateQuery, Group, GroupBy

_MOST: Final = 2**63 - 1
_LEAST: Final = -(2**63)
_LONGEST: Final[Nanos] = 315_576_000_000 * SECOND + SECOND - 1
"""The longest duration that a protobuf can say: 10,000 years."""


def decode_aggregate(request: pb.AggregateSessionsRequest, users: Users) -> AggregateQuery:
    """What is asked for, by a caller who may read the sessions of these users.

    Raises:
        Refusal: `INVALID_FIELD`: a filter that cannot be.
    """
    which = decode_filter("filter", request.filter) if request.HasField("filter") else EVERYTHING
    return AggregateQuery(
        app=request.app,
        user=request.user if request.HasField("user") else None,
        filter=which,
        group_by=GroupBy(request.group_by),
        label_key=request.label_key,
        roll_up=request.roll_up,
        page_size=request.page_size,
        page_token=request.page_token,
        users=users,
    )


def fill_group(target: pb.SessionAggregate, group: Group) -> None:
    """Write one group."""
    sums = group.sums
    target.group = group.name
    target.session_count = sums.sessions
    target.message_count = _held(sums.messages)
    target.counters_cut = sums.cut is not None
    metrics = target.metrics
    metrics.request_count = _held(sums.requests)
    metrics.error_count = _held(sums.errors)
    _fill_length(metrics.processing_time, sums.processing_time)
    metrics.counters.update({name: _held(value) for name, value in sums.counters.items()})
    if sums.requests:
        target.error_rate = sums.errors / sums.requests
        _fill_length(target.mean_processing_time, mean_processing_time(sums))


def mean_processing_time(sums: Sums) -> Nanos:
    """The processing time of one request, on average; the sums count some."""
    return sums.processing_time // sums.requests


def _fill_length(target: Duration, length: Nanos) -> None:
    target.SetInParent()
    fill(target, min(length, _LONGEST))


def _held(value: int) -> int:
    """A sum as near as 64 bits can say it."""
    return min(max(value, _LEAST), _MOST)
