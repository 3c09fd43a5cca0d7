"""How a refusal looks on the wire: one table from reasons to gRPC codes.

Every error is a `google.rpc.Status` whose first detail is an `ErrorInfo`. Texts of
exceptions never leave the server: what is not a `Refusal` becomes one with a fixed
text, and the correlation id in the trailers leads to the server's own log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.store.base import StoreDown, StoreFull

DOMAIN: Final = "sojourn"
CORRELATION: Final = "x-sojourn-correlation-id"
"""Trailer of every refusal, and of every answer while calls are logged: finds the call's
lines in the server's log. An answer without a line needs none, and is cheaper without."""
STATUS_BYTES: Final = 4_096
"""The most that a serialised status may be: beyond 8 KiB of trailers gRPC rejects at random."""
VIOLATIONS_MOST: Final = 20
STORE_REST: Final[Nanos] = SECOND // 5
"""How long callers are asked to leave a store alone that has failed: with the client's own
pauses a dozen tries then bridge some 10 s, which a database takes to come back."""

_MESSAGE_CHARACTERS: Final = 160
_INFO_BYTES: Final = 2_048

_Code = grpc.StatusCode


class Rendering(NamedTuple):
    """What a reason becomes."""

    code: grpc.StatusCode
    resource: str = ""
    """The kind of thing that is not there or that exists, for `ResourceInfo`."""
    named_by: str = ""
    """The metadata key that names the thing."""


TABLE: Final[Mapping[Reason, Rendering]] = {
    Reason.INVALID_FIELD: Rendering(_Code.INVALID_ARGUMENT),
    Reason.MALFORMED_REQUEST: Rendering(_Code.INVALID_ARGUMENT),
    Reason.REQUEST_ID_REUSED: Rendering(_Code.INVALID_ARGUMENT),
    Reason.PAGE_TOKEN_INVALID: Rendering(_Code.INVALID_ARGUMENT),
    Reason.TURN_TOKEN_INVALID: Rendering(_Code.INVALID_ARGUMENT),
    Reason.RESUME_TOKEN_INVALID: Rendering(_Code.INVALID_ARGUMENT),
    Reason.FILTER_NOT_WATCHABLE: Rendering(_Code.INVALID_ARGUMENT),
    Reason.CREDENTIAL_MISSING: Rendering(_Code.UNAUTHENTICATED),
    Reason.CREDENTIAL_INVALID: Rendering(_Code.UNAUTHENTICATED),
    Reason.GRANT_MISSING: Rendering(_Code.PERMISSION_DENIED),
    Reason.SESSION_NOT_FOUND: Rendering(_Code.NOT_FOUND, "session", "session_id"),
    Reason.MESSAGE_NOT_FOUND: Rendering(_Code.NOT_FOUND, "message", "message_id"),
    Reason.APP_NOT_FOUND: Rendering(_Code.NOT_FOUND, "app", "app"),
    Reason.SESSION_EXISTS: Rendering(_Code.ALREADY_EXISTS, "session", "session_id"),
    Reason.MESSAGE_EXISTS: Rendering(_Code.ALREADY_EXISTS, "message", "message_id"),
    Reason.BACKUP_EXISTS: Rendering(_Code.ALREADY_EXISTS, "backup", "name"),
    Reason.SESSION_ENDED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.HAS_CHILDREN: Rendering(_Code.FAILED_PRECONDITION),
    Reason.NOT_IDLE: Rendering(_Code.FAILED_PRECONDITION),
    Reason.PARENT_ENDED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.APP_DELETED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.APP_DRAINING: Rendering(_Code.FAILED_PRECONDITION),
    Reason.APP_HAS_SESSIONS: Rendering(_Code.FAILED_PRECONDITION),
    Reason.APP_UNKNOWN: Rendering(_Code.FAILED_PRECONDITION),
    Reason.AUTO_CREATE_REFUSED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.TURN_REQUIRED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.FEED_CHANGED: Rendering(_Code.FAILED_PRECONDITION),
    Reason.BACKUPS_OFF: Rendering(_Code.FAILED_PRECONDITION),
    Reason.UID_MISMATCH: Rendering(_Code.ABORTED),
    Reason.GENERATION_CHANGED: Rendering(_Code.ABORTED),
    Reason.TURN_SUPERSEDED: Rendering(_Code.ABORTED),
    Reason.TURN_CONFLICT: Rendering(_Code.ABORTED),
    Reason.ETAG_MISMATCH: Rendering(_Code.ABORTED),
    Reason.SEQUENCE_MISMATCH: Rendering(_Code.ABORTED),
    Reason.STATE_VERSION_MISMATCH: Rendering(_Code.ABORTED),
    Reason.STAGING_LOST: Rendering(_Code.ABORTED),
    Reason.REQUEST_TOO_LARGE: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.CONTENT_TOO_LARGE: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.QUOTA_EXCEEDED: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.STORAGE_FULL: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.RATE_LIMITED: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.SLOW_CONSUMER: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.STREAM_LIMIT: Rendering(_Code.RESOURCE_EXHAUSTED),
    Reason.REVISION_COMPACTED: Rendering(_Code.OUT_OF_RANGE),
    Reason.REVISION_FUTURE: Rendering(_Code.OUT_OF_RANGE),
    Reason.STORE_UNAVAILABLE: Rendering(_Code.UNAVAILABLE),
    Reason.DRAINING: Rendering(_Code.UNAVAILABLE),
    Reason.ISSUER_UNAVAILABLE: Rendering(_Code.UNAVAILABLE),
    Reason.NOT_IMPLEMENTED: Rendering(_Code.UNIMPLEMENTED),
    Reason.INTERNAL: Rendering(_Code.INTERNAL),
}


