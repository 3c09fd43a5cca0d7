"""The client's checks and the rules in the contract are the same rules."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unicodedata import category

import protovalidate
import pytest
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st

from sojourn import LabelSelector, MetricsDelta, NewMessage, NewSession, _calls, _describe
from sojourn import _checks as check
from sojourn.errors import (
    ArgumentTypeError,
    ContentTooLargeError,
    InvalidFieldError,
    SojournError,
)
from sojourn.v1 import message_pb2, session_pb2, session_service_pb2, turn_service_pb2

VALIDATOR = protovalidate.Validator()


def keeps_the_rules(message: Message) -> bool:
    return not VALIDATOR.collect_violations(message)


def accepted(check_one: Callable[[str], object], text: str) -> bool:
    try:
        check_one(text)
    except SojournError:
        return False
    return True


def key(**fields: str) -> session_pb2.SessionKey:
    return session_pb2.SessionKey(**({"app": "a", "session_id": "s"} | fields))


def new_session(**fields: Any) -> session_service_pb2.NewSession:
    return session_service_pb2.NewSession(**fields)


def new_message(**fields: Any) -> message_pb2.NewMessage:
    return message_pb2.NewMessage(**({"role": "user"} | fields))


def create(**fields: Any) -> session_service_pb2.CreateSessionRequest:
    return session_service_pb2.CreateSessionRequest(app="a", session=new_session(), **fields)


# Each field: what the client does with a text, and the message in which the contract rules it.
FIELDS: dict[str, tuple[Callable[[str], object], Callable[[str], Message]]] = {
    "app": (check.app_name, lambda text: key(app=text.strip())),
    "user": (lambda text: check.name("user", text), lambda text: key(user=text.strip())),
    "session_id": (
        lambda text: check.name("session_id", text, required=True),
        lambda text: key(session_id=text.strip()),
    ),
    "message_id": (
        lambda text: check.name("message_id", text),
        lambda text: new_message(message_id=text.strip()),
    ),
    "role": (check.role, lambda text: new_message(role=text.strip())),
    "content_type": (check.media_type, lambda text: new_message(content_type=text)),
    "label key": (
        lambda text: check.labels({text: "v"}),
        lambda text: new_session(labels={text: "v"}),
    ),
    "label value": (
        lambda text: check.labels({"k": text}),
        lambda text: new_session(labels={"k": text}),
    ),
    "metadata key": (
        lambda text: check.metadata({text: 1}),
        lambda text: new_session(metadata={text: "1"}),
    ),
    "state key": (
        lambda text: check.state({text: 1}),
        lambda text: session_pb2.StatePatch(set={text: "1"}),
    ),
    "holder": (
        check.holder,
        lambda text: turn_service_pb2.BeginTurnRequest(
            session=session_pb2.SessionRef(app="a", session_id="s"), holder=text
        ),
    ),
    "request_id": (check.request_id, lambda text: create(request_id=text)),
}

letters = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from("aZ09._/- \t\n\x00\x7f\x80\u00a0\u200b\u2028\u2029\ue000é€😀"),
)
texts = st.one_of(
    st.text(letters, max_size=8),
    st.text(st.sampled_from("abc.-"), min_size=60, max_size=68),
    st.text(st.sampled_from("aé"), min_size=125, max_size=131),
    st.text(st.sampled_from("aé"), min_size=253, max_size=259),
)


@pytest.mark.parametrize("field", FIELDS)
@given(text=texts)
@example("x\n")
@example(" blanks around ")
@example("\u00a0no-break blanks\u00a0")
@example("user-456-device-789")
@example("auth0|12")
@example("a@b.c")
def test_the_client_accepts_what_the_contract_accepts(field: str, text: str) -> None:
    check_one, build = FIELDS[field]
    if any(category(letter) == "Cn" for letter in text):
        return  # whether it is assigned depends on the Unicode of each side: the server decides
    assert accepted(check_one, text) == keeps_the_rules(build(text))


def test_blanks_around_ids_are_taken_off() -> None:
    ref = _describe.session_ref(" app ", "\tuser-1 \n", " ann ")
    assert (ref.app, ref.user, ref.session_id) == ("app", "ann", "user-1")


@pytest.mark.parametrize(
    ("seconds", "holds"), [(0, True), (-1, False), (315_360_000, True), (315_360_001, False)]
)
def test_timeouts_have_the_contract_s_range(seconds: int, holds: bool) -> None:
    built = new_session()
    built.idle_timeout.FromTimedelta(timedelta(seconds=seconds))
    assert keeps_the_rules(built) == holds
    assert (
        accepted(lambda _: _describe.new_session(NewSession(idle_timeout=seconds), {}), "") == holds
    )


@pytest.mark.parametrize("seconds", [0.5, 1, 3600, 3601, 86_400, 86_401])
def test_leases_have_the_contract_s_range(seconds: float) -> None:
    turn = turn_service_pb2.RenewTurnRequest(app="a", turn_token="t")
    turn.lease.FromTimedelta(timedelta(seconds=seconds))
    owner = session_service_pb2.Ephemeral()
    owner.lease.FromTimedelta(timedelta(seconds=seconds))
    assert accepted(lambda _: _calls.turn_lease(seconds), "") == keeps_the_rules(turn)
    assert accepted(lambda _: _describe.owner_lease(seconds), "") == keeps_the_rules(owner)


@pytest.mark.parametrize(
    "delta",
    [
        MetricsDelta(requests=1_000_000, errors=1_000_000),
        MetricsDelta(processing_time=30 * 86_400),
        MetricsDelta(counters={f"k{n}": n for n in range(64)}),
        MetricsDelta(counters={"cost": -(2**63)}),
    ],
)
def test_the_largest_metrics_pass_on_both_sides(delta: MetricsDelta) -> None:
    built = _describe.metrics_delta(delta)
    assert built is not None
    assert keeps_the_rules(built)


@pytest.mark.parametrize(
    "delta",
    [
        MetricsDelta(requests=1_000_001),
        MetricsDelta(errors=-1),
        MetricsDelta(processing_time=30 * 86_400 + 1),
        MetricsDelta(counters={f"k{n}": n for n in range(65)}),
        MetricsDelta(counters={"bad key": 1}),
        MetricsDelta(counters={"cost": 2**63}),
    ],
)
def test_metrics_beyond_the_contract_are_refused(delta: MetricsDelta) -> None:
    with pytest.raises(InvalidFieldError):
        _describe.metrics_delta(delta)


@pytest.mark.parametrize(
    "selector",
    [
        LabelSelector.one_of("env"),
        LabelSelector.none_of("env"),
        LabelSelector("env", values=["x"]),
        LabelSelector.one_of("env", *map(str, range(65))),
        LabelSelector.one_of("env", ""),
        LabelSelector.exists(""),
    ],
)
def test_a_selector_that_asks_nonsense_is_refused(selector: LabelSelector) -> None:
    with pytest.raises(InvalidFieldError):
        _describe.selectors([selector])


def test_selectors_keep_the_contract_s_rules() -> None:
    chosen = [
        LabelSelector.one_of("env", "prod", "test"),
        LabelSelector.none_of("env", "dev"),
        LabelSelector.exists("team"),
        LabelSelector.absent("old"),
    ]
    assert all(keeps_the_rules(built) for built in _describe.selectors(chosen))
    assert _describe.selectors({"env": "prod"}) == _describe.selectors(
        [LabelSelector.one_of("env", "prod")]
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda: check.name("user", None),
        lambda: check.labels({"k": None}),  # type: ignore[dict-item]
        lambda: check.labels({1: "v"}),  # type: ignore[dict-item]
        lambda: check.labels([("k", "v")]),  # type: ignore[arg-type]
        lambda: check.integer("count", True),
        lambda: check.integer("count", 1.0),
        lambda: check.duration("idle_timeout", "1h"),
        lambda: check.duration("idle_timeout", True),
        lambda: check.event_time("2026-01-01"),
        lambda: check.names("remove", "abc"),
        lambda: _describe.new_message("m", "hello"),  # type: ignore[arg-type]
        lambda: _describe.new_message("m", NewMessage("user", payload="text")),  # type: ignore[arg-type]
        lambda: _describe.session_ref("a", 5),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_python_type_is_an_invalid_field_and_a_type_error(
    call: Callable[[], object],
) -> None:
    with pytest.raises(ArgumentTypeError) as caught:
        call()
    assert isinstance(caught.value, TypeError)
    assert isinstance(caught.value, InvalidFieldError)
    assert caught.value.field_violations
    assert caught.value.correlation_id == ""


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e300, -0.001])
def test_a_length_that_is_none_is_refused(seconds: float) -> None:
    with pytest.raises(InvalidFieldError):
        check.duration("idle_timeout", seconds)


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match="time zone"):
        check.event_time(datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1678, 1, 1, tzinfo=UTC),
        datetime(1677, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2261, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2262, 1, 1, tzinfo=UTC),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_event_times_have_the_contract_s_range(instant: datetime) -> None:
    built = new_message()
    built.event_time.FromDatetime(instant)
    assert accepted(lambda _: check.event_time(instant), "") == keeps_the_rules(built)


@given(st.integers(-9_214_560_000 * 10**9, 9_214_646_400 * 10**9 - 1))
def test_an_event_time_goes_to_the_nanosecond(nanoseconds: int) -> None:
    built = _describe.new_message("m", NewMessage("user", event_time=nanoseconds))
    assert built.event_time.seconds * 10**9 + built.event_time.nanos == nanoseconds
    assert 0 <= built.event_time.nanos < 10**9
    assert keeps_the_rules(built)


def test_a_message_may_have_one_mebibyte_and_no_more() -> None:
    half = 512 * 1024
    _describe.new_message("m", NewMessage("user", "a" * half, payload=b"b" * half))
    with pytest.raises(ContentTooLargeError) as caught:
        _describe.new_message("messages[3]", NewMessage("user", "ä" * half, payload=b"b"))
    assert caught.value.metadata == {"field": "messages[3]", "limit_bytes": "1048576"}


def test_metadata_state_and_results_have_limits_in_bytes() -> None:
    check.metadata({"k": "a" * (64 * 1024 - 2)})
    with pytest.raises(ContentTooLargeError):
        check.metadata({"k": "a" * (64 * 1024 - 1)})
    with pytest.raises(ContentTooLargeError):
        check.state({"k": "ä" * 131_072})
    with pytest.raises(ContentTooLargeError):
        check.free_text("reason", "ä" * 2049)
    assert check.json_text("result", None, maximum=10) == ""


@pytest.mark.parametrize("many", [65, 1001])
def test_too_many_entries_are_refused(many: int) -> None:
    values = {str(number): number for number in range(many)}
    with pytest.raises(InvalidFieldError):
        check.metadata(values)
    with pytest.raises(InvalidFieldError):
        check.labels({f"k{number}": "v" for number in range(many)})
    if many > 1000:
        with pytest.raises(InvalidFieldError):
            check.state(values)


def test_half_a_surrogate_is_refused_before_protobuf_sees_it() -> None:
    with pytest.raises(InvalidFieldError, match="Unicode"):
        check.name("user", "\ud83d")
    with pytest.raises(InvalidFieldError):
        _describe.new_message("m", NewMessage("user", "\ud83d"))
