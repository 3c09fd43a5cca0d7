"""How a session lives: what renews it, what is due, how it ends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sojourn_server.domain import lifecycle
from sojourn_server.domain.clock import SECOND, Nanos
from sojourn_server.domain.lifecycle import Expiry
from sojourn_server.domain.model import (
    Change,
    ChangeCause,
    EndCause,
    ExpireCause,
    Metrics,
    Owner,
    Session,
    Status,
    TurnOutcome,
)
from tests.unit.domain.values import START, a_session, a_turn


def at(seconds: float) -> Nanos:
    return START + int(seconds * SECOND)


def idle(seconds: float, **fields: Any) -> Session:
    return a_session(idle_timeout=int(seconds * SECOND), **fields)


def last(changes: list[Change]) -> Session:
    after = changes[-1].after
    assert after is not None
    return after


def settle(session: Session, now: Nanos) -> list[Change]:
    return list(lifecycle.settled(session, now))


def causes(changes: list[Change]) -> list[ChangeCause]:
    return [change.cause for change in changes]


# --- when a session expires --------------------------------------------------------------------


def test_a_session_without_timeouts_never_expires_and_nothing_is_ever_due() -> None:
    assert lifecycle.expiry(a_session()) is None
    assert lifecycle.due(a_session()) is None


def test_the_idle_deadline_counts_from_the_last_activity() -> None:
    session = idle(10, activity_time=at(5))
    assert lifecycle.expiry(session) == Expiry(at(15), ExpireCause.IDLE)
    assert lifecycle.due(session) == at(15)


def test_the_lifetime_counts_from_the_creation_whatever_happens() -> None:
    session = a_session(max_lifetime=10 * SECOND, activity_time=at(9))
    assert lifecycle.expiry(session) == Expiry(at(10), ExpireCause.LIFETIME)


def test_the_nearer_of_the_two_deadlines_wins() -> None:
    both = idle(10, max_lifetime=12 * SECOND)
    assert lifecycle.expiry(both) == Expiry(at(10), ExpireCause.IDLE)
    later = msgspec.structs.replace(both, activity_time=at(5))
    assert lifecycle.expiry(later) == Expiry(at(12), ExpireCause.LIFETIME)


def test_a_turn_holds_off_the_idle_deadline_but_not_the_lifetime() -> None:
    session = idle(10, turn=a_turn(lease=60 * SECOND))
    assert lifecycle.expiry(session) is None
    mortal = msgspec.structs.replace(session, max_lifetime=20 * SECOND)
    assert lifecycle.expiry(mortal) == Expiry(at(20), ExpireCause.LIFETIME)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.EXPIRED])
def test_nothing_is_due_on_a_session_that_has_ended(status: Status) -> None:
    ended = idle(1, status=status, max_lifetime=1, turn=a_turn(), owner=Owner(lease_time=1))
    assert lifecycle.expiry(ended) is None
    assert lifecycle.due(ended) is None
    assert settle(ended, at(100)) == []


def test_the_end_of_a_lease_is_due_for_turns_and_owners() -> None:
    assert lifecycle.due(a_session(turn=a_turn(lease=3 * SECOND))) == at(3)
    assert lifecycle.due(a_session(owner=Owner(lease=1, lease_time=at(4)))) == at(4)
    assert lifecycle.due(a_session(owner=Owner(turn_number=2))) is None


def test_a_turn_is_live_until_the_instant_its_lease_ends() -> None:
    session = a_session(turn=a_turn(lease=3 * SECOND))
    assert lifecycle.has_live_turn(session, at(3) - 1)
    assert not lifecycle.has_live_turn(session, at(3))
    assert not lifecycle.has_live_turn(a_session(), START)


# --- what time brings about --------------------------------------------------------------------


def test_nothing_happens_before_its_instant() -> None:
    assert settle(idle(10), at(10) - 1) == []


def test_an_idle_session_expires_at_its_deadline() -> None:
    [change] = settle(idle(10), at(10))
    assert change.cause is ChangeCause.EXPIRED
    assert change.before == idle(10)
    after = last([change])
    assert (after.status, after.end_cause, after.end_time, after.update_time) == (
        Status.EXPIRED,
        EndCause.IDLE,
        at(10),
        at(10),
    )
    assert after.activity_time == START


def test_a_session_past_its_lifetime_expires_whatever_its_activity() -> None:
    changes = settle(a_session(max_lifetime=SECOND, activity_time=at(1)), at(2))
    assert causes(changes) == [ChangeCause.EXPIRED]
    assert last(changes).end_cause is EndCause.LIFETIME


def test_an_abandoned_turn_ends_as_an_error_that_lasted_as_long_as_its_lease() -> None:
    [change] = settle(a_session(turn=a_turn(lease=30 * SECOND)), at(100))
    assert change.cause is ChangeCause.TURN_ENDED
    assert change.detail.turn_outcome is TurnOutcome.ABANDONED
    after = last([change])
    assert after.turn is None
    assert after.metrics == Metrics(requests=1, errors=1, processing_time=30 * SECOND)
    assert (after.update_time, after.activity_time) == (at(100), at(30))


def test_after_an_abandoned_turn_the_idle_deadline_counts_from_the_end_of_its_lease() -> None:
    session = idle(10, turn=a_turn(lease=30 * SECOND))
    assert causes(settle(session, at(30))) == [ChangeCause.TURN_ENDED]
    assert causes(settle(session, at(40) - 1)) == [ChangeCause.TURN_ENDED]
    assert last(settle(session, at(35))).status is Status.ACTIVE
    assert lifecycle.due(last(settle(session, at(35)))) == at(40)
    both = settle(session, at(40))
    assert causes(both) == [ChangeCause.TURN_ENDED, ChangeCause.EXPIRED]
    assert last(both).end_cause is EndCause.IDLE


def test_activity_after_the_lease_counts_more_than_the_end_of_the_lease() -> None:
    session = idle(10, turn=a_turn(lease=30 * SECOND), activity_time=at(35))
    assert lifecycle.due(last(settle(session, at(36)))) == at(45)


def test_the_lifetime_beats_a_live_turn_and_revokes_it() -> None:
    session = a_session(max_lifetime=20 * SECOND, turn=a_turn(lease=30 * SECOND))
    changes = settle(session, at(20))
    assert causes(changes) == [ChangeCause.TURN_ENDED, ChangeCause.EXPIRED]
    assert changes[0].detail.turn_outcome is TurnOutcome.REVOKED
    assert last(changes).end_cause is EndCause.LIFETIME
    assert last(changes).metrics.errors == 1


def test_at_one_instant_the_lifetime_beats_the_lease() -> None:
    session = a_session(max_lifetime=30 * SECOND, turn=a_turn(lease=30 * SECOND))
    assert settle(session, at(30))[0].detail.turn_outcome is TurnOutcome.REVOKED


def test_a_lease_that_ended_before_the_lifetime_was_abandoned_first() -> None:
    session = a_session(max_lifetime=40 * SECOND, turn=a_turn(lease=30 * SECOND))
    changes = settle(session, at(50))
    assert causes(changes) == [ChangeCause.TURN_ENDED, ChangeCause.EXPIRED]
    assert changes[0].detail.turn_outcome is TurnOutcome.ABANDONED


def test_a_lost_owner_ends_the_session_as_failed() -> None:
    changes = settle(a_session(owner=Owner(lease=1, lease_time=at(5))), at(5))
    assert causes(changes) == [ChangeCause.ENDED]
    assert (last(changes).status, last(changes).end_cause) == (Status.FAILED, EndCause.OWNER_LOST)


def test_a_lost_owner_revokes_a_live_turn() -> None:
    session = a_session(owner=Owner(lease=1, lease_time=at(5)), turn=a_turn())
    assert causes(settle(session, at(5))) == [ChangeCause.TURN_ENDED, ChangeCause.ENDED]


def test_whichever_passed_first_ends_the_session() -> None:
    owner = Owner(lease=1, lease_time=at(5))
    assert last(settle(idle(4, owner=owner), at(99))).end_cause is EndCause.IDLE
    assert last(settle(idle(6, owner=owner), at(99))).end_cause is EndCause.OWNER_LOST
    mortal = a_session(owner=owner, max_lifetime=4 * SECOND)
    assert last(settle(mortal, at(99))).end_cause is EndCause.LIFETIME


spans = st.sampled_from([0, 1, 2, 3, 5, 8])
offsets = st.integers(-3, 12)


@st.composite
def any_session(draw: st.DrawFn) -> Session:
    lease = draw(spans)
    return a_session(
        idle_timeout=draw(spans) * SECOND,
        max_lifetime=draw(spans) * SECOND,
        activity_time=at(draw(offsets)),
        turn=a_turn(begin=at(draw(offsets)), lease=lease * SECOND) if lease else None,
        owner=draw(
            st.none()
            | st.just(Owner(turn_number=1))
            | st.builds(lambda it: Owner(lease=SECOND, lease_time=at(it)), offsets)
        ),
        status=draw(st.sampled_from([Status.ACTIVE, Status.ACTIVE, Status.FAILED])),
        metrics=Metrics(requests=draw(spans), errors=draw(spans)),
        version=draw(st.integers(1, 5)),
    )


@given(any_session(), offsets)
@settings(max_examples=250, deadline=None)
def test_settling_leaves_nothing_due_and_each_change_begins_where_the_last_one_ended(
    session: Session, offset: int
) -> None:
    now = at(offset)
    was_due = lifecycle.due(session)
    changes = settle(session, now)
    assert bool(changes) == (was_due is not None and was_due <= now)
    assert len(changes) <= 3
    before = session
    for change in changes:
        assert change.before == before
        assert change.after is not None
        before = change.after
        assert before.activity_time >= session.activity_time
        assert before.update_time == now
    left = lifecycle.due(before)
    assert left is None or left > now
    assert settle(before, now) == []


@given(any_session(), offsets, offsets)
@settings(max_examples=150, deadline=None)
def test_settling_late_comes_to_the_same_as_settling_at_every_instant(
    session: Session, first: int, second: int
) -> None:
    low, high = sorted((first, second))
    at_once = settle(session, at(high))
    early = settle(session, at(low))
    stepwise = [*early, *settle(last(early) if early else session, at(high))]
    assert causes(stepwise) == causes(at_once)
    if at_once:
        one, other = last(at_once), last(stepwise)
        assert (one.status, one.end_cause, one.turn, one.metrics.errors) == (
            other.status,
            other.end_cause,
            other.turn,
            other.metrics.errors,
        )


# --- what each step does to version, times and counters ----------------------------------------


def test_a_touch_moves_the_activity_alone() -> None:
    touched = lifecycle.renewed(a_session(), at(7))
    assert touched == msgspec.structs.replace(a_session(), activity_time=at(7))


def test_a_clock_that_steps_back_takes_no_activity_away() -> None:
    session = a_session(activity_time=at(7))
    assert lifecycle.renewed(session, at(-5)) == session
    assert lifecycle.edited(session, at(-5)).activity_time == at(7)
    assert last([lifecycle.turn_begun(session, at(-5), "pod", SECOND)]).activity_time == at(7)
    ended = lifecycle.turn_ended(
        msgspec.structs.replace(session, turn=a_turn()), at(-5), TurnOutcome.OK
    )
    assert last([ended]).metrics.processing_time == 0


def test_an_edit_moves_version_update_and_activity() -> None:
    edited = lifecycle.edited(a_session(version=4), at(7), labels={"a": "1"})
    assert (edited.version, edited.update_time, edited.activity_time, edited.labels) == (
        5,
        at(7),
        at(7),
        {"a": "1"},
    )


def test_turns_are_numbered_and_move_no_version() -> None:
    session = a_session(turns_begun=4, version=9)
    change = lifecycle.turn_begun(session, at(7), "pod-1", 30 * SECOND)
    after = last([change])
    assert change.cause is ChangeCause.TURN_BEGAN
    assert after.turn == msgspec.structs.replace(a_turn(5, begin=at(7)), owns=False)
    assert (after.turns_begun, after.version, after.update_time, after.activity_time) == (
        5,
        9,
        at(7),
        at(7),
    )


@pytest.mark.parametrize("outcome", list(TurnOutcome))
def test_a_turn_that_ends_counts_a_request_its_time_and_an_error_unless_it_went_well(
    outcome: TurnOutcome,
) -> None:
    before = a_session(
        turn=a_turn(),
        version=9,
        metrics=Metrics(requests=1, errors=1, processing_time=5, counters={"tokens": 7}),
    )
    change = lifecycle.turn_ended(before, at(4), outcome, 77)
    after = last([change])
    assert (change.cause, change.detail.turn_outcome) == (ChangeCause.TURN_ENDED, outcome)
    assert after.metrics == Metrics(
        requests=2,
        errors=1 if outcome is TurnOutcome.OK else 2,
        processing_time=4 * SECOND + 5,
        counters={"tokens": 7},
    )
    assert (after.turn, after.turn_error, after.version) == (None, 77, 9)
    assert after.update_time == after.activity_time == at(4)


def test_the_error_of_a_turn_is_forgotten_when_another_turn_ends() -> None:
    session = idle(1, turn=a_turn(), turn_error=77, max_lifetime=10 * SECOND)
    revoked, *_ = settle(session, at(10))
    assert last([revoked]).turn_error == 0
    abandoned, *_ = settle(msgspec.structs.replace(session, max_lifetime=0), at(30))
    assert last([abandoned]).turn_error == 0


def test_an_end_moves_version_and_update_but_no_activity() -> None:
    before = a_session(version=9)
    [change] = lifecycle.ended(before, at(4), Status.COMPLETED, EndCause.REQUEST, 55)
    after = last([change])
    assert change.cause is ChangeCause.ENDED
    assert (after.status, after.end_cause, after.end_note, after.end_time) == (
        Status.COMPLETED,
        EndCause.REQUEST,
        55,
        at(4),
    )
    assert (after.version, after.update_time, after.activity_time) == (10, at(4), START)


def test_an_end_revokes_a_live_turn_in_a_change_of_its_own_and_first() -> None:
    changes = list(
        lifecycle.ended(a_session(turn=a_turn()), at(4), Status.FAILED, EndCause.REQUEST)
    )
    assert causes(changes) == [ChangeCause.TURN_ENDED, ChangeCause.ENDED]
    assert changes[1].before == changes[0].after
    assert last(changes).turn is None


@pytest.mark.parametrize("cause", list(EndCause))
def test_only_the_two_deadlines_are_logged_as_expired(cause: EndCause) -> None:
    [change] = lifecycle.ended(a_session(), at(4), Status.EXPIRED, cause)
    by_time = cause in (EndCause.IDLE, EndCause.LIFETIME)
    assert change.cause is (ChangeCause.EXPIRED if by_time else ChangeCause.ENDED)


FULL = {
    "message_count": 3,
    "message_bytes": 30,
    "last_sequence": 7,
    "last_event_time": 5,
    "metrics": Metrics(requests=4, errors=2, counters={"tokens": 9}),
    "state": 11,
    "state_version": 6,
    "metadata": 12,
    "turn_error": 13,
    "labels": {"a": "1"},
    "generation": 2,
    "version": 9,
    "turns_begun": 3,
}


def reset(session: Session, now: Nanos, *scopes: str, reason: int = 0) -> list[Change]:
    flags = {name: name in scopes for name in ("history", "state", "metrics")}
    return list(lifecycle.reset(session, now, reason=reason, **flags))


def test_every_reset_begins_a_generation_and_keeps_id_labels_metadata_and_expiry() -> None:
    session = idle(10, max_lifetime=99 * SECOND, **FULL)
    for scopes in ((), ("history",), ("state",), ("metrics",), ("history", "state", "metrics")):
        changes = reset(session, at(4), *scopes, reason=66)
        after = last(changes)
        assert causes(changes) == [ChangeCause.RESET]
        assert (after.generation, after.version) == (3, 10)
        assert (after.reset_time, after.reset_reason) == (at(4), 66)
        assert after.update_time == after.activity_time == at(4)
        for kept in ("uid", "session_id", "labels", "metadata", "idle_timeout", "max_lifetime"):
            assert getattr(after, kept) == getattr(session, kept)
        assert (after.create_time, after.last_sequence, after.turns_begun) == (START, 7, 3)
        assert after.turn_error == 0


def test_a_reset_of_history_clears_messages_but_not_the_highest_sequence() -> None:
    [change] = reset(a_session(**FULL), at(4), "history")
    after = last([change])
    assert (after.message_count, after.message_bytes, after.last_event_time) == (0, 0, None)
    assert (after.last_sequence, after.state, after.metrics) == (7, 11, FULL["metrics"])
    assert (change.detail.first_sequence, change.detail.last_sequence) == (1, 7)


def test_a_reset_of_state_clears_it_and_moves_its_version() -> None:
    [change] = reset(a_session(**FULL), at(4), "state")
    after = last([change])
    assert (after.state, after.state_version, after.message_count) == (0, 7, 3)
    assert (change.detail.first_sequence, change.detail.last_sequence) == (0, 0)
    assert last(reset(a_session(), at(4), "state")).state_version == 0


def test_a_reset_of_the_counters_clears_all_of_them() -> None:
    after = last(reset(a_session(**FULL), at(4), "metrics"))
    assert (after.metrics, after.message_count, after.state) == (Metrics(), 3, 11)


def test_a_reset_revokes_a_live_turn_first_and_clears_what_that_counted() -> None:
    session = a_session(turn=a_turn(4), **{**FULL, "turns_begun": 4})
    changes = reset(session, at(4), "metrics")
    assert causes(changes) == [ChangeCause.TURN_ENDED, ChangeCause.RESET]
    assert changes[0].detail.turn_outcome is TurnOutcome.REVOKED
    after = last(changes)
    assert (after.turn, after.metrics, after.turns_begun) == (None, Metrics(), 4)
    kept = last(reset(session, at(4), "history"))
    assert kept.metrics.requests == 5


def test_a_reset_of_an_empty_session_succeeds() -> None:
    [change] = reset(a_session(), at(4), "history", "state", "metrics")
    assert last([change]).generation == 2
    assert (change.detail.first_sequence, change.detail.last_sequence) == (0, 0)
