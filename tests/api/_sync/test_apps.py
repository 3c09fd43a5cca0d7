# Generated from tests/api/_async/test_apps.py by `make gen`. Edit the source, never this file.
"""Apps from their first session to their end, and the erasure of users, as a caller sees them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sojourn import (
    App,
    AppStatus,
    Client,
    DeleteMode,
    OverflowAction,
    Policy,
    QuotaAction,
    SessionKey,
    Status,
    Threshold,
    ThresholdAction,
    errors,
)


def test_an_app_is_there_with_its_first_session_and_counts_them(client: Client, app: str) -> None:
    with pytest.raises(errors.AppNotFoundError):
        client.apps.get()
    client.sessions.create("a")
    client.sessions.create("b")
    client.sessions.end("b")
    found = client.apps.get()
    assert (found.app, found.status) == (app, AppStatus.ACTIVE)
    assert (found.active_sessions, found.session_count) == (1, 2)
    assert found.policy == Policy()
    assert found.effective_policy == Policy(
        default_idle_timeout=timedelta(hours=1),
        default_max_lifetime=timedelta(0),
        retention=timedelta(days=7),
        auto_create=True,
        require_turn=False,
    )
    assert found.blockers is None
    assert found.feed_id


def test_labels_are_merged_and_select(client: Client) -> None:
    for name, agent in (("d-1", "x"), ("d-2", "x"), ("d-3", "y")):
        client.apps.update(name, labels={"agent": agent, "old": "1"})
    done = client.apps.update("d-1", labels={"tier": "gold"}, remove_labels=["old"])
    assert done.changed
    assert done.app.labels == {"agent": "x", "tier": "gold"}
    again = client.apps.update("d-1", labels={"tier": "gold"})
    assert (again.changed, again.revision) == (False, done.revision)

    def names(**what) -> list[str]:
        return [one.app for one in client.apps.list(**what)]

    assert names() == ["d-1", "d-2", "d-3"]
    assert names(labels={"agent": "x"}) == ["d-1", "d-2"]
    assert names(labels={"agent": "x"}, page_size=1) == ["d-1", "d-2"]
    page = client.apps.list().page(2, limit=2)
    assert [one.app for one in page.items] == ["d-3"]
    client.apps.delete("d-2")
    assert names() == ["d-1", "d-3"]
    assert names(status=AppStatus.DELETED) == ["d-2"]
    assert names(status="any") == ["d-1", "d-2", "d-3"]


def test_a_policy_is_kept_as_it_was_said_and_holds(client: Client) -> None:
    policy = Policy(
        default_idle_timeout=90.5,
        default_max_lifetime=timedelta(0),
        retention=timedelta(days=1),
        auto_create=False,
        max_active_sessions=1,
        session_quota_action=QuotaAction.REFUSE,
        overflow_action=OverflowAction.DROP_OLDEST,
        max_messages_per_session=2,
        thresholds=[Threshold(ThresholdAction.END, error_rate_above=0.5, min_requests=3)],
    )
    done = client.apps.update(policy=policy)
    expected = replace(
        policy,
        default_idle_timeout=timedelta(seconds=90.5),
        thresholds=tuple(policy.thresholds),
    )
    assert done.app.policy == expected == (client.apps.get()).policy
    session = client.attach("s")
    assert session.info.idle_timeout == timedelta(seconds=90.5)
    with pytest.raises(errors.QuotaExceededError) as caught:
        client.sessions.create("t")
    assert caught.value.metadata["limit"] == "1"
    for text in ("a", "b", "c"):
        session.append("user", text)
    assert [one.content for one in session.messages()] == ["b", "c"]
    client.apps.update(policy=replace(expected, max_active_sessions=None))
    client.sessions.create("t")


def test_an_app_in_use_says_who_holds_it_and_until_when(client: Client, app: str) -> None:
    session = client.attach("s", user="ann", idle_timeout=3600)
    client.sessions.create("t")
    with session.turn(holder="pod-1"):
        with pytest.raises(errors.AppHasSessionsError) as caught:
            client.apps.delete()
    error = caught.value
    assert error.count == 2
    assert set(error.first_keys) == {SessionKey(app, "ann", "s"), SessionKey(app, "", "t")}
    assert error.holders == ("pod-1",)
    assert error.latest_activity_time is not None
    assert error.earliest_success_time is not None
    assert timedelta(minutes=59) < error.earliest_success_time - error.latest_activity_time
    assert error.retry_after is not None


def test_force_deletes_at_once_and_the_name_stays_refused(client: Client) -> None:
    client.sessions.create("s")
    done = client.apps.delete(mode=DeleteMode.FORCE, wait=True)
    assert (done.status, done.sessions_deleted) == (AppStatus.DELETED, 1)
    with pytest.raises(errors.AppDeletedError):
        client.sessions.create("s")
    client.apps.update(allow_again=True)
    client.sessions.create("s")


def test_a_drain_can_be_waited_for(client: Client) -> None:
    session = client.attach("s")
    client.sessions.create("t")
    begun = client.apps.delete(mode=DeleteMode.DRAIN, drain_timeout=60)
    assert begun.status is AppStatus.DRAINING
    found = client.apps.get()
    assert found.is_draining
    assert found.drain_deadline is not None
    assert found.blockers is not None
    assert found.blockers.count == 2
    with pytest.raises(errors.AppDrainingError):
        client.sessions.create("u")
    session.end()
    seen: list[App] = []
    done = client.apps.delete(
        mode=DeleteMode.DRAIN, drain_timeout=0, wait=True, on_progress=seen.append
    )
    assert done.status is AppStatus.DELETED
    assert (client.apps.get()).status is AppStatus.DELETED


def test_a_drain_that_takes_too_long_goes_on_by_itself(client: Client) -> None:
    client.sessions.create("s")
    seen: list[App] = []
    with pytest.raises(errors.DeadlineExceededError):
        client.apps.delete(mode=DeleteMode.DRAIN, wait=True, deadline=0.5, on_progress=seen.append)
    assert seen
    assert (client.apps.get()).is_draining


def test_cleanup_keeps_the_newest(client: Client) -> None:
    for name in ("d-1", "d-2", "d-3"):
        client.apps.update(name, labels={"agent": "x"})
    client.sessions.create("s", app="d-1")
    would = client.apps.delete_many({"agent": "x"}, keep_newest=1, dry_run=True)
    assert (would.apps, would.refused, would.more) == (("d-2",), ("d-1",), False)
    done = client.apps.delete_many({"agent": "x"}, keep_newest=1)
    assert (done.apps, done.refused) == (("d-2",), ("d-1",))
    forced = client.apps.delete_many({"agent": "x"}, keep_newest=1, mode=DeleteMode.FORCE)
    assert forced.apps == ("d-1",)
    assert [one.app for one in client.apps.list()] == ["d-3"]


def test_a_repeated_delete_answers_the_same(client: Client) -> None:
    client.sessions.create("s")
    first = client.apps.delete(mode=DeleteMode.FORCE, request_id="r-1")
    assert client.apps.delete(mode=DeleteMode.FORCE, request_id="r-1") == first


def test_who_acts_on_an_app_that_is_gone_is_told(client: Client) -> None:
    with pytest.raises(errors.AppNotFoundError):
        client.apps.delete()


def test_sessions_of_another_app_are_not_touched(client: Client) -> None:
    client.sessions.create("s", app="other")
    client.sessions.create("s")
    client.apps.delete(mode=DeleteMode.FORCE)
    assert (client.sessions.get("s", app="other")).status is Status.ACTIVE
