"""How the domain says no: one exception, one enum of reasons.

The reasons are those of `sojourn.v1.ErrorReason`; `rpc/errors.py` gives each its
gRPC code, in one table. Texts and metadata never hold content.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sojourn_server.domain.clock import SECOND, Nanos


class Reason(enum.StrEnum):
    """Why a call is refused. Each member's meaning stands in `error_reason.proto`."""

    INVALID_FIELD = "INVALID_FIELD"
    MALFORMED_REQUEST = "MALFORMED_REQUEST"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    PAGE_TOKEN_INVALID = "PAGE_TOKEN_INVALID"
    TURN_TOKEN_INVALID = "TURN_TOKEN_INVALID"
    RESUME_TOKEN_INVALID = "RESUME_TOKEN_INVALID"
    FILTER_NOT_WATCHABLE = "FILTER_NOT_WATCHABLE"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    GRANT_MISSING = "GRANT_MISSING"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    MESSAGE_NOT_FOUND = "MESSAGE_NOT_FOUND"
    APP_NOT_FOUND = "APP_NOT_FOUND"
    SESSION_EXISTS = "SESSION_EXISTS"
    MESSAGE_EXISTS = "MESSAGE_EXISTS"
    BACKUP_EXISTS = "BACKUP_EXISTS"
    SESSION_ENDED = "SESSION_ENDED"
    HAS_CHILDREN = "HAS_CHILDREN"
    NOT_IDLE = "NOT_IDLE"
    PARENT_ENDED = "PARENT_ENDED"
    APP_DELETED = "APP_DELETED"
    APP_DRAINING = "APP_DRAINING"
    APP_HAS_SESSIONS = "APP_HAS_SESSIONS"
    APP_UNKNOWN = "APP_UNKNOWN"
    AUTO_CREATE_REFUSED = "AUTO_CREATE_REFUSED"
    TURN_REQUIRED = "TURN_REQUIRED"
    FEED_CHANGED = "FEED_CHANGED"
    BACKUPS_OFF = "BACKUPS_OFF"
    UID_MISMATCH = "UID_MISMATCH"
    GENERATION_CHANGED = "GENERATION_CHANGED"
    TURN_SUPERSEDED = "TURN_SUPERSEDED"
    TURN_CONFLICT = "TURN_CONFLICT"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    SEQUENCE_MISMATCH = "SEQUENCE_MISMATCH"
    STATE_VERSION_MISMATCH = "STATE_VERSION_MISMATCH"
    STAGING_LOST = "STAGING_LOST"
    REQUEST_TOO_LARGE = "REQUEST_TOO_LARGE"
    CONTENT_TOO_LARGE = "CONTENT_TOO_LARGE"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    STORAGE_FULL = "STORAGE_FULL"
    RATE_LIMITED = "RATE_LIMITED"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    STREAM_LIMIT = "STREAM_LIMIT"
    REVISION_COMPACTED = "REVISION_COMPACTED"
    REVISION_FUTURE = "REVISION_FUTURE"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    DRAINING = "DRAINING"
    ISSUER_UNAVAILABLE = "ISSUER_UNAVAILABLE"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL = "INTERNAL"


class Violation(NamedTuple):
    """One field that breaks its rule."""

    field: str
    """The field's path in the request: `messages[0].role`."""
    description: str
    """The rule, as a sentence without the offending value."""


class Refusal(Exception):
    """The service refuses a call; nothing of it has happened.

    Args:
        reason: Which of the documented reasons.
        message: A sentence for people, without content.
        metadata: What the reason's example in `error_reason.proto` shows.
        violations: The fields to blame, for `INVALID_FIELD`.
        retry_after: How long to wait before a new try can succeed, in nanoseconds.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        metadata: Mapping[str, str] | None = None,
        *,
        violations: Sequence[Violation] = (),
        retry_after: Nanos | None = None,
    ) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"


def invalid_field(field: str, description: str) -> Refusal:
    """The refusal of one bad field.

    Args:
        field: Its path in the request.
        description: The rule it breaks, without the value.
    """
    return Refusal(
        Reason.INVALID_FIELD,
        f"{field}: {description}",
        {"field": field},
        violations=[Violation(field, description)],
    )


def too_large(field: str, limit: int) -> Refusal:
    """The refusal of content over its limit.

    Args:
        field: Its path in the request, or what it adds up to: `state.session`.
        limit: The limit, in bytes.
    """
    return Refusal(
        Reason.CONTENT_TOO_LARGE,
        f"{field} is larger than {limit} bytes",
        {"field": field, "limit_bytes": str(limit)},
    )


def quota_exceeded(quota: str, limit: int, *, retry_after: Nanos | None = None) -> Refusal:
    """The refusal at a limit of an app's policy.

    Args:
        quota: The field of the policy.
        limit: What it says.
        retry_after: When the limit may be met again by itself, in nanoseconds; None: never,
            or not known.
    """
    return Refusal(
        Reason.QUOTA_EXCEEDED,
        f"the app's policy sets {quota} to {limit}",
        {"quota": quota, "limit": str(limit)},
        retry_after=retry_after,
    )


def draining() -> Refusal:
    """The refusal of what comes, or waits, while the server shuts down."""
    return Refusal(Reason.DRAINING, "the server is shutting down", retry_after=SECOND)
