"""Everything that the client raises: one class per reason, in one tree.

    SojournError
    ├── InvalidArgumentError          INVALID_ARGUMENT
    │   ├── InvalidFieldError             a field breaks its rule; also found before sending
    │   │   └── ArgumentTypeError             a wrong Python type (also a TypeError)
    │   ├── MalformedRequestError
    │   ├── RequestIdReusedError
    │   ├── PageTokenInvalidError
    │   ├── TurnTokenInvalidError
    │   ├── ResumeTokenInvalidError
    │   └── FilterNotWatchableError
    ├── UnauthenticatedError          UNAUTHENTICATED
    │   ├── CredentialMissingError
    │   └── CredentialInvalidError
    ├── PermissionDeniedError         PERMISSION_DENIED
    │   └── GrantMissingError             of what you may not even see: NotFoundError
    ├── NotFoundError                 NOT_FOUND
    │   ├── SessionNotFoundError
    │   ├── MessageNotFoundError
    │   └── AppNotFoundError
    ├── AlreadyExistsError            ALREADY_EXISTS
    │   ├── SessionExistsError
    │   ├── MessageExistsError
    │   └── BackupExistsError
    ├── FailedPreconditionError       FAILED_PRECONDITION
    │   ├── SessionEndedError
    │   ├── HasChildrenError
    │   ├── NotIdleError
    │   ├── ParentEndedError
    │   ├── AppDeletedError
    │   ├── AppDrainingError
    │   ├── AppHasSessionsError
    │   ├── AppUnknownError
    │   ├── AutoCreateRefusedError
    │   ├── TurnRequiredError
    │   ├── FeedChangedError
    │   └── BackupsOffError
    ├── AbortedError                  ABORTED
    │   ├── UidMismatchError
    │   ├── GenerationChangedError
    │   ├── TurnSupersededError
    │   ├── TurnConflictError
    │   ├── EtagMismatchError
    │   ├── SequenceMismatchError
    │   ├── StateVersionMismatchError
    │   └── StagingLostError
    ├── ResourceExhaustedError        RESOURCE_EXHAUSTED
    │   ├── RequestTooLargeError          also found before sending
    │   ├── ContentTooLargeError          also found before sending
    │   ├── QuotaExceededError
    │   ├── StorageFullError
    │   ├── RateLimitedError
    │   ├── SlowConsumerError
    │   └── StreamLimitError
    ├── OutOfRangeError               OUT_OF_RANGE
    │   ├── RevisionCompactedError
    │   │   └── WatchCompactedError           a watch cannot go on; it knows how far it came
    │   └── RevisionFutureError
    ├── UnavailableError              UNAVAILABLE
    │   ├── StoreUnavailableError
    │   ├── ServerDrainingError           reason DRAINING
    │   └── IssuerUnavailableError        reason ISSUER_UNAVAILABLE
    ├── UnimplementedError            UNIMPLEMENTED
    │   └── RpcNotImplementedError        reason NOT_IMPLEMENTED
    ├── InternalError                 INTERNAL
    │   └── ServerFaultError              reason INTERNAL
    ├── DeadlineExceededError         DEADLINE_EXCEEDED
    ├── CancelledByServerError        CANCELLED
    ├── DataLossError                 DATA_LOSS
    ├── UnknownStatusError            UNKNOWN
    └── ClientError                   nothing was sent
        ├── ClientClosedError             the client was closed
        ├── ConfigurationError            options that do not fit together
        ├── CredentialUnavailableError    a token's function failed
        ├── MissingExtraError             an optional part is not installed (also an ImportError)
        ├── CacheLimitError               more sessions match than a cache may hold
        ├── NotLoadedError                the answer did not carry this
        ├── ExportFormatError             a file that is no whole export (also a ValueError)
        └── JsonValueError                a stored text that Python cannot hold (also a ValueError)

`asyncio.CancelledError` passes through untouched: it is the caller's own.

A status without a reason of ours, as a proxy or the transport makes it, becomes the class of its
code. A reason that this client does not know yet does so too, and keeps its name in `reason`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sojourn._app_errors import (
    AppDeletedError,
    AppDrainingError,
    AppHasSessionsError,
    AppNotFoundError,
    AppUnknownError,
    AutoCreateRefusedError,
)
from sojourn._error_codes import (
    AbortedError,
    AlreadyExistsError,
    CacheLimitError,
    CancelledByServerError,
    ClientClosedError,
    ClientError,
    ConfigurationError,
    CredentialUnavailableError,
    DataLossError,
    DeadlineExceededError,
    ExportFormatError,
    FailedPreconditionError,
    FieldViolation,
    InternalError,
    InvalidArgumentError,
    JsonValueError,
    MissingExtraError,
    NotFoundError,
    NotLoadedError,
    OutOfRangeError,
    PermissionDeniedError,
    ResourceExhaustedError,
    SojournError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    UnknownStatusError,
)
from sojourn._watch_errors import (
    FeedChangedError,
    FilterNotWatchableError,
    ResumeTokenInvalidError,
    RevisionCompactedError,
    RevisionFutureError,
    SlowConsumerError,
    StreamLimitError,
    WatchCompactedError,
)

__all__ = [
    "AbortedError",
    "AlreadyExistsError",
    "AppDeletedError",
    "AppDrainingError",
    "AppHasSessionsError",
    "AppNotFoundError",
    "AppUnknownError",
    "ArgumentTypeError",
    "AutoCreateRefusedError",
    "BackupExistsError",
    "BackupsOffError",
    "CacheLimitError",
    "CancelledByServerError",
    "ClientClosedError",
    "ClientError",
    "ConfigurationError",
    "ContentTooLargeError",
    "CredentialInvalidError",
    "CredentialMissingError",
    "CredentialUnavailableError",
    "DataLossError",
    "DeadlineExceededError",
    "EtagMismatchError",
    "ExportFormatError",
    "FailedPreconditionError",
    "FeedChangedError",
    "FieldViolation",
    "FilterNotWatchableError",
    "GenerationChangedError",
    "GrantMissingError",
    "HasChildrenError",
    "InternalError",
    "InvalidArgumentError",
    "InvalidFieldError",
    "IssuerUnavailableError",
    "JsonValueError",
    "MalformedRequestError",
    "MessageExistsError",
    "MessageNotFoundError",
    "MissingExtraError",
    "NotFoundError",
    "NotIdleError",
    "NotLoadedError",
    "OutOfRangeError",
    "PageTokenInvalidError",
    "ParentEndedError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitedError",
    "RequestIdReusedError",
    "RequestTooLargeError",
    "ResourceExhaustedError",
    "ResumeTokenInvalidError",
    "RevisionCompactedError",
    "RevisionFutureError",
    "RpcNotImplementedError",
    "SequenceMismatchError",
    "ServerDrainingError",
    "ServerFaultError",
    "SessionEndedError",
    "SessionExistsError",
    "SessionNotFoundError",
    "SlowConsumerError",
    "SojournError",
    "StagingLostError",
    "StateVersionMismatchError",
    "StorageFullError",
    "StoreUnavailableError",
    "StreamLimitError",
    "TurnConflictError",
    "TurnRequiredError",
    "TurnSupersededError",
    "TurnTokenInvalidError",
    "UidMismatchError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnknownStatusError",
    "WatchCompactedError",
    "error_class",
]


class InvalidFieldError(InvalidArgumentError):
    """A field breaks its rule; `field_violations` names field and rule."""

    reason = "INVALID_FIELD"


class ArgumentTypeError(InvalidFieldError, TypeError):
    """A value has the wrong Python type, such as None for a label's value."""


