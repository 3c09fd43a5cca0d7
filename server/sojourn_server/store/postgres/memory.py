"""Sessions that were written or read lately, in memory.

Another server may have written since. So nothing here is believed by itself: whoever
asks has read the app's epoch from the database, in the same state that the answer is to
be of, and gets a session only if it is the one of that epoch.

A session is kept with the epoch from which on it is known to be so; it is until the
epoch that the app's memory stands at, for this server hears of every epoch's writes by
having made them. An epoch made by another server empties the memory of the app.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from sojourn_server.store.base import SessionRow
from sojourn_server.store.postgres.facts import AppEntry

MOST_APPS: Final = 20_000
"""Of how many apps anything is kept."""
MOST_ROWS: Final = 4_096
"""How many sessions are kept of one app, and eight times that of all: some 80 MB at most."""

Name = tuple[str, ...]
"""What a session is found by within its app: user and session_id, or the uid."""


class _Kept(NamedTuple):
    since: int
    row: SessionRow


class _AppMemory:
    """What is kept of one app."""

    __slots__ = ("entry", "epoch", "names", "pk", "rows")

    def __init__(self, pk: int) -> None:
        self.pk = pk
        self.epoch = -1
        self.entry: AppEntry | None = None
        self.rows: OrderedDict[int, _Kept] = OrderedDict()
        self.names: dict[Name, int] = {}

    def clear(self) -> int:
        """Forget all sessions; how many there were."""
        count = len(self.rows)
        self.rows.clear()
        self.names.clear()
        return count

    def drop(self, pk: int) -> int:
        """Forget a session; how many there were."""
        kept = self.rows.pop(pk, None)
        if kept is None:
            return 0
        for name in _names(kept.row):
            if self.names.get(name) == pk:
                del self.names[name]
        return 1


def _names(row: SessionRow) -> tuple[Name, Name]:
    session = row.session
    return (session.user, session.session_id), (session.uid,)


class Memory:
    """What is kept of all apps; the one used longest ago makes room.

    Args:
        most_rows: How many sessions of one app.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self._most_rows = most_rows
        self._apps: OrderedDict[str, _AppMemory] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def number(self, app: str) -> int | None:
        """The app's number: it never changes, so this may be believed."""
        known = self._apps.get(app)
        return None if known is None else known.pk

    def epoch(self, app: str) -> int:
        """The epoch that the memory of an app stands at; -1 for none."""
        known = self._apps.get(app)
        return -1 if known is None else known.epoch

    def has(self, app: str, name: Name) -> bool:
        """Whether a session is kept, of whatever epoch."""
        known = self._apps.get(app)
        return known is not None and name in known.names

    def row(self, app: str, epoch: int, name: Name) -> SessionRow | None:
        """The session of a name as it is at an epoch; None when that is not known."""
        known = self._apps.get(app)
        if known is None or epoch > known.epoch:
            return None
        pk = known.names.get(name)
        if pk is None:
            return None
        kept = known.rows[pk]
        if kept.since > epoch:
            return None
        known.rows.move_to_end(pk)
        return kept.row

    def learn(
        self, app: str, app_pk: int, epoch: int, rows: Mapping[int, SessionRow | None]
    ) -> None:
        """Keep sessions that were read, as they are at an epoch."""
        known = self._app(app, app_pk)
        if epoch > known.epoch:
            self._count -= known.clear()
            known.epoch = epoch
        if epoch == known.epoch:
            self._put(known, epoch, rows)

    def publish(
        self, app: str, app_pk: int, epoch: int, rows: Mapping[int, SessionRow | None]
    ) -> None:
        """Keep sessions as a commit of this server has left them; None: it removed one.

        Args:
            app: The app's name.
            app_pk: Its number.
            epoch: The epoch that the commit has made.
            rows: The sessions that it has changed.
        """
        known = self._app(app, app_pk)
        if epoch == known.epoch + 1:
            known.epoch = epoch
            self._put(known, epoch, rows)
        else:
            self.learn(app, app_pk, epoch, rows)

    def remember(self, app: str, entry: AppEntry) -> None:
        """Keep an app's row as it was last: good enough to guess what units will need."""
        self._app(app, entry.pk).entry = entry

    def entry(self, app: str) -> AppEntry | None:
        """The app's row as it was last."""
        known = self._apps.get(app)
        return None if known is None else known.entry

    def forget(self) -> None:
        """Keep nothing: a connection broke, and behind the next may be another database.

        A standby that took over may have lost commits, and count its epochs anew.
        """
        for known in self._apps.values():
            known.clear()
            known.epoch = -1
        self._count = 0

    def _app(self, app: str, app_pk: int) -> _AppMemory:
        known = self._apps.get(app)
        if known is None:
            known = self._apps[app] = _AppMemory(app_pk)
        self._apps.move_to_end(app)
        while len(self._apps) > MOST_APPS or (
            self._count > 8 * self._most_rows and len(self._apps) > 1
        ):
            _, oldest = self._apps.popitem(last=False)
            self._count -= oldest.clear()
        return known

    def _put(self, known: _AppMemory, epoch: int, rows: Mapping[int, SessionRow | None]) -> None:
        for pk, row in rows.items():
            old = known.rows.get(pk)
            if old is not None and old.row is row:
                continue
            self._count -= known.drop(pk)
            if row is None:
                continue
            known.rows[pk] = _Kept(epoch, row)
            for name in _names(row):
                known.names[name] = pk
            self._count += 1
            if len(known.rows) > self._most_rows:
                self._count -= known.drop(next(iter(known.rows)))
