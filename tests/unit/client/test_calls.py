"""What the caller says becomes this request."""

import contextlib
import dataclasses
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import protovalidate
import pytest
from google.protobuf.message import Message

from sojourn import (
    DeleteMode,
    EndCause,
    GroupBy,
    IfExists,
    LabelSelector,
    MetricsDelta,
    NewMessage,
    NewSession,
    OnConflict,
    OnExisting,
    OverflowAction,
    Policy,
    Precondition,
    QuotaAction,
    ResetScope,
    SessionFilter,
    SessionKey,
    SessionOrder,
    SessionRef,
    StatePatch,
    Status,
    Threshold,
    ThresholdAction,
    TimeRange,
    View,
    _app_calls,
    _bulk_calls,
    _calls,
    _message_calls,
)
from sojourn.errors import InvalidFieldError, SojournError
from sojourn.inputs import ListFields, SelectionFields
from sojourn.v1 import session_pb2

UID = "01890a5d-ac96-774b-bcce-b302099a8057"
VALIDATOR = protovalidate.Validator()

EVERY_BUILDER: dict[str, Callable[[], Message]] = {
    "CreateSession": lambda: _calls.create_session(
        "a",
        NewSession(
            "s",
            "u",
            {"k": "v"},
            {"m": 1.0},
            {"x": None},
            StatePatch({"y": 1}, remove=["z"], expected_version=0),
            {"w": [1]},
            UID,
            idle_timeout=60,
            max_lifetime=timedelta(days=1),
            owner_lease=30,
        ),
        default_labels={"team": "red"},
        if_exists=IfExists.REPLACE_ENDED,
    ),
    "BatchCreateSessions": lambda: _calls.create_sessions(
        "a", [NewSession("s"), NewSession()], default_labels={}
    ),
    "GetSession": lambda: _calls.get_session("a", "s", last_messages=20),
    "BatchGetSessions": lambda: _calls.get_sessions("a", ["s", SessionRef(uid=UID)])[0],
    "ListSessions": lambda: _calls.sessions_page(
        _calls.list_sessions(
            "a",
            {
                "user": "u",
                "labels": {"env": ["prod", "test"]},
                "filter": SessionFilter(
                    statuses=[Status.FAILED],
                    labels=[LabelSelector.exists("team")],
                    session_id_prefix="user-",
                    parent_uid=UID,
                    has_parent=True,
                    ephemeral=False,
                    has_turn=False,
                    create_time=TimeRange(datetime(2026, 1, 1, tzinfo=UTC), None),
                    update_time=TimeRange(None, datetime(2026, 1, 1, tzinfo=UTC)),
                    end_time=TimeRange(),
                    activity_time=TimeRange(),
                    older_than=60,
                    idle_longer_than=timedelta(minutes=15),
                    request_count_above=0,
                    error_count_above=10,
                    error_rate_above=0.5,
                    end_causes=[EndCause.IDLE],
                ),
                "order": SessionOrder.UPDATE_TIME,
                "descending": True,
            },
        ),
        _calls.PageAsk("token", 10, count=True),
        session_pb2.SESSION_VIEW_BASIC,
    ),
    "UpdateSession": lambda: _calls.update_session(
        "a",
        "s",
        precondition=Precondition("e", 1, "t", 7),
        labels={"k": "v"},
        remove_labels=["old"],
        replace_labels=True,
        metadata={"m": {"n": 1}},
        remove_metadata=["o"],
        state=StatePatch({"x": 1}, replace=True),
        metrics=MetricsDelta(1, 1, 1.5, {"tokens": 12}),
        idle_timeout=0,
        max_lifetime=0,
    ),
    "TouchSession": lambda: _calls.touch_session("a", "s", owner_lease=5),
    "EndSession": lambda: _calls.end_session(
        "a", "s", status=Status.FAILED, reason="why", result={"score": 1.0}, cascade=True
    ),
    "ResetSession": lambda: _calls.reset_session(
        "a", "s", scope=ResetScope.HISTORY, if_idle=True, reason="why"
    ),
    "DeleteSession": lambda: _calls.delete_session("a", "s", force=True),
    "BeginTurn": lambda: _calls.begin_turn(
        "a", "s", holder="pod-1", lease=10, on_conflict=OnConflict.WAIT, wait=5
    ),
    "RenewTurn": lambda: _calls.renew_turn("a", "t", lease=5),
    "EndTurn": lambda: _calls.end_turn("a", "t", error="why"),
    "AppendMessages": lambda: _message_calls.append_messages(
        "a",
        "s",
        [
            NewMessage("user", ""),
            NewMessage("tool", None, b"\x00", "image/png", {"k": 1}, "m-1", 1),
        ],
        state={"x": 1},
        user_state={"y": 1},
        app_state={"z": 1},
        metrics=MetricsDelta(requests=1),
        create_if_missing=True,
    ),
    "ListMessages": lambda: _message_calls.messages_page(
        _message_calls.list_messages(
            "a",
            "s",
            last=5,
            after_sequence=1,
            before_sequence=9,
            event_time_not_before=datetime(2026, 1, 1, tzinfo=UTC),
        ),
        _calls.PageAsk("token", 10),
    ),
    "GetMessage": lambda: _message_calls.get_message("a", "s", sequence=1),
    "PopMessages": lambda: _message_calls.pop_messages("a", "s", count=2),
    "TruncateMessages": lambda: _message_calls.truncate_messages("a", "s", keep_through_sequence=0),
    "ReplaceMessages": lambda: _bulk_calls.replace_messages(
        "a", "s", [NewMessage("system", "in short")], keep_through_sequence=3
    )[0],
    "EndSessions": lambda: _bulk_calls.end_sessions(
        "a",
        {"user": "u", "parent": UID, "filter": SessionFilter(idle_longer_than=900)},
        end_as=Status.EXPIRED,
        reason="idle",
        keep_newest=2,
        dry_run=True,
    ),
    "DeleteSessions": lambda: _bulk_calls.delete_sessions("a", {}, all=True, keep_newest=1),
    "ForkSession": lambda: _bulk_calls.fork_session("a", "s", "copy", through_sequence=3),
    "AggregateSessions": lambda: _bulk_calls.aggregate_page(
        _bulk_calls.aggregate_sessions("a", {"status": "failed"}, label_key="team", roll_up=True),
        _calls.PageAsk("token", 10),
    ),
    "GetApp": lambda: _app_calls.get_app("a"),
    "ListApps": lambda: _app_calls.apps_page(
        _app_calls.list_apps({"team": "red"}, "any"), _calls.PageAsk("token", 10)
    ),
    "UpdateApp": lambda: _app_calls.update_app(
        "a",
        labels={"team": "red"},
        remove_labels=["old"],
        policy=Policy(
            default_idle_timeout=1800,
            default_max_lifetime=0,
            retention=timedelta(days=1),
            auto_create=False,
            max_active_sessions=0,
            max_active_sessions_per_user=2,
            session_quota_action=QuotaAction.END_OLDEST_IDLE,
            max_requests_per_session=100,
            max_messages_per_session=20,
            max_bytes_per_session=1,
            overflow_action=OverflowAction.DROP_OLDEST,
            require_turn=True,
            thresholds=[Threshold(ThresholdAction.END, 0.5, 10), Threshold(error_count_above=10)],
        ),
        allow_again=True,
    ),
    "DeleteApp": lambda: _app_calls.delete_app("a", mode=DeleteMode.DRAIN, drain_timeout=60),
    "DeleteApps": lambda: _app_calls.delete_apps(
        {"agent": "x"}, keep_newest=1, mode=DeleteMode.DRAIN, drain_timeout=60, dry_run=True
    ),
    "EraseUser": lambda: _app_calls.erase_user("a", ""),
    "ListAuditEntries": lambda: _app_calls.audit_page(
        _app_calls.list_audit_entries("a", UID, TimeRange(datetime(2026, 1, 1, tzinfo=UTC))),
        _calls.PageAsk("token", 10),
    ),
    "ExportSessions": lambda: _app_calls.export_sessions("a", {"user": "", "labels": {"k": "v"}}),
    "ImportSessions": lambda: _app_calls.import_target("a", OnExisting.RENAME),
    "BackupStore": lambda: _app_calls.backup_store("monday.db"),
    "GetState": lambda: _calls.get_state("a", ""),
    "UpdateState": lambda: _calls.update_state("a", None, {"x": 1}),
}


