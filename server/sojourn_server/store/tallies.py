"""What a commit moves in the tallies: one sum for each user and status, of whatever number
of writes.

A tally is what the sessions of a user (or of all users of the app) that have one status
add up to. Writes add differences; the store brings them to its rows once for each commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec

from sojourn_server.domain.model import Session, Status
from sojourn_server.domain.sums import Sums
from sojourn_server.store.outcomes import StoreUnusable
from sojourn_server.store.rows import decode_session

TallyKey = tuple[int, int, Status, str]
"""app_pk, of_user, status, user: of_user 0 with no user stands for all users of the app."""

encode_sums: Final = msgspec.json.Encoder().encode
"""As stored: JSON, for its numbers have no end."""
decode_sums: Final = msgspec.json.Decoder(Sums).decode


class Tallies:
    """Differences that wait to be added to the tallies."""

    __slots__ = ("_moved",)

    def __init__(self) -> None:
        self._moved: dict[tuple[int, Status, str], Sums] = {}

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
        if old is not None and new is not None and _key_of(old) == _key_of(new):
            if old.message_count != new.message_count or old.metrics != new.metrics:
                sums = self._of(app_pk, new)
                sums.shift(old, -1)
                sums.shift(new, 1)
            return
        if old is not None:
            self._of(app_pk, old).count(old, -1)
        if new is not None:
            self._of(app_pk, new).count(new)

    def _of(self, app_pk: int, session: Session) -> Sums:
        key = (app_pk, session.status, session.user)
        sums = self._moved.get(key)
        if sums is None:
            sums = self._moved[key] = Sums()
        return sums

    def add(self, later: Tallies) -> None:
        """Take over what was moved after these."""
        for key, sums in later._moved.items():
            mine = self._moved.get(key)
            if mine is None:
                mine = self._moved[key] = Sums()
            mine.add(sums)

    def active(self, app_pk: int, user: str) -> int:
        """By how many the ACTIVE sessions of a user have grown."""
        sums = self._moved.get((app_pk, Status.ACTIVE, user))
        return 0 if sums is None else sums.sessions

    def active_users(self) -> Iterator[tuple[int, str, int]]:
        """Each app_pk and user with by how many their ACTIVE sessions have grown."""
        for (app_pk, status, user), sums in self._moved.items():
            if status is Status.ACTIVE and sums.sessions:
                yield app_pk, user, sums.sessions

    def rows(self) -> list[tuple[TallyKey, Sums]]:
        """What to add to which row, users' and apps', in the order of the keys."""
        apps: defaultdict[TallyKey, Sums] = defaultdict(Sums)
        found: list[tuple[TallyKey, Sums]] = []
        for (app_pk, status, user), sums in self._moved.items():
            apps[app_pk, 0, status, ""].add(sums)
            found.append(((app_pk, 1, status, user), sums))
        found += apps.items()
        found.sort(key=_key)
        return [(key, sums) for key, sums in found if sums != _NOTHING]


_NOTHING: Final = Sums()


def _key_of(session: Session) -> tuple[Status, str]:
    return session.status, session.user


def _key(row: tuple[TallyKey, Sums]) -> TallyKey:
    return row[0]


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
    # Texts of Python compare by code points, and so does their UTF-8 by bytes.
    return sorted(users.items(), key=lambda item: item[0])[:limit]
