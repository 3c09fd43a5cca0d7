"""Between wire and domain: nothing is lost, nothing is rounded, nothing is forgotten."""

from __future__ import annotations

import enum
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from sojourn.v1 import app_pb2, change_pb2, message_pb2, session_pb2
from sojourn.v1 import session_service_pb2 as sessions_pb2
from sojourn.v1 import turn_service_pb2 as turns_pb2
from sojourn_server.domain import commands, model
from sojourn_server.domain import filter as filters
from sojourn_server.domain.access import EVERY_USER
from sojourn_server.domain.clock import SECOND
from sojourn_server.domain.commands import (
    NO_PATCHES,
    NO_PRECONDITION,
    NewOwner,
    Precondition,
    SessionRef,
    StatePatch,
    View,
)
from sojourn_server.domain.errors import Reason, Refusal
from sojourn_server.domain.filter import EVERYTHING, LabelSelector, TimeRange
from sojourn_server.domain.model import (
    EndCause,
    Message,
    MessageBody,
    Status,
)
from sojourn_server.rpc import convert_session as convert
from sojourn_server.rpc.convert_filter import decode_filter
from sojourn_server.rpc.convert_message import decode_message, fill_message
from sojourn_server.rpc.times import fill, instant, length
from sojourn_server.service.answers import (
    MessageSnapshot,
)
from sojourn_server.store.base import SortBy
from tests.unit.domain.values import START

MOST = 2**63 - 1
nanos = st.integers(-(2**63), MOST)
text = st.text(st.characters(codec="utf-8"), max_size=20)
documents = st.dictionaries(text, text, max_size=4)


# --- times -----------------------------------------------------------------------------------


@given(nanos)
def test_an_instant_comes_back_to_the_nanosecond(value: int):
    stamp = Timestamp()
    fill(stamp, value)
    assert 0 <= stamp.nanos < SECOND
    assert instant("f", stamp) == value


@given(st.integers(0, MOST))
def test_a_length_comes_back_to_the_nanosecond(value: int):
    duration = Duration()
    fill(duration, value)
    assert length("f", duration) == value


def test_a_negative_length_is_read_with_the_sign_of_both_parts():
    assert length("f", Duration(seconds=-1, nanos=-5)) == -SECOND - 5


def test_a_time_of_zero_is_there():
    session = session_pb2.Session()
    fill(session.create_time, 0)
    fill(session.idle_timeout, 0)
    assert session.HasField("create_time")
    assert session.HasField("idle_timeout")


@pytest.mark.parametrize("value", [-1, SECOND, 2_000_000_000])
def test_nanos_that_are_no_part_of_a_second_are_refused(value: int):
    with pytest.raises(Refusal) as caught:
        instant("filter.create_time.before", Timestamp(nanos=value))
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.metadata == {"field": "filter.create_time.before"}


@pytest.mark.parametrize(
    "duration",
    [Duration(nanos=SECOND), Duration(seconds=1, nanos=-1), Duration(seconds=-1, nanos=1)],
)
def test_a_duration_that_is_none_is_refused(duration: Duration):
    with pytest.raises(Refusal) as caught:
        length("lease", duration)
    assert caught.value.metadata == {"field": "lease"}


def test_what_64_bits_cannot_hold_is_held_to_their_ends():
    assert instant("f", Timestamp(seconds=10**12)) == MOST
    assert instant("f", Timestamp(seconds=-(10**12))) == -(2**63)
    assert length("f", Duration(seconds=315_576_000_000)) == MOST


# --- enums -----------------------------------------------------------------------------------

PAIRS: list[tuple[type[enum.IntEnum], Any, str]] = [
    (model.Status, session_pb2.SessionStatus, "SESSION_STATUS_"),
    (model.ExpireCause, session_pb2.ExpireCause, "EXPIRE_CAUSE_"),
    (model.EndCause, session_pb2.EndCause, "END_CAUSE_"),
    (model.ChangeCause, change_pb2.ChangeCause, "CHANGE_CAUSE_"),
    (model.DeletedWhy, change_pb2.DeletedWhy, "DELETED_WHY_"),
    (model.AppStatus, app_pb2.AppStatus, "APP_STATUS_"),
    (commands.IfExists, sessions_pb2.IfExists, "IF_EXISTS_"),
    (commands.ResetScope, sessions_pb2.ResetScope, "RESET_SCOPE_"),
    (commands.OnConflict, turns_pb2.OnConflict, "ON_CONFLICT_"),
    (commands.View, session_pb2.SessionView, "SESSION_VIEW_"),
    (filters.LabelOperator, session_pb2.LabelSelector.Operator, "OPERATOR_"),
]


