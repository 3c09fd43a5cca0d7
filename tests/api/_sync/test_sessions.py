# Generated from tests/api/_async/test_sessions.py by `make gen`. Edit the source, never this file.
"""Sessions from create to delete, as a caller sees them."""

from datetime import timedelta

import pytest

from sojourn import (
    Client,
    EndCause,
    ExpireCause,
    IfExists,
    MetricsDelta,
    NewMessage,
    NewSession,
    Precondition,
    ResetScope,
    SessionKey,
    SessionRef,
    StatePatch,
    Status,
    View,
    errors,
)


def test_a_created_session_is_active_and_empty(client: Client, app: str) -> None:
    session = client.sessions.create("user-123", user="u-456")
    assert session.key == SessionKey(app, "u-456", "user-123")
    assert session.status is Status.ACTIVE
    assert session.is_active
    assert (session.generation, session.message_count, session.last_sequence) == (1, 0, 0)
    assert session.revision > 0
    assert session.etag
    assert session.expire_cause is ExpireCause.IDLE
    assert session.idle_timeout == timedelta(hours=1)
    assert session.create_time.utcoffset() == timedelta(0)


def test_a_session_without_an_id_gets_one(client: Client) -> None:
    one, other = client.sessions.create(), client.sessions.create()
    assert one.session_id
    assert one.session_id != other.session_id


@pytest.mark.parametrize(
    "session_id",
    [
        "user-456",
        "user-456-device-789",
        "user-456-app-1",
        "auth0|12",
        "a@b.c",
        "temp-01890a5d-ac96-774b-bcce-b302099a8057",
        "ü 😀/x",
    ],
)
def test_ids_of_all_kinds_come_back(client: Client, session_id: str) -> None:
    client.sessions.create(f"  {session_id} ", user=session_id)
    session = client.sessions.get(session_id, user=session_id)
    assert (session.session_id, session.user) == (session_id, session_id)


def test_everything_said_at_creation_is_read_again(client: Client) -> None:
    client.sessions.create(
        "s",
        user="u",
        labels={"project": "x", "accuracy": "0.94"},
        metadata={"device": {"os": "linux", "n": 1.0}},
        state={"one": 1, "float": 1.0, "none": None, "big": 2**70},
        user_state={"theme": "dark"},
        app_state={"flag": True},
        idle_timeout=timedelta(minutes=5),
        max_lifetime=3600,
    )
    session = client.sessions.get("s", user="u")
    assert session.labels == {"project": "x", "accuracy": "0.94"}
    assert session.metadata == {"device": {"os": "linux", "n": 1.0}}
    assert session.metadata_json == {"device": '{"os":"linux","n":1.0}'}
    assert session.state_json == {
        "one": "1",
        "float": "1.0",
        "none": "null",
        "big": "1180591620717411303424",
    }
    assert session.state["big"] == 2**70
    assert type(session.state["float"]) is float
    assert session.user_state.values == {"theme": "dark"}
    assert session.app_state.values == {"flag": True}
    assert session.state_version == 1
    assert (session.idle_timeout, session.max_lifetime) == (
        timedelta(minutes=5),
        timedelta(hours=1),
    )


def test_zero_means_never(client: Client) -> None:
    session = client.sessions.create(idle_timeout=0)
    assert session.expire_time is None
    assert session.time_left is None


def test_an_id_is_taken_once(client: Client) -> None:
    client.sessions.create("s")
    with pytest.raises(errors.SessionExistsError) as caught:
        client.sessions.create("s")
    assert caught.value.metadata["status"] == "ACTIVE"
    assert caught.value.correlation_id
    assert caught.value.request_id
    assert caught.value.method == "CreateSession"
    assert caught.value.__cause__ is not None


def test_the_same_id_of_another_user_or_app_is_another_session(client: Client, app: str) -> None:
    one = client.sessions.create("s", user="ann")
    two = client.sessions.create("s", user="bob")
    three = client.sessions.create("s", user="ann", app=f"{app}-2")
    assert len({one.uid, two.uid, three.uid}) == 3


