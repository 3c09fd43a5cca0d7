"""What is told about many sessions, about what was done, and about the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from sojourn.apps import Policy
from sojourn.enums import ChangeCause, DeletedWhy, EndCause, Status, TurnOutcome
from sojourn.models import Message, Metrics, Session, SessionKey, State


@dataclass(frozen=True, slots=True)
class SessionAggregate:
    """The sum over one group of sessions."""

    group: str
    """The user, status or label value; empty for the group without one, and for the whole."""
    session_count: int
    """How many sessions."""
    metrics: Metrics
    """Their counters, summed up."""
    error_rate: float
    """Errors ÷ requests; 0.0 without requests."""
    mean_processing_time: timedelta | None
    """Processing time ÷ requests; None without requests."""
    message_count: int
    """How many messages they hold."""
    counters_cut: bool = False
    """Whether there are more own counters than the 256 that `metrics` names."""


@dataclass(frozen=True, slots=True)
class ErasedCounts:
    """What went with a user who was erased."""

    sessions: int
    messages: int
    state_keys: int
    changes: int
    """Entries of the log that were made anonymous."""
    audit_entries: int
    """Entries of the audit that were made anonymous."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done, without content."""

    app: str
    """The app."""
    revision: int
    """The revision at which it was done."""
    time: datetime
    """When, by the server's clock."""
    actor: str
    """By whom: the authenticated principal, or the name that the caller gave; empty: the server.

    The alias of a user who was erased.
    """
    cause: ChangeCause
    """What."""
    session: SessionKey | None
    """To which session; None for the app itself.

    Where its user was erased, the user is an alias, and there is no session_id.
    """
    uid: str
    """The session's uid; empty for the app itself."""
    index: int = 0
    """Tells entries of one revision apart."""
    end_status: Status | None = None
    """What the session ended as."""
    end_cause: EndCause | None = None
    """What ended it."""
    turn_outcome: TurnOutcome | None = None
    """How a turn was taken away: STOLEN or REVOKED."""
    deleted_why: DeletedWhy | None = None
    """Why the session was removed."""
    force: bool = False
    """Whether it was removed for being below a session that was named, by force."""
    first_sequence: int = 0
    """The first sequence that was removed or reset; 0: none."""
    last_sequence: int = 0
    """The last sequence that was removed or reset; 0: none."""
    user: str = ""
    """The alias of the user who was erased, for USER_ERASED."""
    erased: ErasedCounts | None = None
    """What went with the user, for USER_ERASED."""


@dataclass(frozen=True, slots=True)
class ExportedApp:
    """The app itself, in an export."""

    app: str
    """Its name. An import goes to whatever app it names."""
    labels: Mapping[str, str]
    policy: Policy
    state: State
    create_time: datetime


@dataclass(frozen=True, slots=True)
class ExportedUser:
    """The state of one user, in an export."""

    user: str
    state: State


@dataclass(frozen=True, slots=True)
class DroppedSession:
    """The last session of an export changed too much while it was read: forget it.

    If it is still there, it follows anew.
    """

    uid: str


Exported: TypeAlias = ExportedApp | ExportedUser | Session | Message | DroppedSession
"""A part of an export. Messages belong to the session before them."""


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server is."""

    version: str
    """Its release."""
    store: str
    """The kind of store: `sqlite` or `postgresql`."""
    store_version: str
    """The release of the store's engine."""
    schema_version: int
    """The number of the store's schema."""
    start_time: datetime
    """When the server started."""
    draining: bool
    """Whether it is shutting down."""
