"""A cleaner among others, killed, deposed, away for too long, and on another log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

import sojourn
from sojourn import errors, testing
from sojourn.adapters.langgraph import (
    FilePosition,
    PositionStore,
    SojournPosition,
    ThreadCleaner,
    Threads,
)
from sojourn_server.app import make_store
from sojourn_server.jobs.compaction import compact
from sojourn_server.service import feeds
from sojourn_server.settings import Settings
from sojourn_server.store.base import Store
from tests import postgres
from tests.acceptance.kit import Place, eventually
from tests.adapters.langgraph.folder import Folder
from tests.adapters.langgraph.kit import Failing, Memory, at_work, held, left, put
from tests.meta.pages import ROOT
from tests.store.backends import BACKENDS


async def opened(threads: Threads, saver: Any, count: int, name: str = "t") -> list[str]:
    """Open threads and keep something of each in the saver, without a graph."""
    found = []
    for number in range(count):
        session = await threads.open(f"{name}{number}")
        found.append(threads.rules.thread_id(threads.rules.stretch(session)))
        saver.keep(found[-1]) if isinstance(saver, Folder) else put(saver, found[-1])
    return found


# --- a process that is killed --------------------------------------------------------------------


async def test_a_cleaner_that_is_killed_in_the_middle_misses_nothing(
    place: Place, threads: Threads, client: sojourn.AsyncClient, tmp_path: Path
) -> None:
    """Its position is in a file with one of the stores, and in Sojourn with the other."""
    (tmp_path / "threads").mkdir()
    saver = Folder(tmp_path / "threads")
    position = str(tmp_path / "position") if place.store == "sqlite" else ""
    arguments = [place.target, threads.app, str(tmp_path / "threads"), position]
    kept = await opened(threads, saver, 2, "kept")
    await opened(threads, saver, 60)

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.adapters.langgraph.worker", *arguments],
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if "SOJOURN" not in key},
        )

    worker = start()
    try:
        await opened(threads, saver, 1, "first")
        await threads.delete("first0")

        async def follows() -> bool:
            return len(saver.held()) == 62

        await eventually(follows, "it deletes what is deleted")
        await client.sessions.delete_many(filter=sojourn.SessionFilter(session_id_prefix="t"))

        async def has_begun() -> bool:
            return len(saver.held()) <= 50

        await eventually(has_begun, "some are deleted", pause=0.005)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait(10) == -signal.SIGKILL
        assert len(saver.held()) > 2, "it was killed in the middle"
        worker = start()

        async def only_those_kept() -> bool:
            return saver.held() == {*kept}

        await eventually(only_those_kept, "all are deleted")
    finally:
        worker.kill()
        worker.wait()


# --- several of them -----------------------------------------------------------------------------


def in_sojourn(client: sojourn.AsyncClient, _: Path) -> PositionStore:
    return SojournPosition(client, "cleaner", app=f"{client.app}:c", lease=1)


def in_a_file(_: sojourn.AsyncClient, folder: Path) -> PositionStore:
    return FilePosition(folder / "position")


STORES = [in_sojourn, in_a_file]


@pytest.mark.parametrize("store", STORES)
async def test_of_several_cleaners_one_works_and_another_takes_over(
    threads: Threads,
    client: sojourn.AsyncClient,
    tmp_path: Path,
    store: Callable[[sojourn.AsyncClient, Path], PositionStore],
) -> None:
    first, second = Failing(), Failing()
    names = await opened(threads, first, 2)
    put(second, names[0])
    one = ThreadCleaner(threads, first, position=store(client, tmp_path))
    other = ThreadCleaner(threads, second, position=store(client, tmp_path))
    async with at_work(one):
        await threads.delete("t0")
        await left(first, names[1])
        async with at_work(other):
            await threads.delete("t1")
            await left(first)
            assert second.asked == []
    async with at_work(other):
        await opened(threads, second, 1, "u")
        await threads.delete("u0")
        # It goes on where the first one stopped: only the last deletion may come again.
        await left(second, names[0])
    assert names[0] not in second.asked


async def test_a_cleaner_that_was_deposed_stores_nothing_and_works_again_later(
    threads: Threads, client: sojourn.AsyncClient
) -> None:
    saver = InMemorySaver()
    position = SojournPosition(client, "cleaner", app=f"{client.app}:c", lease=1)
    thief = await client.attach("cleaner", app=f"{client.app}:c", idle_timeout=0)

    async def work() -> None:
        async with position.hold() as held_by_us:
            await held_by_us.save("mine")
            async with thief.turn(on_conflict=sojourn.OnConflict.STEAL):
                assert (await thief.get_state()).values == {"position": "mine"}
                await thief.update_state({"position": ""})
                await held_by_us.save("mine again")

    with pytest.raises(errors.TurnSupersededError):
        await work()
    assert (await thief.get_state()).values == {"position": ""}
    names = await opened(threads, saver, 2)
    async with at_work(ThreadCleaner(threads, saver, position=position)):
        await threads.delete("t0")
        await left(saver, names[1])
        async with thief.turn(on_conflict=sojourn.OnConflict.STEAL):
            await threads.delete("t1")
        await left(saver)
    session = await client.sessions.get("cleaner", app=f"{client.app}:c")
    assert session.turn is None, "it ends its turn when it is stopped"


async def test_two_cleaners_at_once_do_no_harm(threads: Threads) -> None:
    saver = Failing()
    kept = await opened(threads, saver, 3, "kept")
    names = await opened(threads, saver, 20)
    one = ThreadCleaner(threads, saver, position=Memory())
    other = ThreadCleaner(threads, saver, position=Memory())
    async with at_work(one), at_work(other):
        for number in range(20):
            await threads.delete(f"t{number}")
            # Under the same id, and in use at once.
            kept += await opened(threads, saver, 1, f"t{number}-") if number % 2 else []
        await left(saver, *kept)

        async def both() -> bool:
            return all(saver.asked.count(name) >= 2 for name in names)

        await eventually(both, "both have deleted each")
    assert held(saver) == {*kept}


async def test_the_session_of_a_position_never_expires_and_is_made_anew_if_it_ends(
    client: sojourn.AsyncClient,
) -> None:
    position = SojournPosition(client, "cleaner", app=f"{client.app}:c")
    async with position.hold() as one:
        assert await one.load() == ""
        await one.save("far")
    async with position.hold() as one:
        assert await one.load() == "far"
    session = await client.sessions.get("cleaner", app=f"{client.app}:c")
    assert session.expire_time is None
    assert session.metrics.error_count == 0
    await client.sessions.end("cleaner", app=f"{client.app}:c")
    async with position.hold() as one:
        assert await one.load() == ""


# --- a log that is short, or another one ---------------------------------------------------------


@pytest.fixture(params=BACKENDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A store of this test's own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 's.db'}"
        return
    dsn = postgres.server().take()
    yield postgres.url(dsn)
    postgres.server().give(dsn)


@asynccontextmanager
async def store_of(url: str) -> AsyncIterator[Store]:
    """The store itself, while it has no server."""
    store = make_store(Settings(listen="127.0.0.1:0", store=url))
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def serving(url: str, listen: str = "127.0.0.1:0") -> AsyncIterator[Threads]:
    async with (
        testing.serve(store=url, sqlite_synchronous="OFF", listen=listen) as server,
        Threads(server.target, app="a") as threads,
    ):
        yield threads


async def away(url: str, saver: InMemorySaver) -> tuple[Memory, list[str]]:
    """A cleaner that was there once; since then a thread was deleted, and it knows nothing."""
    position = Memory()
    async with serving(url) as threads:
        names = await opened(threads, saver, 3)
        async with at_work(ThreadCleaner(threads, saver, position=position)):
            await threads.delete("t0")
            await left(saver, *names[1:])
        await threads.delete("t1")
        names += await opened(threads, saver, 1, "new")
    return position, names[2:]


async def test_after_it_was_away_for_too_long_it_looks_at_all_threads(
    url: str, saver: InMemorySaver
) -> None:
    position, kept = await away(url, saver)
    put(saver, "foreign")
    async with store_of(url) as store:
        await compact(store, 0, 1)
    async with serving(url) as threads:
        with pytest.raises(errors.WatchCompactedError):
            await follow(threads, position)
        async with at_work(ThreadCleaner(threads, saver, position=position, sweep_every=0)):
            await left(saver, "foreign", *kept)
            await threads.delete("new0")
            await left(saver, "foreign", kept[0])


async def follow(threads: Threads, position: Memory) -> None:
    """Show that the log does not reach back to where a cleaner was."""
    after = sojourn.WatchPosition(**json.loads(position.text)["position"])
    client = threads.connection.client
    async with client.sessions.watch(after=after, app_changes=True, app="a") as watch:
        await watch.__anext__()


async def test_on_another_log_nothing_is_deleted_until_somebody_has_looked(
    url: str, saver: InMemorySaver
) -> None:
    position, kept = await away(url, saver)
    before = held(saver)
    async with store_of(url) as store:
        assert await feeds.renew(store)
    async with serving(url) as threads:
        cleaner = ThreadCleaner(threads, saver, position=position)
        with pytest.raises(errors.FeedChangedError) as raised:
            await asyncio.wait_for(cleaner.run(), 10)
        assert any("sweep()" in note for note in raised.value.__notes__)
        assert held(saver) == before
        assert await cleaner.sweep() == 1
        async with at_work(cleaner):
            await threads.delete("new0")
            await left(saver, kept[0])


async def test_it_gets_over_a_server_that_is_away(tmp_path: Path, saver: InMemorySaver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
    url = f"sqlite:///{tmp_path / 's.db'}"
    retry = sojourn.RetryOptions(max_attempts=2)
    async with (
        Threads(listen, app="a", deadline=1, retry=retry) as threads,
        at_work(ThreadCleaner(threads, saver)),
    ):
        await asyncio.sleep(0.3)
        async with serving(url, listen) as others:
            names = await opened(others, saver, 2)
            await others.delete("t0")
            await left(saver, names[1])
        async with serving(url, listen) as others:
            await others.delete("t1")
            await left(saver)
