"""RPCs about one session, once over the wire: requests and answers are wired up right."""

from __future__ import annotations

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from sojourn.v1 import (
    admin_service_pb2,
    app_pb2,
    app_service_pb2,
    change_pb2,
    session_pb2,
    session_service_pb2,
)
from tests.unit.rpc.wire import failed, failure_of
from tests.unit.server.stubs import (
    APPS,
    HISTORY,
    SESSIONS,
    TURNS,
    Stubs,
    append,
    creation,
    message,
    ref,
    stubs,
)

NANOS = 123_456_789
__all__ = ["stubs"]


async def test_create_get_and_list(stubs: Stubs):
    pb = SESSIONS
    made = await stubs.sessions.CreateSession(
        creation(labels={"team": "x"}, metadata={"m": "1"}, state={"session": {"set": {"k": "2"}}})
    )
    assert made.created
    assert made.session.labels == {"team": "x"}
    assert not made.session.metadata
    full = await stubs.sessions.GetSession(
        pb.GetSessionRequest(session=ref(), view="SESSION_VIEW_FULL")
    )
    assert full.session.metadata == {"m": "1"}
    assert full.session.state.session.values == {"k": "2"}
    assert full.session.uid == made.session.uid
    by_uid = session_pb2.SessionRef(app="a", uid=made.session.uid)
    assert (
        await stubs.sessions.GetSession(pb.GetSessionRequest(session=by_uid))
    ).session.key.user == "u"
    failure = await failed(stubs.sessions.CreateSession(creation()))
    assert failure.reason == "SESSION_EXISTS"
    again = creation()
    again.if_exists = pb.IF_EXISTS_RETURN_EXISTING
    assert not (await stubs.sessions.CreateSession(again)).created
    listing = pb.ListSessionsRequest(
        app="a", filter={"labels": [{"key": "team", "values": ["x"]}]}, total_size=True
    )
    page = await stubs.sessions.ListSessions(listing)
    assert [each.key.session_id for each in page.sessions] == ["s"]
    assert (page.total_size, page.next_page_token, bool(page.resume_token)) == (1, "", True)


async def test_pages_of_a_list_follow_one_another(stubs: Stubs):
    pb = SESSIONS
    names = [f"s-{number}" for number in range(5)]
    sessions = [{"user": "u", "session_id": name} for name in names]
    batch = await stubs.sessions.BatchCreateSessions(
        pb.BatchCreateSessionsRequest(app="a", sessions=sessions)
    )
    assert [each.key.session_id for each in batch.sessions] == names
    request = pb.ListSessionsRequest(app="a", user="u", page_size=2, view="SESSION_VIEW_IDS")
    found = []
    while True:
        page = await stubs.sessions.ListSessions(request)
        found += [each.key.session_id for each in page.sessions]
        assert not page.HasField("total_size")
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == names
    request.page_token = request.page_token[:-1] + "?"
    assert (await failed(stubs.sessions.ListSessions(request))).reason == "PAGE_TOKEN_INVALID"


async def test_a_batch_that_is_too_large_for_basic_comes_in_ids(stubs: Stubs):
    pb = SESSIONS
    labels = {f"k{number}": "v" * 200 for number in range(20)}
    sessions = [{"user": "u", "labels": labels} for _ in range(400)]
    request = pb.BatchCreateSessionsRequest(app="a", sessions=sessions)
    batch = await stubs.sessions.BatchCreateSessions(request)
    assert len(batch.sessions) == 400
    assert all(each.uid and not each.labels for each in batch.sessions)
    assert batch.ByteSize() < 2**20


async def test_batch_get_names_the_absent(stubs: Stubs):
    pb = SESSIONS
    await stubs.sessions.CreateSession(creation())
    request = pb.BatchGetSessionsRequest(app="a", sessions=[ref("x"), ref()])
    answer = await stubs.sessions.BatchGetSessions(request)
    assert [each.key.session_id for each in answer.sessions] == ["s"]
    assert list(answer.not_found) == [ref("x")]
    assert answer.covered == 2
    request.sessions[1].app = "b"
    failure = await failed(stubs.sessions.BatchGetSessions(request))
    assert failure.metadata == {"field": "sessions[1].app"}