def test_get_or_create_says_which_of_the_two(client: Client) -> None:
    first, created = client.sessions.get_or_create("s", labels={"k": "v"})
    assert created
    second, created = client.sessions.get_or_create("s", labels={"k": "other"})
    assert not created
    assert second.uid == first.uid
    assert second.labels == {"k": "v"}


def test_get_or_create_refuses_an_ended_session(client: Client) -> None:
    client.sessions.create("s")
    client.sessions.end("s")
    with pytest.raises(errors.SessionEndedError) as caught:
        client.sessions.get_or_create("s")
    assert caught.value.metadata["status"] == "COMPLETED"


def test_an_ended_session_can_be_replaced_under_its_id(client: Client) -> None:
    old = client.sessions.create("s")
    with pytest.raises(errors.SessionExistsError):
        client.sessions.create("s", if_exists=IfExists.REPLACE_ENDED)
    client.sessions.end("s")
    new = client.sessions.create("s", if_exists=IfExists.REPLACE_ENDED)
    assert new.uid != old.uid
    assert new.is_active
    with pytest.raises(errors.UidMismatchError):
        client.sessions.get(old)
    with pytest.raises(errors.SessionNotFoundError):
        client.sessions.get(uid=old.uid)


def test_the_same_request_id_creates_once(client: Client) -> None:
    one = client.sessions.create(labels={"k": "v"}, request_id="r-1")
    two = client.sessions.create(labels={"k": "v"}, request_id="r-1")
    assert one.uid == two.uid
    with pytest.raises(errors.RequestIdReusedError) as caught:
        client.sessions.create(labels={"k": "other"}, request_id="r-1")
    assert caught.value.request_id == "r-1"


def test_many_sessions_are_created_all_or_none(client: Client) -> None:
    result = client.sessions.create_many([NewSession("a"), NewSession("b", user="u")])
    assert [ref.session_id for ref in result.sessions] == ["a", "b"]
    assert all(ref.uid for ref in result.sessions)
    with pytest.raises(errors.SessionExistsError):
        client.sessions.create_many([NewSession("c"), NewSession("a")])
    with pytest.raises(errors.SessionNotFoundError):
        client.sessions.get("c")


def test_a_child_needs_a_living_parent(client: Client) -> None:
    parent = client.sessions.create("parent")
    child = client.sessions.create("child", parent=parent)
    assert child.parent_uid == parent.uid
    client.sessions.end(parent)
    with pytest.raises(errors.ParentEndedError):
        client.sessions.create("late", parent=parent.uid)


def test_an_ephemeral_child_of_a_turn_that_is_over_is_not_created(
    client: Client,
) -> None:
    parent = client.sessions.create("parent")
    turn = client.turns.begin("parent")
    client.turns.end(turn.turn_token)
    with pytest.raises(errors.TurnSupersededError):
        client.sessions.create("child", parent=parent, owner_turn_token=turn.turn_token)


def test_an_unknown_session_is_not_found(client: Client) -> None:
    with pytest.raises(errors.SessionNotFoundError) as caught:
        client.sessions.get("nobody")
    assert caught.value.metadata == {"session_id": "nobody"}
    assert caught.value.code == "NOT_FOUND"
    assert caught.value.request_id == ""


def test_a_session_is_read_by_id_key_reference_uid_and_itself(client: Client) -> None:
    created = client.sessions.create("s", user="u")
    for named in (created.key, created.ref, created, SessionRef(uid=created.uid)):
        assert (client.sessions.get(named)).uid == created.uid
    assert (client.sessions.get("s", user="u")).uid == created.uid
    assert (client.sessions.get(uid=created.uid)).session_id == "s"


