# Generated from client/sojourn/_async/cache.py by `make gen`. Edit the source, never this file.
"""Sessions at hand: a mirror that a watch keeps true, read without asking the server."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Self

from sojourn import _checks as check
from sojourn import _describe as describe
from sojourn import inputs
from sojourn._acompat import sync_sleep
from sojourn._astreams import SyncMonitor, SyncWorker
from sojourn._mirror import Mirror, Step, selects, step_of
from sojourn._sync.watch import Watch
from sojourn.changes import CacheUpdate
from sojourn.enums import Status
from sojourn.errors import ClientClosedError, DeadlineExceededError, NotLoadedError, SojournError
from sojourn.models import Session

SLICE = 256
"""So many events are decoded before others get their turn."""


class _Touched(dict[str, None]):
    """Which sessions a reader of updates has not seen yet, oldest first: each once."""

    __slots__ = ("__weakref__",)


class SessionCache:
    """The sessions that match, as they are now, without asking the server.

        with client.sessions.cache(labels={"tier": "gold"}) as cache:
            session = cache.get("user-123", user="u-456")
            waiting = cache.list(labels={"queue": "waiting"})

    Entering the block waits until it is complete. From then on it follows every change, unit by
    unit, over cuts and restarts; when the log no longer reaches back, or after a restore, it reads
    the state anew and shows the old one until that is complete. It shows what the server has told:
    `heard` says how long ago that was, and `wait_until` lets a writer read its own write.

    It holds each matching session once, about 2 KiB each and more with long labels or with content,
    and for each reader of `updates` the uids that it has not seen; beyond `max_sessions` it ends
    with `CacheLimitError` instead of growing. Times of activity and expiry are those of the last
    change: touches move them without one.

    If it cannot go on, reads raise what happened, as a watch would.
    """

    def __init__(self, watch: Watch, app: str, *, limit: int, deadline: timedelta) -> None:
        self._watch = watch
        self._app = app
        self._deadline = deadline
        self._mirror = Mirror(limit)
        self._monitor = SyncMonitor()
        self._worker: SyncWorker | None = None
        self._readers: list[weakref.ref[_Touched]] = []
        self._failure: SojournError | None = None
        self._over = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(sessions={len(self._mirror)}, revision={self.revision})"

    def __enter__(self) -> Self:
        if self._worker is None:
            self._worker = SyncWorker(self._work, "sojourn-cache")
        try:
            self._monitor.wait_for(lambda: self._mirror.ready or self._over)
            self._raise_if_over()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End its watch, and whatever waits for it."""
        self._watch.close()
        if self._worker is not None:
            self._worker.join()
        with self._monitor:
            self._over = True
            self._monitor.notify()

    # --- reads -----------------------------------------------------------------------------------

    def __len__(self) -> int:
        with self._monitor:
            self._raise_if_not_ready()
            return len(self._mirror)

    @property
    def revision(self) -> int:
        """All of it is true at this revision of the app's log; 0 before it is complete."""
        return self._mirror.revision

    @property
    def heard(self) -> timedelta:
        """How long ago the server was last heard; it tells of itself every second or so."""
        since = time.monotonic() - self._watch.heard if self._watch.heard else 0.0
        return timedelta(seconds=since)

    def get(
        self, session: inputs.SessionLike = "", *, user: str = "", uid: str = ""
    ) -> Session | None:
        """Return a session by id or by `uid`; None: none that matches.

        What fences a call fences here: with an id and a uid, both must be right.
        """
        ref = describe.session_ref(self._app, session, user, uid)
        with self._monitor:
            self._raise_if_not_ready()
            if not ref.session_id:
                return self._mirror.by_uid(ref.uid)
            found = self._mirror.by_name(ref.user, ref.session_id)
        return found if found is None or ref.uid in {"", found.uid} else None

    def list(
        self,
        *,
        user: str | None = None,
        status: Status | str | Iterable[Status] | None = None,
        labels: inputs.Labels | None = None,
        parent: str | Session = "",
        where: Callable[[Session], bool] | None = None,
    ) -> list[Session]:
        """Return the sessions of the cache that meet all this, in the order in which they came.

        `where` is anything else that can be asked of a session.
        """
        statuses = {Status(name) for name in describe.status_names("status", status)}
        parent_uid = describe.uid_of("parent", parent)
        meets = selects(labels)
        with self._monitor:
            self._raise_if_not_ready()
            sessions = self._mirror.all()
        return [
            one
            for one in sessions
            if (user is None or one.user == user)
            and (not statuses or one.status in statuses)
            and (not parent_uid or one.parent_uid == parent_uid)
            and meets(one)
            and (where is None or where(one))
        ]

    # --- following -------------------------------------------------------------------------------

    def wait_until(self, revision: int, *, timeout: inputs.Duration | None = None) -> None:
        """Wait until the cache has seen this revision, such as the one that a write returned.

        At most so long; None: the client's deadline. Raises `DeadlineExceededError`.
        """
        length = self._deadline if timeout is None else check.duration("timeout", timeout)
        self._monitor.wait_for(
            lambda: self._mirror.revision >= revision or self._over, length.total_seconds()
        )
        self._raise_if_over()
        if self._mirror.revision < revision:
            raise DeadlineExceededError(
                f"the cache is at revision {self._mirror.revision}, not yet at {revision}"
            )

    def updates(self) -> Iterator[CacheUpdate]:
        """Follow what becomes of the sessions, from this call on.

        Each update is a session as it is when the update is read: of several changes of one
        session that came meanwhile, only the last one is seen. A watch has them all. It ends when
        the cache is closed.
        """
        touched = _Touched()
        with self._monitor:
            self._raise_if_not_ready()
            self._readers.append(weakref.ref(touched))
        return self._updates(touched)

    def _updates(self, touched: _Touched) -> Iterator[CacheUpdate]:
        while True:
            self._monitor.wait_for(lambda: bool(touched) or self._over)
            with self._monitor:
                if not touched:
                    break
                uid = next(iter(touched))
                del touched[uid]
                update = CacheUpdate(uid, self._mirror.by_uid(uid))
            yield update
        if self._failure is not None:
            raise self._failure

    # --- the work --------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while (events := self._watch.batch()) is not None:
                steps: list[Step] = []
                for number, event in enumerate(events, 1):
                    step = step_of(event)
                    if step is not None:
                        steps.append(step)
                    if number % SLICE == 0:
                        sync_sleep(0)
                self._apply(steps)
        except SojournError as error:
            self._failure = error
        finally:
            with self._monitor:
                self._over = True
                self._monitor.notify()
            self._watch.close()

    def _apply(self, steps: Sequence[Step]) -> None:
        with self._monitor:
            uids = dict.fromkeys(self._mirror.take(steps, self._watch.complete))
            self._readers = [reader for reader in self._readers if reader() is not None]
            for reader in self._readers:
                touched = reader()
                if touched is not None:
                    touched.update(uids)
            self._monitor.notify()

    def _raise_if_not_ready(self) -> None:
        self._raise_if_over()
        if not self._mirror.ready:
            raise NotLoadedError("the cache is not complete yet: enter it with a `with` block")

    def _raise_if_over(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._over:
            raise ClientClosedError("the cache is closed")
