# Generated from tests/api/_async/test_many.py by `make gen`. Edit the source, never this file.
"""Many sessions at once, sums of them, copies, and sessions that are used up."""

from datetime import timedelta

import pytest

from sojourn import (
    ChangeCause,
    Client,
    EndCause,
    GroupBy,
    MetricsDelta,
    NewMessage,
    NewSession,
    SessionFilter,
    SessionHandle,
    SessionKey,
    Status,
    errors,
)
from sojourn._acompat import sync_sleep


def some(client: Client, count: int, **fields) -> None:
    client.sessions.create_many([NewSession(f"s-{number}", **fields) for number in range(count)])


def active(client: Client) -> list[str]:
    return [one.session_id for one in client.sessions.list()]


def test_selected_sessions_end_and_the_newest_stay(client: Client, app: str) -> None:
    some(client, 5, user="ann")
    client.sessions.create("other", user="bob")
    would = client.sessions.end_many(user="ann", keep_newest=2, dry_run=True)
    assert would.count == 3
    assert len(active(client)) == 6
    done = client.sessions.end_many(
        user="ann", keep_newest=2, end_as=Status.FAILED, reason="clean-up"
    )
    assert done.count == 3
    assert done.first_keys == tuple(SessionKey(app, "ann", f"s-{number}") for number in (2, 1, 0))
    assert active(client) == ["s-3", "s-4", "other"]
    ended = client.sessions.get("s-0", user="ann")
    assert (ended.status, ended.end_reason) == (Status.FAILED, "clean-up")
    assert (client.sessions.end_many(status="active", user="ann")).count == 2
    with pytest.raises(errors.InvalidFieldError, match="all"):
        client.sessions.end_many()
    assert (client.sessions.end_many(all=True)).count == 1


def test_selected_sessions_are_removed_whatever_their_status(client: Client) -> None:
    some(client, 4, labels={"team": "red"})
    client.sessions.end("s-0")
    client.sessions.create("t", labels={"team": "blue"})
    done = client.sessions.delete_many(labels={"team": "red"}, request_id="r-1")
    assert done.count == 4
    assert client.sessions.list(status="any").count() == 1
    assert client.sessions.delete_many(labels={"team": "red"}, request_id="r-1") == done


def test_what_was_idle_for_too_long_is_cleaned_up_and_counted(client: Client) -> None:
    some(client, 3)
    busy = client.attach("busy")
    sync_sleep(0.3)
    client.sessions.touch("s-2")
    with busy.turn():
        assert client.sessions.cleanup_inactive(3600) == 0
        assert client.sessions.cleanup_inactive(timedelta(milliseconds=250)) == 2
        assert active(client) == ["s-2", "busy"]
    ended = client.sessions.get("s-0")
    assert (ended.status, ended.end_cause) == (Status.EXPIRED, EndCause.REQUEST)


def test_clean_up_by_age_and_by_error_rate(client: Client) -> None:
    some(client, 2)
    client.sessions.update("s-0", metrics=MetricsDelta(requests=3, errors=2))
    client.sessions.update("s-1", metrics=MetricsDelta(requests=3, errors=1))
    failing = SessionFilter(error_rate_above=0.5, request_count_above=0)
    assert (client.sessions.end_many(filter=failing, end_as=Status.FAILED)).count == 1
    old = SessionFilter(older_than=timedelta(days=7))
    assert (client.sessions.end_many(filter=old, end_as=Status.EXPIRED)).count == 0
    assert active(client) == ["s-1"]


def test_sessions_are_counted_without_being_read(client: Client) -> None:
    assert client.sessions.count() == 0
    some(client, 3, user="ann")
    client.sessions.create("t", labels={"k": "v"})
    client.sessions.end("s-0", user="ann")
    assert client.sessions.count() == 3
    assert client.sessions.count(user="ann") == 2
    assert client.sessions.count(status="any") == 4
    assert client.sessions.count(labels={"k": "v"}) == 1