def test_the_view_basic_has_no_content(client: Client) -> None:
    client.sessions.create("s", state={"x": 1}, metadata={"m": 1})
    session = client.sessions.get("s", view=View.BASIC)
    with pytest.raises(errors.NotLoadedError):
        _ = session.state
    with pytest.raises(errors.NotLoadedError):
        _ = session.messages


def test_a_get_brings_the_newest_messages_along(client: Client) -> None:
    client.sessions.create("s")
    client.messages.append("s", [NewMessage("user", str(number)) for number in range(5)])
    session = client.sessions.get("s", last_messages=2)
    assert [message.content for message in session.messages] == ["3", "4"]
    assert session.message_count == 5
    assert (client.sessions.get("s", last_messages=0)).messages == ()


def test_many_sessions_are_read_and_the_absent_ones_named(client: Client) -> None:
    for session_id in ("a", "b"):
        client.sessions.create(session_id, state={"id": session_id})
    result = client.sessions.get_many(["b", "nobody", "a"], view=View.FULL)
    assert [session.state["id"] for session in result.sessions] == ["b", "a"]
    assert [ref.session_id for ref in result.not_found] == ["nobody"]


def test_more_than_one_answer_holds_are_read_completely(client: Client) -> None:
    # Six sessions of 250 KiB each: an answer is cut at 1 MiB.
    names = [f"s-{number}" for number in range(6)]
    for name in names:
        client.sessions.create(name, state={"x": "a" * 250_000})
    result = client.sessions.get_many(names, view=View.FULL)
    assert [session.session_id for session in result.sessions] == names
    assert result.not_found == ()


def test_an_update_changes_all_under_one_revision(client: Client) -> None:
    created = client.sessions.create("s", labels={"a": "1", "b": "2"}, metadata={"x": 1})
    result = client.sessions.update(
        "s",
        labels={"a": "new", "c": "3"},
        remove_labels=["b"],
        metadata={"y": None},
        remove_metadata=["x"],
        state={"k": [1]},
        user_state={"u": 1},
        app_state={"a": 1},
        idle_timeout=60,
    )
    assert result.changed
    assert result.revision == created.revision + 1
    assert (result.state_version, result.user_state_version, result.app_state_version) == (1, 1, 1)
    assert result.session.etag != created.etag
    session = client.sessions.get("s")
    assert session.labels == {"a": "new", "c": "3"}
    assert session.metadata == {"y": None}
    assert session.state == {"k": [1]}
    assert session.idle_timeout == timedelta(minutes=1)


def test_labels_can_be_replaced(client: Client) -> None:
    client.sessions.create("s", labels={"a": "1", "b": "2"})
    result = client.sessions.update("s", labels={"c": "3"}, replace_labels=True)
    assert result.session.labels == {"c": "3"}


def test_an_update_without_effect_takes_no_revision(client: Client) -> None:
    created = client.sessions.create("s", labels={"a": "1"})
    result = client.sessions.update("s", labels={"a": "1"})
    assert not result.changed
    assert result.revision == created.revision
    assert result.session.etag == created.etag


def test_state_patches_write_remove_and_replace(client: Client) -> None:
    client.sessions.create("s", state={"a": 1, "b": 2})
    client.sessions.update("s", state=StatePatch({"c": 3}, remove=["a", "absent"]))
    assert (client.sessions.get("s")).state == {"b": 2, "c": 3}
    result = client.sessions.update("s", state=StatePatch({"d": None}, replace=True))
    session = client.sessions.get("s")
    assert session.state == {"d": None}
    assert result.state_version == session.state_version == 3


def test_a_state_version_guards_a_patch(client: Client) -> None:
    client.sessions.create("s", state={"a": 1})
    client.sessions.update("s", state=StatePatch({"a": 2}, expected_version=1))
    with pytest.raises(errors.StateVersionMismatchError) as caught:
        client.sessions.update("s", state=StatePatch({"a": 3}, expected_version=1))
    assert caught.value.metadata == {"scope": "session", "version": "2"}