class MalformedRequestError(InvalidArgumentError):
    """The server could not read the request at all."""

    reason = "MALFORMED_REQUEST"


class RequestIdReusedError(InvalidArgumentError):
    """The request_id was used with another payload."""

    reason = "REQUEST_ID_REUSED"


class PageTokenInvalidError(InvalidArgumentError):
    """The page token was changed, or made for another request."""

    reason = "PAGE_TOKEN_INVALID"


class TurnTokenInvalidError(InvalidArgumentError):
    """The turn token was changed, or made for another session."""

    reason = "TURN_TOKEN_INVALID"


class CredentialMissingError(UnauthenticatedError):
    """No credential came with the call: pass `credentials`, or a client certificate in `tls`."""

    reason = "CREDENTIAL_MISSING"


class CredentialInvalidError(UnauthenticatedError):
    """The credential is wrong, expired or revoked; one that can be renewed was, and sent again."""

    reason = "CREDENTIAL_INVALID"


class GrantMissingError(PermissionDeniedError):
    """You may see what the request names, but not do this to all of it."""

    reason = "GRANT_MISSING"


class SessionNotFoundError(NotFoundError):
    """There is no such session, or it is not yours."""

    reason = "SESSION_NOT_FOUND"


class MessageNotFoundError(NotFoundError):
    """The session holds no such message."""

    reason = "MESSAGE_NOT_FOUND"


class SessionExistsError(AlreadyExistsError):
    """A session has this key; `metadata["status"]` is its status."""

    reason = "SESSION_EXISTS"


class MessageExistsError(AlreadyExistsError):
    """A message has this id, with other content."""

    reason = "MESSAGE_EXISTS"


