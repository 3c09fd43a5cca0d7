"""What the client hands out: frozen dataclasses of Python types.

Times are aware datetimes in UTC. Durations are timedeltas. The client's own clock on messages, kept
to the nanosecond, is there twice: `event_time`, cut to microseconds, and `event_time_ns`, exact, in
nanoseconds since 1970.

JSON values (state, metadata, results) are decoded at each access; the raw texts stay reachable
under the same name with `_json` behind it. Nothing here talks to a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from sojourn._json import JsonMap, decode
from sojourn.enums import EndCause, ExpireCause, Status
from sojourn.errors import NotLoadedError

T = TypeVar("T")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of_ns(nanoseconds: int) -> datetime:
    """Return the instant so many nanoseconds after 1970, cut to microseconds, in UTC."""
    return EPOCH + timedelta(microseconds=nanoseconds // 1000)


@dataclass(frozen=True, slots=True, order=True)
class SessionKey:
    """Names a session: unique within one store."""

    app: str
    """The agent application, 1 to 128 characters."""
    user: str
    """Whose session it is, 0 to 256 characters; empty: the app's own."""
    session_id: str
    """The id within the user, 1 to 256 characters."""


@dataclass(frozen=True, slots=True)
class SessionRef:
    """Points at one session: by `user` and `session_id`, by `uid`, or by both.

    With both, a session that was deleted and created anew under the same id is told apart:
    `UidMismatchError`. An empty `app` means the client's own.
    """

    app: str = ""
    user: str = ""
    session_id: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The counters of one session. They only grow, except at Reset."""

    request_count: int = 0
    """Requests that the agent served: ended turns and reported ones."""
    error_count: int = 0
    """How many of them failed."""
    processing_time: timedelta = timedelta(0)
    """The time spent on them, summed up."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """The callers' own counters."""

    @property
    def error_rate(self) -> float:
        """Errors ÷ requests; 0.0 without requests."""
        return self.error_count / self.request_count if self.request_count else 0.0

    @property
    def average_processing_time(self) -> timedelta:
        """Processing time ÷ requests; zero without requests."""
        return self.processing_time / self.request_count if self.request_count else timedelta(0)


@dataclass(frozen=True, slots=True)
class RolledUp:
    """The sums over a session and all its descendants, ended ones too."""

    metrics: Metrics
    """Their counters."""
    session_count: int
    """How many sessions there are, itself counted."""
    active_count: int
    """How many of them are ACTIVE."""
    message_count: int
    """How many messages they hold."""
    complete: bool
    """False when some are left out: beyond 10,000 descendants, or 1,000 names of counters."""


@dataclass(frozen=True, slots=True)
class State:
    """The state of one scope: a session's, a user's or an app's."""

    values: JsonMap = field(default_factory=lambda: JsonMap({}))
    """The decoded values; `values.json` has the raw texts."""
    version: int = 0
    """One more at each patch that changed something; 0 before the first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request that an agent is working on: a lease on the session."""

    number: int
    """1 for a session's first turn, then 2, and so on."""
    holder: str
    """Who holds it, in the caller's words."""
    begin_time: datetime
    """When it began."""
    lease_time: datetime
    """When the lease runs out if it is not renewed."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a fork began."""

    uid: str
    """The uid of the session that was forked."""
    through_sequence: int
    """The last sequence that was taken over."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a session's history."""

    message_id: str
    """Unique among the messages that the session holds."""
    sequence: int
    """Given by the server: strictly increasing, never used again; gaps follow removals."""
    role: str
    """Who speaks: `system`, `user`, `assistant`, `tool`, or the caller's own word."""
    content: str | None
    """The text; None is not the same as empty."""
    payload: bytes
    """Anything that is not a plain text."""
    content_type: str
    """The media type of `payload`."""
    metadata: JsonMap
    """The caller's own data, decoded; `metadata.json` has the raw texts."""
    event_time_ns: int | None
    """The client's clock, in nanoseconds since 1970, exactly; None when it named none."""
    create_time: datetime
    """The server's clock at the append."""

    @property
    def event_time(self) -> datetime | None:
        """The client's clock, cut to microseconds; None when it named none."""
        return None if self.event_time_ns is None else time_of_ns(self.event_time_ns)

    @property
    def metadata_json(self) -> Mapping[str, str]:
        """The caller's own data: the raw JSON text per key."""
        return self.metadata.json


