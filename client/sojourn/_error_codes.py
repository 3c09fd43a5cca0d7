"""The roots of the error tree: what every error knows, and one class per gRPC status code.

`errors` draws the tree and adds one class per reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that breaks its rule."""

    field: str
    """Its path in the request, such as `session.labels`."""
    description: str
    """The rule, in words."""


class SojournError(Exception):
    """The root of everything that the client raises."""

    code: str = "UNKNOWN"
    """The name of the gRPC status code, such as `NOT_FOUND`; empty when nothing was sent."""
    reason: str = ""
    """The name of the error reason, such as `SESSION_NOT_FOUND`; empty when there was none."""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        reason: str | None = None,
        metadata: Mapping[str, str] | None = None,
        field_violations: tuple[FieldViolation, ...] = (),
        retry_after: timedelta | None = None,
        correlation_id: str = "",
        request_id: str = "",
        method: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        if reason is not None:
            self.reason = reason
        self.metadata: dict[str, str] = dict(metadata or {})
        """Facts, such as `{"session_id": "x"}`: see the reason in the contract. Never content."""
        self.field_violations = field_violations
        """The fields that break a rule; empty for other errors."""
        self.retry_after = retry_after
        """How long the server asks to wait before the next try; None when it did not say."""
        self.correlation_id = correlation_id
        """Finds the call in the server's log; empty when no answer of the server was seen."""
        self.request_id = request_id
        """The call's request id; empty for reads. Repeating the call with it does nothing twice."""
        self.method = method
        """The RPC, such as `GetSession`; empty when the error belongs to none."""

    def __str__(self) -> str:
        facts = [self.reason or self.code, self.method]
        if self.correlation_id:
            facts.append(f"correlation id {self.correlation_id}")
        known = ", ".join(fact for fact in facts if fact)
        return f"{self.message} [{known}]" if known else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by calling the class: a subclass may want other arguments.
        return _restore, (type(self), self.message), self.__dict__


def _restore(cls: type[SojournError], message: str) -> SojournError:
    error = cls.__new__(cls, message)
    error.args = (message,)
    return error


class InvalidArgumentError(SojournError):
    """The request is wrong, whatever the state of the server."""

    code = "INVALID_ARGUMENT"


class UnauthenticatedError(SojournError):
    """The server wants to know who calls."""

    code = "UNAUTHENTICATED"


class PermissionDeniedError(SojournError):
    """Something on the way refuses the call. Sojourn itself says NOT_FOUND instead."""

    code = "PERMISSION_DENIED"


class NotFoundError(SojournError):
    """It is not there, or it is not yours."""

    code = "NOT_FOUND"


class AlreadyExistsError(SojournError):
    """The id is taken."""

    code = "ALREADY_EXISTS"


class FailedPreconditionError(SojournError):
    """The state of things does not allow it; repeating the call does not help."""

    code = "FAILED_PRECONDITION"


class AbortedError(SojournError):
    """Somebody else was faster: read again, then decide."""

    code = "ABORTED"


class ResourceExhaustedError(SojournError):
    """A size, a quota, a rate or the disk is at its limit."""

    code = "RESOURCE_EXHAUSTED"


class OutOfRangeError(SojournError):
    """The token points to a place that the log does not have."""

    code = "OUT_OF_RANGE"


class UnavailableError(SojournError):
    """No server could be reached, or it cannot serve now. A write may or may not have happened."""

    code = "UNAVAILABLE"


class UnimplementedError(SojournError):
    """The server does not know the RPC."""

    code = "UNIMPLEMENTED"


class InternalError(SojournError):
    """A fault of the server, or of something on the way."""

    code = "INTERNAL"


class DeadlineExceededError(SojournError):
    """No answer within the deadline. A write may or may not have happened."""

    code = "DEADLINE_EXCEEDED"


class CancelledByServerError(SojournError):
    """The server or something on the way cancelled the call. Your own cancellation is asyncio's."""

    code = "CANCELLED"


class DataLossError(SojournError):
    """Something on the way lost data."""

    code = "DATA_LOSS"


class UnknownStatusError(SojournError):
    """A status that says nothing."""

    code = "UNKNOWN"


class ClientError(SojournError):
    """Found in the client itself; nothing was sent."""

    code = ""


class ClientClosedError(ClientError):
    """The client was closed before or during the call."""


class ConfigurationError(ClientError):
    """Options of the client that do not fit together, or that are not safe."""


class CredentialUnavailableError(ClientError):
    """No credential could be had, from a function or a file; `__cause__` says why."""


class MissingExtraError(ClientError, ImportError):
    """An optional part of the distribution is not installed; the message says which."""


class CacheLimitError(ClientError):
    """More sessions match than a `SessionCache` may hold: narrow its filter, or allow more."""


class NotLoadedError(ClientError):
    """The answer that this object came from did not carry what is asked of it now."""


class ExportFormatError(ClientError, ValueError):
    """A file is no export, or not a whole one; the message names the line."""


class JsonValueError(ClientError, ValueError):
    """A stored JSON text that Python cannot hold, such as a number of 5,000 digits."""