def refusal_of(error: BaseException) -> Refusal:
    """What a caller is told of an error.

    Args:
        error: A `Refusal` stays itself, what a store raises has its reasons, and
            everything else is a fault of the server.
    """
    match error:
        case Refusal():
            return error
        case StoreFull():
            return Refusal(Reason.STORAGE_FULL, "the store is full: writes are refused")
        case StoreDown():
            return Refusal(
                Reason.STORE_UNAVAILABLE,
                "the store failed; a write may or may not have happened",
                retry_after=STORE_REST,
            )
        case _:
            return Refusal(Reason.INTERNAL, "internal error; the correlation id finds its log line")


def status_of(refusal: Refusal) -> Status:
    """The status of a refusal: at most 4 KiB, its `ErrorInfo` first and always there.

    Details that do not fit are left out, the last violations first.
    """
    code: tuple[int, str] = TABLE[refusal.reason].code.value
    status = Status(code=code[0], message=refusal.message[:_MESSAGE_CHARACTERS])
    status.details.add().Pack(_error_info(refusal))
    for detail in _details(refusal):
        status.details.add().Pack(detail)
        if status.ByteSize() > STATUS_BYTES:
            del status.details[-1]
    violations = refusal.violations[:VIOLATIONS_MOST]
    while violations:
        status.details.add().Pack(_bad_request(violations))
        if status.ByteSize() <= STATUS_BYTES:
            break
        del status.details[-1]
        violations = violations[:-1]
    return status


async def abort(
    context: grpc.aio.ServicerContext[Any, Any], refusal: Refusal, correlation_id: str = ""
) -> NoReturn:
    """End a call with a refusal; grpc raises its own exception."""
    status = rpc_status.to_status(status_of(refusal))
    trailers: tuple[tuple[str, str | bytes], ...] = (*status.trailing_metadata,)
    if correlation_id:
        trailers = (*trailers, (CORRELATION, correlation_id))
    await context.abort(status.code, status.details, trailers)


def _error_info(refusal: Refusal) -> ErrorInfo:
    """The machine's half of an error; its longest values are shortened until they fit."""
    info = ErrorInfo(reason=refusal.reason.value, domain=DOMAIN, metadata=refusal.metadata)
    while info.ByteSize() > _INFO_BYTES:
        key = max(info.metadata, key=lambda name: len(info.metadata[name]))
        info.metadata[key] = info.metadata[key][: len(info.metadata[key]) // 2]
    return info


def _details(refusal: Refusal) -> Sequence[Message]:
    found: list[Message] = []
    rendering = TABLE[refusal.reason]
    if refusal.retry_after is not None:
        seconds, nanos = divmod(max(0, refusal.retry_after), SECOND)
        found.append(RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    if rendering.resource:
        found.append(
            ResourceInfo(
                resource_type=rendering.resource,
                resource_name=_name_of(refusal, rendering.named_by),
                description=refusal.message[:_MESSAGE_CHARACTERS],
            )
        )
    if rendering.code is _Code.FAILED_PRECONDITION:
        violation = PreconditionFailure.Violation(
            type=refusal.reason.value, description=refusal.message[:_MESSAGE_CHARACTERS]
        )
        found.append(PreconditionFailure(violations=[violation]))
    return found


def _name_of(refusal: Refusal, key: str) -> str:
    """The thing's own name; by uid where the caller knew no other."""
    return refusal.metadata.get(key) or refusal.metadata.get("uid", "")


def _bad_request(violations: Sequence[tuple[str, str]]) -> BadRequest:
    return BadRequest(
        field_violations=[
            BadRequest.FieldViolation(field=field, description=description)
            for field, description in violations
        ]
    )