@pytest.mark.parametrize("method", EVERY_BUILDER)
def test_a_built_request_keeps_every_rule_of_the_contract(method: str) -> None:
    request = EVERY_BUILDER[method]()
    assert request.DESCRIPTOR.name == f"{method}Request"
    assert VALIDATOR.collect_violations(request) == []


@pytest.mark.parametrize("method", EVERY_BUILDER)
def test_each_write_gets_a_request_id_of_its_own(method: str) -> None:
    request, other = EVERY_BUILDER[method](), EVERY_BUILDER[method]()
    if "request_id" in request.DESCRIPTOR.fields_by_name:
        first, second = request.request_id, other.request_id  # type: ignore[attr-defined]
        assert first
        assert first != second


def test_a_request_id_of_the_caller_is_kept() -> None:
    request = _calls.delete_session("a", "s", request_id="order-17")
    assert request.request_id == "order-17"
    with pytest.raises(InvalidFieldError):
        _calls.delete_session("a", "s", request_id="with blank")


def test_default_labels_are_added_and_give_way() -> None:
    request = _calls.create_session(
        "a", NewSession(labels={"team": "blue"}), default_labels={"team": "red", "env": "prod"}
    )
    assert dict(request.session.labels) == {"team": "blue", "env": "prod"}


def test_none_is_stored_as_null_and_missing_is_not_sent() -> None:
    request = _calls.update_session("a", "s", state={"gone": None})
    assert dict(request.state.session.set) == {"gone": "null"}
    assert not request.state.HasField("user")
    assert not request.HasField("metrics")
    assert not request.HasField("idle_timeout")


