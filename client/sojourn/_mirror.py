"""What a cache holds: sessions by uid, kept true by the events of a watch. Pure.

Units are applied whole, and a new state takes the place of the old one only when it is complete, so
that whoever looks never sees half of either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from sojourn._describe import selectors
from sojourn.changes import (
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    SessionChange,
    WatchEvent,
)
from sojourn.enums import ChangeCause, Membership
from sojourn.errors import CacheLimitError
from sojourn.inputs import Labels
from sojourn.models import Session
from sojourn.v1 import session_pb2

Name = tuple[str, str]
"""User and session id."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one event means for a mirror."""

    uid: str = ""
    """Which session."""
    session: Session | None = None
    """As it is now; None: gone."""
    begins: bool = False
    """A new state begins."""
    ends_at: int | None = None
    """The new state is complete, and true at this revision."""


def step_of(event: WatchEvent) -> Step | None:
    """Return what an event means, its session decoded; None: nothing."""
    if isinstance(event, SessionChange):
        gone = event.membership is Membership.LEFT or event.cause is ChangeCause.DELETED
        return Step(event.uid, None if gone else event.session)
    if isinstance(event, InitialSession):
        return Step(event.session.uid, event.session)
    if isinstance(event, InitialStateBegin):
        return Step(begins=True)
    if isinstance(event, InitialStateEnd):
        return Step(ends_at=event.revision)
    return None


@dataclass(slots=True)
class _Table:
    """Sessions, found by uid and by name."""

    by_uid: dict[str, Session] = field(default_factory=dict)
    by_name: dict[Name, str] = field(default_factory=dict)

    def put(self, uid: str, session: Session | None) -> bool:
        """Write a session, or remove it; return whether that changed anything."""
        old = self.by_uid.get(uid)
        if session is None:
            if old is None:
                return False
            del self.by_uid[uid]
            name = (old.key.user, old.key.session_id)
            # A successor may have taken the name in the same unit, before this one left.
            if self.by_name.get(name) == uid:
                del self.by_name[name]
            return True
        self.by_uid[uid] = session
        self.by_name[session.key.user, session.key.session_id] = uid
        return session != old


class Mirror:
    """The sessions that match, as they were at `revision`.

    Args:
        limit: How many sessions it may hold.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._table = _Table()
        self._next: _Table | None = None
        self._held: list[Step] = []
        self.revision = 0
        """All of it is true at this revision of the app's log."""
        self.ready = False
        """Whether it has ever been complete."""

    def __len__(self) -> int:
        return len(self._table.by_uid)

    def take(self, steps: Iterable[Step], complete: int | None) -> set[str]:
        """Apply what a message brought; return the uids of the sessions that are others now.

        `complete` is the revision up to which everything has come; None inside a unit or a state.
        Raises `CacheLimitError`.
        """
        touched: set[str] = set()
        for step in steps:
            if step.begins:
                self._next = _Table()
                self._held.clear()
            elif step.ends_at is not None:
                touched |= self._switch(step.ends_at)
            elif self._next is not None:
                self._put(self._next, step)
            else:
                self._held.append(step)
        if complete is not None and self._next is None:
            touched |= {step.uid for step in self._held if self._put(self._table, step)}
            self._held.clear()
            self.revision = max(self.revision, complete)
        return touched

    def _put(self, table: _Table, step: Step) -> bool:
        changed = table.put(step.uid, step.session)
        if len(table.by_uid) > self._limit:
            raise CacheLimitError(
                f"more than {self._limit} sessions match",
                metadata={"limit": str(self._limit)},
            )
        return changed

    def _switch(self, revision: int) -> set[str]:
        old, new = self._table.by_uid, (self._next or _Table()).by_uid
        for session in new.values():
            if not session.revision:
                # Read at no known revision, but true at this one; nobody else has seen it yet.
                object.__setattr__(session, "revision", revision)
        self._table, self._next = self._next or _Table(), None
        self.revision = revision
        self.ready = True
        return {uid for uid in old.keys() | new.keys() if _differ(old.get(uid), new.get(uid))}

    # --- reads -----------------------------------------------------------------------------------

    def by_uid(self, uid: str) -> Session | None:
        """Return the session of this uid, if there is one."""
        return self._table.by_uid.get(uid)

    def by_name(self, user: str, session_id: str) -> Session | None:
        """Return the session of this name, if there is one."""
        uid = self._table.by_name.get((user, session_id))
        return None if uid is None else self._table.by_uid[uid]

    def all(self) -> list[Session]:
        """Return all sessions, in the order in which they came."""
        return list(self._table.by_uid.values())


def _differ(old: Session | None, new: Session | None) -> bool:
    """Say whether a session is another one than before, whenever it was read."""
    if old is None or new is None:
        return True
    return old != replace(new, revision=old.revision, time_left=old.time_left)


def selects(labels: Labels | None) -> Callable[[Session], bool]:
    """Return whether a session's labels meet all of these, as the server would say."""
    wanted = [(one.key, one.operator, frozenset(one.values)) for one in selectors(labels)]

    def meets(session: Session) -> bool:
        found = session.labels
        return all(_MEETS[operator](found.get(key), values) for key, operator, values in wanted)

    return meets


_MEETS: dict[int, Callable[[str | None, frozenset[str]], bool]] = {
    session_pb2.LabelSelector.OPERATOR_IN: lambda label, values: label in values,
    session_pb2.LabelSelector.OPERATOR_NOT_IN: lambda label, values: label not in values,
    session_pb2.LabelSelector.OPERATOR_EXISTS: lambda label, _values: label is not None,
    session_pb2.LabelSelector.OPERATOR_NOT_EXISTS: lambda label, _values: label is None,
}