def test_sums_are_by_user_by_status_by_label_and_of_all(client: Client) -> None:
    for user, team, requests in (("ann", "red", 4), ("bob", "red", 0), ("ann", "blue", 1)):
        delta = MetricsDelta(requests, requests // 2, requests * 1.5, {"tokens": requests * 10})
        name = f"{user}-{team}"
        client.sessions.create(name, user=user, labels={"team": team})
        client.sessions.update(name, user=user, metrics=delta)
    client.messages.append("ann-red", NewMessage("user", "x"), user="ann")
    client.sessions.end("bob-red", user="bob")

    def sums(**what) -> dict[str, int]:
        return {one.group: one.session_count for one in client.sessions.aggregate(**what)}

    assert sums(group_by="user") == {"ann": 2, "bob": 1}
    assert sums(group_by=GroupBy.STATUS) == {"ACTIVE": 2, "COMPLETED": 1}
    assert sums(label_key="team") == {"red": 2, "blue": 1}
    assert sums(label_key="team", status=Status.ACTIVE) == {"red": 1, "blue": 1}
    assert sums(group_by="user", page_size=1) == {"ann": 2, "bob": 1}
    [ann, bob] = client.sessions.aggregate(group_by=GroupBy.USER).to_list()
    assert (ann.metrics.request_count, ann.metrics.error_count) == (5, 2)
    assert ann.error_rate == pytest.approx(0.4)
    assert ann.metrics.processing_time == timedelta(seconds=7.5)
    assert ann.mean_processing_time == timedelta(seconds=1.5)
    assert ann.metrics.counters == {"tokens": 50}
    assert (ann.message_count, bob.message_count) == (1, 0)
    assert (bob.error_rate, bob.mean_processing_time) == (0.0, None)
    [whole] = client.sessions.aggregate().to_list()
    assert (whole.group, whole.session_count) == ("", 3)


def test_children_are_rolled_up_listed_and_watched(client: Client) -> None:
    root = client.attach("root", user="ann")
    with root.watch_children() as watch:
        with root.child("sub") as sub:
            sub.update(metrics=MetricsDelta(requests=2))
            assert [one.session_id for one in root.children()] == ["sub"]
        causes = []
        for change in watch.changes():
            causes.append(change.cause)
            if change.cause is ChangeCause.ENDED:
                break
    assert causes == [ChangeCause.CREATED, ChangeCause.UPDATED, ChangeCause.ENDED]
    assert [one.status for one in root.children()] == [Status.COMPLETED]
    assert root.children(status=Status.ACTIVE).count() == 0
    assert client.sessions.list(parent=root.info, status="any").count() == 1
    [whole] = client.sessions.aggregate(group_by=GroupBy.USER, roll_up=True).to_list()
    assert (whole.group, whole.session_count, whole.metrics.request_count) == ("ann", 2, 2)


def test_a_fork_is_a_session_of_its_own(client: Client) -> None:
    session = client.attach("s", user="ann", labels={"k": "v"}, state={"n": 1.0})
    for text in ("a", "b", "c"):
        session.append("user", text)
    copy = session.fork("copy", through_sequence=2)
    assert (copy.session_id, copy.user) == ("copy", "ann")
    assert [one.content for one in copy.messages()] == ["a", "b"]
    assert copy.info.forked_from is not None
    assert copy.info.forked_from.uid == session.uid
    copy.append("user", "other")
    assert len(session.messages()) == 3
    full = copy.refresh()
    assert (full.labels, full.state_json) == ({"k": "v"}, {"n": "1.0"})
    named = client.sessions.fork("s", user="ann")
    assert named.session_id not in {"", "s", "copy"}
    with pytest.raises(errors.SessionExistsError):
        session.fork("copy")


def test_a_reset_can_keep_a_copy_first(client: Client) -> None:
    session = client.attach("s")
    session.append("user", "important")
    done = session.reset(backup_session_id="s-backup", reason="user wish")
    assert done.backup is not None
    assert done.backup.session_id == "s-backup"
    assert done.messages_cleared == 1
    kept = client.sessions.get("s-backup", last_messages=1)
    assert [one.content for one in kept.messages] == ["important"]


def test_a_suffix_of_the_history_is_replaced_all_at_once(client: Client) -> None:
    session = client.attach("s")
    session.append_many([NewMessage("user", str(number)) for number in range(5)])
    done = session.replace_messages(
        [NewMessage("system", "in short", message_id="m-1")], keep_through_sequence=1
    )
    assert (done.messages_removed, done.changed) == (4, True)
    assert (done.message_ids, done.sequences) == (("m-1",), (6,))
    assert [one.content for one in session.messages()] == ["0", "in short"]
    assert (session.message("m-1")).sequence == 6
    assert (session.message(sequence=1)).content == "0"


def test_more_messages_than_a_request_holds_are_staged(client: Client) -> None:
    session = client.attach("s")
    session.append("user", "old")
    new = [NewMessage("user", f"{number}") for number in range(2300)]
    done = client.messages.replace(session.ref, new, request_id="r-1")
    assert done.messages_removed == 1
    assert len(done.sequences) == len(set(done.message_ids)) == 2300
    assert list(done.sequences) == sorted(done.sequences)
    assert done.session.message_count == 2300
    newest = session.messages(last=2)
    assert [one.content for one in newest] == ["2298", "2299"]
    again = client.messages.replace(session.ref, new, request_id="r-1")
    assert (again.sequences, again.revision) == (done.sequences, done.revision)
    assert (session.refresh()).message_count == 2300


def test_a_handle_can_remove_its_session(client: Client) -> None:
    session = client.attach("s")
    assert (session.delete()).sessions_deleted == 1
    with pytest.raises(errors.SessionNotFoundError):
        session.refresh()


def test_a_session_that_is_used_up_makes_way_under_its_id(client: Client) -> None:
    sessions = client.sessions
    first, created = sessions.get_or_replace("s", max_idle=3600, max_requests=2)
    assert created
    same, created = sessions.get_or_replace("s", max_idle=3600, max_requests=2)
    assert (same.uid, created) == (first.uid, False)
    sessions.update("s", metrics=MetricsDelta(requests=2))
    second, created = sessions.get_or_replace("s", max_requests=2)
    assert created
    assert second.uid != first.uid
    sessions.end("s", status=Status.EXPIRED)
    third, created = sessions.get_or_replace("s", labels={"k": "v"})
    assert (created, third.labels) == (True, {"k": "v"})
    sync_sleep(0.2)
    fourth, created = sessions.get_or_replace("s", max_idle=0.1)
    assert created
    assert fourth.uid != third.uid


def test_a_session_in_use_is_not_replaced(client: Client) -> None:
    session = client.attach("s")
    session.update(metrics=MetricsDelta(requests=5))
    with session.turn():
        sync_sleep(0.1)
        same = client.attach("s", max_idle=0.05, max_requests=1)
        assert same.uid == session.uid


def test_to_attach_can_replace_what_has_ended(client: Client) -> None:
    first = client.attach("s")
    first.end()
    with pytest.raises(errors.SessionEndedError):
        client.attach("s")
    second = client.attach("s", replace_ended=True)
    assert second.uid != first.uid


def test_what_was_done_counts_more_than_how_it_ended(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    def work(session: SessionHandle) -> int:
        session.append("user", "hello")
        return 42

    assert client.run(work, "s", user="ann") == 42
    assert (client.sessions.get("s", user="ann")).status is Status.COMPLETED

    def remove(session: SessionHandle) -> int:
        session.delete()
        return 43

    assert client.run(remove, "t") == 43
    assert "could not be ended" in caplog.text

    def fail(session: SessionHandle) -> int:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        client.run(fail, "u")
    assert (client.sessions.get("u")).status is Status.FAILED