async def test_update_changes_what_it_names(stubs: Stubs):
    pb = SESSIONS
    made = (await stubs.sessions.CreateSession(creation(labels={"a": "1", "b": "2"}))).session
    request = pb.UpdateSessionRequest(
        session=ref(),
        precondition={"etag": made.etag},
        labels={"c": "3"},
        remove_labels=["a"],
        metadata={"m": "1"},
        state={"user": {"set": {"k": "1"}}},
        metrics={"requests": 2, "processing_time": {"nanos": NANOS}, "counters": {"tokens": -3}},
        idle_timeout={"seconds": 0},
    )
    answer = await stubs.sessions.UpdateSession(request)
    session = answer.session
    assert answer.changed
    assert session.labels == {"b": "2", "c": "3"}
    assert (session.metrics.request_count, session.metrics.processing_time.nanos) == (2, NANOS)
    assert session.metrics.counters == {"tokens": -3}
    assert not session.HasField("expire_time")
    assert answer.state_versions.user.version == 1
    assert not answer.state_versions.HasField("session")
    failure = await failed(stubs.sessions.UpdateSession(request))
    assert (failure.code, failure.reason) == ("ABORTED", "ETAG_MISMATCH")
    assert failure.metadata == {"etag": session.etag}


async def test_touch_end_reset_and_delete(stubs: Stubs):
    pb = SESSIONS
    await stubs.sessions.CreateSession(creation())
    await append(stubs, "a", "b")
    touched = await stubs.sessions.TouchSession(pb.TouchSessionRequest(session=ref()))
    assert touched.revision == 2
    reset = await stubs.sessions.ResetSession(pb.ResetSessionRequest(session=ref(), reason="new"))
    assert (reset.messages_cleared, reset.session.generation) == (2, 2)
    assert reset.session.last_reset_time.seconds
    again = pb.ResetSessionRequest(session=ref(), backup_session_id="copy")
    kept = await stubs.sessions.ResetSession(again)
    assert (kept.backup.key.session_id, kept.backup.forked_from.uid) == ("copy", reset.session.uid)
    end = pb.EndSessionRequest(session=ref(), reason="done", result='{"ok": 1}')
    ended = await stubs.sessions.EndSession(end)
    assert ended.session.status == session_pb2.SESSION_STATUS_COMPLETED
    assert ended.session.end_cause == session_pb2.END_CAUSE_REQUEST
    assert not (await stubs.sessions.EndSession(end)).changed
    end.status = session_pb2.SESSION_STATUS_FAILED
    failure = await failed(stubs.sessions.EndSession(end))
    assert (failure.reason, failure.metadata["status"]) == ("SESSION_ENDED", "COMPLETED")
    full = await stubs.sessions.GetSession(
        pb.GetSessionRequest(session=ref(), view="SESSION_VIEW_FULL")
    )
    assert (full.session.end_reason, full.session.end_result) == ("done", '{"ok": 1}')
    deleted = await stubs.sessions.DeleteSession(pb.DeleteSessionRequest(session=ref()))
    assert deleted.sessions_deleted == 1
    failure = await failed(stubs.sessions.GetSession(pb.GetSessionRequest(session=ref())))
    assert failure.reason == "SESSION_NOT_FOUND"


