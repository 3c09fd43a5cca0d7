"""What is read of a session, in Python types."""

import dataclasses
import pickle
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sojourn import (
    EndCause,
    ExpireCause,
    Metrics,
    Session,
    SessionKey,
    SessionRef,
    Status,
    _convert,
)
from sojourn.errors import NotLoadedError
from sojourn.v1 import message_pb2, session_pb2

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def stamp(instant: datetime) -> Timestamp:
    result = Timestamp()
    result.FromDatetime(instant)
    return result


def source(**fields: object) -> session_pb2.Session:
    base = session_pb2.Session(
        key=session_pb2.SessionKey(app="a", user="u", session_id="s"),
        uid="uid",
        status=session_pb2.SESSION_STATUS_ACTIVE,
        activity_time=stamp(NOW),
        metadata={"m": "1.0"},
        state=session_pb2.StateScopes(
            session=session_pb2.State(values={"x": "[1]"}, version=3),
            user=session_pb2.State(values={"y": "null"}, version=1),
        ),
        end_reason="why",
        end_result='{"score":1}',
    )
    base.MergeFrom(session_pb2.Session(**fields))  # type: ignore[arg-type]
    return base


def basic(**fields: object) -> Session:
    return _convert.session(source(**fields), 7)


def test_the_view_full_carries_everything() -> None:
    session = _convert.session(source(), 7, full=True)
    assert session.metadata == {"m": 1.0}
    assert session.metadata_json == {"m": "1.0"}
    assert session.state == {"x": [1]}
    assert session.state_json == {"x": "[1]"}
    assert session.user_state.values == {"y": None}
    assert session.user_state.version == 1
    assert session.app_state.values == {}
    assert session.app_state.version == 0
    assert session.end_reason == "why"
    assert session.end_result == {"score": 1}
    assert session.end_result_json == '{"score":1}'
    assert session.revision == 7


@pytest.mark.parametrize(
    "name",
    [
        "metadata",
        "metadata_json",
        "state",
        "state_json",
        "user_state",
        "app_state",
        "end_reason",
        "end_result",
        "end_result_json",
        "last_turn_error",
        "last_reset_reason",
        "messages",
    ],
)
def test_what_was_not_read_is_not_taken_for_empty(name: str) -> None:
    with pytest.raises(NotLoadedError, match=name.removesuffix("_json")):
        getattr(basic(), name)


def test_content_is_in_no_repr_so_that_logs_do_not_copy_it() -> None:
    session = _convert.session(source(), 7, full=True, messages=())
    assert "why" not in repr(session)
    assert "score" not in repr(session)


def test_no_result_is_none() -> None:
    plain = session_pb2.Session(key=session_pb2.SessionKey(app="a", session_id="s"))
    assert _convert.session(plain, 1, full=True).end_result is None


def test_what_is_absent_is_none() -> None:
    session = _convert.session(session_pb2.Session(), 1)
    for name in (
        "end_time",
        "end_cause",
        "expire_time",
        "expire_cause",
        "time_left",
        "owner_lease_time",
        "last_event_time",
        "turn",
        "forked_from",
        "last_reset_time",
    ):
        assert getattr(session, name) is None, name


def test_what_is_there_is_converted() -> None:
    session = basic(
        end_time=stamp(NOW),
        end_cause=session_pb2.END_CAUSE_IDLE,
        expire_time=stamp(NOW),
        expire_cause=session_pb2.EXPIRE_CAUSE_LIFETIME,
        time_left=Duration(seconds=5),
        owner_lease_time=stamp(NOW),
        last_event_time=Timestamp(seconds=1, nanos=123_456_789),
        turn=session_pb2.Turn(number=2, holder="pod-1"),
        forked_from=session_pb2.Lineage(uid="other", through_sequence=4),
    )
    assert session.end_time == session.expire_time == session.owner_lease_time == NOW
    assert (session.end_cause, session.expire_cause) == (EndCause.IDLE, ExpireCause.LIFETIME)
    assert session.time_left == timedelta(seconds=5)
    assert session.last_event_time_ns == 1_123_456_789
    assert session.last_event_time == datetime(1970, 1, 1, 0, 0, 1, 123_456, tzinfo=UTC)
    assert session.turn is not None
    assert session.turn.holder == "pod-1"
    assert session.forked_from is not None
    assert session.forked_from.through_sequence == 4


