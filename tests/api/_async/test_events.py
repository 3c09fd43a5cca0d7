"""What a watch asks for, and what it hands out."""

from datetime import UTC, datetime

import pytest

from sojourn import (
    AppChange,
    AsyncClient,
    Bookmark,
    Change,
    ChangeCause,
    DeletedWhy,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    LabelSelector,
    Membership,
    SessionChange,
    SessionFilter,
    Status,
    TurnOutcome,
    WatchPosition,
    errors,
)
from sojourn.v1 import change_pb2, message_pb2
from tests.api._async.watching import places, take
from tests.api.scripted_watch import (
    Hold,
    WatchScript,
    batch,
    bookmark,
    change,
    state,
    token,
)


async def test_a_watch_asks_for_what_it_is_told(watcher: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [[bookmark(3)]]
    uid = "0198f3a2-7b1c-7000-8000-0123456789ab"
    async with watcher.sessions.watch(
        after="t-1",
        user=" ann ",
        parent=uid,
        status=[Status.ACTIVE, Status.FAILED],
        labels={"tier": "gold"},
        filter=SessionFilter(labels=[LabelSelector.exists("team")], has_turn=True),
        previous=True,
        content=True,
        app_changes=True,
        bookmark_interval=0.25,
    ) as watch:
        await take(watch, 1)
    asked = feed.requests[0]
    assert (asked.app, asked.user, asked.parent_uid) == ("support", "ann", uid)
    assert asked.resume_after_token == "t-1"
    assert not asked.send_initial_state
    assert asked.include_previous
    assert asked.include_content
    assert asked.include_app_changes
    assert asked.bookmark_interval.nanos == 250_000_000
    assert list(asked.filter.statuses) == [1, 3]
    assert [one.key for one in asked.filter.labels] == ["team", "tier"]
    assert asked.filter.has_turn
    assert feed.metadata[0]["x-sojourn-actor-bin"] == b"me"


async def test_by_default_it_asks_for_everything_from_now_on(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[bookmark(3), Hold()]]
    async with watcher.sessions.watch() as watch:
        # Entered: where now is, is known, and from here on nothing is missed.
        assert len(feed.requests) == 1
        assert watch.token == token(3)
        assert await take(watch, 1) == [Bookmark(3, token(3))]
    asked = feed.requests[0]
    assert not asked.HasField("user")
    assert not asked.HasField("bookmark_interval")
    assert list(asked.filter.statuses) == []
    assert asked.resume_after_token == ""


async def test_a_stream_has_no_deadline(watcher: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [[bookmark(3), Hold()]]
    async with watcher.sessions.watch():
        pass
    # What grpc's server calls for ever.
    assert feed.deadlines[0] > 10**9


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"bookmark_interval": 0.05}, "bookmark_interval"),
        ({"bookmark_interval": 61}, "bookmark_interval"),
        ({"after": "t", "initial_state": True}, "after"),
        ({"after": "t" * 1025}, "after"),
        ({"after": WatchPosition("", 5, 0)}, "after"),
        ({"app": ""}, "app"),
        ({"labels": {"tier": ""}}, "labels['tier']"),
        ({"status": "GONE"}, "status"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_what_cannot_be_asked_is_found_before_anything_is_sent(
    watcher: AsyncClient, feed: WatchScript, wrong: dict[str, object], field: str
) -> None:
    with pytest.raises(errors.InvalidFieldError) as raised:
        watcher.sessions.watch(**wrong)  # type: ignore[arg-type]
    assert raised.value.field_violations[0].field == field
    assert feed.requests == []


async def test_a_change_of_a_session_says_all_there_is(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    made = change(8, "a", index=2, membership="ENTERED", tier="gold")
    made.cause = change_pb2.CHANGE_CAUSE_TURN_ENDED
    made.time.FromDatetime(datetime(2030, 5, 17, 9, 30, tzinfo=UTC))
    inner = made.session
    inner.previous.CopyFrom(change(8, "a", tier="silver").session.session)
    inner.label_keys.append("tier")
    inner.metadata_keys.append("m")
    inner.state_keys.extend(["x", "y"])
    inner.first_sequence, inner.last_sequence = 4, 5
    inner.turn_outcome = change_pb2.TURN_OUTCOME_STOLEN
    inner.messages.append(message_pb2.Message(message_id="m-1", sequence=5, content="hi"))
    inner.session.state.session.values["x"] = "1"
    inner.content_revision = 9
    feed.streams = [[batch(made)]]
    async with watcher.sessions.watch(after="t", previous=True, content=True) as watch:
        [event] = await take(watch, 1)
    assert isinstance(event, SessionChange)
    assert (event.revision, event.index, event.actor) == (8, 2, "pod-1")
    assert event.cause is ChangeCause.TURN_ENDED
    assert event.membership is Membership.ENTERED
    assert event.time == datetime(2030, 5, 17, 9, 30, tzinfo=UTC)
    assert event.uid == "a"
    assert event.session.session_id == "s-a"
    assert (event.session.revision, event.session.labels) == (8, {"tier": "gold"})
    assert event.session.state == {"x": 1}
    assert event.previous is not None
    assert event.previous.labels == {"tier": "silver"}
    assert not event.previous_unavailable
    assert (event.label_keys, event.metadata_keys, event.state_keys) == (
        ("tier",),
        ("m",),
        ("x", "y"),
    )
    assert (event.first_sequence, event.last_sequence) == (4, 5)
    assert event.turn_outcome is TurnOutcome.STOLEN
    assert event.deleted_why is None
    assert [one.content for one in event.messages] == ["hi"]
    assert event.content_revision == 9


async def test_without_content_a_change_carries_none(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    gone = change(8, membership="LEFT")
    gone.cause = change_pb2.CHANGE_CAUSE_DELETED
    gone.session.deleted_why = change_pb2.DELETED_WHY_RETENTION
    gone.session.previous_unavailable = True
    feed.streams = [[batch(gone)]]
    async with watcher.sessions.watch(after="t") as watch:
        [event] = await take(watch, 1)
    assert isinstance(event, SessionChange)
    assert event.deleted_why is DeletedWhy.RETENTION
    assert event.previous_unavailable
    assert (event.previous, event.messages, event.turn_outcome) == (None, (), None)
    with pytest.raises(errors.NotLoadedError):
        _ = event.session.state


async def test_changes_of_the_app_and_unknown_ones_come_too(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    shared = change_pb2.Change(revision=2, cause=change_pb2.CHANGE_CAUSE_STATE_CHANGED)
    shared.app.app, shared.app.user, shared.app.state_version = "support", "ann", 3
    shared.app.state_keys.append("k")
    later = change_pb2.Change(revision=3, cause=99)  # type: ignore[arg-type]
    feed.streams = [[batch(shared, later)]]
    async with watcher.sessions.watch(after="t", app_changes=True) as watch:
        one, other = await take(watch, 2)
    assert isinstance(one, AppChange)
    assert (one.app, one.user, one.state_keys, one.state_version) == ("support", "ann", ("k",), 3)
    assert type(other) is Change
    assert other.cause is ChangeCause.UNKNOWN


async def test_the_initial_state_comes_between_its_marks(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[*state("a", "b", revision=4), batch(change(5))]]
    async with watcher.sessions.watch(initial_state=True) as watch:
        begin, one, other, end, first = await take(watch, 5)
    assert feed.requests[0].send_initial_state
    assert begin == InitialStateBegin()
    assert isinstance(one, InitialSession)
    assert isinstance(other, InitialSession)
    assert [one.session.uid, other.session.uid] == ["a", "b"]
    assert end == InitialStateEnd(4)
    assert places([first]) == [(5, 0)]


async def test_only_changes_are_handed_out_where_only_they_are_wanted(
    watcher: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[bookmark(3), *state("a", revision=4), batch(change(5), change(6))]]
    seen = []
    async with watcher.sessions.watch(initial_state=True) as watch:
        async for one in watch.changes():
            seen.append(one.revision)
            if len(seen) == 2:
                break
    assert seen == [5, 6]
