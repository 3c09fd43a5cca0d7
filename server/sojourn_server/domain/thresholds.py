"""Whether a session has had more errors than its app's policy bears, and what follows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sojourn_server.domain import lifecycle
from sojourn_server.domain.clock import Nanos
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    EndCause,
    Metrics,
    Session,
    Status,
    TurnOutcome,
)
from sojourn_server.domain.policy import Policy, Threshold, ThresholdAction


def exceeded(threshold: Threshold, metrics: Metrics) -> bool:
    """Whether a session's counters are beyond a threshold."""
    count, rate = threshold.error_count_above, threshold.error_rate_above
    if count is not None and metrics.errors > count:
        return True
    # Of no requests there is no rate, whatever the threshold says.
    enough = metrics.requests >= max(1, threshold.min_requests)
    return rate is not None and enough and metrics.errors > rate * metrics.requests


def judged(policy: Policy, now: Nanos, before: Session, changes: Sequence[Change]) -> list[Change]:
    """The changes of one session, and what the policy's thresholds add to them.

    A WARN logs a change when a threshold is exceeded that was not before; however many
    are, it is one change. An END ends the session whenever its counters grow and lie
    beyond.

    Args:
        policy: The app's.
        now: When it ends, if it does.
        before: The session before the changes.
        changes: What was done to it, in order.
    """
    result = list(changes)
    if not policy.thresholds or not result:
        return result
    after = result[-1].after
    assert after is not None
    old, new = before.metrics, after.metrics
    if not after.is_active or (new.requests <= old.requests and new.errors <= old.errors):
        return result
    beyond = [each for each in policy.thresholds if exceeded(each, new)]
    warned = (each for each in beyond if each.action is ThresholdAction.WARN)
    if any(not exceeded(each, old) for each in warned):
        result.append(Change(cause=ChangeCause.THRESHOLD, before=after, after=after))
    if any(each.action is ThresholdAction.END for each in beyond):
        result += lifecycle.ended(after, now, Status.FAILED, EndCause.THRESHOLD)
    return result


def judged_over_time(policy: Policy, now: Nanos, settled: Iterable[Change]) -> list[Change]:
    """What time has brought about on a session, with what the thresholds say of it.

    An abandoned turn counts as an error, and may end the session before its deadline does.
    """
    result: list[Change] = []
    for change in settled:
        if change.detail.turn_outcome is not TurnOutcome.ABANDONED:
            result.append(change)
            continue
        assert change.before is not None
        result += judged(policy, now, change.before, [change])
        last = result[-1].after
        if last is not None and not last.is_active:
            break
    return result
