"""What is repeated, and after which pause."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sojourn import RetryOptions
from sojourn._retry import REPEAT, Repeat, backoff, is_repeatable, pause_before_retry
from sojourn.errors import ConfigurationError, SojournError, error_class
from sojourn.v1 import (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)

FILES = (
    admin_service_pb2,
    app_service_pb2,
    history_service_pb2,
    session_service_pb2,
    turn_service_pb2,
)
METHODS = [
    method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
READS = ("Get", "List", "BatchGet", "Aggregate", "Export")
OPTIONS = RetryOptions()


def unavailable(method: str = "GetSession", request_id: str = "", **more: object) -> SojournError:
    return error_class("UNAVAILABLE")(
        "away",
        method=method,
        request_id=request_id,
        **more,  # type: ignore[arg-type]
    )


def test_the_table_names_every_rpc_and_no_other() -> None:
    assert {method.name for method in METHODS} == set(REPEAT)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_the_table_agrees_with_the_requests(method: object) -> None:
    name = method.name  # type: ignore[attr-defined]
    has_request_id = "request_id" in method.input_type.fields_by_name  # type: ignore[attr-defined]
    assert method.input_type.name == f"{name}Request"  # type: ignore[attr-defined]
    if REPEAT[name] is Repeat.REQUEST_ID:
        assert has_request_id
    elif REPEAT[name] is Repeat.READ:
        assert not has_request_id
        assert name.startswith(READS)
    else:
        assert name in {
            "TouchSession",
            "RenewTurn",
            "BackupStore",
            "ExportSessions",
            "ImportSessions",
            "WatchSessions",
        }


def test_a_write_is_repeated_only_with_a_request_id() -> None:
    assert is_repeatable("CreateSession", "r-1")
    assert not is_repeatable("CreateSession", "")
    assert is_repeatable("GetSession", "")
    assert is_repeatable("TouchSession", "")
    assert not is_repeatable("WatchSessions", "r-1")
    assert not is_repeatable("SomethingNew", "r-1")


@pytest.mark.parametrize(
    "code",
    [
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ],
)
def test_what_a_server_has_decided_is_not_repeated(code: str) -> None:
    error = error_class(code)("no", code=code, method="GetSession")
    assert pause_before_retry(error, attempt=1, time_left=60, options=OPTIONS) is None


def test_a_call_that_a_stopping_server_cut_off_is_repeated_unless_a_handler_answered_it() -> None:
    def pause(correlation_id: str) -> float | None:
        error = error_class("CANCELLED")(
            "no", code="CANCELLED", method="GetSession", correlation_id=correlation_id
        )
        return pause_before_retry(error, attempt=1, time_left=60, options=OPTIONS)

    assert pause("") is not None
    assert pause("c0ffee") is None


def test_unavailable_is_repeated_until_the_attempts_are_used_up() -> None:
    pauses = [
        pause_before_retry(
            unavailable(), attempt=attempt, time_left=60, options=OPTIONS, draw=lambda: 1.0
        )
        for attempt in range(1, 13)
    ]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, *[2.0] * 6, None]


def test_no_pause_goes_past_the_deadline() -> None:
    assert (
        pause_before_retry(
            unavailable(), attempt=4, time_left=0.5, options=OPTIONS, draw=lambda: 1.0
        )
        is None
    )


def test_the_server_s_own_pause_is_kept_and_jitter_comes_on_top() -> None:
    error = unavailable(retry_after=timedelta(seconds=3))
    pauses = [
        pause_before_retry(error, attempt=1, time_left=60, options=OPTIONS, draw=draw)
        for draw in (lambda: 0.0, lambda: 1.0)
    ]
    assert pauses == pytest.approx([3.0, 3.1])
    assert pause_before_retry(error, attempt=1, time_left=2, options=OPTIONS) is None


@given(
    attempt=st.integers(1, 10_000),
    draw=st.floats(0, 1),
    first=st.floats(0, 100),
    cap=st.floats(0, 100),
    multiplier=st.floats(1, 10),
)
def test_a_backoff_is_between_nothing_and_its_cap(
    attempt: int, draw: float, first: float, cap: float, multiplier: float
) -> None:
    options = RetryOptions(
        initial_backoff=timedelta(seconds=first),
        max_backoff=timedelta(seconds=cap),
        multiplier=multiplier,
    )
    pause = backoff(attempt, options, lambda: draw)
    assert 0 <= pause <= options.max_backoff.total_seconds()


def test_pauses_differ_from_client_to_client() -> None:
    assert len({backoff(5, OPTIONS) for _ in range(20)}) > 10


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError):
        RetryOptions(max_attempts=0)
    with pytest.raises(ConfigurationError):
        RetryOptions(multiplier=0.5)
