"""Instants and lengths of time: protobuf's pairs to whole nanoseconds and back.

Nothing is rounded: what a client sent to the nanosecond is answered to the nanosecond.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import invalid_field

_MOST: Final = 2**63 - 1
_LEAST: Final = -(2**63)


def instant(field: str, stamp: Timestamp) -> Nanos:
    """The instant of a timestamp, held to what 64 bits can say: 1677 to 2262.

    Args:
        field: Its path in the request, for the refusal.
        stamp: The timestamp.

    Raises:
        Refusal: `INVALID_FIELD`: nanos that are no part of a second.
    """
    nanos = stamp.nanos
    if not 0 <= nanos < SECOND:
        raise invalid_field(field, "nanos must be 0 to 999999999")
    return _held(stamp.seconds * SECOND + nanos)


def length(field: str, duration: Duration) -> Nanos:
    """The length of a duration, held to what 64 bits can say: 292 years.

    Args:
        field: Its path in the request, for the refusal.
        duration: The duration.

    Raises:
        Refusal: `INVALID_FIELD`: nanos that are no part of a second, or whose sign is
            not that of the seconds.
    """
    seconds, nanos = duration.seconds, duration.nanos
    if not -SECOND < nanos < SECOND or seconds * nanos < 0:
        raise invalid_field(field, "nanos must be less than a second, with the seconds' sign")
    return _held(seconds * SECOND + nanos)


def fill(target: Timestamp | Duration, nanos: Nanos) -> None:
    """Write an instant, or a length that is not negative, into an empty message."""
    target.seconds, rest = divmod(nanos, SECOND)
    if rest:
        target.nanos = rest


def _held(nanos: Nanos) -> Nanos:
    return min(max(nanos, _LEAST), _MOST)
