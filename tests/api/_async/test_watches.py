"""Watches and caches of a real server."""

from dataclasses import replace

import pytest

from sojourn import (
    AppChange,
    AsyncClient,
    AsyncWatch,
    Bookmark,
    Change,
    ChangeCause,
    InitialSession,
    InitialStateBegin,
    InitialStateEnd,
    Membership,
    NewMessage,
    SessionChange,
    SessionFilter,
    Status,
    TurnOutcome,
    errors,
)


async def next_change(watch: AsyncWatch) -> SessionChange:
    """Read on to the next change of a session."""
    while True:
        event = await watch.__anext__()
        if isinstance(event, SessionChange):
            return event


async def test_every_change_of_a_session_s_life_comes_with_its_cause(client: AsyncClient) -> None:
    async with client.sessions.watch() as watch:
        created = await client.sessions.create("s", user="ann", labels={"tier": "gold"})
        await client.messages.append("s", NewMessage("user", "hi"), user="ann")
        await client.sessions.update("s", user="ann", state={"n": 1})
        turn = await client.turns.begin("s", user="ann")
        await client.turns.end(turn.turn_token)
        await client.sessions.end("s", user="ann")
        deleted = await client.sessions.delete("s", user="ann")
        seen = [await next_change(watch) for _ in range(7)]
    assert [one.cause.value for one in seen] == [
        "CREATED",
        "MESSAGES_APPENDED",
        "STATE_CHANGED",
        "TURN_BEGAN",
        "TURN_ENDED",
        "ENDED",
        "DELETED",
    ]
    assert [one.revision for one in seen] == list(range(created.revision, deleted.revision + 1))
    assert {one.uid for one in seen} == {created.uid}
    memberships = [one.membership for one in seen]
    assert memberships == [Membership.ENTERED, *[Membership.CHANGED] * 5, Membership.LEFT]
    assert (seen[1].first_sequence, seen[1].last_sequence) == (1, 1)
    assert seen[2].state_keys == ("n",)
    assert seen[4].turn_outcome is TurnOutcome.OK
    assert seen[5].session.status is Status.COMPLETED


@pytest.mark.guarantee("W7")
async def test_a_watch_after_a_list_misses_nothing(client: AsyncClient) -> None:
    await client.sessions.create("before")
    page = await client.sessions.list(status=None).page(1)
    await client.sessions.create("after")
    async with client.sessions.watch(after=page.resume_token) as watch:
        assert (await next_change(watch)).session.session_id == "after"
    # A list asks for active sessions unless told; a watch of those goes on there, too.
    page = await client.sessions.list().page(1)
    await client.sessions.create("later")
    async with client.sessions.watch(after=page.resume_token, status=Status.ACTIVE) as watch:
        assert (await next_change(watch)).session.session_id == "later"


@pytest.mark.guarantee("W9")
async def test_a_token_serves_the_selection_that_it_was_made_for(client: AsyncClient) -> None:
    await client.sessions.create("s")
    page = await client.sessions.list(status=None).page(1)
    for wrong in ({"user": "ann"}, {"status": Status.ACTIVE}, {"labels": {"tier": "gold"}}):
        watch = client.sessions.watch(after=page.resume_token, **wrong)
        with pytest.raises(errors.ResumeTokenInvalidError):
            await watch.__anext__()


@pytest.mark.guarantee("W11")
async def test_a_session_enters_and_leaves_what_a_watch_selects(client: AsyncClient) -> None:
    await client.sessions.create("s", labels={"tier": "iron"})
    async with client.sessions.watch(labels={"tier": "gold"}, previous=True) as watch:
        await client.sessions.update("s", labels={"tier": "gold"})
        await client.sessions.update("s", labels={"team": "x"})
        await client.sessions.update("s", labels={"tier": "iron"})
        entered, changed, left = [await next_change(watch) for _ in range(3)]
    assert entered.membership is Membership.ENTERED
    assert entered.previous is not None
    assert entered.previous.labels == {"tier": "iron"}
    assert entered.label_keys == ("tier",)
    assert changed.membership is Membership.CHANGED
    assert left.membership is Membership.LEFT
    assert left.session.labels == {"tier": "gold", "team": "x"}


async def test_content_comes_where_it_is_asked_for(client: AsyncClient) -> None:
    await client.sessions.create("s", state={"n": 1}, metadata={"m": [1]})
    async with client.sessions.watch(content=True, initial_state=True) as watch:
        begin, first, end = [await watch.__anext__() for _ in range(3)]
        assert isinstance(begin, InitialStateBegin)
        assert isinstance(end, InitialStateEnd)
        assert isinstance(first, InitialSession)
        assert first.session.state == {"n": 1}
        appended = await client.messages.append("s", NewMessage("user", "hi"))
        change = await next_change(watch)
    assert change.session.metadata == {"m": [1]}
    assert [one.content for one in change.messages] == ["hi"]
    assert change.content_revision >= appended.revision


async def test_changes_of_shared_state_come_where_they_are_asked_for(client: AsyncClient) -> None:
    await client.sessions.create("s", user="ann")
    async with client.sessions.watch(app_changes=True) as watch:
        await client.users.update_state("ann", {"k": 1})
        event = await watch.__anext__()
        while not isinstance(event, Change):
            event = await watch.__anext__()
    assert isinstance(event, AppChange)
    assert (event.cause, event.user) == (ChangeCause.STATE_CHANGED, "ann")
    assert event.state_keys == ("k",)


@pytest.mark.guarantee("W5")
async def test_a_bookmark_tells_of_writes_that_do_not_match(client: AsyncClient) -> None:
    await client.sessions.create("s", user="ann")
    async with client.sessions.watch(user="bob", bookmark_interval=0.1) as watch:
        other = await client.sessions.create("other", user="ann")
        event = await watch.__anext__()
        while not isinstance(event, Bookmark) or event.revision < other.revision:
            event = await watch.__anext__()
        assert watch.token == event.token


async def test_what_time_alone_changes_cannot_be_watched(client: AsyncClient) -> None:
    await client.sessions.create("s")
    with pytest.raises(errors.FilterNotWatchableError):
        async with client.sessions.watch(filter=SessionFilter(idle_longer_than=60)):
            pass


async def test_a_cache_is_what_a_list_says(client: AsyncClient) -> None:
    for number in range(5):
        await client.sessions.create(f"s-{number}", user="ann", labels={"n": str(number)})
    async with client.sessions.cache(bookmark_interval=0.1) as cache:
        listed = await client.sessions.list().to_list()
        assert [replace(one, time_left=None) for one in cache.list()] == [
            replace(one, time_left=None) for one in listed
        ]
        ended = await client.sessions.end("s-1", user="ann")
        await cache.wait_until(ended.revision)
        assert cache.get("s-1", user="ann") is None
        moved = await client.sessions.update("s-2", user="ann", labels={"n": "9"})
        await cache.wait_until(moved.revision)
        assert [one.session_id for one in cache.list(labels={"n": "9"})] == ["s-2"]
        found = cache.get("s-2", user="ann")
        assert found is not None
        assert found.etag == moved.session.etag
        # Also a write that touches nothing of what the cache holds is waited for.
        turn = await client.users.update_state("ann", {"k": 1})
        await cache.wait_until(turn.revision)
        ids = [one.session_id for one in cache.list()]
        assert ids == [one.session_id async for one in client.sessions.list()]
