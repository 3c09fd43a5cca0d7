"""Apps, policies, sums and audits: from the contract's messages to models, and back."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sojourn import (
    AppStatus,
    ChangeCause,
    OverflowAction,
    Policy,
    QuotaAction,
    SessionKey,
    Threshold,
    ThresholdAction,
    _app_calls,
    _app_convert,
)
from sojourn.v1 import (
    admin_service_pb2,
    app_pb2,
    app_service_pb2,
    change_pb2,
    session_service_pb2,
)

COUNTS = st.none() | st.integers(0, 2**63 - 1)
LENGTHS = st.none() | st.timedeltas(timedelta(0), timedelta(days=3650))
THRESHOLDS = st.builds(
    Threshold,
    action=st.sampled_from([ThresholdAction.WARN, ThresholdAction.END]),
    error_rate_above=st.floats(0, 1),
    min_requests=st.integers(1, 10**9),
    error_count_above=COUNTS,
)
POLICIES = st.builds(
    Policy,
    default_idle_timeout=LENGTHS,
    default_max_lifetime=LENGTHS,
    retention=LENGTHS,
    auto_create=st.none() | st.booleans(),
    max_active_sessions=COUNTS,
    max_active_sessions_per_user=COUNTS,
    session_quota_action=st.sampled_from([QuotaAction.REFUSE, QuotaAction.END_OLDEST_IDLE]),
    max_requests_per_session=COUNTS,
    max_messages_per_session=COUNTS,
    max_bytes_per_session=COUNTS,
    overflow_action=st.sampled_from([OverflowAction.REFUSE, OverflowAction.DROP_OLDEST]),
    require_turn=st.none() | st.booleans(),
    thresholds=st.lists(THRESHOLDS, max_size=8).map(tuple),
)


@given(POLICIES)
def test_a_policy_comes_back_as_it_went(policy: Policy) -> None:
    assert _app_convert.policy(_app_calls.policy_of(policy)) == policy


def test_a_policy_has_every_field_of_the_contract() -> None:
    assert {one.name for one in fields(Policy)} == set(app_pb2.Policy.DESCRIPTOR.fields_by_name)
    assert {one.name for one in fields(Threshold)} == set(
        app_pb2.Threshold.DESCRIPTOR.fields_by_name
    )


def test_zero_is_not_absent_and_seconds_are_as_good_as_a_timedelta() -> None:
    sent = _app_calls.policy_of(Policy(retention=0, default_idle_timeout=1.5))
    assert sent.HasField("retention")
    assert _app_convert.policy(sent) == Policy(
        retention=timedelta(0), default_idle_timeout=timedelta(seconds=1.5)
    )


def test_what_happens_at_a_limit_is_an_error_unless_told() -> None:
    assert _app_convert.policy(app_pb2.Policy()) == Policy()
    assert Policy().session_quota_action is QuotaAction.REFUSE
    assert Policy().overflow_action is OverflowAction.REFUSE


def test_what_a_newer_server_says_is_unknown() -> None:
    found = _app_convert.policy(
        app_pb2.Policy(
            session_quota_action=99,  # type: ignore[arg-type]
            overflow_action=99,  # type: ignore[arg-type]
            thresholds=[app_pb2.Threshold(action=99)],  # type: ignore[arg-type]
        )
    )
    assert found.session_quota_action is QuotaAction.UNKNOWN
    assert found.overflow_action is OverflowAction.UNKNOWN
    assert found.thresholds[0].action is ThresholdAction.UNKNOWN
    with pytest.raises(Exception, match="session_quota_action"):
        _app_calls.policy_of(found)


def test_an_app_is_read_with_what_stands_in_the_way_of_its_end() -> None:
    answer = app_service_pb2.GetAppResponse(
        app=app_pb2.App(
            app="a",
            status=app_pb2.APP_STATUS_DRAINING,
            labels={"agent": "x"},
            create_time=Timestamp(seconds=0),
            active_sessions=1,
            session_count=3,
            revision=9,
            feed_id="f",
            drain_deadline=Timestamp(seconds=3600),
        ),
        blockers=app_pb2.AppBlockers(count=1, holders=["pod-1"]),
    )
    app = _app_convert.app_got(answer)
    assert (app.app, app.status, app.is_draining) == ("a", AppStatus.DRAINING, True)
    assert (app.active_sessions, app.session_count, app.revision) == (1, 3, 9)
    assert app.drain_deadline == datetime(1970, 1, 1, 1, tzinfo=UTC)
    assert app.blockers is not None
    assert app.blockers.holders == ("pod-1",)
    answer.ClearField("blockers")
    answer.app.ClearField("drain_deadline")
    assert replace(app, blockers=None, drain_deadline=None) == _app_convert.app_got(answer)


def test_a_sum_knows_no_mean_without_requests() -> None:
    empty = _app_convert.aggregate(session_service_pb2.SessionAggregate(group="u"))
    assert (empty.group, empty.error_rate, empty.mean_processing_time) == ("u", 0.0, None)
    full = session_service_pb2.SessionAggregate(
        session_count=2, mean_processing_time=Duration(seconds=1), message_count=5
    )
    full.metrics.request_count = 3
    assert _app_convert.aggregate(full).mean_processing_time == timedelta(seconds=1)
    assert _app_convert.aggregate(full).metrics.request_count == 3


def test_an_entry_of_the_audit_is_of_a_session_or_of_the_app() -> None:
    source = admin_service_pb2.AuditEntry(
        app="a",
        revision=3,
        time=Timestamp(seconds=1),
        actor="me",
        cause=change_pb2.CHANGE_CAUSE_RESET,
        uid="x",
    )
    assert _app_convert.audit_entry(source).session is None
    source.session.session_id = "s"
    found = _app_convert.audit_entry(source)
    assert found.session == SessionKey("", "", "s")
    assert (found.cause, found.actor, found.uid) == (ChangeCause.RESET, "me", "x")
