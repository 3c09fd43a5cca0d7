"""An app's rules. What is None is the server's default; see `Defaults`.

Stored inside `App` as a msgpack array: **append new fields at the end, with a default,
and never move or remove one.**
"""

from __future__ import annotations

import enum

import msgspec

from sojourn_server.domain.clock import Nanos


class QuotaAction(enum.IntEnum):
    """What happens at a limit of active sessions. Numbers are those of `QuotaAction`."""

    REFUSE = 1
    END_OLDEST_IDLE = 2


class OverflowAction(enum.IntEnum):
    """What happens at a limit of messages or bytes. Numbers are those of `OverflowAction`."""

    REFUSE = 1
    DROP_OLDEST = 2


class ThresholdAction(enum.IntEnum):
    """What happens at a threshold. Numbers are those of `ThresholdAction`."""

    WARN = 1
    END = 2


class Threshold(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A bound on errors, and what to do when a session exceeds it."""

    error_rate_above: float | None = None
    min_requests: int = 1
    """The rate counts only from so many requests on."""
    error_count_above: int | None = None
    action: ThresholdAction = ThresholdAction.WARN


class Policy(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """The rules of one app."""

    default_idle_timeout: Nanos | None = None
    """For sessions whose creator named none; 0: for ever."""
    default_max_lifetime: Nanos | None = None
    """The same; 0: no limit."""
    retention: Nanos | None = None
    """How long ended sessions are kept; 0: for ever."""
    auto_create: bool | None = None
    """Whether `create_if_missing` is allowed."""
    max_active_sessions: int | None = None
    max_active_sessions_per_user: int | None = None
    session_quota_action: QuotaAction = QuotaAction.REFUSE
    max_requests_per_session: int | None = None
    max_messages_per_session: int | None = None
    max_bytes_per_session: int | None = None
    overflow_action: OverflowAction = OverflowAction.REFUSE
    require_turn: bool | None = None
    """Whether history and state may be written with a turn token only."""
    thresholds: tuple[Threshold, ...] = ()


NO_POLICY = Policy()
