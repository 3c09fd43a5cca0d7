"""What can become of a watch: the reasons of the error tree that nothing else raises."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sojourn._error_codes import (
    FailedPreconditionError,
    InvalidArgumentError,
    OutOfRangeError,
    ResourceExhaustedError,
)

if TYPE_CHECKING:
    from sojourn.changes import WatchPosition


class ResumeTokenInvalidError(InvalidArgumentError):
    """The resume token was changed, or made for another scope or filter."""

    reason = "RESUME_TOKEN_INVALID"


class FilterNotWatchableError(InvalidArgumentError):
    """The filter asks for something that time alone changes."""

    reason = "FILTER_NOT_WATCHABLE"


class FeedChangedError(FailedPreconditionError):
    """The feed is not the one that the token was made for."""

    reason = "FEED_CHANGED"


class SlowConsumerError(ResourceExhaustedError):
    """The stream was not read for too long."""

    reason = "SLOW_CONSUMER"


class StreamLimitError(ResourceExhaustedError):
    """Too many streams; see `retry_after`. `metadata` has `limit` and `of`."""

    reason = "STREAM_LIMIT"


class RevisionCompactedError(OutOfRangeError):
    """The log no longer reaches back to the token."""

    reason = "REVISION_COMPACTED"


class WatchCompactedError(RevisionCompactedError):
    """A watch cannot go on where it stopped: the log no longer reaches back.

    Changes were missed. Read the state anew: `initial_state=True`, or a `resync` callback.
    """

    position: WatchPosition | None = None
    """How far the watch had come."""

    @property
    def oldest_revision(self) -> int:
        """The oldest revision that can be watched after; 0 when the server did not say."""
        return int(self.metadata.get("oldest_revision", "0"))


class RevisionFutureError(OutOfRangeError):
    """The token is ahead of the log."""

    reason = "REVISION_FUTURE"
