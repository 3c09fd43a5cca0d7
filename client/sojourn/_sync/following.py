# Generated from client/sojourn/_async/following.py by `make gen`. Edit the source, never this file.
"""Sessions that are followed: every change of them, or how they are now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Unpack

from sojourn import _checks as check
from sojourn import _watch_calls as watch_calls
from sojourn import inputs
from sojourn._resume import Progress
from sojourn._sync.bulk import ManySessions
from sojourn._sync.cache import SessionCache
from sojourn._sync.watch import Watch
from sojourn.changes import WatchPosition
from sojourn.enums import Status
from sojourn.errors import SojournError


class FollowedSessions(ManySessions):
    """The part of `sessions` that follows them."""

    def watch(
        self,
        *,
        after: str | WatchPosition = "",
        initial_state: bool = False,
        previous: bool = False,
        content: bool = False,
        app_changes: bool = False,
        bookmark_interval: inputs.Duration | None = None,
        resync: Callable[[SojournError], object] | None = None,
        **fields: Unpack[inputs.SelectionFields],
    ) -> Watch:
        """Watch every change of the app, or of the sessions that `SelectionFields` select.

        It begins now; or `after` a token or position, which must be of the same selection; or with
        `initial_state`, the sessions as they are. A session that ends still matches, unless a
        status is asked for; so a token of a list counts if the list was of the same statuses.

        `previous` brings each session as it was before, too, and `content` metadata, state and
        messages, as they are at delivery. `app_changes` adds changes of state that sessions share,
        and of the app itself. When nothing matched for `bookmark_interval`, 0.1 s to 60 s and 5 s
        by default, a bookmark comes.

        When the log no longer reaches back (the watch was away for too long, or the store was
        restored), it ends with `WatchCompactedError`, `FeedChangedError` or `RevisionFutureError`;
        unless there is `resync`, which is told of that error: then the state is sent anew, from
        `InitialStateBegin` to `InitialStateEnd`, and changes go on from there. What `resync` raises
        ends the watch.

        While it is read, it raises `ResumeTokenInvalidError`, `FilterNotWatchableError`,
        `AppNotFoundError`, also when the app is deleted, and `UnauthenticatedError`, unless there
        is another credential by then; and, if it never reached a server, what any call would.
        """
        request = watch_calls.watch_sessions(
            self._caller.app(fields.get("app")),
            fields,
            previous=previous,
            content=content,
            app_changes=app_changes,
            bookmark_interval=bookmark_interval,
        )
        progress = Progress(
            request,
            watch_calls.start(after, initial_state=initial_state),
            initial_state=initial_state,
            may_begin_anew=resync is not None,
            first=self._caller.config.retry,
            deadline=self._caller.config.deadline.total_seconds(),
        )
        return Watch(self._caller, progress, resync)

    def cache(
        self,
        *,
        content: bool = False,
        max_sessions: int = 100_000,
        bookmark_interval: inputs.Duration = 1.0,
        **fields: Unpack[inputs.SelectionFields],
    ) -> SessionCache:
        """Keep the sessions at hand that `SelectionFields` select: ACTIVE ones unless told.

        With `content` they have metadata and state, as of the session's last change. Beyond
        `max_sessions` it ends with `CacheLimitError`. When nothing matched for `bookmark_interval`,
        the server tells up to where that is so: as long may `wait_until` take for a write that
        touches no session of the cache.
        """
        fields.setdefault("status", Status.ACTIVE)
        watch = self.watch(
            initial_state=True,
            content=content,
            bookmark_interval=bookmark_interval,
            # Nothing to be done: the cache sees the state begin anew.
            resync=lambda _error: None,
            **fields,
        )
        return SessionCache(
            watch,
            self._caller.app(fields.get("app")),
            limit=check.integer("max_sessions", max_sessions, minimum=1),
            deadline=self._caller.config.deadline,
        )
