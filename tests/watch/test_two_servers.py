"""Two servers on one database: one order, one log, tokens that go from one to the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from sojourn_server.store.base import Tx
from tests.service.kit import APP, FakeClock, message
from tests.store.backends import PostgresBackend
from tests.store.kit import a_session, insert
from tests.watch.kit import Scene, Watcher, scene
from tests.watch.storm import Storm
from tests.watch.test_storm import FORMS, checked, some_writes


@pytest.fixture
async def servers(clock: FakeClock) -> AsyncIterator[tuple[Scene, Scene]]:
    backend = PostgresBackend(clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(backend.close)
        made = [
            await stack.enter_async_context(scene(await backend.open(), clock)) for _ in range(2)
        ]
        yield made[0], made[1]


@pytest.mark.guarantee("W1", "W2", "W5", "W11")
async def test_watchers_of_both_see_the_same_while_both_are_written_to(
    servers: tuple[Scene, Scene],
) -> None:
    storm = Storm(servers)
    watchers: list[Watcher] = []
    async with storm.blowing():
        await some_writes(storm, 20)
        for number, form in enumerate(FORMS):
            watchers.append(await servers[number % 2].watch_now(**form))
            await some_writes(storm, 10)
    await checked(storm, watchers)
    twins = [await each.watch_now() for each in servers]
    await servers[0].create("one-more")
    await checked(storm, twins)


@pytest.mark.guarantee("W1", "W6")
async def test_units_that_overlap_come_in_the_order_of_their_commits(
    servers: tuple[Scene, Scene],
) -> None:
    """The first to begin may be the last to commit; no reader may pass it over."""
    watchers = [await each.watch_now() for each in servers]
    await servers[0].create("first")

    async def slow(world: Scene, number: int) -> int:
        async def unit(tx: Tx) -> None:
            for part in range(1 + number % 5):
                await insert(tx, a_session(f"s-{number}-{part}"))

        return (await world.store.apply(APP, "tester", unit)).revision

    revisions = await asyncio.gather(
        *(slow(servers[number % 2], number) for number in range(60)),
    )
    assert sorted(revisions) == list(range(2, 62))
    late = servers[1].watch(initial=True)
    await late.opened()
    storm = Storm(servers)
    storm.revisions += revisions
    await checked(storm, [*watchers, late])


@pytest.mark.guarantee("W15")
async def test_a_token_of_one_server_is_good_at_the_other(servers: tuple[Scene, Scene]) -> None:
    storm = Storm(servers)
    watcher = await servers[0].watch_now()
    record = watcher.record
    async with storm.blowing():
        for number in range(20):
            await some_writes(storm, 5)
            await watcher.leave()
            last = max(n for n, each in enumerate(record.messages) if each.resume_token)
            del record.messages[last + 1 :]
            watcher = servers[number % 2].watch(token=record.token)
            watcher.record = record
    await checked(storm, [watcher])


@pytest.mark.guarantee("W2")
async def test_one_session_hammered_from_two_servers(servers: tuple[Scene, Scene]) -> None:
    watchers = [await each.watch_now(user="ann") for each in servers]
    await servers[0].create("s-1")

    async def hammer(world: Scene) -> list[int]:
        return [(await world.append("s-1", [message()])).revision for _ in range(40)]

    revisions = await asyncio.gather(*(hammer(servers[number % 2]) for number in range(8)))
    storm = Storm(servers)
    storm.revisions += [revision for some in revisions for revision in some]
    await checked(storm, watchers)
    assert len(watchers[0].record.changes) == 321
