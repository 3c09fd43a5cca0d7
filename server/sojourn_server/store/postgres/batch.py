"""Group commit, the half that talks to the database: one batch, one app, one commit.

The app's row is locked first. From then on nobody else writes the app, so units run one
after the other on what this server knows and finds out, and everything that they write
goes to the database at the end, with the commit, in one round trip.

What the units of a batch will need is found out before: each is run dry, on guesses, up
to where it cannot go on, and what all of them lacked is fetched together. The first time
that happens beside the lock itself; so a usual batch makes two round trips, whatever its
size.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

import psycopg

from sojourn_server.domain.clock import Clock, Nanos, WallClock
from sojourn_server.store.base import Precede, SessionRow
from sojourn_server.store.postgres.connection import Link, Statement
from sojourn_server.store.postgres.errors import Lost, as_failure, is_transient
from sojourn_server.store.postgres.facts import (
    ACTIVE,
    GUESSES,
    PK,
    ROWS,
    AppEntry,
    Ask,
    Facts,
    Need,
    entry_of,
    fetches,
)
from sojourn_server.store.postgres.memory import Memory
from sojourn_server.store.postgres.pending import Pending
from sojourn_server.store.postgres.queries import QUERIES
from sojourn_server.store.postgres.unit_tx import MakeApp
from sojourn_server.store.postgres.write_tx import PgTx
from sojourn_server.store.stats import Rows
from sojourn_server.store.tallies import Tallies
from sojourn_server.store.work import PRECEDING, Work

Unit = Callable[[PgTx], Awaitable[Any]]

_BUDGET: Final[Nanos] = 50_000_000
"""After so long a batch is committed, so that one large unit delays no queue behind it."""

_TURN: Final[Nanos] = 4_000_000
"""After so long others on the event loop have their turn."""

_LOOKS_AHEAD: Final = 8
"""How often a batch looks ahead for what later units will need."""

_WALL_CLOCK: Final = WallClock()
_ATTEMPTS: Final = 5
"""How often a batch is begun anew: for an app's row, with care, or after a deadlock."""


class _Careful(Exception):
    """The database refused what several units wrote together: they must run one by one."""


