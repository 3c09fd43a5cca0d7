"""Sessions that were written or read lately, in memory: point reads without a thread.

Most reads ask for one session that somebody has just written. The hop to a reader's
thread and back costs far more than the query itself, so such a read is answered on the
event loop, from what the last commit left behind.

It must never show less than a read from the file has shown. A reader may see a commit
before the loop has heard of it; so from the moment a read from the file is answered
while a commit is under way, nothing is answered from here until that commit has been
published. Everything below happens on the event loop, so counting is enough.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from sojourn_server.domain.clock import Nanos
from sojourn_server.store.base import SessionRow
from sojourn_server.store.sqlite.read_tx import SqliteReadTx
from sojourn_server.store.sqlite.snapshot import AppEntry
from sojourn_server.store.sqlite.units import drive

T = TypeVar("T")

MOST: Final = 4_096
"""How many sessions are kept: some 10 MB at the most."""

Key = tuple[str, str, str]
"""App, user, session_id."""


class Cold(Exception):
    """A read wants something that is not kept here."""


class Published(NamedTuple):
    """What a commit has changed."""

    rows: Mapping[Key, SessionRow | None]
    """Sessions as it left them; None for one that it removed."""
    heads: Mapping[str, int]
    """The newest revision of each app whose row it has written."""
    logged: Set[str] = frozenset()
    """The apps whose log has grown."""


def key_of(row: SessionRow) -> Key:
    """What a session is found by."""
    session = row.session
    return session.app, session.user, session.session_id


class Hot:
    """The sessions that are kept, and whether they may be shown.

    Args:
        most: How many to keep; the one used longest ago makes room.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rows: OrderedDict[Key, SessionRow] = OrderedDict()
        self._keys: dict[str, Key] = {}
        self._heads: dict[str, int] = {}
        self._begun = 0
        self._published = 0
        self._seen = 0
        """The newest commit that a read from the file may have shown."""

    def __len__(self) -> int:
        return len(self._rows)

    # --- what the writer tells ---

    def commit_begins(self) -> None:
        """A commit is handed to the writer's thread."""
        self._begun += 1

    def commit_ends(self, published: Published | None) -> None:
        """It is done; None: it failed, and nobody knows what is in the file."""
        self._published = self._begun
        if published is None:
            self._rows.clear()
            self._keys.clear()
            self._heads.clear()
            return
        self._heads.update(published.heads)
        for key, row in published.rows.items():
            self._keep(key, row)

    # --- what the readers tell ---

    def read_begins(self) -> int:
        """Reads are handed to a thread; the answer is for `read_ends`."""
        return self._begun if self._published == self._begun else -1

    def read_ends(
        self, stamp: int, rows: Mapping[Key, SessionRow], heads: Mapping[str, int]
    ) -> None:
        """They are done: what they found is kept if no commit has come between."""
        self._seen = self._begun
        if stamp == self._begun == self._published:
            self._heads.update(heads)
            for key, row in rows.items():
                self._keep(key, row)

    def ask(self, query: Callable[[SqliteReadTx], Awaitable[T]], now: Nanos) -> T:
        """Answer a read from memory.

        Raises:
            Cold: It cannot be.
            Exception: Whatever the read raised.
        """
        if self._seen > self._published:
            raise Cold
        return drive(query(_HotTx(self, now)))

    # --- what a read asks ---

    def head(self, app: str) -> int:
        """The newest revision of an app's log."""
        try:
            return self._heads[app]
        except KeyError:
            raise Cold from None

    def by_key(self, key: Key) -> SessionRow:
        """The session of a key."""
        try:
            row = self._rows[key]
        except KeyError:
            raise Cold from None
        self._rows.move_to_end(key)
        return row

    def by_uid(self, uid: str) -> SessionRow:
        """The session of a uid."""
        key = self._keys.get(uid)
        if key is None:
            raise Cold
        return self.by_key(key)

    def _keep(self, key: Key, row: SessionRow | None) -> None:
        old = self._rows.pop(key, None)
        if old is not None:
            self._keys.pop(old.session.uid, None)
        if row is None:
            return
        self._rows[key] = row
        self._keys[row.session.uid] = key
        if len(self._rows) > self._most:
            _, oldest = self._rows.popitem(last=False)
            self._keys.pop(oldest.session.uid, None)


class _HotTx(SqliteReadTx):
    """A read transaction over what is kept. Whatever would need the file is `Cold`."""

    def __init__(self, hot: Hot, now: Nanos) -> None:
        self._hot = hot
        self._now = now
        self.failure = None

    def _run(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> sqlite3.Cursor:
        self._refuse(sql, parameters)

    def _entry(self, name: str) -> AppEntry | None:
        self._refuse(name)

    def _refuse(self, *_: object) -> NoReturn:
        raise Cold

    async def head(self, app: str) -> int:
        """See `ReadTx`."""
        return self._hot.head(app)

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """See `ReadTx`."""
        return self._hot.by_key((app, user, session_id))

    async def session_by_uid(self, app: str, uid: str) -> SessionRow | None:
        """See `ReadTx`."""
        row = self._hot.by_uid(uid)
        return row if row.session.app == app else None


class FileTx(SqliteReadTx):
    """A read transaction over the file that remembers the sessions it found."""

    def __init__(self, connection: sqlite3.Connection, now: Nanos) -> None:
        super().__init__(connection, now, {})
        self.found: dict[Key, SessionRow] = {}

    @property
    def heads(self) -> dict[str, int]:
        """The heads that it has read."""
        return {name: entry.head for name, entry in self._apps.items() if entry is not None}

    async def session_by_key(self, app: str, user: str, session_id: str) -> SessionRow | None:
        """See `ReadTx`."""
        row = await super().session_by_key(app, user, session_id)
        return self._remember(row)

    async def session_by_uid(self, app: str, uid: str) -> SessionRow | None:
        """See `ReadTx`."""
        row = await super().session_by_uid(app, uid)
        return self._remember(row)

    def _remember(self, row: SessionRow | None) -> SessionRow | None:
        if row is not None:
            self.found[key_of(row)] = row
        return row
