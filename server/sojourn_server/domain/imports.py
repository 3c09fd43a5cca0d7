"""What an import brings, as values, and what must be true of it beyond its shape."""

from __future__ import annotations

import enum

import msgspec

from sojourn_server.domain.clock import DAY, Nanos
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.model import Document, EndNote, Session
from sojourn_server.domain.policy import Policy

AHEAD: Nanos = DAY
"""How far the clock of a server that exported may have been ahead of ours."""


class OnExisting(enum.IntEnum):
    """What an import does when an id is taken. Numbers are those of `OnExisting`."""

    FAIL = 1
    SKIP = 2
    RENAME = 3


class ImportedApp(msgspec.Struct, frozen=True, kw_only=True):
    """The app itself."""

    labels: dict[str, str]
    policy: Policy
    state: Document
    state_version: int
    create_time: Nanos


class ImportedUser(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a user."""

    user: str
    state: Document
    state_version: int


class ImportedSession(msgspec.Struct, frozen=True, kw_only=True):
    """A session, and its content beside its messages."""

    session: Session
    """Without content, and with the number of messages that are to come."""
    metadata: Document
    state: Document
    note: EndNote
    turn_error: str
    reset_reason: str

    def check_times(self, now: Nanos) -> None:
        """Refuse instants that cannot be.

        Raises:
            Refusal: `INVALID_FIELD`.
        """
        session = self.session
        for field in ("create_time", "update_time", "activity_time"):
            check_times(f"session.session.{field}", getattr(session, field) or -1, now)
        if session.end_time:
            check_times("session.session.end_time", session.end_time, now)
        if session.reset_time:
            check_times("session.session.last_reset_time", session.reset_time, now)


def check_times(field: str, instant: Nanos, now: Nanos) -> None:
    """Refuse an instant before 1970, or after tomorrow.

    Raises:
        Refusal: `INVALID_FIELD`.
    """
    if not 0 <= instant <= now + AHEAD:
        raise invalid_field(field, "must be set, after 1970 and not in the future")
