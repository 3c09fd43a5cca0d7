"""What a commit moves in the tallies: one sum for each user and status, of whatever number
of writes.

A tally is what the sessions of a user (or of all users of the app) that have one status
add up to. Writes add differences; the store brings them to its rows once for each commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.limits import SUM_COUNTERS_MOST
from sojourn_server.domain.model import Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.outcomes import StoreUnusable
from sojourn_server.store.rows import decode_session

TallyKey = tuple[int, int, Status, str]
"""app_pk, of_user, status, user: of_user 0 with no user stands for all users of the app."""


class Moved:
    """By how much one tally has grown."""

    __slots__ = ("counters", "errors", "messages", "processing_time", "requests", "sessions")

    def __init__(self) -> None:
        self.sessions = 0
        self.requests = 0
        self.errors = 0
        self.processing_time: Nanos = 0
        self.messages = 0
        self.counters: dict[str, int] | None = None

    def __bool__(self) -> bool:
        return bool(
            self.sessions
            or self.requests
            or self.errors
            or self.processing_time
            or self.messages
            or (self.counters and any(self.counters.values()))
        )

    def shift(self, session: Session, sign: int) -> None:
        """Add a session's counters, or with -1 take them away, but not the session."""
        metrics = session.metrics
        self.requests += sign * metrics.requests
        self.errors += sign * metrics.errors
        self.processing_time += sign * metrics.processing_time
        self.messages += sign * session.message_count
        if metrics.counters:
            self._add_counters(metrics.counters, sign)

    def grow(self, old: Session, new: Session) -> None:
        """Count a session's counters as they are now, and no more as they were."""
        self.messages += new.message_count - old.message_count
        was, now = old.metrics, new.metrics
        if was is not now:
            self.requests += now.requests - was.requests
            self.errors += now.errors - was.errors
            self.processing_time += now.processing_time - was.processing_time
            if was.counters != now.counters:
                self._add_counters(was.counters, -1)
                self._add_counters(now.counters, 1)

    def add(self, other: Moved) -> None:
        """Grow by as much as another one."""
        self.sessions += other.sessions
        self.requests += other.requests
        self.errors += other.errors
        self.processing_time += other.processing_time
        self.messages += other.messages
        if other.counters:
            self._add_counters(other.counters, 1)

    def _add_counters(self, counters: dict[str, int], sign: int) -> None:
        mine = self.counters
        if mine is None:
            mine = self.counters = {}
        for name, value in counters.items():
            mine[name] = mine.get(name, 0) + sign * value


class Tallies:
    """Differences that wait to be added to the tallies. On the way of every write, so quick."""

    __slots__ = ("_moved",)

    def __init__(self) -> None:
        self._moved: dict[tuple[int, Status, str], Moved] = {}

    def __bool__(self) -> bool:
        return bool(self._moved)

    def clear(self) -> None:
        """Forget them: they are in the database."""
        self._moved.clear()

    def move(self, app_pk: int, old: Session | None, new: Session | None) -> None:
        """A session is no more as it was, but as it is now.

        Args:
            app_pk: The store's number for its app.
            old: As it was; None: there was none.
            new: As it is; None: there is none.
        """
        if old is not None and new is not None and _have_one_tally(old, new):
            if old.message_count != new.message_count or old.metrics != new.metrics:
                self._of(app_pk, new).grow(old, new)
            return
        for session, sign in ((old, -1), (new, 1)):
            if session is not None:
                moved = self._of(app_pk, session)
                moved.sessions += sign
                moved.shift(session, sign)

    def _of(self, app_pk: int, session: Session) -> Moved:
        key = (app_pk, session.status, session.user)
        moved = self._moved.get(key)
        if moved is None:
            moved = self._moved[key] = Moved()
        return moved

    def add(self, later: Tallies) -> None:
        """Take over what was moved after these. The later ones must not be used any more."""
        for key, moved in later._moved.items():
            mine = self._moved.get(key)
            if mine is None:
                self._moved[key] = moved
            else:
                mine.add(moved)

    def active(self, app_pk: int, user: str) -> int:
        """By how many the ACTIVE sessions of a user have grown."""
        moved = self._moved.get((app_pk, Status.ACTIVE, user))
        return 0 if moved is None else moved.sessions

    def active_users(self) -> Iterator[tuple[int, str, int]]:
        """Each app_pk and user with by how many their ACTIVE sessions have grown."""
        for (app_pk, status, user), moved in self._moved.items():
            if status is Status.ACTIVE and moved.sessions:
                yield app_pk, user, moved.sessions

    def rows(self) -> Iterator[tuple[TallyKey, Moved]]:
        """What to add to which row: users' and apps'."""
        apps: defaultdict[tuple[int, Status], Moved] = defaultdict(Moved)
        for (app_pk, status, user), moved in self._moved.items():
            if moved:
                apps[app_pk, status].add(moved)
                yield (app_pk, 1, status, user), moved
        for (app_pk, status), moved in apps.items():
            if moved:
                yield (app_pk, 0, status, ""), moved


def _have_one_tally(old: Session, new: Session) -> bool:
    return old.status is new.status and old.user == new.user


def grown(old: Session | None, new: Session | None) -> int:
    """By how many ACTIVE sessions a write has made an app larger: -1, 0 or 1."""
    return int(new is not None and new.is_active) - int(old is not None and old.is_active)


def stored_session(record: bytes) -> Session:
    """A session of an older database, to be counted.

    Raises:
        StoreUnusable: It cannot be read.
    """
    try:
        return decode_session(record)
    except msgspec.MsgspecError:
        raise StoreUnusable(
            "The store holds a session that cannot be read; restore it from a backup."
        ) from None


class AppMoves:
    """By how many sessions apps have grown, while an older database is counted."""

    def __init__(self) -> None:
        self._counts: dict[int, list[int]] = {}

    def clear(self) -> None:
        """Forget them: they are in the database."""
        self._counts.clear()

    def move(self, app_pk: int, session: Session) -> None:
        """Count a session."""
        counts = self._counts.setdefault(app_pk, [0, 0])
        counts[0] += session.is_active
        counts[1] += 1

    def rows(self) -> list[tuple[int, int, int]]:
        """ACTIVE sessions, all sessions, app_pk."""
        return [(active, all_, pk) for pk, (active, all_) in sorted(self._counts.items())]


def merged_sums(
    streams: Iterable[Sequence[tuple[str, Sums]]], limit: int
) -> Sequence[tuple[str, Sums]]:
    """The first users of several lists of sums, with their sums added up.

    Args:
        streams: Lists in the order of the users' bytes, each cut after `limit`.
        limit: The most users.
    """
    users: dict[str, Sums] = {}
    for stream in streams:
        for user, sums in stream:
            if user in users:
                users[user].add(sums)
            else:
                users[user] = sums
    for sums in users.values():
        sums.trim(SUM_COUNTERS_MOST)
    # Texts of Python compare by code points, and so does their UTF-8 by bytes.
    return sorted(users.items(), key=lambda item: item[0])[:limit]