@pytest.mark.parametrize(("ours", "theirs", "prefix"), PAIRS)
def test_an_enum_of_the_domain_is_that_of_the_contract(
    ours: type[enum.IntEnum], theirs: Any, prefix: str
):
    contract = {name.removeprefix(prefix): number for name, number in theirs.items() if number}
    assert {each.name: each.value for each in ours} == contract


def test_an_enum_that_is_not_set_means_what_its_comment_says():
    assert convert.VIEWS[0] is View.BASIC
    assert convert.IF_EXISTS[0] is commands.IfExists.FAIL
    assert convert.RESET_SCOPES[0] is commands.ResetScope.ALL
    assert convert.ON_CONFLICT[0] is commands.OnConflict.REJECT
    assert convert.END_STATUSES[0] is Status.COMPLETED
    assert convert.SORTS[0] is SortBy.CREATE
    assert convert.OUTCOMES[0] is model.TurnOutcome.OK


@pytest.mark.parametrize(
    "table",
    [
        convert.VIEWS,
        convert.IF_EXISTS,
        convert.RESET_SCOPES,
        convert.ON_CONFLICT,
        convert.END_STATUSES,
        convert.SORTS,
        convert.OUTCOMES,
    ],
)
def test_an_enum_that_is_set_means_its_number(table: list[enum.IntEnum]):
    for number in range(1, len(table)):
        assert table[number].value == number


def test_sort_orders_are_those_of_the_contract():
    names = session_pb2.SessionOrder.DESCRIPTOR.values_by_number
    assert [names[each.value].name.removeprefix("SESSION_ORDER_") for each in SortBy] == [
        "CREATE_TIME",
        "SESSION_ID",
        "UPDATE_TIME",
        "ACTIVITY_TIME",
    ]
    assert len(convert.SORTS) == len(names)


# --- messages --------------------------------------------------------------------------------


@given(
    content=st.none() | text.filter(lambda value: "\0" not in value),
    payload=st.binary(max_size=20),
    metadata=documents,
    event_time=st.none() | nanos,
    message_id=text,
    role=text,
    content_type=text,
)
def test_a_message_comes_back_as_it_was_sent(
    content: str | None,
    payload: bytes,
    metadata: dict[str, str],
    event_time: int | None,
    message_id: str,
    role: str,
    content_type: str,
):
    sent = message_pb2.NewMessage(
        message_id=message_id,
        role=role,
        content=content,
        payload=payload,
        content_type=content_type,
        metadata=metadata,
    )
    if event_time is not None:
        fill(sent.event_time, event_time)
    new = decode_message("messages[0]", message_pb2.NewMessage.FromString(sent.SerializeToString()))
    entry = Message(
        message_id=new.message_id,
        sequence=7,
        role=new.role,
        content_type=new.content_type,
        event_time=new.event_time,
        create_time=START,
        size=0,
        body=1,
    )
    body = MessageBody(content=new.content, payload=new.payload, metadata=new.metadata)
    answer = message_pb2.Message()
    fill_message(answer, MessageSnapshot(message=entry, body=body))
    for name in message_pb2.NewMessage.DESCRIPTOR.fields_by_name:
        assert getattr(answer, name) == getattr(sent, name), name
    for name in ("content", "event_time"):
        assert answer.HasField(name) == sent.HasField(name), name  # type: ignore[arg-type]
    assert answer.sequence == 7
    assert instant("f", answer.create_time) == START


def test_empty_content_is_not_absent_content():
    empty = decode_message("m", message_pb2.NewMessage(role="user", content=""))
    absent = decode_message("m", message_pb2.NewMessage(role="user"))
    assert (empty.content, absent.content) == ("", None)


# --- what callers ask for --------------------------------------------------------------------


@given(text, text, text, text)
def test_a_reference_comes_back_as_it_was_sent(app: str, user: str, session_id: str, uid: str):
    ref = SessionRef(app=app, user=user, session_id=session_id, uid=uid)
    target = session_pb2.SessionRef()
    convert.fill_ref(target, ref)
    assert convert.decode_ref(target, EVERY_USER) == ref


def test_a_precondition_that_is_empty_is_none():
    assert convert.decode_precondition(session_pb2.Precondition()) is NO_PRECONDITION


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (session_pb2.Precondition(etag="e"), Precondition(etag="e")),
        (session_pb2.Precondition(generation=1), Precondition(generation=1)),
        (session_pb2.Precondition(turn_token="t"), Precondition(turn_token="t")),
        (session_pb2.Precondition(last_sequence=0), Precondition(last_sequence=0)),
    ],
)
def test_a_precondition_holds_what_is_set(message: session_pb2.Precondition, value: Precondition):
    assert convert.decode_precondition(message) == value


def test_patches_that_are_absent_are_none():
    assert convert.decode_patches(session_pb2.StatePatches()) is NO_PATCHES


