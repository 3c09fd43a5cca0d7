"""What the caller says becomes this request."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import protovalidate
import pytest
from google.protobuf.message import Message

from sojourn import (
    ChangeCause,
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
from sojourn.errors import InvalidFieldError
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
        _app_calls.list_audit_entries(
            "a",
            UID,
            user="u",
            session_id="s",
            causes=[ChangeCause.RESET],
            actor="",
            time=TimeRange(datetime(2026, 1, 1, tzinfo=UTC)),
        ),
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


def test_many_sessions_are_read_in_requests_of_a_thousand() -> None:
    requests = _calls.get_sessions("a", [str(number) for number in range(2500)])
    assert [len(request.sessions) for request in requests] == [1000, 1000, 500]
    assert _calls.get_sessions("a", []) == []


def test_a_session_that_was_read_is_named_by_its_uid_too() -> None:
    key = SessionKey("b", "u", "s")
    ref = _calls.get_session("a", key, uid=UID, view=View.BASIC).session
    assert (ref.app, ref.user, ref.session_id, ref.uid) == ("b", "u", "s", UID)
