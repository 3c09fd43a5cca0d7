"""What writes answer: what became of the session, whether anything changed, and at which revision.

`revision` is the place that a write took in its app's log, or the head of the log where `changed`
is False.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sojourn.apps import App
from sojourn.enums import AppStatus
from sojourn.models import Message, Session, SessionKey, SessionRef, Turn


@dataclass(frozen=True, slots=True)
class CreateManyResult:
    """The answer to creating several sessions at once."""

    sessions: tuple[SessionRef, ...]
    """Who they are, in the order of the request. `sessions.get_many` reads more of them."""
    revision: int


@dataclass(frozen=True, slots=True)
class GetManyResult:
    """The answer to reading several sessions."""

    sessions: tuple[Session, ...]
    """Those that were found, in the order of the request."""
    not_found: tuple[SessionRef, ...]
    """Those that were not: not there, not yours, or with another uid."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The answer to an update of a session."""

    session: Session
    """The session afterwards, in the view BASIC."""
    changed: bool
    revision: int
    state_version: int | None
    """The session state's version afterwards; None when it was not patched. Likewise the others."""
    user_state_version: int | None
    app_state_version: int | None


@dataclass(frozen=True, slots=True)
class EndResult:
    """The answer to ending a session."""

    session: Session
    """The session afterwards, in the view BASIC."""
    changed: bool
    """False when it had ended so already."""
    revision: int
    descendants_ended: int
    """How many descendants ended with it."""


@dataclass(frozen=True, slots=True)
class ResetResult:
    """The answer to a reset."""

    session: Session
    """The session afterwards, in the view BASIC."""
    revision: int
    messages_cleared: int
    state_keys_cleared: int
    metrics_cleared: bool
    scrubbed: bool
    """Whether it is gone from the store's files already; else a job finishes it soon."""
    backup: Session | None = None
    """The copy that was made first, in the view BASIC, where one was asked for."""


@dataclass(frozen=True, slots=True)
class DeleteResult:
    """The answer to deleting a session."""

    revision: int
    sessions_deleted: int
    """Descendants counted."""
    messages_deleted: int
    scrubbed: bool
    """Whether it is gone from the store's files already; else a job finishes it soon."""


@dataclass(frozen=True, slots=True)
class AppendResult:
    """The answer to an append."""

    session: Session
    """The session afterwards, in the view BASIC."""
    message_ids: tuple[str, ...]
    """The ids of the messages, in their order."""
    sequences: tuple[int, ...]
    """The sequences of the messages, in their order: of known ones, the sequence they had."""
    changed: bool
    """False when every message was known already and nothing else changed."""
    revision: int
    created: bool
    """Whether the session was created by this call."""
    state_version: int | None
    """The session state's version afterwards; None when it was not patched. Likewise the others."""
    user_state_version: int | None
    app_state_version: int | None


@dataclass(frozen=True, slots=True)
class PopResult:
    """The answer to a pop."""

    messages: tuple[Message, ...]
    """What was popped, oldest first: each to one caller only."""
    session: Session
    """The session afterwards, in the view BASIC."""
    changed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class TruncateResult:
    """The answer to a truncation."""

    session: Session
    """The session afterwards, in the view BASIC."""
    messages_removed: int
    changed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class StateResult:
    """The answer to a patch of a user's or an app's state."""

    version: int
    """The scope's version afterwards."""
    changed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class BeginTurnResult:
    """The answer to beginning a turn."""

    turn: Turn
    turn_token: str
    """Opaque. Send it with every write of the turn."""
    session: Session
    """The session afterwards, in the view BASIC."""
    revision: int
    created: bool
    """Whether the session was created by this call."""


@dataclass(frozen=True, slots=True)
class EndTurnResult:
    """The answer to ending a turn."""

    session: Session
    """The session afterwards, in the view BASIC."""
    elapsed: timedelta
    """How long the turn took, by the server's clock."""
    revision: int


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """The answer to replacing a part of a history."""

    session: Session
    """The session afterwards, in the view BASIC."""
    messages_removed: int
    message_ids: tuple[str, ...]
    """The ids of the new messages, in their order."""
    sequences: tuple[int, ...]
    """The sequences of the new messages, in their order."""
    changed: bool
    revision: int


# --- many sessions -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EndManyResult:
    """The answer to ending many sessions."""

    count: int
    """How many ended; after a dry run, how many would."""
    first_keys: tuple[SessionKey, ...]
    """The first 100 of them."""
    revision: int


@dataclass(frozen=True, slots=True)
class DeleteManyResult:
    """The answer to deleting many sessions."""

    count: int
    """How many were deleted; after a dry run, how many would be."""
    first_keys: tuple[SessionKey, ...]
    """The first 100 of them."""
    revision: int
    scrubbed: bool
    """Whether it is gone from the store's files already; else a job finishes it soon."""


# --- apps and users ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class UpdateAppResult:
    """The answer to an update of an app."""

    app: App
    """The app afterwards."""
    changed: bool
    revision: int


@dataclass(frozen=True, slots=True)
class DeleteAppResult:
    """The answer to deleting an app."""

    status: AppStatus
    """DELETED, or DRAINING when it waits for its sessions."""
    sessions_deleted: int
    """How many sessions were deleted by then."""
    revision: int


@dataclass(frozen=True, slots=True)
class DeleteAppsResult:
    """The answer to deleting several apps."""

    apps: tuple[str, ...]
    """Those that are deleted or drain, the oldest first; after a dry run, those that would be."""
    refused: tuple[str, ...]
    """Those that are left alone, because they have live sessions."""
    more: bool
    """Whether the filter selects more than one call does, 1,000: call again."""


@dataclass(frozen=True, slots=True)
class EraseResult:
    """The receipt of an erased user."""

    sessions: int
    """How many sessions were removed."""
    messages: int
    """How many messages."""
    state_keys: int
    """How many state keys."""
    changes: int
    """How many entries of the log were made anonymous."""
    audit_entries: int
    """How many entries of the audit were made anonymous."""
    revision: int
    scrubbed: bool
    """Whether it is gone from the store's files already; else a job finishes it soon."""


# --- export, import, backup ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What an export wrote."""

    sessions: int
    """How many sessions are in it."""
    messages: int


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The answer to an import."""

    sessions: int
    """How many sessions were taken in."""
    messages: int
    skipped: int
    """How many sessions were passed over, because their ids are taken."""
    renamed: int
    """How many sessions were taken in under another id."""
    revision: int


@dataclass(frozen=True, slots=True)
class BackupResult:
    """The answer to a backup of the store."""

    bytes: int
    """How large the file is."""