def test_counters_add_up(client: Client) -> None:
    created = client.sessions.create("s")
    client.sessions.update(
        "s", metrics=MetricsDelta(requests=1, processing_time=1.5, counters={"tokens": 100})
    )
    result = client.sessions.update(
        "s", metrics=MetricsDelta(requests=1, errors=1, counters={"tokens": -30})
    )
    metrics = result.session.metrics
    assert (metrics.request_count, metrics.error_count) == (2, 1)
    assert metrics.processing_time == timedelta(seconds=1.5)
    assert metrics.counters == {"tokens": 70}
    assert result.session.error_rate == 0.5
    assert result.session.average_processing_time == timedelta(seconds=0.75)
    assert result.session.etag == created.etag


def test_an_old_etag_is_refused(client: Client) -> None:
    created = client.sessions.create("s")
    guard = Precondition(etag=created.etag)
    client.sessions.update("s", labels={"a": "1"}, precondition=guard)
    with pytest.raises(errors.EtagMismatchError):
        client.sessions.update("s", labels={"a": "2"}, precondition=guard)


def test_a_touch_renews_the_idle_deadline_and_takes_no_revision(client: Client) -> None:
    created = client.sessions.create("s")
    touched = client.sessions.touch("s")
    assert touched.activity_time >= created.activity_time
    assert touched.etag == created.etag
    assert touched.revision == created.revision


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.EXPIRED])
def test_a_session_ends_as_it_is_told(client: Client, status: Status) -> None:
    client.sessions.create("s")
    result = client.sessions.end("s", status=status, reason="why", result={"score": 1.0})
    assert result.changed
    session = client.sessions.get("s")
    assert session.status is status
    assert session.end_cause is EndCause.REQUEST
    assert (session.end_reason, session.end_result_json) == ("why", '{"score":1.0}')
    assert session.end_time is not None
    assert session.is_expired() == (status is Status.EXPIRED)


def test_the_first_end_wins(client: Client) -> None:
    client.sessions.create("s")
    first = client.sessions.end("s", status=Status.EXPIRED)
    again = client.sessions.end("s", status=Status.EXPIRED)
    assert not again.changed
    assert again.revision == first.revision
    with pytest.raises(errors.SessionEndedError) as caught:
        client.sessions.end("s", status=Status.COMPLETED)
    assert caught.value.metadata["status"] == "EXPIRED"
    for write in (
        lambda: client.sessions.update("s", labels={"a": "1"}),
        lambda: client.sessions.touch("s"),
        lambda: client.sessions.reset("s"),
        lambda: client.messages.append("s", NewMessage("user", "late")),
        lambda: client.messages.pop("s"),
        lambda: client.messages.truncate("s", 0),
        lambda: client.turns.begin("s"),
    ):
        with pytest.raises(errors.SessionEndedError):
            write()


def test_an_end_takes_descendants_along_when_told(client: Client) -> None:
    parent = client.sessions.create("parent")
    child = client.sessions.create("child", parent=parent)
    client.sessions.create("grandchild", parent=child)
    result = client.sessions.end("parent", cascade=True)
    assert result.descendants_ended == 2
    grandchild = client.sessions.get("grandchild")
    assert grandchild.end_cause is EndCause.PARENT_ENDED


def test_an_idle_session_expires_by_itself(client: Client) -> None:
    client.sessions.create("s", idle_timeout=0.05)
    session = wait_until_ended(client, "s")
    assert session.status is Status.EXPIRED
    assert session.end_cause is EndCause.IDLE
    with pytest.raises(errors.SessionEndedError) as caught:
        client.messages.append("s", NewMessage("user", "late"))
    assert caught.value.metadata["cause"] == "IDLE"


def wait_until_ended(client: Client, session_id: str):
    while True:
        session = client.sessions.get(session_id, view=View.BASIC)
        if not session.is_active:
            return session


