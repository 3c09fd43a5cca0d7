"""A unit's transaction as its driver sees it: what it knows, and what it has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import Session
from sojourn_server.store.base import ListedApp, RequestKey, RequestRecord, SessionRow
from sojourn_server.store.postgres.facts import (
    MISSING,
    REQUEST,
    REQUESTS,
    ROWS,
    AppEntry,
    Ask,
    Domain,
    Facts,
    Need,
    ask,
)
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.postgres.pending import Pending
from sojourn_server.store.postgres.read_tx import PgReadTx
from sojourn_server.store.postgres.snapshot import Parameters, of_requests
from sojourn_server.store.rows import Row, encode
from sojourn_server.store.stats import Rows
from sojourn_server.store.tallies import Tallies, grown


class MakeApp(BaseException):
    """The unit writes to an app that has no row: the batch must begin with making it.

    Nothing that a unit may catch.
    """


class UnitTx(PgReadTx):
    """One run of one unit: what it knows, and what it has written.

    Args:
        below: What is known beneath it: the database, and the units before.
        now: When the transaction began.
        memory: Sessions that are remembered from earlier commits.
        entry: The app's row, as the units before have left it; None: there is none.
        app: The app whose log the unit writes.
        actor: Who does it.
        moved: What the units before have moved in the tallies and is not in the database yet.
        careful: Whether each write goes to the database at once, to see that it can.
    """

    def __init__(
        self,
        below: Facts,
        now: Nanos,
        memory: Memory,
        entry: AppEntry | None,
        app: str,
        actor: str,
        moved: Tallies,
        *,
        careful: bool = False,
    ) -> None:
        super().__init__({}, now, memory)
        self._below = below
        self._before = entry
        self._name = app
        self._actor = actor
        self._moved_before = moved
        self._nonce = 0
        self._answer: int | None = None
        self._records: dict[int, tuple[Session, bytes]] = {}
        self._requests: dict[RequestKey, RequestRecord] = {}
        self._touched: set[Domain] = set()
        self.careful = careful
        self.facts = self._facts
        """What this unit knows and has written."""
        self.pending = Pending()
        """What it has written since the last flush."""
        self.written: dict[int, SessionRow | None] = {}
        """Sessions as it leaves them; None for one that it removed."""
        self.own: AppEntry | None = None
        """The app's row as it leaves it; None while unchanged."""
        self.logged = 0
        """How many changes are logged."""
        self.flushed = False
        """Whether some of it is in the database, behind a mark."""
        self.wrote = False
        """Whether it has written anything."""
        self.unsure = False
        """Whether it took a key for free without having looked for it."""
        self.erased = False
        """Whether it has erased anything."""
        self.left_over = False
        """Whether something to be erased is left for `purge`."""
        self.added = Rows()
        self.removed = Rows()

    # --- what the driver asks ---

    async def finish(self) -> int:
        """Write what had to wait for the revision, and answer the unit's revision."""
        revision = self._answer
        if revision is None:
            entry = self.own or self._before
            revision = 0 if entry is None else entry.head
        self.added.changes = self.logged
        self.added.requests = len(self._requests)
        for key, asked in self._requests.items():
            record = msgspec.structs.replace(asked, revision=revision)
            app_pk = self._own_row().pk
            self.pending.requests[key] = record
            self._facts[REQUEST, app_pk, key] = record
            self._touch(of_requests(record.session_pk), REQUESTS)
        if self.pending:
            await self._wrote()
        return revision

    def stale(self) -> set[Domain]:
        """What queries of others must not be believed any more."""
        return self._touched

    # --- how it knows ---

    def _look(self, need: Need) -> Any:
        value = self._facts.get(need, MISSING)
        if value is MISSING and (need[0] != ROWS or need[2] not in self._touched):
            return self._below.get(need, MISSING)
        return value

    async def _query(
        self, app_pk: int, domain: Domain, sql: str, parameters: Parameters
    ) -> Sequence[Row]:
        if domain in self.pending.dirty:
            given = parameters.items() if isinstance(parameters, dict) else parameters
            need = (ROWS, app_pk, domain, sql, tuple(given))
            await ask(Ask((need,), flush=True))
            rows: Sequence[Row] = self._facts[need]
            return rows
        return await super()._query(app_pk, domain, sql, parameters)

    async def _entry(self, name: str, beside: Need | None = None) -> AppEntry | None:
        if name == self._name:
            return self.own or self._before
        # Of other apps nothing is locked, and so nothing remembered: it is read as it is.
        return await super()._entry(name, beside)

    # --- how it writes ---

    def _own_row(self) -> AppEntry:
        """The app's row, to be changed."""
        if self.own is None:
            if self._before is None:
                raise MakeApp
            self.own = self._before.copy()
        self.wrote = True
        return self.own

    def _check_own(self, app: str) -> None:
        if app != self._name:
            raise ValueError("a unit writes its own app only")

    def _touch(self, *domains: Domain) -> None:
        self.pending.dirty.update(domains)
        self._touched.update(domains)
        for need in [need for need in self._facts if need[0] == ROWS and need[2] in domains]:
            del self._facts[need]

    async def _wrote(self) -> None:
        """A write is noted; a careful unit sees to it that it holds."""
        if self.careful:
            await ask(Ask((), flush=True))

    def _record(self, session: Session) -> bytes:
        """A session as stored. The row and the log share the bytes."""
        known = self._records.get(id(session))
        if known is None:
            known = self._records[id(session)] = (session, encode(session))
        return known[1]

    # --- counts and sums ---

    def _moves(self, old: Session | None, new: Session | None) -> None:
        """Count a write of a session: as it was, and as it is."""
        own = self._own_row()
        own.active += grown(old, new)
        own.sessions += int(new is not None) - int(old is not None)
        self.pending.moved.move(own.pk, old, new)

    async def user_active(self, app: str, user: str) -> int:
        """See `Counting`."""
        count = await super().user_active(app, user)
        entry = await self._entry(app)
        if entry is None:
            return count
        moved = (self._moved_before, self.pending.moved)
        return count + sum(each.active(entry.pk, user) for each in moved)

    async def listed_apps(self, after: str, limit: int) -> Sequence[ListedApp]:
        """See `Counting`. Its own app's row is not in the database yet."""
        listed = {each.app.app: each for each in await super().listed_apps(after, limit)}
        entry = self.own or self._before
        own = None if entry is None else entry.listed()
        if own is not None and self._name > after:
            listed[self._name] = own
        return [listed[name] for name in sorted(listed)][:limit]