@dataclass(frozen=True, slots=True)
class SessionContent:
    """The part of a session that only the view FULL carries."""

    metadata: JsonMap
    state: State
    user_state: State
    app_state: State
    end_reason: str
    end_result_json: str
    last_turn_error: str
    last_reset_reason: str


@dataclass(frozen=True, slots=True)
class Session:
    """One stay of a user with an app, as it was at `revision`.

    What the answer did not bring along raises `NotLoadedError` when it is read: metadata, state and
    the end's reason and result need `view=View.FULL`, `messages` needs `last_messages=N`,
    `rolled_up` needs `roll_up=True`.
    """

    key: SessionKey
    """The name. Fixed at creation."""
    uid: str
    """Made by the server; a new one after delete and create."""
    status: Status
    """How far the session has come."""
    labels: Mapping[str, str]
    """Short, indexed, selectable texts."""
    create_time: datetime
    """When the session was created."""
    update_time: datetime
    """When the session last changed: moves with every change, not with touches."""
    activity_time: datetime
    """The last write, turn or touch; the idle deadline counts from here."""
    end_time: datetime | None
    """When the session ended; None while it is ACTIVE."""
    end_cause: EndCause | None
    """What ended the session; None while it is ACTIVE."""
    expire_time: datetime | None
    """When the session expires if nothing renews it; None when it does not by itself."""
    expire_cause: ExpireCause | None
    """Which deadline `expire_time` is."""
    time_left: timedelta | None
    """`expire_time` less the server's clock at the answer."""
    idle_timeout: timedelta
    """How long the session may be idle; zero: for ever."""
    max_lifetime: timedelta
    """How old the session may get; zero: no limit."""
    generation: int
    """Starts at 1; one more at each Reset."""
    etag: str
    """Changes with labels, metadata, state, history, status and settings; opaque."""
    parent_uid: str
    """The parent session's uid; empty for a root."""
    ephemeral: bool
    """Ends by itself with its owner: a turn of the parent, or a lease."""
    owner_lease_time: datetime | None
    """When the owner's lease runs out; None without such a lease."""
    metrics: Metrics
    """The counters."""
    message_count: int
    """How many messages the history holds."""
    message_bytes: int
    """How many bytes of content those messages hold."""
    last_sequence: int
    """The highest sequence ever given in this session; 0 when there was none."""
    last_event_time_ns: int | None
    """The client's clock on the newest message, in nanoseconds since 1970, if it named one."""
    turn: Turn | None
    """The turn that is working on the session now; None when it is idle."""
    state_version: int
    """The session state's version; 0 before the first value."""
    forked_from: Lineage | None
    """The session this one was forked from."""
    last_reset_time: datetime | None
    """When the session was last reset; None if it never was."""
    revision: int
    """The revision of the app's log at which all this was true."""
    content: SessionContent | None = field(default=None, repr=False)
    """What only the view FULL carries; None in the view BASIC."""
    last_messages: tuple[Message, ...] | None = field(default=None, repr=False)
    """The newest messages, oldest first; None when the read did not ask for them."""
    sums: RolledUp | None = field(default=None, repr=False)
    """The sums over it and its descendants; None when the read did not ask for them."""

    @property
    def app(self) -> str:
        """The agent application."""
        return self.key.app

    @property
    def user(self) -> str:
        """Whose session it is; empty: the app's own."""
        return self.key.user

    @property
    def session_id(self) -> str:
        """The id within the user."""
        return self.key.session_id

    @property
    def ref(self) -> SessionRef:
        """Points at this very session, also after its id was given to another one."""
        return SessionRef(self.app, self.user, self.session_id, self.uid)

    @property
    def is_active(self) -> bool:
        """Whether the session was open at `revision`."""
        return self.status is Status.ACTIVE

    @property
    def last_event_time(self) -> datetime | None:
        """The client's clock on the newest message, cut to microseconds, if it named one."""
        return None if self.last_event_time_ns is None else time_of_ns(self.last_event_time_ns)

    @property
    def metadata(self) -> JsonMap:
        """The caller's own data, decoded. View FULL only."""
        return self._full("metadata").metadata

    @property
    def metadata_json(self) -> Mapping[str, str]:
        """The caller's own data: the raw JSON text per key. View FULL only."""
        return self._full("metadata_json").metadata.json

    @property
    def state(self) -> JsonMap:
        """This session's own state, decoded. View FULL only."""
        return self._full("state").state.values

    @property
    def state_json(self) -> Mapping[str, str]:
        """This session's own state: the raw JSON text per key. View FULL only."""
        return self._full("state_json").state.values.json

    @property
    def user_state(self) -> State:
        """The state that all sessions of the user share, with its version. View FULL only."""
        return self._full("user_state").user_state

    @property
    def app_state(self) -> State:
        """The state that all sessions of the app share, with its version. View FULL only."""
        return self._full("app_state").app_state

    @property
    def end_reason(self) -> str:
        """Why it ended, in the words of whoever ended it; may be empty. View FULL only."""
        return self._full("end_reason").end_reason

    @property
    def end_result(self) -> Any:
        """What came of it, decoded; None when nothing was said. View FULL only."""
        text = self._full("end_result").end_result_json
        return decode(text) if text else None

    @property
    def end_result_json(self) -> str:
        """What came of it: the raw JSON text; empty when nothing was said. View FULL only."""
        return self._full("end_result_json").end_result_json

    @property
    def last_turn_error(self) -> str:
        """What went wrong in the last turn that ended; empty if it went well. View FULL only."""
        return self._full("last_turn_error").last_turn_error

    @property
    def last_reset_reason(self) -> str:
        """Why it was last reset, in the words of whoever did; may be empty. View FULL only."""
        return self._full("last_reset_reason").last_reset_reason

    @property
    def messages(self) -> tuple[Message, ...]:
        """The newest messages, oldest first, when the read asked for them."""
        if self.last_messages is None:
            raise NotLoadedError("messages were not read along: ask with last_messages=N")
        return self.last_messages

    @property
    def rolled_up(self) -> RolledUp:
        """The sums over the session and its descendants, when the read asked for them."""
        if self.sums is None:
            raise NotLoadedError("nothing was summed up: ask with roll_up=True")
        return self.sums

    @property
    def error_rate(self) -> float:
        """Errors ÷ requests; 0.0 without requests."""
        return self.metrics.error_rate

    @property
    def average_processing_time(self) -> timedelta:
        """Processing time ÷ requests; zero without requests."""
        return self.metrics.average_processing_time

    def is_expired(
        self, max_idle: timedelta | float | None = None, *, now: datetime | None = None
    ) -> bool:
        """Say whether the session has expired, or has been idle for too long.

        True when its status is EXPIRED; and, while it is ACTIVE, when `expire_time` has passed or
        the last activity is `max_idle` or longer ago (a timedelta or seconds; None: not asked).
        A live turn counts as activity. `now` defaults to this machine's clock; the server's own
        verdict is the status.
        """
        if self.status is not Status.ACTIVE:
            return self.status is Status.EXPIRED
        instant = now or datetime.now(UTC)
        if self.expire_time is not None and self.expire_time <= instant:
            return True
        if max_idle is None or self.turn is not None:
            return False
        limit = max_idle if isinstance(max_idle, timedelta) else timedelta(seconds=max_idle)
        return instant - self.activity_time >= limit

    def _full(self, name: str) -> SessionContent:
        if self.content is None:
            raise NotLoadedError(f"{name} is only in the view FULL: ask with view=View.FULL")
        return self.content


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. Only a page without `next_page_token` is the last."""

    items: tuple[T, ...]
    """May be fewer than asked for, even none, with more to come."""
    next_page_token: str
    """For the next page; empty: this is the last."""
    revision: int
    """The head of the app's log when this page was read."""
    total_size: int | None = None
    """How many there are in all, where asked for."""
    resume_token: str = ""
    """On the first page of a list of sessions: watch from here and nothing is missed."""