def test_a_reset_clears_what_it_is_told_and_counts_a_generation(client: Client) -> None:
    client.sessions.create("s", labels={"a": "1"}, metadata={"m": 1}, state={"x": 1, "y": 2})
    client.messages.append("s", [NewMessage("user", "1"), NewMessage("user", "2")])
    client.sessions.update("s", metrics=MetricsDelta(requests=1))

    result = client.sessions.reset("s", scope=ResetScope.HISTORY)
    assert (result.messages_cleared, result.state_keys_cleared) == (2, 0)
    assert not result.metrics_cleared
    assert result.session.generation == 2

    result = client.sessions.reset("s", reason="again")
    assert (result.messages_cleared, result.state_keys_cleared) == (0, 2)
    assert result.metrics_cleared
    session = client.sessions.get("s", last_messages=5)
    assert session.generation == 3
    assert session.messages == ()
    assert session.state == {}
    assert session.labels == {"a": "1"}
    assert session.metadata == {"m": 1}
    assert session.metrics.request_count == 0
    assert session.last_sequence == 2
    assert session.last_reset_reason == "again"
    assert session.last_reset_time is not None


def test_an_empty_session_can_be_reset(client: Client) -> None:
    client.sessions.create("s")
    assert (client.sessions.reset("s")).messages_cleared == 0


def test_a_write_of_an_older_generation_is_refused(client: Client) -> None:
    client.sessions.create("s")
    client.sessions.reset("s")
    with pytest.raises(errors.GenerationChangedError) as caught:
        client.messages.append(
            "s", NewMessage("user", "old"), precondition=Precondition(generation=1)
        )
    assert caught.value.metadata == {"generation": "2"}


def test_a_reset_can_wait_for_idleness(client: Client) -> None:
    client.sessions.create("s")
    turn = client.turns.begin("s", holder="pod-1")
    with pytest.raises(errors.NotIdleError) as caught:
        client.sessions.reset("s", if_idle=True)
    assert caught.value.metadata["holder"] == "pod-1"
    client.sessions.reset("s")
    with pytest.raises(errors.TurnSupersededError):
        client.turns.renew(turn.turn_token)


def test_a_deleted_session_is_gone_with_all_it_held(client: Client) -> None:
    client.sessions.create("s")
    client.messages.append("s", NewMessage("user", "1"))
    result = client.sessions.delete("s")
    assert (result.sessions_deleted, result.messages_deleted) == (1, 1)
    with pytest.raises(errors.SessionNotFoundError):
        client.sessions.get("s")
    with pytest.raises(errors.SessionNotFoundError):
        client.sessions.delete("s")


def test_a_parent_is_deleted_with_its_children_only_by_force(client: Client) -> None:
    parent = client.sessions.create("parent")
    client.sessions.create("child", parent=parent)
    with pytest.raises(errors.HasChildrenError) as caught:
        client.sessions.delete("parent")
    assert caught.value.metadata == {"count": "1", "children": "child"}
    assert (client.sessions.delete("parent", force=True)).sessions_deleted == 2


def test_a_session_made_anew_is_not_taken_for_the_old_one(client: Client) -> None:
    old = client.sessions.create("s")
    client.sessions.delete(old)
    new = client.sessions.create("s")
    assert new.uid != old.uid
    for call in (
        lambda: client.sessions.get(old),
        lambda: client.sessions.update(old, labels={"a": "1"}),
        lambda: client.sessions.touch(old),
        lambda: client.sessions.end(old),
        lambda: client.sessions.reset(old),
        lambda: client.sessions.delete(old),
        lambda: client.messages.append(old, NewMessage("user", "late")),
        lambda: client.messages.list(old).to_list(),
        lambda: client.turns.begin(old),
    ):
        with pytest.raises(errors.UidMismatchError):
            call()


def test_default_labels_are_put_on_every_session(client: Client) -> None:
    labelled = client.with_options(default_labels={"team": "red", "env": "test"})
    session = labelled.sessions.create(labels={"env": "prod"})
    assert session.labels == {"team": "red", "env": "prod"}