async def test_a_turn_begins_is_renewed_and_ends(stubs: Stubs):
    pb = TURNS
    begun = await stubs.turns.BeginTurn(
        pb.BeginTurnRequest(session=ref(), holder="pod-1", create_if_missing=True)
    )
    assert begun.created
    assert (begun.turn.number, begun.turn.holder) == (1, "pod-1")
    assert begun.turn.lease_time.seconds - begun.turn.begin_time.seconds == 30
    failure = await failed(stubs.turns.BeginTurn(pb.BeginTurnRequest(session=ref())))
    assert (failure.reason, failure.metadata["holder"]) == ("TURN_CONFLICT", "pod-1")
    renewed = await stubs.turns.RenewTurn(
        pb.RenewTurnRequest(app="a", turn_token=begun.turn_token, lease={"seconds": 300})
    )
    assert renewed.turn.lease_time.seconds > begun.turn.lease_time.seconds + 200
    ended = await stubs.turns.EndTurn(
        pb.EndTurnRequest(
            app="a", turn_token=begun.turn_token, outcome="OUTCOME_ERROR", error="it broke"
        )
    )
    assert ended.session.metrics.error_count == 1
    assert ended.HasField("elapsed")
    full = await stubs.sessions.GetSession(
        SESSIONS.GetSessionRequest(session=ref(), view="SESSION_VIEW_FULL")
    )
    assert full.session.last_turn_error == "it broke"


async def test_history_is_appended_read_popped_and_truncated(stubs: Stubs):
    pb = HISTORY
    await stubs.sessions.CreateSession(creation())
    sent = message(
        "héllo",
        payload=b"\0\xff",
        content_type="application/x",
        metadata={"m": "1"},
        event_time={"seconds": -5, "nanos": NANOS},
    )
    answer = await stubs.history.AppendMessages(
        pb.AppendMessagesRequest(
            session=ref(),
            messages=[sent, *(message(str(number)) for number in range(4))],
            metrics={"requests": 1},
            state={"session": {"set": {"k": "1"}}},
        )
    )
    assert list(answer.sequences) == [1, 2, 3, 4, 5]
    assert answer.changed
    assert not answer.created
    assert answer.state_versions.session.version == 1
    assert answer.session.metrics.request_count == 1
    read = await stubs.history.GetMessage(
        pb.GetMessageRequest(session=ref(), message_id=answer.message_ids[0])
    )
    for name in ("role", "content", "payload", "content_type", "metadata", "event_time"):
        assert getattr(read.message, name) == getattr(sent, name), name
    by_sequence = pb.GetMessageRequest(session=ref(), sequence=3)
    assert (await stubs.history.GetMessage(by_sequence)).message.content == "1"
    newest = await stubs.sessions.GetSession(
        SESSIONS.GetSessionRequest(session=ref(), last_messages=2)
    )
    assert [each.content for each in newest.messages] == ["2", "3"]
    listing = pb.ListMessagesRequest(
        session=ref(), after_sequence=1, before_sequence=5, order="MESSAGE_ORDER_NEWEST_FIRST"
    )
    page = await stubs.history.ListMessages(listing)
    assert [each.sequence for each in page.messages] == [4, 3, 2]
    assert page.generation == 1
    none = pb.ListMessagesRequest(session=ref(), last=0)
    assert not (await stubs.history.ListMessages(none)).messages
    early = pb.ListMessagesRequest(session=ref(), event_time_not_before={"seconds": -6})
    assert [each.sequence for each in (await stubs.history.ListMessages(early)).messages] == [1]
    popped = await stubs.history.PopMessages(pb.PopMessagesRequest(session=ref(), count=2))
    assert [each.content for each in popped.messages] == ["2", "3"]
    assert popped.session.message_count == 3
    cut = await stubs.history.TruncateMessages(
        pb.TruncateMessagesRequest(session=ref(), keep_through_sequence=1)
    )
    assert (cut.messages_removed, cut.session.last_sequence) == (2, 5)


async def test_state_of_users_and_apps(stubs: Stubs):
    pb = APPS
    for user in (None, "", "ann"):
        request = pb.UpdateStateRequest(app="a", user=user, patch={"set": {"k": f'"{user}"'}})
        answer = await stubs.apps.UpdateState(request)
        assert (answer.version, answer.changed) == (1, True)
    for user in (None, "", "ann"):
        read = await stubs.apps.GetState(pb.GetStateRequest(app="a", user=user))
        assert read.state.values == {"k": f'"{user}"'}
    wrong = pb.UpdateStateRequest(app="a", patch={"set": {"k": "{"}})
    assert (await failed(stubs.apps.UpdateState(wrong))).reason == "INVALID_FIELD"


