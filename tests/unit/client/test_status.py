"""A failed call's status becomes one of our errors, whoever made it."""

import pickle
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from sojourn import SessionKey, errors
from sojourn._status import Status, forbids_retry, to_error


def details(*messages: Message) -> tuple[str, bytes]:
    status = status_pb2.Status(code=5, message="m")
    for message in messages:
        packed = Packed()
        packed.Pack(message)
        status.details.append(packed)
    return ("grpc-status-details-bin", status.SerializeToString())


def info(reason: str, domain: str = "sojourn", **metadata: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def test_reason_metadata_and_ids_arrive() -> None:
    trailers = (
        details(info("SESSION_NOT_FOUND", session_id="x")),
        ("x-sojourn-correlation-id", "c-1"),
    )
    error = to_error(
        Status("NOT_FOUND", "no such session", trailers), method="GetSession", request_id="r-1"
    )
    assert type(error) is errors.SessionNotFoundError
    assert error.message == "no such session"
    assert (error.code, error.reason) == ("NOT_FOUND", "SESSION_NOT_FOUND")
    assert error.metadata == {"session_id": "x"}
    assert (error.correlation_id, error.request_id) == ("c-1", "r-1")
    assert error.method == "GetSession"


def test_field_violations_and_the_pause_arrive() -> None:
    bad = error_details_pb2.BadRequest()
    bad.field_violations.add(field="page_size", description="must not be negative")
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    status = Status("INVALID_ARGUMENT", "bad", (details(info("INVALID_FIELD"), bad, retry),))
    error = to_error(status, method="ListSessions")
    assert error.field_violations == (errors.FieldViolation("page_size", "must not be negative"),)
    assert error.retry_after == timedelta(seconds=1.5)


@pytest.mark.parametrize(
    "trailers",
    [
        (),
        (("grpc-status-details-bin", b"\xff\xff not protobuf"),),
        (("grpc-status-details-bin", "text"),),
        (details(info("SESSION_NOT_FOUND", domain="example.com")),),
        (("other", "x"),),
    ],
)
def test_a_status_of_somebody_else_becomes_the_class_of_its_code(
    trailers: tuple[tuple[str, str | bytes], ...],
) -> None:
    error = to_error(Status("NOT_FOUND", "", trailers), method="GetSession")
    assert type(error) is errors.NotFoundError
    assert error.reason == ""
    assert error.message


def test_a_detail_that_cannot_be_read_is_passed_over() -> None:
    broken = Packed(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=b"\xff")
    status = status_pb2.Status(details=[broken])
    trailers = (("grpc-status-details-bin", status.SerializeToString()),)
    error = to_error(Status("INTERNAL", "m", trailers), method="GetSession")
    assert type(error) is errors.InternalError


def test_a_reason_of_a_newer_server_keeps_its_name() -> None:
    status = Status("ABORTED", "m", (details(info("BRAND_NEW")),))
    error = to_error(status, method="GetSession")
    assert type(error) is errors.AbortedError
    assert error.reason == "BRAND_NEW"


@given(st.binary(max_size=200))
def test_no_trailer_can_break_the_client(blob: bytes) -> None:
    error = to_error(
        Status("INTERNAL", "m", (("grpc-status-details-bin", blob),)), method="GetSession"
    )
    assert error.code == "INTERNAL"


def test_a_negative_pushback_forbids_the_repeat() -> None:
    assert forbids_retry(Status("UNAVAILABLE", "", (("grpc-retry-pushback-ms", "-1"),)))
    assert not forbids_retry(Status("UNAVAILABLE", "", (("grpc-retry-pushback-ms", "100"),)))
    assert not forbids_retry(Status("UNAVAILABLE", ""))


def test_who_holds_an_app_arrives() -> None:
    said = info(
        "APP_HAS_SESSIONS",
        app="a",
        count="21",
        first_keys='[["ann","s-1"],["","s-2"]]',
        holders='["pod-1"]',
        last_actor="key:ci",
        latest_activity_time="2026-01-01T00:00:00Z",
        earliest_success_time="2026-01-01T01:00:00Z",
    )
    error = to_error(Status("FAILED_PRECONDITION", "m", (details(said),)), method="DeleteApp")
    assert isinstance(error, errors.AppHasSessionsError)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert one.count == 21
        assert one.first_keys == (SessionKey("a", "ann", "s-1"), SessionKey("a", "", "s-2"))
        assert (one.holders, one.last_actor) == (("pod-1",), "key:ci")
        assert one.latest_activity_time == datetime(2026, 1, 1, tzinfo=UTC)
        assert one.earliest_success_time == datetime(2026, 1, 1, 1, tzinfo=UTC)


def test_what_was_not_said_of_an_app_s_holders_is_empty() -> None:
    trailers = (details(info("APP_HAS_SESSIONS", count="3")),)
    error = to_error(Status("FAILED_PRECONDITION", "m", trailers), method="DeleteApp")
    assert isinstance(error, errors.AppHasSessionsError)
    assert (error.count, error.first_keys, error.holders, error.last_actor) == (3, (), (), "")
    assert (error.earliest_success_time, error.latest_activity_time) == (None, None)
