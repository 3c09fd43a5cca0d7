"""How a watch goes on by itself: what each message and each failure mean. Pure: no clock, no sleep.

The rule that all else follows from: a stream is opened after the newest token of which everything
before has been handed out, and of what it then brings, everything up to the last change handed out
is dropped. So every change is handed out exactly once, in order, wherever streams are cut.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sojourn import _change_convert as change_convert
from sojourn import _convert as convert
from sojourn._retry import backoff
from sojourn.changes import (
    Bookmark,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    WatchEvent,
    WatchPosition,
)
from sojourn.errors import (
    CredentialUnavailableError,
    FeedChangedError,
    RevisionCompactedError,
    RevisionFutureError,
    SojournError,
    WatchCompactedError,
)
from sojourn.options import RetryOptions
from sojourn.v1 import change_pb2, session_service_pb2

PAUSES = RetryOptions(max_backoff=timedelta(seconds=10))
"""Between streams that bring nothing: a random part of 0.1 s, 0.2 s, 0.4 s … 10 s."""

NOWHERE = (0, -1)

# With these a proxy or the transport says that the stream was cut. From our own server, which
# gives a reason or at least a correlation id, they mean something else.
CUT = frozenset({"CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN"})

# There is nothing to go on from: only the state can be read anew.
LOST = (RevisionCompactedError, FeedChangedError, RevisionFutureError)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a stream has ended."""

    pause: float
    """How long to wait before the next one, in seconds."""
    anew: SojournError | None = None
    """Why the state is read anew; None: it goes on where it stopped."""


