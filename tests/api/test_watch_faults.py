"""Watches and caches of real servers that are cut off, drained and restarted under a load."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

import sojourn
from sojourn import AsyncClient, Bookmark, NewMessage, SessionChange, errors, testing
from sojourn_server.command import command
from tests.api.cutting import cutter
from tests.api.stores import settings_of

WRITERS = 4
WRITES = 60


async def write(client: AsyncClient, name: str, writes: int) -> int:
    """Make a session and write to it; return the last revision."""
    revision = (await client.sessions.create(name)).revision
    for number in range(writes):
        done = await client.messages.append(name, NewMessage("user", str(number)))
        revision = done.revision
    return revision


async def write_all(client: AsyncClient, writes: int = WRITES) -> int:
    names = [f"s-{number}" for number in range(WRITERS)]
    return max(await asyncio.gather(*(write(client, name, writes) for name in names)))


async def follow(
    client: AsyncClient, seen: list[tuple[int, int]], until: asyncio.Future[int]
) -> None:
    """Note every change that comes, up to a revision that is known later."""
    async with client.sessions.watch(bookmark_interval=0.1) as watch:
        async for event in watch:
            if isinstance(event, SessionChange):
                seen.append((event.revision, event.index))
            last = event.revision if isinstance(event, SessionChange | Bookmark) else 0
            if until.done() and last >= until.result():
                return


@asynccontextmanager
async def followed(client: AsyncClient) -> AsyncIterator[list[tuple[int, int]]]:
    """Watch while a block runs, and until all that it wrote has come."""
    seen: list[tuple[int, int]] = []
    until: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    watcher = asyncio.create_task(follow(client, seen, until))
    yield seen
    page = await client.sessions.list(status=None).page(1)
    until.set_result(page.revision)
    async with asyncio.timeout(60):
        await watcher


@pytest.mark.guarantee("W2")
async def test_nothing_is_lost_or_repeated_though_connections_are_cut_all_the_time() -> None:
    async with (
        testing.serve(sqlite_synchronous="OFF") as server,
        server.client(app="a") as writer,
        cutter(server.target) as between,
        sojourn.connect(between.target, app="a") as client,
        client.sessions.cache(bookmark_interval=0.1) as cache,
    ):
        await writer.sessions.create("first")
        chance = random.Random(7)  # the same cuts each time, as far as time allows
        async with followed(client) as seen:
            await asyncio.sleep(0.05)
            writing = asyncio.create_task(write_all(writer))
            while not writing.done():
                await asyncio.sleep(chance.uniform(0.01, 0.08))
                between.cut()
            last = await writing
        assert between.cuts > 3
        assert len(seen) >= WRITERS * WRITES
        assert seen == sorted(set(seen))
        assert [revision for revision, _ in seen] == list(range(seen[0][0], last + 1))
        await cache.wait_until(last)
        listed = await writer.sessions.list().to_list()
        assert [replace(one, time_left=None, revision=0) for one in cache.list()] == [
            replace(one, time_left=None, revision=0) for one in listed
        ]


@pytest.mark.guarantee("W15")
async def test_nothing_is_lost_or_repeated_though_the_server_restarts(tmp_path: Path) -> None:
    settings = {"store": f"sqlite:///{tmp_path / 's.db'}", "sqlite_synchronous": "OFF"}
    async with testing.serve(**settings) as server:
        target = server.target
        client = sojourn.connect(target, app="a", deadline=60)
        await client.sessions.create("first")
        cache = await client.sessions.cache(bookmark_interval=0.1).__aenter__()
        watching = followed(client)
        seen = await watching.__aenter__()
        await asyncio.sleep(0.05)
        writing = asyncio.create_task(write_all(client))
        await asyncio.sleep(0.1)
    for _ in range(2):
        async with testing.serve(listen=target, **settings):
            await asyncio.sleep(0.2)
    async with testing.serve(listen=target, **settings):
        last = await writing
        await watching.__aexit__(None, None, None)
        await cache.wait_until(last)
        assert len(cache) == WRITERS + 1
        await cache.close()
        await client.close()
    assert len(seen) >= WRITERS * WRITES
    assert seen == sorted(set(seen))
    assert [revision for revision, _ in seen] == list(range(seen[0][0], last + 1))


@pytest.mark.guarantee("W15")
async def test_nothing_is_lost_or_repeated_though_it_moves_from_server_to_server() -> None:
    with settings_of("postgres") as shared:
        async with (
            testing.serve(**shared) as one,
            testing.serve(**shared) as other,
            one.client(app="a") as writer,
            cutter(one.target) as between,
            sojourn.connect(between.target, app="a") as client,
        ):
            await writer.sessions.create("first")
            async with followed(client) as seen:
                await asyncio.sleep(0.05)
                writing = asyncio.create_task(write_all(writer, 15))
                for server in (other, one) * 3:
                    await asyncio.sleep(0.05)
                    between.move(server.target)
                last = await writing
            assert seen == sorted(set(seen))
            assert [revision for revision, _ in seen] == list(range(seen[0][0], last + 1))


# --- where there is nothing to go on from --------------------------------------------------------

REVISIONS = 1_050
"""More than the fewest that a log keeps."""


async def away(
    target: str, settings: dict[str, str | int]
) -> tuple[AsyncClient, str, sojourn.AsyncSessionCache]:
    """Make a token and a cache of a server, which then stops."""
    async with testing.serve(listen=target, **settings):
        client = sojourn.connect(target, app="a", deadline=60)
        await client.sessions.create("first")
        await client.sessions.create("second")
        page = await client.sessions.list(status=None).page(1)
        cache = await client.sessions.cache(bookmark_interval=0.1).__aenter__()
        assert {one.session_id for one in cache.list()} == {"first", "second"}
        return client, page.resume_token, cache


@pytest.fixture
def target() -> str:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, str | int]:
    return {"store": f"sqlite:///{tmp_path / 's.db'}", "sqlite_synchronous": "OFF"}


async def resynced(cache: sojourn.AsyncSessionCache, revision: int) -> None:
    """Wait for the new state; the old one stays to be seen until then."""
    async with asyncio.timeout(30):
        while "first" in {one.session_id for one in cache.list()}:
            assert len(cache) == 2
            await asyncio.sleep(0.01)
    await cache.wait_until(revision)
    assert {one.session_id for one in cache.list()} == {"second", "third"}


@pytest.mark.guarantee("W8")
async def test_a_log_that_was_shortened_meanwhile(
    target: str, settings: dict[str, str | int]
) -> None:
    client, token, cache = await away(target, settings)
    async with testing.serve(**settings) as elsewhere, elsewhere.client(app="a") as writer:
        await writer.sessions.end("first")
        last = await writer.sessions.create("third")
        delta = sojourn.MetricsDelta(requests=1)
        for _ in range(REVISIONS // 50):
            await asyncio.gather(
                *(writer.sessions.update("third", metrics=delta) for _ in range(50))
            )
    async with testing.serve(listen=target, max_changes=1_000, **settings):
        with pytest.raises(errors.WatchCompactedError) as raised:
            async with asyncio.timeout(30):
                while True:
                    # The log is shortened soon after the start.
                    async with client.sessions.watch(after=token) as watch:
                        await watch.__anext__()
        assert raised.value.oldest_revision > 2
        await resynced(cache, last.revision)
        told: list[sojourn.SojournError] = []
        async with client.sessions.watch(after=token, resync=told.append) as watch:
            assert isinstance(await watch.__anext__(), sojourn.InitialStateBegin)
        assert [one.reason for one in told] == ["REVISION_COMPACTED"]
        await cache.close()
        await client.close()


@pytest.mark.guarantee("W9")
async def test_a_log_that_is_another_one(target: str, settings: dict[str, str | int]) -> None:
    client, token, cache = await away(target, settings)
    async with testing.serve(**settings) as elsewhere, elsewhere.client(app="a") as writer:
        await writer.sessions.end("first")
        last = await writer.sessions.create("third")
    # In a thread: the command makes an event loop of its own.
    options = [f"--store={settings['store']}", "new-feeds"]
    renewed = await asyncio.to_thread(CliRunner().invoke, command(), options)
    assert renewed.exit_code == 0, renewed.output
    async with testing.serve(listen=target, **settings):
        with pytest.raises(errors.FeedChangedError):
            async with client.sessions.watch(after=token) as watch:
                await watch.__anext__()
        await resynced(cache, last.revision)
        await cache.close()
        await client.close()
