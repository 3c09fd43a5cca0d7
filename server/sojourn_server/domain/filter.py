"""Which sessions are meant: the one evaluator that decides it everywhere."""

from __future__ import annotations

import enum
from collections.abc import Callable

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import EndCause, Session, Status


class LabelOperator(enum.IntEnum):
    """What is asked of a label. Numbers are those of `LabelSelector.Operator`."""

    IN = 1
    NOT_IN = 2
    EXISTS = 3
    NOT_EXISTS = 4


class LabelSelector(msgspec.Struct, frozen=True, array_like=True):
    """A label and what to ask of it."""

    key: str
    operator: LabelOperator
    values: tuple[str, ...] = ()

    def matches(self, labels: dict[str, str]) -> bool:
        """Whether these labels meet it."""
        value = labels.get(self.key)
        match self.operator:
            case LabelOperator.IN:
                return value in self.values
            case LabelOperator.NOT_IN:
                return value not in self.values
            case LabelOperator.EXISTS:
                return value is not None
            case LabelOperator.NOT_EXISTS:
                return value is None


class TimeRange(msgspec.Struct, frozen=True, array_like=True):
    """A span of time; None: that end is open."""

    not_before: Nanos | None = None
    before: Nanos | None = None

    def holds(self, instant: Nanos) -> bool:
        """Whether the instant lies in it: the start belongs to it, the end does not."""
        if self.not_before is not None and instant < self.not_before:
            return False
        return self.before is None or instant < self.before


class SessionFilter(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """All that is set must hold; what is None or empty does not matter."""

    statuses: tuple[Status, ...] = ()
    labels: tuple[LabelSelector, ...] = ()
    session_id_prefix: str = ""
    parent_uid: str = ""
    has_parent: bool | None = None
    ephemeral: bool | None = None
    has_turn: bool | None = None
    create_time: TimeRange | None = None
    update_time: TimeRange | None = None
    end_time: TimeRange | None = None
    older_than: Nanos | None = None
    idle_longer_than: Nanos | None = None
    activity_time: TimeRange | None = None
    request_count_above: int | None = None
    error_count_above: int | None = None
    error_rate_above: float | None = None
    end_causes: tuple[EndCause, ...] = ()

    @property
    def relative(self) -> bool:
        """Whether it depends on what time it is."""
        return self.older_than is not None or self.idle_longer_than is not None


EVERYTHING = SessionFilter()

_Predicate = Callable[[SessionFilter, Session, Nanos], bool]


def error_rate(session: Session) -> float:
    """Errors ÷ requests; 0 for a session without requests."""
    requests = session.metrics.requests
    return session.metrics.errors / requests if requests else 0.0


_PREDICATES: dict[str, _Predicate] = {
    "statuses": lambda f, s, now: s.status in f.statuses,
    "labels": lambda f, s, now: all(selector.matches(s.labels) for selector in f.labels),
    "session_id_prefix": lambda f, s, now: s.session_id.startswith(f.session_id_prefix),
    "parent_uid": lambda f, s, now: s.parent_uid == f.parent_uid,
    "has_parent": lambda f, s, now: bool(s.parent_uid) is f.has_parent,
    "ephemeral": lambda f, s, now: (s.owner is not None) is f.ephemeral,
    "has_turn": lambda f, s, now: (s.turn is not None) is f.has_turn,
    "create_time": lambda f, s, now: _within(f.create_time, s.create_time),
    "update_time": lambda f, s, now: _within(f.update_time, s.update_time),
    "end_time": lambda f, s, now: s.end_time != 0 and _within(f.end_time, s.end_time),
    "older_than": lambda f, s, now: now - s.create_time > (f.older_than or 0),
    "idle_longer_than": lambda f, s, now: now - s.activity_time > (f.idle_longer_than or 0),
    "activity_time": lambda f, s, now: _within(f.activity_time, s.activity_time),
    "request_count_above": lambda f, s, now: s.metrics.requests > (f.request_count_above or 0),
    "error_count_above": lambda f, s, now: s.metrics.errors > (f.error_count_above or 0),
    "error_rate_above": lambda f, s, now: error_rate(s) > (f.error_rate_above or 0),
    "end_causes": lambda f, s, now: s.end_cause in f.end_causes,
}

_UNSET = (None, "", ())


def _within(span: TimeRange | None, instant: Nanos) -> bool:
    return span is None or span.holds(instant)


def predicates(which: SessionFilter) -> list[str]:
    """The names of the fields that are set."""
    return [name for name in which.__struct_fields__ if getattr(which, name) not in _UNSET]


def matcher(which: SessionFilter, now: Nanos) -> Callable[[Session], bool]:
    """A function that says whether the filter selects a session.

    Args:
        which: The filter.
        now: What time it is, for predicates that depend on it.
    """
    checks = [_PREDICATES[name] for name in predicates(which)]

    def matches(session: Session) -> bool:
        return all(check(which, session, now) for check in checks)

    return matches


def label_hint(which: SessionFilter) -> tuple[str, str] | None:
    """A label and value that every selected session has, for an index; or None."""
    for selector in which.labels:
        if selector.operator is LabelOperator.IN and len(selector.values) == 1:
            return selector.key, selector.values[0]
    return None


def hints_say_all(which: SessionFilter) -> bool:
    """Whether the hints and the parent ask all that the filter asks."""
    return (
        set(predicates(which)) <= {"statuses", "labels", "parent_uid"}
        and len(which.statuses) <= 1
        and (not which.labels or (len(which.labels) == 1 and label_hint(which) is not None))
    )


def status_hint(which: SessionFilter) -> Status | None:
    """The status that every selected session has, for an index; or None."""
    return which.statuses[0] if len(which.statuses) == 1 else None