def test_a_patch_that_is_empty_is_still_a_patch():
    patches = convert.decode_patches(session_pb2.StatePatches(user=session_pb2.StatePatch()))
    assert (patches.session, patches.user, patches.app) == (None, StatePatch(), None)


def test_a_patch_expects_version_zero_only_when_it_says_so():
    assert convert.decode_patch(session_pb2.StatePatch()).expected_version is None
    assert convert.decode_patch(session_pb2.StatePatch(expected_version=0)).expected_version == 0


def test_a_new_session_tells_absent_times_from_zero():
    absent = convert.decode_new_session("session", sessions_pb2.NewSession(), EVERY_USER)
    zero = convert.decode_new_session(
        "session",
        sessions_pb2.NewSession(idle_timeout=Duration(), max_lifetime=Duration()),
        EVERY_USER,
    )
    assert (absent.idle_timeout, absent.max_lifetime) == (None, None)
    assert (zero.idle_timeout, zero.max_lifetime) == (0, 0)


def test_a_new_session_with_everything_is_decoded_whole():
    message = sessions_pb2.NewSession(
        user="u",
        session_id="s",
        labels={"a": "b"},
        metadata={"m": "1"},
        state=session_pb2.StatePatches(session=session_pb2.StatePatch(set={"k": "2"})),
        parent_uid="p",
        ephemeral=sessions_pb2.Ephemeral(lease=Duration(seconds=5)),
        idle_timeout=Duration(seconds=6),
        max_lifetime=Duration(seconds=7),
    )
    assert {field.name for field, _ in message.ListFields()} == set(
        sessions_pb2.NewSession.DESCRIPTOR.fields_by_name
    )
    assert convert.decode_new_session("session", message, EVERY_USER) == commands.NewSession(
        user="u",
        session_id="s",
        labels={"a": "b"},
        metadata={"m": "1"},
        state=commands.StatePatches(session=StatePatch(set={"k": "2"})),
        parent_uid="p",
        owner=NewOwner(lease=5 * SECOND),
        idle_timeout=6 * SECOND,
        max_lifetime=7 * SECOND,
    )


def test_an_owner_may_be_a_turn():
    message = sessions_pb2.NewSession(ephemeral=sessions_pb2.Ephemeral(turn_token="t"))
    assert convert.decode_new_session("session", message, EVERY_USER).owner == NewOwner(
        turn_token="t"
    )


# --- filters ---------------------------------------------------------------------------------

ONE_FIELD = {
    "statuses": ([1, 4], (Status.ACTIVE, Status.EXPIRED)),
    "labels": (
        [{"key": "k", "operator": 2, "values": ["v"]}],
        (LabelSelector("k", filters.LabelOperator.NOT_IN, ("v",)),),
    ),
    "session_id_prefix": ("p", "p"),
    "parent_uid": ("u", "u"),
    "has_parent": (False, False),
    "ephemeral": (False, False),
    "has_turn": (True, True),
    "create_time": ({"not_before": {"seconds": 1}}, TimeRange(not_before=SECOND)),
    "update_time": ({"before": {"nanos": 1}}, TimeRange(before=1)),
    "end_time": ({}, TimeRange()),
    "older_than": ({"seconds": 0}, 0),
    "idle_longer_than": ({"seconds": 2, "nanos": 3}, 2 * SECOND + 3),
    "activity_time": ({"not_before": {"seconds": 0}}, TimeRange(not_before=0)),
    "request_count_above": (0, 0),
    "error_count_above": (3, 3),
    "error_rate_above": (0.0, 0.0),
    "end_causes": ([5], (EndCause.OWNER_ENDED,)),
}


def test_every_field_of_a_filter_is_tried_below():
    assert set(ONE_FIELD) == set(session_pb2.SessionFilter.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize("name", list(ONE_FIELD))
def test_a_filter_asks_for_what_is_set_and_nothing_else(name: str):
    sent, meant = ONE_FIELD[name]
    which = decode_filter("filter", session_pb2.SessionFilter(**{name: sent}))  # type: ignore[arg-type]
    assert getattr(which, name) == meant
    assert filters.predicates(which) == [name]


def test_an_empty_filter_means_everything():
    assert decode_filter("filter", session_pb2.SessionFilter()) is EVERYTHING


def test_a_selector_without_an_operator_means_in():
    which = session_pb2.SessionFilter(labels=[{"key": "k", "values": ["v"]}])  # type: ignore[list-item]
    assert decode_filter("filter", which).labels[0].operator is filters.LabelOperator.IN


def test_a_bad_time_in_a_filter_is_refused_by_its_place():
    which = session_pb2.SessionFilter(end_time={"before": {"nanos": -1}})  # type: ignore[arg-type]
    with pytest.raises(Refusal) as caught:
        decode_filter("filter", which)
    assert caught.value.metadata == {"field": "filter.end_time.before"}