class Batch:
    """Units of one app, carried out on one connection.

    Args:
        link: The connection, outside of any transaction.
        memory: Sessions that are remembered from earlier commits.
        clock: What `now` is; None: the database's clock.
        app: The app.
        works: The units, in their order.
    """

    def __init__(
        self, link: Link, memory: Memory, clock: Clock | None, app: str, works: Sequence[Work]
    ) -> None:
        self._link = link
        self._memory = memory
        self._clock = clock
        self._app = app
        self._works = works
        self.committing = False
        """Whether a commit was sent: what became of it is unknown until it is answered."""

    def _begin(self) -> None:
        """Forget what an attempt before this one has found and done."""
        self._facts: Facts = {}
        self._pending = Pending()
        self._entry: AppEntry | None = None
        self._now: Nanos = 0
        self._wrote = False
        self._rows: dict[int, SessionRow | None] = {}
        self._queued: list[Statement] = []
        self._settled: set[int] = set()
        self._looks = 0
        self.logged = False
        """Whether the app's log grows."""
        self.added = Rows()
        self.removed = Rows()

    async def commit(self) -> int:
        """Carry the units out and commit them.

        Returns:
            How many of them, from the first, are done; the rest must come again.

        Raises:
            psycopg.Error, Lost: The database failed, and all of them with it.
        """
        careful = make = False
        for _ in range(_ATTEMPTS):
            try:
                return await self._attempt(careful=careful, make=make)
            except MakeApp:
                make = True
            except _Careful:
                careful = True
            except psycopg.Error as error:
                if self._link.broken or not is_transient(error):
                    raise
            self.committing = False
            await self._link.run([(QUERIES.rollback, ())])
        raise Lost("the database keeps refusing the commit")

    async def _attempt(self, *, careful: bool, make: bool) -> int:
        self._begin()
        await self._lock(make=make)
        turn = time.monotonic_ns()
        ends = turn + _BUDGET
        done = 0
        for work in self._works:
            if time.monotonic_ns() > turn + _TURN:
                await asyncio.sleep(0)
                turn = time.monotonic_ns()
            work.reset()
            try:
                await self._carry_out(work, work.unit, 0, careful=careful)
            except (_Careful, psycopg.Error, Lost):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a unit raises is its caller's
                work.error = error
            done += 1
            if time.monotonic_ns() > ends:
                break
        await self._end(careful=careful)
        return done

    async def _lock(self, *, make: bool) -> None:
        """Begin, and take the app's row with all that the units are likely to need."""
        known = self._memory.entry(self._app)
        needs: list[Need] = []
        if known is not None:
            self._now = (self._clock or _WALL_CLOCK).now()
            needs = self._look_ahead(self._works, known)
        asked = fetches(needs)
        statements = self._link.beginning(QUERIES.begin_unit)
        if make:
            statements.append((QUERIES.app_make, (self._app,)))
        place = len(statements)
        statements.append((QUERIES.app_lock, (self._app,)))
        answers = await self._link.run([*statements, *(each.statement for each in asked)])
        ((*columns, now),) = answers[place]
        self._entry = entry_of(tuple(columns))
        self._now = now if self._clock is None else self._clock.now()
        for fetch, rows in zip(asked, answers[place + 1 :], strict=True):
            fetch.keep(rows, self._facts)
        if self._entry is not None:
            if self._entry.epoch != self._memory.epoch(self._app):
                # Another server has written: what was remembered, and guessed on, is old.
                self._settled.clear()
            self._memory.learn(self._app, self._entry.pk, self._entry.epoch, {})

    # --- one unit ---

    async def _carry_out(self, work: Work, unit: Unit, depth: int, *, careful: bool) -> None:
        """Run a unit, after those that it asks for first."""
        for _ in range(PRECEDING):
            tx = self._tx(work, careful=careful)
            try:
                value = await self._drive(tx, unit(tx), work)
                revision = await self._drive(tx, tx.finish(), work)
            except Precede as precede:
                self._undo(tx)
                if depth >= PRECEDING:
                    break
                await self._carry_out(work, precede.unit, depth + 1, careful=careful)
            except _Careful:
                raise
            except psycopg.Error as error:
                # The unit's own fault, for it runs alone: an error of the database is `Lost`.
                if not careful or self._link.broken or as_failure(error) is not None:
                    raise
                self._undo(tx)
                raise RuntimeError(f"the database refuses the unit with {error.sqlstate}") from None
            except Exception:
                self._undo(tx)
                raise
            else:
                self._keep(tx)
                work.value, work.revision = value, revision
                work.changed, work.erased, work.left_over = tx.logged > 0, tx.erased, tx.left_over
                return
        raise RuntimeError("units keep asking for another one first")

    def _tx(self, work: Work, *, careful: bool = False) -> PgTx:
        return PgTx(
            self._facts,
            self._now,
            self._memory,
            self._entry,
            self._app,
            work.actor,
            self._pending.moved,
            careful=careful,
        )

    def _undo(self, tx: PgTx) -> None:
        """Forget a unit that failed; what of it is in the database is taken back."""
        if tx.flushed:
            self._queued += [(QUERIES.undo, ()), (QUERIES.unmark, ())]

    def _keep(self, tx: PgTx) -> None:
        """A unit is done: what it has written is what the next one sees."""
        if tx.flushed:
            self._queued.append((QUERIES.unmark, ()))
        if tx.own is not None:
            self._entry = tx.own
        self._wrote |= tx.wrote
        self.logged |= tx.logged > 0
        stale = tx.stale()
        if stale:
            for need in [n for n in self._facts if n[0] == ROWS and n[2] in stale]:
                del self._facts[need]
        self._facts.update(tx.facts)
        self._pending.add(tx.pending)
        self._rows.update(tx.written)
        self.added.add(tx.added)
        self.removed.add(tx.removed)

    async def _drive(self, tx: PgTx, unit: Awaitable[Any], work: Work) -> Any:
        """Run a unit to its end, and see to what it asks for."""
        steps = unit.__await__()
        while True:
            try:
                question = next(steps)
            except StopIteration as end:
                return end.value
            except MakeApp:
                raise
            except BaseException:
                if tx.unsure and not tx.careful:
                    # It may have failed only because it was not told that a key is taken.
                    raise _Careful from None
                raise
            if not isinstance(question, Ask):
                steps.close()
                raise RuntimeError("a unit must wait for nothing but its transaction")
            try:
                await self._supply(tx, question, work)
            except BaseException:
                steps.close()
                raise

    async def _supply(self, tx: PgTx, question: Ask, work: Work) -> None:
        """Find out what a unit needs, and what those after it will."""
        needs = list(question.needs)
        if question.flush or self._must_flush(needs):
            self._flush(tx)
        elif not tx.flushed and self._looks < _LOOKS_AHEAD and self._entry is not None:
            self._looks += 1
            later = self._works[self._works.index(work) + 1 :]
            ahead = self._look_ahead(later, self._entry)
            # A query of a later unit must wait for what those before it have written.
            needs += [need for need in ahead if not self._must_flush([need])]
        # What is found behind a mark may be the unit's own, and goes when it goes.
        await self._fetch(needs, tx.facts if tx.flushed else self._facts, careful=tx.careful)

    def _must_flush(self, needs: Iterable[Need]) -> bool:
        """Whether units before have written what a query would have to see."""
        dirty = self._pending.dirty
        return any(need[0] == ROWS and need[2] in dirty for need in needs)

    def _flush(self, tx: PgTx) -> None:
        """Bring everything that is written into the database, a unit's own behind a mark."""
        assert self._entry is not None
        self._queued += self._pending.statements(self._entry.pk)
        _count_flushed(self._pending.moved, self._facts)
        self._pending.clear()
        if not tx.flushed and (tx.pending or tx.careful):
            self._queued.append((QUERIES.mark, ()))
            tx.flushed = True
        if tx.flushed:
            self._queued += tx.pending.statements(self._entry.pk)
            _count_flushed(tx.pending.moved, tx.facts, self._facts)
            tx.pending.clear()

    async def _fetch(self, needs: Iterable[Need], facts: Facts, *, careful: bool) -> None:
        asked = fetches(needs)
        statements = [*self._queued, *(each.statement for each in asked)]
        if not statements:
            return
        before = len(self._queued)
        self._queued = []
        answers = await self._run(statements, careful=careful)
        for fetch, rows in zip(asked, answers[before:], strict=True):
            fetch.keep(rows, facts)

    async def _run(self, statements: Sequence[Statement], *, careful: bool) -> list[list[Any]]:
        try:
            # What the database refuses on the way may be taken for prepared when it is not.
            return await self._link.run(statements, prepare=not careful)
        except psycopg.Error as error:
            known = self._link.broken or as_failure(error) is not None or is_transient(error)
            if careful or known:
                raise
            raise _Careful from None

    # --- looking ahead ---

    def _look_ahead(self, works: Iterable[Work], entry: AppEntry) -> list[Need]:
        """What units will need, as far as they can be run on guesses."""
        needs: list[Need] = []
        for work in works:
            if id(work) not in self._settled and self._run_dry(work, work.unit, entry, needs, 0):
                self._settled.add(id(work))
        return needs

    def _run_dry(
        self, work: Work, unit: Unit, entry: AppEntry, needs: list[Need], depth: int
    ) -> bool:
        """Run a unit as far as it goes; whether it came to its end."""
        moved = self._pending.moved
        tx = PgTx(self._facts, self._now, self._memory, entry, self._app, work.actor, moved)
        steps = unit(tx).__await__()
        try:
            while True:
                question = next(steps)
                if not isinstance(question, Ask) or question.flush:
                    return True
                missing = [need for need in question.needs if need[0] not in GUESSES]
                needs += question.needs
                if missing:
                    return False
                for need in question.needs:
                    tx.facts[need] = GUESSES[need[0]]
        except StopIteration:
            return True
        except Precede as precede:
            return depth > 0 or self._run_dry(work, precede.unit, entry, needs, depth + 1)
        except BaseException:  # noqa: BLE001 - on guesses anything may fail; it counts when it runs
            return True
        finally:
            steps.close()

    # --- the end ---

    async def _end(self, *, careful: bool) -> None:
        """Commit what was written, and tell the memory."""
        entry = self._entry
        if entry is None or not self._wrote:
            # Nothing to keep; the lock goes with the transaction.
            await self._link.run([(QUERIES.rollback, ())])
            if entry is not None:
                self._memory.remember(self._app, entry)
                self._memory.learn(self._app, entry.pk, entry.epoch, self._found(entry.pk))
            return
        statements = [
            *self._queued,
            *self._pending.statements(entry.pk),
            (
                QUERIES.app_set,
                (
                    entry.head,
                    entry.created,
                    entry.contents,
                    entry.active,
                    entry.sessions,
                    entry.record,
                    entry.pk,
                ),
            ),
            (QUERIES.commit, ()),
        ]
        self.committing = True
        await self._run(statements, careful=careful)
        entry.epoch += 1
        rows = {**self._found(entry.pk), **self._rows}
        self._memory.publish(self._app, entry.pk, entry.epoch, rows)
        self._memory.remember(self._app, entry)

    def _found(self, app_pk: int) -> dict[int, SessionRow]:
        """The sessions of the app that are known."""
        known = self._facts.items()
        return {need[2]: row for need, row in known if need[:2] == (PK, app_pk) and row}


def _count_flushed(moved: Tallies, facts: Facts, *below: Facts) -> None:
    """Know of ACTIVE sessions what the database will count once what was moved is there."""
    for app_pk, user, more in moved.active_users():
        need = (ACTIVE, app_pk, user)
        for known in (facts, *below):
            if need in known:
                facts[need] = known[need] + more
                break
