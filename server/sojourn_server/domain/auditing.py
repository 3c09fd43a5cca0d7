"""The audit: what of the changes an auditor asks for, and what is kept of it.

An entry is written with its change and outlives it: logs are compacted after days, the
audit is kept for months. It names who did what to which session, when and why, and never
holds content.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    DeletedWhy,
    EndCause,
    Erased,
    Status,
    TurnOutcome,
)

_ALWAYS: Final = frozenset(
    {
        ChangeCause.CREATED,
        ChangeCause.MESSAGES_REMOVED,
        ChangeCause.RESET,
        ChangeCause.ENDED,
        ChangeCause.EXPIRED,
        ChangeCause.DELETED,
        ChangeCause.THRESHOLD,
        ChangeCause.APP_CREATED,
        ChangeCause.APP_UPDATED,
        ChangeCause.APP_DRAINING,
        ChangeCause.APP_DELETED,
        ChangeCause.USER_ERASED,
    }
)
_TAKEN: Final = frozenset({TurnOutcome.STOLEN, TurnOutcome.REVOKED})


class AuditDetail(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Why, and how much. Append new fields at the end: this is stored."""

    status: Status | None = None
    """What a session ended as."""
    end_cause: EndCause | None = None
    turn_outcome: TurnOutcome | None = None
    deleted_why: DeletedWhy | None = None
    force: bool = False
    """Whether a deletion was forced upon sessions below."""
    first_sequence: int = 0
    last_sequence: int = 0
    """The range of messages that were removed, or reset; 0: none."""
    erased: Erased | None = None


NO_DETAIL: Final = AuditDetail()


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done."""

    revision: int
    index: int
    time: Nanos
    actor: str
    """Empty: the server itself."""
    cause: ChangeCause
    uid: str = ""
    """Of the session; empty: it was not of a session."""
    user: str | None = None
    """Whose; of an erased user the alias. None: nobody's, it was the app itself."""
    session_id: str = ""
    """Empty, too, where the user was erased."""
    detail: AuditDetail = NO_DETAIL


class AuditPlace(msgspec.Struct, frozen=True):
    """A place in the audit of an app."""

    revision: int
    index: int


class AuditRange(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries to read: hints that a backend answers from an index."""

    app: str
    user: str | None = None
    """Only of this user."""
    uid: str = ""
    """Only of this session; `user` is not looked at."""
    before: AuditPlace | None = None
    """Only older ones; None: from the newest on."""
    limit: int = 100


def is_audited(change: Change) -> bool:
    """Whether an auditor asks for a change."""
    return change.cause in _ALWAYS or (
        change.cause is ChangeCause.TURN_ENDED and change.detail.turn_outcome in _TAKEN
    )


def detail_of(change: Change) -> AuditDetail:
    """What the audit keeps of a change beside who, what and when."""
    detail, ended = change.detail, None
    if change.cause in (ChangeCause.ENDED, ChangeCause.EXPIRED):
        ended = change.after
    return AuditDetail(
        status=None if ended is None else ended.status,
        end_cause=None if ended is None else ended.end_cause,
        turn_outcome=detail.turn_outcome,
        deleted_why=detail.deleted_why,
        force=detail.force,
        first_sequence=detail.first_sequence,
        last_sequence=detail.last_sequence,
        erased=detail.erased,
    )
