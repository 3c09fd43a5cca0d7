"""Ending and deleting sessions with what is below them, a bounded number in a unit.

A tree is taken down from its leaves, whatever its depth: a child is never without its
parent, and whoever stops in between leaves a smaller tree that is whole.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from sojourn_server.domain import lifecycle
from sojourn_server.domain.access import EVERY_USER, Users
from sojourn_server.domain.model import DeletedWhy, EndCause, Session, Status
from sojourn_server.service import tree
from sojourn_server.service.operations import STEP, STEP_ROWS
from sojourn_server.service.work import Work
from sojourn_server.store.base import Candidates, Position, ReadTx, SessionRow

FIRST_KEYS: Final = 100
"""How many keys an answer names."""
SURVEYED: Final = 2_000
"""How many descendants are looked at, where some may have to stay."""

Key = tuple[str, str]
"""User and session_id."""


class Budget:
    """What is left of a step: sessions and time.

    Args:
        work: The step's unit.
        users: Whose sessions the caller is told of.
    """

    def __init__(self, work: Work, users: Users = EVERY_USER) -> None:
        self._work = work
        self._users = users
        self._rows = STEP_ROWS
        self._ends = time.monotonic_ns() + STEP
        self.count = 0
        """How many sessions were taken."""
        self.told = 0
        """How many of them the caller is told of: another's may end with its owner."""
        self.keys: list[Key] = []
        """Which of these, as far as an answer names them."""
        self.messages = 0
        """How many messages went with them."""

    @property
    def spent(self) -> bool:
        """Whether the rest is for the next step."""
        return self._rows <= 0 or self._work.rows_left <= 0 or (self.count > 0 and self.is_late)

    @property
    def is_late(self) -> bool:
        """Whether the step has taken long enough."""
        return time.monotonic_ns() > self._ends

    def take(self, session: Session, messages: int = 0) -> None:
        """Count a session."""
        self._rows -= 1
        self.count += 1
        self.messages += messages
        if not self._users.covers(session.user):
            return
        self.told += 1
        if len(self.keys) < FIRST_KEYS:
            self.keys.append((session.user, session.session_id))


@dataclass(frozen=True)
class Ending:
    """Sessions are ended; what is ephemeral ends with its parent."""

    status: Status
    note: bytes
    """What each that was meant leaves behind, encoded."""
    status_hint: ClassVar = Status.ACTIVE
    """The status of those to look at; None: any."""
    all_of_them: ClassVar = False
    """Whether all descendants go with a session, or only ephemeral ones."""

    def meant(self, session: Session) -> bool:
        """Whether there is anything to do for a session."""
        return session.is_active

    async def take(self, work: Work, row: SessionRow, budget: Budget) -> None:
        """End one that was meant."""
        note = await work.tx.put_content(self.note)
        changes = lifecycle.ended(row.session, work.now, self.status, EndCause.REQUEST, note)
        await work.write(row, changes)
        budget.take(row.session)

    async def take_below(self, work: Work, row: SessionRow, budget: Budget) -> None:
        """End a descendant of one that was meant."""
        await tree.end_one(work, row, self.status, EndCause.PARENT_ENDED)
        budget.take(row.session)


@dataclass(frozen=True)
class Deleting:
    """Sessions are deleted; one that is ACTIVE ends first, for its watchers."""

    why: DeletedWhy = DeletedWhy.REQUEST
    cause: EndCause = EndCause.REQUEST
    """What those that were meant are said to have ended by."""
    status_hint: ClassVar = None
    """The status of those to look at; None: any."""
    all_of_them: ClassVar = True
    """Whether all descendants go with a session, or only ephemeral ones."""

    def meant(self, session: Session) -> bool:
        """Whether there is anything to do for a session."""
        return True

    async def take(self, work: Work, row: SessionRow, budget: Budget) -> None:
        """Delete one that was meant."""
        messages = await tree.delete_one(work, row, self.why, end_first=True, end_cause=self.cause)
        budget.take(row.session, messages)

    async def take_below(self, work: Work, row: SessionRow, budget: Budget) -> None:
        """Delete a descendant of one that was meant."""
        messages = await tree.delete_one(work, row, self.why, end_first=True)
        budget.take(row.session, messages)


Taking = Ending | Deleting


class _Frame:
    """A session on the way down, and its children that are still to be looked at."""

    def __init__(self, row: SessionRow) -> None:
        self.row = row
        self.children: deque[SessionRow] = deque()
        self.parents: frozenset[str] = frozenset()
        self.after: Position | None = None
        self.complete = False


async def take_below(work: Work, root: SessionRow, taking: Taking, budget: Budget) -> bool:
    """Take all that goes with a session, from the leaves up, but not itself.

    Returns:
        Whether nothing is left; False: the budget is spent.
    """
    frames = [_Frame(root)]
    while True:
        frame = frames[-1]
        child = await _next_child(work, frame, taking)
        if child is not None and child.session.uid in frame.parents:
            frames.append(_Frame(child))
            continue
        if child is None:
            frames.pop()
            if not frames:
                return True
            child = frame.row
        if budget.spent:
            return False
        await taking.take_below(work, child, budget)


async def _next_child(work: Work, frame: _Frame, taking: Taking) -> SessionRow | None:
    while True:
        while frame.children:
            child = frame.children.popleft()
            if taking.all_of_them or child.session.owner is not None:
                return child
        if frame.complete:
            return None
        session = frame.row.session
        rows = await work.tx.candidates(
            Candidates(
                app=session.app,
                parent_uid=session.uid,
                status=taking.status_hint,
                after=frame.after,
                limit=STEP_ROWS,
            )
        )
        frame.children.extend(rows)
        frame.complete = len(rows) < STEP_ROWS
        if rows:
            frame.after = Position(rows[-1].create_order, rows[-1].create_order)
            uids = [row.session.uid for row in rows]
            frame.parents = await work.tx.with_children(session.app, uids)


class Protected(NamedTuple):
    """What must stay."""

    users: Users
    """All but the sessions of these."""
    kept: tuple[int, int] | None
    """Those created from here to there that are meant; None: none is kept."""

    def holds(self, row: SessionRow, taking: Taking, meant: Callable[[Session], bool]) -> bool:
        """Whether a session stays for its own sake."""
        if taking.all_of_them and not self.users.covers(row.session.user):
            return True
        if self.kept is None:
            return False
        return self.kept[0] <= row.create_order <= self.kept[1] and meant(row.session)


async def must_stay(
    tx: ReadTx,
    row: SessionRow,
    taking: Taking,
    protected: Protected,
    meant: Callable[[Session], bool],
) -> bool:
    """Whether a session stays, because one below it does.

    Args:
        tx: Where to read.
        row: A session with children.
        taking: What is done to it.
        protected: What stays.
        meant: Says whether a session is among those that are meant.
    """
    if protected.kept is None and (protected.users.everyone or not taking.all_of_them):
        return False
    rows = await below(tx, row, taking, SURVEYED)
    if len(rows) == SURVEYED:
        return True
    return any(protected.holds(each, taking, meant) for each in rows)


async def below(
    tx: ReadTx, row: SessionRow, taking: Taking, limit: int = tree.NO_LIMIT
) -> list[SessionRow]:
    """What goes with a session, parents before children."""
    return await tree.descendants(
        tx,
        row.session,
        ended_too=taking.all_of_them,
        all_of_them=taking.all_of_them,
        limit=limit,
    )
