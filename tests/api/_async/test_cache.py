"""Caches, against streams that are cut and begin anew."""

from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

import sojourn
from sojourn import (
    AsyncClient,
    AsyncSessionCache,
    CacheUpdate,
    LabelSelector,
    SessionRef,
    Status,
    errors,
)
from tests.api.scripted import Failure, reasoned
from tests.api.scripted_watch import (
    CUT,
    Hold,
    Message,
    WatchScript,
    all_closed,
    async_until,
    batch,
    bookmark,
    change,
    part,
    session,
    state,
    token,
)

COMPACTED = reasoned(grpc.StatusCode.OUT_OF_RANGE, "REVISION_COMPACTED")
FEED_CHANGED = reasoned(grpc.StatusCode.FAILED_PRECONDITION, "FEED_CHANGED")
REVOKED = reasoned(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")


@pytest.fixture
async def reader(feed: WatchScript) -> AsyncIterator[AsyncClient]:
    """A client of the scripted streams."""
    async with sojourn.connect(feed.target, app="support", deadline=30) as client:
        yield client


def held(cache: AsyncSessionCache) -> dict[str, int]:
    """What the cache holds, by uid."""
    return {one.uid: one.state_version for one in cache.list()}


async def test_it_asks_for_the_active_sessions_and_their_state(
    reader: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[*state("a"), Hold()]]
    async with reader.sessions.cache(labels={"tier": "gold"}, user="ann"):
        pass
    asked = feed.requests[0]
    assert asked.send_initial_state
    assert list(asked.filter.statuses) == [1]
    assert (asked.user, asked.filter.labels[0].key) == ("ann", "tier")
    assert asked.bookmark_interval.seconds == 1


async def test_it_is_complete_when_it_is_entered(reader: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [[*state("a", "b", revision=4), Hold()]]
    cache = reader.sessions.cache()
    with pytest.raises(errors.NotLoadedError):
        cache.list()
    async with cache:
        assert held(cache) == {"a": 4, "b": 4}
        assert (len(cache), cache.revision) == (2, 4)
        assert cache.heard < timedelta(minutes=1)
        assert len(feed.requests) == 1


async def test_a_session_is_found_by_name_and_by_uid(
    reader: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[*state("a"), Hold()]]
    async with reader.sessions.cache() as cache:
        found = cache.get("s-a", user="ann")
        assert found is not None
        assert found.uid == "a"
        assert cache.get(uid="a") == found
        assert cache.get(found) == found
        assert cache.get(found.key) == found
        assert cache.get("s-a") is None
        assert cache.get(uid="b") is None
        assert cache.get(SessionRef("support", "ann", "s-a", uid="other")) is None
        with pytest.raises(errors.InvalidFieldError):
            cache.get()


async def test_it_lists_by_what_sessions_say(reader: AsyncClient, feed: WatchScript) -> None:
    gold, other = session("a", tier="gold", team="x"), session("b", tier="iron")
    child = session("c")
    child.parent_uid, child.status = "a", 2  # type: ignore[assignment]
    child.key.user = "bob"
    end = state(revision=4)[0]
    feed.streams = [[Message(initial_sessions=[gold, other, child]), end, Hold()]]
    async with reader.sessions.cache(status=None) as cache:

        def uids(**asked: object) -> list[str]:
            return [one.uid for one in cache.list(**asked)]  # type: ignore[arg-type]

        assert uids() == ["a", "b", "c"]
        assert uids(labels={"tier": "gold"}) == ["a"]
        assert uids(labels={"tier": ["gold", "iron"]}) == ["a", "b"]
        assert uids(labels=[LabelSelector.absent("tier")]) == ["c"]
        assert uids(user="bob") == ["c"]
        assert uids(status=Status.ACTIVE) == ["a", "b"]
        assert uids(status="any", parent="a") == ["c"]
        assert uids(where=lambda one: one.labels.get("team") == "x") == ["a"]


@pytest.mark.guarantee("W11")
async def test_it_follows_every_change(reader: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [
        [
            *state("a"),
            batch(change(2, "b", membership="ENTERED"), change(3, "a")),
            CUT,
        ],
        [batch(change(4, "a", membership="LEFT")), Hold()],
    ]
    async with reader.sessions.cache() as cache:
        await cache.wait_until(3)
        assert held(cache) in ({"a": 3, "b": 2}, {"b": 2})
        await cache.wait_until(4)
        assert held(cache) == {"b": 2}
        assert [one.resume_after_token for one in feed.requests] == ["", token(3)]


@pytest.mark.guarantee("W5")
async def test_a_writer_waits_for_its_own_write_also_where_nothing_matched(
    reader: AsyncClient, feed: WatchScript
) -> None:
    feed.streams = [[*state("a"), bookmark(9), Hold()]]
    async with reader.sessions.cache() as cache:
        await cache.wait_until(9)
        assert cache.revision == 9
        with pytest.raises(errors.DeadlineExceededError, match="is at revision 9, not yet at 10"):
            await cache.wait_until(10, timeout=0.01)


@pytest.mark.guarantee("W3")
async def test_half_a_unit_is_not_shown(reader: AsyncClient, feed: WatchScript) -> None:
    hold = Hold()
    feed.streams = [
        [*state("a", "b"), part(change(2, "a")), CUT],
        [part(change(2, "a")), hold, batch(change(2, "b", index=1)), Hold()],
    ]
    async with reader.sessions.cache() as cache:
        await async_until(feed, lambda one: len(one.requests) == 2)
        assert held(cache) == {"a": 1, "b": 1}
        hold.event.set()
        await cache.wait_until(2)
        assert held(cache) == {"a": 2, "b": 2}


@pytest.mark.guarantee("W8")
@pytest.mark.parametrize("failure", [COMPACTED, FEED_CHANGED], ids=["compacted", "feed changed"])
async def test_it_reads_the_state_anew_and_shows_the_old_one_until_then(
    reader: AsyncClient, feed: WatchScript, failure: Failure
) -> None:
    hold, later = Hold(), Hold()
    first, *rest = state("b", "c", revision=40)
    feed.streams = [
        [*state("a", "b", revision=100), hold, CUT],
        [failure],
        [first, later, *rest, Hold()],
    ]
    async with reader.sessions.cache() as cache:
        updates = cache.updates()
        hold.event.set()
        await async_until(feed, lambda one: len(one.requests) == 3)
        assert held(cache) == {"a": 100, "b": 100}
        later.event.set()
        seen = [await updates.__anext__() for _ in range(3)]
        assert {one.uid: one.session is not None for one in seen} == {
            "a": False,
            "b": True,
            "c": True,
        }
        assert held(cache) == {"b": 40, "c": 40}
        # A restored log counts from where it is.
        assert cache.revision == 40


async def test_updates_tell_what_became_of_each_session(
    reader: AsyncClient, feed: WatchScript
) -> None:
    hold = Hold()
    feed.streams = [
        [
            *state("a", "b"),
            hold,
            batch(change(2, "a"), change(3, "a"), change(4, "b", membership="LEFT")),
            Hold(),
        ]
    ]
    async with reader.sessions.cache() as cache:
        updates = cache.updates()
        hold.event.set()
        await cache.wait_until(4)
        seen = {}
        for _ in range(2):
            one = await updates.__anext__()
            seen[one.uid] = one
        # Of the two changes of a, the last.
        assert seen["a"] == CacheUpdate("a", cache.get(uid="a"))
        assert held(cache) == {"a": 3}
        assert seen["b"] == CacheUpdate("b", None)


async def test_updates_end_with_the_cache(reader: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [[*state("a"), batch(change(2)), Hold()]]
    async with reader.sessions.cache() as cache:
        updates = cache.updates()
        await cache.wait_until(2)
    assert len([one async for one in updates]) <= 1
    with pytest.raises(errors.ClientClosedError):
        cache.list()
    with pytest.raises(errors.ClientClosedError):
        await cache.wait_until(2)
    await async_until(feed, all_closed)


async def test_what_it_cannot_get_over_is_raised_by_every_read(
    reader: AsyncClient, feed: WatchScript
) -> None:
    hold = Hold()
    feed.streams = [[*state("a"), hold, REVOKED]]
    async with reader.sessions.cache() as cache:
        updates = cache.updates()
        hold.event.set()
        with pytest.raises(errors.CredentialInvalidError):
            await updates.__anext__()
        with pytest.raises(errors.CredentialInvalidError):
            cache.get("s-a", user="ann")
        with pytest.raises(errors.CredentialInvalidError):
            await cache.wait_until(5)


async def test_a_cache_that_cannot_begin_says_why(reader: AsyncClient, feed: WatchScript) -> None:
    feed.streams = [[REVOKED]]
    with pytest.raises(errors.CredentialInvalidError):
        async with reader.sessions.cache():
            pass


async def test_it_does_not_grow_beyond_its_limit(reader: AsyncClient, feed: WatchScript) -> None:
    hold = Hold()
    feed.streams = [[*state("a", "b"), hold, batch(change(2, "c", membership="ENTERED")), Hold()]]
    async with reader.sessions.cache(max_sessions=2) as cache:
        assert len(cache) == 2
        hold.event.set()
        with pytest.raises(errors.CacheLimitError, match="more than 2"):
            await cache.wait_until(2)
        with pytest.raises(errors.CacheLimitError):
            cache.list()
    await async_until(feed, all_closed)
