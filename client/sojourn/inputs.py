"""What the caller hands in: new things, patches, conditions and filters.

These are plain descriptions. They are checked when a request is built from them, before anything is
sent; a wrong one raises `InvalidFieldError`, or `ArgumentTypeError` for a wrong Python type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict

from sojourn.changes import WatchPosition
from sojourn.enums import EndCause, LabelOperator, OnConflict, SessionOrder, Status
from sojourn.errors import SojournError
from sojourn.models import Session, SessionKey, SessionRef
from sojourn.options import TLS, Credentials, KeepaliveOptions, RetryOptions

Duration: TypeAlias = timedelta | float
"""A timedelta, or a number of seconds."""

SessionLike: TypeAlias = str | SessionKey | SessionRef | Session
"""Which session: its id, its key, a reference, or what was read of it (its uid counts then)."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append."""

    role: str
    """Who speaks, 1 to 64 characters."""
    content: str | None = None
    """The text, without NUL; with payload and metadata up to 1 MiB. None is not empty."""
    payload: bytes = b""
    """Anything that is not a plain text."""
    content_type: str = ""
    """The media type of `payload`, up to 128 characters."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The caller's own data: up to 64 keys, each a JSON value of up to 64 KiB."""
    message_id: str = ""
    """Up to 256 characters; empty: the server makes one."""
    event_time: datetime | int | None = None
    """The client's clock: an aware datetime, or nanoseconds since 1970. Years 1678 to 2261."""


@dataclass(frozen=True, slots=True)
class StatePatch:
    """A shallow change of one scope's state: per key, never inside a value."""

    set: Mapping[str, Any] = field(default_factory=dict)
    """Keys to write, each with a JSON value. None is stored as null; it does not remove the key."""
    remove: Iterable[str] = ()
    """Keys to remove; one that is not there is passed over."""
    replace: bool = False
    """Drop all keys first, then write `set`."""
    expected_version: int | None = None
    """Only if the scope has this version, else `StateVersionMismatchError`; 0: never written."""


StateChange: TypeAlias = Mapping[str, Any] | StatePatch
"""The keys to write, or a whole patch."""


@dataclass(frozen=True, slots=True)
class MetricsDelta:
    """What to add to a session's counters, in one atomic step."""

    requests: int = 0
    """Requests to add, 0 to 1,000,000."""
    errors: int = 0
    """Errors to add, 0 to 1,000,000."""
    processing_time: Duration | None = None
    """Time to add, 0 to 30 days."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """Own counters to move, up to 64; a negative amount takes away."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must hold for a write to happen. Everything is optional; all that is set must hold."""

    etag: str = ""
    """Only if the session's etag is this one; else `EtagMismatchError`."""
    generation: int | None = None
    """Only in this generation; else `GenerationChangedError`."""
    turn_token: str = ""
    """On behalf of this turn; once it is over, `TurnSupersededError`."""
    last_sequence: int | None = None
    """Only if the session's `last_sequence` is this one; else `SequenceMismatchError`."""


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create."""

    session_id: str = ""
    """Up to 256 characters; empty: the server makes one."""
    user: str = ""
    """Whose it is, up to 256 characters; empty: the app's own."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Up to 64: keys of 1 to 63, values of 1 to 256 characters."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Up to 64 keys, each a JSON value of up to 64 KiB."""
    state: StateChange | None = None
    """The session's first state."""
    user_state: StateChange | None = None
    """A patch of the user's state."""
    app_state: StateChange | None = None
    """A patch of the app's state."""
    parent: str | Session = ""
    """The parent, or its uid; empty: a root."""
    owner_turn_token: str = ""
    """Makes it ephemeral: it ends with this turn of the parent."""
    owner_lease: Duration | None = None
    """Makes it ephemeral: it ends when nobody touches it for so long, 1 s to 24 h."""
    idle_timeout: Duration | None = None
    """How long it may be idle, up to 10 years; zero: for ever; None: the policy's default."""
    max_lifetime: Duration | None = None
    """How old it may get, up to 10 years; zero: no limit; None: the policy's default."""


