"""From a failed call's status to one of our errors. Pure: the transport hands in what it saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from sojourn._convert import from_duration
from sojourn.errors import FieldViolation, SojournError, error_class

DOMAIN = "sojourn"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
CORRELATION_KEY = "x-sojourn-correlation-id"


@dataclass(frozen=True, slots=True)
class Status:
    """What a call that failed left behind."""

    code: str
    """The name of the status code."""
    message: str
    trailers: tuple[tuple[str, str | bytes], ...] = ()


@dataclass(slots=True)
class _Details:
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    violations: tuple[FieldViolation, ...] = ()
    retry_after: timedelta | None = None


def to_error(status: Status, *, method: str, request_id: str = "") -> SojournError:
    """Return the error of a status: of its reason's class, else of its code's."""
    details = _read_details(_values(status.trailers, DETAILS_KEY))
    correlation_id = "".join(
        value for value in _values(status.trailers, CORRELATION_KEY) if isinstance(value, str)
    )
    return error_class(status.code, details.reason)(
        status.message or f"the call failed with {status.code}",
        code=status.code,
        reason=details.reason,
        metadata=details.metadata,
        field_violations=details.violations,
        retry_after=details.retry_after,
        correlation_id=correlation_id,
        request_id=request_id,
        method=method,
    )


def forbids_retry(status: Status) -> bool:
    """Say whether the server's pushback asks never to repeat this call."""
    return any(
        value.startswith("-")
        for value in _values(status.trailers, PUSHBACK_KEY)
        if isinstance(value, str)
    )


def _values(trailers: Iterable[tuple[str, str | bytes]], wanted: str) -> list[str | bytes]:
    return [value for key, value in trailers if key == wanted]


def _read_details(blobs: Iterable[str | bytes]) -> _Details:
    details = _Details()
    for blob in blobs:
        if isinstance(blob, str):
            continue
        try:
            status = status_pb2.Status.FromString(blob)
        except DecodeError:
            # A proxy may put anything here; the code and the message still tell.
            continue
        for packed in status.details:
            _read_detail(packed, details)
    return details


def _read_detail(packed: Any, details: _Details) -> None:
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    try:
        if packed.Unpack(info):
            if info.domain == DOMAIN:
                details.reason = info.reason
                details.metadata = dict(info.metadata)
        elif packed.Unpack(bad):
            details.violations = tuple(
                FieldViolation(one.field, one.description) for one in bad.field_violations
            )
        elif packed.Unpack(retry):
            details.retry_after = from_duration(retry.retry_delay)
    except DecodeError:
        return
