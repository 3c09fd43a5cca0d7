"""Apps and their policies between wire and domain."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from sojourn.v1 import app_pb2
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.errors import invalid_field
from sojourn_server.domain.model import App, AppStatus
from sojourn_server.domain.policy import (
    OverflowAction,
    Policy,
    QuotaAction,
    Threshold,
    ThresholdAction,
)
from sojourn_server.rpc.times import fill, length
from sojourn_server.service.blockers import Blockers

# An enum that is not set is 0, and means what the proto's comment on it says.
_QUOTA_ACTIONS: Final = (QuotaAction.REFUSE, *QuotaAction)
_OVERFLOW_ACTIONS: Final = (OverflowAction.REFUSE, *OverflowAction)
_THRESHOLD_ACTIONS: Final = (ThresholdAction.WARN, *ThresholdAction)
STATUSES: Final = {status.value: status for status in AppStatus}
_LENGTHS: Final = ("default_idle_timeout", "default_max_lifetime", "retention")
_PLAIN: Final = (
    "auto_create",
    "max_active_sessions",
    "max_active_sessions_per_user",
    "max_requests_per_session",
    "max_messages_per_session",
    "max_bytes_per_session",
    "require_turn",
)


def decode_policy(path: str, policy: app_pb2.Policy) -> Policy:
    """An app's rules.

    Args:
        path: Where they stand in the request.
        policy: The message.

    Raises:
        Refusal: `INVALID_FIELD`: a duration that is none, or a threshold without a bound.
    """
    fields: dict[str, object] = {
        name: getattr(policy, name) for name in _PLAIN if policy.HasField(name)
    }
    for name in _LENGTHS:
        if policy.HasField(name):
            duration: Duration = getattr(policy, name)
            fields[name] = length(f"{path}.{name}", duration)
    return Policy(
        **fields,  # type: ignore[arg-type]
        session_quota_action=_QUOTA_ACTIONS[policy.session_quota_action],
        overflow_action=_OVERFLOW_ACTIONS[policy.overflow_action],
        thresholds=tuple(
            _decode_threshold(f"{path}.thresholds[{index}]", each)
            for index, each in enumerate(policy.thresholds)
        ),
    )


def _decode_threshold(path: str, threshold: app_pb2.Threshold) -> Threshold:
    rate = threshold.error_rate_above if threshold.HasField("error_rate_above") else None
    count = threshold.error_count_above if threshold.HasField("error_count_above") else None
    if rate is None and count is None:
        raise invalid_field(path, "must have error_rate_above or error_count_above")
    return Threshold(
        error_rate_above=rate,
        min_requests=threshold.min_requests or 1,
        error_count_above=count,
        action=_THRESHOLD_ACTIONS[threshold.action],
    )


def fill_app(target: app_pb2.App, app: App, revision: int, active: int, sessions: int) -> None:
    """Write an app.

    Args:
        target: An empty message.
        app: The app.
        revision: The head of its log.
        active: How many of its sessions are ACTIVE.
        sessions: How many it has.
    """
    target.app = app.app
    # The domain's numbers are the proto's, and a test holds them together.
    target.status = app.status  # type: ignore[assignment]
    target.labels.update(app.labels)
    fill_policy(target.policy, app.policy)
    fill(target.create_time, app.create_time)
    target.active_sessions = active
    target.session_count = sessions
    target.revision = revision
    target.feed_id = app.feed_id
    if app.drain_deadline:
        fill(target.drain_deadline, app.drain_deadline)


def fill_blockers(target: app_pb2.AppBlockers, app: str, found: Blockers) -> None:
    """Write what stands in the way of an app's deletion.

    Args:
        target: An empty message.
        app: The app.
        found: What does.
    """
    target.count = found.count
    for user, session_id in found.first_keys:
        target.first_keys.add(app=app, user=user, session_id=session_id)
    target.holders.extend(found.holders)
    target.last_actor = found.last_actor
    if found.latest_activity:
        fill(target.latest_activity_time, found.latest_activity)
    if found.earliest_success is not None:
        fill(target.earliest_success_time, found.earliest_success)


def fill_policy(target: app_pb2.Policy, policy: Policy) -> None:
    """Write an app's rules."""
    target.SetInParent()
    for name in _PLAIN:
        value = getattr(policy, name)
        if value is not None:
            setattr(target, name, value)
    for name in _LENGTHS:
        nanos: Nanos | None = getattr(policy, name)
        if nanos is not None:
            duration: Duration = getattr(target, name)
            duration.SetInParent()
            fill(duration, nanos)
    target.session_quota_action = policy.session_quota_action  # type: ignore[assignment]
    target.overflow_action = policy.overflow_action  # type: ignore[assignment]
    for each in policy.thresholds:
        threshold = target.thresholds.add(min_requests=each.min_requests)
        threshold.action = each.action  # type: ignore[assignment]
        if each.error_rate_above is not None:
            threshold.error_rate_above = each.error_rate_above
        if each.error_count_above is not None:
            threshold.error_count_above = each.error_count_above