def test_zero_timeouts_are_sent_and_absent_ones_are_not() -> None:
    request = _calls.update_session("a", "s", idle_timeout=0)
    assert request.HasField("idle_timeout")
    assert request.idle_timeout.seconds == 0


def test_empty_content_and_no_content_are_two_things() -> None:
    request = _message_calls.append_messages("a", "s", [NewMessage("user", ""), NewMessage("user")])
    assert [one.HasField("content") for one in request.messages] == [True, False]


@pytest.mark.parametrize(
    ("fields", "statuses"),
    [
        ({}, ["ACTIVE"]),
        ({"status": "failed"}, ["FAILED"]),
        ({"status": [Status.FAILED, Status.EXPIRED]}, ["FAILED", "EXPIRED"]),
        ({"status": None}, []),
        ({"status": "any"}, []),
        ({"filter": SessionFilter()}, ["ACTIVE"]),
        ({"filter": SessionFilter(statuses=[Status.EXPIRED])}, ["EXPIRED"]),
    ],
)
def test_a_list_asks_for_active_sessions_unless_told(
    fields: dict[str, object], statuses: list[str]
) -> None:
    request = _calls.list_sessions("a", fields)  # type: ignore[arg-type]
    names = [session_pb2.SessionStatus.Name(number) for number in request.filter.statuses]
    assert names == [f"SESSION_STATUS_{name}" for name in statuses]


def test_no_user_is_every_user_and_the_empty_one_is_the_app_s_own() -> None:
    assert not _calls.list_sessions("a", {}).HasField("user")
    assert _calls.list_sessions("a", {"user": ""}).HasField("user")