class BackupExistsError(AlreadyExistsError):
    """A backup has this name; none is ever overwritten."""

    reason = "BACKUP_EXISTS"


class SessionEndedError(FailedPreconditionError):
    """The session has ended; `metadata["status"]` and `metadata["cause"]` say how."""

    reason = "SESSION_ENDED"


class HasChildrenError(FailedPreconditionError):
    """The session has children; `metadata["children"]` names the first of them."""

    reason = "HAS_CHILDREN"


class NotIdleError(FailedPreconditionError):
    """The session has a live turn; `metadata["holder"]` says whose."""

    reason = "NOT_IDLE"


class ParentEndedError(FailedPreconditionError):
    """The parent is unknown or has ended."""

    reason = "PARENT_ENDED"


class TurnRequiredError(FailedPreconditionError):
    """The app's policy wants history and state written by a turn."""

    reason = "TURN_REQUIRED"


class BackupsOffError(FailedPreconditionError):
    """The server has no folder for backups: its operator sets `backup_dir`."""

    reason = "BACKUPS_OFF"


class UidMismatchError(AbortedError):
    """The id now belongs to a session with another uid."""

    reason = "UID_MISMATCH"


class GenerationChangedError(AbortedError):
    """The session was reset since: read it again and begin anew."""

    reason = "GENERATION_CHANGED"


class TurnSupersededError(AbortedError):
    """The turn is over: it ended, or was stolen, revoked or abandoned."""

    reason = "TURN_SUPERSEDED"


class TurnConflictError(AbortedError):
    """Another turn is live: `metadata["holder"]`'s, until `retry_after` from now if not renewed."""

    reason = "TURN_CONFLICT"


class EtagMismatchError(AbortedError):
    """The session changed since the etag was read."""

    reason = "ETAG_MISMATCH"


class SequenceMismatchError(AbortedError):
    """The history grew since; `metadata["last_sequence"]` says how far."""

    reason = "SEQUENCE_MISMATCH"


class StateVersionMismatchError(AbortedError):
    """The state was patched since; `metadata` has `scope` and `version`."""

    reason = "STATE_VERSION_MISMATCH"


class StagingLostError(AbortedError):
    """What earlier parts had staged is gone; begin with the first part again."""

    reason = "STAGING_LOST"


class RequestTooLargeError(ResourceExhaustedError):
    """The whole request is over the limit; `metadata["limit_bytes"]` says which."""

    reason = "REQUEST_TOO_LARGE"


class ContentTooLargeError(ResourceExhaustedError):
    """A message, a metadata value or a scope's state is over its limit."""

    reason = "CONTENT_TOO_LARGE"


class QuotaExceededError(ResourceExhaustedError):
    """A limit of the app's policy is reached; `metadata` has `quota` and `limit`."""

    reason = "QUOTA_EXCEEDED"


class StorageFullError(ResourceExhaustedError):
    """The disk is full: reads go on, writes are refused."""

    reason = "STORAGE_FULL"


class RateLimitedError(ResourceExhaustedError):
    """Too much is under way, or comes too fast, and nothing happened; see `retry_after`.

    `metadata` has `limit` and `of`: `principal`, `app` or `server`.
    """

    reason = "RATE_LIMITED"


class StoreUnavailableError(UnavailableError):
    """The server's store cannot be reached or failed. A write may or may not have happened."""

    reason = "STORE_UNAVAILABLE"


class ServerDrainingError(UnavailableError):
    """The server is shutting down; another one may answer."""

    reason = "DRAINING"


class IssuerUnavailableError(UnavailableError):
    """The server cannot check the JWT, because its issuer cannot be reached. Nothing happened."""

    reason = "ISSUER_UNAVAILABLE"


class RpcNotImplementedError(UnimplementedError):
    """The contract has the RPC, this release of the server does not."""

    reason = "NOT_IMPLEMENTED"


class ServerFaultError(InternalError):
    """A fault of the server; `correlation_id` finds its log line."""

    reason = "INTERNAL"


def _descendants(cls: type[SojournError]) -> Iterator[type[SojournError]]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)


# Built once, from the tree as it stands here: a user's own subclasses come later and take no part.
_BY_REASON = {cls.reason: cls for cls in _descendants(SojournError) if "reason" in vars(cls)}
_BY_CODE = {cls.code: cls for cls in _descendants(SojournError) if vars(cls).get("code")}


def error_class(code: str, reason: str = "") -> type[SojournError]:
    """Return the class for a status code's name and, where there is one, an error reason's name."""
    return _BY_REASON.get(reason) or _BY_CODE.get(code) or UnknownStatusError
