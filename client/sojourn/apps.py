"""Apps: what they are, the rules that they carry, and what stands in the way of their end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sojourn.enums import AppStatus, OverflowAction, QuotaAction, ThresholdAction
from sojourn.models import SessionKey


@dataclass(frozen=True, slots=True)
class Threshold:
    """A bound on errors, and what happens when a session exceeds it."""

    action: ThresholdAction = ThresholdAction.WARN
    """What happens: a change THRESHOLD, or the session ends as FAILED."""
    error_rate_above: float | None = None
    """Errors ÷ requests above this, 0 to 1; None: not looked at."""
    min_requests: int = 1
    """The rate counts only from so many requests on."""
    error_count_above: int | None = None
    """More errors than this; None: not looked at."""


@dataclass(frozen=True, slots=True)
class Policy:
    """An app's rules. None: the server's default. Durations may be given in seconds, too."""

    default_idle_timeout: timedelta | float | None = None
    """For sessions whose creator named none; zero: for ever."""
    default_max_lifetime: timedelta | float | None = None
    """For sessions whose creator named none; zero: no limit."""
    retention: timedelta | float | None = None
    """How long ended sessions are kept, then removed; zero: for ever."""
    auto_create: bool | None = None
    """Whether `create_if_missing` is allowed; False: `AutoCreateRefusedError`."""
    max_active_sessions: int | None = None
    """The most ACTIVE sessions in the app."""
    max_active_sessions_per_user: int | None = None
    """The most ACTIVE sessions of one user."""
    session_quota_action: QuotaAction = QuotaAction.REFUSE
    """What happens at those two limits: `QuotaExceededError`, or the idlest session ends."""
    max_requests_per_session: int | None = None
    """The most requests in one session."""
    max_messages_per_session: int | None = None
    """The most messages in one session."""
    max_bytes_per_session: int | None = None
    """The most bytes of messages in one session."""
    overflow_action: OverflowAction = OverflowAction.REFUSE
    """What happens at the limits of messages and bytes: an error, or the oldest messages go."""
    require_turn: bool | None = None
    """Whether history and state may be written with a turn's token only."""
    thresholds: Sequence[Threshold] = ()
    """What is looked at after each request, up to 8."""


@dataclass(frozen=True, slots=True)
class AppBlockers:
    """Why an app cannot be deleted now: who holds it, and until when."""

    count: int = 0
    """How many sessions are live."""
    first_keys: tuple[SessionKey, ...] = ()
    """The first 20 of them."""
    holders: tuple[str, ...] = ()
    """Who holds turns."""
    last_actor: str = ""
    """Who called last."""
    latest_activity_time: datetime | None = None
    """When that was."""
    earliest_success_time: datetime | None = None
    """The earliest time at which a delete could succeed; None: never by itself."""


@dataclass(frozen=True, slots=True)
class App:
    """One agent application: a deployment, an engine, an `app_name`."""

    app: str
    """The name."""
    status: AppStatus
    """How far it has come."""
    labels: Mapping[str, str]
    """Short, selectable texts."""
    policy: Policy
    """Its rules, as they were written."""
    create_time: datetime
    """When it came into being."""
    active_sessions: int
    """How many sessions are ACTIVE."""
    session_count: int
    """How many sessions there are, ended ones too."""
    revision: int
    """The head of its log."""
    feed_id: str
    """The feed that its tokens belong to."""
    drain_deadline: datetime | None = None
    """When a drain forces what is left; None when it is not draining."""
    blockers: AppBlockers | None = field(default=None, repr=False)
    """What stands in the way of its deletion, while it drains and `apps.get` read it."""
    effective_policy: Policy | None = field(default=None, repr=False)
    """What holds: the policy, and the server's defaults where it says nothing. None where
    `apps.get` did not read it."""

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new sessions and turns, and waits for those there are."""
        return self.status is AppStatus.DRAINING
