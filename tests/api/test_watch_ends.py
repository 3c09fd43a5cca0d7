"""What ends a watch from outside: a cancelled task, another thread; and that nothing is left."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

import sojourn
from sojourn import WatchEvent
from tests.api.scripted_watch import (
    CUT,
    Hold,
    Request,
    Step,
    WatchScript,
    all_closed,
    async_until,
    batch,
    bookmark,
    change,
    state,
    sync_until,
    token,
    watched_server,
)


@pytest.fixture
def feed() -> Iterator[WatchScript]:
    with watched_server() as feed:
        yield feed


async def until_alone() -> None:
    """Wait until no other task is left; grpc's own need a turn or two of the loop to end."""
    async with asyncio.timeout(30):
        while asyncio.all_tasks() != {asyncio.current_task()}:  # noqa: ASYNC110 - not ours
            await asyncio.sleep(0.001)


async def test_a_reader_that_gave_up_waiting_misses_nothing(feed: WatchScript) -> None:
    hold = Hold()
    feed.streams = [[batch(change(4)), hold, batch(change(5)), Hold()]]
    async with (
        sojourn.connect(feed.target, app="a") as client,
        client.sessions.watch(after=token(3)) as watch,
    ):
        await watch.__anext__()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(watch.__anext__(), 0.01)
        hold.event.set()
        event = await watch.__anext__()
        assert getattr(event, "revision", 0) == 5
        # On the same stream: a timeout costs no call.
        assert len(feed.requests) == 1


async def test_a_watch_leaves_no_task_however_it_ends(feed: WatchScript) -> None:
    def answer(request: Request) -> Sequence[Step]:
        return [batch(change(4)), Hold()] if request.resume_after_token else [Hold()]

    feed.always = answer
    async with sojourn.connect(feed.target, app="a") as client:
        await _one_of_each(client)
        for _ in range(20):
            await _one_of_each(client)
        await async_until(feed, all_closed)
        await until_alone()


async def _one_of_each(client: sojourn.AsyncClient) -> None:
    # Closed while it is read.
    async with client.sessions.watch(after=token(3)) as watch:
        await watch.__anext__()
        reader = asyncio.create_task(_rest(watch))
        await asyncio.sleep(0)
    assert await reader == []
    # Cancelled while it is read.
    async with client.sessions.watch(after=token(3)) as watch:
        reader = asyncio.create_task(_rest(watch))
        await asyncio.sleep(0.001)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
    # Cancelled while it opens.
    opening = asyncio.create_task(_open(client))
    await asyncio.sleep(0.001)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening


async def _rest(watch: sojourn.AsyncWatch) -> list[WatchEvent]:
    return [one async for one in watch]


async def _open(client: sojourn.AsyncClient) -> None:
    async with client.sessions.watch():
        pass


async def test_a_pause_between_streams_ends_with_the_watch() -> None:
    patient = sojourn.RetryOptions(max_attempts=1000)
    async with sojourn.connect("127.0.0.1:1", app="a", retry=patient, deadline=60) as client:
        watch = client.sessions.watch(after=token(1))
        reader = asyncio.create_task(_rest(watch))
        await asyncio.sleep(0.05)
        await watch.close()
        assert await reader == []


async def test_a_cache_leaves_no_task(feed: WatchScript) -> None:
    async with sojourn.connect(feed.target, app="a") as client:
        for _ in range(5):
            feed.streams.append([*state("a"), Hold()])
            async with client.sessions.cache() as cache:
                updates = cache.updates()
                reader = asyncio.ensure_future(updates.__anext__())
                await asyncio.sleep(0)
            with pytest.raises(StopAsyncIteration):
                await reader
        await until_alone()


# --- threads -------------------------------------------------------------------------------------


def test_a_watch_is_read_in_one_thread_and_closed_from_another(feed: WatchScript) -> None:
    feed.streams = [[batch(change(4)), Hold()]]
    with sojourn.connect_sync(feed.target, app="a") as client:
        watch = client.sessions.watch(after=token(3))
        seen: list[WatchEvent] = []
        reader = threading.Thread(target=lambda: seen.extend(watch))
        reader.start()
        sync_until(feed, lambda one: one.open == 1)
        watch.close()
        reader.join(30)
        assert not reader.is_alive()
        sync_until(feed, all_closed)
        assert list(watch) == []


def test_a_pause_between_streams_ends_with_the_watch_also_in_threads(feed: WatchScript) -> None:
    feed.streams = [[batch(change(4)), CUT], *([CUT] for _ in range(1000))]
    with sojourn.connect_sync(feed.target, app="a") as client:
        watch = client.sessions.watch(after=token(3))
        reader = threading.Thread(target=lambda: list(watch))
        reader.start()
        sync_until(feed, lambda one: len(one.requests) > 2)
        watch.close()
        reader.join(30)
        assert not reader.is_alive()


def test_watches_and_caches_leave_no_thread(feed: WatchScript) -> None:
    def use(client: sojourn.Client) -> None:
        feed.streams.append([bookmark(3), Hold()])
        with client.sessions.watch() as watch:
            next(watch)
        feed.streams.append([*state("a"), Hold()])
        with client.sessions.cache() as cache:
            assert len(cache) == 1
            updates = cache.updates()
            reader = threading.Thread(target=lambda: list(updates))
            reader.start()
        reader.join(30)
        assert not reader.is_alive()

    def of_the_client() -> set[str]:
        return {
            one.name for one in threading.enumerate() if not one.name.startswith("ThreadPoolExec")
        }

    before = of_the_client()
    with sojourn.connect_sync(feed.target, app="a") as client:
        for _ in range(5):
            use(client)
        sync_until(feed, all_closed)
    end = time.monotonic() + 30
    while of_the_client() > before:
        assert time.monotonic() < end, of_the_client() - before
        time.sleep(0.01)


def test_many_threads_read_a_cache_that_changes(feed: WatchScript) -> None:
    hold = Hold()
    changes = [
        batch(
            *(change(2 + number, uid, index=index) for index, uid in enumerate("abc")),
        )
        for number in range(100)
    ]
    feed.streams = [[*state("a", "b", "c"), hold, *changes, Hold()]]
    wrong: list[object] = []
    with (
        sojourn.connect_sync(feed.target, app="support") as client,
        client.sessions.cache() as cache,
    ):
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                versions = {one.state_version for one in cache.list()}
                named = cache.get("s-a", user="ann")
                # A unit changes all three at once.
                if len(versions) != 1 or named is None or named.state_version < min(versions):
                    wrong.append((versions, named))

        readers = [threading.Thread(target=read) for _ in range(4)]
        for one in readers:
            one.start()
        hold.event.set()
        cache.wait_until(101, timeout=30)
        over.set()
        for one in readers:
            one.join(30)
        assert wrong == []
        assert {one.state_version for one in cache.list()} == {101}