class SessionFields(TypedDict, total=False):
    """What can be said of a session that is created: the fields of `NewSession` without the id."""

    user: str
    labels: Mapping[str, str]
    metadata: Mapping[str, Any]
    state: StateChange | None
    user_state: StateChange | None
    app_state: StateChange | None
    parent: str | Session
    owner_turn_token: str
    owner_lease: Duration | None
    idle_timeout: Duration | None
    max_lifetime: Duration | None


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A label and what to ask of it."""

    key: str
    operator: LabelOperator = LabelOperator.EXISTS
    values: Sequence[str] = ()

    @classmethod
    def one_of(cls, key: str, *values: str) -> LabelSelector:
        """Return a selector: the label is there with one of the values."""
        return cls(key, LabelOperator.IN, values)

    @classmethod
    def none_of(cls, key: str, *values: str) -> LabelSelector:
        """Return a selector: the label is absent, or has none of the values."""
        return cls(key, LabelOperator.NOT_IN, values)

    @classmethod
    def exists(cls, key: str) -> LabelSelector:
        """Return a selector: the label is there."""
        return cls(key, LabelOperator.EXISTS)

    @classmethod
    def absent(cls, key: str) -> LabelSelector:
        """Return a selector: the label is not there."""
        return cls(key, LabelOperator.NOT_EXISTS)


Labels: TypeAlias = Mapping[str, str | Sequence[str]] | Iterable[LabelSelector]
"""Labels to select by, all of which must match: key to value, or to values of which one must."""


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A span of time, from `not_before` on and earlier than `before`; None: open."""

    not_before: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are meant. All that is set must hold; an empty filter means all."""

    statuses: Iterable[Status] = ()
    """With one of these statuses; empty: with any."""
    labels: Labels = ()
    """Whose labels meet all of these, up to 16."""
    session_id_prefix: str = ""
    """Whose session id begins so."""
    parent_uid: str = ""
    """Whose parent has this uid."""
    has_parent: bool | None = None
    """That have a parent (True) or have none (False)."""
    ephemeral: bool | None = None
    """That are ephemeral (True) or are not (False)."""
    has_turn: bool | None = None
    """That have a live turn (True) or have none (False)."""
    create_time: TimeRange | None = None
    """Created in this span."""
    update_time: TimeRange | None = None
    """Last changed in this span."""
    end_time: TimeRange | None = None
    """Ended in this span."""
    activity_time: TimeRange | None = None
    """Last active in this span."""
    older_than: Duration | None = None
    """Created longer ago than this. "Now" is that of the first page."""
    idle_longer_than: Duration | None = None
    """Idle for longer than this. "Now" is that of the first page."""
    request_count_above: int | None = None
    """With more requests than this."""
    error_count_above: int | None = None
    """With more errors than this."""
    error_rate_above: float | None = None
    """With errors ÷ requests greater than this, 0 to 1; without requests the rate is 0."""
    end_causes: Iterable[EndCause] = ()
    """Ended by one of these causes."""


class TurnFields(TypedDict, total=False):
    """What can be said of a turn that begins; see `turns.begin`."""

    holder: str
    lease: Duration | None
    on_conflict: OnConflict
    wait_timeout: Duration | None


class ClientFields(TypedDict, total=False):
    """What can be said to a client: the arguments of `sojourn.connect` without the target."""

    app: str
    tls: TLS | None
    credentials: Credentials | None
    retry: RetryOptions | None
    keepalive: KeepaliveOptions | None
    deadline: Duration
    default_labels: Mapping[str, str] | None
    actor: str


class ListFields(TypedDict, total=False):
    """What can be said of a list of sessions."""

    user: str | None
    """One user only; empty: the app's own sessions. None, the default: of all."""
    parent: str | Session
    """The children of this session only, given as such or by its uid; empty, the default: of all.
    """
    status: Status | str | Iterable[Status] | None
    """With one of these; None or "any": with any. Default ACTIVE, unless the filter names some."""
    labels: Labels | None
    """Whose labels meet all of these."""
    filter: SessionFilter | None
    """Whatever else must hold."""
    order: SessionOrder
    """Sorted by what; default CREATE_TIME."""
    descending: bool
    """Highest first; default False."""
    page_size: int
    """At most so many a page; 0, the default, means 50, more than 1,000 means 1,000."""
    page_token: str
    """Go on after an earlier page. The other fields but `page_size` must be as they were."""
    app: str | None
    """Another app than the client's own."""


class SelectionFields(TypedDict, total=False):
    """Which sessions are meant: by a watch or a cache, a bulk call, an aggregate or an export."""

    user: str | None
    """One user only; empty: the app's own sessions. None, the default: of all."""
    parent: str | Session
    """The children of this session only, given as such or by its uid; empty, the default: of all.
    """
    status: Status | str | Iterable[Status] | None
    """With one of these; None or "any": with any."""
    labels: Labels | None
    """Whose labels meet all of these."""
    filter: SessionFilter | None
    """Whatever else must hold; for watches and caches nothing that time alone changes, such as
    `idle_longer_than`."""
    app: str | None
    """Another app than the client's own."""


class WatchFields(TypedDict, total=False):
    """What can be said of a watch besides which sessions are meant; see `sessions.watch`."""

    after: str | WatchPosition
    initial_state: bool
    previous: bool
    content: bool
    app_changes: bool
    bookmark_interval: Duration | None
    resync: Callable[[SojournError], object] | None
    user: str | None
    status: Status | str | Iterable[Status] | None
    labels: Labels | None
    filter: SessionFilter | None