POLICY = {
    "default_idle_timeout": {"seconds": 60, "nanos": NANOS},
    "default_max_lifetime": {"seconds": 0},
    "retention": {"seconds": 3_600},
    "auto_create": False,
    "max_active_sessions": 2,
    "max_active_sessions_per_user": 0,
    "session_quota_action": "QUOTA_ACTION_END_OLDEST_IDLE",
    "max_requests_per_session": 3,
    "max_messages_per_session": 4,
    "max_bytes_per_session": 5,
    "overflow_action": "OVERFLOW_ACTION_DROP_OLDEST",
    "require_turn": True,
    "thresholds": [
        {"error_rate_above": 0.5, "min_requests": 2, "action": "THRESHOLD_ACTION_WARN"},
        {"error_count_above": 0, "min_requests": 1, "action": "THRESHOLD_ACTION_END"},
    ],
}


async def test_an_app_is_made_changed_read_and_listed(stubs: Stubs):
    pb = APPS
    update = pb.UpdateAppRequest(app="a", labels={"tier": "gold", "x": "y"}, policy=POLICY)
    made = await stubs.apps.UpdateApp(update)
    assert (made.changed, made.revision) == (True, 1)
    # Field by field: what was set comes back as it was set, and nothing else.
    assert made.app.policy == update.policy
    assert (made.app.app, made.app.revision, made.app.labels["tier"]) == ("a", 1, "gold")
    again = await stubs.apps.UpdateApp(update)
    assert (again.changed, again.revision) == (False, 1)
    fewer = pb.UpdateAppRequest(app="a", remove_labels=["x"], policy={})
    assert (await stubs.apps.UpdateApp(fewer)).app.labels == {"tier": "gold"}
    await stubs.sessions.CreateSession(creation())
    read = (await stubs.apps.GetApp(pb.GetAppRequest(app="a"))).app
    assert (read.active_sessions, read.session_count, read.revision) == (1, 1, 3)
    assert read.status == app_pb2.APP_STATUS_ACTIVE
    assert read.HasField("policy")
    assert not read.policy.HasField("max_active_sessions")
    assert read.feed_id
    assert read.HasField("create_time")
    await stubs.apps.UpdateApp(pb.UpdateAppRequest(app="b"))
    gold = pb.ListAppsRequest(labels=[{"key": "tier", "values": ["gold"]}])
    assert [each.app for each in (await stubs.apps.ListApps(gold)).apps] == ["a"]
    first = await stubs.apps.ListApps(pb.ListAppsRequest(page_size=1))
    rest = pb.ListAppsRequest(page_size=1, page_token=first.next_page_token)
    assert [each.app for each in (await stubs.apps.ListApps(rest)).apps] == ["b"]
    deleted = pb.ListAppsRequest(statuses=["APP_STATUS_DELETED"])
    assert not (await stubs.apps.ListApps(deleted)).apps
    nobody = await failed(stubs.apps.GetApp(pb.GetAppRequest(app="c")))
    assert (nobody.code, nobody.reason) == ("NOT_FOUND", "APP_NOT_FOUND")


