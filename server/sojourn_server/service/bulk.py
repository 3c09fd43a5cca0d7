"""EndSessions and DeleteSessions: all sessions that a filter selects.

Which ones are meant is fixed at the start: those that were created before, and of these
each that matches when its turn comes. Turns come newest first, so children come before
their parents, and the newest, which may be kept, before all others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from sojourn_server.domain import filter as filters
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.filter import SessionFilter
from sojourn_server.domain.limits import SCAN_ROWS
from sojourn_server.domain.model import EndNote, Session, Status
from sojourn_server.service import state, tree
from sojourn_server.service.answers import Answer, Call
from sojourn_server.service.operations import STEP_ROWS, Begun, Done, Operations, Task
from sojourn_server.service.taking import (
    FIRST_KEYS,
    Budget,
    Deleting,
    Ending,
    Key,
    Protected,
    Taking,
    below,
    must_stay,
    take_below,
)
from sojourn_server.service.units import Units
from sojourn_server.service.work import Work, is_overdue
from sojourn_server.store.base import Candidates, Position, ReadTx, SessionRow

END: Final = "EndSessions"
DELETE: Final = "DeleteSessions"


class Which(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions a call means."""

    user: str | None = None
    """None: of all users."""
    filter: SessionFilter = filters.EVERYTHING
    all: bool = False
    """Whether all of them are meant where nothing is said."""
    keep_newest: int = 0
    dry_run: bool = False


