# Generated from tests/api/_async/test_watch.py by `make gen`. Edit the source, never this file.
"""Watches, against streams that are cut, refused and silent as no healthy server's are."""

from datetime import timedelta

import grpc
import pytest

import sojourn
from sojourn import (
    BearerToken,
    Client,
    InitialStateBegin,
    InitialStateEnd,
    RetryOptions,
    WatchPosition,
    errors,
)
from tests.api._sync.watching import places, take
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
