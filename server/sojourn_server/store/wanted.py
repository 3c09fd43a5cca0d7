"""What a transaction is asked for: lists of sessions, ranges of messages."""

from __future__ import annotations

import enum

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import Status


class SortBy(enum.IntEnum):
    """What a candidate list is sorted by. Numbers are those of `SessionOrder`."""

    CREATE = 1
    SESSION_ID = 2
    UPDATE = 3
    ACTIVITY = 4


class Position(msgspec.Struct, frozen=True, array_like=True):
    """A place in a candidate list: the sort value and the creation order of a row.

    For `SortBy.CREATE` the value is the creation order itself.
    """

    value: int | str
    create_order: int


class Candidates(msgspec.Struct, frozen=True, kw_only=True):
    """Which sessions to consider: hints that a backend answers from an index.

    A backend must honour every hint; what a filter asks beyond them, the caller
    decides row by row with `domain.filter`.
    """

    app: str
    user: str | None = None
    status: Status | None = None
    label: tuple[str, str] | None = None
    parent_uid: str | None = None
    sort_by: SortBy = SortBy.CREATE
    descending: bool = False
    after: Position | None = None
    limit: int = 100


class MessageRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages of a session to read."""

    after_sequence: int = 0
    """Only with a higher sequence."""
    before_sequence: int | None = None
    """Only with a lower sequence."""
    event_time_not_before: Nanos | None = None
    """Only with an event time, and that not earlier."""
    descending: bool = False
    limit: int = 50