class BulkOutcome(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """EndSessions and DeleteSessions."""

    count: int = 0
    keys: tuple[Key, ...] = ()


class Progress(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where such an operation has come to."""

    user: str | None
    filter: SessionFilter
    now: Nanos
    """What time it is for the filter."""
    top: int
    """Only sessions created so early are meant."""
    at: int
    """Those before this creation order are still to come."""
    keep: int
    """How many more are to be kept."""
    kept_from: int = 0
    """The oldest that is kept; 0: none is."""
    status: Status = Status.COMPLETED
    count: int = 0
    keys: tuple[Key, ...] = ()

    def matcher(self, taking: Taking) -> Callable[[Session], bool]:
        """Says whether a session is meant, as it is now."""
        matches = filters.matcher(self.filter, self.now)
        return lambda session: taking.meant(session) and matches(session)

    def query(self, app: str, taking: Taking, at: int, limit: int) -> Candidates:
        """The candidates before a creation order, the newest first."""
        return Candidates(
            app=app,
            user=self.user,
            status=taking.status_hint or filters.status_hint(self.filter),
            label=filters.label_hint(self.filter),
            parent_uid=self.filter.parent_uid or None,
            descending=True,
            after=Position(at, at),
            limit=limit,
        )


class Bulk:
    """The use cases of EndSessions and DeleteSessions.

    Args:
        units: Where.
        operations: Brings them to their end.
    """

    def __init__(self, units: Units, operations: Operations) -> None:
        self._units = units
        self._operations = operations
        operations.register(END, _end_step)
        operations.register(DELETE, _delete_step)

    async def end(
        self, call: Call, app: str, which: Which, status: Status, reason: str
    ) -> Answer[BulkOutcome]:
        """EndSessions."""
        note = state.encode_note(EndNote(reason=reason))
        return await self._run(call, app, END, which, Ending(status, note))

    async def delete(self, call: Call, app: str, which: Which) -> Answer[BulkOutcome]:
        """DeleteSessions."""
        return await self._run(call, app, DELETE, which, Deleting())

    async def _run(
        self, call: Call, app: str, kind: str, which: Which, taking: Taking
    ) -> Answer[BulkOutcome]:
        if not (which.all or which.user is not None or filters.predicates(which.filter)):
            raise invalid_field("filter", "must not be empty unless user or all is set")
        if which.dry_run:
            return await self._dry_run(call, app, which, taking)
        status = taking.status if isinstance(taking, Ending) else Status.COMPLETED

        async def begin(work: Work) -> Begun | Done:
            if await work.tx.app(app) is None:
                return Done(msgspec.msgpack.encode(BulkOutcome()))
            progress = await _begin(work.tx, app, which, status)
            note = taking.note if isinstance(taking, Ending) else b""
            content = await work.tx.put_content(note)
            return Begun(msgspec.msgpack.encode(progress), (content,) if content else ())

        erases = isinstance(taking, Deleting)
        answer = await self._operations.run(call, app, kind, BulkOutcome, begin, erases=erases)
        # A repeat may come after grants were taken back.
        keys = tuple(key for key in answer.outcome.keys if call.users.covers(key[0]))
        return msgspec.structs.replace(
            answer, outcome=msgspec.structs.replace(answer.outcome, keys=keys)
        )

    async def _dry_run(
        self, call: Call, app: str, which: Which, taking: Taking
    ) -> Answer[BulkOutcome]:
        """What would happen, found out in short reads."""

        async def begin(tx: ReadTx) -> tuple[Progress, int, Nanos]:
            progress = await _begin(tx, app, which, Status.COMPLETED)
            return progress, await tx.head(app), tx.now

        progress, head, now = await self._units.read(begin)
        rehearsal = _Rehearsal(call, app, progress, taking)
        while not rehearsal.done:
            await self._units.read(rehearsal.look)
        outcome = BulkOutcome(count=rehearsal.count, keys=tuple(rehearsal.keys))
        return Answer(outcome=outcome, revision=head, scrubbed=self._units.store.scrubs, now=now)


async def _begin(tx: ReadTx, app: str, which: Which, status: Status) -> Progress:
    newest = await tx.candidates(Candidates(app=app, descending=True, limit=1))
    top = newest[0].create_order if newest else 0
    return Progress(
        user=which.user,
        filter=which.filter,
        now=tx.now,
        top=top,
        at=top + 1,
        keep=which.keep_newest,
        status=status,
    )


async def _end_step(work: Work, task: Task) -> bytes | Done:
    note = b""
    for content_id in task.content:
        note = await work.tx.content(content_id)
    progress = msgspec.msgpack.decode(task.order.state, type=Progress)
    return await _step(work, task, progress, Ending(progress.status, note))


async def _delete_step(work: Work, task: Task) -> bytes | Done:
    work.tx.scrub_later()
    progress = msgspec.msgpack.decode(task.order.state, type=Progress)
    return await _step(work, task, progress, Deleting())


async def _step(work: Work, task: Task, progress: Progress, taking: Taking) -> bytes | Done:
    step = _Step(work, task, progress, taking)
    done = await step.run()
    budget = step.budget
    progress = msgspec.structs.replace(
        progress,
        at=step.at,
        keep=step.keep,
        kept_from=step.kept_from,
        count=progress.count + budget.told,
        keys=(*progress.keys, *budget.keys)[:FIRST_KEYS],
    )
    if done:
        return Done(msgspec.msgpack.encode(BulkOutcome(count=progress.count, keys=progress.keys)))
    return msgspec.msgpack.encode(progress)


class _Step:
    """One step: some sessions, from where the one before has come to."""

    def __init__(self, work: Work, task: Task, progress: Progress, taking: Taking) -> None:
        self._work = work
        self._app = task.app
        self._users = task.order.users
        self._progress = progress
        self._taking = taking
        self._meant = progress.matcher(taking)
        self.budget = Budget(work, self._users)
        self.at = progress.at
        self.keep = progress.keep
        self.kept_from = progress.kept_from

    async def run(self) -> bool:
        """Go on until the budget is spent; whether nothing is left."""
        while not self.budget.spent and not self.budget.is_late:
            query = self._progress.query(self._app, self._taking, self.at, STEP_ROWS)
            rows = await self._work.tx.candidates(query)
            if not await self._take_all(rows):
                return False
            if len(rows) < STEP_ROWS:
                return True
        return False

    async def _take_all(self, rows: Sequence[SessionRow]) -> bool:
        """Deal with candidates; False: the budget is spent, or time has to be let in first."""
        meant = [row for row in rows if self._meant(row.session)]
        overdue = [row for row in meant if is_overdue(row.session, self._work.now)]
        if overdue:
            if not self.budget.count:  # else what is done stays: it comes in the next step
                for row in overdue:
                    await tree.settle(self._work, self._app, row.session.uid)
            return False
        uids = [row.session.uid for row in meant]
        parents = await self._work.tx.with_children(self._app, uids)
        wanted = set(uids)
        for row in rows:
            if row.session.uid in wanted and not await self._take(row, parents):
                return False
            self.at = row.create_order
        return True

    async def _take(self, row: SessionRow, parents: frozenset[str]) -> bool:
        """Deal with one that is meant; False: it is for the next step."""
        if self.keep:
            self.keep -= 1
            self.kept_from = row.create_order
            return True
        if self.budget.spent:
            return False
        if row.session.uid in parents:
            kept = (self.kept_from, self._progress.top) if self.kept_from else None
            protected = Protected(self._users, kept)
            if await must_stay(self._work.tx, row, self._taking, protected, self._meant):
                return True
            if not await take_below(self._work, row, self._taking, self.budget):
                return False
        await self._taking.take(self._work, row, self.budget)
        return True


class _Rehearsal:
    """A walk over the same sessions that changes none."""

    def __init__(self, call: Call, app: str, progress: Progress, taking: Taking) -> None:
        self._users = call.users
        self._app = app
        self._progress = progress
        self._taking = taking
        self._meant = progress.matcher(taking)
        self._at = progress.at
        self._keep = progress.keep
        self._kept_from = 0
        self.done = False
        self.count = 0
        self.keys: list[Key] = []

    async def look(self, tx: ReadTx) -> None:
        """Look at some more."""
        query = self._progress.query(self._app, self._taking, self._at, SCAN_ROWS // 4)
        rows = await tx.candidates(query)
        meant = [row for row in rows if self._meant(row.session)]
        parents = await tx.with_children(self._app, [row.session.uid for row in meant])
        for row in meant:
            if self._keep:
                self._keep -= 1
                self._kept_from = row.create_order
                continue
            if row.session.uid in parents and await self._below(tx, row):
                continue
            self._count(row)
        self.done = len(rows) < SCAN_ROWS // 4
        if rows:
            self._at = rows[-1].create_order

    async def _below(self, tx: ReadTx, row: SessionRow) -> bool:
        """Count what would go with a session; whether it would stay."""
        kept = (self._kept_from, self._progress.top) if self._kept_from else None
        protected = Protected(self._users, kept)
        if await must_stay(tx, row, self._taking, protected, self._meant):
            return True
        known: set[str] = set()
        for each in await below(tx, row, self._taking):
            # What was meant by itself was counted with all below it: it is newer.
            counted = each.session.parent_uid in known or (
                each.create_order <= self._progress.top and self._meant(each.session)
            )
            if counted:
                known.add(each.session.uid)
            else:
                self._count(each)
        return False

    def _count(self, row: SessionRow) -> None:
        if not self._users.covers(row.session.user):
            return
        self.count += 1
        if len(self.keys) < FIRST_KEYS:
            self.keys.append((row.session.user, row.session.session_id))
