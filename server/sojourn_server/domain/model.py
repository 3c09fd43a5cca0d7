"""The nouns: sessions, turns, messages, apps, changes.

All are frozen values. Those that a store keeps are encoded as msgpack arrays, so
the order of their fields is part of the stored format: **append new fields at the
end, with a default, and never move or remove one.** `tests/unit/domain` holds the
order down.

Content (message bodies, state values, metadata, reasons, results, error texts) is
never inside these values. It lives in the store's content table alone, and the
values hold a `ContentId` that points there, so that erasing it in one place
erases it everywhere.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.policy import NO_POLICY, Policy

ContentId = int
"""Points at one piece of content. Valid only while a live row holds it."""

NO_CONTENT: Final[ContentId] = 0
"""Points at nothing: the same as empty content."""


class Status(enum.IntEnum):
    """How far a session has come. Numbers are those of `SessionStatus`."""

    ACTIVE = 1
    COMPLETED = 2
    FAILED = 3
    EXPIRED = 4


class ExpireCause(enum.IntEnum):
    """Which clock ends a session first. Numbers are those of `ExpireCause`."""

    IDLE = 1
    LIFETIME = 2


class EndCause(enum.IntEnum):
    """What ended a session. Numbers are those of `EndCause`."""

    REQUEST = 1
    IDLE = 2
    LIFETIME = 3
    PARENT_ENDED = 4
    OWNER_ENDED = 5
    OWNER_LOST = 6
    THRESHOLD = 7
    QUOTA = 8
    APP = 9


class TurnOutcome(enum.IntEnum):
    """How a turn ended. Numbers are those of `TurnOutcome`."""

    OK = 1
    ERROR = 2
    ABANDONED = 3
    STOLEN = 4
    REVOKED = 5


class ChangeCause(enum.IntEnum):
    """What brought a change about. Numbers are those of `ChangeCause`."""

    CREATED = 1
    UPDATED = 2
    STATE_CHANGED = 3
    MESSAGES_APPENDED = 4
    MESSAGES_REMOVED = 5
    TURN_BEGAN = 6
    TURN_ENDED = 7
    RESET = 8
    ENDED = 9
    EXPIRED = 10
    DELETED = 11
    THRESHOLD = 12
    APP_CREATED = 13
    APP_UPDATED = 14
    APP_DRAINING = 15
    APP_DELETED = 16
    USER_ERASED = 17


class DeletedWhy(enum.IntEnum):
    """Why a session was removed. Numbers are those of `DeletedWhy`."""

    REQUEST = 1
    RETENTION = 2
    REPLACED = 3
    APP = 4
    ERASED = 5


class AppStatus(enum.IntEnum):
    """How far an app has come. Numbers are those of `AppStatus`."""

    ACTIVE = 1
    DRAINING = 2
    DELETED = 3


class Metrics(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Counters of one session."""

    requests: int = 0
    errors: int = 0
    processing_time: Nanos = 0
    counters: dict[str, int] = {}


