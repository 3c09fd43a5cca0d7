"""One of several servers leaves: the others go on, and so do clients that know of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import sojourn
from sojourn_server.store.postgres import PostgresStore
from tests.cluster.kit import PATIENT, USER, Clients, Cluster, both, revisions_of, until


@contextlib.asynccontextmanager
async def agents(client: sojourn.AsyncClient, many: int = 4) -> AsyncIterator[list[list[str]]]:
    """Agents that append one message after another; what was acknowledged to each."""
    stop = asyncio.Event()
    acknowledged: list[list[str]] = [[] for _ in range(many)]

    async def run(number: int) -> None:
        await client.sessions.get_or_create(f"s-{number}", user=USER)
        while not stop.is_set():
            content = f"{number}/{len(acknowledged[number])}"
            message = sojourn.NewMessage("user", content)
            await client.messages.append(f"s-{number}", message, user=USER)
            acknowledged[number].append(content)

    tasks = [asyncio.create_task(run(number)) for number in range(many)]
    try:
        yield acknowledged
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def going(acknowledged: list[list[str]]) -> None:
    """Wait until each agent has got on."""
    before = [len(each) for each in acknowledged]

    async def further() -> bool:
        return all(len(each) >= old + 5 for each, old in zip(acknowledged, before, strict=True))

    await until(further, "every agent has got on", 30)


async def check(
    client: sojourn.AsyncClient, store: PostgresStore, acknowledged: list[list[str]]
) -> None:
    """Everything that was acknowledged is there once, and nothing else was written."""
    for number, texts in enumerate(acknowledged):
        stored = client.messages.list(f"s-{number}", user=USER, page_size=1_000)
        assert [each.content async for each in stored] == texts
    writes = len(acknowledged) + sum(map(len, acknowledged))
    assert await revisions_of(store, client.app) == list(range(1, writes + 1))


async def test_no_call_fails_while_one_of_two_servers_drains(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with cluster.another() as leaving:
        target = both(leaving, cluster.servers[0])
        async with sojourn.connect(target, app=clients.app, retry=PATIENT) as client:
            async with agents(client) as acknowledged:
                await going(acknowledged)
                assert await asyncio.to_thread(leaving.terminate) == 0, leaving.log()
                await going(acknowledged)
            await check(client, store, acknowledged)


async def test_no_call_fails_while_one_of_two_servers_is_killed(
    cluster: Cluster, clients: Clients, store: PostgresStore
) -> None:
    with cluster.another() as leaving:
        target = both(leaving, cluster.servers[0])
        async with sojourn.connect(target, app=clients.app, retry=PATIENT) as client:
            async with agents(client) as acknowledged:
                await going(acknowledged)
                leaving.kill()
                await going(acknowledged)
            await check(client, store, acknowledged)


async def test_a_drain_ends_when_the_other_server_ends_its_last_turn(
    cluster: Cluster, clients: Clients
) -> None:
    with cluster.another("--drain-timeout", "60s") as leaving:
        async with sojourn.connect(leaving.target, app=clients.app, retry=PATIENT) as client:
            await client.sessions.create("s", user=USER)
            begun = await client.turns.begin("s", user=USER, lease=60)
        stopped = asyncio.create_task(asyncio.to_thread(leaving.terminate))
        await asyncio.sleep(0.5)
        assert not stopped.done(), "it waits for the turn"
        await clients.b.turns.end(begun.turn_token)
        async with asyncio.timeout(20):
            assert await stopped == 0