class Progress:
    """How far a watch has come.

    Args:
        request: What opens its streams, without a start.
        after: Where it begins; without a token: now, or with the state.
        initial_state: Begin with the state.
        may_begin_anew: Read the state anew when there is nothing to go on from.
        first: How often and how long to try until the server has answered once.
        deadline: The same, in seconds.
        draw: Gives a random number from 0 to 1.
    """

    def __init__(
        self,
        request: session_service_pb2.WatchSessionsRequest,
        after: WatchPosition,
        *,
        initial_state: bool = False,
        may_begin_anew: bool = False,
        first: RetryOptions | None = None,
        deadline: float = 30.0,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._request = request
        self._token = after.token
        self._token_revision = 0
        self._place = (after.revision, after.index) if after.revision else NOWHERE
        # Whether a stream that is opened now begins with the state, and whether it is still there.
        self._state_wanted = initial_state
        self._inside_state = False
        self._inside_unit = False
        self._begin: InitialStateBegin | None = None
        self._why: SojournError | None = None
        self._may_begin_anew = may_begin_anew
        self._first = first or RetryOptions()
        self._deadline = deadline
        self._draw = draw
        self._answered = False
        self._failures = 0

    @property
    def position(self) -> WatchPosition:
        """Where to go on, such that of what was handed out nothing comes again."""
        return WatchPosition(self._token, *self._place) if self._token else WatchPosition("")

    @property
    def has_start(self) -> bool:
        """Whether the next stream has a place to begin at that is not just now."""
        return bool(self._token) or self._state_wanted

    @property
    def complete(self) -> int | None:
        """Up to which revision everything was handed out; None inside a unit or the state."""
        if self._inside_unit or self._inside_state:
            return None
        return max(self._token_revision, self._place[0])

    def opening(self) -> session_service_pb2.WatchSessionsRequest:
        """Return what opens the next stream."""
        request = session_service_pb2.WatchSessionsRequest()
        request.CopyFrom(self._request)
        self._inside_state = self._state_wanted
        self._inside_unit = False
        if self._state_wanted:
            # What was handed out of an earlier one is void: it comes from its beginning again.
            self._begin, self._why = InitialStateBegin(self._why), None
            self._place = NOWHERE
            request.send_initial_state = True
        else:
            request.resume_after_token = self._token
        return request

    # --- messages --------------------------------------------------------------------------------

    def take(self, message: session_service_pb2.WatchSessionsResponse) -> Iterator[WatchEvent]:
        """Return what a message brings; `position` follows from event to event.

        They must be read to their end before the next message is taken.
        """
        self._answered = True
        self._inside_unit = message.continued
        fresh = self._fresh(message.changes)
        if fresh or message.initial_sessions or message.revision > self._token_revision:
            self._failures = 0
        if self._begin is None and not self._inside_state and not fresh:
            # Everything before was handed out, so the token counts from now on.
            kept = self._keep_token(message)
            return iter([Bookmark(message.revision, message.resume_token)] if kept else [])
        return self._events(message, fresh)

    def _events(
        self,
        message: session_service_pb2.WatchSessionsResponse,
        fresh: Sequence[change_pb2.Change],
    ) -> Iterator[WatchEvent]:
        if self._begin is not None:
            begin, self._begin = self._begin, None
            yield begin
        yield from self._initial_sessions(message)
        last = len(fresh) - 1
        for number, source in enumerate(fresh):
            self._place = (source.revision, source.index)
            if number == last:
                self._keep_token(message)
            yield change_convert.change(source)
        if message.HasField("initial_state_end") and self._inside_state:
            self._inside_state = False
            self._keep_token(message)
            yield InitialStateEnd(message.initial_state_end)

    def _initial_sessions(
        self, message: session_service_pb2.WatchSessionsResponse
    ) -> Iterator[WatchEvent]:
        full = self._request.include_content
        for source in message.initial_sessions:
            yield InitialSession(convert.session(source, message.revision, full=full))

    def _fresh(self, changes: Sequence[change_pb2.Change]) -> Sequence[change_pb2.Change]:
        """Return the changes that were not handed out yet."""
        if not changes or (changes[0].revision, changes[0].index) > self._place:
            # They ascend.
            return changes
        return [one for one in changes if (one.revision, one.index) > self._place]

    def _keep_token(self, message: session_service_pb2.WatchSessionsResponse) -> bool:
        """Go on after this message from now on, if it says where; return whether it does."""
        behind = message.revision < self._token_revision
        if not message.resume_token or behind or self._inside_state:
            return False
        self._state_wanted = False
        self._token = message.resume_token
        self._token_revision = message.revision
        return True

    # --- failures --------------------------------------------------------------------------------

    def _is_too_long(self, elapsed: float) -> bool:
        """Say whether to give up opening: as any call, that has a deadline and so many attempts."""
        return self._failures >= self._first.max_attempts or elapsed >= self._deadline

    def after_end(
        self, error: SojournError, *, lasted: float, elapsed: float, forbidden: bool = False
    ) -> Verdict:
        """Say what to do when a stream has ended, or could not be opened; else raise the error.

        `lasted` is how long the stream was open and `elapsed` how long the watch has been, in
        seconds; `forbidden` says that the server asked not to be called again.
        """
        if lasted >= PAUSES.max_backoff.total_seconds():
            self._failures = 0
        self._failures += 1
        lost = isinstance(error, LOST)
        # Whoever makes credentials may be away for a while, but not from the beginning.
        no_credential = isinstance(error, CredentialUnavailableError) and self._answered
        if forbidden or not (lost or no_credential or _may_go_on(error)):
            raise error
        anew = None
        if lost and not self._state_wanted:
            anew = _lost(error, self.position)
            if not self._may_begin_anew:
                raise anew
        pause = backoff(self._failures, PAUSES, self._draw)
        if error.retry_after is not None:
            pause += max(error.retry_after, timedelta(0)).total_seconds()
        if anew is not None:
            self._token, self._token_revision = "", 0
            self._state_wanted, self._why = True, anew
        elif not self._answered and self._is_too_long(elapsed + pause):
            raise error
        return Verdict(pause, anew)


def _may_go_on(error: SojournError) -> bool:
    """Say whether a watch may simply open another stream."""
    if error.code == "UNAVAILABLE" or error.reason == "SLOW_CONSUMER":
        return True
    if error.reason in {"STREAM_LIMIT", "RATE_LIMITED"}:
        return error.retry_after is not None
    return error.code in CUT and not error.reason and not error.correlation_id


def _lost(error: SojournError, position: WatchPosition) -> SojournError:
    """Return the error that says that the log no longer reaches back."""
    if not isinstance(error, RevisionCompactedError):
        return error
    raised = WatchCompactedError(
        error.message,
        metadata=error.metadata,
        correlation_id=error.correlation_id,
        method=error.method,
    )
    raised.position = position
    raised.__cause__ = error
    return raised