class Turn(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A lease on a session."""

    number: int
    holder: str
    begin_time: Nanos
    lease_time: Nanos
    """When the lease runs out."""
    lease: Nanos
    """How long a renewal lasts."""
    owns: bool = True
    """Whether a child may have been made in its name; False spares its end the search."""


class Owner(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What keeps an ephemeral session alive: a turn of its parent, or a lease."""

    turn_number: int = 0
    """The parent's turn; 0 when it is a lease."""
    lease: Nanos = 0
    """How long a renewal lasts; 0 when it is a turn."""
    lease_time: Nanos = 0
    """When the lease runs out; 0 when it is a turn."""


class Lineage(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """Where a fork began."""

    uid: str
    through_sequence: int


class Session(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One stay of a user with an app, without its content."""

    uid: str
    app: str
    user: str
    session_id: str
    status: Status
    labels: dict[str, str]
    create_time: Nanos
    update_time: Nanos
    activity_time: Nanos
    end_time: Nanos = 0
    """0 while ACTIVE."""
    idle_timeout: Nanos = 0
    """0: for ever."""
    max_lifetime: Nanos = 0
    """0: no limit."""
    generation: int = 1
    version: int = 1
    """What the etag shows: moves with labels, metadata, state, history, status, settings."""
    parent_uid: str = ""
    owner: Owner | None = None
    metrics: Metrics = Metrics()
    message_count: int = 0
    message_bytes: int = 0
    last_sequence: int = 0
    last_event_time: Nanos | None = None
    turn: Turn | None = None
    """The turn that began last and has not ended; abandoned once its lease has passed."""
    turns_begun: int = 0
    end_cause: EndCause | None = None
    state_version: int = 0
    metadata: ContentId = NO_CONTENT
    """A `Document`."""
    state: ContentId = NO_CONTENT
    """A `Document`."""
    end_note: ContentId = NO_CONTENT
    """An `EndNote`."""
    turn_error: ContentId = NO_CONTENT
    """The text of the last turn's error, UTF-8."""
    forked_from: Lineage | None = None
    removed_ranges: tuple[tuple[int, int], ...] = ()
    """Sequences, both ends included, that are removed but whose rows are still being purged."""
    reset_time: Nanos = 0
    """When it was last reset; 0: never."""
    reset_reason: ContentId = NO_CONTENT
    """Why it was last reset, UTF-8."""
    history: int = 0
    """What the store keeps its messages under; 0: its own number. Another one once they
    were staged and then switched to."""

    @property
    def is_active(self) -> bool:
        """Whether it has not ended."""
        return self.status is Status.ACTIVE


Document = dict[str, str]
"""A JSON text per key: the content of metadata and of one scope's state."""


class EndNote(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The content that an end leaves behind."""

    reason: str = ""
    result: str = ""


class MessageBody(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The content of one message."""

    content: str | None = None
    payload: bytes = b""
    metadata: Document = {}


class Message(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One entry of a history, without its content."""

    message_id: str
    sequence: int
    role: str
    content_type: str
    event_time: Nanos | None
    create_time: Nanos
    size: int
    """Bytes of content, payload and metadata together."""
    body: ContentId
    """A `MessageBody`."""


class ScopeState(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The state of a user or of an app."""

    version: int = 0
    values: ContentId = NO_CONTENT
    """A `Document`."""


class App(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """One agent application."""

    app: str
    status: AppStatus
    create_time: Nanos
    feed_id: str
    """Random; changes when the log's history does (restore, operator's command)."""
    labels: dict[str, str] = {}
    policy: Policy = NO_POLICY
    drain_deadline: Nanos = 0
    """When a drain forces what is left; 0: it does not drain."""


class Erased(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What went with a user: how many of each."""

    sessions: int = 0
    messages: int = 0
    state_keys: int = 0
    changes: int = 0
    """Entries of the log."""
    audit_entries: int = 0


class ChangeDetail(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """What a change names beside the session: keys and ranges, never values."""

    deleted_why: DeletedWhy | None = None
    turn_outcome: TurnOutcome | None = None
    label_keys: tuple[str, ...] = ()
    metadata_keys: tuple[str, ...] = ()
    state_keys: tuple[str, ...] = ()
    first_sequence: int = 0
    last_sequence: int = 0
    user: str | None = None
    """Whose state changed, for a change without a session; None: the app's."""
    state_version: int = 0
    """The version after a change of user or app state."""
    active_sessions: int = 0
    """How many sessions were ACTIVE, for APP_DRAINING."""
    drain_deadline: Nanos = 0
    """When the drain forces what is left, for APP_DRAINING."""
    alias: str = ""
    """Set where the user was erased: what the log calls that user. The change then has no
    session, and no names beside this one."""
    parent_uid: str = ""
    """The parent of a deleted session whose user was erased."""
    erased: Erased | None = None
    """What went with an erased user."""
    force: bool = False
    """Whether a deletion was forced upon the sessions below."""


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of an app's log, before the store gives it its revision."""

    cause: ChangeCause
    before: Session | None = None
    """The session before; None for a creation, and for a change without a session."""
    after: Session | None = None
    """The session after; None for a deletion, and for a change without a session."""
    detail: ChangeDetail = ChangeDetail()
    uid: str = ""
    """The session's, where neither is given: its user was erased."""
    alias: str = ""
    """What the audit calls that user."""