def test_a_value_of_a_newer_server_is_unknown() -> None:
    session = basic(status=99, end_cause=99, expire_cause=99)
    assert session.status is Status.UNKNOWN
    assert session.end_cause is EndCause.UNKNOWN
    assert session.expire_cause is ExpireCause.UNKNOWN


def test_every_field_of_the_contract_s_session_is_in_the_model() -> None:
    ours = {one.name for one in dataclasses.fields(Session)} | set(dir(Session))
    theirs = set(session_pb2.Session.DESCRIPTOR.fields_by_name)
    assert theirs - ours == set()


def test_names_and_references() -> None:
    session = basic()
    assert session.key == SessionKey("a", "u", "s")
    assert (session.app, session.user, session.session_id) == ("a", "u", "s")
    assert session.ref == SessionRef("a", "u", "s", "uid")
    assert len({session.key, SessionKey("a", "u", "s")}) == 1


@pytest.mark.parametrize(
    ("status", "fields", "max_idle", "expired"),
    [
        ("ACTIVE", {}, None, False),
        ("ACTIVE", {}, 1800, False),
        ("ACTIVE", {}, 600, True),
        ("ACTIVE", {}, timedelta(minutes=10), True),
        ("ACTIVE", {}, 600.001, False),
        ("ACTIVE", {"turn": session_pb2.Turn(number=1)}, 600, False),
        ("ACTIVE", {"expire_time": stamp(NOW + timedelta(minutes=10))}, None, True),
        ("ACTIVE", {"expire_time": stamp(NOW + timedelta(minutes=11))}, None, False),
        ("EXPIRED", {}, None, True),
        ("COMPLETED", {}, 600, False),
        ("FAILED", {}, 600, False),
    ],
)
def test_expiry_is_the_server_s_word_or_idleness(
    status: str, fields: dict[str, object], max_idle: float | timedelta | None, expired: bool
) -> None:
    number = session_pb2.SessionStatus.Value(f"SESSION_STATUS_{status}")
    session = basic(status=number, **fields)
    assert session.is_expired(max_idle, now=NOW + timedelta(minutes=10)) is expired


def test_rates_do_not_divide_by_zero() -> None:
    assert Metrics().error_rate == 0.0
    assert Metrics().average_processing_time == timedelta(0)
    metrics = session_pb2.Metrics(
        request_count=4, error_count=1, processing_time=Duration(seconds=6), counters={"t": 5}
    )
    session = basic(metrics=metrics)
    assert session.error_rate == 0.25
    assert session.average_processing_time == timedelta(seconds=1.5)
    assert session.metrics.counters == {"t": 5}
    assert session.is_active


@given(st.integers(-9_214_560_000 * 10**9, 9_214_646_400 * 10**9 - 1))
def test_a_message_keeps_its_event_time_to_the_nanosecond(nanoseconds: int) -> None:
    wire = message_pb2.Message(event_time=_convert.to_timestamp(nanoseconds))
    message = _convert.message(wire)
    assert message.event_time_ns == nanoseconds
    assert message.event_time is not None
    cut = message.event_time - datetime(1970, 1, 1, tzinfo=UTC)
    assert cut // timedelta(microseconds=1) == nanoseconds // 1000


def test_a_message_tells_empty_from_absent() -> None:
    absent = _convert.message(message_pb2.Message(metadata={"k": "1.0"}))
    assert absent.content is None
    assert absent.event_time is None
    assert absent.metadata_json == {"k": "1.0"}
    assert _convert.message(message_pb2.Message(content="")).content == ""


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=3650)))
def test_durations_come_back(length: timedelta) -> None:
    assert _convert.from_duration(_convert.to_duration(length)) == length


def test_a_session_can_be_pickled_and_not_changed() -> None:
    session = _convert.session(source(), 7, full=True, messages=())
    assert pickle.loads(pickle.dumps(session)) == session
    with pytest.raises(dataclasses.FrozenInstanceError):
        session.uid = "other"  # type: ignore[misc]