@pytest.mark.parametrize(
    "call",
    [
        lambda: _calls.end_session("a", "s", status=Status.ACTIVE),
        lambda: _calls.end_session("a", "s", status="done"),  # type: ignore[arg-type]
        lambda: _calls.end_session("a", "s", status=Status.UNKNOWN),
        lambda: _calls.create_session("", NewSession(), default_labels={}),
        lambda: _calls.create_sessions("a", [], default_labels={}),
        lambda: _calls.create_sessions("a", [NewSession()] * 1001, default_labels={}),
        lambda: _calls.create_session(
            "a", NewSession(owner_lease=5, owner_turn_token="t"), default_labels={}
        ),
        lambda: _calls.get_session("a", ""),
        lambda: _calls.get_session("a", "s", last_messages=1001),
        lambda: _calls.get_sessions("a", ["s", SessionKey("b", "", "s")]),
        lambda: _calls.get_session("a", SessionKey("a", "ann", "s"), user="bob"),
        lambda: _message_calls.get_message("a", "s"),
        lambda: _message_calls.get_message("a", "s", message_id="m", sequence=1),
        lambda: _message_calls.pop_messages("a", "s", count=0),
        lambda: _message_calls.append_messages("a", "s", [NewMessage("user")] * 1001),
        lambda: _calls.update_session("a", "s", state=StatePatch({"x": 1}, remove=["x"])),
        lambda: _calls.list_sessions("a", {"filter": SessionFilter(error_rate_above=1.5)}),
        lambda: _calls.list_sessions("a", {"labels": [LabelSelector("k")] * 17}),
        lambda: _calls.renew_turn("a", ""),
        lambda: _bulk_calls.end_sessions("a", {}),
        lambda: _bulk_calls.end_sessions("a", {"status": "any"}, keep_newest=3),
        lambda: _bulk_calls.end_sessions("a", {"user": "u"}, end_as=Status.ACTIVE),
        lambda: _bulk_calls.delete_sessions("a", {}),
        lambda: _bulk_calls.delete_sessions("a", {"colour": "red"}),  # type: ignore[typeddict-unknown-key]
        lambda: _bulk_calls.delete_sessions(
            "a", {"parent": UID, "filter": SessionFilter(parent_uid="another")}
        ),
        lambda: _bulk_calls.aggregate_sessions("a", {}, group_by=GroupBy.LABEL),
        lambda: _bulk_calls.aggregate_sessions("a", {}, group_by=GroupBy.USER, label_key="team"),
        lambda: _app_calls.update_app("a", policy=Policy(thresholds=[Threshold()])),
        lambda: _app_calls.update_app("a", policy=Policy(max_active_sessions=-1)),
        lambda: _app_calls.update_app("a", policy=Policy(retention=-1.0)),
        lambda: _app_calls.update_app(
            "a", policy=Policy(thresholds=[Threshold(error_count_above=1)] * 9)
        ),
        lambda: _app_calls.delete_app("a", mode=DeleteMode.FORCE, drain_timeout=1),
        lambda: _app_calls.delete_app("a", mode=DeleteMode.DRAIN, drain_timeout=timedelta(days=8)),
        lambda: _app_calls.delete_apps({}),
        lambda: _app_calls.delete_apps({"k": "v"}, drain_timeout=1),
        lambda: _app_calls.backup_store("../etc/passwd"),
        lambda: _app_calls.list_apps(None, "gone"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_is_sent(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        call()
    assert caught.value.field_violations


def test_one_thing_that_selects_is_enough_for_a_bulk_call() -> None:
    assert _bulk_calls.delete_sessions("a", {"user": ""}).HasField("user")
    assert _bulk_calls.delete_sessions("a", {"parent": UID}).filter.parent_uid == UID
    request = _bulk_calls.delete_sessions("a", {"status": "failed"})
    assert list(request.filter.statuses) == [session_pb2.SESSION_STATUS_FAILED]
    assert not request.all


def test_a_label_key_alone_groups_by_that_label() -> None:
    request = _bulk_calls.aggregate_sessions("a", {}, label_key="team")
    assert request == _bulk_calls.aggregate_sessions("a", {}, group_by="label", label_key="team")
    assert _bulk_calls.aggregate_sessions("a", {}).group_by == 0


def test_a_policy_says_only_what_was_said() -> None:
    sent = _app_calls.update_app("a", policy=Policy(max_active_sessions=0)).policy
    assert {field.name for field, _ in sent.ListFields()} == {
        "max_active_sessions",
        "session_quota_action",
        "overflow_action",
    }
    assert not _app_calls.update_app("a").HasField("policy")


@pytest.mark.parametrize(("count", "size", "parts"), [(0, 1, 1), (1000, 1, 1), (2001, 1, 3)])
def test_a_replacement_is_staged_when_one_request_does_not_hold_it(
    count: int, size: int, parts: int
) -> None:
    new = [NewMessage("user", "x" * size) for _ in range(count)]
    requests = _bulk_calls.replace_messages("a", "s", new, keep_through_sequence=7)
    assert sum(len(one.messages) for one in requests) == count
    assert [one.part for one in requests] == list(range(parts))
    assert [one.more_follow for one in requests] == [True] * (parts - 1) + [False]
    assert len({one.staging_id for one in requests}) == 1
    assert bool(requests[0].staging_id) == (parts > 1)
    assert len({one.request_id for one in requests}) == parts


def test_a_replacement_is_staged_by_its_bytes_too() -> None:
    new = [NewMessage("user", "x" * 1_000_000) for _ in range(7)]
    requests = _bulk_calls.replace_messages("a", "s", new, keep_through_sequence=0)
    assert [len(one.messages) for one in requests] == [3, 3, 1]
    assert all(one.ByteSize() < 4 * 1024 * 1024 for one in requests)


def test_a_repeated_replacement_has_the_same_ids_in_all_its_parts() -> None:
    new = [NewMessage("user")] * 1001

    def ids(request_id: str) -> list[tuple[str, str]]:
        requests = _bulk_calls.replace_messages(
            "a", "s", new, keep_through_sequence=0, request_id=request_id
        )
        return [(one.staging_id, one.request_id) for one in requests]

    assert ids("order-17") == ids("order-17")
    assert ids("order-17")[-1][1] == "order-17"
    assert not set(ids("order-17")) & set(ids("order-18"))
    assert [request_id for _, request_id in ids("")] == ["", ""]


def test_many_sessions_are_read_in_requests_of_a_thousand() -> None:
    requests = _calls.get_sessions("a", [str(number) for number in range(2500)])
    assert [len(request.sessions) for request in requests] == [1000, 1000, 500]
    assert _calls.get_sessions("a", []) == []


def test_a_session_that_was_read_is_named_by_its_uid_too() -> None:
    key = SessionKey("b", "u", "s")
    ref = _calls.get_session("a", key, uid=UID, view=View.BASIC).session
    assert (ref.app, ref.user, ref.session_id, ref.uid) == ("b", "u", "s", UID)


BUILDERS = [
    value
    for module in (_calls, _message_calls, _bulk_calls, _app_calls)
    for name, value in vars(module).items()
    if inspect.isfunction(value)
    and value.__module__ == module.__name__
    and value.__annotations__["return"].endswith(("Request", "Request]"))
    and not name.endswith("_page")
]
# What each argument is when it is not the one under test.
FITTING: dict[str, object] = {
    "app": "a",
    "session": "s",
    "sessions": [],
    "messages": [],
    "default_labels": {},
    "turn_token": "t",
    "keep_through_sequence": 0,
    "fields": {},
    "user": "u",
    "patch": {},
    "session_id": "t",
    "labels": {"k": "v"},
    "status": "any",
    "uid": UID,
    "time": None,
    "on_existing": OnExisting.FAIL,
    "name": "monday.db",
}
# What needs more than the fields above, to be refused for nothing but the one under test.
MORE: dict[object, dict[str, object]] = {
    _bulk_calls.end_sessions: {"all": True},
    _bulk_calls.delete_sessions: {"all": True},
}
NONSENSE = [object(), 5, -1, 1.5, True, None, b"x", "\ud83d", "\x00", [object()], {"x": object()}]
NONSENSE += [[1], [None], {1: 2}, float("nan"), 10**30, datetime(2026, 1, 1)]  # noqa: DTZ001


def test_every_builder_was_found() -> None:
    assert len(BUILDERS) == 35


@pytest.mark.parametrize("builder", BUILDERS, ids=lambda builder: builder.__name__)
def test_nonsense_in_any_argument_is_one_of_our_errors(builder: Callable[..., object]) -> None:
    parameters = inspect.signature(builder).parameters
    refused = 0
    for name in parameters:
        arguments = {
            other: FITTING[other]
            for other, parameter in parameters.items()
            if parameter.default is parameter.empty
        }
        if builder is _calls.create_session:
            arguments["session"] = NewSession()
        arguments |= MORE.get(builder, {})
        for value in NONSENSE:
            if name in {"fields", "default_labels"}:  # checked elsewhere
                break
            try:
                builder(**(arguments | {name: value}))
            except SojournError:
                refused += 1
    assert refused > 4


def test_nonsense_in_any_description_is_one_of_our_errors() -> None:
    refused = 0
    described: list[tuple[Any, Callable[[Any], object]]] = [
        (NewSession, lambda one: _calls.create_session("a", one, default_labels={})),
        (NewMessage, lambda one: _message_calls.append_messages("a", "s", [one])),
        (MetricsDelta, lambda one: _calls.update_session("a", "s", metrics=one)),
        (StatePatch, lambda one: _calls.update_state("a", "u", one)),
        (Precondition, lambda one: _calls.delete_session("a", "s", precondition=one)),
        (SessionFilter, lambda one: _calls.list_sessions("a", {"filter": one})),
        (LabelSelector, lambda one: _calls.list_sessions("a", {"labels": [one]})),
        (Policy, lambda one: _app_calls.update_app("a", policy=one)),
        (Threshold, lambda one: _app_calls.update_app("a", policy=Policy(thresholds=[one]))),
    ]
    for kind, make in described:
        base = {"role": "user"} if kind is NewMessage else {}
        base = {"key": "k"} if kind is LabelSelector else base
        for field in dataclasses.fields(kind):
            for value in NONSENSE:
                try:
                    make(kind(**(base | {field.name: value})))
                except SojournError:
                    refused += 1
    assert refused > 100


def test_nonsense_in_a_list_s_fields_is_one_of_our_errors() -> None:
    for name in ListFields.__annotations__:
        for value in NONSENSE:
            with contextlib.suppress(SojournError):
                _calls.list_sessions("a", {name: value})  # type: ignore[misc]
    for name in SelectionFields.__annotations__:
        for value in NONSENSE:
            with contextlib.suppress(SojournError):
                _bulk_calls.aggregate_sessions("a", {name: value})  # type: ignore[misc]
    with pytest.raises(InvalidFieldError, match="colour"):
        _calls.list_sessions("a", {"colour": "red"})  # type: ignore[typeddict-unknown-key]