async def test_a_quota_says_which_it_is_and_when_to_come_again(stubs: Stubs):
    policy = {"max_active_sessions": 1, "default_idle_timeout": {"seconds": 600}}
    await stubs.apps.UpdateApp(APPS.UpdateAppRequest(app="a", policy=policy))
    await stubs.sessions.CreateSession(creation("one"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stubs.sessions.CreateSession(creation("two"))
    failure = failure_of(caught.value)
    assert (failure.code, failure.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    assert failure.metadata == {"quota": "max_active_sessions", "limit": "1"}
    status, retry = rpc_status.from_call(caught.value), RetryInfo()
    assert status is not None
    assert status.details[1].Unpack(retry)
    assert 500 < retry.retry_delay.seconds <= 600


async def test_a_threshold_without_a_bound_is_refused(stubs: Stubs):
    policy = {"thresholds": [{"error_count_above": 1}, {"min_requests": 3}]}
    failure = await failed(stubs.apps.UpdateApp(APPS.UpdateAppRequest(app="a", policy=policy)))
    assert failure.metadata == {"field": "policy.thresholds[1]"}


async def test_a_watch_is_told_of_policies_and_of_what_they_do(stubs: Stubs):
    policy = {
        "max_active_sessions": 1,
        "session_quota_action": "QUOTA_ACTION_END_OLDEST_IDLE",
        "max_messages_per_session": 1,
        "overflow_action": "OVERFLOW_ACTION_DROP_OLDEST",
        "thresholds": [{"error_count_above": 0}],
    }
    watch = stubs.sessions.WatchSessions(
        session_service_pb2.WatchSessionsRequest(
            app="a", send_initial_state=True, include_app_changes=True
        )
    )
    await watch.read()
    await stubs.apps.UpdateApp(APPS.UpdateAppRequest(app="a"))
    await stubs.apps.UpdateApp(APPS.UpdateAppRequest(app="a", policy=policy))
    await stubs.sessions.CreateSession(creation("one"))
    await stubs.sessions.CreateSession(creation("s"))
    await append(stubs, "first")
    await append(stubs, "second")
    await stubs.sessions.UpdateSession(
        SESSIONS.UpdateSessionRequest(session=ref(), metrics={"requests": 1, "errors": 1})
    )
    causes: list[str] = []
    while len(causes) < 10:
        for change in (await watch.read()).changes:
            name = change_pb2.ChangeCause.Name(change.cause)
            causes.append(name.removeprefix("CHANGE_CAUSE_"))
    watch.cancel()
    assert causes == [
        "APP_CREATED",
        "APP_UPDATED",
        "CREATED",
        "ENDED",
        "CREATED",
        "MESSAGES_APPENDED",
        "MESSAGES_REMOVED",
        "MESSAGES_APPENDED",
        "UPDATED",
        "THRESHOLD",
    ]


async def test_a_watch_tells_of_what_others_do(stubs: Stubs):
    request = session_service_pb2.WatchSessionsRequest(app="a", send_initial_state=True)
    watch = stubs.sessions.WatchSessions(request)
    marker = await watch.read()
    assert (marker.HasField("initial_state_end"), marker.initial_state_end) == (True, 0)
    created = await stubs.sessions.CreateSession(creation("one"))
    message = await watch.read()
    (change,) = message.changes
    assert change.session.session.uid == created.session.uid
    assert (change.revision, message.revision) == (created.revision, created.revision)
    assert message.resume_token
    watch.cancel()


async def test_a_repeat_with_one_id_is_one_call_and_another_payload_is_refused(stubs: Stubs):
    request = creation("one")
    request.request_id = "r-1"
    first = await stubs.sessions.CreateSession(request)
    again = await stubs.sessions.CreateSession(request)
    assert (first.session.uid, first.revision) == (again.session.uid, again.revision)
    other = creation("two")
    other.request_id = "r-1"
    failure = await failed(stubs.sessions.CreateSession(other))
    assert (failure.code, failure.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")


async def test_a_user_is_erased_and_the_audit_says_so(stubs: Stubs):
    request = creation("one")
    request.session.user = "ann"
    await stubs.sessions.CreateSession(request)
    erase = app_service_pb2.EraseUserRequest(app="a", user="ann", request_id="e")
    receipt = await stubs.apps.EraseUser(erase)
    assert (receipt.sessions, receipt.scrubbed) == (1, True)
    asked = admin_service_pb2.ListAuditEntriesRequest(
        app="a", causes=[change_pb2.CHANGE_CAUSE_CREATED]
    )
    (entry,) = (await stubs.admin.ListAuditEntries(asked)).entries
    assert (entry.session.session_id, entry.session.user[:7]) == ("", "erased-")
