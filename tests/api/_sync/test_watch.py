# Generated from tests/api/_async/test_watch.py by `make gen`. Edit the source, never this file.
"""Watches, against streams that are cut, refused and silent as no healthy server's are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest

import sojourn
from sojourn import (
    AppChange,
    BearerToken,
    Bookmark,
    Change,
    ChangeCause,
    Client,
    DeletedWhy,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    LabelSelector,
    Membership,
    RetryOptions,
    SessionChange,
    SessionFilter,
    Status,
    TurnOutcome,
    Watch,
    WatchEvent,
    WatchPosition,
    errors,
)
from sojourn.v1 import change_pb2, message_pb2
from tests.api.scripted import Failure, reasoned
from tests.api.scripted_watch import (
    CUT,
    Hold,
    Message,
    WatchScript,
    all_closed,
    batch,
    bookmark,
    change,
    part,
    state,
    sync_until,
    token,
)

DRAINING = reasoned(grpc.StatusCode.UNAVAILABLE, "DRAINING")
SLOW = reasoned(grpc.StatusCode.RESOURCE_EXHAUSTED, "SLOW_CONSUMER")
LIMITED = reasoned(
    grpc.StatusCode.RESOURCE_EXHAUSTED, "STREAM_LIMIT", retry_after=timedelta(milliseconds=1)
)
COMPACTED = reasoned(
    grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED", metadata={"oldest_revision": "7"}
)
FEED_CHANGED = reasoned(grpc.StatusCode.FAILED_PRECONDITION, "FEED_CHANGED")
REVOKED = reasoned(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


@pytest.fixture
def watcher(feed: WatchScript) -> Iterator[Client]:
    """A client of the scripted streams."""
    with sojourn.connect_sync(feed.target, app="support", actor="me") as client:
        yield client


def take(watch: Watch, count: int) -> list[WatchEvent]:
    """Read so many events."""
    return [watch.__next__() for _ in range(count)]


def places(events: list[WatchEvent]) -> list[tuple[int, int]]:
    """Which changes there are among the events."""
    return [(one.revision, one.index) for one in events if isinstance(one, Change)]


# --- what is asked, and what comes ---------------------------------------------------------------


def test_a_watch_asks_for_what_it_is_told(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[bookmark(3)]]
    uid = "0198f3a2-7b1c-7000-8000-0123456789ab"
    with watcher.sessions.watch(
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
        take(watch, 1)
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


def test_by_default_it_asks_for_everything_from_now_on(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[bookmark(3), Hold()]]
    with watcher.sessions.watch() as watch:
        # Entered: where now is, is known, and from here on nothing is missed.
        assert len(feed.requests) == 1
        assert watch.token == token(3)
        assert take(watch, 1) == [Bookmark(3, token(3))]
    asked = feed.requests[0]
    assert not asked.HasField("user")
    assert not asked.HasField("bookmark_interval")
    assert list(asked.filter.statuses) == []
    assert asked.resume_after_token == ""


def test_a_stream_has_no_deadline(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[bookmark(3), Hold()]]
    with watcher.sessions.watch():
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
def test_what_cannot_be_asked_is_found_before_anything_is_sent(
    watcher: Client, feed: WatchScript, wrong: dict[str, object], field: str
) -> None:
    with pytest.raises(errors.InvalidFieldError) as raised:
        watcher.sessions.watch(**wrong)  # type: ignore[arg-type]
    assert raised.value.field_violations[0].field == field
    assert feed.requests == []


def test_a_change_of_a_session_says_all_there_is(watcher: Client, feed: WatchScript) -> None:
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
    with watcher.sessions.watch(after="t", previous=True, content=True) as watch:
        [event] = take(watch, 1)
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


def test_without_content_a_change_carries_none(watcher: Client, feed: WatchScript) -> None:
    gone = change(8, membership="LEFT")
    gone.cause = change_pb2.CHANGE_CAUSE_DELETED
    gone.session.deleted_why = change_pb2.DELETED_WHY_RETENTION
    gone.session.previous_unavailable = True
    feed.streams = [[batch(gone)]]
    with watcher.sessions.watch(after="t") as watch:
        [event] = take(watch, 1)
    assert isinstance(event, SessionChange)
    assert event.deleted_why is DeletedWhy.RETENTION
    assert event.previous_unavailable
    assert (event.previous, event.messages, event.turn_outcome) == (None, (), None)
    with pytest.raises(errors.NotLoadedError):
        _ = event.session.state


def test_changes_of_the_app_and_unknown_ones_come_too(watcher: Client, feed: WatchScript) -> None:
    shared = change_pb2.Change(revision=2, cause=change_pb2.CHANGE_CAUSE_STATE_CHANGED)
    shared.app.app, shared.app.user, shared.app.state_version = "support", "ann", 3
    shared.app.state_keys.append("k")
    later = change_pb2.Change(revision=3, cause=99)  # type: ignore[arg-type]
    feed.streams = [[batch(shared, later)]]
    with watcher.sessions.watch(after="t", app_changes=True) as watch:
        one, other = take(watch, 2)
    assert isinstance(one, AppChange)
    assert (one.app, one.user, one.state_keys, one.state_version) == ("support", "ann", ("k",), 3)
    assert type(other) is Change
    assert other.cause is ChangeCause.UNKNOWN


def test_the_initial_state_comes_between_its_marks(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[*state("a", "b", revision=4), batch(change(5))]]
    with watcher.sessions.watch(initial_state=True) as watch:
        begin, one, other, end, first = take(watch, 5)
    assert feed.requests[0].send_initial_state
    assert begin == InitialStateBegin()
    assert isinstance(one, InitialSession)
    assert isinstance(other, InitialSession)
    assert [one.session.uid, other.session.uid] == ["a", "b"]
    assert end == InitialStateEnd(4)
    assert places([first]) == [(5, 0)]


def test_only_changes_are_handed_out_where_only_they_are_wanted(
    watcher: Client, feed: WatchScript
) -> None:
    feed.streams = [[bookmark(3), *state("a", revision=4), batch(change(5), change(6))]]
    seen = []
    with watcher.sessions.watch(initial_state=True) as watch:
        for one in watch.changes():
            seen.append(one.revision)
            if len(seen) == 2:
                break
    assert seen == [5, 6]


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.guarantee("W15")
@pytest.mark.parametrize(
    "end",
    [
        CUT,
        DRAINING,
        SLOW,
        LIMITED,
        Failure(grpc.StatusCode.DEADLINE_EXCEEDED),
        Failure(grpc.StatusCode.INTERNAL, "Received RST_STREAM with error code 2"),
        Failure(grpc.StatusCode.CANCELLED),
        bookmark(5),
    ],
    ids=["cut", "draining", "slow", "limited", "deadline", "reset", "cancelled", "closed"],
)
def test_it_goes_on_where_it_stopped(
    watcher: Client, feed: WatchScript, end: Failure | Message
) -> None:
    feed.streams = [[batch(change(4)), end], [CUT], [batch(change(6))]]
    with watcher.sessions.watch(after=token(3)) as watch:
        seen = []
        for one in watch.changes():
            seen.append(one.revision)
            if len(seen) == 2:
                break
    assert seen == [4, 6]
    last = token(5 if isinstance(end, Message) else 4)
    assert [one.resume_after_token for one in feed.requests] == [token(3), last, last]


@pytest.mark.guarantee("W3")
def test_a_unit_that_was_cut_in_two_comes_once(watcher: Client, feed: WatchScript) -> None:
    unit = [change(4, uid, index=number) for number, uid in enumerate("abcd")]
    feed.streams = [
        [part(*unit[:2]), CUT],
        [part(*unit[:1]), CUT],
        [part(*unit[:3]), batch(*unit[3:], change(5))],
    ]
    with watcher.sessions.watch(after=token(3)) as watch:
        seen = take(watch, 5)
    assert places(seen) == [(4, 0), (4, 1), (4, 2), (4, 3), (5, 0)]
    assert [one.resume_after_token for one in feed.requests] == [token(3)] * 3


def test_another_watch_goes_on_after_the_very_change(watcher: Client, feed: WatchScript) -> None:
    unit = [change(4, index=number) for number in range(3)]
    feed.streams = [[batch(*unit)], [batch(*unit)], [batch(*unit)]]
    with watcher.sessions.watch(after=token(3)) as watch:
        take(watch, 2)
        position = watch.position
    assert position == WatchPosition(token(3), 4, 1)
    with watcher.sessions.watch(after=position) as watch:
        assert places(take(watch, 1)) == [(4, 2)]
        assert watch.position == WatchPosition(token(4), 4, 2)
    with watcher.sessions.watch(after=position.token) as watch:
        assert places(take(watch, 1)) == [(4, 0)]


@pytest.mark.guarantee("W6")
def test_an_initial_state_that_was_cut_begins_again(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[state("a", "b")[0], CUT], state("a", "b")]
    with watcher.sessions.watch(initial_state=True) as watch:
        seen = take(watch, 6)
    kinds = [type(one).__name__.removeprefix("Initial") for one in seen]
    assert kinds == ["StateBegin", "Session", "StateBegin", "Session", "Session", "StateEnd"]
    assert all(one.send_initial_state for one in feed.requests)


@pytest.mark.guarantee("W8")
def test_a_watch_that_is_too_old_says_so_and_is_over(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[batch(change(4)), CUT], [COMPACTED]]
    with watcher.sessions.watch(after=token(3)) as watch:
        take(watch, 1)
        with pytest.raises(errors.WatchCompactedError) as raised:
            take(watch, 1)
        assert raised.value.oldest_revision == 7
        assert raised.value.position == WatchPosition(token(4), 4, 0)
        assert raised.value.correlation_id == "c-1"
        assert [one for one in watch] == []


@pytest.mark.guarantee("W8")
@pytest.mark.parametrize("failure", [COMPACTED, FEED_CHANGED], ids=["compacted", "feed changed"])
def test_a_watch_that_may_reads_the_state_anew_and_says_so(
    watcher: Client, feed: WatchScript, failure: Failure
) -> None:
    told: list[errors.SojournError] = []
    feed.streams = [[failure], [*state("a", revision=9), batch(change(10))]]
    with watcher.sessions.watch(after=token(3), resync=told.append) as watch:
        begin, _, end, first = take(watch, 4)
    [why] = told
    assert isinstance(why, errors.OutOfRangeError | errors.FeedChangedError)
    assert begin == InitialStateBegin(why)
    assert end == InitialStateEnd(9)
    assert places([first]) == [(10, 0)]
    assert feed.requests[1].send_initial_state
    assert feed.requests[1].resume_after_token == ""


def test_a_callback_that_raises_ends_the_watch(watcher: Client, feed: WatchScript) -> None:
    def refuse(error: errors.SojournError) -> None:
        raise ValueError("not here") from error

    feed.streams = [[COMPACTED]]
    with watcher.sessions.watch(after=token(3), resync=refuse) as watch:
        with pytest.raises(ValueError, match="not here"):
            take(watch, 1)
        assert [one for one in watch] == []
    assert len(feed.requests) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (REVOKED, errors.CredentialInvalidError),
        (FEED_CHANGED, errors.FeedChangedError),
        (
            reasoned(grpc.StatusCode.INVALID_ARGUMENT, "RESUME_TOKEN_INVALID"),
            errors.ResumeTokenInvalidError,
        ),
        (reasoned(grpc.StatusCode.NOT_FOUND, "APP_NOT_FOUND"), errors.AppNotFoundError),
        (Failure(grpc.StatusCode.PERMISSION_DENIED), errors.PermissionDeniedError),
        (
            Failure(grpc.StatusCode.UNAVAILABLE, trailers=(("grpc-retry-pushback-ms", "-1"),)),
            errors.UnavailableError,
        ),
    ],
)
def test_what_it_cannot_get_over_ends_it(
    watcher: Client, feed: WatchScript, failure: Failure, kind: type[errors.SojournError]
) -> None:
    feed.streams = [[batch(change(4)), failure]]
    with watcher.sessions.watch(after=token(3)) as watch:
        take(watch, 1)
        with pytest.raises(kind) as raised:
            take(watch, 1)
        assert raised.value.method == "WatchSessions"
        assert [one for one in watch] == []
    assert len(feed.requests) == 1


def test_a_credential_that_ran_out_is_exchanged_once(feed: WatchScript) -> None:
    tokens = iter(["first", "second", "third", "fourth"])

    def renew() -> str:
        return next(tokens)

    feed.streams = [[batch(change(4)), REVOKED], [batch(change(5)), REVOKED]]
    feed.always = lambda _request: [REVOKED]
    credentials = BearerToken(renew)
    with (
        sojourn.connect_sync(feed.target, app="support", credentials=credentials) as client,
        client.sessions.watch(after=token(3)) as watch,
    ):
        assert places(take(watch, 2)) == [(4, 0), (5, 0)]
        with pytest.raises(errors.CredentialInvalidError):
            take(watch, 1)
    shown = [one["authorization"] for one in feed.metadata]
    assert shown[:2] == ["Bearer first", "Bearer second"]
    assert len(shown) <= 3


def test_an_answer_that_is_none_ends_it(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[b"\xff\xff\xff"]]
    with watcher.sessions.watch(after=token(3)) as watch:
        with pytest.raises(errors.InternalError, match="could not be read"):
            take(watch, 1)
    sync_until(feed, all_closed)
    assert len(feed.requests) == 1


def test_where_nobody_answers_it_gives_up_as_any_call_does() -> None:
    few = RetryOptions(max_attempts=2)
    with sojourn.connect_sync("127.0.0.1:1", app="a", retry=few) as client:
        with pytest.raises(errors.UnavailableError):
            with client.sessions.watch():
                pass
        watch = client.sessions.watch(after=token(1))
        with pytest.raises(errors.UnavailableError):
            take(watch, 1)
        assert [one for one in watch] == []


# --- ending --------------------------------------------------------------------------------------


def test_leaving_the_block_ends_the_call_at_once(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[batch(change(4), change(5)), Hold()]]
    with watcher.sessions.watch(after=token(3)) as watch:
        assert places(take(watch, 1)) == [(4, 0)]
    sync_until(feed, all_closed)
    # What had come and was not handed out is not handed out any more; the token knows.
    assert [one for one in watch] == []
    assert watch.token == token(3)
    watch.close()


def test_two_watches_on_one_client_do_not_know_of_each_other(
    watcher: Client, feed: WatchScript
) -> None:
    feed.streams = [[batch(change(4)), Hold()], [batch(change(7)), CUT], [batch(change(8))]]
    with watcher.sessions.watch(after=token(3)) as one:
        assert places(take(one, 1)) == [(4, 0)]
        with watcher.sessions.watch(after=token(6)) as other:
            assert places(take(other, 2)) == [(7, 0), (8, 0)]
        sync_until(feed, lambda one: one.open == 1)
    sync_until(feed, all_closed)


def test_a_client_that_is_closed_ends_its_watches(watcher: Client, feed: WatchScript) -> None:
    feed.streams = [[batch(change(4)), Hold()]]
    watch = watcher.sessions.watch(after=token(3))
    take(watch, 1)
    watcher.close()
    with pytest.raises(errors.ClientClosedError):
        take(watch, 1)
    assert [one for one in watch] == []
    with pytest.raises(errors.ClientClosedError):
        with watcher.sessions.watch():
            pass
    sync_until(feed, all_closed)
